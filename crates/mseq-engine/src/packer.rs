use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use mseq_backend::LaneSpan;
use mseq_backend::ops::PoolSegment;
use mseq_core::{Item, Layer, Pool, RecordHead, RowKey, SequenceFormat, Span, Strand, Windows};

use crate::engine::RecordSummary;
use crate::position::{Position, Trail};
use crate::windows::WindowTracker;
use crate::{Error, Result};

/// What to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// How the tokens of a window become a row.
    pub pool: Pool,
    /// Which hidden states.
    pub layer: Layer,
    /// Windows of FASTA records.
    pub fasta_windows: Windows,
    /// Windows of FASTQ records.
    pub fastq_windows: Windows,
    /// Tokens a step, at least 1.
    pub chunk: usize,
    /// The model sees pieces of this many tokens, each from a zero state; `None`: whole records.
    pub context: Option<u64>,
}

impl EngineConfig {
    /// The windows of a record.
    pub fn windows(&self, format: SequenceFormat) -> Windows {
        match format {
            SequenceFormat::Fasta => self.fasta_windows,
            SequenceFormat::Fastq => self.fastq_windows,
        }
    }

    /// Window sums that a job keeps open at once.
    pub fn open_windows(&self) -> u64 {
        match self.pool {
            Pool::None => 0,
            _ => self.fasta_windows.max_open().max(self.fastq_windows.max_open()),
        }
    }
}

/// What a runner gives back of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutput {
    /// One row a closed window.
    Pool(Vec<PoolSegment>),
    /// These rows as they are.
    Rows(Vec<Range<usize>>),
}

/// One step: tokens of one or more records, and what is to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkBatch {
    /// Token ids of all lanes, one after the other.
    pub ids: Vec<u32>,
    /// Which rows belong to which sequence. At most one lane continues and one is kept.
    pub lanes: Vec<LaneSpan>,
    /// What comes back.
    pub output: BatchOutput,
    /// Key of each row that comes back.
    pub keys: Vec<RowKey>,
    /// Records that end in this step.
    pub done: Vec<RecordSummary>,
}

/// A record on its way through the packer.
#[derive(Debug)]
struct Open {
    head: RecordHead,
    windows: WindowTracker,
    /// Tokens that went into earlier steps.
    pos: u64,
    /// Rows that closed.
    rows: u64,
    /// Where its state lies between two steps; `None` at a border of `context`.
    slot: Option<usize>,
}

/// Cuts the stream of items into steps of `chunk` tokens.
#[derive(Debug)]
pub struct Packer {
    config: EngineConfig,
    queue: VecDeque<Item>,
    /// Tokens in the queue.
    waiting: usize,
    open: Option<Open>,
    /// What the steps so far have taken from the input.
    trail: Trail,
    /// Where a resumed job goes on; until then items are only followed, not cut into steps.
    resume: Option<Position>,
}

/// State slots that a runner needs: the record that continues, and the one that is kept.
pub(crate) const SLOTS: usize = 2;

impl Packer {
    /// An empty packer.
    pub fn new(config: EngineConfig) -> Self {
        Self { config, queue: VecDeque::new(), waiting: 0, open: None, trail: Trail::default(), resume: None }
    }

    /// A packer that passes over what an earlier job has done, and goes on at `position`.
    pub fn resume(config: EngineConfig, position: Position) -> Self {
        Self { resume: (!position.is_start()).then_some(position), ..Self::new(config) }
    }

    /// Takes the next item.
    ///
    /// # Errors
    /// [`Error::OtherInput`] when a resumed job does not find the input that the earlier one read.
    pub fn push(&mut self, item: Item) -> Result<()> {
        let Some(item) = (match &self.resume {
            Some(_) => self.follow(item)?,
            None => Some(item),
        }) else {
            return Ok(());
        };
        if let Item::Tokens(tokens) = &item {
            self.waiting += tokens.len();
        }
        self.queue.push_back(item);
        Ok(())
    }

    /// Whether the input ended before the position of a resumed job.
    pub fn is_short(&self) -> bool {
        self.resume.is_some()
    }

    /// Passes over an item of the earlier job; gives back what lies after its position.
    fn follow(&mut self, item: Item) -> Result<Option<Item>> {
        let Some(position) = &self.resume else { return Ok(Some(item)) };
        let mut rest = None;
        match item {
            Item::Begin(head) => {
                self.trail.begin(&head);
                let windows = WindowTracker::new(self.config.windows(head.format));
                self.open = Some(Open { head, windows, pos: 0, rows: 0, slot: None });
            }
            Item::Tokens(mut tokens) => {
                let left = if self.trail.records == position.records {
                    position.pos - self.trail.pos
                } else {
                    u64::MAX
                };
                if tokens.len() as u64 > left {
                    rest = Some(Item::Tokens(tokens.split_off(left as usize)));
                }
                self.trail.tokens(&tokens);
            }
            Item::End(_) => {
                self.trail.end();
                self.open = None;
            }
        }
        if self.trail.position().is_at(position) {
            if self.trail.position().digest != position.digest {
                return Err(Error::OtherInput);
            }
            if let Some(record) = &mut self.open {
                (record.pos, record.rows, record.slot) = (position.pos, position.rows, position.slot);
            }
            self.resume = None;
        } else if self.trail.is_past(position) || rest.is_some() {
            return Err(Error::OtherInput);
        }
        Ok(rest)
    }

