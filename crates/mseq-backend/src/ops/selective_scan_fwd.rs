use crate::error::at_least;
use crate::{Backend, LaneSpan, Result, Rows, check_lanes};

/// Sizes of a selective scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanShape {
    /// Rows of the batch.
    pub rows: usize,
    /// Channels.
    pub d_inner: usize,
    /// States a channel.
    pub d_state: usize,
    /// Slots of `ssm_state`.
    pub slots: usize,
}

/// The selective state space recurrence of Mamba (Gu and Dao 2023, equations 2a, 2b and
/// algorithm 2), with the gate of its block:
///
/// ```text
/// delta = softplus(dt + dt_bias)
/// h     = exp(delta * A) * h + delta * B_t * u_t        (d_inner, d_state)
/// y_t   = (<C_t, h> + D * u_t) * silu(z_t)
/// ```
///
/// B is discretised as `delta * B` (Euler), as the reference code does, not by the exact ZOH
/// integral of the paper's equation 4.
pub struct SelectiveScanFwd<'a, B: Backend> {
    /// Sizes.
    pub shape: ScanShape,
    /// Which rows belong together.
    pub lanes: &'a [LaneSpan],
    /// (rows, d_inner), a view: the convolved input.
    pub u: Rows<'a, B::Buffer>,
    /// (rows, d_inner), a view: before bias and softplus.
    pub dt: Rows<'a, B::Buffer>,
    /// (rows, d_state), a view.
    pub b: Rows<'a, B::Buffer>,
    /// (rows, d_state), a view.
    pub c: Rows<'a, B::Buffer>,
    /// (d_inner, d_state): A * log2(e), A = -exp(A_log), so that a decay is one power of two.
    pub a2: &'a B::Buffer,
    /// (d_inner).
    pub d: &'a B::Buffer,
    /// (d_inner).
    pub dt_bias: &'a B::Buffer,
    /// (rows, d_inner), a view: the gate.
    pub z: Rows<'a, B::Buffer>,
    /// (slots, d_inner, d_state): read, then written.
    pub ssm_state: &'a mut B::Buffer,
    /// (rows, d_inner).
    pub y: &'a mut B::Buffer,
}

impl<B: Backend> SelectiveScanFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short or lanes are broken.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "selective_scan_fwd";
        let ScanShape { rows, d_inner, d_state, slots } = self.shape;
        check_lanes(OP, self.lanes, rows, slots)?;
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
        at_least(OP, "ssm_state", backend.len(self.ssm_state), slots * d_inner * d_state)?;
        at_least(OP, "y", backend.len(self.y), rows * d_inner)
    }
}
