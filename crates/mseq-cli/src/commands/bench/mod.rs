//! `mamba-seq bench`: tokens a second of this machine on a model, where the time goes, and how near that
//! comes to what the machine can do.

mod generate;
mod machine;
mod report;
mod timed;

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Instant;

use mseq_backend::Backend;
use mseq_core::{
    Extent, Item, Layer, Pool, RecordHead, RecordTail, SequenceFormat, Signal, SoundWindows, Windows,
};
use mseq_cpu::CpuBackend;
use mseq_cuda::CudaBackend;
use mseq_engine::{AudioConfig, Engine, EngineConfig, ModelRunner, Place, Runner, Step, choose, open};
use mseq_model::{Checkpoint, MambaShape};
use mseq_testkit::Random;
use mseq_testkit::model::ModelShape;

use self::machine::Rates;
use self::report::{Device, Report};
use self::timed::{Clock, Timed, Times};
use super::budget::Budget;
use super::{model_files, verify};
use crate::args::BenchArgs;
use crate::{Failure, say};

/// Bases of a window, as `embed` has it.
const WINDOW: u64 = 1000;

/// Tokens of an item, as the sources give them.
const BLOCK: usize = 64 << 10;

/// Tokens of a sequence where none are asked for: about a second of a large card, and of a CPU.
const CUDA_TOKENS: u64 = 1 << 20;
const CPU_TOKENS: u64 = 1 << 14;

/// Variables that change how fast the engine is.
const VARIABLES: [&str; 6] = [
    "MSEQ_NO_CUBLAS",
    "MSEQ_NO_CUBIN",
    "MSEQ_NO_SPECIALIZE",
    "MSEQ_SYNC_EACH_OP",
    "MSEQ_KERNELS_FROM",
    "MSEQ_FAULT_AFTER",
];

/// The machine, opened apart from the model.
enum Machine {
    Cpu(CpuBackend),
    Cuda(Box<CudaBackend>),
}

fn op(e: mseq_backend::Error) -> Failure {
    Failure::Run(e.to_string())
}

