use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use mseq_backend::LaneSpan;
use mseq_backend::ops::PoolSegment;
use mseq_core::{
    Front, Item, Layer, Pool, RecordHead, RecordTail, Regions, RowKey, SequenceFormat, SoundWindows, Windows,
};

use crate::cells::{Cells, Framer, Piece, Tail};
use crate::context::Context;
use crate::engine::RecordSummary;
use crate::position::{Position, Trail};
use crate::step::Step;
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
    /// The model sees pieces of a record, each from a zero state; `None`: whole records.
    pub context: Option<Context>,
    /// Windows are cut from these intervals; `None`: from whole records.
    pub regions: Option<Arc<Regions>>,
    /// Of these records, by index, only a part.
    pub parts: Option<Arc<BTreeMap<u64, Part>>>,
    /// A sequence that goes on in the next step is cut at a multiple of this many tokens from its
    /// start, at least 1 and at most `chunk`: a device that cuts time into tiles then has the same
    /// tiles under any `chunk`.
    pub grid: usize,
    /// For a model of audio: how its tokens are made, and windows of recordings. `None`: DNA.
    pub audio: Option<AudioConfig>,
}

/// What is wanted of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Only windows whose first token is here. Both ends are places where a piece of `context` begins to
    /// give output, so that nothing before the piece is run.
    pub starts: Range<u64>,
    /// Tokens from this one on are not run: none of these windows has them.
    pub until: u64,
}

/// What a model of audio needs beside the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioConfig {
    /// How tokens are made of samples; `None`: the source gives tokens.
    pub front: Option<Front>,
    /// Windows of a record, in samples of its file.
    pub windows: SoundWindows,
}

impl EngineConfig {
    /// The windows of a record of text.
    pub fn windows(&self, format: SequenceFormat) -> Windows {
        match format {
            SequenceFormat::Fasta => self.fasta_windows,
            SequenceFormat::Fastq | SequenceFormat::Audio => self.fastq_windows,
        }
    }

    /// The windows of a record.
    pub fn windows_of(&self, head: &RecordHead) -> Windows {
        match (&self.audio, head.signal) {
            (Some(audio), Some(signal)) => audio.windows.at(signal.rate),
            _ => self.windows(head.format),
        }
    }

    /// Tokens that a record which is at `pos` may take of `room`.
    fn aligned(&self, pos: u64, room: usize) -> usize {
        let end = pos + room as u64;
        let inside = self.context.map_or(end, |context| context.inside(end));
        let over = (inside % self.grid.max(1) as u64) as usize;
        room.saturating_sub(over)
    }

