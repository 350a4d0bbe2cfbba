use std::fmt;
use std::str::FromStr;

/// `--keep COL,...`: one name or more, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keep(pub(crate) Vec<String>);

impl FromStr for Keep {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let names: Vec<String> = s.split(',').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err("a name is empty; use COL or COL,COL,... without spaces around the commas".into());
        }
        match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            Some((_, name)) => Err(format!("column '{name}' is named twice; name it once")),
            None => Ok(Self(names)),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_commas() {
        let keep: Keep = "label,gene name,é".parse().unwrap();
        assert_eq!(keep.0, ["label", "gene name", "é"]);
        assert_eq!(keep.to_string(), "label,gene name,é");
        for (text, word) in [("", "empty"), ("a,", "empty"), ("a,b,a", "'a' is named twice")] {
            assert!(text.parse::<Keep>().unwrap_err().contains(word), "{text}");
        }
    }
}
