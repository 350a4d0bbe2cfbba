/// A half-open interval of positions in one record: bases for DNA, samples for audio.
///
/// ```
/// let s = mseq_core::Span::new(10, 25);
/// assert_eq!(s.len(), 15);
/// assert_eq!(s.clip(20), mseq_core::Span::new(10, 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First position, 0-based.
    pub start: u64,
    /// One past the last position.
    pub end: u64,
}

impl Span {
    /// The interval `[start, end)`; an `end` before `start` gives an empty interval at `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Number of positions.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no position in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The part before `end`.
    pub fn clip(&self, end: u64) -> Self {
        Self::new(self.start.min(end), self.end.min(end))
    }
}
