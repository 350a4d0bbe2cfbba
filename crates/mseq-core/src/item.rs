use std::sync::Arc;

use crate::Signal;

/// What kind of file a record came from; it decides the default window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SequenceFormat {
    /// FASTA: records may be chromosomes, so the default window is a fixed number of bases.
    Fasta,
    /// FASTQ: records are reads, so the default window is the whole record.
    Fastq,
    /// Sound: a record is a file, and windows may be given in seconds.
    Audio,
}

/// The start of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHead {
    /// The input as the user named it.
    pub source: Arc<str>,
    /// FASTA or FASTQ id: the first word of the definition line.
    pub id: Arc<str>,
    /// 0-based position of the record in the whole input, over all files, empty records counted.
    pub index: u64,
    /// What the file is.
    pub format: SequenceFormat,
    /// `Some`: the tokens that follow are the reverse complement, from its start, of a record of
    /// that many bases.
    pub reversed: Option<u64>,
    /// Sound: how samples of the file and tokens of the model go together. `None`: a token a base.
    pub signal: Option<Signal>,
}

/// The end of a record, with what was counted on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordTail {
    /// Characters of the record, which is also its number of tokens; of sound, samples of the file.
    pub bases: u64,
    /// Characters that became the model's unknown token (N, other IUPAC codes, `-`, `*`).
    pub unknown: u64,
    /// Lower-case letters (soft-masked), upper-cased before look-up.
    pub soft_masked: u64,
    /// Samples beyond full scale, -1 to 1, at the model's rate: what mu-law clips.
    pub beyond: u64,
}

/// One step of the stream a source makes: `Begin`, any number of `Tokens` (or
/// `Samples`), `End`, and so on.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A record starts.
    Begin(RecordHead),
    /// The next tokens of the record that began last; never empty.
    Tokens(Vec<u32>),
    /// The next samples of the record that began last, at the model's rate; never empty. The model's
    /// [`Front`](crate::Front) makes tokens of them.
    Samples(Vec<f32>),
    /// The record is complete.
    End(RecordTail),
}

impl Item {
    /// Heap bytes that the item keeps alive: what a queue counts.
    pub fn bytes(&self) -> usize {
        match self {
            Item::Begin(head) => 64 + head.id.len(),
            Item::Tokens(tokens) => 4 * tokens.len(),
            Item::Samples(samples) => 4 * samples.len(),
            Item::End(_) => 64,
        }
    }
}
