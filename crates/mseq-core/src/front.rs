/// How samples become tokens (frames): token t of a record of N samples is computed from samples
/// [t * hop, t * hop + reach), zeros beyond N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Front {
    /// Samples from one token to the next.
    pub hop: usize,
    /// Samples that a token is made of, at least `hop`.
    pub reach: usize,
}

impl Front {
    /// Tokens of a record of so many samples: as many as it takes to reach its end.
    ///
    /// ```
    /// let front = mseq_core::Front { hop: 256, reach: 766 };
    /// assert_eq!([0, 1, 766, 767, 16_000].map(|n| front.frames(n)), [0, 1, 1, 2, 61]);
    /// ```
    pub fn frames(&self, samples: u64) -> u64 {
        match samples {
            0 => 0,
            n => 1 + n.saturating_sub(self.reach as u64).div_ceil(self.hop as u64),
        }
    }
}
