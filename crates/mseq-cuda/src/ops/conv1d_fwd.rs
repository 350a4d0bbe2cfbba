use mseq_backend::ops::{GluFwd, StridedConv1dFwd, TransposedConv1dFwd};
use mseq_backend::{Error, Result};
use mseq_core::DType;
use mseq_kernels::launch;

use crate::module::Arg;
use crate::{CudaBackend, CudaBuffer, CudaLinear};

/// One row of y is one product with `taps` rows of x.
pub(crate) fn strided_conv1d_fwd(backend: &CudaBackend, op: StridedConv1dFwd<'_, CudaBackend>) -> Result<()> {
    let product = Product {
        rows: op.rows,
        depth: op.taps * op.in_channels,
        cols: op.out_channels,
        x_stride: op.stride * op.in_channels,
        lead: 0,
        total: ((op.rows.max(1) - 1) * op.stride + op.taps) * op.in_channels,
    };
    product.run(backend, "strided_conv1d_fwd", (op.x, op.weight, op.bias), op.relu, None, op.y)
}

/// One group of rows of y is one product with the rows of x that it feels.
pub(crate) fn transposed_conv1d_fwd(
    backend: &CudaBackend,
    op: TransposedConv1dFwd<'_, CudaBackend>,
) -> Result<()> {
    let reach = op.taps / op.stride;
    let product = Product {
        rows: op.groups(),
        depth: reach * op.in_channels,
        cols: op.stride * op.out_channels,
        x_stride: op.in_channels,
        lead: (reach - 1) * op.in_channels,
        total: op.rows * op.in_channels,
    };
    product.run(backend, "transposed_conv1d_fwd", (op.x, op.weight, op.bias), op.relu, op.add, op.y)
}

/// Sizes as the kernel takes them.
struct Product {
    rows: usize,
    depth: usize,
    cols: usize,
    x_stride: usize,
    lead: usize,
    total: usize,
}

impl Product {
    fn run(
        self,
        backend: &CudaBackend,
        op: &'static str,
        (x, weight, bias): (&CudaBuffer, &CudaLinear, &CudaBuffer),
        relu: bool,
        add: Option<&CudaBuffer>,
        y: &mut CudaBuffer,
    ) -> Result<()> {
        for (what, found, wanted) in [
            ("in_features", self.depth, weight.in_features),
            ("out_features", self.cols, weight.out_features),
        ] {
            if found != wanted {
                return Err(Error::OutOfRange { op, what, found, wanted: "which is not the weight's" });
            }
        }
        if self.rows == 0 || self.cols == 0 {
            return Ok(());
        }
        backend.kernels.launch(
            &backend.device,
            if y.dtype == DType::F32 { "conv1d_fwd_f32out" } else { "conv1d_fwd" },
            launch::conv1d_fwd(self.rows, self.cols),
            &[
                x.arg(),
                Arg::Buffer(weight.dtype, weight.memory.ptr()),
                bias.arg(),
                add.map_or(Arg::Null, CudaBuffer::arg),
                y.arg(),
                Arg::I64(self.rows),
                Arg::I64(self.total),
                Arg::I32(self.depth),
                Arg::I32(self.cols),
                Arg::I32(self.x_stride),
                Arg::I32(self.lead),
                Arg::I32(relu.into()),
            ],
        )
    }
}

/// One thread a few gated values.
pub(crate) fn glu_fwd(backend: &CudaBackend, op: GluFwd<'_, CudaBackend>) -> Result<()> {
    if op.rows == 0 || op.width == 0 {
        return Ok(());
    }
    backend.kernels.launch(
        &backend.device,
        "glu_fwd",
        launch::glu_fwd(op.rows, op.width),
        &[op.x.arg(), op.out.arg(), Arg::I64(op.rows), Arg::I32(op.width)],
    )
}
