/// Pieces of `tokens` tokens that start at 0, N - M, 2 (N - M), ...: the first `overlap` (M) of each
/// piece but the first only warm the state up and give no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Tokens of a piece (N), at least 1.
    pub tokens: u64,
    /// Tokens of it that the piece before has too (M), fewer than `tokens`.
    pub overlap: u64,
}

impl Context {
    /// Tokens that the piece which gives output at `pos` still gives from there on.
    pub(crate) fn left(&self, pos: u64) -> u64 {
        match pos.checked_sub(self.tokens) {
            None => self.tokens - pos,
            Some(past) => {
                let new = self.tokens - self.overlap;
                new - past % new
            }
        }
    }

    /// The last place up to `pos` where a piece begins to give output.
    pub fn begin_before(&self, pos: u64) -> u64 {
        match pos.checked_sub(self.tokens) {
            None => 0,
            Some(past) => pos - past % (self.tokens - self.overlap),
        }
    }

    /// Tokens of the piece that gives output at `pos`, before `pos`.
    pub(crate) fn inside(&self, pos: u64) -> u64 {
        match pos.checked_sub(self.tokens) {
            None => pos,
            Some(past) => past % (self.tokens - self.overlap) + self.overlap,
        }
    }

    /// Whether a piece begins to give output at `pos`.
    pub(crate) fn begins(&self, pos: u64) -> bool {
        match pos.checked_sub(self.tokens) {
            None => pos == 0,
            Some(past) => past.is_multiple_of(self.tokens - self.overlap),
        }
    }
}
