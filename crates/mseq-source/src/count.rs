use std::num::NonZeroU32;

use crate::count_side_by_side::count_side_by_side;
use crate::tokenize::check;
use crate::walk::{Origin, Walk};
use crate::{IndexedFasta, InputSet, Result};

/// What a counting pass found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records, empty ones included.
    pub records: u64,
    /// Bases of all records.
    pub bases: u64,
    /// Bases of each record, in reading order: 8 bytes a record.
    pub lengths: Vec<u64>,
    /// Of recordings, samples a second of each.
    pub rates: Vec<NonZeroU32>,
}

impl Counts {
    /// Samples of all recordings once they are at this rate.
    pub fn at_rate(&self, rate: NonZeroU32) -> u64 {
        let here = |(&samples, from): (&u64, &NonZeroU32)| {
            (u128::from(samples) * u128::from(rate.get())).div_ceil(u128::from(from.get()))
        };
        u64::try_from(self.lengths.iter().zip(&self.rates).map(here).sum::<u128>()).unwrap_or(u64::MAX)
    }
}

/// Counts all inputs without making tokens: by the index beside a FASTA file, else by reading it
/// once, in stretches side by side where it is plain text. Standard input is used up by it.
///
/// # Errors
///
/// The same as reading with [`SequenceSource`](crate::SequenceSource), or an index that does not
/// match its file.
pub fn count(set: &InputSet) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut add = |bases| {
        counts.records += 1;
        counts.bases += bases;
        counts.lengths.push(bases);
    };
    for input in &set.inputs {
        if let Some(path) = input.path()
            && let Some(fasta) = IndexedFasta::open(path)?
        {
            fasta.records().iter().for_each(|record| add(record.bases));
            continue;
        }
        if let Some(path) = input.path()
            && let Some(lengths) = count_side_by_side(path)
        {
            lengths.into_iter().for_each(&mut add);
            continue;
        }
        let mut walk = Walk::new(vec![Origin::Input(input.clone())]);
        while walk.begin()?.is_some() {
            let mut bases = 0;
            loop {
                match walk.piece(usize::MAX, check)? {
                    0 => break,
                    n => bases += n as u64,
                }
            }
            add(bases);
        }
    }
    Ok(counts)
}
