//! Bytes of a sequence to token ids.

mod complement;
mod dna;

pub use complement::complement_byte;
pub(crate) use dna::check;
pub use dna::{DnaTokenizer, EncodeCounts, IllegalByte};
