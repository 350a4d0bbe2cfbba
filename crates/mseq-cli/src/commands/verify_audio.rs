//! Whole models of audio for `doctor --verify`: random ones of the CleanUMamba family, and the built-in ones.

use mseq_backend::{Backend, LaneSpan};
use mseq_core::{DType, Front};
use mseq_cpu::CpuBackend;
use mseq_model::arch::{Denoiser, Input, Mamba};
use mseq_model::{Checkpoint, Error};
use mseq_testkit::audio::{CleanShape, random_clean};
use mseq_testkit::{Check, Random};

use super::verify::{in_memory, model_limit, wide};
use crate::Failure;

/// Largest norm-wise difference of a CleanUMamba from the f32 of the CPU. Between the samples and the output
/// lie twice as many roundings as in a model of tokens: two a level, down and up.
fn clean_limit(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 4e-3,
        DType::Bf16 => 3e-2,
    }
}

/// One as its authors trained it, and one as pruning leaves them.
const MODELS: [(&str, CleanShape, usize); 2] = [
    (
        "CleanUMamba 8 levels",
        CleanShape {
            levels: &[(32, 32), (64, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 64)],
            d_model: 64,
            blocks: &[(128, 16, 4), (128, 16, 4), (128, 16, 4)],
        },
        40_000,
    ),
    (
        "CleanUMamba pruned",
        CleanShape {
            levels: &[(7, 5), (30, 17), (33, 12), (20, 29)],
            d_model: 37,
            blocks: &[(61, 9, 3), (40, 16, 2)],
        },
        9_001,
    ),
];

/// The same of a trained model without convolutions. Its first blocks square their input, which squares the
/// range of what follows and doubles what is off, where random models do neither.
pub(super) fn trained_limit(dtype: DType, n_layer: usize) -> f64 {
    match dtype {
        DType::Bf16 => 4e-2f64.max(model_limit(dtype, n_layer)),
        narrow => model_limit(narrow, n_layer),
    }
}

/// Samples that go through a built-in model: 400 frames of 10 ms, and a last one that is not whole.
pub(super) const BUILT_IN_SAMPLES: usize = 64_037;

/// A model with what the CPU makes of some samples.
pub(super) struct Sounding {
    pub(super) name: String,
    checkpoint: Checkpoint,
    front: Front,
    samples: Vec<f32>,
    /// (frames, d_model).
    hidden: Vec<f32>,
    /// The largest value of the residual stream.
    largest: f32,
    /// Where the model has a decoder.
    denoised: Option<Vec<f32>>,
}

impl Sounding {
    /// The random ones, then the built-in ones.
    pub(super) fn all(cpu: &CpuBackend) -> Result<Vec<Self>, Failure> {
        let random = MODELS.into_iter().map(|(name, shape, samples)| {
            let samples = Random::new(samples as u64).values(samples, -2.0, 2.0);
            Self::new(cpu, name, in_memory(random_clean(shape, 5))?, samples)
        });
        let audio = mseq_data::builtins().iter().filter(|model| model.modality == "audio");
        let built_in = audio.map(|model| {
            let checkpoint = Checkpoint::open(super::model_files(model.name)?)?;
            Self::new(cpu, model.name, checkpoint, sweep(BUILT_IN_SAMPLES))
        });
        random.chain(built_in).collect()
    }

    fn new(cpu: &CpuBackend, name: &str, checkpoint: Checkpoint, samples: Vec<f32>) -> Result<Self, Failure> {
        let Some(front) = checkpoint.front() else {
            return Err(Failure::Run(format!("internal: {name} does not read samples")));
        };
        let (name, hidden, largest, denoised) = (name.to_owned(), Vec::new(), 0.0, None);
        let mut model = Self { name, checkpoint, front, samples, hidden, largest, denoised };
        let frames = model.frames(&model.samples);
        model.hidden = model.hidden(cpu, &[frames], true)?;
        let stream = model.hidden(cpu, &[frames], false)?;
        model.largest = stream.iter().fold(0.0, |most, v| v.abs().max(most));
        if model.checkpoint.unet().is_ok() {
            model.denoised = Some(model.denoise(cpu, &[frames])?);
        }
        Ok(model)
    }

    fn frames(&self, samples: &[f32]) -> usize {
        self.front.frames(samples.len() as u64) as usize
    }

    /// Why an arithmetic is not for this model: what it computes does not fit in.
    pub(super) fn too_large(&self, dtype: DType) -> Option<String> {
        // The largest f16.
        (dtype == DType::F16 && self.largest > 65_504.0)
            .then(|| format!("not run: its values reach {:.0e}, beyond f16", self.largest))
    }

