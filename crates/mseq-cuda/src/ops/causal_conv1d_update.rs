use mseq_backend::Result;
use mseq_backend::ops::CausalConv1dUpdate;
use mseq_kernels::launch;

use super::causal_conv1d_fwd::check_taps;
use crate::CudaBackend;
use crate::buffer::arg;
use crate::module::{Arg, For};

/// One thread a channel and sequence.
pub(crate) fn causal_conv1d_update(
    backend: &CudaBackend,
    op: CausalConv1dUpdate<'_, CudaBackend>,
) -> Result<()> {
    let CausalConv1dUpdate { d_inner, d_conv, slots, x, weight, bias, conv_state, out, .. } = op;
    check_taps("causal_conv1d_update", d_conv)?;
    if slots.is_empty() || d_inner == 0 {
        return Ok(());
    }
    let at = backend.scratch()?.send_slots(&backend.device, slots)?;
    backend.kernels.launch_for(
        &backend.device,
        "causal_conv1d_update",
        For { d_state: None, d_conv: Some(d_conv) },
        launch::per_lane(slots.len(), d_inner),
        &[
            arg(&x),
            weight.arg(),
            bias.map_or(Arg::Null, |bias| bias.arg()),
            conv_state.arg(),
            at,
            out.arg(),
            Arg::I32(slots.len()),
            Arg::I32(d_inner),
            Arg::I32(x.stride),
            Arg::I32(d_conv),
        ],
    )
}
