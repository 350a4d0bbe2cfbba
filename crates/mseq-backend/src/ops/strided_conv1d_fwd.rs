use crate::error::at_least;
use crate::{Backend, Error, Result};

/// `y[t] = bias + sum_k W[k] x[stride * t + k]`, all channels mixed, ReLU after it when asked for.
///
/// There is no padding and no state: whoever calls gives every row that the taps reach. Lanes may lie
/// one after the other in `x`; rows of `y` whose taps cross from one into the next mean nothing.
pub struct StridedConv1dFwd<'a, B: Backend> {
    /// Rows of y.
    pub rows: usize,
    /// Width of x.
    pub in_channels: usize,
    /// Width of y.
    pub out_channels: usize,
    /// At least 1.
    pub taps: usize,
    /// Rows of x from one row of y to the next, at least 1.
    pub stride: usize,
    /// ((rows - 1) * stride + taps, in_channels).
    pub x: &'a B::Buffer,
    /// (out_channels, taps * in_channels), from [`strided_conv1d_weight`] by [`Backend::linear`].
    pub weight: &'a B::Linear,
    /// (out_channels).
    pub bias: &'a B::Buffer,
    /// Negative values become 0.
    pub relu: bool,
    /// (rows, out_channels).
    pub y: &'a mut B::Buffer,
}

impl<B: Backend> StridedConv1dFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short, or there is no tap or no stride.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "strided_conv1d_fwd";
        check_taps(OP, self.taps, self.stride)?;
        let reached = if self.rows == 0 { 0 } else { (self.rows - 1) * self.stride + self.taps };
        at_least(OP, "x", backend.len(self.x), reached * self.in_channels)?;
        at_least(OP, "bias", backend.len(self.bias), self.out_channels)?;
        at_least(OP, "y", backend.len(self.y), self.rows * self.out_channels)
    }
}

pub(super) fn check_taps(op: &'static str, taps: usize, stride: usize) -> Result<()> {
    for (what, found) in [("taps", taps), ("stride", stride)] {
        if found == 0 {
            return Err(Error::OutOfRange { op, what, found, wanted: "must be at least 1" });
        }
    }
    Ok(())
}

/// A checkpoint's (out_channels, in_channels, taps) as the matrix of [`StridedConv1dFwd`]: the taps
/// before the channels, as the rows of x lie.
///
/// ```
/// use mseq_backend::ops::strided_conv1d_weight;
/// assert_eq!(strided_conv1d_weight(&[1.0, 2.0, 3.0, 4.0], 2, 2), [1.0, 3.0, 2.0, 4.0]);
/// ```
pub fn strided_conv1d_weight(weight: &[f32], in_channels: usize, taps: usize) -> Vec<f32> {
    let mut out = vec![0f32; weight.len()];
    for (i, &v) in weight.iter().enumerate() {
        let (o, c, k) = (i / (in_channels * taps), i / taps % in_channels, i % taps);
        out[(o * taps + k) * in_channels + c] = v;
    }
    out
}
