//! `pipelines/spoken-digits.toml`: on made tones, and on the recordings of shared/data where they lie.

#![expect(clippy::print_stderr, reason = "figures and skips are said aloud")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hound::{SampleFormat, WavSpec, WavWriter};

use crate::common::heads::classes;
use crate::common::mamba_seq;

/// Files of labels beside the clips, as the head of the pipeline makes them.
fn label(folder: &Path) {
    for part in ["train", "test"] {
        let mut names: Vec<String> = fs::read_dir(folder.join("fsdd").join(part))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        for (what, field) in [("digits", 0), ("speakers", 1)] {
            let lines = names.iter().fold(String::new(), |text, name| {
                text + &format!("{name}\t{}\n", name.split('_').nth(field).unwrap())
            });
            fs::write(folder.join(format!("fsdd/{part}.{what}.tsv")), lines).unwrap();
        }
    }
}

/// Runs the pipeline; accuracy of digits and of speakers as `value`, `low`, `high`.
fn run(folder: &Path) -> [[f64; 3]; 2] {
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/spoken-digits.toml");
    let ran = mamba_seq(folder, &["run", pipeline.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("all 7 jobs done"), "{}", ran.stderr);
    ["digits", "speakers"].map(|what| {
        let json = fs::read(folder.join(format!("{what}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let figures = ["value", "low", "high"].map(|key| json["accuracy"][key].as_f64().unwrap());
        let mut text = format!("{what}:");
        figures.iter().for_each(|v| text += &format!(" {v:.4}"));
        eprintln!("{text}");
        figures
    })
}

/// Each file's class beside its name: the share that is right.
fn right(folder: &Path) -> f64 {
    let said = classes(&folder.join("digits.classes.parquet"));
    let right = said.iter().filter(|row| row.0.split('_').next() == Some(row.2.as_str())).count();
    right as f64 / said.len() as f64
}

#[test]
fn made_tones_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let spec =
        WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: SampleFormat::Int };
    // A "digit" is a pitch, a "speaker" a timbre, a take a length and a loudness.
    for (part, takes) in [("train", 5..11u32), ("test", 0..2)] {
        let part = folder.path().join("fsdd").join(part);
        fs::create_dir_all(&part).unwrap();
        for (digit, speaker, take) in takes
            .flat_map(|t| (0..3u32).flat_map(move |d| ["ann", "bob"].into_iter().map(move |s| (d, s, t))))
        {
            let path = part.join(format!("{digit}_{speaker}_{take}.wav"));
            let mut wav = WavWriter::create(path, spec).unwrap();
            let pitch = 240.0 * f64::from(digit + 1) * (1.0 + 0.004 * f64::from(take));
            for i in 0..2000 + 100 * take {
                let turn = std::f64::consts::TAU * pitch * f64::from(i) / 8000.0;
                let overtones = if speaker == "ann" { 0.0 } else { 0.6 * (3.0 * turn).sin() };
                let value = (0.2 + 0.02 * f64::from(take)) * (turn.sin() + overtones);
                wav.write_sample((value * 20_000.0) as i16).unwrap();
            }
            wav.finalize().unwrap();
        }
    }
    label(folder.path());
    let [digits, speakers] = run(folder.path());
    assert!(digits[0] > 0.9 && speakers[0] > 0.9, "{digits:?} {speakers:?}");
    // Twelve clips prove little, and the interval says so even where all are right.
    assert!([digits, speakers].iter().all(|[value, low, high]| low < value && value <= high && *low < 0.9));
    assert!((right(folder.path()) - digits[0]).abs() < 1e-9);
}

/// The recordings, unpacked; `None`, said aloud, where they are not.
fn recordings() -> Option<tempfile::TempDir> {
    let root = std::env::var_os("MSEQ_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let archive = root.join("data/audio/fsdd_480.tar.gz");
    if !archive.exists() {
        mseq_testkit::aloud(&format!("skipped: {} is not there", archive.display()));
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let fsdd = folder.path().join("fsdd");
    fs::create_dir(&fsdd).unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).current_dir(&fsdd).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        mseq_testkit::aloud(&format!("skipped: no tar to unpack {}", archive.display()));
        return None;
    }
    Some(folder)
}

#[test]
fn spoken_digits_and_speakers_are_told_apart() {
    let Some(folder) = recordings() else { return };
    label(folder.path());
    let [digits, speakers] = run(folder.path());
    assert_eq!(classes(&folder.path().join("digits.classes.parquet")).len(), 120);
    assert!((right(folder.path()) - digits[0]).abs() < 1e-9);
    // Of mel bands: 0.942 and 0.942. Chance: 0.1 and 0.167.
    assert!(digits[0] > 0.9 && speakers[0] > 0.95, "{digits:?} {speakers:?}");
}
