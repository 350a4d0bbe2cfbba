use crate::error::at_least;
use crate::{Backend, Error, LaneSpan, Result, Rows, check_lanes};

/// `out[t] = silu(bias + sum_k weight[k] * x[t - (d_conv - 1) + k])`, channel by channel.
///
/// Before a sequence's first row lie the `d_conv - 1` columns of `conv_state`, or zeros when the
/// lane is fresh. The state holds *pre-convolution* x, oldest first, as in the reference
/// (Gu and Dao 2023, section 3.4; `mamba_simple.py` keeps one more column, which it never reads).
pub struct CausalConv1dFwd<'a, B: Backend> {
    /// Rows of the batch.
    pub rows: usize,
    /// Channels.
    pub d_inner: usize,
    /// Taps, at least 1.
    pub d_conv: usize,
    /// Slots of `conv_state`.
    pub slots: usize,
    /// Which rows belong together.
    pub lanes: &'a [LaneSpan],
    /// (rows, d_inner), a view.
    pub x: Rows<'a, B::Buffer>,
    /// (d_conv, d_inner): the checkpoint's (d_inner, 1, d_conv) transposed, tap 0 the oldest.
    pub weight: &'a B::Buffer,
    /// (d_inner).
    pub bias: Option<&'a B::Buffer>,
    /// (slots, d_inner, d_conv - 1): read, then written.
    pub conv_state: &'a mut B::Buffer,
    /// (rows, d_inner).
    pub out: &'a mut B::Buffer,
}

impl<B: Backend> CausalConv1dFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short, there is no tap, or lanes are broken.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "causal_conv1d_fwd";
        if self.d_conv == 0 {
            return Err(Error::OutOfRange { op: OP, what: "d_conv", found: 0, wanted: "must be at least 1" });
        }
        check_lanes(OP, self.lanes, self.rows, self.slots)?;
        at_least(OP, "x", backend.len(self.x.buf), self.x.needed(self.rows, self.d_inner))?;
        at_least(OP, "weight", backend.len(self.weight), self.d_conv * self.d_inner)?;
        at_least(OP, "out", backend.len(self.out), self.rows * self.d_inner)?;
        let state = self.slots * self.d_inner * (self.d_conv - 1);
        at_least(OP, "conv_state", backend.len(self.conv_state), state)?;
        match self.bias {
            Some(bias) => at_least(OP, "bias", backend.len(bias), self.d_inner),
            None => Ok(()),
        }
    }
}
