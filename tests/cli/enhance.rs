//! `enhance`: WAV in, denoised WAV out, any step the same, and each thing it can't do in one line.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use safetensors::SafeTensors;

use crate::common::{data, golden_model, mamba_seq, mamba_seq_with_input, outside_data};

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
fn progress_is_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    write(&folder.path().join("in.wav"), PCM, &[0.25; 32_000]);
    let args = ["enhance", "in.wav", "--model", &model, "--progress", "json", "-q"];
    let ran = mamba_seq(folder.path(), &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<serde_json::Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!((&first["event"], &first["record"]), (&"start".into(), &"in".into()), "{first}");
    assert_eq!((&last["event"], &last["bases_done"]), (&"done".into(), &32_000.into()), "{last}");
    assert_eq!((&last["seconds_done"], &last["seconds_total"]), (&2.0.into(), &2.0.into()), "{last}");
    let quiet = mamba_seq(folder.path(), &["enhance", "in.wav", "--model", &model, "-q"]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn what_it_cannot_do_is_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let clean = format!("{}/model.safetensors", golden_model("clean-even"));
    let dna = golden_model("d29-n4-k2-e1");
    std::fs::write(at("text.wav"), "no sound at all, but quite some text\n").unwrap();
    write(&at("six.wav"), WavSpec { channels: 6, ..PCM }, &[0.1; 66]);
    write(&at("nan.wav"), FLOAT, &[0.1, 0.2, f32::NAN, 0.4]);
    write(&at("good.wav"), PCM, &[0.1; 64]);
    std::fs::copy(data("audio/film.mp4"), at("film.mp4")).unwrap();
    std::fs::write(at("x.fa"), ">a\nACGT\n").unwrap();
    let whole = std::fs::read(at("good.wav")).unwrap();
    std::fs::write(at("short.wav"), &whole[..whole.len() - 31]).unwrap();
    std::fs::create_dir(at("twin")).unwrap();
    std::fs::create_dir(at("two")).unwrap();
    std::fs::copy(at("good.wav"), at("two/a.wav")).unwrap();
    std::fs::copy(at("good.wav"), at("two/b.wav")).unwrap();
    let config = r#"{"encoder_n_layers": 8, "tsfm_n_layers": 3, "tsfm_d_model": 64, "mamba_v2": true}"#;
    std::fs::write(at("twin/config.json"), config).unwrap();
    for (input, model, code, words) in [
        ("text.wav", clean.as_str(), 1, &["text.wav: is not audio: it starts with \"no sound"][..]),
        ("six.wav", &clean, 2, &["six.wav: has 6 channels; say which by --channel"]),
        ("film.mp4", &clean, 1, &["film.mp4: is a video; take its sound out first: ffmpeg"]),
        ("x.fa", &clean, 2, &["x.fa: is FASTA, and the model reads audio"]),
        ("nan.wav", &clean, 1, &["nan.wav: sample 2 (0.000 s) is NaN"]),
        ("short.wav", &clean, 1, &["short.wav: gives 48 of 64 samples: the file is truncated or damaged"]),
        ("missing.wav", &clean, 1, &["missing.wav"]),
        ("two", &clean, 2, &["two: is 2 recordings, and `enhance` takes one"]),
        ("good.wav", &dna, 1, &["d29-n4-k2-e1", "no decoder"]),
        ("good.wav", "twin", 1, &["twin", "Mamba-2"]),
        ("good.wav", "good.wav", 1, &["good.wav", ".safetensors"]),
    ] {
        let ran = mamba_seq(folder.path(), &["enhance", input, "--model", model, "-o", "out.wav", "-q"]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (code, 1), "{input}: {}", ran.stderr);
        for word in words {
            assert!(
                ran.stderr.starts_with("error: ") && ran.stderr.contains(word),
                "{input}: {}",
                ran.stderr
            );
        }
        assert_eq!(left(folder.path()), 0, "{input}");
    }
    for (args, words) in [
        (&["good.wav", "-o", "good.wav"][..], "is the input"),
        (&["good.wav", "-o", "-"], "writes files"),
        (&["-", "--normalize", "none"], "standard input needs -o"),
        (&["-", "-o", "out.wav"], "--normalize two-pass reads the input twice"),
    ] {
        let ran = mamba_seq(folder.path(), &[&["enhance", "--model", &clean], args].concat());
        assert!(ran.code == 2 && ran.stderr.contains(words), "{}", ran.stderr);
    }
    let ran = mamba_seq(folder.path(), &["embed", "good.wav", "--model", &clean, "-o", "o.parquet"]);
    assert_eq!((ran.code, at("o.parquet").exists()), (0, true), "{}", ran.stderr);
    assert_eq!(std::fs::read(at("good.wav")).unwrap(), whole);
}

/// Files of a folder that are, or would have become, an output.
fn left(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("out.wav")).count()
}

