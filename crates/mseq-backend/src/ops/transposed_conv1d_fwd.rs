use super::strided_conv1d_fwd::check_taps;
use crate::error::at_least;
use crate::{Backend, Error, Result};

/// `y[stride * t + k] += W[k]^T x[t]` for every row t and tap k, from `bias` on; then ReLU and a sum
/// with `add` when asked for.
///
/// One sequence, zeros on both sides of it. With `reach = taps / stride` a row of x is felt in `reach`
/// groups of `stride` rows, so group t of y is one product with rows t - reach + 1 to t of x.
pub struct TransposedConv1dFwd<'a, B: Backend> {
    /// Rows of x, at least 1.
    pub rows: usize,
    /// Width of x.
    pub in_channels: usize,
    /// Width of y.
    pub out_channels: usize,
    /// A multiple of `stride`.
    pub taps: usize,
    /// Rows of y for a row of x.
    pub stride: usize,
    /// (rows, in_channels).
    pub x: &'a B::Buffer,
    /// (stride * out_channels, reach * in_channels), from [`transposed_conv1d_weight`] by
    /// [`Backend::linear`].
    pub weight: &'a B::Linear,
    /// (stride * out_channels): the checkpoint's, once for each row of a group.
    pub bias: &'a B::Buffer,
    /// Negative values become 0.
    pub relu: bool,
    /// Added after that: as `y`.
    pub add: Option<&'a B::Buffer>,
    /// ((rows - 1) * stride + taps, out_channels).
    pub y: &'a mut B::Buffer,
}

impl<B: Backend> TransposedConv1dFwd<'_, B> {
    /// Groups of `stride` rows that y has.
    pub fn groups(&self) -> usize {
        self.rows + self.taps / self.stride - 1
    }

    /// # Errors
    /// When a buffer is too short, there is no row, or taps are no multiple of the stride.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "transposed_conv1d_fwd";
        check_taps(OP, self.taps, self.stride)?;
        if !self.taps.is_multiple_of(self.stride) {
            let wanted = "which is no multiple of the stride";
            return Err(Error::OutOfRange { op: OP, what: "taps", found: self.taps, wanted });
        }
        if self.rows == 0 {
            return Err(Error::OutOfRange { op: OP, what: "rows", found: 0, wanted: "must be at least 1" });
        }
        let out = self.groups() * self.stride * self.out_channels;
        at_least(OP, "x", backend.len(self.x), self.rows * self.in_channels)?;
        at_least(OP, "bias", backend.len(self.bias), self.stride * self.out_channels)?;
        if let Some(add) = self.add {
            at_least(OP, "add", backend.len(add), out)?;
        }
        at_least(OP, "y", backend.len(self.y), out)
    }
}

/// A checkpoint's (in_channels, out_channels, taps) as the matrix of [`TransposedConv1dFwd`]: outputs
/// are the rows of a group, inputs the rows of x that it feels, the oldest first.
pub fn transposed_conv1d_weight(
    weight: &[f32],
    (in_channels, out_channels): (usize, usize),
    (taps, stride): (usize, usize),
) -> Vec<f32> {
    let reach = taps / stride;
    let mut out = vec![0f32; weight.len()];
    for (i, &v) in weight.iter().enumerate() {
        let (c, o, k) = (i / (out_channels * taps), i / taps % out_channels, i % taps);
        let row = k % stride * out_channels + o;
        out[(row * reach + reach - 1 - k / stride) * in_channels + c] = v;
    }
    out
}
