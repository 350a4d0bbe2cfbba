use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use mseq_backend::ops::PoolSegment;
use mseq_core::{Region, Regions, Signal, Span, Windows};

/// A row that a step closes: which part of the record it describes, and from which interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) span: Span,
    pub(crate) region: Option<Arc<str>>,
}

/// Consecutive tokens of one record: where they lie in it and in the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    /// Tokens of the record before it, in reading direction.
    pub(crate) pos: u64,
    /// Its tokens.
    pub(crate) len: u64,
    /// Its first row in the batch.
    pub(crate) row: usize,
    /// Where the record ends, if it does after it: in bases, or in samples of its file.
    pub(crate) ends: Option<u64>,
}

/// Cuts consecutive stretches of one record into the windows they belong to.
///
/// Windows lie where they lie on the forward strand, also when the tokens are those of the reverse
/// complement. Window `k` of an interval keeps its running sum in slot `lane * max_open + k %
/// max_open`: no two windows that are open at the same base share one, and where a window keeps
/// its sum does not depend on how the record is cut.
///
/// Rows close in the order of their last token; of those that close with the same one, the window
/// of the lower start and end comes first in a forward record and last in a reversed one, so that
/// the rows of a reversed record, read backward, are in the order of their start.
#[derive(Debug, Clone)]
pub(crate) struct WindowTracker {
    windows: Windows,
    /// Bases of the record, when its tokens are its reverse complement.
    reversed: Option<u64>,
    /// `None`: the whole record.
    regions: Option<Cursor>,
    /// Only windows whose first token is here.
    starts: Range<u64>,
    /// Of a recording, whose windows are in samples of its file.
    signal: Option<Signal>,
}

/// The intervals of a record in reading direction, and those that a stretch may touch.
#[derive(Debug, Clone)]
struct Cursor {
    all: Arc<[Region]>,
    /// Numbers of the intervals by their first token; `None`: as they are.
    order: Option<Vec<u32>>,
    /// How many of them have begun.
    begun: usize,
    open: VecDeque<u32>,
}

impl Cursor {
    fn new(all: Arc<[Region]>, reversed: bool) -> Self {
        let order = reversed.then(|| {
            let mut order: Vec<u32> = (0u32..).take(all.len()).collect();
            order.sort_by_key(|&i| std::cmp::Reverse(all[i as usize].end));
            order
        });
        Self { all, order, begun: 0, open: VecDeque::new() }
    }

    /// Goes on to the intervals with a base in `[from, to)`, where `read` turns one around.
    fn seek(&mut self, from: u64, to: u64, read: impl Fn(Span) -> Span) {
        let span = |i: u32| read(Span::new(self.all[i as usize].start, self.all[i as usize].end));
        while self.begun < self.all.len() {
            let i = self.order.as_ref().map_or(self.begun as u32, |order| order[self.begun]);
            if span(i).start >= to {
                break;
            }
            self.begun += 1;
            self.open.push_back(i);
        }
        self.open.retain(|&i| span(i).end > from);
    }
}

impl WindowTracker {
    /// Windows of a whole record, or of its intervals when there are `regions`.
    pub(crate) fn new(windows: Windows, reversed: Option<u64>, regions: Option<&Regions>, id: &str) -> Self {
        let regions = regions.map(|regions| Cursor::new(regions.of(id), reversed.is_some()));
        Self { windows, reversed, regions, starts: 0..u64::MAX, signal: None }
    }

    /// Leaves out the windows of a whole record that start elsewhere.
    pub(crate) fn only(&mut self, starts: Option<Range<u64>>) {
        if self.regions.is_none() && self.reversed.is_none() {
            self.starts = starts.unwrap_or(0..u64::MAX);
        }
    }

    /// Windows of a recording.
    pub(crate) fn of_sound(&mut self, signal: Option<Signal>) {
        self.signal = signal;
    }

