use mseq_backend::ops::{CausalConv1dFwd, CausalConv1dUpdate};

use super::selective_state_update::one_row_each;
use crate::CpuBackend;

/// The chunk op on lanes of one row: the same bits, and a row is a task of SIMD work in both.
pub(crate) fn causal_conv1d_update(backend: &CpuBackend, op: CausalConv1dUpdate<'_, CpuBackend>) {
    let CausalConv1dUpdate { d_inner, d_conv, slots, n_slots, x, weight, bias, conv_state, out } = op;
    let lanes = one_row_each(slots);
    super::causal_conv1d_fwd(
        backend,
        CausalConv1dFwd {
            rows: slots.len(),
            d_inner,
            d_conv,
            slots: n_slots,
            lanes: &lanes,
            x,
            weight,
            bias,
            conv_state,
            out,
        },
    );
}
