use mseq_backend::Result;
use mseq_backend::ops::{Norm, NormFwd};
use mseq_core::DType;
use mseq_kernels::launch;

use crate::CudaBackend;
use crate::module::Arg;

/// Writes f32 or the backend's type, as the output buffer has it.
pub(crate) fn norm_fwd(backend: &CudaBackend, op: NormFwd<'_, CudaBackend>) -> Result<()> {
    if op.rows == 0 || op.width == 0 {
        return Ok(());
    }
    let f32_out = op.out.dtype == DType::F32;
    let tail = [op.out.arg(), Arg::I64(op.rows), Arg::I32(op.width), Arg::F32(op.eps)];
    let (name, head) = match op.norm {
        Norm::Rms { weight } => {
            (if f32_out { "rms_norm_fwd_f32out" } else { "rms_norm_fwd" }, vec![op.x.arg(), weight.arg()])
        }
        Norm::Layer { weight, bias } => (
            if f32_out { "layer_norm_fwd_f32out" } else { "layer_norm_fwd" },
            vec![op.x.arg(), weight.arg(), bias.arg()],
        ),
    };
    backend.kernels.launch(&backend.device, name, launch::norm_fwd(op.rows), &[&head[..], &tail].concat())
}