    /// A place in reading direction as one on the forward strand, and back.
    fn turn(reversed: Option<u64>, span: Span) -> Span {
        match reversed {
            None => span,
            Some(bases) => Span::new(bases.saturating_sub(span.end), bases.saturating_sub(span.start)),
        }
    }

    /// Segments of a stretch, in the order in which they close, and what those are that do.
    ///
    /// Overlapping windows that would start after one that reached the record's end are not
    /// windows: what they summed is dropped.
    pub(crate) fn stretch(
        &mut self,
        stretch: Stretch,
        segments: &mut Vec<PoolSegment>,
        closed: &mut Vec<Closed>,
    ) {
        if let Some(signal) = self.signal {
            return self.sound(signal, stretch, segments, closed);
        }
        let reversed = self.reversed;
        let (pos, stop) = (stretch.pos, stretch.pos + stretch.len);
        let mut found: Vec<(u64, u32, PoolSegment, Closed)> = Vec::new();
        let (windows, starts) = (self.windows, self.starts.clone());
        let mut add = |interval: Span, known: bool, number: u32, region: Option<&Region>| {
            let lane = region.map_or(0, |region| u64::from(region.lane));
            // The stretch from the interval's first base on the forward strand.
            let here = Self::turn(reversed, Span::new(pos, stop));
            let base = interval.start;
            let (from, to) = (here.start.saturating_sub(base), here.end.min(interval.end) - base);
            let (first, last) = match (windows.length(), windows.stride()) {
                (Some(length), Some(stride)) => {
                    let first = if from < length { 0 } else { (from - length) / stride + 1 };
                    (first, to.div_ceil(stride))
                }
                _ => (0, 1),
            };
            let last = if known { last.min(windows.count(interval.len())) } else { last };
            let window_at =
                |start: u64| windows.stride().map_or(start.min(1), |stride| start.div_ceil(stride));
            let (first, last) = (first.max(window_at(starts.start)), last.min(window_at(starts.end)));
            for k in first..last {
                let span = windows.span(k, interval.len());
                let span = Span::new(base + span.start, base.saturating_add(span.end));
                let read = Self::turn(reversed, span);
                let (begin, end) = (read.start.max(pos), read.end.min(stop));
                let closes = read.end <= stop;
                let slot = (lane * windows.max_open() + k % windows.max_open()) as usize;
                let segment = PoolSegment {
                    rows: stretch.row + (begin - pos) as usize..stretch.row + (end - pos) as usize,
                    from: (read.start < pos).then_some(slot),
                    keep: (!closes).then_some(slot),
                    count: if closes { span.len() } else { 0 },
                };
                let region = region.map(|region| Arc::clone(&region.name));
                found.push((read.end, number, segment, Closed { span, region }));
            }
        };
        match (&mut self.regions, reversed) {
            (None, Some(bases)) => add(Span::new(0, bases), true, 0, None),
            (None, None) if stretch.ends.is_some() => add(Span::new(0, stop), true, 0, None),
            (None, None) => add(Span::new(0, u64::MAX), false, 0, None),
            (Some(cursor), _) => {
                cursor.seek(pos, stop, |span| Self::turn(reversed, span));
                for &i in &cursor.open {
                    let region = &cursor.all[i as usize];
                    add(Span::new(region.start, region.end), true, i, Some(region));
                }
            }
        }
        if self.regions.is_some() || reversed.is_some() {
            // Of equal windows that of the earlier interval comes first, whichever was read first.
            found.sort_by_key(|(end, number, _, row)| (*end, row.span.start, row.span.end, *number));
            if reversed.is_some() {
                found.chunk_by_mut(|a, b| a.0 == b.0).for_each(<[_]>::reverse);
            }
        }
        for (_, _, segment, row) in found {
            if segment.keep.is_none() {
                closed.push(row);
            }
            segments.push(segment);
        }
    }

