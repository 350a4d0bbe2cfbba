//! What only a device can show: its errors, its memory, and steps whose offsets pass 2^31. Skipped
//! aloud without one; with `MSEQ_REQUIRE_CUDA=1` a missing one is an error.

use std::path::Path;

use mseq_backend::ops::LinearFwd;
use mseq_backend::{Backend, Error, LaneSpan, Rows, RowsMut};
use mseq_core::DType;
use mseq_cuda::{CudaBackend, CudaConfig};
use mseq_model::arch::{Input, Mamba};
use mseq_model::{Checkpoint, ModelFiles};
use mseq_testkit::Random;
use mseq_testkit::model::{ModelShape, VOCAB, random_model};

fn open(dtype: DType, d_inner: usize, chunk: usize) -> Option<CudaBackend> {
    let config = CudaConfig { index: 0, dtype, d_inner, chunk, sizes: None, kernels_from: None };
    match CudaBackend::new(&config) {
        Ok(backend) => Some(backend),
        Err(why) => {
            assert!(std::env::var("MSEQ_REQUIRE_CUDA").is_err(), "{why}");
            mseq_testkit::aloud(&format!("skipped, no CUDA device: {why}"));
            None
        }
    }
}

#[test]
fn no_room_is_an_error_of_its_own() {
    let Some(backend) = open(DType::F32, 64, 256) else { return };
    let Err(error) = backend.zeros(1 << 42) else { panic!("16 TiB were there") };
    assert!(matches!(error, Error::OutOfMemory { bytes, .. } if bytes == 4 << 42), "{error}");
    assert!(error.to_string().contains("--chunk"));
    // The device goes on.
    let buf = backend.upload(&[1.0, 2.0]).unwrap();
    assert_eq!(backend.download(&buf, 0..2).unwrap(), [1.0, 2.0]);
}

#[test]
fn dropped_buffers_leave_their_memory() {
    let Some(backend) = open(DType::F32, 64, 256) else { return };
    // Other tests use the device at the same time: far more in all than it has.
    for _ in 0..40 {
        let (_, total) = backend.memory().unwrap();
        drop(backend.zeros(total / 4 / 10).unwrap());
    }
}

#[test]
fn a_buffer_of_another_type_is_refused() {
    let Some(backend) = open(DType::F16, 64, 256) else { return };
    let (x, mut y) = (backend.zeros(4).unwrap(), backend.zeros(4).unwrap());
    let weight = backend.linear(&[1.0; 4], 2, 2).unwrap();
    let op = LinearFwd {
        rows: 2,
        in_features: 2,
        out_features: 2,
        x: Rows::whole(&x, 2),
        weight: &weight,
        bias: None,
        accumulate: false,
        y: RowsMut { buf: &mut y, stride: 2 },
    };
    let error = backend.linear_fwd(op).unwrap_err();
    assert!(matches!(error, Error::Type { what: "x", found: DType::F32, .. }), "{error}");
    assert!(backend.linear(&[1e6; 4], 2, 2).is_err(), "a weight beyond f16");
}

fn random_checkpoint(shape: ModelShape, seed: u64) -> Checkpoint {
    let files: Vec<(&'static str, &'static [u8])> = random_model(shape, seed, true)
        .into_iter()
        .map(|(name, bytes)| (name, &*Box::leak(bytes.into_boxed_slice())))
        .collect();
    let files = ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) };
    Checkpoint::open(files).unwrap_or_else(|e| panic!("a model that the test made: {e}"))
}

/// Norm of the difference over norm of the second.
fn off(found: &[f32], right: &[f32]) -> f64 {
    assert_eq!(found.len(), right.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(right).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut right.iter().map(|&v| f64::from(v)))
}

/// In f32, hidden states of every token in steps of any length against those in one. These models amplify rounding more than
/// most, with steps of the scan of up to 3: 2e-6 for steps shorter than any that `--chunk` makes.
#[test]
fn chunks_of_any_length_agree_in_f32() {
    const ROWS: usize = 2300;
    let shape = ModelShape { d_model: 256, n_layer: 8, expand: 2, d_state: 16, d_conv: 4 };
    let Some(backend) = open(DType::F32, 512, ROWS) else { return };
    for seed in 1..=3 {
        let model = Mamba::load(&backend, &random_checkpoint(shape, seed)).unwrap();
        let mut random = Random::new(seed);
        let ids: Vec<u32> = (0..ROWS).map(|_| random.between(0, VOCAB - 1) as u32).collect();
        let hidden = |cuts: &[usize]| {
            let mut state = model.state(&backend, 1).unwrap();
            let mut workspace = model.workspace(&backend, ROWS).unwrap();
            let (mut at, mut all, mut cuts) = (0, Vec::new(), cuts.iter().cycle());
            while at < ROWS {
                let end = (at + cuts.next().unwrap()).min(ROWS);
                let lanes = [LaneSpan { rows: 0..end - at, fresh: at == 0, slot: Some(0) }];
                let part = &ids[at..end];
                let out =
                    model.forward(&backend, part, &lanes, (8, true), &mut state, &mut workspace).unwrap();
                all.extend(backend.download(out, 0..(end - at) * 256).unwrap());
                at = end;
            }
            all
        };
        let whole = hidden(&[ROWS]);
        for cuts in
            [&[256][..], &[512, 256], &[1024], &[1280, 1024], &[1], &[2, 1, 3], &[7], &[64, 1], &[1000, 13]]
        {
            let error = off(&hidden(cuts), &whole);
            mseq_testkit::aloud(&format!("seed {seed}, steps of {cuts:?} against one: {error:.2e}"));
            let limit = if cuts.iter().all(|&cut| cut >= 1024) { 1e-6 } else { 2e-6 };
            assert!(error <= limit, "seed {seed}, steps of {cuts:?}: {error:.2e}");
        }
    }
}

