use mseq_backend::ops::EmbedTokens;

use crate::CpuBackend;

/// A copy of a row each: memory-bound, and a small part of a step.
pub(crate) fn embed_tokens(op: EmbedTokens<'_, CpuBackend>) {
    let d = op.d_model;
    for (out, &id) in op.out.0.chunks_exact_mut(d).zip(op.ids) {
        out.copy_from_slice(&op.table.0[id as usize * d..][..d]);
    }
}
