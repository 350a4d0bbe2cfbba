use std::num::NonZeroU32;

/// How samples of a file and tokens of a model go together.
///
/// Token `t` begins at sample `floor(t * hop * rate / model_rate)` of the file.
///
/// ```
/// # use std::num::NonZeroU32;
/// let rate = |n| NonZeroU32::new(n).unwrap();
/// let s = mseq_core::Signal { rate: rate(44_100), model_rate: rate(16_000), hop: rate(256) };
/// assert_eq!([0, 1, 2, 3].map(|t| s.sample_of(t)), [0, 705, 1411, 2116]);
/// assert_eq!([0, 1, 705, 706].map(|n| s.token_from(n)), [0, 1, 1, 2]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal {
    /// Samples a second in the file.
    pub rate: NonZeroU32,
    /// Samples a second that the model takes.
    pub model_rate: NonZeroU32,
    /// Samples of the model from one token to the next.
    pub hop: NonZeroU32,
}

impl Signal {
    /// File samples that tokens advance by: `num / den`.
    fn ratio(&self) -> (u128, u128) {
        let num = u128::from(self.hop.get()) * u128::from(self.rate.get());
        (num, u128::from(self.model_rate.get()))
    }

    /// The sample of the file where a token begins.
    pub fn sample_of(&self, token: u64) -> u64 {
        let (num, den) = self.ratio();
        u64::try_from(u128::from(token) * num / den).unwrap_or(u64::MAX)
    }

    /// The first token that begins at this sample of the file or after it.
    pub fn token_from(&self, sample: u64) -> u64 {
        let (num, den) = self.ratio();
        u64::try_from((u128::from(sample) * den).div_ceil(num)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_samples_are_inverse() {
        let n = |n| NonZeroU32::new(n).unwrap();
        for (rate, model_rate, hop) in
            [(1, 1, 1), (44_100, 16_000, 256), (8000, 16_000, 1), (48_000, 16_000, 3)]
        {
            let signal = Signal { rate: n(rate), model_rate: n(model_rate), hop: n(hop) };
            for sample in 0..3000 {
                let first = (0..).find(|&t| signal.sample_of(t) >= sample).unwrap();
                assert_eq!(signal.token_from(sample), first);
            }
        }
    }
}
