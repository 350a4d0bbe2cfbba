/// The base that pairs with `b`: IUPAC codes both ways, case kept, U to A; other bytes unchanged.
///
/// ```
/// use mseq_source::complement_byte;
/// let reverse: Vec<u8> = b"ACGRu-".iter().rev().map(|&b| complement_byte(b)).collect();
/// assert_eq!(reverse, b"-aYCGT");
/// ```
pub const fn complement_byte(b: u8) -> u8 {
    let pair = match b.to_ascii_uppercase() {
        b'A' => b'T',
        b'T' | b'U' => b'A',
        b'C' => b'G',
        b'G' => b'C',
        b'R' => b'Y',
        b'Y' => b'R',
        b'K' => b'M',
        b'M' => b'K',
        b'B' => b'V',
        b'V' => b'B',
        b'D' => b'H',
        b'H' => b'D',
        _ => return b,
    };
    if b.is_ascii_lowercase() { pair.to_ascii_lowercase() } else { pair }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_the_same_but_for_u() {
        for b in 0..=255 {
            match b {
                b'U' => assert_eq!(complement_byte(complement_byte(b)), b'T'),
                b'u' => assert_eq!(complement_byte(complement_byte(b)), b't'),
                _ => assert_eq!(complement_byte(complement_byte(b)), b),
            }
        }
        assert_eq!(b"ACGTRYSWKMBDHVN-*acgu!".map(complement_byte), *b"TGCAYRSWMKVHDBN-*tgca!");
    }
}
