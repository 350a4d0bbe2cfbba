use mseq_backend::LaneSpan;
use mseq_backend::ops::{ScanShape, SelectiveScanFwd, SelectiveStateUpdate};

use crate::CpuBackend;

/// Row i as a lane that goes on from slot `slots[i]`.
pub(super) fn one_row_each(slots: &[usize]) -> Vec<LaneSpan> {
    let lane = |(row, &slot)| LaneSpan { rows: row..row + 1, fresh: false, slot: Some(slot) };
    slots.iter().enumerate().map(lane).collect()
}

/// The chunk op on lanes of one row: the same bits.
pub(crate) fn selective_state_update(backend: &CpuBackend, op: SelectiveStateUpdate<'_, CpuBackend>) {
    let SelectiveStateUpdate { d_inner, d_state, slots, n_slots, .. } = op;
    let lanes = one_row_each(slots);
    super::selective_scan_fwd(
        backend,
        SelectiveScanFwd {
            shape: ScanShape { rows: slots.len(), d_inner, d_state, slots: n_slots },
            lanes: &lanes,
            u: op.u,
            dt: op.dt,
            b: op.b,
            c: op.c,
            a2: op.a2,
            d: op.d,
            dt_bias: op.dt_bias,
            z: op.z,
            ssm_state: op.ssm_state,
            y: op.y,
        },
    );
}
