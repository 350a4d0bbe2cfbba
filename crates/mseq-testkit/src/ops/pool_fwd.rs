use std::ops::Range;

use mseq_backend::ops::{PoolFwd, PoolKind, PoolSegment};
use mseq_backend::{Backend, Result};

use crate::random::single;
use crate::{Check, Random};

/// Windows from one row to thousands, some begun in an earlier batch, some kept for a later one.
///
/// # Errors
/// What the backend refuses.
pub fn pool_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    const SLOTS: usize = 4;
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (width, kind) in [
        (256, PoolKind::Mean),
        (random.between(1, 200), PoolKind::Mean),
        (13, PoolKind::Max),
        (random.between(1, 200), PoolKind::Max),
        (33, PoolKind::Last),
    ] {
        let rows = 5000;
        let (x, xs) = single(backend, &random.values(rows * width, -1.0, 2.0))?;
        let from = random.between(1, 300);
        let span = |rows: Range<usize>, from, keep, count: u64| PoolSegment { rows, from, keep, count };
        // Slot 1 is read by one segment and written by another, and 2 likewise.
        let segments = [
            span(0..1, None, None, 1),
            span(0..from, Some(1), None, 7 + from as u64),
            span(1..1001, None, Some(1), 1000),
            span(500..756, None, None, 256),
            span(500..757, None, None, 257),
            span(from..5000, Some(2), Some(0), 9000),
            span(4999..5000, Some(0), Some(2), 9),
            span(16..4999, None, None, 4983),
        ];
        let start: Vec<Vec<f64>> = (0..SLOTS)
            .map(|_| random.values(width, -2.0, 3.0).iter().map(|&v| f64::from(v)).collect())
            .collect();
        let run = || -> Result<(Vec<f32>, Vec<Vec<f64>>)> {
            let mut sums = backend.sums(SLOTS, width)?;
            for (slot, values) in start.iter().enumerate() {
                backend.write_sums(&mut sums, slot, values)?;
            }
            let out = backend.pool_fwd(PoolFwd {
                kind,
                rows,
                width,
                slots: SLOTS,
                x: &x,
                segments: &segments,
                sums: &mut sums,
            })?;
            let slots = (0..SLOTS).map(|slot| backend.read_sums(&sums, slot)).collect::<Result<_>>()?;
            Ok((out, slots))
        };
        let (found, slots) = run()?;
        let (mut truth, mut end) = (Vec::new(), start.clone());
        for segment in &segments {
            let sum: Vec<f64> = (0..width)
                .map(|c| {
                    let values = segment.rows.clone().map(|r| xs[r * width + c]);
                    let before = segment.from.map(|slot| start[slot][c]);
                    match kind {
                        PoolKind::Mean => before.unwrap_or(0.0) + values.sum::<f64>(),
                        PoolKind::Max => values.fold(before.unwrap_or(f64::NEG_INFINITY), f64::max),
                        PoolKind::Last => xs[(segment.rows.end - 1) * width + c],
                    }
                })
                .collect();
            match segment.keep {
                Some(slot) => end[slot] = sum,
                None if kind == PoolKind::Mean => truth.extend(sum.iter().map(|v| v / segment.count as f64)),
                None => truth.extend(sum),
            }
        }
        let what = format!("{kind:?}, width {width}");
        // Sums are f64, so only the last rounding to f32 shows.
        checks.push(Check::new(&what, &found, &truth, 1e-7));
        let worst =
            slots.iter().flatten().zip(end.iter().flatten()).map(|(a, b)| ((a - b) / b.abs().max(1.0)).abs());
        let error = worst.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) });
        checks.push(Check { what: format!("{what}, sums kept"), error, limit: 1e-13 });
        checks.push(Check::twice(&what, &found, &run()?.0));
    }
    Ok(checks)
}
