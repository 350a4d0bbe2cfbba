use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Which strand of the record a row describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strand {
    /// As the file gives it.
    Forward,
    /// Its reverse complement; coordinates stay those of the forward strand.
    Reverse,
    /// Both together (combined strands), or a signal without strands.
    Both,
}

impl Strand {
    /// `+`, `-` or `.`, as in GFF and BED.
    pub fn as_str(self) -> &'static str {
        match self {
            Strand::Forward => "+",
            Strand::Reverse => "-",
            Strand::Both => ".",
        }
    }
}

impl fmt::Display for Strand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything of an output row but its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKey {
    /// The input as the user named it.
    pub source: Arc<str>,
    /// Record id.
    pub record: Arc<str>,
    /// 0-based position of the record in the whole input.
    pub record_index: u64,
    /// First base of the row, 0-based.
    pub start: u64,
    /// One past the last base of the row.
    pub end: u64,
    /// Strand.
    pub strand: Strand,
    /// The interval that the window was cut from, by name; `None` in a run without intervals.
    pub region: Option<Arc<str>>,
    /// Of sound: samples of the file a second, which make seconds of `start` and `end`.
    pub rate: Option<NonZeroU32>,
}

/// How surprising the tokens of a row are to a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Negative log-likelihood of the scored tokens, summed, in nats.
    pub nll: f64,
    /// How many were scored: all but those that have nothing to their left.
    pub tokens: u64,
}

impl Score {
    /// Bits a token; `None` where no token was scored.
    ///
    /// ```
    /// let score = mseq_core::Score { nll: 2.0 * std::f64::consts::LN_2, tokens: 4 };
    /// assert_eq!(score.bits(), Some(0.5));
    /// ```
    pub fn bits(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.nll / std::f64::consts::LN_2 / self.tokens as f64)
    }
}

/// Some rows in output order: embeddings or class probabilities, or scores.
///
/// `values` is (rows, `dim`), row-major: row `i` is `values[i * dim..(i + 1) * dim]`. A block of
/// scores has `dim` 0 and one of `scores` a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowBlock {
    /// One key a row.
    pub keys: Vec<RowKey>,
    /// Width of an embedding.
    pub dim: usize,
    /// (rows, dim), f32.
    pub values: Vec<f32>,
    /// One a row, or none at all.
    pub scores: Vec<Score>,
}

impl RowBlock {
    /// A block of no rows, `dim` wide.
    pub fn new(dim: usize) -> Self {
        Self { keys: Vec::new(), dim, values: Vec::new(), scores: Vec::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The numbers of row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// Heap bytes that the block keeps alive: what a queue counts.
    pub fn bytes(&self) -> usize {
        self.keys.len() * size_of::<RowKey>() + self.values.len() * 4 + self.scores.len() * size_of::<Score>()
    }
}
