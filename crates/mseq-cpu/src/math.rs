//! Elementary functions in f32, on any SIMD width: the same bits on each.
//!
//! Polynomials are minimax fits of the relative error (Remez), degree chosen so that the fit is
//! well under half a unit in the last place (6e-8).

use pulp::{Scalar, Simd};

/// log2(e).
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// log2(e) less its nearest f32.
const LOG2_E_LOW: f32 = (std::f64::consts::LOG2_E - LOG2_E as f64) as f32;

/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// 2^f on [-0.5, 0.5], relative error 1.9e-9.
const EXP2: [f32; 7] = [
    1.0,
    std::f32::consts::LN_2,
    0.240_226_46,
    0.055_503_286,
    0.009_618_489,
    0.001_339_993_1,
    0.000_153_458_12,
];

/// ln(1 + e) / e on [0, 1], relative error 4.7e-9.
const LOG1P: [f32; 10] = [
    1.0,
    -0.499_999_02,
    0.333_299_64,
    -0.249_541_33,
    0.196_759_36,
    -0.153_055_85,
    0.106_036_41,
    -0.056_959_406,
    0.019_851_396,
    -0.003_244_010_7,
];

/// Lowest exponent that [`exp2_product`] gives: 2^-125.5 stands for everything below.
const LOWEST: f32 = -125.0;

#[inline(always)]
fn horner<S: Simd, const N: usize>(s: S, c: &[f32; N], x: S::f32s) -> S::f32s {
    let mut p = s.splat_f32s(c[N - 1]);
    for i in (0..N - 1).rev() {
        p = s.mul_add_f32s(p, x, s.splat_f32s(c[i]));
    }
    p
}

/// `2^(x * y)` for products up to 127; the product is never rounded on its way.
///
/// Splitting off the integer part by fused multiply-add keeps the fraction exact, so the decay
/// `exp(delta * A)` loses nothing where `delta * A` is large. Below 2^-125.5 it stays there.
#[inline(always)]
pub(crate) fn exp2_product<S: Simd>(s: S, x: S::f32s, y: S::f32s) -> S::f32s {
    let (t, f) = split(s, x, y);
    scale(s, t, f)
}

/// The product plus [`ROUND`], whose low bits are its nearest integer, and the fraction left.
#[inline(always)]
fn split<S: Simd>(s: S, x: S::f32s, y: S::f32s) -> (S::f32s, S::f32s) {
    let round = s.splat_f32s(ROUND);
    // The clamps come in pairs: without the second, a product far below would leave a fraction
    // far outside [-0.5, 0.5], and the polynomial would overflow into the exponent bits.
    let t = s.max_f32s(s.mul_add_f32s(x, y, round), s.splat_f32s(ROUND + LOWEST));
    let n = s.sub_f32s(t, round);
    (t, s.max_f32s(s.mul_add_f32s(x, y, s.neg_f32s(n)), s.splat_f32s(-0.5)))
}

/// `2^f` times the power of two in the low bits of `t`.
#[inline(always)]
fn scale<S: Simd>(s: S, t: S::f32s, f: S::f32s) -> S::f32s {
    let p = horner(s, &EXP2, f);
    let shift = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(t), s.splat_u32s(23));
    s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(p), shift))
}

/// `exp(-x)` for x from -87 on, with log2(e) in two parts.
#[inline(always)]
fn exp_neg<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let (t, f) = split(s, x, s.splat_f32s(-LOG2_E));
    // From here down both t and f are at their clamps, and the small part would only do harm.
    let low = s.less_than_f32s(x, s.splat_f32s(86.0));
    scale(s, t, s.select_f32s(low, s.mul_add_f32s(x, s.splat_f32s(-LOG2_E_LOW), f), f))
}

/// `x / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn silu_simd<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    // Beyond +-87 exp(-x) leaves the exponent range; there silu is 0 or x to the last bit.
    let bounded = s.max_f32s(s.min_f32s(x, s.splat_f32s(87.0)), s.splat_f32s(-87.0));
    let e = exp_neg(s, bounded);
    s.div_f32s(x, s.add_f32s(s.splat_f32s(1.0), e))
}

/// `a / (1 + exp(-b))`. A b that is not finite gives a NaN: it must reach the sink's check.
#[inline(always)]
pub(crate) fn glu_simd<S: Simd>(s: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let bounded = s.max_f32s(s.min_f32s(b, s.splat_f32s(87.0)), s.splat_f32s(-87.0));
    let e = s.mul_add_f32s(b, s.splat_f32s(0.0), exp_neg(s, bounded));
    s.div_f32s(a, s.add_f32s(s.splat_f32s(1.0), e))
}

