//! `doctor --verify`: every op of a device against plain loops in f64, and whole models against the
//! CPU engine.

use std::fmt::Write;

use mseq_backend::{Backend, Decode, LaneSpan};
use mseq_core::{DType, DeviceSpec};
use mseq_cpu::CpuBackend;
use mseq_cuda::{CudaBackend, CudaConfig, Specialized};
use mseq_engine::Place;
use mseq_model::arch::Mamba;
use mseq_model::{Checkpoint, MambaShape, ModelFiles};
use mseq_testkit::model::{ModelShape, VOCAB, random_model_of};
use mseq_testkit::{Check, Random};

use super::verify_audio::Sounding;
use crate::args::DeveloperArgs;
use crate::{Failure, say};

/// Random inputs an op.
const SEEDS: u64 = 3;

/// Least share that the scan has in the output of a model, so that a wrong scan shows.
const SHARE: f64 = 0.5;

/// Models, and the tokens that go through them: shapes of the built-in kernels, and odd ones.
const MODELS: [(ModelShape, usize); 5] = [
    (ModelShape { d_model: 64, n_layer: 4, expand: 2, d_state: 16, d_conv: 4 }, 6000),
    (ModelShape { d_model: 256, n_layer: 8, expand: 2, d_state: 16, d_conv: 4 }, 4000),
    (ModelShape { d_model: 29, n_layer: 3, expand: 1, d_state: 10, d_conv: 3 }, 3000),
    (ModelShape { d_model: 64, n_layer: 4, expand: 2, d_state: 24, d_conv: 3 }, 3000),
    (ModelShape { d_model: 64, n_layer: 4, expand: 2, d_state: 40, d_conv: 4 }, 3000),
];

/// Largest norm-wise difference from the f32 of the CPU, over all rows of a model of so many blocks.
///
/// Each block adds its own roundings to the residual stream. They are independent, so beyond the 8 blocks for
/// which the limits of the 16-bit types were measured, these grow with the root of the depth.
pub(super) fn model_limit(dtype: DType, n_layer: usize) -> f64 {
    let deeper = (n_layer as f64 / 8.0).max(1.0).sqrt();
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 2e-3 * deeper,
        DType::Bf16 => 1e-2 * deeper,
    }
}

/// Largest norm-wise difference between two ways to cut the same tokens into steps. Deeper and wider models
/// than these amplify rounding, so for them it is that from the CPU.
pub(super) fn chunk_limit(dtype: DType, shape: &MambaShape) -> f64 {
    match dtype {
        DType::F32 if shape.d_model <= 256 && shape.n_layer <= 8 => 1e-6,
        _ => model_limit(dtype, shape.n_layer),
    }
}

/// What was found: a table, and what failed.
#[derive(Default)]
struct Report {
    table: String,
    failed: Vec<String>,
}

impl Report {
    /// A line for the worst of some checks, by how near each comes to its limit.
    fn add(&mut self, device: &str, dtype: DType, what: &str, checks: &[Check]) {
        let near = |check: &Check| if check.limit > 0.0 { check.error / check.limit } else { check.error };
        let measured = checks.iter().filter(|check| check.limit > 0.0);
        let worst = measured.max_by(|a, b| near(a).total_cmp(&near(b))).or(checks.first());
        let Some(worst) = worst else { return };
        let failed: Vec<String> = checks
            .iter()
            .filter(|check| !check.holds())
            .map(|check| format!("{device} {dtype} {what}: {check}"))
            .collect();
        let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
        let _ = writeln!(
            self.table,
            "{device:<8} {dtype:<5} {what:<32} {:>6} {:>10.2e} {:>9.0e}  {verdict}",
            checks.len(),
            worst.error,
            worst.limit,
        );
        self.failed.extend(failed);
    }

    /// A line for something that did not run at all.
    fn broken(&mut self, device: &str, dtype: DType, what: &str, why: &dyn std::fmt::Display) {
        let _ = writeln!(self.table, "{device:<8} {dtype:<5} {what:<32} FAILED: {why}");
        self.failed.push(format!("{device} {dtype} {what}: {why}"));
    }

    fn ops<B: Decode>(&mut self, device: &str, backend: &B) {
        self.some_ops(device, backend, "", |_| true);
    }

