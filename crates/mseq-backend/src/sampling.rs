//! How a token is drawn from logits: one law for every device, and its plain form.
//!
//! Random numbers are a function of (seed, lane, position, token) and of nothing else (Philox4x32-10,
//! Salmon et al. 2011), so a draw depends on no thread, no neighbour, and no cut of lanes or steps.
//! The token is the one with the largest `logit / temperature + g`, where g = -ln(-ln u) (Gumbel): that
//! is a draw from the softmax, without a sum over the vocabulary in some order.

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0, as anything below 1e-30, takes the most likely token, the first of equals.
    pub temperature: f32,
    /// Only the k most likely tokens, and those as likely as the k-th; 0 takes all.
    pub top_k: u32,
    /// Of those, only the most likely that together have this probability, and those as likely as the
    /// last of them; 1 takes all.
    pub top_p: f32,
    /// Seed.
    pub seed: u64,
}

/// Below it, logits divided by the temperature leave f32, and no two of them differ enough for chance.
const COLDEST: f32 = 1e-30;

impl Sampling {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }

    /// Whether chance has no part in it.
    pub fn is_greedy(&self) -> bool {
        self.temperature < COLDEST
    }

    /// What logits are multiplied with.
    pub fn scale(&self) -> f32 {
        if self.is_greedy() { 1.0 } else { 1.0 / self.temperature }
    }
}

/// Four random words: Philox4x32-10.
pub fn philox(seed: u64, mut counter: [u32; 4]) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let (a, b) = (
            u64::from(counter[0]) * u64::from(0xD251_1F53_u32),
            u64::from(counter[2]) * u64::from(0xCD9E_8D57_u32),
        );
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// -ln(-ln u), u from the upper 23 bits: strictly between 0 and 1 in f32.
pub fn gumbel(word: u32) -> f32 {
    let u = ((word >> 9) as f32 + 0.5) / 8_388_608.0;
    -(-u.ln()).ln()
}

/// A logit that takes part; minus infinity and NaN do not.
fn counts(x: f32) -> bool {
    x > f32::NEG_INFINITY
}

/// Weight of a token under the softmax, in units of 2^-32 of the most likely one's: whole numbers, so
/// that their sum has no order.
fn weight(x: f32, most: f32) -> u64 {
    ((x - most).exp() * 4_294_967_296.0) as u64
}

/// The smallest logit that still takes part, given those of all tokens.
fn threshold(sampling: &Sampling, scaled: &[f32]) -> f32 {
    let mut sorted: Vec<f32> = scaled.iter().copied().filter(|&x| counts(x)).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let Some(&most) = sorted.first() else { return f32::NEG_INFINITY };
    let mut least = f32::NEG_INFINITY;
    if sampling.top_k > 0
        && let Some(&kth) = sorted.get(sampling.top_k as usize - 1)
    {
        least = kth;
        sorted.truncate(sorted.partition_point(|&x| x >= kth));
    }
    if sampling.top_p < 1.0 {
        let total: u64 = sorted.iter().map(|&x| weight(x, most)).sum();
        let wanted = (total as f64 * f64::from(sampling.top_p)) as u64;
        let mut sum = 0;
        for &x in &sorted {
            sum += weight(x, most);
            if sum >= wanted.max(1) {
                return x;
            }
        }
    }
    least
}

