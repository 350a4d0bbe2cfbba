use mseq_backend::ops::PoolSegment;
use mseq_core::{Span, Windows};

/// A row that a step closes: which part of the record it describes.
pub(crate) type Closed = Span;

/// Cuts consecutive stretches of one record into the windows they belong to.
///
/// Window `k` keeps its running sum in slot `k % max_open`: no two windows that are open at the
/// same base share one.
#[derive(Debug, Clone)]
pub(crate) struct WindowTracker {
    windows: Windows,
}

impl WindowTracker {
    pub(crate) fn new(windows: Windows) -> Self {
        Self { windows }
    }

    /// Segments of the stretch that starts at base `pos` and fills `len` rows from `row` on, and
    /// the spans of those that close. `end` says that the record ends after the stretch.
    ///
    /// Overlapping windows that would start after one that reached the record's end are not
    /// windows: what they summed is dropped.
    pub(crate) fn stretch(
        &self,
        (pos, len, row, end): (u64, u64, usize, bool),
        segments: &mut Vec<PoolSegment>,
        closed: &mut Vec<Closed>,
    ) {
        let stop = pos + len;
        let (first, last) = match (self.windows.length(), self.windows.stride()) {
            (Some(length), Some(stride)) => {
                let first = if pos < length { 0 } else { (pos - length) / stride + 1 };
                (first, stop.div_ceil(stride))
            }
            _ => (0, 1),
        };
        let last = if end { last.min(self.windows.count(stop)) } else { last };
        let bound = if end { stop } else { u64::MAX };
        for k in first..last {
            let span = self.windows.span(k, bound);
            let from = span.start.max(pos);
            let to = span.end.min(stop);
            let closes = span.end <= stop;
            let slot = (k % self.windows.max_open()) as usize;
            segments.push(PoolSegment {
                rows: row + (from - pos) as usize..row + (to - pos) as usize,
                from: (span.start < pos).then_some(slot),
                keep: (!closes).then_some(slot),
                count: if closes { span.len() } else { 0 },
            });
            if closes {
                closed.push(span);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Plays the segments on counters: each window must end with each of its bases seen once.
    fn play(windows: Windows, bases: u64, cut: u64) -> Vec<(Span, Vec<u64>)> {
        let tracker = WindowTracker::new(windows);
        let mut kept: HashMap<usize, Vec<u64>> = HashMap::new();
        let mut rows = Vec::new();
        let mut pos = 0;
        while pos < bases {
            let len = cut.min(bases - pos);
            let (mut segments, mut closed) = (Vec::new(), Vec::new());
            tracker.stretch((pos, len, 3, pos + len == bases), &mut segments, &mut closed);
            let mut closed = closed.into_iter();
            let before = kept.clone();
            for s in segments {
                let mut seen = s.from.map(|slot| before[&slot].clone()).unwrap_or_default();
                seen.extend(s.rows.map(|r| pos + r as u64 - 3));
                match s.keep {
                    Some(slot) => drop(kept.insert(slot, seen)),
                    None => rows.push((closed.next().unwrap(), seen)),
                }
            }
            assert!(closed.next().is_none());
            pos += len;
        }
        rows
    }

    #[test]
    fn every_window_sees_its_bases_once_under_any_cut() {
        let mut all = vec![Windows::record()];
        for length in 1..8 {
            all.extend((1..10).map(|stride| Windows::tiled(length, stride).unwrap()));
        }
        for windows in all {
            for bases in 1..30 {
                for cut in [1, 2, 3, 7, 64] {
                    let rows = play(windows, bases, cut);
                    assert_eq!(rows.len() as u64, windows.count(bases), "{windows:?} {bases} {cut}");
                    for (k, (span, seen)) in rows.into_iter().enumerate() {
                        assert_eq!(span, windows.span(k as u64, bases));
                        assert_eq!(seen, (span.start..span.end).collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