    fn some_ops<B: Decode>(&mut self, device: &str, backend: &B, note: &str, which: impl Fn(&str) -> bool) {
        for (name, op) in mseq_testkit::all::<B>().into_iter().filter(|(name, _)| which(name)) {
            let name = &format!("{name}{note}");
            let mut checks = Vec::new();
            for seed in 1..=SEEDS {
                match op(backend, seed) {
                    Ok(more) => checks.extend(more),
                    Err(e) => return self.broken(device, backend.dtype(), name, &e),
                }
            }
            self.add(device, backend.dtype(), name, &checks);
        }
    }
}

/// Verifies the CPU, or a CUDA device in each arithmetic that it has.
pub(super) fn run(device: &DeviceSpec, developer: &DeveloperArgs) -> Result<(), Failure> {
    let place = developer.at(mseq_engine::choose(device, None)?)?;
    let cpu = CpuBackend::new(0).map_err(|e| Failure::Run(e.to_string()))?;
    let mut report = Report::default();
    let mut head = String::new();
    match &place.cuda {
        None => {
            if let Some(why) = &place.note {
                let _ = writeln!(head, "{why}: the CPU is verified\n");
            }
            report.ops("cpu", &cpu);
            // In steps and beside a neighbour against itself in one step: the very bits.
            for model in Sounding::all(&cpu)? {
                let checks = model.compare(&cpu, 8)?;
                report.add("cpu", DType::F32, &model.name, &checks);
            }
        }
        Some(info) => {
            let _ = writeln!(head, "{}\n", info.label());
            let models = Model::all(&cpu)?;
            let sounding = Sounding::all(&cpu)?;
            let types = DType::ALL.into_iter().filter(|&d| d != DType::Bf16 || info.capability >= (8, 0));
            for dtype in types {
                let name = format!("cuda:{}", info.index);
                let config = CudaConfig {
                    index: info.index,
                    dtype,
                    d_inner: 128,
                    chunk: 4096,
                    sizes: None,
                    kernels_from: place.kernels_from.clone(),
                };
                let backend = match CudaBackend::new(&config) {
                    Ok(backend) => backend,
                    Err(e) => {
                        report.broken(&name, dtype, "kernels", &e);
                        continue;
                    }
                };
                if dtype == DType::F32 {
                    let _ = writeln!(
                        head,
                        "kernels {}, matrix products by {}\n",
                        backend.kernel_source(),
                        if backend.has_cublas() { "cuBLASLt" } else { "our own kernel" }
                    );
                }
                report.ops(&name, &backend);
                for model in &sounding {
                    if let Some(why) = model.too_large(dtype) {
                        let _ = writeln!(report.table, "{name:<8} {dtype:<5} {:<30} {why}", model.name);
                        continue;
                    }
                    match model.compare(&backend, backend.grid()) {
                        Ok(checks) => report.add(&name, dtype, &model.name, &checks),
                        Err(e) => report.broken(&name, dtype, &model.name, &e.message().unwrap_or_default()),
                    }
                }
                for model in &models {
                    match model.compare(&backend) {
                        Ok(checks) => report.add(&name, dtype, &model.name, &checks),
                        Err(e) => report.broken(&name, dtype, &model.name, &e.message().unwrap_or_default()),
                    }
                }
                let place = Place { dtype, ..place.clone() };
                for model in models.iter().filter(|model| model.is_odd()) {
                    let why = report.made_for(&name, &place, model)?;
                    if let (Some(why), DType::F32) = (why, dtype) {
                        let _ = writeln!(head, "{why}\n");
                    }
                }
            }
        }
    }
    say::out(&format!(
        "{head}{:<8} {:<5} {:<32} {:>6} {:>10} {:>9}\n{}",
        "device", "dtype", "what", "checks", "worst", "limit", report.table
    ))?;
    if report.failed.is_empty() {
        return say::out("\nall results are within their limits\n");
    }
    report.failed.iter().take(40).for_each(|line| say::line(line));
    Err(Failure::Run(format!(
        "{} of these results are off; please report them with the output of `mamba-seq doctor`",
        report.failed.len()
    )))
}

/// Ops that have a form of their own for a shape.
const SPECIAL_OPS: [&str; 5] = [
    "causal_conv1d_fwd",
    "causal_conv1d_update",
    "selective_scan_fwd",
    "selective_state_update",
    "mixer_update",
];

