use crate::error::at_least;
use crate::{Backend, Result};

/// Which normalisation.
pub enum Norm<'a, B: Backend> {
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019, equation 4).
    Rms {
        /// (width).
        weight: &'a B::Buffer,
    },
    /// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` (Ba et al. 2016), biased variance.
    Layer {
        /// (width).
        weight: &'a B::Buffer,
        /// (width).
        bias: &'a B::Buffer,
    },
}

/// Normalises every row of `x` into `out`.
pub struct NormFwd<'a, B: Backend> {
    /// Rows.
    pub rows: usize,
    /// Width of a row.
    pub width: usize,
    /// RMSNorm or LayerNorm, with its weights.
    pub norm: Norm<'a, B>,
    /// Added to the mean square or variance.
    pub eps: f32,
    /// (rows, width).
    pub x: &'a B::Buffer,
    /// (rows, width).
    pub out: &'a mut B::Buffer,
}

impl<B: Backend> NormFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "norm_fwd";
        at_least(OP, "x", backend.len(self.x), self.rows * self.width)?;
        at_least(OP, "out", backend.len(self.out), self.rows * self.width)?;
        match &self.norm {
            Norm::Rms { weight } => at_least(OP, "weight", backend.len(weight), self.width),
            Norm::Layer { weight, bias } => {
                at_least(OP, "weight", backend.len(weight), self.width)?;
                at_least(OP, "bias", backend.len(bias), self.width)
            }
        }
    }
}
