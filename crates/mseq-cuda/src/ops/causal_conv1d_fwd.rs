use mseq_backend::ops::CausalConv1dFwd;
use mseq_backend::{Error, Result};
use mseq_kernels::{Elem, launch};

use crate::CudaBackend;
use crate::buffer::arg;
use crate::module::{Arg, For};

/// The convolution over all tiles, then the new state in a launch of its own: the tiles of a lane
/// still read the old one.
pub(crate) fn causal_conv1d_fwd(backend: &CudaBackend, op: CausalConv1dFwd<'_, CudaBackend>) -> Result<()> {
    let CausalConv1dFwd { d_inner, d_conv, lanes, x, weight, bias, conv_state, out, .. } = op;
    check_taps("causal_conv1d_fwd", d_conv)?;
    if lanes.is_empty() || d_inner == 0 {
        return Ok(());
    }
    let (device, kernels) = (&backend.device, &backend.kernels);
    let mut scratch = backend.scratch()?;
    let tables = scratch.tables.get(device, lanes, d_inner, backend.tile)?;
    let (state, stride) = (conv_state.arg(), Arg::I32(x.stride));
    let pieces = launch::conv_pieces(tables.conv_longest);
    let sizes = For { d_state: None, d_conv: Some(d_conv) };
    kernels.launch_for(
        device,
        "causal_conv1d_fwd",
        sizes,
        launch::causal_conv1d_fwd(tables.conv_tiles, pieces, d_inner),
        &[
            arg(&x),
            weight.arg(),
            bias.map_or(Arg::Null, |bias| bias.arg()),
            state,
            out.arg(),
            Arg::Ptr(Elem::Tile, tables.conv_table),
            Arg::I32(tables.conv_tiles),
            Arg::I32(pieces),
            Arg::I32(d_inner),
            stride,
            Arg::I32(d_conv),
        ],
    )?;
    if d_conv == 1 || lanes.iter().all(|lane| lane.slot.is_none()) {
        return Ok(());
    }
    kernels.launch_for(
        device,
        "causal_conv1d_state",
        sizes,
        launch::per_lane(tables.lanes, d_inner),
        &[
            arg(&x),
            state,
            Arg::Ptr(Elem::LaneEntry, tables.lane_table),
            Arg::I32(tables.lanes),
            Arg::I32(d_inner),
            stride,
            Arg::I32(d_conv),
        ],
    )
}

/// Fails when the kernels have not as many taps.
pub(crate) fn check_taps(op: &'static str, d_conv: usize) -> Result<()> {
    if d_conv <= launch::MAX_CONV {
        return Ok(());
    }
    Err(Error::OutOfRange {
        op,
        what: "d_conv",
        found: d_conv,
        wanted: "and CUDA has up to 8 taps; use --device cpu",
    })
}
