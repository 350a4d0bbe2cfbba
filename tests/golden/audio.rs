//! The built-in model of audio against `golden.safetensors` beside it: a NumPy recurrence in float64 over
//! the same f16 weights (`pipelines/training-audio/golden.py`).

use std::path::PathBuf;
use std::process::Command;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use mseq_backend::{Backend, LaneSpan};
use mseq_cpu::CpuBackend;
use mseq_model::arch::{Input, Mamba};
use mseq_model::{Checkpoint, ModelFiles};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::SafeTensors;

const HOP: usize = 160;
const FRAMES: usize = 51;
const WIDTH: usize = 256;

fn golden() -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/models/mamba-audio-2m/golden.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str| -> Vec<f32> {
        file.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    (values("samples"), values("hidden"), values("mean"))
}

/// Norm-wise difference, relative.
fn off(found: &[f32], truth: &[f32]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>().sqrt();
    square(&mut found.iter().zip(truth).map(|(a, b)| f64::from(a - b)))
        / square(&mut truth.iter().map(|v| f64::from(*v)))
}

#[test]
fn the_engine_gives_the_hidden_states_of_the_built_in_audio_model() {
    let (samples, hidden, _) = golden();
    let model = mseq_data::default_audio();
    let files = ModelFiles::Builtin { name: model.name, files: model.files };
    let checkpoint = Checkpoint::open(files).unwrap();
    let backend = CpuBackend::new(2).unwrap();
    let model = Mamba::load(&backend, &checkpoint).unwrap();
    for step in [FRAMES, 20, 7, 1] {
        let mut state = model.state(&backend, 1).unwrap();
        let mut workspace = model.workspace(&backend, step).unwrap();
        let (mut found, mut at) = (Vec::new(), 0);
        while at < FRAMES {
            let end = (at + step).min(FRAMES);
            let piece = &samples[at * HOP..samples.len().min(end * HOP)];
            let lanes = [LaneSpan { rows: 0..end - at, fresh: at == 0, slot: Some(0) }];
            let ranges = std::iter::once(0..piece.len()).collect::<Vec<_>>();
            let input = Input::Samples { samples: piece, lanes: &ranges };
            let upto = (checkpoint.shape.n_layer, true);
            let out = model.forward(&backend, input, &lanes, upto, &mut state, &mut workspace).unwrap();
            found.extend(backend.download(out, 0..(end - at) * WIDTH).unwrap());
            at = end;
        }
        let error = off(&found, &hidden);
        println!("steps of {step}: {error:.1e}");
        assert!(error < 1e-5, "steps of {step}: {error:e}");
    }
}

#[test]
fn the_program_gives_them_from_a_wav_file() {
    let (samples, hidden, mean) = golden();
    let folder = tempfile::tempdir().unwrap();
    let wav = folder.path().join("golden.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(&wav, spec).unwrap();
    samples.iter().for_each(|v| writer.write_sample(*v).unwrap());
    writer.finalize().unwrap();
    let embed = |more: &[&str]| -> Vec<f32> {
        let out = folder.path().join("o.parquet");
        let ran = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
            .args(["embed", "golden.wav", "-o", "o.parquet", "--device", "cpu"])
            .args(more)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let file = std::fs::File::open(out).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let mut values = Vec::new();
        for batch in reader {
            let batch = batch.unwrap();
            let list = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
            values.extend(list.values().as_primitive::<Float32Type>().values().iter());
        }
        values
    };
    for (more, truth) in [(&["--pool", "none"][..], &hidden), (&["--window", "record"], &mean)] {
        let error = off(&embed(more), truth);
        println!("{more:?}: {error:.1e}");
        assert!(error < 1e-5, "{more:?}: {error:e}");
    }
}
