use std::ops::Range;
use std::sync::Arc;

use mseq_backend::LaneSpan;
use mseq_backend::ops::PoolSegment;
use mseq_core::{Front, Pool, RowKey, Strand};

use crate::cells::{Cells, Framer};
use crate::engine::RecordSummary;
use crate::packer::{BatchOutput, ChunkBatch, EngineConfig, Open, SLOTS};
use crate::windows::Stretch;

/// A step in the making.
pub(crate) struct Step {
    /// Ids, or samples as bits.
    cells: Vec<u32>,
    pub(crate) rows: usize,
    front: Front,
    of_samples: bool,
    /// First row and first cell of the tokens that follow each other without a gap, up to the end.
    run: (usize, usize),
    /// Cells of each lane.
    lane_cells: Vec<Range<usize>>,
    /// First row of the record that is open, after its warm-up.
    pub(crate) part: usize,
    /// Rows of the warm-up, at the start of the step.
    warm_rows: usize,
    /// The slot that the step's first lane reads.
    continued: Option<usize>,
    lanes: Vec<LaneSpan>,
    segments: Vec<PoolSegment>,
    ranges: Vec<Range<usize>>,
    keys: Vec<RowKey>,
    pub(crate) done: Vec<RecordSummary>,
}

impl Step {
    /// `cells`: empty, with room.
    pub(crate) fn new(continued: Option<usize>, framer: &Framer, cells: Vec<u32>) -> Self {
        Self {
            cells,
            rows: 0,
            front: framer.front(),
            of_samples: framer.of_samples(),
            run: (0, 0),
            lane_cells: Vec::new(),
            part: 0,
            warm_rows: 0,
            continued,
            lanes: Vec::new(),
            segments: Vec::new(),
            ranges: Vec::new(),
            keys: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Adds tokens of the record that is open.
    pub(crate) fn append(&mut self, tokens: &Cells) {
        if self.rows == self.run.0 {
            self.cells.extend_from_slice(tokens.all());
        } else {
            self.cells.extend_from_slice(tokens.new_ones());
        }
        self.rows += tokens.len();
    }

    /// The cells of rows that are in one run, the last.
    fn cells_of(&self, rows: &Range<usize>) -> Range<usize> {
        let (row, cell) = self.run;
        let start = cell + (rows.start - row) * self.front.hop;
        start..start + self.front.samples(rows.len())
    }

    /// Takes the rows since the last call as the part of `record` in this step. `ends`: its last, and
    /// what it has of bases or of samples of its file.
    pub(crate) fn close(&mut self, config: &EngineConfig, record: &mut Open, ends: Option<u64>) {
        let (row, stop) = (self.part, self.rows);
        self.part = stop;
        let len = (stop - row) as u64;
        if len > 0 {
            self.add_lanes(config, record, row, ends.is_some());
        }
        if ends.is_some() {
            // Its last tokens may have been passed over, but the next record's share no cell with it.
            self.run = (stop, self.cells.len());
        }
        if len == 0 {
            return;
        }
        let mut closed = Vec::new();
        let stretch = Stretch { pos: record.pos, len, row, ends };
        if config.pool == Pool::None {
            record.windows.tokens(stretch, |row, token| {
                match self.ranges.last_mut() {
                    Some(range) if range.end == row => range.end += 1,
                    _ => self.ranges.push(row..row + 1),
                }
                closed.push(token);
            });
        } else {
            record.windows.stretch(stretch, &mut self.segments, &mut closed);
        }
        record.pos += len;
        record.rows += closed.len() as u64;
        let head = &record.head;
        self.keys.extend(closed.into_iter().map(|row| RowKey {
            source: Arc::clone(&head.source),
            record: Arc::clone(&head.id),
            record_index: head.index,
            start: row.span.start,
            end: row.span.end,
            strand: match (head.signal, head.reversed) {
                (Some(_), _) => Strand::Both,
                (None, Some(_)) => Strand::Reverse,
                (None, None) => Strand::Forward,
            },
            region: row.region,
            rate: head.signal.map(|signal| signal.rate),
        }));
    }

    /// Puts the tokens that warm up a piece before the first that gives output.
    pub(crate) fn warm_up(&mut self, config: &EngineConfig, record: &mut Open) {
        let take = record.cold(config).min(config.chunk);
        if take == 0 {
            return;
        }
        self.append(&record.tail.range(record.warmed, take, self.front));
        let fresh = record.warmed == 0;
        record.warmed += take;
        let slot = self.keep_slot(fresh, record.slot);
        self.lane_cells.push(self.cells_of(&(0..take)));
        self.lanes.push(LaneSpan { rows: 0..take, fresh, slot });
        record.slot = slot;
        (self.part, self.warm_rows) = (take, take);
    }

    /// Where a lane that goes on keeps its state: not in the slot that this step still reads.
    fn keep_slot(&self, fresh: bool, slot: Option<usize>) -> Option<usize> {
        if fresh { Some(self.continued.map_or(0, |slot| (slot + 1) % SLOTS)) } else { slot }
    }

    /// One lane for each piece of `context`, or one in all.
    fn add_lanes(&mut self, config: &EngineConfig, record: &mut Open, mut row: usize, ends: bool) {
        let stop = self.rows;
        let mut pos = record.pos;
        while row < stop {
            let left = config.context.map_or(u64::MAX, |c| c.left(pos));
            let end = stop.min(row.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
            let len = (end - row) as u64;
            let begins = config.context.map_or(pos == 0, |c| c.begins(pos));
            let fresh = begins && record.warmed == 0;
            let goes_on = end == stop && !ends && len < left;
            match self.lanes.last_mut() {
                // The warm-up of this step is the start of the same lane.
                Some(lane) if !fresh && row > 0 && lane.rows.end == row && row == self.warm_rows => {
                    lane.rows.end = end;
                    let rows = lane.rows.clone();
                    if lane.fresh && !goes_on {
                        lane.slot = None;
                    }
                    let cells = self.cells_of(&rows);
                    if let Some(last) = self.lane_cells.last_mut() {
                        *last = cells;
                    }
                }
                _ => {
                    let slot = match (fresh, goes_on) {
                        (true, false) => None,
                        _ => self.keep_slot(fresh, record.slot),
                    };
                    self.lane_cells.push(self.cells_of(&(row..end)));
                    self.lanes.push(LaneSpan { rows: row..end, fresh, slot });
                }
            }
            let slot = self.lanes.last().and_then(|lane| lane.slot);
            record.slot = if goes_on { slot } else { None };
            record.warmed = 0;
            row = end;
            pos += len;
        }
    }

    pub(crate) fn finish(self, config: &EngineConfig) -> Option<ChunkBatch> {
        if self.rows == 0 && self.done.is_empty() {
            return None;
        }
        let output = match config.pool {
            Pool::None => BatchOutput::Rows(self.ranges),
            _ => BatchOutput::Pool(self.segments),
        };
        let (ids, samples, lane_samples) = match self.of_samples {
            true => (Vec::new(), self.cells.into_iter().map(f32::from_bits).collect(), self.lane_cells),
            false => (self.cells, Vec::new(), Vec::new()),
        };
        let (lanes, keys, done) = (self.lanes, self.keys, self.done);
        Some(ChunkBatch { ids, samples, lane_samples, lanes, output, keys, done })
    }
}
