/// How samples become tokens (frames): token t of a record of N samples is computed from samples
/// [t * hop, t * hop + reach), zeros beyond N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Front {
    /// Samples from one token to the next, at least 1.
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
            n => 1 + n.saturating_sub(self.reach as u64).div_ceil(self.hop.max(1) as u64),
        }
    }

    /// Tokens that are complete once so many samples are known.
    pub fn complete(&self, samples: usize) -> usize {
        samples.checked_sub(self.reach).map_or(0, |more| 1 + more / self.hop.max(1))
    }

    /// Samples that so many consecutive tokens are computed from.
    pub fn samples(&self, tokens: usize) -> usize {
        tokens.checked_sub(1).map_or(0, |more| more * self.hop + self.reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_tokens_as_reach_the_end() {
        for (hop, reach) in [(1, 1), (4, 4), (4, 9), (3, 7)] {
            let front = Front { hop, reach };
            for samples in 1..40_usize {
                let tokens = front.frames(samples as u64) as usize;
                assert!(front.samples(tokens) >= samples);
                assert!(tokens == 1 || front.samples(tokens - 1) < samples);
                let complete = front.complete(samples);
                assert!(front.samples(complete) <= samples);
                assert!(front.samples(complete + 1) > samples);
            }
        }
    }
}
