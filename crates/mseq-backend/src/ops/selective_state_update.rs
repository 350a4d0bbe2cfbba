use crate::error::at_least;
use crate::lane::check_slots;
use crate::{Backend, Result, Rows};

/// One step of [`SelectiveScanFwd`](super::SelectiveScanFwd) for each of several sequences that go
/// on: row i is the next position of the sequence in slot `slots[i]`. The same values as the chunk
/// op on lanes of one row.
pub struct SelectiveStateUpdate<'a, B: Backend> {
    /// Channels.
    pub d_inner: usize,
    /// States a channel.
    pub d_state: usize,
    /// Slot of each row's sequence; a new one starts from a slot of zeros.
    pub slots: &'a [usize],
    /// Slots of `ssm_state`.
    pub n_slots: usize,
    /// (rows, d_inner), a view: the convolved input.
    pub u: Rows<'a, B::Buffer>,
    /// (rows, d_inner), a view: before bias and softplus.
    pub dt: Rows<'a, B::Buffer>,
    /// (rows, d_state), a view.
    pub b: Rows<'a, B::Buffer>,
    /// (rows, d_state), a view.
    pub c: Rows<'a, B::Buffer>,
    /// (d_inner, d_state): A * log2(e).
    pub a2: &'a B::Buffer,
    /// (d_inner).
    pub d: &'a B::Buffer,
    /// (d_inner).
    pub dt_bias: &'a B::Buffer,
    /// (rows, d_inner), a view: the gate.
    pub z: Rows<'a, B::Buffer>,
    /// (n_slots, d_inner, d_state): read, then written.
    pub ssm_state: &'a mut B::Buffer,
    /// (rows, d_inner).
    pub y: &'a mut B::Buffer,
}

impl<B: Backend> SelectiveStateUpdate<'_, B> {
    /// # Errors
    /// When a buffer is too short, or a slot is shared or missing.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "selective_state_update";
        let (rows, d_inner, d_state) = (self.slots.len(), self.d_inner, self.d_state);
        check_slots(OP, self.slots, self.n_slots)?;
        for (what, view, width) in [
            ("u", &self.u, d_inner),
            ("dt", &self.dt, d_inner),
            ("z", &self.z, d_inner),
            ("b", &self.b, d_state),
            ("c", &self.c, d_state),
        ] {
            at_least(OP, what, backend.len(view.buf), view.needed(rows, width))?;
        }
        at_least(OP, "a2", backend.len(self.a2), d_inner * d_state)?;
        at_least(OP, "d", backend.len(self.d), d_inner)?;
        at_least(OP, "dt_bias", backend.len(self.dt_bias), d_inner)?;
        at_least(OP, "ssm_state", backend.len(self.ssm_state), self.n_slots * d_inner * d_state)?;
        at_least(OP, "y", backend.len(self.y), rows * d_inner)
    }
}
