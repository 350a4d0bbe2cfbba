//! `enhance`: WAV in, denoised WAV out, any step the same, and each thing it can't do in one line.

use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use safetensors::SafeTensors;

use crate::common::{golden_model, mamba_seq, outside_data};

const FLOAT: WavSpec =
    WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 32, sample_format: SampleFormat::Float };
const PCM: WavSpec = WavSpec { bits_per_sample: 16, sample_format: SampleFormat::Int, ..FLOAT };

fn write(path: &Path, spec: WavSpec, samples: &[f32]) {
    let mut writer = WavWriter::create(path, spec).unwrap();
    for &v in samples {
        match spec.sample_format {
            SampleFormat::Float => writer.write_sample(v).unwrap(),
            SampleFormat::Int => {
                writer.write_sample((v * f32::from(i16::MAX)).clamp(-32767.0, 32767.0) as i16).unwrap();
            }
        }
    }
    writer.finalize().unwrap();
}

fn floats(path: &Path) -> Vec<f32> {
    let mut reader = WavReader::open(path).unwrap();
    assert_eq!(reader.spec(), FLOAT);
    reader.samples::<f32>().map(Result::unwrap).collect()
}

/// The longest record of a committed fixture, and what it becomes.
fn expected(model: &str) -> (Vec<f32>, Vec<f64>) {
    let bytes = std::fs::read(Path::new(&golden_model(model)).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let last = (0..).take_while(|i| file.tensor(&format!("samples.{i}")).is_ok()).last().unwrap();
    let samples = file.tensor(&format!("samples.{last}")).unwrap();
    let denoised = file.tensor(&format!("denoised.{last}")).unwrap();
    (
        samples.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        denoised.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
    )
}

fn off(found: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let d: f64 = found.iter().zip(truth).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (d / truth.iter().map(|v| v * v).sum::<f64>()).sqrt()
}

#[test]
fn a_wav_file_is_denoised_in_steps_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for model in ["clean-even", "clean-pruned"] {
        let (samples, truth) = expected(model);
        write(&at("in.wav"), FLOAT, &samples);
        let model = format!("{}/model.safetensors", golden_model(model));
        let mut first: Option<Vec<u8>> = None;
        for (chunk, threads) in [("1000", "2"), ("1", "1"), ("7", "2")] {
            let ran = mamba_seq(
                folder.path(),
                &[
                    "enhance",
                    "in.wav",
                    "-o",
                    "out.wav",
                    "--model",
                    &model,
                    "--normalize",
                    "none",
                    "--chunk",
                    chunk,
                    "--threads",
                    threads,
                    "--device",
                    "cpu",
                ],
            );
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            let error = off(&floats(&at("out.wav")), &truth);
            assert!(error < 2e-6, "{error:e}");
            let bytes = std::fs::read(at("out.wav")).unwrap();
            assert!(first.get_or_insert_with(|| bytes.clone()) == &bytes, "steps of {chunk}");
        }
    }
}

#[test]
fn the_deviation_is_divided_out_and_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (samples, truth) = expected("clean-even");
    let model = format!("{}/model.safetensors", golden_model("clean-even"));
    let n = samples.len() as f64;
    let mean = samples.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (samples.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let run = |normalize: &str| {
        let args = ["enhance", "in.wav", "--model", &model, "-o", "out.wav", "--normalize", normalize];
        let ran = mamba_seq(folder.path(), &args);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("normalize {normalize}")), "{}", ran.stderr);
    };
    // fixed:STD divides by STD + 1e-3, as two-pass does by the file's own.
    let scale = 0.125f32 + 1e-3;
    let loud: Vec<f32> = samples.iter().map(|v| v * scale).collect();
    write(&at("in.wav"), FLOAT, &loud);
    run("fixed:0.125");
    let out: Vec<f32> = floats(&at("out.wav")).iter().map(|v| v / scale).collect();
    assert!(off(&out, &truth) < 5e-6);
    write(&at("in.wav"), FLOAT, &samples);
    run("two-pass");
    let by_own = floats(&at("out.wav"));
    run(&format!("fixed:{}", std as f32));
    let close: Vec<f64> = floats(&at("out.wav")).iter().map(|&v| v.into()).collect();
    assert!(off(&by_own, &close) < 1e-5);
    assert!(off(&by_own, &truth) > 1e-4, "another scale gives other audio");
}

#[test]
fn sixteen_bits_stay_sixteen_bits_and_silence_stays_finite() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    for (samples, name) in
        [(vec![], "empty.wav"), (vec![0.0; 500], "silent.wav"), (vec![0.25; 777], "steady.wav")]
    {
        write(&at(name), PCM, &samples);
        let ran = mamba_seq(folder.path(), &["enhance", name, "--model", &model]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let out = WavReader::open(at(&name.replace(".wav", ".enhanced.wav"))).unwrap();
        assert_eq!((out.spec(), out.len() as usize), (PCM, samples.len()));
    }
}

