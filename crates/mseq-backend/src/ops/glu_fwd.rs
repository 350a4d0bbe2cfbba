use crate::error::at_least;
use crate::{Backend, Result};

/// Gated linear unit: `out = x[..width] / (1 + exp(-x[width..]))` of every row (Dauphin et al. 2017).
pub struct GluFwd<'a, B: Backend> {
    /// Rows.
    pub rows: usize,
    /// Width of `out`, half that of `x`.
    pub width: usize,
    /// (rows, 2 width).
    pub x: &'a B::Buffer,
    /// (rows, width).
    pub out: &'a mut B::Buffer,
}

impl<B: Backend> GluFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "glu_fwd";
        at_least(OP, "x", backend.len(self.x), 2 * self.rows * self.width)?;
        at_least(OP, "out", backend.len(self.out), self.rows * self.width)
    }
}