    /// Whether a step can be cut: enough tokens, and the item after them is known, so that a
    /// record's last token is recognised as such.
    pub fn ready(&self) -> bool {
        self.waiting > self.config.chunk
            || (self.waiting == self.config.chunk
                && !matches!(self.queue.back(), None | Some(Item::Tokens(_))))
    }

    /// The next step, of at most `chunk` tokens; `None` when nothing is waiting.
    ///
    /// # Errors
    /// When items come in an order that no source makes.
    pub fn cut(&mut self) -> Result<Option<ChunkBatch>> {
        let mut step = Step::new(self.open.as_ref().and_then(|r| r.slot));
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Begin(head) => {
                    if self.open.is_some() {
                        return Err(Error::Stream("a record began inside another"));
                    }
                    self.trail.begin(&head);
                    let windows = WindowTracker::new(self.config.windows(head.format));
                    self.open = Some(Open { head, windows, pos: 0, rows: 0, slot: None });
                }
                Item::Tokens(mut tokens) => {
                    if self.open.is_none() {
                        return Err(Error::Stream("tokens outside a record"));
                    }
                    let space = self.config.chunk - step.ids.len();
                    if tokens.len() > space {
                        self.queue.push_front(Item::Tokens(tokens.split_off(space)));
                    }
                    self.waiting -= tokens.len();
                    self.trail.tokens(&tokens);
                    step.ids.append(&mut tokens);
                    // The item after a full step still belongs to it when it ends the record.
                    if space == 0
                        || matches!(self.queue.front(), Some(Item::Tokens(_)) if step.ids.len() == self.config.chunk)
                    {
                        break;
                    }
                }
                Item::End(tail) => {
                    let mut record = self.open.take().ok_or(Error::Stream("a record ended outside one"))?;
                    self.trail.end();
                    step.close(&self.config, &mut record, true);
                    step.done.push(RecordSummary { head: record.head, tail, rows: record.rows });
                }
            }
        }
        if let Some(record) = &mut self.open {
            step.close(&self.config, record, false);
        }
        Ok(step.finish(&self.config))
    }

    /// Where the steps so far have come to.
    pub fn position(&self) -> Position {
        let position = self.trail.position();
        match &self.open {
            Some(record) => Position { rows: record.rows, slot: record.slot, ..position },
            None => position,
        }
    }
}

/// A step in the making.
struct Step {
    ids: Vec<u32>,
    /// First row of the record that is open.
    part: usize,
    /// The slot that the step's first lane reads.
    continued: Option<usize>,
    lanes: Vec<LaneSpan>,
    segments: Vec<PoolSegment>,
    ranges: Vec<Range<usize>>,
    keys: Vec<RowKey>,
    done: Vec<RecordSummary>,
}

impl Step {
    fn new(continued: Option<usize>) -> Self {
        Self {
            ids: Vec::new(),
            part: 0,
            continued,
            lanes: Vec::new(),
            segments: Vec::new(),
            ranges: Vec::new(),
            keys: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Takes the rows since the last call as the part of `record` in this step. `ends`: its last.
    fn close(&mut self, config: &EngineConfig, record: &mut Open, ends: bool) {
        let (row, stop) = (self.part, self.ids.len());
        self.part = stop;
        let len = (stop - row) as u64;
        if len == 0 {
            return;
        }
        self.add_lanes(config, record, row, ends);
        let mut spans = Vec::new();
        if config.pool == Pool::None {
            self.ranges.push(row..stop);
            spans.extend((record.pos..record.pos + len).map(|p| Span::new(p, p + 1)));
        } else {
            record.windows.stretch((record.pos, len, row, ends), &mut self.segments, &mut spans);
        }
        record.pos += len;
        record.rows += spans.len() as u64;
        let head = &record.head;
        self.keys.extend(spans.into_iter().map(|span| RowKey {
            source: Arc::clone(&head.source),
            record: Arc::clone(&head.id),
            record_index: head.index,
            start: span.start,
            end: span.end,
            strand: Strand::Forward,
        }));
    }

    /// One lane for each piece of `context`, or one in all.
    fn add_lanes(&mut self, config: &EngineConfig, record: &mut Open, mut row: usize, ends: bool) {
        let stop = self.ids.len();
        let mut pos = record.pos;
        while row < stop {
            let left = config.context.map_or(u64::MAX, |n| n - pos % n);
            let end = stop.min(row.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
            let len = (end - row) as u64;
            let fresh = config.context.map_or(pos == 0, |n| pos.is_multiple_of(n));
            let goes_on = end == stop && !ends && len < left;
            let slot = match (fresh, goes_on) {
                (false, _) => record.slot,
                // Not the slot that this step still reads.
                (true, true) => Some(self.continued.map_or(0, |slot| (slot + 1) % SLOTS)),
                (true, false) => None,
            };
            self.lanes.push(LaneSpan { rows: row..end, fresh, slot });
            record.slot = if goes_on { slot } else { None };
            row = end;
            pos += len;
        }
    }

    fn finish(self, config: &EngineConfig) -> Option<ChunkBatch> {
        if self.ids.is_empty() && self.done.is_empty() {
            return None;
        }
        let output = match config.pool {
            Pool::None => BatchOutput::Rows(self.ranges),
            _ => BatchOutput::Pool(self.segments),
        };
        Some(ChunkBatch { ids: self.ids, lanes: self.lanes, output, keys: self.keys, done: self.done })
    }
}
