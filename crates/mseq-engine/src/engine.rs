use mseq_core::{Item, RecordHead, RecordTail, RowBlock};

use crate::packer::{ChunkBatch, EngineConfig, Packer};
use crate::position::Position;
use crate::runner::{Runner, Snapshot, Values};
use crate::threaded::{AHEAD, Threaded};
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
    /// Its tokens.
    pub tokens: u64,
    /// Windows of a recording in which no token begins: they gave no row.
    pub skipped_windows: u64,
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
    on: On,
}

/// Where steps run.
enum On {
    /// On the thread that calls.
    Here(Box<dyn Runner>),
    /// On a thread of their own, a few ahead of what was collected.
    Ahead(Threaded),
}

impl Engine {
    /// An engine at the start of its input, whose steps run on the thread that calls.
    pub fn new(config: EngineConfig, runner: Box<dyn Runner>) -> Self {
        Self { packer: Packer::new(config), on: On::Here(runner) }
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
        Ok(Self { packer: Packer::resume(config, position), on: On::Here(runner) })
    }

    /// Moves the runner to a thread of its own, which alone uses its device from then on: packing the
    /// next step and running this one then happen side by side.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn ahead(self) -> Result<Self> {
        let on = match self.on {
            On::Here(runner) => On::Ahead(Threaded::new(runner)?),
            on => on,
        };
        Ok(Self { on, ..self })
    }

    /// Where the steps so far have come to, and the state there. Steps that run ahead must have been
    /// taken with [`Engine::drain`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn snapshot(&self) -> Result<(Position, Snapshot)> {
        let snapshot = match &self.on {
            On::Here(runner) => runner.snapshot()?,
            On::Ahead(device) => device.snapshot()?,
        };
        Ok((self.packer.position(), snapshot))
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        match &self.on {
            On::Here(runner) => runner.dim(),
            On::Ahead(device) => device.dim(),
        }
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
        while self.packer.ready() {
            let Some(batch) = self.packer.cut()? else { break };
            if let Some(step) = self.run(batch)? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// Runs the next step after the last item, full or not; `None` when nothing is left.
    ///
    /// # Errors
    /// When the device fails, or the input of a resumed job ended too early.
    pub fn last_step(&mut self) -> Result<Option<Step>> {
        if self.packer.is_short() {
            return Err(Error::OtherInput);
        }
        while let Some(batch) = self.packer.cut()? {
            if let Some(step) = self.run(batch)? {
                return Ok(Some(step));
            }
        }
        self.collect()
    }

    /// A step that ran ahead; `None` when there is none.
    ///
    /// # Errors
    /// When the device fails.
    pub fn drain(&mut self) -> Result<Option<Step>> {
        self.collect()
    }

    fn collect(&mut self) -> Result<Option<Step>> {
        match &mut self.on {
            On::Ahead(device) if device.waiting() > 0 => {
                let (mut batch, values) = device.collect()?;
                self.packer.reuse(&mut batch);
                step_of(batch, values, device.dim()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Runs a step, or lets it run and gives an earlier one.
    fn run(&mut self, mut batch: ChunkBatch) -> Result<Option<Step>> {
        match &mut self.on {
            On::Here(runner) => {
                let values = if batch.rows() == 0 { Values::default() } else { runner.run(&batch)? };
                self.packer.reuse(&mut batch);
                step_of(batch, values, runner.dim()).map(Some)
            }
            On::Ahead(device) => {
                device.submit(batch)?;
                if device.waiting() < AHEAD { Ok(None) } else { self.collect() }
            }
        }
    }
}

fn step_of(batch: ChunkBatch, values: Values, dim: usize) -> Result<Step> {
    let tokens = batch.rows() as u64;
    let rows = RowBlock { keys: batch.keys, dim, values: values.numbers, scores: values.scores };
    let scores = if dim == 0 { rows.keys.len() } else { 0 };
    if rows.values.len() != rows.keys.len() * rows.dim || rows.scores.len() != scores {
        return Err(Error::Stream("the runner gave another number of rows than the windows that closed"));
    }
    Ok(Step { rows, tokens, done: batch.done })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mseq_core::{Layer, Pool, SequenceFormat, Windows};
    use proptest::prelude::*;

    use super::*;
    use crate::context::Context;

    /// Gives the ids back, and writes down what it was given.
    struct Echo(Arc<Mutex<Vec<ChunkBatch>>>);

    impl Runner for Echo {
        fn dim(&self) -> usize {
            1
        }

        fn device(&self) -> String {
            "echo".into()
        }

        fn run(&mut self, batch: &ChunkBatch) -> Result<Values> {
            self.0.lock().unwrap().push(batch.clone());
            let crate::packer::BatchOutput::Rows(ranges) = &batch.output else {
                return Ok(Values::default());
            };
            let numbers: Vec<f32> =
                ranges.iter().cloned().flatten().map(|row| batch.ids[row] as f32).collect();
            Ok(numbers.into())
        }

        fn snapshot(&self) -> Result<Snapshot> {
            Ok(Snapshot::default())
        }

        fn restore(&mut self, _: &Snapshot) -> Result<()> {
            Ok(())
        }
    }

    /// Every token gives a row.
    fn tokens_as_rows(chunk: usize) -> EngineConfig {
        EngineConfig {
            pool: Pool::None,
            layer: Layer::Last,
            fasta_windows: Windows::record(),
            fastq_windows: Windows::record(),
            chunk,
            context: None,
            regions: None,
            parts: None,
            grid: 1,
            audio: None,
        }
    }

    fn head(index: u64) -> RecordHead {
        RecordHead {
            source: "x".into(),
            id: "r".into(),
            index,
            format: SequenceFormat::Fasta,
            reversed: None,
            signal: None,
        }
    }

    /// Writes down where the ids of each step lie.
    struct Places(Arc<Mutex<Vec<usize>>>);

    impl Runner for Places {
        fn dim(&self) -> usize {
            1
        }

        fn device(&self) -> String {
            "places".into()
        }

        fn run(&mut self, batch: &ChunkBatch) -> Result<Values> {
            self.0.lock().unwrap().push(batch.ids.as_ptr() as usize);
            Ok(vec![0.0; batch.keys.len()].into())
        }

        fn snapshot(&self) -> Result<Snapshot> {
            Ok(Snapshot::default())
        }

        fn restore(&mut self, _: &Snapshot) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn steps_take_turns_in_the_same_room() {
        // One step at a time, or as many as a device is given.
        for (ahead, most) in [(false, 1), (true, AHEAD + 1)] {
            let places = Arc::new(Mutex::new(Vec::new()));
            let mut engine = Engine::new(tokens_as_rows(100), Box::new(Places(Arc::clone(&places))));
            if ahead {
                engine = engine.ahead().unwrap();
            }
            engine.push(Item::Begin(head(0))).unwrap();
            // Blocks that take other room in between.
            let mut held = Vec::new();
            for _ in 0..50 {
                engine.push(Item::Tokens(vec![1; 70])).unwrap();
                while engine.step().unwrap().is_some() {
                    held.push(vec![0u32; 100]);
                }
            }
            let mut places = places.lock().unwrap().clone();
            assert!(places.len() > 30, "{}", places.len());
            places.sort_unstable();
            places.dedup();
            assert!((1..=most).contains(&places.len()), "{} of {most}", places.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sequences_that_go_on_are_cut_on_the_grid_here_and_ahead(
            lengths in prop::collection::vec(0..200u32, 1..8), block in 1..40usize, chunk in 8..60usize,
            grid in 1..9usize, context in prop::option::of((16..90u64, 0..8u64)), ahead in any::<bool>(),
        ) {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let config = EngineConfig {
                context: context.map(|(tokens, overlap)| Context { tokens, overlap }),
                grid,
                ..tokens_as_rows(chunk)
            };
            let mut engine = Engine::new(config, Box::new(Echo(Arc::clone(&seen))));
            if ahead {
                engine = engine.ahead().unwrap();
            }
            let mut rows = Vec::new();
            let mut want = Vec::new();
            for (i, &len) in lengths.iter().enumerate() {
                let head = head(i as u64);
                let ids: Vec<u32> = (0..len).map(|t| t + 1000 * i as u32).collect();
                want.extend(ids.iter().map(|&id| id as f32));
                let items = ids.chunks(block).map(|tokens| Item::Tokens(tokens.to_vec()));
                let tail = RecordTail { bases: len.into(), ..RecordTail::default() };
                for item in [Item::Begin(head)].into_iter().chain(items).chain([Item::End(tail)]) {
                    engine.push(item).unwrap();
                    while let Some(step) = engine.step().unwrap() {
                        rows.extend(step.rows.values);
                    }
                }
            }
            while let Some(step) = engine.last_step().unwrap() {
                rows.extend(step.rows.values);
            }
            prop_assert_eq!(rows, want);
            // The place of each lane in its sequence, followed over the steps by its slot.
            let mut at: std::collections::HashMap<usize, usize> = std::collections::HashMap::new();
            for batch in seen.lock().unwrap().iter() {
                prop_assert!(batch.ids.len() <= chunk);
                for lane in &batch.lanes {
                    let from = if lane.fresh { 0 } else { at[&lane.slot.unwrap()] };
                    // A chunk below the grid, or what is left of it by a warm-up, is cut anywhere.
                    if !lane.fresh && context.is_none() {
                        prop_assert_eq!(from % grid, 0);
                    }
                    if let Some(slot) = lane.slot {
                        at.insert(slot, from + lane.rows.len());
                    }
                }
            }
        }
    }
}
