//! CleanUMamba against a float64 NumPy oracle (`data/golden/cleanumamba.py`), and the trained model,
//! where its weights are there, against values that another program computed and on noisy speech.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};

use mseq_backend::{Backend, LaneSpan};
use mseq_core::Front;
use mseq_cpu::CpuBackend;
use mseq_model::arch::{Denoiser, Input, Mamba};
use mseq_model::{Checkpoint, Modality, ModelFiles};
use mseq_testkit::Random;
use safetensors::{Dtype, SafeTensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(name)
}

/// The folder of shared weights and audio, if it is there.
fn shared(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MSEQ_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = root.join("data").join(file);
    if path.exists() {
        return Some(path);
    }
    mseq_testkit::aloud(&format!("skipped: {} is not there", path.display()));
    None
}

/// Tensors of a file as f64.
fn values(path: &Path, key: &str) -> Option<Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(key).ok()?;
    let data = tensor.data();
    Some(match tensor.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => panic!("{other:?}"),
    })
}

fn off(found: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>();
    let difference = square(&mut found.iter().zip(truth).map(|(a, b)| f64::from(*a) - b));
    (difference / square(&mut truth.iter().copied())).sqrt()
}

struct Model {
    backend: CpuBackend,
    checkpoint: Checkpoint,
    model: Mamba<CpuBackend>,
    front: Front,
}

impl Model {
    fn open(path: &Path) -> Self {
        let backend = CpuBackend::new(2).unwrap();
        let checkpoint = Checkpoint::open(ModelFiles::at(path).unwrap()).unwrap();
        assert_eq!(checkpoint.modality(), Modality::Audio);
        let model = Mamba::load(&backend, &checkpoint).unwrap();
        let front = checkpoint.front().unwrap();
        Self { backend, checkpoint, model, front }
    }

    fn last(&self) -> (usize, bool) {
        (self.checkpoint.shape.n_layer, true)
    }

    /// Hidden states of a record, in steps of these lengths in turn, beside another record when asked.
    fn hidden(
        &self,
        samples: &[f32],
        steps: &[usize],
        upto: (usize, bool),
        neighbour: Option<&[f32]>,
    ) -> Vec<f32> {
        let Front { hop, reach } = self.front;
        let frames = self.front.frames(samples.len() as u64) as usize;
        let width = self.checkpoint.shape.d_model;
        let mut state = self.model.state(&self.backend, 1).unwrap();
        let mut workspace = self.model.workspace(&self.backend, 0).unwrap();
        let (mut out, mut at) = (Vec::new(), 0);
        for &step in steps.iter().cycle() {
            if at >= frames {
                break;
            }
            let end = (at + step).min(frames);
            let (mut all, mut ranges, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
            let mut row = 0;
            let mut lane = |piece: &[f32], rows: usize, fresh, slot| {
                ranges.push(all.len()..all.len() + piece.len());
                all.extend_from_slice(piece);
                lanes.push(LaneSpan { rows: row..row + rows, fresh, slot });
                row += rows;
                row - rows
            };
            if let Some(other) = neighbour {
                lane(other, self.front.frames(other.len() as u64) as usize, true, None);
            }
            let piece = &samples[at * hop..samples.len().min((end - 1) * hop + reach)];
            let first = lane(piece, end - at, at == 0, Some(0));
            let input = Input::Samples { samples: &all, lanes: &ranges };
            let x =
                self.model.forward(&self.backend, input, &lanes, upto, &mut state, &mut workspace).unwrap();
            let rows = first * width..(first + end - at) * width;
            out.extend(self.backend.download(x, rows).unwrap());
            at = end;
        }
        out
    }

    /// Denoised samples, in steps of these lengths in turn.
    fn denoise(&self, samples: &[f32], steps: &[usize]) -> Vec<f32> {
        let Front { hop, reach } = self.front;
        let denoiser = Denoiser::load(&self.backend, &self.checkpoint).unwrap();
        let mut state = denoiser.state(&self.backend).unwrap();
        let frames = self.front.frames(samples.len() as u64) as usize;
        let (mut out, mut at) = (Vec::new(), 0);
        for &step in steps.iter().cycle() {
            if at >= frames {
                break;
            }
            let end = (at + step).min(frames);
            let from = (at - denoiser.behind(&state)) * hop;
            let piece = &samples[from..samples.len().min((end - 1) * hop + reach)];
            let more = denoiser.run(&self.backend, piece, end - at, &mut state).unwrap();
            let keep = if end == frames { samples.len() - at * hop } else { (end - at) * hop };
            out.extend_from_slice(&more[..keep]);
            at = end;
        }
        out
    }
}

#[test]
fn fixtures_agree_with_float64_in_any_steps() {
    for name in ["clean-even", "clean-pruned"] {
        let model = Model::open(&golden(name).join("model.safetensors"));
        let expected = golden(name).join("expected.safetensors");
        let noise = Random::new(3).values(333, -1.0, 1.0);
        for record in 0.. {
            let Some(samples) = values(&expected, &format!("samples.{record}")) else {
                assert!(record > 1);
                break;
            };
            let samples: Vec<f32> = samples.iter().map(|&v| v as f32).collect();
            let want = |key: &str| values(&expected, &format!("{key}.{record}")).unwrap();
            for (key, upto) in
                [("bottleneck_in", (0, false)), ("layer.1", (1, false)), ("norm_f", model.last())]
            {
                let whole = model.hidden(&samples, &[1000], upto, None);
                let error = off(&whole, &want(key));
                println!("{name}, record {record}, {key}: {error:.1e}");
                assert!(error < 2e-6, "{name}, {key}: {error:e}");
                for (steps, neighbour) in
                    [(&[1][..], None), (&[3, 1, 2], Some(&noise[..])), (&[7], Some(&noise[..5]))]
                {
                    assert!(model.hidden(&samples, steps, upto, neighbour) == whole, "{name}, {steps:?}");
                }
            }
            let whole = model.denoise(&samples, &[1000]);
            let error = off(&whole, &want("denoised"));
            println!("{name}, record {record}, denoised: {error:.1e}");
            assert!(error < 2e-6, "{name}, denoised: {error:e}");
            for steps in [&[1][..], &[2, 1, 5], &[7]] {
                assert!(model.denoise(&samples, steps) == whole, "{name}, {steps:?}");
            }
        }
    }
}

/// Samples of a plain 16-bit WAV file of one channel.
fn wav(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap() + 8;
    bytes[data..].as_chunks::<2>().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)) / 32768.0).collect()
}