/// `ln(1 + exp(x))`, and x itself above 20 as in the reference kernels.
#[inline(always)]
pub(crate) fn softplus_simd<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let magnitude = s.max_f32s(x, s.neg_f32s(x));
    let e = exp_neg(s, magnitude);
    let log1p = s.mul_f32s(e, horner(s, &LOG1P, e));
    // Not max, which may drop a NaN: whatever the engine breaks must reach the sink's check.
    let zero = s.splat_f32s(0.0);
    let soft = s.add_f32s(s.select_f32s(s.less_than_f32s(x, zero), zero, x), log1p);
    s.select_f32s(s.greater_than_f32s(x, s.splat_f32s(20.0)), x, soft)
}

/// Loads the first lanes of `v`, which must hold a whole vector.
#[inline(always)]
pub(crate) fn load<S: Simd>(v: &[f32]) -> S::f32s {
    S::as_simd_f32s(v).0[0]
}

/// Stores a whole vector to the front of `v`.
#[inline(always)]
pub(crate) fn store<S: Simd>(v: &mut [f32], x: S::f32s) {
    S::as_mut_simd_f32s(v).0[0] = x;
}

/// `exp(x)` for x up to 87.
///
/// ```
/// assert!((mseq_cpu::math::exp(-1.5) - (-1.5f32).exp()).abs() < 3e-8);
/// ```
pub fn exp(x: f32) -> f32 {
    exp_neg(Scalar, -x)
}

/// `x / (1 + exp(-x))`.
///
/// ```
/// assert_eq!(mseq_cpu::math::silu(0.0), 0.0);
/// ```
pub fn silu(x: f32) -> f32 {
    silu_simd(Scalar, x)
}

/// `ln(1 + exp(x))`.
///
/// ```
/// assert_eq!(mseq_cpu::math::softplus(30.0), 30.0);
/// ```
pub fn softplus(x: f32) -> f32 {
    softplus_simd(Scalar, x)
}

/// Decays one state by one step and adds the input: `h = exp(delta * a) * h + delta * b * u`.
///
/// `a2` is `a * log2(e)`.
///
/// ```
/// assert_eq!(mseq_cpu::math::ssm_step(1.0, 0.0, -1.0, 5.0, 3.0), 1.0); // delta = 0 leaves h alone
/// ```
pub fn ssm_step(h: f32, delta: f32, a2: f32, b: f32, u: f32) -> f32 {
    let decay = exp2_product(Scalar, delta, a2);
    decay.mul_add(h, delta * u * b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, lo: f32, hi: f32) -> f64 {
        let n = 200_000;
        (0..=n)
            .map(|i| {
                let x = lo + (hi - lo) * i as f32 / n as f32;
                let e = exact(f64::from(x));
                ((f64::from(f(x)) - e) / e).abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_good_to_the_last_bits() {
        assert!(worst(exp, f64::exp, -80.0, 80.0) < 1.2e-7);
        assert!(worst(softplus, |x| x.exp().ln_1p(), -80.0, 25.0) < 2.5e-7);
        assert!(worst(silu, |x| x / (1.0 + (-x).exp()), 0.01, 80.0) < 2.5e-7);
        assert!(worst(silu, |x| x / (1.0 + (-x).exp()), -80.0, -0.01) < 2.5e-7);
    }

    #[test]
    fn extremes_stay_finite_and_ordered() {
        assert!(exp(-1e30) > 0.0 && exp(-1e30) < 1e-37);
        assert!(exp(-200.0) < 1e-37);
        assert_eq!(silu(-1e30), -1e30 / (1.0 + exp(87.0)));
        assert_eq!(silu(1e30), 1e30);
        assert_eq!(softplus(1e30), 1e30);
        assert!(softplus(-1e30) < 1e-37 && softplus(-1e30) >= 0.0);
        assert!(softplus(f32::NAN).is_nan());
        assert!(ssm_step(2.0, 1e6, -1.0, 0.0, 0.0) < 1e-37);
    }

    #[test]
    fn every_simd_level_computes_the_same_bits() {
        struct Apply<'a>(&'a mut [f32]);
        impl pulp::WithSimd for Apply<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, s: S) {
                for x in S::as_mut_simd_f32s(self.0).0 {
                    *x = s.add_f32s(silu_simd(s, *x), softplus_simd(s, *x));
                }
            }
        }
        let xs: Vec<f32> = (0..4096).map(|i| (i as f32 - 2048.0) / 37.0).collect();
        let mut ys = xs.clone();
        pulp::Arch::new().dispatch(Apply(&mut ys));
        for (x, y) in xs.iter().zip(&ys) {
            assert_eq!((silu(*x) + softplus(*x)).to_bits(), y.to_bits(), "{x}");
        }
    }
}
