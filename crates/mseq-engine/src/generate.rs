//! Sampling of continuations, many lanes at once: prompts by the chunk engine, then one step a token.

use mseq_backend::ops::SampleTokens;
use mseq_backend::sampling::Sampling;
use mseq_backend::{Decode, LaneSpan};
use mseq_cpu::CpuBackend;
use mseq_cuda::CudaBackend;
use mseq_model::Checkpoint;
use mseq_model::arch::{LmHead, Mamba, MambaState, StepWorkspace, Workspace};

use crate::open::{LEAST_CHUNK, Place};
use crate::{Error, Result};

/// What to draw, and how many at once.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Sequences that run at once.
    pub lanes: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that may be drawn; `None`: all.
    pub allowed: Option<Vec<u32>>,
    /// Rows of a step of the prompts.
    pub chunk: usize,
    /// Draws of a lane before the host looks.
    pub block: usize,
}

/// Where generation stands: enough to go on, on any device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateState {
    /// Of each block: `conv_state` (lanes, d_inner, d_conv - 1), `ssm_state` (lanes, d_inner, d_state):
    /// after all but the current token.
    pub layers: Vec<(Vec<f32>, Vec<f32>)>,
    /// The current token of each lane.
    pub tokens: Vec<u32>,
    /// Tokens that each lane has drawn.
    pub position: u64,
    /// Number of the first lane, for random numbers.
    pub first_lane: u32,
}

/// A model that generates, seen from above the generic world.
pub trait Generate: Send {
    /// Device, as messages name it.
    fn device(&self) -> String;

    /// Lanes.
    fn lanes(&self) -> usize;

    /// Reads prompts, each of at least one token; lane i goes on from prompt `of_lane[i]`, as lane
    /// `first_lane + i` of all.
    ///
    /// # Errors
    /// When a prompt is empty or missing, or the device fails.
    fn prompt(&mut self, prompts: &[Vec<u32>], of_lane: &[usize], first_lane: u32) -> Result<()>;

    /// Draws the next `steps` tokens of every lane, (steps, lanes), at most `block` at once.
    ///
    /// # Errors
    /// When the device fails.
    fn next(&mut self, steps: usize) -> Result<Vec<u32>>;

    /// Where it stands.
    ///
    /// # Errors
    /// When the device fails.
    fn save(&self) -> Result<GenerateState>;

    /// Goes on from there.
    ///
    /// # Errors
    /// When it is the state of another model or number of lanes, or the device fails.
    fn restore(&mut self, state: &GenerateState) -> Result<()>;
}

/// A model on any backend.
pub struct Generator<B: Decode> {
    backend: B,
    model: Mamba<B>,
    head: LmHead<B>,
    config: GenerateConfig,
    /// Rows that prompts are cut at.
    grid: usize,
    state: MambaState<B>,
    step: StepWorkspace<B>,
    chunk: Workspace<B>,
    /// (lanes, vocab), f32.
    logits: B::Buffer,
    bias: Option<B::Buffer>,
    draws: B::Draws,
    tape: B::Tape,
    /// The lane's number that the tape was recorded with.
    first_lane: u32,
    tokens: Vec<u32>,
    position: u64,
}

impl<B: Decode> Generator<B> {
    /// Loads the weights and makes room.
    ///
    /// # Errors
    /// When the model has no head, no token may be drawn, or the device has no room.
    pub fn new(backend: B, checkpoint: &Checkpoint, config: GenerateConfig, grid: usize) -> Result<Self> {
        let model = Mamba::load(&backend, checkpoint)?;
        let head = LmHead::load(&backend, checkpoint)?;
        let (lanes, vocab) = (config.lanes, head.vocab());
        let bias = match &config.allowed {
            None => None,
            Some(allowed) => {
                let mut bias = vec![f32::NEG_INFINITY; vocab];
                for &id in allowed {
                    match bias.get_mut(id as usize) {
                        Some(bias) => *bias = 0.0,
                        None => {
                            return Err(Error::Stream("a token that may be drawn is not in the vocabulary"));
                        }
                    }
                }
                Some(backend.upload(&bias)?)
            }
        };
        Ok(Self {
            state: model.state(&backend, lanes)?,
            step: model.step_workspace(&backend, lanes)?,
            chunk: model.workspace(&backend, config.chunk)?,
            logits: backend.zeros(lanes * vocab)?,
            draws: backend.draws(lanes, config.block)?,
            tape: backend.tape(),
            tokens: vec![0; lanes],
            position: 0,
            first_lane: 0,
            bias,
            backend,
            model,
            head,
            config,
            grid: grid.max(1),
        })
    }

