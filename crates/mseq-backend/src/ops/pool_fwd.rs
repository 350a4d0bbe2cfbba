use std::ops::Range;

use crate::error::at_least;
use crate::{Backend, Error, Result};

/// How rows become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Sum in f64 in row order, divided by the number of rows at the end: a window of 250 million
    /// rows keeps the f32 precision of a short one.
    Mean,
    /// Largest value of each channel.
    Max,
    /// The last row.
    Last,
}

/// Some rows of one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSegment {
    /// Rows of the batch that belong to the window; never empty.
    pub rows: Range<usize>,
    /// The slot that holds what earlier batches summed; `None` when the window starts here.
    pub from: Option<usize>,
    /// The slot to keep the sum in; `None` closes the window and gives a row.
    pub keep: Option<usize>,
    /// Rows of the window in all, counted when it closes.
    pub count: u64,
}

/// Adds rows to windows.
pub struct PoolFwd<'a, B: Backend> {
    /// How.
    pub kind: PoolKind,
    /// Rows of `x`.
    pub rows: usize,
    /// Width of a row.
    pub width: usize,
    /// Slots of `sums`.
    pub slots: usize,
    /// (rows, width).
    pub x: &'a B::Buffer,
    /// In output order. No slot may be read by two segments or written by two.
    pub segments: &'a [PoolSegment],
    /// (slots, width), f64: all reads happen before the first write.
    pub sums: &'a mut B::Sums,
}

/// The windows that closed: (windows, width), row-major, in the order of their segments.
pub type PoolOut = Vec<f32>;

impl<B: Backend> PoolFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short, a segment is empty or outside, or a slot is shared.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "pool_fwd";
        at_least(OP, "x", backend.len(self.x), self.rows * self.width)?;
        let (mut read, mut written) = (vec![false; self.slots], vec![false; self.slots]);
        for (lane, segment) in self.segments.iter().enumerate() {
            let fail = |why| Err(Error::Lane { op: OP, lane, why });
            if segment.rows.is_empty() || segment.rows.end > self.rows {
                return fail("has a window without rows or after the batch");
            }
            for (slot, used) in [(segment.from, &mut read), (segment.keep, &mut written)] {
                match slot {
                    Some(slot) if slot >= self.slots => return fail("has a window slot that does not exist"),
                    Some(slot) if std::mem::replace(&mut used[slot], true) => {
                        return fail("shares its window slot");
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
