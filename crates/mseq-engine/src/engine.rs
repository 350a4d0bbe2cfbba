use mseq_core::{Item, RecordHead, RecordTail, RowBlock};

use crate::packer::{ChunkBatch, EngineConfig, Packer};
use crate::runner::Runner;
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

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.runner.dim()
    }

    /// Takes the next item; the steps that it completes go to `out`.
    ///
    /// # Errors
    /// When the device or `out` fails.
    pub fn push<E: From<Error>>(&mut self, item: Item, mut out: impl FnMut(Step) -> Result<(), E>) -> Result<(), E> {
        self.packer.push(item);
        while self.packer.ready() {
            match self.packer.cut()? {
                Some(batch) => out(self.run(batch)?)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Runs what is left after the last item.
    ///
    /// # Errors
    /// When the device or `out` fails.
    pub fn finish<E: From<Error>>(&mut self, mut out: impl FnMut(Step) -> Result<(), E>) -> Result<(), E> {
        while let Some(batch) = self.packer.cut()? {
            out(self.run(batch)?)?;
        }
        Ok(())
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
