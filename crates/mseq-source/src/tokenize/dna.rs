use std::collections::BTreeMap;

use super::complement_byte;

/// Legal bytes, upper case; the order decides whose complement counts when two share an id.
const CODES: &[u8] = b"ACGTUNRYSWKMBDHV-*";

// A table entry is the id and three counters in one word, so that one look-up and one addition a
// base do everything. Ten bits a counter: a run of RUN bases cannot overflow one.
const UNKNOWN: u64 = 1 << 32;
const LOWER: u64 = 1 << 42;
const ILLEGAL: u64 = 1 << 52;
const RUN: usize = 1023;

/// A byte of a sequence that is no nucleotide code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IllegalByte {
    /// 0-based position in the slice given.
    pub at: usize,
    /// The byte.
    pub byte: u8,
}

/// What [`DnaTokenizer::encode`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeCounts {
    /// Bases that became the unknown token.
    pub unknown: u64,
    /// Lower-case letters.
    pub soft_masked: u64,
}

/// Bases to token ids, one token a base.
///
/// Letters are upper-cased first. U reads as T where the table has no U, and T as U where it has
/// no T. The other codes (`RYSWKMBDHVN`, `-`, `*`) have their own id or the unknown one. Any other
/// byte is illegal, even if the table names it.
///
/// ```
/// use mseq_source::DnaTokenizer;
/// let mut ids = Vec::new();
/// let counts = DnaTokenizer::caduceus().encode(b"ACGUnR", &mut ids).unwrap();
/// assert_eq!(ids, [7, 8, 9, 10, 11, 6]);
/// assert_eq!((counts.unknown, counts.soft_masked), (1, 1));
/// ```
#[derive(Debug, Clone)]
pub struct DnaTokenizer {
    table: Box<[u64; 256]>,
    vocab: u32,
    unknown: u32,
}

impl DnaTokenizer {
    /// From letters and their ids. Lower-case letters count as upper-case ones where those are
    /// missing; letters that are no nucleotide code are left out.
    pub fn new(tokens: &BTreeMap<char, u32>, unknown: u32) -> Self {
        let own = |code: u8| {
            let id = |c: u8| tokens.get(&char::from(c)).copied();
            id(code).or_else(|| id(code.to_ascii_lowercase()))
        };
        let mut table = Box::new([ILLEGAL; 256]);
        for &code in CODES {
            let id = own(code).or_else(|| match code {
                b'U' => own(b'T'),
                b'T' => own(b'U'),
                _ => None,
            });
            let id = id.unwrap_or(unknown);
            let entry = u64::from(id) | if id == unknown { UNKNOWN } else { 0 };
            table[usize::from(code)] = entry;
            if code.is_ascii_uppercase() {
                table[usize::from(code.to_ascii_lowercase())] = entry | LOWER;
            }
        }
        let vocab = tokens.values().copied().chain([unknown]).max().unwrap_or(unknown).saturating_add(1);
        Self { table, vocab, unknown }
    }

    /// The ids of the Caduceus models: A 7, C 8, G 9, T 10, N 11, unknown 6.
    pub fn caduceus() -> Self {
        let tokens = [('A', 7), ('C', 8), ('G', 9), ('T', 10), ('N', 11)];
        Self::new(&BTreeMap::from(tokens), 6)
    }

    /// The id of what has none of its own.
    pub fn unknown_id(&self) -> u32 {
        self.unknown
    }

    /// The id of one byte, or `None` when it is illegal.
    pub fn id(&self, byte: u8) -> Option<u32> {
        let entry = self.table[usize::from(byte)];
        (entry < ILLEGAL).then_some(entry as u32)
    }

    /// Appends the ids of `bases` to `ids` and counts.
    ///
    /// # Errors
    ///
    /// The first illegal byte; the ids before it were appended.
    pub fn encode(&self, bases: &[u8], ids: &mut Vec<u32>) -> Result<EncodeCounts, IllegalByte> {
        let mut counts = EncodeCounts::default();
        for (i, run) in bases.chunks(RUN).enumerate() {
            let from = ids.len();
            let mut sum = 0;
            ids.extend(run.iter().map(|&b| {
                let entry = self.table[usize::from(b)];
                sum += entry >> 32;
                entry as u32
            }));
            let sum: u64 = sum << 32;
            if sum >= ILLEGAL {
                let at = run.iter().position(|&b| self.table[usize::from(b)] >= ILLEGAL).unwrap_or(0);
                ids.truncate(from + at);
                return Err(IllegalByte { at: i * RUN + at, byte: run[at] });
            }
            counts.unknown += (sum / UNKNOWN) & RUN as u64;
            counts.soft_masked += (sum / LOWER) & RUN as u64;
        }
        Ok(counts)
    }