#[test]
fn what_it_cannot_do_is_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let clean = format!("{}/model.safetensors", golden_model("clean-even"));
    let dna = golden_model("d29-n4-k2-e1");
    std::fs::write(at("text.wav"), "no sound at all, but quite some text\n").unwrap();
    write(&at("stereo.wav"), WavSpec { channels: 2, ..PCM }, &[0.1; 64]);
    write(&at("slow.wav"), WavSpec { sample_rate: 8000, ..PCM }, &[0.1; 64]);
    write(&at("nan.wav"), FLOAT, &[0.1, 0.2, f32::NAN, 0.4]);
    write(&at("good.wav"), PCM, &[0.1; 64]);
    let whole = std::fs::read(at("good.wav")).unwrap();
    std::fs::write(at("short.wav"), &whole[..whole.len() - 31]).unwrap();
    std::fs::create_dir(at("twin")).unwrap();
    let config = r#"{"encoder_n_layers": 8, "tsfm_n_layers": 3, "tsfm_d_model": 64, "mamba_v2": true}"#;
    std::fs::write(at("twin/config.json"), config).unwrap();
    for (input, model, code, words) in [
        ("text.wav", clean.as_str(), 1, &["text.wav", "not a WAV file"][..]),
        ("stereo.wav", &clean, 1, &["stereo.wav", "2 channels"]),
        ("slow.wav", &clean, 1, &["slow.wav", "8000 samples a second", "16000"]),
        ("nan.wav", &clean, 1, &["nan.wav", "sample 3 is NaN"]),
        ("short.wav", &clean, 1, &["short.wav", "cut short"]),
        ("missing.wav", &clean, 1, &["missing.wav"]),
        ("good.wav", &dna, 1, &["d29-n4-k2-e1", "no decoder"]),
        ("good.wav", "twin", 1, &["twin", "Mamba-2"]),
        ("good.wav", "good.wav", 1, &["good.wav", ".safetensors"]),
    ] {
        let ran = mamba_seq(folder.path(), &["enhance", input, "--model", model, "-o", "out.wav"]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (code, 1), "{input}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{input}: {} lacks {word}", ran.stderr);
        }
        let left = std::fs::read_dir(folder.path()).unwrap();
        let left: Vec<_> = left.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!left.iter().any(|name| name.starts_with("out.wav")), "{left:?}");
    }
    let ran = mamba_seq(folder.path(), &["enhance", "good.wav", "--model", &clean, "-o", "good.wav"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let ran = mamba_seq(folder.path(), &["enhance", "-", "--model", &clean]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let ran = mamba_seq(folder.path(), &["embed", "good.wav", "--model", &clean, "-o", "o.parquet"]);
    assert_eq!((ran.code, at("o.parquet").exists()), (0, true), "{}", ran.stderr);
    assert_eq!(std::fs::read(at("good.wav")).unwrap(), whole);
}

#[test]
fn models_info_and_verify_know_the_family() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    let ran = mamba_seq(folder.path(), &["models", "info", &model]);
    let text = String::from_utf8(ran.stdout).unwrap();
    for line in ["CleanUMamba", "13, 10, 9", "16000 Hz", "16 samples from 46", "LayerNorm"] {
        assert!(text.contains(line), "{text}{}", ran.stderr);
    }
    let ran = mamba_seq(folder.path(), &["models", "verify", &model, "--tokens", "300"]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert_eq!((ran.code, text.matches("equal bits").count()), (0, 5), "{text}{}", ran.stderr);
}

#[test]
fn the_trained_model_denoises_as_expected() {
    let (Some(model), Some(golden), Some(noisy)) = (
        outside_data("weights/cleanumamba_mamba1.safetensors"),
        outside_data("weights/golden_mamba1.safetensors"),
        outside_data("weights/golden_noisy_1s_16k.wav"),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.wav");
    let (noisy, model) = (noisy.display().to_string(), model.display().to_string());
    let ran = mamba_seq(folder.path(), &["enhance", &noisy, "--model", &model, "-o", "out.wav"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let bytes = std::fs::read(golden).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let truth: Vec<f64> = file
        .tensor("denoised")
        .unwrap()
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f64::from(f32::from_le_bytes(*b)))
        .collect();
    let found: Vec<i16> = WavReader::open(&out).unwrap().samples::<i16>().map(Result::unwrap).collect();
    assert_eq!(found.len(), truth.len());
    // 16 bits: half a step, and what f32 is off.
    let worst =
        found.iter().zip(&truth).map(|(a, b)| (f64::from(*a) / 32768.0 - b).abs()).fold(0.0, f64::max);
    assert!(worst < 0.51 / 32768.0, "{worst}");
}
