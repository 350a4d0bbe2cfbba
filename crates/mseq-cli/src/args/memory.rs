use std::str::FromStr;

/// A number of bytes: `500000`, `64K`, `128MiB`, `2G`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize(pub(crate) u64);

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let digits = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let shift = match s[digits..].to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
            "" => Some(0),
            "K" => Some(10),
            "M" => Some(20),
            "G" => Some(30),
            "T" => Some(40),
            _ => None,
        };
        let number = s[..digits].parse::<u64>().ok();
        match (number, shift) {
            (Some(n), Some(shift)) if n > 0 && n <= u64::MAX >> shift => Ok(Self(n << shift)),
            _ => Err("use a number of bytes such as 500000, 64K, 128MiB or 2G".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("1", 1), ("64K", 64 << 10), ("128MiB", 128 << 20), ("2g", 2 << 30), ("3GB", 3 << 30), ("7B", 7)]
        {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
        }
        for text in ["", "0", "-1", "M", "12X", "1.5G", "99999999999999T"] {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
    }
}