    /// As `stretch`, of a recording: a token belongs to the windows that have its first sample. A
    /// window in which no token begins has no segment.
    fn sound(
        &self,
        signal: Signal,
        stretch: Stretch,
        segments: &mut Vec<PoolSegment>,
        closed: &mut Vec<Closed>,
    ) {
        let windows = self.windows;
        let (pos, stop) = (stretch.pos, stretch.pos + stretch.len);
        let (from, to) = (signal.sample_of(pos), signal.sample_of(stop.saturating_sub(1)).saturating_add(1));
        let (first, last) = match (windows.length(), windows.stride()) {
            (Some(length), Some(stride)) => {
                (if from < length { 0 } else { (from - length) / stride + 1 }, to.div_ceil(stride))
            }
            _ => (0, 1),
        };
        let last = stretch.ends.map_or(last, |samples| last.min(windows.count(samples)));
        for k in first..last {
            let span = windows.span(k, stretch.ends.unwrap_or(u64::MAX));
            let begin = signal.token_from(span.start);
            let end = match stretch.ends {
                Some(_) => signal.token_from(span.end).min(stop),
                None => signal.token_from(span.end),
            };
            let (here, there) = (begin.max(pos), end.min(stop));
            if here >= there || !self.starts.contains(&begin) {
                continue;
            }
            let closes = end <= stop;
            let slot = (k % windows.max_open()) as usize;
            segments.push(PoolSegment {
                rows: stretch.row + (here - pos) as usize..stretch.row + (there - pos) as usize,
                from: (begin < pos).then_some(slot),
                keep: (!closes).then_some(slot),
                count: if closes { end - begin } else { 0 },
            });
            if closes {
                closed.push(Closed { span, region: None });
            }
        }
    }

