use mseq_backend::ops::{ScanShape, SelectiveScanFwd};
use mseq_backend::{Error, Result, Rows};
use mseq_kernels::{Elem, launch};

use super::{same, without_gaps};
use crate::CudaBackend;
use crate::buffer::{CudaBuffer, address, arg};
use crate::module::{Arg, For};

/// Lanes of several tiles: what each tile adds (`scan_tile_ends`), the state at each tile's start
/// (`scan_carry`), then all outputs side by side (`scan_apply`). Lanes of one tile need the last only.
pub(crate) fn selective_scan_fwd(backend: &CudaBackend, op: SelectiveScanFwd<'_, CudaBackend>) -> Result<()> {
    const OP: &str = "selective_scan_fwd";
    let ScanShape { d_inner, d_state, .. } = op.shape;
    if op.lanes.is_empty() || d_inner == 0 {
        return Ok(());
    }
    if d_state == 0 || d_state > launch::MAX_STATES {
        let wanted = "and CUDA has 1 to 256 states a channel; use --device cpu";
        return Err(Error::OutOfRange { op: OP, what: "d_state", found: d_state, wanted });
    }
    without_gaps(OP, "the stride of u", &op.u, d_inner)?;
    without_gaps(OP, "the stride of dt", &op.dt, d_inner)?;
    same(OP, "the stride of B", op.b.stride, op.c.stride, "and C must have the same")?;

    let (device, kernels) = (&backend.device, &backend.kernels);
    let mut scratch = backend.scratch()?;
    let tables = scratch.tables.get(device, op.lanes, d_inner, backend.tile)?;
    let sizes = For { d_state: Some(d_state), d_conv: None };
    let made = kernels.made_for("scan_apply", sizes) && launch::scan_can_be_fast(d_inner, d_state);
    let fast = (made || launch::scan_is_fast(d_inner, d_state))
        && [&op.u, &op.dt, &op.z].into_iter().all(in_sixteens);
    let grid = |tiles| {
        if fast { launch::scan(tiles, d_inner) } else { launch::scan_generic(tiles, d_inner, d_state) }
    };
    // The generic kernels take one argument more.
    let last = [Arg::I32(d_state)];
    let last = if fast { &last[..0] } else { &last[..] };
    let (u, dt, b, a2, dt_bias) = (arg(&op.u), arg(&op.dt), arg(&op.b), op.a2.arg(), op.dt_bias.arg());
    let tile_table = Arg::Ptr(Elem::Tile, tables.tile_table);
    let (width, bc_stride) = (Arg::I32(d_inner), Arg::I32(op.b.stride));
    let parallel = tables.parallel_tiles;
    // Any address will do where no lane has a second tile.
    let mut starts = a2;
    if parallel > 0 {
        let ends = Arg::Ptr(Elem::F32, scratch.ends.room(device, 4 * parallel * d_state * d_inner)?);
        let sums = Arg::Ptr(Elem::F32, scratch.tile_sums.room(device, 4 * parallel * d_inner)?);
        let tiles = Arg::I32(parallel);
        kernels.launch_for(
            device,
            if fast { "scan_tile_ends" } else { "scan_tile_ends_generic" },
            sizes,
            grid(parallel),
            &[&[u, dt, b, a2, dt_bias, ends, sums, tile_table, tiles, width, bc_stride], last].concat(),
        )?;
        kernels.launch(
            device,
            "scan_carry",
            launch::scan_carry(tables.parallel_lanes, d_inner, d_state),
            &[
                a2,
                ends,
                sums,
                op.ssm_state.arg(),
                Arg::Ptr(Elem::LaneEntry, tables.lane_table),
                Arg::I32(tables.parallel_lanes),
                width,
                Arg::I32(d_state),
            ],
        )?;
        starts = ends;
    }
    let apply = [
        u,
        dt,
        b,
        arg(&op.c),
        arg(&op.z),
        a2,
        op.d.arg(),
        dt_bias,
        starts,
        op.ssm_state.arg(),
        op.y.arg(),
        tile_table,
        Arg::I32(tables.tiles),
        width,
        bc_stride,
        Arg::I32(op.z.stride),
    ];
    kernels.launch_for(
        device,
        if fast { "scan_apply" } else { "scan_apply_generic" },
        sizes,
        grid(tables.tiles),
        &[&apply, last].concat(),
    )
}

/// Whether every row starts at a multiple of 16 bytes, as the fast kernels copy them.
fn in_sixteens(view: &Rows<'_, CudaBuffer>) -> bool {
    address(view).is_multiple_of(16) && (view.stride * view.buf.dtype.bytes()).is_multiple_of(16)
}
