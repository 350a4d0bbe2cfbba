use mseq_core::{Item, RecordHead, RecordTail, RowBlock};

use crate::packer::{ChunkBatch, EngineConfig, Packer};
use crate::position::Position;
use crate::runner::{Runner, Snapshot};
use crate::{Error, Result};

/// A record that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSummary {
    /// Which.
    pub head: RecordHead,
    /// What was counted while reading it.
    pub tail: RecordTail,
    /// Rows that it gave.
    pub rows: u64,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Rows, in output order.
    pub rows: RowBlock,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Records that ended.
    pub done: Vec<RecordSummary>,
}

/// Feeds a runner from a stream of items.
pub struct Engine {
    packer: Packer,
    runner: Box<dyn Runner>,
}

impl Engine {
    /// An engine at the start of its input.
    pub fn new(config: EngineConfig, runner: Box<dyn Runner>) -> Self {
        Self { packer: Packer::new(config), runner }
    }

    /// An engine that passes over what an earlier one has done and goes on from its state.
    ///
    /// # Errors
    /// When the snapshot does not fit the model.
    pub fn resume(
        config: EngineConfig,
        mut runner: Box<dyn Runner>,
        position: Position,
        snapshot: &Snapshot,
    ) -> Result<Self> {
        runner.restore(snapshot)?;
        Ok(Self { packer: Packer::resume(config, position), runner })
    }

    /// Where the steps so far have come to, and the state there.
    ///
    /// # Errors
    /// When the device fails.
    pub fn snapshot(&self) -> Result<(Position, Snapshot)> {
        Ok((self.packer.position(), self.runner.snapshot()?))
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.runner.dim()
    }

    /// Whether the input has not come to the position of the earlier job yet.
    pub fn is_resuming(&self) -> bool {
        self.packer.is_short()
    }

    /// Takes the next item; then [`Engine::step`] runs the steps that it completes.
    ///
    /// # Errors
    /// [`Error::OtherInput`] when a resumed job does not find the input that the earlier one read.
    pub fn push(&mut self, item: Item) -> Result<()> {
        self.packer.push(item)
    }

    /// Runs the next full step; `None` when more items are needed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if self.packer.ready() { self.last_step() } else { Ok(None) }
    }

    /// Runs the next step after the last item, full or not; `None` when nothing is left.
    ///
    /// # Errors
    /// When the device fails, or the input of a resumed job ended too early.
    pub fn last_step(&mut self) -> Result<Option<Step>> {
        if self.packer.is_short() {
            return Err(Error::OtherInput);
        }
        match self.packer.cut()? {
            Some(batch) => self.run(batch).map(Some),
            None => Ok(None),
        }
    }

    fn run(&mut self, batch: ChunkBatch) -> Result<Step> {
        let tokens = batch.ids.len() as u64;
        let values = if batch.ids.is_empty() { Vec::new() } else { self.runner.run(&batch)? };
        let rows = RowBlock { keys: batch.keys, dim: self.runner.dim(), values };
        if rows.values.len() != rows.keys.len() * rows.dim {
            return Err(Error::Stream("the runner gave another number of rows than the windows that closed"));
        }
        Ok(Step { rows, tokens, done: batch.done })
    }
}