/// One step of 1.1 million rows, whose x and z have 4.5 thousand million values, and shorter steps
/// with the state carried between them.
#[test]
fn offsets_pass_two_to_the_31() {
    const ROWS: usize = 1_100_000;
    const STEP: usize = 1 << 18;
    let shape = ModelShape { d_model: 1024, n_layer: 1, expand: 2, d_state: 16, d_conv: 4 };
    let Some(backend) = open(DType::Bf16, 2048, STEP) else { return };
    let need = 45_000usize * ROWS;
    if backend.memory().unwrap().0 < need {
        return mseq_testkit::aloud("skipped: offsets beyond 2^31 need a device with 64 GB");
    }
    let checkpoint = random_checkpoint(shape, 1);
    let model = Mamba::load(&backend, &checkpoint).unwrap();
    let mut random = Random::new(5);
    let ids: Vec<u32> = (0..ROWS).map(|_| random.between(0, VOCAB - 1) as u32).collect();
    let last_rows = |step: usize| {
        let mut state = model.state(&backend, 1).unwrap();
        let mut workspace = model.workspace(&backend, step).unwrap();
        let (mut from, mut last) = (0, Vec::new());
        for ids in ids.chunks(step) {
            let lanes = [LaneSpan { rows: 0..ids.len(), fresh: from == 0, slot: Some(0) }];
            let out = model.forward(&backend, ids, &lanes, (1, true), &mut state, &mut workspace).unwrap();
            last = backend.download(out, (ids.len() - 1000) * 1024..ids.len() * 1024).unwrap();
            from += ids.len();
        }
        last
    };
    let (whole, parts) = (last_rows(ROWS), last_rows(STEP));
    let error = off(&whole, &parts);
    assert!(error < 2e-3, "{error}");
}

/// The built-in model of audio against its golden values, whole and in steps.
#[test]
fn the_built_in_audio_model_gives_its_golden_values() {
    const HOP: usize = 160;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/mamba-audio-2m");
    let golden = std::fs::read(folder.join("golden.safetensors")).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&golden).unwrap();
    let values = |name: &str| -> Vec<f32> {
        let data = golden.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
        data.into_iter().map(f32::from_le_bytes).collect()
    };
    let (samples, hidden) = (values("samples"), values("hidden"));
    let checkpoint = Checkpoint::open(ModelFiles::at(&folder).unwrap()).unwrap();
    let (width, frames) = (checkpoint.shape.d_model, samples.len().div_ceil(HOP));
    // In bf16 the squares inside double what is off, as often as there are blocks.
    for (dtype, limit) in [(DType::F32, 1e-5), (DType::Bf16, 4e-2)] {
        let Some(backend) = open(dtype, 512, 256) else { return };
        let model = Mamba::load(&backend, &checkpoint).unwrap();
        for step in [frames, 16, 1] {
            let mut state = model.state(&backend, 1).unwrap();
            let mut workspace = model.workspace(&backend, step).unwrap();
            let (mut found, mut at) = (Vec::new(), 0);
            while at < frames {
                let end = (at + step).min(frames);
                let piece = &samples[at * HOP..samples.len().min(end * HOP)];
                let lanes = [LaneSpan { rows: 0..end - at, fresh: at == 0, slot: Some(0) }];
                let ranges: Vec<_> = std::iter::once(0..piece.len()).collect();
                let input = Input::Samples { samples: piece, lanes: &ranges };
                let upto = (checkpoint.shape.n_layer, true);
                let out = model.forward(&backend, input, &lanes, upto, &mut state, &mut workspace).unwrap();
                found.extend(backend.download(out, 0..(end - at) * width).unwrap());
                at = end;
            }
            let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
            let off = norm(&mut found.iter().zip(&hidden).map(|(a, b)| f64::from(a - b)));
            let error = off / norm(&mut hidden.iter().map(|&v| f64::from(v)));
            assert!(found.len() == hidden.len() && error < limit, "{dtype}, steps of {step}: {error:e}");
        }
    }
}
