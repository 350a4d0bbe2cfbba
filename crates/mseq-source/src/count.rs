use crate::tokenize::check;
use crate::walk::{Origin, Walk};
use crate::{InputSet, Result};

/// What a counting pass found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records, empty ones included.
    pub records: u64,
    /// Bases of all records.
    pub bases: u64,
    /// Bases of each record, in reading order: 8 bytes a record.
    pub lengths: Vec<u64>,
}

/// Reads all inputs once without making tokens, and counts. Standard input is used up by it.
///
/// # Errors
///
/// The same as reading with [`SequenceSource`](crate::SequenceSource).
pub fn count(set: &InputSet) -> Result<Counts> {
    let mut walk = Walk::new(set.inputs.iter().cloned().map(Origin::Input).collect());
    let mut counts = Counts::default();
    while walk.begin()?.is_some() {
        let mut bases = 0;
        loop {
            match walk.piece(usize::MAX, check)? {
                0 => break,
                n => bases += n as u64,
            }
        }
        counts.records += 1;
        counts.bases += bases;
        counts.lengths.push(bases);
    }
    Ok(counts)
}
