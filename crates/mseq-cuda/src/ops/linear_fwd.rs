use std::sync::atomic::Ordering;

use mseq_backend::ops::LinearFwd;
use mseq_backend::{Error, Result};
use mseq_core::DType;
use mseq_kernels::launch;

use crate::CudaBackend;
use crate::blas::{Operands, Shape};
use crate::buffer::{address, arg};
use crate::module::Arg;

/// cuBLASLt where it is there and can do it, else our own kernel.
pub(crate) fn linear_fwd(backend: &CudaBackend, op: LinearFwd<'_, CudaBackend>) -> Result<()> {
    const OP: &str = "linear_fwd";
    let LinearFwd { rows, in_features, out_features, x, weight, bias, accumulate, y } = op;
    for (what, found, wanted) in [
        ("in_features", in_features, weight.in_features),
        ("out_features", out_features, weight.out_features),
    ] {
        if found != wanted {
            return Err(Error::OutOfRange { op: OP, what, found, wanted: "which is not the weight's" });
        }
    }
    if x.buf.dtype != weight.dtype {
        let wanted = "and must be the backend's type";
        return Err(Error::Type { op: OP, what: "x", found: x.buf.dtype, wanted });
    }
    if rows == 0 || out_features == 0 {
        return Ok(());
    }
    let f32_out = y.buf.dtype == DType::F32;
    let (device, kernels) = (&backend.device, &backend.kernels);
    let (to, bias) = (y.buf.arg(), bias.map(|bias| bias.arg()));
    let count = [Arg::I64(rows), Arg::I32(in_features), Arg::I32(out_features)];
    if let Some(blas) = &mut backend.scratch()?.blas {
        let shape = Shape {
            rows,
            in_features,
            out_features,
            x_stride: x.stride,
            y_stride: y.stride,
            dtype: weight.dtype,
            out: y.buf.dtype,
            accumulate,
            any_rows: !backend.stepping.load(Ordering::Relaxed),
        };
        let at = Operands { x: address(&x), weight: weight.memory.ptr(), y: y.buf.memory.ptr() };
        if in_features > 0 && blas.matmul(shape, at)? {
            let Some(bias) = bias else { return Ok(()) };
            return kernels.launch(
                device,
                if f32_out { "add_bias_f32out" } else { "add_bias" },
                launch::add_bias(rows, out_features),
                &[to, bias, count[0], count[2], Arg::I32(y.stride)],
            );
        }
    }
    kernels.launch(
        device,
        if f32_out { "linear_fwd_f32out" } else { "linear_fwd" },
        launch::linear_fwd(rows, out_features),
        &[
            arg(&x),
            Arg::Buffer(weight.dtype, weight.memory.ptr()),
            bias.unwrap_or(Arg::Null),
            to,
            count[0],
            count[1],
            count[2],
            Arg::I32(x.stride),
            Arg::I32(y.stride),
            Arg::I32(accumulate.into()),
        ],
    )
}
