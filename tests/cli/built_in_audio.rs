//! Recordings without `--model`: the built-in model of audio, as easily as that of DNA.

use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};

use crate::common::{golden_model, mamba_seq, mamba_seq_with_input, metadata, rows, stream_rows};

/// Seconds of a tone over noise, 16 bits.
fn write(path: &Path, rate: u32, seconds: f64, pitch: f64) {
    let spec =
        WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(path, spec).unwrap();
    let mut state = 9u32;
    for i in 0..(seconds * f64::from(rate)) as u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = f64::from(state >> 16) - 32768.0;
        let tone = (std::f64::consts::TAU * pitch * f64::from(i) / f64::from(rate)).sin();
        writer.write_sample((4000.0 * tone + 0.02 * noise) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

fn check(found: (i32, &str), code: i32, words: &[&str]) {
    assert_eq!(found.0, code, "{}", found.1);
    let errors: Vec<&str> = found.1.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", found.1);
    for word in words {
        assert!(errors[0].contains(word), "'{word}' is not in: {}", errors[0]);
    }
}

#[test]
fn a_recording_needs_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("x.wav"), 16_000, 2.5, 300.0);
    let run = |args: &[&str]| {
        let ran = mamba_seq(folder.path(), args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran
    };
    run(&["embed", "x.wav", "--device", "cpu"]);
    let found = rows(&at("x.embeddings.parquet"));
    let spans: Vec<(u64, u64)> = found.iter().map(|row| (row.start, row.end)).collect();
    assert_eq!(spans, [(0, 16_000), (16_000, 32_000), (32_000, 40_000)]);
    assert!(found.iter().all(|row| row.embedding.len() == 256));
    let meta = metadata(&at("x.embeddings.parquet"));
    assert_eq!((meta["model"].as_str(), meta["modality"].as_str()), ("mamba-audio-2m", "audio"));
    assert_eq!(meta["normalize"], "none");
    run(&["embed", "x.wav", "-o", "named.parquet", "--model", "mamba-audio-2m", "--device", "cpu"]);
    assert_eq!(rows(&at("named.parquet")), found);

    // Any steps, any threads, any neighbours.
    write(&at("y.wav"), 16_000, 0.7, 900.0);
    for more in [&["--chunk", "1"][..], &["--chunk", "13", "--threads", "1"], &["--threads", "2"]] {
        let args = ["embed", "y.wav", "x.wav", "y.wav", "-o", "many.parquet", "--device", "cpu"];
        run(&[&args[..], more].concat());
        let many = rows(&at("many.parquet"));
        let of = |index: u64| many.iter().filter(move |row| row.record_index == index);
        assert!(of(1).map(|row| &row.embedding).eq(found.iter().map(|row| &row.embedding)), "{more:?}");
        assert!(of(0).map(|row| &row.embedding).eq(of(2).map(|row| &row.embedding)), "{more:?}");
    }

    // A pipe, a folder, and a glob know it too.
    let bytes = std::fs::read(at("x.wav")).unwrap();
    let args = ["embed", "-", "-o", "-", "-q", "--device", "cpu"];
    let piped = mamba_seq_with_input(folder.path(), &args, &bytes);
    assert_eq!(piped.code, 0, "{}", piped.stderr);
    let piped = stream_rows(&piped.stdout);
    assert!(piped.iter().map(|row| &row.embedding).eq(found.iter().map(|row| &row.embedding)));
    let piped = mamba_seq_with_input(folder.path(), &["embed", "-", "-o", "-", "-q"], b">a\nACGT\n");
    assert_eq!((piped.code, stream_rows(&piped.stdout).len()), (0, 1), "{}", piped.stderr);
    std::fs::create_dir(at("sounds")).unwrap();
    std::fs::copy(at("x.wav"), at("sounds/x.wav")).unwrap();
    std::fs::write(at("sounds/notes.txt"), "hello\n").unwrap();
    for input in ["sounds", "sounds/*.wav"] {
        run(&["embed", input, "-o", "many.parquet", "--device", "cpu"]);
        assert!(
            rows(&at("many.parquet"))
                .iter()
                .map(|row| &row.embedding)
                .eq(found.iter().map(|row| &row.embedding))
        );
    }
}

#[test]
fn what_does_not_fit_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("x.wav"), 16_000, 0.1, 300.0);
    std::fs::write(at("x.fa"), ">a\nACGT\n").unwrap();
    std::fs::write(at("text.wav"), "no sound\n").unwrap();
    std::fs::create_dir(at("both")).unwrap();
    std::fs::copy(at("x.wav"), at("both/x.wav")).unwrap();
    std::fs::copy(at("x.fa"), at("both/x.fa")).unwrap();
    std::fs::create_dir(at("sounds")).unwrap();
    std::fs::copy(at("x.wav"), at("sounds/x.wav")).unwrap();
    std::fs::create_dir(at("letters")).unwrap();
    std::fs::copy(at("x.fa"), at("letters/x.fa")).unwrap();
    let dna = golden_model("d29-n4-k2-e1");
    for (args, code, words) in [
        (&["embed", "x.wav", "x.fa"][..], 2, &["x.wav is audio and x.fa is not", "one after the other"][..]),
        (&["embed", "x.fa", "x.wav"], 2, &["x.wav is audio and x.fa is not"]),
        (&["embed", "both"], 2, &["both/x.wav is audio and both/x.fa is not"]),
        (&["embed", "x.wav", "--model", "mamba-dna-1m"], 2, &["x.wav", "WAV audio", "the model reads DNA"]),
        (&["embed", "x.wav", "--model", &dna], 2, &["x.wav", "the model reads DNA"]),
        (&["embed", "x.fa", "--model", "mamba-audio-2m"], 2, &["x.fa", "FASTA", "the model reads audio"]),
        (&["embed", "sounds", "--model", &dna], 2, &["sounds/x.wav", "WAV audio", "the model reads DNA"]),
        (
            &["embed", "letters", "--model", "mamba-audio-2m"],
            2,
            &["letters/x.fa", "FASTA", "the model reads audio"],
        ),
        (&["embed", "text.wav"], 1, &["text.wav", "not audio", "no sound"]),
        (&["score", "x.wav"], 1, &["mamba-audio-2m", "not tokens", "mulaw8"]),
        (&["classify", "x.wav"], 1, &["mamba-audio-2m", "--head"]),
        (&["variants", "x.wav", "--reference", "x.fa"], 1, &["x.wav"]),
        (&["enhance", "x.wav", "--model", "mamba-audio-2m"], 1, &["mamba-audio-2m", "no decoder"]),
    ] {
        let out: &[&str] = if args[0] == "enhance" { &["-o", "o.wav"] } else { &["-o", "o.parquet"] };
        let ran = mamba_seq(folder.path(), &[args, out].concat());
        check((ran.code, &ran.stderr), code, words);
        assert!(!at("o.parquet").exists() && !at("o.wav").exists());
    }
    let ran = mamba_seq(folder.path(), &["generate", "--prompt", "x.wav"]);
    check((ran.code, &ran.stderr), 2, &["x.wav", "no built-in model generates", "mulaw8"]);
    let ran = mamba_seq(folder.path(), &["generate", "--prompt", "x.wav", "--model", "mamba-audio-2m"]);
    check((ran.code, &ran.stderr), 1, &["mamba-audio-2m"]);
}

#[test]
fn it_is_listed_described_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let out = |args: &[&str]| {
        let ran = mamba_seq(folder.path(), args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        String::from_utf8(ran.stdout).unwrap()
    };
    let list = out(&["models", "list"]);
    assert!(list.contains("mamba-audio-2m  audio  4 layers x 256, 1,793,536 parameters"), "{list}");
    let info = out(&["models", "info", "mamba-audio-2m"]);
    for line in ["encoding           frames", "16000 Hz", "160 samples from 160 (100 Hz)", "# mamba-audio-2m"]
    {
        assert!(info.contains(line), "{line} is not in\n{info}");
    }
    let verify = out(&["models", "verify", "mamba-audio-2m", "--tokens", "300", "--device", "cpu"]);
    assert_eq!(verify.matches("equal bits").count(), 5, "{verify}");
    let doctor = out(&["doctor"]);
    assert!(doctor.contains("mamba-audio-2m (built in"), "{doctor}");
    let verify = out(&["doctor", "--verify", "--device", "cpu"]);
    assert!(verify.lines().any(|l| l.contains("mamba-audio-2m") && l.ends_with("ok")), "{verify}");
}