impl Report {
    /// A model, and the ops, with kernels that are made for its shape; or why there are none.
    fn made_for(&mut self, device: &str, place: &Place, model: &Model) -> Result<Option<String>, Failure> {
        let Some(backend) = place.open_cuda(&model.checkpoint.shape, 4096)? else { return Ok(None) };
        match backend.specialized() {
            Specialized::NotNeeded => return Ok(None),
            Specialized::Off => {
                return Ok(Some("MSEQ_NO_SPECIALIZE=1: no kernels for odd shapes".to_owned()));
            }
            failed @ Specialized::Failed { .. } => return Ok(failed.note()),
            Specialized::Made(_) => {}
        }
        let MambaShape { d_state, d_conv, .. } = model.checkpoint.shape;
        let note = format!(", {d_state}/{d_conv}");
        self.some_ops(device, &backend, &note, |name| SPECIAL_OPS.contains(&name));
        let name = format!("{}, made for it", model.name);
        match model.compare(&backend) {
            Ok(checks) => self.add(device, place.dtype, &name, &checks),
            Err(e) => self.broken(device, place.dtype, &name, &e.message().unwrap_or_default()),
        }
        Ok(None)
    }
}

/// A random model with what the CPU makes of it.
struct Model {
    name: String,
    checkpoint: Checkpoint,
    ids: Vec<u32>,
    /// (ids, d_model).
    hidden: Vec<f32>,
    /// The last state of each block.
    state: Vec<f32>,
}

impl Model {
    /// The random ones, then the built-in ones.
    fn all(cpu: &CpuBackend) -> Result<Vec<Self>, Failure> {
        let random = MODELS.into_iter().map(|(shape, tokens)| Self::random(cpu, shape, tokens));
        // Those that read samples are in `verify_audio`.
        let dna = mseq_data::builtins().iter().filter(|model| model.modality == "dna");
        let built_in = dna.map(|model| {
            let checkpoint = Checkpoint::open(super::model_files(model.name)?)?;
            Self::new(cpu, model.name.to_owned(), checkpoint, 5000)
        });
        random.chain(built_in).collect()
    }

    fn random(cpu: &CpuBackend, shape: ModelShape, tokens: usize) -> Result<Self, Failure> {
        let ModelShape { d_model, n_layer, .. } = shape;
        let mut model = Self::new(cpu, String::new(), checkpoint(shape, VOCAB, true)?, tokens)?;
        let whole = std::slice::from_ref(&(0..tokens)).to_vec();
        let (without, _) = forward(cpu, &checkpoint(shape, VOCAB, false)?, &model.ids, &whole)?;
        let share = Check::new("", &without, &wide(&model.hidden), SHARE).error;
        if share < SHARE {
            return Err(Failure::Run(format!(
                "internal: the scan is only {share:.2} of a test model's output"
            )));
        }
        model.name = format!("model {d_model} x {n_layer}, scan {share:.2}");
        if model.is_odd() {
            model.name = format!("model {d_model} x {n_layer}, {}/{}", shape.d_state, shape.d_conv);
        }
        Ok(model)
    }

    /// Whether the built-in kernels are made for another shape.
    fn is_odd(&self) -> bool {
        let MambaShape { d_state, d_conv, .. } = self.checkpoint.shape;
        (d_state, d_conv) != (16, 4)
    }

    fn new(cpu: &CpuBackend, name: String, checkpoint: Checkpoint, tokens: usize) -> Result<Self, Failure> {
        let mut random = Random::new(tokens as u64);
        // Four letters and the unknown one: every DNA model has rows for them.
        let letters = VOCAB.min(checkpoint.shape.vocab).min(5);
        let ids: Vec<u32> = (0..tokens).map(|_| random.between(0, letters - 1) as u32).collect();
        let whole = std::slice::from_ref(&(0..tokens)).to_vec();
        let (hidden, state) = forward(cpu, &checkpoint, &ids, &whole)?;
        Ok(Self { name, checkpoint, ids, hidden, state })
    }