    /// In one step and in several, between which the state is carried.
    pub(super) fn compare<B: Backend>(&self, backend: &B, grid: usize) -> Result<Vec<Check>, Failure> {
        let frames = self.frames(&self.samples);
        let limit = match self.denoised {
            Some(_) => clean_limit(backend.dtype()),
            None => trained_limit(backend.dtype(), self.checkpoint.shape.n_layer),
        };
        let is_cpu = backend.dtype() == DType::F32 && backend.name().starts_with("cpu");
        let steps = [1, grid, 3, frames];
        let mut checks = Vec::new();
        for (what, cuts) in [("one step", &[frames][..]), ("four steps", &steps)] {
            let hidden = self.hidden(backend, cuts, true)?;
            let mut parts = vec![("hidden states", hidden, &self.hidden)];
            if let Some(truth) = &self.denoised {
                parts.push(("denoised samples", self.denoise(backend, cuts)?, truth));
            }
            for (part, found, truth) in &parts {
                let what = format!("{part}, {what}");
                checks.push(Check::new(&what, found, &wide(truth), limit));
                if is_cpu {
                    checks.push(Check::twice(&what, found, truth));
                }
            }
        }
        Ok(checks)
    }

    /// Hidden states, normalised or not, beside another record, in steps of these lengths.
    fn hidden<B: Backend>(&self, backend: &B, steps: &[usize], norm: bool) -> Result<Vec<f32>, Failure> {
        let Front { hop, reach } = self.front;
        let (frames, width) = (self.frames(&self.samples), self.checkpoint.shape.d_model);
        let model = Mamba::load(backend, &self.checkpoint)?;
        let mut state = model.state(backend, 1)?;
        let mut workspace = model.workspace(backend, 0)?;
        let other = &self.samples[..self.samples.len().min(5 * hop + 3)];
        let rows = self.frames(other);
        let (mut hidden, mut at) = (Vec::new(), 0);
        for step in steps {
            let end = (at + step).min(frames);
            if at == end {
                break;
            }
            let piece = &self.samples[at * hop..self.samples.len().min((end - 1) * hop + reach)];
            let samples = [other, piece].concat();
            let ranges = [0..other.len(), other.len()..samples.len()];
            let lanes = [
                LaneSpan { rows: 0..rows, fresh: true, slot: None },
                LaneSpan { rows: rows..rows + end - at, fresh: at == 0, slot: Some(0) },
            ];
            let input = Input::Samples { samples: &samples, lanes: &ranges };
            let upto = (self.checkpoint.shape.n_layer, norm);
            let out = model.forward(backend, input, &lanes, upto, &mut state, &mut workspace)?;
            let own = rows * width..(rows + end - at) * width;
            hidden.extend(backend.download(out, own).map_err(Error::from)?);
            at = end;
        }
        Ok(hidden)
    }

    /// Denoised samples, in steps of these lengths.
    fn denoise<B: Backend>(&self, backend: &B, steps: &[usize]) -> Result<Vec<f32>, Failure> {
        let Front { hop, reach } = self.front;
        let frames = self.frames(&self.samples);
        let denoiser = Denoiser::load(backend, &self.checkpoint)?;
        let mut state = denoiser.state(backend)?;
        let (mut out, mut at) = (Vec::new(), 0);
        for step in steps {
            let end = (at + step).min(frames);
            if at == end {
                break;
            }
            let from = (at - denoiser.behind(&state)) * hop;
            let piece = &self.samples[from..self.samples.len().min((end - 1) * hop + reach)];
            let mut more = denoiser.run(backend, piece, end - at, &mut state)?;
            more.truncate(if end == frames { self.samples.len() - at * hop } else { (end - at) * hop });
            out.append(&mut more);
            at = end;
        }
        Ok(out)
    }
}

/// A tone that rises from 100 to 6,000 Hz over noise and a click every half second, as loud as speech:
/// what a trained model has heard the like of.
pub(super) fn sweep(samples: usize) -> Vec<f32> {
    let noise = Random::new(3).values(samples, -0.01, 0.01);
    let at = |(i, noise): (usize, f32)| {
        let share = i as f32 / samples as f32;
        let cycles = share * (0.1 + 2.95 * share) * samples as f32 / 16.0;
        let click = if i % 8000 < 20 { 0.3 } else { 0.0 };
        0.15 * (std::f32::consts::TAU * cycles.fract()).sin() + noise + click
    };
    noise.into_iter().enumerate().map(at).collect()
}
