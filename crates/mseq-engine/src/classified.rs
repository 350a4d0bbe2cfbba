use std::sync::Arc;

use mseq_model::ClassHead;

use crate::packer::ChunkBatch;
use crate::runner::{Runner, Snapshot, Values};
use crate::{Error, Result};

/// A runner whose rows go through a head: what is a row of hidden states becomes one of
/// probabilities.
pub struct Classified {
    runner: Box<dyn Runner>,
    head: Arc<ClassHead>,
}

impl Classified {
    /// # Errors
    /// When the head is for rows of another width.
    pub fn new(runner: Box<dyn Runner>, head: Arc<ClassHead>) -> Result<Self> {
        if runner.dim() != head.dim() {
            return Err(Error::Stream("the head takes rows of another width than the model gives"));
        }
        Ok(Self { runner, head })
    }
}

impl Runner for Classified {
    fn dim(&self) -> usize {
        self.head.classes().len()
    }

    fn device(&self) -> String {
        self.runner.device()
    }

    fn run(&mut self, batch: &ChunkBatch) -> Result<Values> {
        let rows = self.runner.run(batch)?.numbers;
        // A NaN of the model becomes one of the probabilities, which the sink finds.
        let numbers: Vec<f32> =
            rows.chunks_exact(self.head.dim()).flat_map(|row| self.head.probabilities(row)).collect();
        Ok(numbers.into())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        self.runner.snapshot()
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.runner.restore(snapshot)
    }
}