    /// The id that pairs with each id: entry `i` is the complement of token `i`.
    ///
    /// As long as the largest id of the table plus one; ids that stand for no base are their own
    /// complement.
    pub fn complement_ids(&self) -> Vec<u32> {
        let mut map: Vec<u32> = (0..self.vocab).collect();
        for &code in CODES.iter().rev() {
            let (from, to) = (self.id(code), self.id(complement_byte(code)));
            if let (Some(from), Some(to)) = (from, to)
                && from != self.unknown
            {
                map[from as usize] = to;
            }
        }
        map
    }
}

/// Which bytes [`DnaTokenizer`] takes, whatever its table.
const LEGAL: [bool; 256] = {
    let mut legal = [false; 256];
    let mut i = 0;
    while i < CODES.len() {
        legal[CODES[i] as usize] = true;
        legal[CODES[i].to_ascii_lowercase() as usize] = true;
        i += 1;
    }
    legal
};

/// Finds the first illegal byte without making ids.
pub(crate) fn check(bases: &[u8]) -> Result<(), IllegalByte> {
    let bad = |run: &[u8]| run.iter().fold(false, |bad, &b| bad | !LEGAL[usize::from(b)]);
    match bad(bases).then(|| bases.iter().position(|&b| !LEGAL[usize::from(b)])).flatten() {
        Some(at) => Err(IllegalByte { at, byte: bases[at] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tokenizer: &DnaTokenizer, bases: &[u8]) -> Vec<u32> {
        let mut out = Vec::new();
        tokenizer.encode(bases, &mut out).unwrap();
        out
    }

    #[test]
    fn caduceus_ids() {
        let t = DnaTokenizer::caduceus();
        assert_eq!(ids(&t, b"ACGTNacgtnUu"), [7, 8, 9, 10, 11, 7, 8, 9, 10, 11, 10, 10]);
        assert_eq!(ids(&t, b"RYSWKMBDHV-*"), [6; 12]);
        let counts = t.encode(b"ACgtNnRr-*", &mut Vec::new()).unwrap();
        assert_eq!(counts, EncodeCounts { unknown: 4, soft_masked: 4 });
    }

    #[test]
    fn own_ids_win_and_the_unknown_id_counts() {
        let table =
            BTreeMap::from([('a', 3), ('c', 4), ('g', 5), ('t', 6), ('n', 2), ('-', 7), ('U', 8), ('!', 9)]);
        let t = DnaTokenizer::new(&table, 2);
        assert_eq!(ids(&t, b"ACGTUn-*"), [3, 4, 5, 6, 8, 2, 7, 2]);
        assert_eq!(t.encode(b"Nn*-", &mut Vec::new()).unwrap().unknown, 3);
        assert_eq!(t.id(b'!'), None);
        let rna = DnaTokenizer::new(&BTreeMap::from([('A', 0), ('U', 1)]), 2);
        assert_eq!(ids(&rna, b"TUA"), [1, 1, 0]);
    }

    #[test]
    fn every_byte_is_a_code_or_illegal() {
        let t = DnaTokenizer::caduceus();
        for b in 0..=255u8 {
            let legal = b"ACGTUNRYSWKMBDHV-*".contains(&b.to_ascii_uppercase());
            assert_eq!(t.id(b).is_some(), legal, "{b}");
            assert_eq!(check(&[b'A', b]).err(), (!legal).then_some(IllegalByte { at: 1, byte: b }));
        }
    }

    #[test]
    fn the_first_illegal_byte_is_found_in_any_run() {
        let t = DnaTokenizer::caduceus();
        for at in [0, 1, 1022, 1023, 1024, 2046, 4000] {
            let mut bases = vec![b'n'; 5000];
            bases[at] = b'!';
            bases[4500] = b'?';
            let mut out = Vec::new();
            assert_eq!(t.encode(&bases, &mut out), Err(IllegalByte { at, byte: b'!' }));
            assert_eq!(out, vec![11; at]);
        }
        let counts = t.encode(&vec![b'r'; 100_000], &mut Vec::new()).unwrap();
        assert_eq!(counts, EncodeCounts { unknown: 100_000, soft_masked: 100_000 });
    }

    #[test]
    fn complement_ids_follow_the_letters() {
        let t = DnaTokenizer::caduceus();
        assert_eq!(t.complement_ids(), [0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11]);
        let table = BTreeMap::from([('A', 0), ('T', 1), ('R', 3), ('Y', 4), ('U', 5)]);
        assert_eq!(DnaTokenizer::new(&table, 2).complement_ids(), [1, 0, 2, 4, 3, 0]);
    }
}