/// Other rates, channels and formats, and a pipe: as the model hears them, written at its rate.
#[test]
fn recordings_of_any_kind_come_out_at_the_models_rate() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    let run = |args: &[&str], input: &[u8]| {
        let args = [&["enhance", "--model", &model, "--device", "cpu", "-o", "out.wav"], args].concat();
        let ran = mamba_seq_with_input(folder.path(), &args, input);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        (std::fs::read(at("out.wav")).unwrap(), ran.stderr)
    };
    let spec = || WavReader::open(at("out.wav")).map(|out| (out.spec(), out.duration())).unwrap();
    let tone: Vec<f32> = (0..9000).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect();
    write(&at("mono.wav"), PCM, &tone);
    let (mono, said) = run(&["mono.wav"], b"");
    assert!(!said.contains("channels") && !said.contains("samples a second"), "{said}");
    // The left of two channels, from a pipe too.
    let two: Vec<f32> = tone.iter().flat_map(|v| [*v, -0.2]).collect();
    write(&at("two.wav"), WavSpec { channels: 2, ..PCM }, &two);
    let (left_one, said) = run(&["two.wav", "--channel", "left"], b"");
    assert!(
        left_one == mono && said.contains("of 2 channels, channel left is heard; the output has one"),
        "{said}"
    );
    let (fixed, _) = run(&["mono.wav", "--normalize", "fixed:0.2"], b"");
    let piped = run(&["-", "--normalize", "fixed:0.2"], &std::fs::read(at("mono.wav")).unwrap());
    assert!(piped.0 == fixed);
    // Another rate.
    write(&at("slow.wav"), WavSpec { sample_rate: 8000, ..FLOAT }, &tone);
    let (_, said) = run(&["slow.wav"], b"");
    assert!(
        said.contains("8,000 samples a second become the 16,000 of the model, in the output too"),
        "{said}"
    );
    assert_eq!(spec(), (FLOAT, 18_000));
    // FLAC is 16 bits here, Vorbis none of its own.
    for (name, samples) in [("chirp.flac", 32_000), ("bell.ogg", 16_000)] {
        std::fs::copy(data(&format!("audio/clips/{name}")), at(name)).unwrap();
        run(&[name], b"");
        assert_eq!(spec().1, samples, "{name}");
        assert!([16, 24].contains(&spec().0.bits_per_sample));
    }
    // What does not fit is clipped, counted, and said once.
    let (_, said) = run(&["mono.wav", "--normalize", "fixed:0.0001"], b"");
    assert!(said.lines().filter(|line| line.contains("clipped at full scale")).count() <= 1, "{said}");
    let loud: Vec<f32> = tone.iter().map(|v| v * 5.0).collect();
    write(&at("loud.wav"), FLOAT, &loud);
    let beyond = loud.iter().filter(|v| v.abs() > 1.0).count();
    let (_, said) = run(&["loud.wav"], b"");
    let count = format!("{},{:03} samples of the input beyond full scale", beyond / 1000, beyond % 1000);
    assert!(said.contains(&count), "{count}: {said}");
    assert_eq!(left(folder.path()), 1);
}

/// A signal leaves nothing behind, also while a pipe gives nothing.
#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
            .args(["enhance", "-", "-o", "out.wav", "--normalize", "none", "--model", &model])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        write(&folder.path().join("in.wav"), PCM, &[0.1; 70_000]);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&std::fs::read(folder.path().join("in.wav")).unwrap()[..100_000]).unwrap();
        let start = Instant::now();
        while left(folder.path()) == 0 {
            assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.lines().last().unwrap().ends_with("; nothing was written to the output"), "{said}");
        assert_eq!(left(folder.path()), 0);
        drop(stdin);
    }
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
