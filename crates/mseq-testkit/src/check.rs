use std::fmt;

use mseq_core::DType;

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What was computed, and on which shape.
    pub what: String,
    /// Norm of the difference over norm of the truth; infinite when a value is not finite.
    pub error: f64,
    /// Largest error that passes.
    pub limit: f64,
}

impl Check {
    /// Compares values with the truth.
    pub fn new(what: impl Into<String>, found: &[f32], truth: &[f64], limit: f64) -> Self {
        Self { what: what.into(), error: off(found, truth), limit }
    }

    /// Compares two runs, which must have the same bits.
    pub fn twice(what: impl Into<String>, one: &[f32], other: &[f32]) -> Self {
        let differ = one.iter().zip(other).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        let error = if one.len() == other.len() { differ as f64 } else { f64::INFINITY };
        Self { what: format!("{}, values that differ between two runs", what.into()), error, limit: 0.0 }
    }

    /// Whether it passes.
    pub fn holds(&self) -> bool {
        self.error <= self.limit
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2e}, limit {:.0e}", self.what, self.error, self.limit)
    }
}

/// Norm of the difference over norm of the truth.
fn off(found: &[f32], truth: &[f64]) -> f64 {
    if found.len() != truth.len() || found.iter().any(|v| !v.is_finite()) {
        return f64::INFINITY;
    }
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&a, &b) in found.iter().zip(truth) {
        difference += (f64::from(a) - b).powi(2);
        norm += b * b;
    }
    if difference == 0.0 { 0.0 } else { (difference / norm.max(1e-60)).sqrt() }
}

/// What kind of closeness an output can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// f32 whatever the type: sums in f32 of inputs that are exact.
    Single,
    /// f32 whatever the type, after a recurrence: a decay that is off in its last bit or two is so at
    /// every step that the state remembers.
    Recurrent,
    /// Rounded to the type at its end.
    Stored,
}

/// Largest norm-wise error of one op.
///
/// Rounding to a type moves a value by up to 2^-11 of itself in f16 and 2^-8 in bf16. That is also the
/// limit of a norm, since in a small output one value may have nearly all of it.
pub fn tolerance(dtype: DType, close: Close) -> f64 {
    match (dtype, close) {
        (_, Close::Recurrent) => 1e-5,
        (DType::F32, _) | (_, Close::Single) => 3e-6,
        (DType::F16, Close::Stored) => 5e-4,
        (DType::Bf16, Close::Stored) => 4e-3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_not_a_number_passes() {
        assert!(Check::new("x", &[1.0, 2.0], &[1.0, 2.0], 0.0).holds());
        assert!(!Check::new("x", &[1.0, f32::NAN], &[1.0, 2.0], 1.0).holds());
        assert!(!Check::new("x", &[1.0], &[1.0, 2.0], 1.0).holds());
        assert!(!Check::new("x", &[1.1], &[1.0], 0.05).holds());
        assert!(!Check { what: String::new(), error: f64::NAN, limit: 1.0 }.holds());
        assert!(Check::twice("x", &[1.0, f32::NAN], &[1.0, f32::NAN]).holds());
        assert!(!Check::twice("x", &[1.0, 0.0], &[1.0, -0.0]).holds());
    }
}
