use mseq_backend::Result;
use mseq_backend::ops::{PoolFwd, PoolKind, PoolOut, PoolSegment};
use mseq_kernels::{Elem, PoolJoin, PoolPart, launch, pool_part_rows};

use crate::CudaBackend;
use crate::module::Arg;

/// The tables of a call: parts of segments, and how they join.
#[derive(Debug, Default)]
struct Tables {
    /// Parts, then joins.
    parts: Vec<u8>,
    joins: Vec<u8>,
    n_parts: usize,
    n_joins: usize,
    /// Rows of partial sums.
    partials: usize,
    /// Windows that close.
    closed: usize,
}

impl Tables {
    fn new(kind: PoolKind, segments: &[PoolSegment]) -> Self {
        let mut tables = Self::default();
        for segment in segments {
            tables.add(kind, segment);
        }
        tables
    }

    fn add(&mut self, kind: PoolKind, segment: &PoolSegment) {
        let rows = match kind {
            PoolKind::Last => segment.rows.end - 1..segment.rows.end,
            PoolKind::Mean | PoolKind::Max => segment.rows.clone(),
        };
        let step = pool_part_rows(rows.len());
        let pieces = rows.len().div_ceil(step);
        let slot = |slot: Option<usize>| slot.map_or(-1, |slot| slot as i32);
        let (out, count) = match segment.keep {
            Some(_) => (-1, 1),
            None => (self.closed as i32, segment.count as i64),
        };
        let alone = pieces == 1 && segment.keep.is_none();
        for i in 0..pieces {
            let row = rows.start + i * step;
            let part = PoolPart {
                row: row as i64,
                count,
                len: (rows.end - row).min(step) as i32,
                from: if i == 0 { slot(segment.from) } else { -1 },
                partial: if alone { -1 } else { (self.partials + i) as i32 },
                out: if alone { out } else { -1 },
            };
            part.write_to(&mut self.parts);
        }
        self.n_parts += pieces;
        if !alone {
            let (partial, partials) = (self.partials as i32, pieces as i32);
            PoolJoin { count, partial, partials, keep: slot(segment.keep), out }.write_to(&mut self.joins);
            self.n_joins += 1;
            self.partials += pieces;
        }
        self.closed += usize::from(segment.keep.is_none());
    }
}

/// Parts side by side, then their sums in order. Only windows that close come back to the host.
pub(crate) fn pool_fwd(backend: &CudaBackend, op: PoolFwd<'_, CudaBackend>) -> Result<PoolOut> {
    let (device, kernels, width) = (&backend.device, &backend.kernels, op.width);
    let tables = Tables::new(op.kind, op.segments);
    if tables.n_parts == 0 || width == 0 {
        return Ok(PoolOut::new());
    }
    let mut scratch = backend.scratch()?;
    let bytes = [&tables.parts[..], &tables.joins].concat();
    let at = scratch.pool.send(device, &bytes)?;
    let partials = Arg::Ptr(Elem::F64, scratch.partials.room(device, 8 * tables.partials * width)?);
    let out = Arg::Ptr(Elem::F32, scratch.pooled.room(device, 4 * tables.closed * width)?);
    let sums = Arg::Ptr(Elem::F64, op.sums.memory.ptr());
    let kind = Arg::I32(match op.kind {
        PoolKind::Mean => mseq_kernels::PoolKind::Mean as usize,
        PoolKind::Max => mseq_kernels::PoolKind::Max as usize,
        PoolKind::Last => mseq_kernels::PoolKind::Last as usize,
    });
    kernels.launch(
        device,
        "pool_parts",
        launch::pool(tables.n_parts, width),
        &[
            op.x.arg(),
            sums,
            partials,
            out,
            Arg::Ptr(Elem::PoolPart, at),
            Arg::I32(tables.n_parts),
            Arg::I32(width),
            kind,
        ],
    )?;
    if tables.n_joins > 0 {
        kernels.launch(
            device,
            "pool_join",
            launch::pool(tables.n_joins, width),
            &[
                partials,
                sums,
                out,
                Arg::Ptr(Elem::PoolJoin, at + tables.parts.len() as u64),
                Arg::I32(tables.n_joins),
                Arg::I32(width),
                kind,
            ],
        )?;
    }
    let mut rows = vec![0f32; tables.closed * width];
    match scratch.pooled.memory() {
        Some(memory) if !rows.is_empty() => device.download(memory, 0, &mut rows)?,
        // Nothing comes back, but the step is over only when the device is done.
        _ => device.synchronize("pool_fwd")?,
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(rows: std::ops::Range<usize>, from: Option<usize>, keep: Option<usize>) -> PoolSegment {
        PoolSegment { rows, from, keep, count: 1000 }
    }

    /// (from, partial, out) of each part.
    fn parts(tables: &Tables) -> Vec<(i32, i32, i32)> {
        let word = |b: &[u8], at: usize| i32::from_le_bytes(b[at..at + 4].try_into().unwrap());
        tables.parts.chunks(PoolPart::BYTES).map(|p| (word(p, 20), word(p, 24), word(p, 28))).collect()
    }

    #[test]
    fn segments_are_cut_from_their_own_first_row() {
        let segments = [
            segment(7..107, None, None),
            segment(7..600, Some(3), None),
            segment(0..1, None, Some(1)),
            segment(600..700, Some(2), None),
        ];
        let tables = Tables::new(PoolKind::Mean, &segments);
        assert_eq!((tables.n_parts, tables.n_joins, tables.partials, tables.closed), (6, 2, 4, 3));
        assert_eq!(
            parts(&tables),
            [(-1, -1, 0), (3, 0, -1), (-1, 1, -1), (-1, 2, -1), (-1, 3, -1), (2, -1, 2)]
        );
        let last = Tables::new(PoolKind::Last, &segments);
        assert_eq!((last.n_parts, last.n_joins, last.closed), (4, 1, 3));
        assert_eq!(last.parts[32..40], 599i64.to_le_bytes());
    }
}