    /// In one step, and in steps between which the state is carried.
    fn compare(&self, backend: &CudaBackend) -> Result<Vec<Check>, Failure> {
        let (tokens, grid) = (self.ids.len(), backend.grid());
        let limit = model_limit(backend.dtype(), self.checkpoint.shape.n_layer);
        let steps = [0..1, 1..grid + 1, grid + 1..grid + 4, grid + 4..tokens];
        let all = 0..tokens;
        let whole = std::slice::from_ref(&all);
        let mut checks = Vec::new();
        let mut first: Option<Vec<f32>> = None;
        for (what, cuts) in [("one step", whole), ("four steps", &steps), ("one step", whole)] {
            let (hidden, state) = forward(backend, &self.checkpoint, &self.ids, cuts)?;
            checks.push(Check::new(format!("hidden states, {what}"), &hidden, &wide(&self.hidden), limit));
            checks.push(Check::new(format!("recurrent states, {what}"), &state, &wide(&self.state), limit));
            match &first {
                None => first = Some(hidden),
                Some(first) if what == "one step" => checks.push(Check::twice(what, first, &hidden)),
                Some(first) => {
                    let limit = chunk_limit(backend.dtype(), &self.checkpoint.shape);
                    checks.push(Check::new(format!("{what} against one"), &hidden, &wide(first), limit));
                }
            }
        }
        Ok(checks)
    }
}

pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// A random model, in memory.
pub(super) fn checkpoint(shape: ModelShape, vocab: usize, scan: bool) -> Result<Checkpoint, Failure> {
    in_memory(random_model_of(shape, vocab, 7, scan))
}

/// A model of these files.
pub(super) fn in_memory(files: Vec<(&'static str, Vec<u8>)>) -> Result<Checkpoint, Failure> {
    // A built-in model lives as long as the program; these few, and the program ends after them.
    let files = files.into_iter();
    let files: Vec<(&'static str, &'static [u8])> =
        files.map(|(name, bytes)| (name, &*Box::leak(bytes.into_boxed_slice()))).collect();
    let files = ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) };
    Ok(Checkpoint::open(files)?)
}

/// Hidden states of a record beside a shorter one, in steps, and the states at its end.
fn forward<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    ids: &[u32],
    steps: &[std::ops::Range<usize>],
) -> Result<(Vec<f32>, Vec<f32>), Failure> {
    let model = Mamba::load(backend, checkpoint)?;
    let mut state = model.state(backend, 1)?;
    let mut workspace = model.workspace(backend, 0)?;
    let width = checkpoint.shape.d_model;
    let mut hidden = Vec::new();
    for step in steps {
        // The neighbour must neither change the record nor be changed by it.
        let neighbour = 300.min(ids.len());
        let both: Vec<u32> = ids[..neighbour].iter().chain(&ids[step.clone()]).copied().collect();
        let lanes = [
            LaneSpan { rows: 0..neighbour, fresh: true, slot: None },
            LaneSpan { rows: neighbour..both.len(), fresh: step.start == 0, slot: Some(0) },
        ];
        let upto = (checkpoint.shape.n_layer, true);
        let out = model.forward(backend, &both, &lanes, upto, &mut state, &mut workspace)?;
        let rows = neighbour * width..both.len() * width;
        hidden.extend(backend.download(out, rows).map_err(mseq_model::Error::from)?);
    }
    let state = state.download(backend)?.into_iter().flat_map(|(conv, ssm)| conv.into_iter().chain(ssm));
    Ok((hidden, state.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deep_models_in_16_bits_may_be_further_off() {
        for dtype in DType::ALL {
            assert_eq!(model_limit(dtype, 8), model_limit(dtype, 1));
        }
        assert_eq!(model_limit(DType::F32, 64), 1e-5);
        assert!((model_limit(DType::Bf16, 32) - 2e-2).abs() < 1e-9);
    }

    #[test]
    fn models_hang_on_their_scan_and_a_fault_is_reported() {
        let cpu = CpuBackend::new(2).unwrap();
        // `random` refuses a model that does not.
        let model = Model::random(&cpu, MODELS[2].0, 700).unwrap();
        let steps = [0..1, 1..300, 300..700];
        let (hidden, state) = forward(&cpu, &model.checkpoint, &model.ids, &steps).unwrap();
        assert!(hidden == model.hidden && state == model.state);

        let mut report = Report::default();
        let check = |error| Check { what: "x".into(), error, limit: 1e-3 };
        report.add("cuda:0", DType::Bf16, "op", &[check(1e-4), check(5e-4)]);
        assert!(report.failed.is_empty() && report.table.contains("5.00e-4"), "{}", report.table);
        report.add("cuda:0", DType::Bf16, "op", &[check(1e-4), check(f64::NAN), check(0.1)]);
        assert_eq!(report.failed.len(), 2);
        assert!(report.table.contains("FAILED"));
    }
}
