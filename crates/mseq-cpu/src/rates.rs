//! What a machine can do at most: what `mamba-seq bench` measures a model against.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::CpuBackend;
use crate::math::exp2_product;

/// Rounds, of which the median counts.
const ROUNDS: usize = 5;

impl CpuBackend {
    /// Bytes a second that all threads together copy, what is read and what is written together.
    pub fn copy_rate(&self) -> f64 {
        // Beyond most caches.
        const FLOATS: usize = 32 << 20;
        let from = vec![1f32; FLOATS];
        let mut to = vec![0f32; FLOATS];
        let piece = FLOATS.div_ceil(self.threads());
        let seconds = median(|| {
            self.pool.install(|| {
                let pieces = to.par_chunks_mut(piece).zip(from.par_chunks(piece));
                pieces.for_each(|(to, from)| to.copy_from_slice(from));
            });
            black_box(&mut to);
        });
        2.0 * 4.0 * FLOATS as f64 / seconds
    }

    /// Powers of two a second on all threads, as the scan computes its decays.
    pub fn exp2_rate(&self) -> f64 {
        let all = || {
            let pieces = self.pool.broadcast(|_| self.arch.dispatch(Chains { steps: 100_000 }));
            pieces.into_iter().sum::<usize>()
        };
        let count = all();
        let seconds = median(|| {
            black_box(all());
        });
        count as f64 / seconds
    }
}

/// Seconds of a call: the median of some after a warm one.
fn median(mut call: impl FnMut()) -> f64 {
    call();
    let round = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    let mut seconds: Vec<f64> = (0..ROUNDS).map(round).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}

/// Takes some numbers x to 2^-x again and again, in registers.
struct Chains {
    steps: usize,
}

impl WithSimd for Chains {
    /// Powers of two that were computed.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> usize {
        const CHAINS: usize = 6;
        let minus = s.splat_f32s(-1.0);
        let mut x: [S::f32s; CHAINS] = std::array::from_fn(|i| s.splat_f32s(0.1 * i as f32));
        for _ in 0..self.steps {
            for x in &mut x {
                *x = exp2_product(s, *x, minus);
            }
        }
        black_box(x.map(|x| s.reduce_sum_f32s(x)));
        CHAINS * S::F32_LANES * self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_a_machine() {
        let backend = CpuBackend::new(1).unwrap();
        assert!((1e7..1e12).contains(&backend.exp2_rate()), "{}", backend.exp2_rate());
        assert!((1e8..1e13).contains(&backend.copy_rate()), "{}", backend.copy_rate());
    }
}
