use mseq_backend::Backend;
use mseq_backend::ops::{PoolFwd, PoolKind};
use mseq_core::{Pool, Score};
use mseq_model::Checkpoint;
use mseq_model::arch::{Input, Mamba, MambaState, Workspace};

use crate::packer::{BatchOutput, ChunkBatch, EngineConfig, SLOTS};
use crate::scoring::Scoring;
use crate::{Error, Result};

/// What a step gives: numbers of its rows, or their scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Values {
    /// (rows, [`Runner::dim`]), row-major.
    pub numbers: Vec<f32>,
    /// One a row, where rows are scores.
    pub scores: Vec<Score>,
}

impl From<Vec<f32>> for Values {
    fn from(numbers: Vec<f32>) -> Self {
        Self { numbers, scores: Vec::new() }
    }
}

/// A model on a device, seen from above the generic world.
pub trait Runner: Send {
    /// Width of a row; 0 where rows are scores.
    fn dim(&self) -> usize;

    /// Device, as metadata records it.
    fn device(&self) -> String;

    /// Runs one step and gives the rows that it closes, one for each key of the batch.
    ///
    /// # Errors
    /// When the batch is broken or the device fails.
    fn run(&mut self, batch: &ChunkBatch) -> Result<Values>;

    /// The state between two steps.
    ///
    /// # Errors
    /// When the device fails.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Goes back to a state.
    ///
    /// # Errors
    /// When it is the state of another model or another window, or the device fails.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()>;
}

/// The recurrent state and the sums of open windows, on the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Of each block: `conv_state` (slots, d_inner, d_conv - 1), `ssm_state` (slots, d_inner,
    /// d_state).
    pub layers: Vec<(Vec<f32>, Vec<f32>)>,
    /// (window slots, d_model); of scores (window slots, 2): their sum and count.
    pub sums: Vec<f64>,
    /// (slots, d_model), what the next token is predicted from; empty unless rows are scores.
    pub head: Vec<f32>,
}

/// A model on any backend.
pub struct ModelRunner<B: Backend> {
    backend: B,
    model: Mamba<B>,
    state: MambaState<B>,
    workspace: Workspace<B>,
    /// Blocks to run, and whether the final norm follows.
    upto: (usize, bool),
    kind: PoolKind,
    sums: B::Sums,
    sums_slots: usize,
    /// Where rows are scores.
    scoring: Option<Scoring<B>>,
    /// The model reads samples, not token ids.
    of_samples: bool,
}

/// Most bytes that the sums of open windows may take.
const MAX_SUMS: u64 = 1 << 30;

impl<B: Backend> ModelRunner<B> {
    /// Loads the weights and makes room for state, sums and one step.
    ///
    /// # Errors
    /// When the layer does not exist, too many windows overlap, or weights can't be read.
    pub fn new(backend: B, checkpoint: &Checkpoint, config: &EngineConfig) -> Result<Self> {
        let shape = checkpoint.shape;
        let upto = config.layer.resolve(shape.n_layer).ok_or_else(|| match config.layer {
            mseq_core::Layer::At(layer) => Error::Model(mseq_model::Error::NoSuchLayer {
                model: checkpoint.name(),
                layer,
                n_layer: shape.n_layer,
            }),
            mseq_core::Layer::Last => Error::Stream("the last layer does not exist"),
        })?;
        let open = config.open_windows();
        let bytes = open.saturating_mul(8 * shape.d_model as u64);
        if bytes > MAX_SUMS {
            let tiled = [config.fasta_windows, config.fastq_windows];
            let worst = tiled.into_iter().max_by_key(|w| w.max_open()).unwrap_or(config.fasta_windows);
            let (length, stride) = (worst.length().unwrap_or(0), worst.stride().unwrap_or(0));
            return Err(Error::TooManyWindows { length, stride, open, bytes });
        }
        let model = Mamba::load(&backend, checkpoint)?;
        let state = model.state(&backend, SLOTS)?;
        let workspace = model.workspace(&backend, config.chunk)?;
        let scoring = match config.pool {
            Pool::Nll => Some(Scoring::new(&backend, checkpoint, open as usize)?),
            _ => None,
        };
        let sums_slots = if scoring.is_some() { 0 } else { open as usize };
        let sums = backend.sums(sums_slots, shape.d_model)?;
        let kind = match config.pool {
            Pool::Mean | Pool::None | Pool::Nll => PoolKind::Mean,
            Pool::Max => PoolKind::Max,
            Pool::Last => PoolKind::Last,
        };
        let of_samples = checkpoint.front().is_some();
        Ok(Self { backend, model, state, workspace, upto, kind, sums, sums_slots, scoring, of_samples })
    }
}

impl<B: Backend> Runner for ModelRunner<B> {
    fn dim(&self) -> usize {
        if self.scoring.is_some() { 0 } else { self.model.shape().d_model }
    }

    fn device(&self) -> String {
        self.backend.name()
    }

    fn run(&mut self, batch: &ChunkBatch) -> Result<Values> {
        let width = self.model.shape().d_model;
        let (backend, state, workspace) = (&self.backend, &mut self.state, &mut self.workspace);
        let input = match self.of_samples {
            true => Input::Samples { samples: &batch.samples, lanes: &batch.lane_samples },
            false => Input::Ids(&batch.ids),
        };
        let x = self.model.forward(backend, input, &batch.lanes, self.upto, state, workspace)?;
        match &batch.output {
            BatchOutput::Rows(ranges) => {
                let mut values = Vec::new();
                for range in ranges {
                    values.extend(backend.download(x, range.start * width..range.end * width)?);
                }
                Ok(values.into())
            }
            BatchOutput::Pool(segments) if let Some(scoring) = &mut self.scoring => {
                let scores = scoring.run(backend, batch, segments, x)?;
                Ok(Values { scores, ..Values::default() })
            }
            BatchOutput::Pool(segments) => {
                let (rows, kind, slots, sums) = (batch.rows(), self.kind, self.sums_slots, &mut self.sums);
                Ok(backend.pool_fwd(PoolFwd { kind, rows, width, slots, x, segments, sums })?.into())
            }
        }
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut sums = Vec::new();
        for slot in 0..self.sums_slots {
            sums.extend(self.backend.read_sums(&self.sums, slot)?);
        }
        let layers = self.state.download(&self.backend)?;
        match &self.scoring {
            Some(scoring) => {
                Ok(Snapshot { layers, sums: scoring.sums(), head: scoring.head(&self.backend)? })
            }
            None => Ok(Snapshot { layers, sums, head: Vec::new() }),
        }
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let own = self.snapshot()?;
        let sizes = |s: &Snapshot| -> Vec<(usize, usize)> {
            s.layers.iter().map(|(c, h)| (c.len(), h.len())).collect()
        };
        if sizes(&own) != sizes(snapshot)
            || own.sums.len() != snapshot.sums.len()
            || own.head.len() != snapshot.head.len()
        {
            return Err(Error::Snapshot("its state has other sizes".into()));
        }
        self.state.upload(&self.backend, &snapshot.layers)?;
        if let Some(scoring) = &mut self.scoring {
            return scoring.restore(&self.backend, &snapshot.sums, &snapshot.head);
        }
        for (slot, values) in snapshot.sums.chunks(self.dim()).enumerate() {
            self.backend.write_sums(&mut self.sums, slot, values)?;
        }
        Ok(())
    }
}