    /// All but the last token of each prompt, as lanes side by side; the state of prompt i in slot i.
    fn read(&mut self, prompts: &[Vec<u32>]) -> Result<MambaState<B>> {
        let mut state = self.model.state(&self.backend, prompts.len())?;
        let n_layer = self.model.shape().n_layer;
        let mut at = 0;
        loop {
            let left = |p: &Vec<u32>| (p.len() - 1).saturating_sub(at);
            let active = prompts.iter().filter(|p| left(p) > 0).count();
            if active == 0 {
                return Ok(state);
            }
            // Cuts lie on the grid of the backend where a step has the room.
            let share = (self.config.chunk / active).max(1);
            let share = if share > self.grid { share - share % self.grid } else { share };
            let (mut ids, mut lanes) = (Vec::new(), Vec::new());
            for (slot, prompt) in prompts.iter().enumerate() {
                let take = left(prompt).min(share);
                if take == 0 {
                    continue;
                }
                let from = ids.len();
                ids.extend_from_slice(&prompt[at..at + take]);
                lanes.push(LaneSpan { rows: from..ids.len(), fresh: at == 0, slot: Some(slot) });
                // With more prompts than a step has rows, the rest goes in steps of its own.
                if ids.len() >= self.config.chunk && lanes.len() < active {
                    let upto = (n_layer, false);
                    self.model.forward(&self.backend, &ids, &lanes, upto, &mut state, &mut self.chunk)?;
                    ids.clear();
                    lanes.clear();
                }
            }
            if !ids.is_empty() {
                let upto = (n_layer, false);
                self.model.forward(&self.backend, &ids, &lanes, upto, &mut state, &mut self.chunk)?;
            }
            at += share;
        }
    }

    fn number_lanes(&mut self, first_lane: u32) {
        if first_lane != self.first_lane {
            // The number is in the recording.
            self.tape = self.backend.tape();
            self.first_lane = first_lane;
        }
    }
}

impl<B: Decode> Generate for Generator<B> {
    fn device(&self) -> String {
        self.backend.name()
    }

    fn lanes(&self) -> usize {
        self.config.lanes
    }

    fn prompt(&mut self, prompts: &[Vec<u32>], of_lane: &[usize], first_lane: u32) -> Result<()> {
        if of_lane.len() != self.config.lanes {
            return Err(Error::Stream("there is not one prompt a lane"));
        }
        self.number_lanes(first_lane);
        let mut tokens = Vec::with_capacity(of_lane.len());
        for &prompt in of_lane {
            match prompts.get(prompt).and_then(|p| p.last()) {
                Some(&token) => tokens.push(token),
                None => return Err(Error::Stream("a prompt is empty")),
            }
        }
        let read = self.read(prompts)?;
        if prompts.len() == of_lane.len() && of_lane.iter().enumerate().all(|(i, &p)| i == p) {
            self.state.copy_all(&self.backend, &read)?;
        } else {
            for (lane, &prompt) in of_lane.iter().enumerate() {
                self.state.copy_slot(&self.backend, &read, prompt, lane)?;
            }
        }
        self.backend.set_draws(&mut self.draws, &tokens, 0)?;
        (self.tokens, self.position) = (tokens, 0);
        Ok(())
    }