/// Draws a token: `bias` is added to the logits, and minus infinity there forbids one.
///
/// `None` when no token may be drawn, or no logit is a number.
pub fn draw(
    sampling: &Sampling,
    logits: &[f32],
    bias: Option<&[f32]>,
    lane: u32,
    position: u64,
) -> Option<u32> {
    let scale = sampling.scale();
    let biased = |(i, &x): (usize, &f32)| (x + bias.map_or(0.0, |bias| bias[i])) * scale;
    let scaled: Vec<f32> = logits.iter().enumerate().map(biased).collect();
    let greedy = sampling.is_greedy();
    let least = if greedy { f32::NEG_INFINITY } else { threshold(sampling, &scaled) };
    let mut best: Option<(f32, u32)> = None;
    let mut words = [0; 4];
    for (token, &x) in scaled.iter().enumerate() {
        if !greedy && token % 4 == 0 {
            words = philox(sampling.seed, [position as u32, (position >> 32) as u32, lane, token as u32 / 4]);
        }
        if !counts(x) || x < least {
            continue;
        }
        let score = if greedy { x } else { x + gumbel(words[token % 4]) };
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, token as u32));
        }
    }
    best.map(|(_, token)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(temperature: f32, top_k: u32, top_p: f32) -> Sampling {
        Sampling { temperature, top_k, top_p, seed: 7 }
    }

    /// The known answers of the Random123 distribution.
    #[test]
    fn philox_is_philox() {
        assert_eq!(philox(0, [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let (counter, seed) = ([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], 0x299f_31d0_a409_3822);
        assert_eq!(philox(seed, counter), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn every_word_gives_a_number() {
        for word in [0, 1, 511, 512, 1 << 31, u32::MAX - 512, u32::MAX] {
            assert!(gumbel(word).is_finite(), "{word}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let logits = [0.5, f32::NAN, 2.0, 2.0, -1.0];
        assert_eq!(draw(&Sampling::greedy(), &logits, None, 0, 0), Some(2));
        let bias = [0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0];
        assert_eq!(draw(&Sampling::greedy(), &logits, Some(&bias), 9, 9), Some(3));
        assert_eq!(draw(&Sampling::greedy(), &[f32::NAN; 3], None, 0, 0), None);
    }

    /// Frequencies against the softmax, over positions: chi-squared with 4 degrees of freedom is under
    /// 20 but for one seed in 2,000, and this seed is fixed.
    #[test]
    fn frequencies_are_the_softmax() {
        let logits = [0.0f32, 1.0, -1.0, 2.0, 0.5];
        let n = 40_000;
        for (sampling, allowed) in [
            (with(1.0, 0, 1.0), [true; 5]),
            (with(0.5, 0, 1.0), [true; 5]),
            (with(1.0, 2, 1.0), [false, true, false, true, false]),
            // Probabilities, falling: 0.56, 0.21, 0.13, 0.08, 0.03.
            (with(1.0, 0, 0.85), [false, true, false, true, true]),
            (with(1.0, 0, 0.5), [false, false, false, true, false]),
            (with(1.0, 3, 0.8), [false, true, false, true, false]),
        ] {
            let mut seen = [0u32; 5];
            for position in 0..n {
                seen[draw(&sampling, &logits, None, 3, position).unwrap() as usize] += 1;
            }
            let e =
                |i: usize| if allowed[i] { f64::from(logits[i] / sampling.temperature).exp() } else { 0.0 };
            let total: f64 = (0..5).map(e).sum();
            let mut chi = 0.0;
            for i in 0..5 {
                let want = n as f64 * e(i) / total;
                assert_eq!(want == 0.0, seen[i] == 0, "{sampling:?}: {seen:?}");
                chi += if want > 0.0 { (f64::from(seen[i]) - want).powi(2) / want } else { 0.0 };
            }
            assert!(chi < 20.0, "{sampling:?}: {seen:?}, chi squared {chi}");
        }
    }

    #[test]
    fn lanes_and_seeds_draw_apart() {
        let logits = [0.0f32; 4];
        let stream = |seed, lane| -> Vec<_> {
            (0..64).map(|at| draw(&Sampling { seed, ..with(1.0, 0, 1.0) }, &logits, None, lane, at)).collect()
        };
        assert_ne!(stream(1, 0), stream(1, 1));
        assert_ne!(stream(1, 0), stream(2, 0));
        assert_eq!(stream(1, 5), stream(1, 5));
    }
}
