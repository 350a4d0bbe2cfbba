use mseq_backend::ops::StridedConv1dFwd;

use super::linear_fwd::Product;
use crate::CpuBackend;

/// The window of a row of y is `taps` whole rows of x, one after the other: a row of a matrix whose
/// rows overlap.
pub(crate) fn strided_conv1d_fwd(backend: &CpuBackend, op: StridedConv1dFwd<'_, CpuBackend>) {
    if op.rows == 0 || op.out_channels == 0 {
        return;
    }
    let product = Product {
        x: &op.x.0,
        stride_x: op.stride * op.in_channels,
        weight: op.weight,
        bias: Some(&op.bias.0[..op.out_channels]),
        accumulate: false,
        y: &mut op.y.0[..op.rows * op.out_channels],
        stride_y: op.out_channels,
    };
    product.run(backend, |_, y| {
        if op.relu {
            relu(y);
        }
    });
}

/// Not `max`, which would drop a NaN.
pub(super) fn relu(values: &mut [f32]) {
    for v in values {
        *v = if *v < 0.0 { 0.0 } else { *v };
    }
}
