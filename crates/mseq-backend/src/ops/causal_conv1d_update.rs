use crate::error::at_least;
use crate::lane::check_slots;
use crate::{Backend, Error, Result, Rows};

/// One step of [`CausalConv1dFwd`](super::CausalConv1dFwd) for each of several sequences that go
/// on: row i is the next position of the sequence in slot `slots[i]`. The same values as the chunk
/// op on lanes of one row.
pub struct CausalConv1dUpdate<'a, B: Backend> {
    /// Channels.
    pub d_inner: usize,
    /// Taps, at least 1.
    pub d_conv: usize,
    /// Slot of each row's sequence; a new one starts from a slot of zeros.
    pub slots: &'a [usize],
    /// Slots of `conv_state`.
    pub n_slots: usize,
    /// (rows, d_inner), a view.
    pub x: Rows<'a, B::Buffer>,
    /// (d_conv, d_inner), tap 0 the oldest.
    pub weight: &'a B::Buffer,
    /// (d_inner).
    pub bias: Option<&'a B::Buffer>,
    /// (n_slots, d_inner, d_conv - 1): read, then written.
    pub conv_state: &'a mut B::Buffer,
    /// (rows, d_inner).
    pub out: &'a mut B::Buffer,
}

impl<B: Backend> CausalConv1dUpdate<'_, B> {
    /// # Errors
    /// When a buffer is too short, there is no tap, or a slot is shared or missing.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "causal_conv1d_update";
        if self.d_conv == 0 {
            return Err(Error::OutOfRange { op: OP, what: "d_conv", found: 0, wanted: "must be at least 1" });
        }
        check_slots(OP, self.slots, self.n_slots)?;
        let rows = self.slots.len();
        at_least(OP, "x", backend.len(self.x.buf), self.x.needed(rows, self.d_inner))?;
        at_least(OP, "weight", backend.len(self.weight), self.d_conv * self.d_inner)?;
        at_least(OP, "out", backend.len(self.out), rows * self.d_inner)?;
        let state = self.n_slots * self.d_inner * (self.d_conv - 1);
        at_least(OP, "conv_state", backend.len(self.conv_state), state)?;
        match self.bias {
            Some(bias) => at_least(OP, "bias", backend.len(bias), self.d_inner),
            None => Ok(()),
        }
    }
}
