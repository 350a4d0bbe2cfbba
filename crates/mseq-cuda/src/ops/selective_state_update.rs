use mseq_backend::Result;
use mseq_backend::ops::SelectiveStateUpdate;
use mseq_kernels::launch;

use super::{same, without_gaps};
use crate::CudaBackend;
use crate::buffer::arg;
use crate::module::{Arg, For};

/// One thread a channel and sequence.
pub(crate) fn selective_state_update(
    backend: &CudaBackend,
    op: SelectiveStateUpdate<'_, CudaBackend>,
) -> Result<()> {
    const OP: &str = "selective_state_update";
    let (d_inner, d_state, slots) = (op.d_inner, op.d_state, op.slots);
    if slots.is_empty() || d_inner == 0 {
        return Ok(());
    }
    without_gaps(OP, "the stride of u", &op.u, d_inner)?;
    without_gaps(OP, "the stride of dt", &op.dt, d_inner)?;
    same(OP, "the stride of B", op.b.stride, op.c.stride, "and C must have the same")?;
    let at = backend.scratch()?.send_slots(&backend.device, slots)?;
    backend.kernels.launch_for(
        &backend.device,
        OP,
        For { d_state: Some(d_state), d_conv: None },
        launch::per_lane(slots.len(), d_inner),
        &[
            arg(&op.u),
            arg(&op.dt),
            arg(&op.b),
            arg(&op.c),
            arg(&op.z),
            op.a2.arg(),
            op.d.arg(),
            op.dt_bias.arg(),
            op.ssm_state.arg(),
            at,
            op.y.arg(),
            Arg::I32(slots.len()),
            Arg::I32(d_inner),
            Arg::I32(d_state),
            Arg::I32(op.b.stride),
            Arg::I32(op.z.stride),
        ],
    )
}
