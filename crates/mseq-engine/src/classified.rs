use std::sync::Arc;

use mseq_model::RowHead;

use crate::packer::ChunkBatch;
use crate::runner::{Runner, Snapshot, Values};
use crate::{Error, Result};

/// A runner whose rows go through a head: what is a row of hidden states becomes one of
/// probabilities, or a number.
pub struct Classified {
    runner: Box<dyn Runner>,
    head: Arc<RowHead>,
}

impl Classified {
    /// # Errors
    /// When the head is for rows of another width.
    pub fn new(runner: Box<dyn Runner>, head: Arc<RowHead>) -> Result<Self> {
        if runner.dim() != head.dim() {
            return Err(Error::Stream("the head takes rows of another width than the model gives"));
        }
        Ok(Self { runner, head })
    }
}

impl Runner for Classified {
    fn dim(&self) -> usize {
        self.head.outputs()
    }

    fn device(&self) -> String {
        self.runner.device()
    }

    fn run(&mut self, batch: &ChunkBatch) -> Result<Values> {
        let rows = self.runner.run(batch)?.numbers;
        // A NaN of the model becomes one of what is said, which the sink finds.
        let numbers: Vec<f32> =
            rows.chunks_exact(self.head.dim()).flat_map(|row| self.head.say(row)).collect();
        Ok(numbers.into())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        self.runner.snapshot()
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.runner.restore(snapshot)
    }
}
