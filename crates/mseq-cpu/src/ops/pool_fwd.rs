use mseq_backend::ops::{PoolFwd, PoolKind, PoolOut, PoolSegment};
use rayon::prelude::*;

use crate::CpuBackend;

/// Windows side by side; the rows of one in order, so that its sum does not depend on the cut.
pub(crate) fn pool_fwd(op: PoolFwd<'_, CpuBackend>) -> PoolOut {
    let (width, kind) = (op.width, op.kind);
    let sums: Vec<Vec<f64>> = {
        let (x, sums) = (&op.x.0, &op.sums.values);
        op.segments.par_iter().with_min_len(4).map(|segment| add(kind, x, sums, segment, width)).collect()
    };
    let mut out = PoolOut::new();
    for (segment, sum) in op.segments.iter().zip(sums) {
        match segment.keep {
            Some(slot) => op.sums.values[slot * width..][..width].copy_from_slice(&sum),
            None if kind == PoolKind::Mean => {
                let count = segment.count as f64;
                out.extend(sum.iter().map(|v| (v / count) as f32));
            }
            None => out.extend(sum.iter().map(|&v| v as f32)),
        }
    }
    out
}

fn add(kind: PoolKind, x: &[f32], sums: &[f64], segment: &PoolSegment, width: usize) -> Vec<f64> {
    let empty = match kind {
        PoolKind::Max => f64::NEG_INFINITY,
        PoolKind::Mean | PoolKind::Last => 0.0,
    };
    let mut sum = match segment.from {
        Some(slot) => sums[slot * width..][..width].to_vec(),
        None => vec![empty; width],
    };
    let rows = match kind {
        PoolKind::Last => segment.rows.end - 1..segment.rows.end,
        PoolKind::Mean | PoolKind::Max => segment.rows.clone(),
    };
    for row in x[rows.start * width..rows.end * width].chunks_exact(width) {
        match kind {
            PoolKind::Mean => sum.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v)),
            // Not f64::max, which would drop a NaN: an engine's NaN must be seen.
            PoolKind::Max => sum.iter_mut().zip(row).for_each(|(s, &v)| {
                if v.is_nan() || f64::from(v) > *s {
                    *s = f64::from(v);
                }
            }),
            PoolKind::Last => sum.iter_mut().zip(row).for_each(|(s, &v)| *s = f64::from(v)),
        }
    }
    sum
}