    fn next(&mut self, steps: usize) -> Result<Vec<u32>> {
        let steps = steps.min(self.config.block);
        let Self { backend, model, head, state, step, logits, bias, draws, tape, .. } = self;
        let (lanes, vocab) = (self.config.lanes, head.vocab());
        let (sampling, first_lane) = (self.config.sampling, self.first_lane);
        for _ in 0..steps {
            backend.run_step(tape, || {
                let x = model.step(backend, draws, state, step)?;
                head.logits(backend, lanes, x, logits)?;
                let (logits, bias) = (&*logits, bias.as_ref());
                backend.sample_tokens(SampleTokens { vocab, logits, bias, sampling, first_lane, draws })
            })?;
        }
        let taken = backend.take_draws(draws, steps)?;
        if let Some(last) = taken.len().checked_sub(lanes) {
            self.tokens.copy_from_slice(&taken[last..]);
        }
        self.position += steps as u64;
        Ok(taken)
    }

    fn save(&self) -> Result<GenerateState> {
        Ok(GenerateState {
            layers: self.state.download(&self.backend)?,
            tokens: self.tokens.clone(),
            position: self.position,
            first_lane: self.first_lane,
        })
    }

    fn restore(&mut self, saved: &GenerateState) -> Result<()> {
        let s = *self.model.shape();
        let lanes = self.config.lanes;
        let sizes = (lanes * s.d_inner * (s.d_conv - 1), lanes * s.d_inner * s.d_state);
        let fits = saved.layers.len() == s.n_layer
            && saved.layers.iter().all(|(conv, ssm)| (conv.len(), ssm.len()) == sizes)
            && saved.tokens.len() == lanes
            && saved.tokens.iter().all(|&id| (id as usize) < s.vocab);
        if !fits {
            return Err(Error::Snapshot(format!(
                "the saved state has other sizes than {lanes} lanes of this model"
            )));
        }
        self.number_lanes(saved.first_lane);
        self.state.upload(&self.backend, &saved.layers)?;
        self.backend.set_draws(&mut self.draws, &saved.tokens, saved.position)?;
        (self.tokens, self.position) = (saved.tokens.clone(), saved.position);
        Ok(())
    }
}

/// Opens a model for generation where [`choose`](crate::choose) said. On a device whose memory does
/// not suffice, prompts are read in smaller steps.
///
/// # Errors
/// When the device is missing or the model can't be loaded.
pub fn open_generator(
    place: &Place,
    threads: usize,
    checkpoint: &Checkpoint,
    mut config: GenerateConfig,
) -> Result<Box<dyn Generate>> {
    loop {
        let made = with_device(place, threads, checkpoint, config.chunk, |device| match device {
            OnDevice::Cpu(cpu) => boxed(Generator::new(cpu, checkpoint, config.clone(), 1)),
            OnDevice::Cuda(cuda) => {
                let grid = cuda.grid();
                boxed(Generator::new(*cuda, checkpoint, config.clone(), grid))
            }
        });
        match made {
            Err(e) if e.is_out_of_memory() && config.chunk / 2 >= LEAST_CHUNK => config.chunk /= 2,
            made => return made,
        }
    }
}

fn boxed<B: Decode>(made: Result<Generator<B>>) -> Result<Box<dyn Generate>> {
    Ok(Box::new(made?))
}

/// A backend, opened.
pub(crate) enum OnDevice {
    Cpu(CpuBackend),
    Cuda(Box<CudaBackend>),
}

/// Opens the device of a place and hands it on.
pub(crate) fn with_device<T>(
    place: &Place,
    threads: usize,
    checkpoint: &Checkpoint,
    chunk: usize,
    then: impl FnOnce(OnDevice) -> Result<T>,
) -> Result<T> {
    match place.open_cuda(&checkpoint.shape, chunk)? {
        Some(cuda) => then(OnDevice::Cuda(Box::new(cuda))),
        None => then(OnDevice::Cpu(CpuBackend::new(threads)?)),
    }
}