    /// Window sums that a job keeps open at once.
    pub fn open_windows(&self) -> u64 {
        match self.pool {
            Pool::None => 0,
            _ => {
                let each = match &self.audio {
                    Some(audio) => audio.windows.max_open(),
                    None => self.fasta_windows.max_open().max(self.fastq_windows.max_open()),
                };
                each.saturating_mul(self.regions.as_ref().map_or(1, |regions| regions.depth().max(1)))
            }
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
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkBatch {
    /// Token ids of all lanes, one after the other; empty for a model that reads samples.
    pub ids: Vec<u32>,
    /// Samples of all lanes, for a model that reads them.
    pub samples: Vec<f32>,
    /// The samples of each lane: all that its rows are computed from. Lanes may have some in common.
    pub lane_samples: Vec<Range<usize>>,
    /// Which rows belong to which sequence. At most one lane continues and one is kept.
    pub lanes: Vec<LaneSpan>,
    /// What comes back.
    pub output: BatchOutput,
    /// Key of each row that comes back.
    pub keys: Vec<RowKey>,
    /// Records that end in this step.
    pub done: Vec<RecordSummary>,
}

impl ChunkBatch {
    /// Rows of all lanes.
    pub fn rows(&self) -> usize {
        self.lanes.last().map_or(0, |lane| lane.rows.end)
    }
}

/// A record on its way through the packer.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) head: RecordHead,
    pub(crate) windows: WindowTracker,
    /// Tokens before the part that is wanted.
    from: u64,
    /// Where it has ended.
    until: u64,
    /// Tokens that went into earlier steps.
    pub(crate) pos: u64,
    /// Rows that closed.
    pub(crate) rows: u64,
    /// Where its state lies between two steps; `None` where a piece of `context` begins.
    pub(crate) slot: Option<usize>,
    /// The last `overlap` tokens before `pos`.
    pub(crate) tail: Tail,
    /// Tokens of the tail that went through the model to warm up the piece that begins at `pos`.
    pub(crate) warmed: usize,
}

impl Open {
    fn new(config: &EngineConfig, head: RecordHead) -> Self {
        let regions = config.regions.as_deref();
        let part = config.parts.as_ref().and_then(|parts| parts.get(&head.index)).cloned();
        let (from, until) = part.as_ref().map_or((0, u64::MAX), |part| (part.starts.start, part.until));
        let mut windows = WindowTracker::new(config.windows_of(&head), head.reversed, regions, &head.id);
        windows.only(part.map(|part| part.starts));
        windows.of_sound(head.signal);
        Self { head, windows, from, until, pos: 0, rows: 0, slot: None, tail: Tail::default(), warmed: 0 }
    }

    /// Keeps the tail that a later piece may need.
    fn remember(&mut self, config: &EngineConfig, tokens: &Cells) {
        let overlap = config.context.map_or(0, |c| c.overlap as usize);
        if overlap > 0 {
            self.tail.push(tokens, overlap);
        }
    }

    /// What is to be said of the record, which ends.
    fn summary(self, config: &EngineConfig, tail: RecordTail) -> RecordSummary {
        let windows = match self.head.signal {
            Some(_) if config.pool != Pool::None && !self.is_part() => {
                config.windows_of(&self.head).count(tail.bases)
            }
            _ => self.rows,
        };
        let skipped_windows = windows.saturating_sub(self.rows);
        RecordSummary { head: self.head, tail, rows: self.rows, tokens: self.pos, skipped_windows }
    }

    /// Whether not all of it is wanted.
    fn is_part(&self) -> bool {
        self.from > 0 || self.until < u64::MAX
    }

    /// Tokens that have to warm up the piece that begins here, and have not yet.
    pub(crate) fn cold(&self, config: &EngineConfig) -> usize {
        match config.context {
            Some(c) if self.pos > 0 && (self.from..self.until).contains(&self.pos) && c.begins(self.pos) => {
                self.tail.len() - self.warmed
            }
            _ => 0,
        }
    }
}

/// Cuts the stream of items into steps of `chunk` tokens.
#[derive(Debug)]
pub struct Packer {
    config: EngineConfig,
    framer: Framer,
    queue: VecDeque<Piece>,
    /// Tokens in the queue.
    waiting: usize,
    open: Option<Open>,
    /// What the steps so far have taken from the input.
    trail: Trail,
    /// Where a resumed job goes on; until then items are only followed, not cut into steps.
    resume: Option<Position>,
    /// Cells of steps that are done, for steps to come: the largest block of a job on samples, which a
    /// heap would otherwise find another place for in each step.
    spare: Vec<Vec<u32>>,
}

/// Blocks that are kept for later steps: one that is packed, and those that a device works on.
const SPARE: usize = crate::threaded::AHEAD + 1;

/// State slots that a runner needs: the record that continues, and the one that is kept.
pub(crate) const SLOTS: usize = 2;

impl Packer {
    /// An empty packer.
    pub fn new(config: EngineConfig) -> Self {
        let framer = Framer::new(config.audio.and_then(|audio| audio.front));
        let (queue, trail) = (VecDeque::new(), Trail::default());
        Self { config, framer, queue, waiting: 0, open: None, trail, resume: None, spare: Vec::new() }
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
        let (tokens, piece) = self.framer.take(item)?;
        for piece in tokens.map(Piece::Tokens).into_iter().chain(piece) {
            let Some(piece) = (match &self.resume {
                Some(_) => self.follow(piece)?,
                None => Some(piece),
            }) else {
                continue;
            };
            if let Piece::Tokens(tokens) = &piece {
                self.waiting += tokens.len();
            }
            self.queue.push_back(piece);
        }
        Ok(())
    }

    /// Whether the input ended before the position of a resumed job.
    pub fn is_short(&self) -> bool {
        self.resume.is_some()
    }

    /// Passes over an item of the earlier job; gives back what lies after its position.
    fn follow(&mut self, item: Piece) -> Result<Option<Piece>> {
        let Some(position) = &self.resume else { return Ok(Some(item)) };
        let mut rest = None;
        match item {
            Piece::Begin(head) => {
                self.trail.begin(&head);
                self.open = Some(Open::new(&self.config, head));
            }
            Piece::Tokens(mut tokens) => {
                let left = if self.trail.records == position.records {
                    position.pos - self.trail.pos
                } else {
                    u64::MAX
                };
                if tokens.len() as u64 > left {
                    rest = Some(Piece::Tokens(tokens.split_off(left as usize)));
                }
                self.trail.tokens(&tokens);
                if let Some(record) = &mut self.open {
                    record.remember(&self.config, &tokens);
                }
            }
            Piece::End(tail) => {
                self.trail.end(&tail);
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
                && !matches!(self.queue.back(), None | Some(Piece::Tokens(_))))
    }

    /// The next step, of at most `chunk` tokens; `None` when nothing is waiting.
    ///
    /// # Errors
    /// When items come in an order that no source makes.
    pub fn cut(&mut self) -> Result<Option<ChunkBatch>> {
        let mut cells = self.spare.pop().unwrap_or_default();
        // All at once: one that grows leaves holes of every size behind.
        cells.reserve(self.framer.front().samples(self.waiting.min(self.config.chunk)));
        let mut step = Step::new(self.open.as_ref().and_then(|r| r.slot), &self.framer, cells);
        if let Some(record) = &mut self.open
            && self.waiting > 0
        {
            step.warm_up(&self.config, record);
            if step.rows == self.config.chunk {
                return Ok(step.finish(&self.config));
            }
        }
        while let Some(item) = self.queue.pop_front() {
            match item {
                Piece::Begin(head) => {
                    if self.open.is_some() {
                        return Err(Error::Stream("a record began inside another"));
                    }
                    self.trail.begin(&head);
                    self.open = Some(Open::new(&self.config, head));
                }
                Piece::Tokens(mut tokens) => {
                    let record = self.open.as_mut().ok_or(Error::Stream("tokens outside a record"))?;
                    if record.pos < record.from {
                        let before = usize::try_from(record.from - record.pos).unwrap_or(usize::MAX);
                        let rest = tokens.split_off(before.min(tokens.len()));
                        self.waiting -= tokens.len();
                        self.trail.tokens(&tokens);
                        record.remember(&self.config, &tokens);
                        record.pos += tokens.len() as u64;
                        if rest.len() > 0 {
                            self.queue.push_front(Piece::Tokens(rest));
                        }
                        if record.cold(&self.config) > 0 && record.pos == record.from {
                            // The warm-up is at the start of a step.
                            if step.rows > 0 {
                                break;
                            }
                            step.warm_up(&self.config, record);
                            if step.rows == self.config.chunk {
                                break;
                            }
                        }
                        continue;
                    }
                    let part = (step.rows - step.part) as u64;
                    if record.pos + part >= record.until {
                        step.close(&self.config, record, None);
                        self.waiting -= tokens.len();
                        self.trail.tokens(&tokens);
                        record.pos += tokens.len() as u64;
                        continue;
                    }
                    let room = self.config.chunk - step.part;
                    let aligned = match self.config.aligned(record.pos, room) {
                        0 if step.rows == 0 => room,
                        aligned => aligned,
                    };
                    let space = aligned.saturating_sub(part as usize).min(match self.config.context {
                        // With an overlap a piece begins with tokens that are already done: in a
                        // step of its own, so that the rows of a window stay together.
                        Some(c) if c.overlap > 0 => {
                            usize::try_from(c.left(record.pos) - part).unwrap_or(usize::MAX)
                        }
                        _ => usize::MAX,
                    });
                    let left = usize::try_from(record.until - record.pos - part).unwrap_or(usize::MAX);
                    let space = space.min(left);
                    if space == 0 {
                        self.queue.push_front(Piece::Tokens(tokens));
                        break;
                    }
                    if tokens.len() <= space && self.queue.is_empty() {
                        // Where tokens were passed over, these do not fill a step, and may be the record's last:
                        // what follows tells.
                        self.queue.push_front(Piece::Tokens(tokens));
                        break;
                    }
                    if tokens.len() > space {
                        self.queue.push_front(Piece::Tokens(tokens.split_off(space)));
                    }
                    self.waiting -= tokens.len();
                    self.trail.tokens(&tokens);
                    record.remember(&self.config, &tokens);
                    let full = tokens.len() == space;
                    step.append(&tokens);
                    // The item after a full step still belongs to it when it ends the record.
                    if full && matches!(self.queue.front(), Some(Piece::Tokens(_))) {
                        break;
                    }
                }
                Piece::End(tail) => {
                    let mut record = self.open.take().ok_or(Error::Stream("a record ended outside one"))?;
                    self.trail.end(&tail);
                    step.close(&self.config, &mut record, Some(tail.bases));
                    step.done.push(record.summary(&self.config, tail));
                }
            }
        }
        if let Some(record) = &mut self.open {
            step.close(&self.config, record, None);
        }
        Ok(step.finish(&self.config))
    }

    /// Takes the room of a step that is done, for one to come.
    pub(crate) fn reuse(&mut self, batch: &mut ChunkBatch) {
        let ids = std::mem::take(&mut batch.ids);
        let samples = std::mem::take(&mut batch.samples);
        // In place: both have four bytes.
        let mut cells =
            if ids.capacity() > 0 { ids } else { samples.into_iter().map(f32::to_bits).collect() };
        cells.clear();
        if cells.capacity() > 0 && self.spare.len() < SPARE {
            self.spare.push(cells);
        }
    }

    /// Where the steps so far have come to.
    pub fn position(&self) -> Position {
        let position = self.trail.position();
        match &self.open {
            // A warm-up that was cut off is done again.
            Some(record) if record.warmed > 0 => Position { rows: record.rows, ..position },
            Some(record) => Position { rows: record.rows, slot: record.slot, ..position },
            None => position,
        }
    }
}