pub(super) fn run(args: &BenchArgs, quiet: bool) -> Result<(), Failure> {
    if args.generate {
        return generate::run(args, quiet);
    }
    let place = args.developer.at(choose(&args.device, args.dtype())?)?;
    let (model, checkpoint) = model(args)?;
    let mut config = config(&checkpoint);
    let (limit, chunk) = (args.memory_limit.map(|size| size.0), args.chunk.map(|n| place.step(n as usize)));
    config.chunk = Budget::new(limit, chunk, &checkpoint.shape, &config, &place)?.chunk;
    let threads = args.threads.map_or(0, |n| n as usize);
    let tokens = args.tokens.unwrap_or(if place.cuda.is_some() { CUDA_TOKENS } else { CPU_TOKENS });
    if let (Some(why), false) = (&place.note, quiet) {
        say::note(&format!("running on the cpu: {why}"));
    }

    let machine = machine(&place, threads, &checkpoint.shape, config.chunk)?;
    let rates = match &machine {
        Machine::Cpu(cpu) => Rates::of_cpu(cpu),
        Machine::Cuda(cuda) => Rates::of_cuda(cuda),
    }
    .map_err(op)?;
    let mut memory = Memory::new(&machine)?;

    let opened = open(&place, threads, &checkpoint, &config)?;
    if opened.chunk < config.chunk && !quiet {
        say::note(&format!("the device has not the memory for more: steps of {} tokens", opened.chunk));
    }
    if let (Some(note), false) = (&opened.note, quiet) {
        say::note(note);
    }
    let tile = place.cuda.is_some().then_some(opened.grid);
    (config.chunk, config.grid) = (opened.chunk, opened.grid.min(opened.chunk));
    let load = Load::new(&checkpoint, tokens as usize, args.lanes);
    let warm = if place.cuda.is_some() { load.clone() } else { load.first(2 * config.chunk) };
    let mut engine = Engine::new(config.clone(), opened.runner);
    if place.cuda.is_some() {
        engine = engine.ahead()?;
    }
    warm.run(&mut engine, || memory.look(&machine))?;
    let (mut seconds, mut rows) = (Vec::new(), 0);
    for _ in 0..args.repeats {
        let start = Instant::now();
        rows = load.run(&mut engine, || Ok(()))?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    memory.look(&machine)?;
    drop(engine);

    let clock = Clock::default();
    let runner = timed(&machine, &place, &checkpoint, &config, &clock)?;
    let mut engine = Engine::new(config.clone(), runner);
    warm.run(&mut engine, || Ok(()))?;
    clock.reset();
    let start = Instant::now();
    load.run(&mut engine, || Ok(()))?;
    let stages = Stages { seconds: start.elapsed().as_secs_f64(), times: clock.times() };
    drop(engine);

    let report = Report {
        model,
        shape: checkpoint.shape,
        device: device(&machine, &place)?,
        place: &place,
        environment: VARIABLES
            .iter()
            .filter_map(|&name| Some((name, std::env::var_os(name)?.to_string_lossy().into_owned())))
            .collect(),
        tokens,
        lanes: args.lanes,
        chunk: config.chunk,
        grid: config.grid,
        tile,
        rows,
        real_time: real_time(&checkpoint),
        seconds,
        stages,
        rates,
        memory,
    };
    say::out(&if args.json { report.json() } else { report.table() })
}

/// The name of the model, and the model.
fn model(args: &BenchArgs) -> Result<(String, Checkpoint), Failure> {
    let Some(shape) = args.shape else {
        let checkpoint = Checkpoint::open(model_files(&args.model)?)?;
        return Ok((checkpoint.name(), checkpoint));
    };
    let (d_state, d_conv) = (args.d_state as usize, args.d_conv as usize);
    let sizes = ModelShape { d_model: shape.d_model, n_layer: shape.n_layer, expand: 2, d_state, d_conv };
    Ok((format!("random {shape}"), verify::checkpoint(sizes, args.vocab as usize, true)?))
}

/// Tokens of a second of audio; `None` for DNA.
fn real_time(checkpoint: &Checkpoint) -> Option<f64> {
    let hop = checkpoint.front().map_or(1, |front| front.hop);
    checkpoint.audio.map(|audio| f64::from(audio.sample_rate) / hop as f64)
}

/// A recording at the model's own rate; `None` for DNA.
fn signal(checkpoint: &Checkpoint) -> Option<Signal> {
    let rate = NonZeroU32::new(checkpoint.audio?.sample_rate)?;
    let hop = u32::try_from(checkpoint.front().map_or(1, |front| front.hop)).ok()?;
    Some(Signal { rate, model_rate: rate, hop: NonZeroU32::new(hop)? })
}

/// Mean rows of windows, as `embed` makes them: of audio over a second.
fn config(checkpoint: &Checkpoint) -> EngineConfig {
    let second = NonZeroU64::new(1_000_000_000).map(Extent::Nanos);
    let sound = second.and_then(|second| SoundWindows::new(second, None));
    let windows = Windows::tiled(WINDOW, WINDOW).unwrap_or(Windows::record());
    EngineConfig {
        pool: Pool::Mean,
        layer: Layer::Last,
        fasta_windows: windows,
        fastq_windows: windows,
        // The budget decides.
        chunk: 1,
        context: None,
        regions: None,
        parts: None,
        grid: 1,
        audio: checkpoint
            .audio
            .and_then(|_| Some(AudioConfig { front: checkpoint.front(), windows: sound? })),
    }
}

fn machine(place: &Place, threads: usize, shape: &MambaShape, chunk: usize) -> Result<Machine, Failure> {
    Ok(match place.open_cuda(shape, chunk)? {
        Some(cuda) => Machine::Cuda(Box::new(cuda)),
        None => Machine::Cpu(CpuBackend::new(threads).map_err(op)?),
    })
}

/// The model on a device that waits after each op.
fn timed(
    machine: &Machine,
    place: &Place,
    checkpoint: &Checkpoint,
    config: &EngineConfig,
    clock: &Clock,
) -> Result<Box<dyn Runner>, Failure> {
    let clock = clock.clone();
    Ok(match (machine, place.open_cuda(&checkpoint.shape, config.chunk)?) {
        (_, Some(cuda)) => {
            let backend = Timed::new(cuda, CudaBackend::synchronize, clock);
            Box::new(ModelRunner::new(backend, checkpoint, config)?)
        }
        (Machine::Cpu(cpu), None) => {
            Box::new(ModelRunner::new(Timed::new(cpu.clone(), |_| Ok(()), clock), checkpoint, config)?)
        }
        (Machine::Cuda(_), None) => return Err(Failure::Run("the device is gone".into())),
    })
}

/// What is told of the device, and by what its matrix products are computed.
fn device(machine: &Machine, place: &Place) -> Result<Device, Failure> {
    match machine {
        Machine::Cpu(cpu) => Ok(Device::of_cpu(cpu)),
        Machine::Cuda(cuda) => {
            let driver =
                mseq_cuda::probe().map_err(|why| mseq_engine::Error::NoCuda { asked: cuda.name(), why })?;
            Ok(Device::of_cuda(cuda, driver.cuda, place))
        }
    }
}

/// Sequences to run.
#[derive(Clone)]
struct Load {
    /// Of one sequence: time does not depend on the letters, so that all may be alike.
    one: Sequence,
    lanes: u64,
    signal: Option<Signal>,
}

/// What a model reads.
#[derive(Clone)]
enum Sequence {
    Tokens(Vec<u32>),
    /// So many a token.
    Samples(Vec<f32>, usize),
}

impl Load {
    fn new(checkpoint: &Checkpoint, tokens: usize, lanes: u64) -> Self {
        let mut random = Random::new(1);
        let one = match checkpoint.front() {
            Some(front) => Sequence::Samples(random.values(tokens * front.hop, -0.1, 0.1), front.hop),
            None => {
                let mut letters: Vec<u32> = match checkpoint.audio {
                    Some(_) => (0..256).collect(),
                    None => checkpoint.tokens.letters.values().copied().collect(),
                };
                letters.sort_unstable();
                let last = letters.len().saturating_sub(1);
                let mut id = |_| letters.get(random.between(0, last)).copied().unwrap_or(0);
                Sequence::Tokens((0..tokens).map(&mut id).collect())
            }
        };
        Self { one, lanes, signal: signal(checkpoint) }
    }

    /// About the first so many tokens of it.
    fn first(&self, tokens: usize) -> Self {
        let (one, found) = match &self.one {
            Sequence::Tokens(ids) => {
                let ids = ids[..tokens.min(ids.len())].to_vec();
                let found = ids.len();
                (Sequence::Tokens(ids), found)
            }
            Sequence::Samples(samples, hop) => {
                let samples = samples[..samples.len().min(tokens * hop)].to_vec();
                let found = samples.len() / hop;
                (Sequence::Samples(samples, *hop), found)
            }
        };
        let lanes = tokens.div_ceil(found.max(1)) as u64;
        Self { one, lanes: lanes.clamp(1, self.lanes), signal: self.signal }
    }

    /// Blocks, as the sources give them: one at a time, since all of a recording's are larger than caches and
    /// heaps are made for.
    fn items(&self) -> Box<dyn Iterator<Item = Item> + '_> {
        match &self.one {
            Sequence::Tokens(ids) => Box::new(ids.chunks(BLOCK).map(|ids| Item::Tokens(ids.to_vec()))),
            Sequence::Samples(samples, _) => {
                Box::new(samples.chunks(BLOCK).map(|part| Item::Samples(part.to_vec())))
            }
        }
    }

    /// Tokens or samples of a sequence.
    fn len(&self) -> usize {
        match &self.one {
            Sequence::Tokens(ids) => ids.len(),
            Sequence::Samples(samples, _) => samples.len(),
        }
    }

    /// Feeds the engine as the pipeline does, and takes the rows; gives their number.
    fn run(
        &self,
        engine: &mut Engine,
        mut each: impl FnMut() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let mut rows = 0;
        let mut take = |step: Step| {
            if step.rows.values.iter().any(|v| !v.is_finite()) {
                return Err(Failure::Run("the engine gave a row that is not a number".into()));
            }
            rows += step.rows.keys.len() as u64;
            each()
        };
        for index in 0..self.lanes {
            let head = RecordHead {
                source: "bench".into(),
                id: "bench".into(),
                index,
                format: if self.signal.is_some() { SequenceFormat::Audio } else { SequenceFormat::Fasta },
                reversed: None,
                signal: self.signal,
            };
            let tail = RecordTail { bases: self.len() as u64, ..RecordTail::default() };
            for item in [Item::Begin(head)].into_iter().chain(self.items()).chain([Item::End(tail)]) {
                engine.push(item)?;
                while let Some(step) = engine.step()? {
                    take(step)?;
                }
            }
        }
        while let Some(step) = engine.last_step()? {
            take(step)?;
        }
        Ok(rows)
    }
}

/// The pass that waits after each op.
struct Stages {
    /// Of the whole pass.
    seconds: f64,
    times: Times,
}

/// Memory while the model runs.
struct Memory {
    /// Bytes of the device free before the model was loaded, and the fewest since.
    device: Option<(u64, u64)>,
    /// Most bytes that this process held.
    host: Option<u64>,
}

impl Memory {
    fn new(machine: &Machine) -> Result<Self, Failure> {
        let device = match machine {
            Machine::Cpu(_) => None,
            Machine::Cuda(cuda) => Some(cuda.memory().map_err(op)?.0 as u64),
        };
        Ok(Self { device: device.map(|free| (free, free)), host: machine::resident() })
    }

    fn look(&mut self, machine: &Machine) -> Result<(), Failure> {
        let now = Self::new(machine)?;
        if let (Some((_, least)), Some((free, _))) = (&mut self.device, now.device) {
            *least = free.min(*least);
        }
        self.host = self.host.max(now.host);
        Ok(())
    }
}