/// Unbiased standard deviation plus 1e-3: what the model's input is divided by.
fn scale(samples: &[f32]) -> f32 {
    let n = samples.len() as f64;
    let mean = samples.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = samples.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (variance.sqrt() + 1e-3) as f32
}

fn trained() -> Option<Model> {
    shared("weights/cleanumamba_mamba1.safetensors").map(|path| Model::open(&path))
}

#[test]
fn the_trained_model_gives_the_golden_values() {
    let (Some(model), Some(golden), Some(noisy)) =
        (trained(), shared("weights/golden_mamba1.safetensors"), shared("weights/golden_noisy_1s_16k.wav"))
    else {
        return;
    };
    let noisy = wav(&noisy);
    let by = scale(&noisy);
    let x: Vec<f32> = noisy.iter().map(|v| v / by).collect();
    let check = |key: &str, found: &[f32]| {
        let error = off(found, &values(&golden, key).unwrap());
        println!("{key}: {error:.1e}");
        assert!(error < 2e-5, "{key}: {error:e}");
    };
    let layers: Vec<Vec<f32>> = (0..3).map(|k| model.hidden(&x, &[9], (k, false), None)).collect();
    let after = model.hidden(&x, &[9], (3, false), None);
    check("bottleneck_in", &layers[0]);
    for k in 0..3 {
        let next = layers.get(k + 1).unwrap_or(&after);
        let mixer: Vec<f32> = next.iter().zip(&layers[k]).map(|(a, b)| a - b).collect();
        check(&format!("mixer_out.{k}"), &mixer);
    }
    check("bottleneck_out", &model.hidden(&x, &[9], model.last(), None));
    let out: Vec<f32> = model.denoise(&x, &[9]).iter().map(|v| v * by).collect();
    check("denoised", &out);
}

#[test]
fn noisy_speech_gets_clean() {
    let (Some(model), Some(speech)) = (trained(), shared("audio/speech_60s_16k.wav")) else { return };
    let clean = wav(&speech)[160_000..288_000].to_vec();
    let power = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / v.len() as f64;
    // Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), in dB.
    let si_sdr = |found: &[f32]| {
        let dot: f64 = found.iter().zip(&clean).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let gain = dot / (power(&clean) * clean.len() as f64);
        let rest: f64 =
            found.iter().zip(&clean).map(|(a, b)| (f64::from(*a) - gain * f64::from(*b)).powi(2)).sum();
        10.0 * (gain * gain * power(&clean) * clean.len() as f64 / rest).log10()
    };
    for seed in 1..=10 {
        let level = (power(&clean) / 10f64.powf(0.5)).sqrt();
        let noise = Random::new(seed).normals(level, clean.len());
        let noisy: Vec<f32> = clean.iter().zip(noise).map(|(c, n)| (f64::from(*c) + n) as f32).collect();
        let by = scale(&noisy);
        let x: Vec<f32> = noisy.iter().map(|v| v / by).collect();
        let (before, after) = (si_sdr(&noisy), si_sdr(&model.denoise(&x, &[128])));
        println!("seed {seed}: {before:.2} dB in, {after:.2} dB out");
        assert!(after >= 13.6, "seed {seed}: {after}");
    }
}

#[test]
fn a_minute_of_speech_does_not_feel_its_cuts() {
    let (Some(model), Some(speech)) = (trained(), shared("audio/speech_60s_16k.wav")) else { return };
    let speech = wav(&speech);
    for by in [1.0, 0.0625] {
        let x: Vec<f32> = speech.iter().map(|v| v / by).collect();
        let whole = model.hidden(&x, &[100_000], model.last(), None);
        assert_eq!(whole.len(), 64 * model.front.frames(x.len() as u64) as usize);
        for steps in [&[1][..], &[128], &[1000, 13, 1]] {
            assert!(model.hidden(&x, steps, model.last(), None) == whole, "{steps:?}");
        }
    }
}
