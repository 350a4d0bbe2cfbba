//! `embed` on recordings: windows, pools, layers, pieces, channels and levels, each against what it says.

use std::path::Path;
use std::process::Command;

use hound::WavSpec;

use crate::common::heads::{python_with, run_python};
use crate::common::sound::{FLOAT, PCM, seconds, sound, write_floats, write_wav};
use crate::common::{
    Row, data, golden_model, mamba_seq, mamba_seq_with_input, metadata, outside_data, rows, stream_rows,
};

/// The built-in model as a directory: frames of 160 samples that share none, 4 layers, 16 kHz.
pub(crate) fn frames_model() -> String {
    data("models/mamba-audio-2m").display().to_string()
}

/// A small CleanUMamba: a frame every 16 samples, made of 46.
pub(crate) fn clean_model() -> String {
    format!("{}/model.safetensors", golden_model("clean-pruned"))
}

/// A folder with files, and a model to run on them.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    model: String,
}

impl Place {
    pub(crate) fn new(model: String) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), model }
    }

    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn args<'a>(&'a self, input: &[&'a str], options: &[&'a str]) -> Vec<&'a str> {
        let with = ["-o", "out.parquet", "--model", &self.model, "--device", "cpu", "-q"];
        [&["embed"], input, &with, options].concat()
    }

    /// Rows of these inputs.
    pub(crate) fn embed(&self, input: &[&str], options: &[&str]) -> Vec<Row> {
        let ran = mamba_seq(self.folder.path(), &self.args(input, options));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{options:?}");
        rows(&self.at("out.parquet"))
    }

    /// One line of error, and nothing left.
    fn refused(&self, input: &[&str], options: &[&str], code: i32, words: &[&str]) {
        let before = std::fs::read_dir(self.folder.path()).unwrap().count();
        let ran = mamba_seq(self.folder.path(), &self.args(input, options));
        assert_eq!((ran.code, ran.stderr.lines().count()), (code, 1), "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), before, "{}", ran.stderr);
    }
}

fn values(rows: &[Row]) -> Vec<&Vec<u32>> {
    rows.iter().map(|row| &row.embedding).collect()
}

fn spans(rows: &[Row]) -> Vec<(u64, u64)> {
    rows.iter().map(|row| (row.start, row.end)).collect()
}

