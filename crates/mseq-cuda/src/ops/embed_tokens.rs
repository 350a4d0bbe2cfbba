use mseq_backend::Result;
use mseq_backend::ops::EmbedTokens;
use mseq_kernels::{Elem, launch};

use crate::CudaBackend;
use crate::device::bytes_of;
use crate::module::Arg;

/// Ids go through page-locked memory, so that the next step's may be sent while this one computes.
pub(crate) fn embed_tokens(backend: &CudaBackend, op: EmbedTokens<'_, CudaBackend>) -> Result<()> {
    let rows = op.ids.len();
    if rows == 0 {
        return Ok(());
    }
    let ids = backend.scratch()?.ids.send(&backend.device, bytes_of(op.ids))?;
    backend.kernels.launch(
        &backend.device,
        "embed_tokens",
        launch::embed_tokens(rows, op.d_model),
        &[Arg::Ptr(Elem::U32, ids), op.table.arg(), op.out.arg(), Arg::I64(rows), Arg::I32(op.d_model)],
    )
}