    /// The rows of a stretch when every token has its own: ranges of rows of the batch, and what
    /// they are, in the same order.
    pub(crate) fn tokens(&mut self, stretch: Stretch, mut row: impl FnMut(usize, Closed)) {
        let reversed = self.reversed;
        let stop = stretch.pos + stretch.len;
        if let Some(signal) = self.signal {
            for pos in stretch.pos.max(self.starts.start)..stop.min(self.starts.end) {
                let start = signal.sample_of(pos);
                let end = match stretch.ends {
                    Some(samples) if pos + 1 == stop => samples,
                    _ => signal.sample_of(pos + 1),
                };
                // Several tokens of a file of a lower rate begin at one sample.
                let span = Span::new(start, end.max(start + 1));
                row(stretch.row + (pos - stretch.pos) as usize, Closed { span, region: None });
            }
            return;
        }
        if let Some(cursor) = &mut self.regions {
            cursor.seek(stretch.pos, stop, |span| Self::turn(reversed, span));
            if cursor.open.is_empty() {
                return;
            }
        }
        for pos in stretch.pos..stop {
            let at = stretch.row + (pos - stretch.pos) as usize;
            let span = Self::turn(reversed, Span::new(pos, pos + 1));
            let Some(cursor) = &self.regions else {
                row(at, Closed { span, region: None });
                continue;
            };
            let mut over: Vec<u32> = cursor.open.iter().copied().collect();
            over.retain(|&i| {
                let region = &cursor.all[i as usize];
                region.start <= span.start && span.start < region.end
            });
            over.sort_unstable();
            if reversed.is_some() {
                over.reverse();
            }
            for i in over {
                row(at, Closed { span, region: Some(cursor.all[i as usize].name.clone()) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::collections::HashMap;

    /// Plays the segments on counters: each window must end with each of its bases seen once, in
    /// reading direction.
    fn play(mut tracker: WindowTracker, bases: u64, cuts: &[u64]) -> Vec<(Closed, Vec<u64>)> {
        let mut kept: HashMap<usize, Vec<u64>> = HashMap::new();
        let mut rows = Vec::new();
        let mut pos = 0;
        for cut in cuts.iter().cycle() {
            if pos == bases {
                return rows;
            }
            let len = *cut.min(&(bases - pos));
            let (mut segments, mut closed) = (Vec::new(), Vec::new());
            let stretch = Stretch { pos, len, row: 3, ends: (pos + len == bases).then_some(bases) };
            tracker.stretch(stretch, &mut segments, &mut closed);
            let mut closed = closed.into_iter();
            let before = kept.clone();
            for s in segments {
                assert!(!s.rows.is_empty());
                let mut seen = s.from.map(|slot| before[&slot].clone()).unwrap_or_default();
                seen.extend(s.rows.map(|r| pos + r as u64 - 3));
                match s.keep {
                    Some(slot) => drop(kept.insert(slot, seen)),
                    None => {
                        assert_eq!(s.count, seen.len() as u64);
                        rows.push((closed.next().unwrap(), seen));
                    }
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
                    for reversed in [None, Some(bases)] {
                        let tracker = WindowTracker::new(windows, reversed, None, "x");
                        let mut rows = play(tracker, bases, &[cut]);
                        assert_eq!(rows.len() as u64, windows.count(bases), "{windows:?} {bases} {cut}");
                        if reversed.is_some() {
                            rows.reverse();
                        }
                        for (k, (closed, mut seen)) in rows.into_iter().enumerate() {
                            assert_eq!(closed.span, windows.span(k as u64, bases));
                            if reversed.is_some() {
                                seen.iter_mut().for_each(|p| *p = bases - 1 - *p);
                                seen.reverse();
                            }
                            assert_eq!(seen, (closed.span.start..closed.span.end).collect::<Vec<_>>());
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn intervals_of_any_kind(
            bases in 1..60_u64, lens in prop::collection::vec((0..60_u64, 1..30_u64), 1..9),
            window in prop::option::of((1..9_u64, 1..9_u64)),
            cuts in prop::collection::vec(1..12_u64, 1..6), back in any::<bool>(),
        ) {
            let intervals: Vec<_> = lens.iter().enumerate()
                .map(|(i, (start, len))| (start % bases, (start % bases + len).min(bases), format!("r{i}")))
                .collect();
            let regions = Regions::new(intervals.iter().map(|(s, e, name)| ("x", *s, *e, &**name)));
            let windows = window.map_or(Windows::record(), |(l, s)| Windows::tiled(l, s).unwrap());
            let reversed = back.then_some(bases);
            let tracker = WindowTracker::new(windows, reversed, Some(&regions), "x");
            let rows = play(tracker, bases, &cuts);
            // The same rows in the same order, whatever the cuts.
            let whole = play(WindowTracker::new(windows, reversed, Some(&regions), "x"), bases, &[64]);
            prop_assert_eq!(&rows, &whole);
            // Of equal windows that of the earlier interval is first, in both directions.
            let sorted = regions.of("x");
            let number = |c: &Closed| sorted.iter().position(|r| Some(&r.name) == c.region.as_ref());
            let key = |c: &Closed| (c.span.start, c.span.end, number(c));
            if back {
                let keys: Vec<_> = rows.iter().rev().map(|(c, _)| key(c)).collect();
                prop_assert!(keys.is_sorted());
            } else {
                let keys: Vec<_> = rows.iter().map(|(c, _)| (c.span.end, key(c))).collect();
                prop_assert!(keys.is_sorted());
            }
            let mut found: Vec<_> = rows.into_iter().map(|(c, mut seen)| {
                if back {
                    seen.iter_mut().for_each(|p| *p = bases - 1 - *p);
                    seen.reverse();
                }
                assert_eq!(seen, (c.span.start..c.span.end).collect::<Vec<_>>());
                (c.region.unwrap().to_string(), c.span.start, c.span.end)
            }).collect();
            let mut want: Vec<_> = intervals.iter().flat_map(|(start, end, name)| {
                (0..windows.count(end - start)).map(move |k| {
                    let span = windows.span(k, end - start);
                    (name.clone(), start + span.start, start + span.end)
                })
            }).collect();
            found.sort();
            want.sort();
            prop_assert_eq!(found, want);
        }
    }
}