#[test]
fn windows_are_samples_or_times() {
    let place = Place::new(frames_model());
    write_wav(&place.at("x.wav"), PCM, &sound(1, 50_001));
    let by_time = place.embed(&["x.wav"], &["--window", "500ms", "--stride", "250ms"]);
    assert_eq!(spans(&by_time).first(), Some(&(0, 8000)));
    assert!(by_time.windows(2).all(|pair| pair[1].start == pair[0].start + 4000));
    assert_eq!(by_time.last().unwrap().end, 50_001);
    assert!(by_time.iter().all(|row| row.strand == "." && row.record == "x" && row.source == "x.wav"));
    assert!(place.embed(&["x.wav"], &["--window", "8000", "--stride", "4000"]) == by_time);
    // The default is a second, and times are those of the file.
    let second = place.embed(&["x.wav"], &[]);
    assert_eq!(spans(&second), [(0, 16_000), (16_000, 32_000), (32_000, 48_000), (48_000, 50_001)]);
    assert!(place.embed(&["x.wav"], &["--window", "1s"]) == second);
    assert_eq!(spans(&place.embed(&["x.wav"], &["--window", "record"])), [(0, 50_001)]);

    // Another rate: as many rows a second, in samples of that file.
    write_wav(&place.at("y.wav"), WavSpec { sample_rate: 44_100, ..PCM }, &sound(2, 100_000));
    let found = place.embed(&["y.wav"], &["--window", "500ms"]);
    let want: Vec<(u64, u64)> = (0..5).map(|k| (22_050 * k, (22_050 * (k + 1)).min(100_000))).collect();
    assert_eq!(spans(&found), want);
    let times = seconds(&place.at("out.parquet"));
    for (row, (from, to)) in found.iter().zip(&times) {
        assert_eq!((*from, *to), (row.start as f64 / 44_100.0, row.end as f64 / 44_100.0));
    }
    let meta = metadata(&place.at("out.parquet"));
    for (key, value) in [
        ("modality", "audio"),
        ("window", "500ms"),
        ("stride", "500ms"),
        ("strand", "."),
        ("channel", "mix"),
        ("normalize", "none"),
        ("sample_rate", "16000"),
    ] {
        assert_eq!(meta[key], value, "{key}");
    }
    if let Some(python) = python_with("pyarrow") {
        let program = "import pyarrow.parquet as pq\nt = pq.read_table('out.parquet')\n\
                       print([str(t.schema.field(n).type) for n in ('start_s', 'end_s')], \
                       t.column('start_s').to_pylist(), t.column('end_s').to_pylist()[-1])\n";
        let printed = run_python(&python, place.folder.path(), program);
        let want = format!("['double', 'double'] [0.0, 0.5, 1.0, 1.5, 2.0] {}", 100_000.0 / 44_100.0);
        assert_eq!(printed.trim(), want);
    }
    for (options, words) in [
        (&["--window", "1s", "--stride", "100"][..], "both in samples, or both as times"),
        (&["--window", "0ms"], "0ms"),
        (&["--regions", "x.bed"], "--regions"),
        (&["--strand", "both"], "no strands"),
        (&["--on-bad-record", "skip"], "--on-bad-record"),
    ] {
        let ran = mamba_seq(place.folder.path(), &place.args(&["x.wav"], options));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

/// Every pool against the tokens of `--pool none`.
#[test]
fn pools_are_of_the_tokens_that_begin_in_a_window() {
    for (model, rate) in [(frames_model(), 16_000), (frames_model(), 22_050), (clean_model(), 16_000)] {
        let place = Place::new(model);
        write_wav(&place.at("x.wav"), WavSpec { sample_rate: rate, ..PCM }, &sound(3, 30_000));
        let options = ["--normalize", "none"];
        let tokens = place.embed(&["x.wav"], &[&options[..], &["--pool", "none"]].concat());
        assert!(tokens.windows(2).all(|pair| pair[0].end == pair[1].start), "{rate}");
        assert_eq!(tokens.last().unwrap().end, 30_000);
        for pool in ["mean", "max", "last"] {
            let more = ["--pool", pool, "--window", "7000", "--stride", "3000"];
            let pooled = place.embed(&["x.wav"], &[&options[..], &more].concat());
            assert!(pooled.len() > 8);
            for row in &pooled {
                let mine: Vec<Vec<f32>> = tokens
                    .iter()
                    .filter(|token| (row.start..row.end).contains(&token.start))
                    .map(|token| token.embedding.iter().map(|bits| f32::from_bits(*bits)).collect())
                    .collect();
                for (i, bits) in row.embedding.iter().enumerate() {
                    let mut column = mine.iter().map(|token| token[i]);
                    let found = f32::from_bits(*bits);
                    match pool {
                        "max" => assert_eq!(found, column.fold(f32::NEG_INFINITY, f32::max)),
                        "last" => assert_eq!(Some(found), column.next_back()),
                        _ => {
                            let mean = column.map(f64::from).sum::<f64>() / mine.len() as f64;
                            assert!((f64::from(found) - mean).abs() <= 1e-6 * mean.abs().max(1.0));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn layers_are_counted_from_the_front_end() {
    let place = Place::new(frames_model());
    write_wav(&place.at("x.wav"), PCM, &sound(4, 20_000));
    let layer = |k: &str| place.embed(&["x.wav"], &["--layer", k]);
    let last = layer("last");
    assert!(layer("4") == last && layer("-1") == last);
    let all: Vec<Vec<Row>> = ["0", "1", "2", "3"].iter().map(|k| layer(k)).chain([last]).collect();
    for (i, a) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|b| values(a) != values(b)), "{i}");
    }
    place.refused(&["x.wav"], &["--layer", "5"], 2, &["layer 5"]);
}

/// Frames share no samples here, so a piece is a file of its own.
#[test]
fn pieces_of_context_are_cut_at_tokens() {
    let place = Place::new(frames_model());
    let samples = sound(5, 33_333);
    write_wav(&place.at("x.wav"), PCM, &samples);
    let tokens = place.embed(&["x.wav"], &["--pool", "none", "--context", "50", "--overlap", "10"]);
    assert_eq!(tokens.len(), 209);
    let mut at = 0;
    for first in (0..209).step_by(40) {
        let (from, to) = (160 * first, (160 * (first + 50)).min(samples.len()));
        write_wav(&place.at("piece.wav"), PCM, &samples[from..to]);
        let piece = place.embed(&["piece.wav"], &["--pool", "none"]);
        let warm = if first == 0 { 0 } else { 10 };
        for row in piece.iter().skip(warm) {
            assert_eq!((row.start + from as u64, &row.embedding), (tokens[at].start, &tokens[at].embedding));
            at += 1;
        }
        if to == samples.len() {
            break;
        }
    }
    assert_eq!(at, tokens.len());
    assert!(values(&tokens) != values(&place.embed(&["x.wav"], &["--pool", "none"])));
    assert_eq!(metadata(&place.at("out.parquet"))["context"], "whole");
}

#[test]
fn channels_are_heard_alone_or_mixed() {
    let place = Place::new(frames_model());
    let (left, right) = (sound(6, 20_000), sound(7, 20_000));
    let both: Vec<i16> = left.iter().zip(&right).flat_map(|(l, r)| [*l, *r]).collect();
    let mix: Vec<f32> =
        left.iter().zip(&right).map(|(l, r)| (f32::from(*l) + f32::from(*r)) / 65_536.0).collect();
    write_wav(&place.at("both.wav"), WavSpec { channels: 2, ..PCM }, &both);
    write_wav(&place.at("left.wav"), PCM, &left);
    write_wav(&place.at("right.wav"), PCM, &right);
    write_floats(&place.at("mix.wav"), 16_000, &mix);
    for (channel, alone) in
        [("left", "left"), ("1", "left"), ("right", "right"), ("2", "right"), ("mix", "mix")]
    {
        let found = place.embed(&["both.wav"], &["--channel", channel]);
        let name = metadata(&place.at("out.parquet"))["channel"].clone();
        assert_eq!(name, if channel == "mix" { "mix" } else { alone });
        assert_eq!(values(&found), values(&place.embed(&[&format!("{alone}.wav")], &[])), "{channel}");
    }
    // Stereo is mixed unless something else is said; more channels want a word.
    assert_eq!(values(&place.embed(&["both.wav"], &[])), values(&place.embed(&["mix.wav"], &[])));
    write_wav(&place.at("six.wav"), WavSpec { channels: 6, ..PCM }, &sound(8, 60_000));
    place.refused(&["six.wav"], &[], 2, &["six.wav: has 6 channels; say which by --channel 1 to 6"]);
    place.refused(&["six.wav"], &["--channel", "7"], 2, &["six.wav: has no channel 7, only 6"]);
    assert_eq!(place.embed(&["six.wav"], &["--channel", "6"]).len(), 1);
    for bad in ["0", "-1", "centre"] {
        let ran = mamba_seq(place.folder.path(), &place.args(&["six.wav"], &["--channel", bad]));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
    }
}

#[test]
fn levels_are_divided_out_as_asked() {
    let place = Place::new(clean_model());
    let samples = sound(9, 30_000);
    write_wav(&place.at("x.wav"), PCM, &samples);
    let as_is: Vec<f32> = samples.iter().map(|v| f32::from(*v) / 32_768.0).collect();
    let divided = |by: f32| {
        write_floats(&place.at("y.wav"), 16_000, &as_is.iter().map(|v| v / by).collect::<Vec<f32>>());
        place.embed(&["y.wav"], &["--normalize", "none"])
    };
    let fixed = place.embed(&["x.wav"], &["--normalize", "fixed:0.25"]);
    assert_eq!(metadata(&place.at("out.parquet"))["normalize"], "fixed:0.25");
    assert_eq!(values(&fixed), values(&divided(0.25 + 1e-3)));
    // The default of this family. Its own deviation, in f64 here.
    let two_pass = place.embed(&["x.wav"], &[]);
    assert_eq!(metadata(&place.at("out.parquet"))["normalize"], "two-pass");
    let n = as_is.len() as f64;
    let mean = as_is.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let std = (as_is.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    for (a, b) in two_pass.iter().zip(divided((std + 1e-3) as f32)) {
        for (a, b) in a.embedding.iter().zip(&b.embedding) {
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}");
        }
    }
    assert!(values(&two_pass) != values(&fixed));
    for bad in ["fixed:0", "fixed:x", "loud"] {
        let ran = mamba_seq(place.folder.path(), &place.args(&["x.wav"], &["--normalize", bad]));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
    }
}

/// Steps, threads, neighbours and the rate of a neighbour do not show.
#[test]
fn any_cut_gives_the_same_rows() {
    for model in [frames_model(), clean_model()] {
        let place = Place::new(model);
        write_wav(&place.at("a.wav"), PCM, &sound(10, 12_345));
        write_wav(&place.at("b.wav"), WavSpec { sample_rate: 11_025, ..PCM }, &sound(11, 20_000));
        write_wav(&place.at("c.wav"), FLOAT, &sound(12, 1));
        let options = ["--window", "200ms", "--stride", "70ms"];
        let whole = place.embed(&["a.wav", "b.wav", "c.wav"], &options);
        for more in [["--chunk", "1"], ["--chunk", "13"], ["--chunk", "2000"], ["--threads", "1"]] {
            let found = place.embed(&["a.wav", "b.wav", "c.wav"], &[&options[..], &more].concat());
            assert!(found == whole, "{more:?}");
        }
        for (i, name) in ["a.wav", "b.wav", "c.wav"].iter().enumerate() {
            let alone = place.embed(&[name], &options);
            let among: Vec<Row> = whole.iter().filter(|row| row.record_index == i as u64).cloned().collect();
            assert!(!alone.is_empty() && values(&alone) == values(&among), "{name}");
        }
    }
}

/// A pipe: with its length, without, as RF64, and what other programs put into it.
#[test]
fn a_pipe_is_a_recording_too() {
    let place = Place::new(frames_model());
    write_wav(&place.at("x.wav"), PCM, &sound(15, 40_000));
    let whole = place.embed(&["x.wav"], &[]);
    let bytes = std::fs::read(place.at("x.wav")).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap();
    let with_length = |length: u32| {
        let mut bytes = bytes.clone();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[data + 4..data + 8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let args = ["embed", "-", "-o", "-", "-q", "--device", "cpu", "--model", &place.model];
    let mut pipes = vec![bytes.clone(), with_length(0), with_length(u32::MAX), with_length(0x7fff_f000)];
    for (program, command) in [
        ("ffmpeg", "ffmpeg -v error -i x.wav -c:a pcm_s16le -f wav -"),
        ("ffmpeg", "ffmpeg -v error -i x.wav -f flac -"),
        ("sox", "sox x.wav -t wav -"),
        // Of what has no length sox writes 0x7ffff000 bytes, rounded down to whole frames.
        ("sox", "tail -c +45 x.wav | sox -t raw -r 16000 -e signed -b 16 -c 1 - -b 24 -t wav -"),
        ("sox", "tail -c +45 x.wav | sox -t raw -r 16000 -e signed -b 16 -c 1 - -b 24 -t wav - remix 1 1"),
        // Its length is written at the end, which a pipe does not take.
        ("ffmpeg", "ffmpeg -v error -i x.wav -c:a pcm_s16le -rf64 always -f wav -"),
    ] {
        if !has(program) {
            continue;
        }
        let out = Command::new("sh").args(["-c", command]).current_dir(place.folder.path()).output().unwrap();
        assert!(out.status.success(), "{command}");
        pipes.push(out.stdout);
    }
    for (i, input) in pipes.iter().enumerate() {
        let ran = mamba_seq_with_input(place.folder.path(), &args, input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "pipe {i}");
        let found = stream_rows(&ran.stdout);
        assert_eq!((spans(&found), values(&found)), (spans(&whole), values(&whole)), "pipe {i}");
        assert!(found.iter().all(|row| row.record == "stdin"));
    }
    for (more, words) in [
        (&["--normalize", "two-pass"][..], "two-pass reads the input twice"),
        (&["--shard", "1/2"], "--shard reads the input twice"),
        (&["--dry-run"], "--dry-run reads the input"),
    ] {
        let ran = mamba_seq_with_input(place.folder.path(), &[&args[..], more].concat(), &bytes);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{}", ran.stderr);
        // Nor can a named pipe, which nobody opens.
        #[cfg(unix)]
        {
            let pipe = place.folder.path().join("pipe");
            assert!(pipe.exists() || Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            let named = [&["embed", "pipe"], &args[2..], more].concat();
            let ran = mamba_seq(place.folder.path(), &named);
            assert!(ran.code == 2 && ran.stderr.contains(words), "{}", ran.stderr);
        }
    }
    #[cfg(unix)]
    for pool in ["mean", "none"] {
        let mut cat = Command::new("sh")
            .args(["-c", "cat x.wav > pipe"])
            .current_dir(place.folder.path())
            .spawn()
            .unwrap();
        let from = |input| [&["embed", input], &args[2..], &["--pool", pool]].concat();
        let ran = mamba_seq(place.folder.path(), &from("pipe"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{pool}");
        assert!(cat.wait().unwrap().success());
        let file = mamba_seq(place.folder.path(), &from("x.wav"));
        assert_eq!(values(&stream_rows(&ran.stdout)), values(&stream_rows(&file.stdout)), "{pool}");
    }
}

/// Whether a program is there; `MSEQ_REQUIRE_FFMPEG` makes its absence a failure.
pub(crate) fn has(program: &str) -> bool {
    let version = if program == "sox" { "--version" } else { "-version" };
    let found = Command::new(program).arg(version).output().is_ok_and(|out| out.status.success());
    assert!(
        found || std::env::var_os("MSEQ_REQUIRE_FFMPEG").is_none(),
        "{program} is required, and is not there"
    );
    if !found {
        skipped(program);
    }
    found
}

fn skipped(program: &str) {
    mseq_testkit::aloud(&format!("skipped: no {program}"));
}

/// Seconds of audio on both displays, however many tokens or samples that is.
#[test]
fn progress_and_summary_speak_of_seconds() {
    let place = Place::new(frames_model());
    write_wav(&place.at("x.wav"), WavSpec { sample_rate: 8000, ..PCM }, &sound(16, 8000 * 20));
    write_wav(&place.at("y.wav"), PCM, &sound(17, 16_000 * 4));
    let mut args = place.args(&["x.wav", "y.wav"], &["--progress", "json"]);
    let ran = mamba_seq(place.folder.path(), &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<serde_json::Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "done");
    // Samples of the model.
    assert_eq!((&last["bases_done"], &last["bases_total"]), (&384_000.into(), &384_000.into()));
    assert_eq!((&last["seconds_done"], &last["seconds_total"]), (&24.0.into(), &24.0.into()));
    assert!(last["x_real_time"].as_f64().unwrap() > 0.1, "{last}");
    for line in &lines {
        let (done, total) = (line["seconds_done"].as_f64().unwrap(), line["seconds_total"].as_f64());
        assert!(total.is_none_or(|total| done <= total + 1e-9), "{line}");
    }
    args.retain(|arg| !["-q", "--progress", "json"].contains(arg));
    let ran = mamba_seq(place.folder.path(), &args);
    let summary = ran.stderr.lines().last().unwrap();
    assert!(summary.contains("from 2 records, 24.0 s of audio in ") && summary.ends_with(" x real time)"));
    assert!(!ran.stderr.contains("token") && !ran.stderr.contains("letter"), "{}", ran.stderr);
}

/// Samples beyond full scale are counted once, and go on as they are where the model takes numbers.
#[test]
fn samples_beyond_full_scale_are_counted() {
    let place = Place::new(frames_model());
    let mut samples: Vec<f32> = sound(18, 20_000).iter().map(|v| f32::from(*v) / 32_768.0).collect();
    for i in [5, 700, 701, 19_999] {
        samples[i] = if i % 2 == 0 { 1.5 } else { -1.25 };
    }
    write_floats(&place.at("x.wav"), 16_000, &samples);
    let mut args = place.args(&["x.wav"], &[]);
    args.retain(|arg| *arg != "-q");
    let ran = mamba_seq(place.folder.path(), &args);
    let said = "4 samples beyond full scale (-1 to 1) go to the model as they are";
    assert!(ran.code == 0 && ran.stderr.lines().any(|line| line == said), "{}", ran.stderr);
    samples[5] = 1.0;
    samples[700] = -1.0;
    samples[701] = 0.0;
    samples[19_999] = 0.5;
    write_floats(&place.at("x.wav"), 16_000, &samples);
    let ran = mamba_seq(place.folder.path(), &args);
    assert!(ran.code == 0 && !ran.stderr.contains("full scale"), "{}", ran.stderr);
}

/// The real ones, where they are: 60 s of speech in WAV, and of a soundscape in FLAC at twice the rate.
#[test]
fn real_recordings_in_steps_of_any_length() {
    let (Some(speech), Some(birds)) =
        (outside_data("audio/speech_60s_16k.wav"), outside_data("audio/soundscape_60s_32k.flac"))
    else {
        return;
    };
    let place = Place::new(frames_model());
    let inputs = [speech.display().to_string(), birds.display().to_string()];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let whole = place.embed(&inputs, &[]);
    assert_eq!(whole.len(), 120);
    assert_eq!(spans(&whole)[60..62], [(0, 32_000), (32_000, 64_000)]);
    for more in [["--chunk", "7"], ["--chunk", "1000"], ["--threads", "1"]] {
        assert!(place.embed(&inputs, &more) == whole, "{more:?}");
    }
    if let Some(model) = outside_data("weights/cleanumamba_mamba1.safetensors") {
        let place = Place::new(model.display().to_string());
        for normalize in ["fixed:0.1", "none"] {
            let options = ["--normalize", normalize, "--pool", "none", "--embedding-dtype", "f32"];
            let whole = place.embed(&inputs[..1], &options);
            assert_eq!(whole.len(), 3749, "frames of 256 samples, as far as 766 reach");
            for chunk in ["1", "100", "777"] {
                let found = place.embed(&inputs[..1], &[&options[..], &["--chunk", chunk]].concat());
                assert!(found == whole, "{normalize}, steps of {chunk}");
            }
        }
    }
}

#[test]
fn a_folder_is_read_in_the_order_of_names() {
    let place = Place::new(frames_model());
    std::fs::create_dir_all(place.at("in/deep")).unwrap();
    write_wav(&place.at("in/b.wav"), PCM, &sound(19, 5000));
    std::fs::copy(data("audio/clips/chirp.flac"), place.at("in/a.flac")).unwrap();
    write_wav(&place.at("in/deep/c.wav"), PCM, &sound(20, 5000));
    std::fs::write(place.at("in/notes.txt"), "hello\n").unwrap();
    let records = |rows: &[Row]| rows.iter().map(|row| row.record.clone()).collect::<Vec<_>>();
    assert_eq!(records(&place.embed(&["in"], &["--window", "record"])), ["a", "b"]);
    let found = place.embed(&["in"], &["--window", "record", "--recursive"]);
    assert_eq!(records(&found), ["a", "b", "c"]);
    let mut args = place.args(&["in"], &[]);
    args.retain(|arg| *arg != "-q");
    let ran = mamba_seq(place.folder.path(), &args);
    assert!(ran.stderr.contains("1 file skipped: not audio"), "{}", ran.stderr);
    std::fs::create_dir(place.at("empty")).unwrap();
    place.refused(&["empty"], &[], 1, &["empty: none of the 0 files in this directory is audio"]);
    let ran = mamba_seq(place.folder.path(), &place.args(&["in"], &["--dry-run"]));
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.code == 0 && text.contains("records  2\n") && text.contains("rows     3\n"), "{text}");
    assert!(Path::new(&place.model).is_dir());
}
