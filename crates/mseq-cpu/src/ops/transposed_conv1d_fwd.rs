use mseq_backend::ops::TransposedConv1dFwd;

use super::linear_fwd::Product;
use super::strided_conv1d_fwd::relu;
use crate::CpuBackend;

/// A group of rows of y is one product with the rows of x that it feels, which overlap from group to
/// group. The first and the last groups feel rows that are not there: they see zeros.
pub(crate) fn transposed_conv1d_fwd(backend: &CpuBackend, op: TransposedConv1dFwd<'_, CpuBackend>) {
    let (c, reach) = (op.in_channels, op.taps / op.stride);
    let width = op.stride * op.out_channels;
    if width == 0 {
        return;
    }
    let edge = reach - 1;
    let groups = op.groups();
    let (weight, bias) = (op.weight, Some(&op.bias.0[..width]));
    let x = &op.x.0[..op.rows * c];
    let y = &mut op.y.0[..groups * width];
    let then = |first: usize, y: &mut [f32]| {
        if op.relu {
            relu(y);
        }
        if let Some(add) = op.add {
            y.iter_mut().zip(&add.0[first * width..]).for_each(|(y, add)| *y += add);
        }
    };
    // Groups that feel `reach` rows, all there.
    let whole = op.rows.saturating_sub(edge);
    let (head, rest) = y.split_at_mut(edge.min(groups) * width);
    let (inner, tail) = rest.split_at_mut(whole.min(rest.len() / width) * width);
    for (first, y) in [(0, head), (edge + whole, tail)] {
        if y.is_empty() {
            continue;
        }
        let rows = y.len() / width;
        // Rows first - edge to first + rows - 1 of x.
        let mut padded = vec![0f32; (rows + edge) * c];
        for (i, row) in padded.chunks_exact_mut(c.max(1)).enumerate() {
            if let Some(at) = (first + i).checked_sub(edge).filter(|&at| at < op.rows) {
                row.copy_from_slice(&x[at * c..][..c]);
            }
        }
        let product =
            Product { x: &padded, stride_x: c, weight, bias, accumulate: false, y, stride_y: width };
        product.run(backend, |at, y| then(first + at, y));
    }
    if !inner.is_empty() {
        let product = Product { x, stride_x: c, weight, bias, accumulate: false, y: inner, stride_y: width };
        product.run(backend, |at, y| then(edge + at, y));
    }
}
