//! Memory does not grow with length, nor with the number of records.

use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hound::WavWriter;

use crate::common::golden_model;
use crate::common::sound::{PCM, sound};

/// Random bases, always the same.
struct Bases(u32);

impl Bases {
    fn line(&mut self, len: usize) -> Vec<u8> {
        let mut letter = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"ACGT"[(self.0 >> 30) as usize]
        };
        (0..len).map(|_| letter()).collect()
    }
}

/// Peak resident set of `embed` on one random record of `bases` bases, in KiB.
fn peak_of_record(bases: usize, options: &[&str]) -> u64 {
    let folder = quiet_folder();
    let mut out = BufWriter::new(std::fs::File::create(folder.path().join("x.fa")).unwrap());
    writeln!(out, ">x").unwrap();
    let mut random = Bases(99);
    for _ in 0..bases / 80 {
        out.write_all(&random.line(80)).and_then(|()| out.write_all(b"\n")).unwrap();
    }
    out.into_inner().unwrap();
    // As many intervals whatever the length, in no order, of 200 bases each.
    let mut bed = BufWriter::new(std::fs::File::create(folder.path().join("x.bed")).unwrap());
    for i in 0..INTERVALS {
        let start = i * 7919 % INTERVALS * (bases / INTERVALS);
        writeln!(bed, "x\t{start}\t{}\ti{i}", (start + 200).min(bases)).unwrap();
    }
    bed.into_inner().unwrap();
    peak(folder.path(), "x.fa", options)
}

/// The same of a table of `rows` random sequences of 100 bases.
fn peak_of_table(rows: usize, options: &[&str]) -> u64 {
    let folder = quiet_folder();
    let mut out = BufWriter::new(std::fs::File::create(folder.path().join("x.csv")).unwrap());
    writeln!(out, "sequence,label").unwrap();
    let mut random = Bases(7);
    for i in 0..rows {
        out.write_all(&random.line(100)).unwrap();
        writeln!(out, ",label {i}").unwrap();
    }
    out.into_inner().unwrap();
    peak(folder.path(), "x.csv", options)
}

const INTERVALS: usize = 10_000;

/// In memory where that can be: rows that wait for a disk fill their queue, up to its bound, in one
/// run and not in the next.
fn quiet_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The same of a recording of so many minutes, 16 bits at 16 kHz, through `command`.
fn peak_of_recording(minutes: usize, command: &[&str]) -> u64 {
    let folder = quiet_folder();
    let mut wav = WavWriter::create(folder.path().join("x.wav"), PCM).unwrap();
    let second = sound(1, 16_000);
    for _ in 0..minutes * 60 {
        let mut writer = wav.get_i16_writer(16_000);
        second.iter().for_each(|v| writer.write_sample(*v));
        writer.flush().unwrap();
    }
    wav.finalize().unwrap();
    peak_of(folder.path(), command)
}

/// Peak resident set of `embed` on a file of `folder`, in KiB.
fn peak(folder: &std::path::Path, input: &str, options: &[&str]) -> u64 {
    let model = golden_model("d29-n4-k2-e1");
    peak_of(folder, &[&["embed", input, "--model", &model], options].concat())
}

fn peak_of(folder: &std::path::Path, args: &[&str]) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
        .arg("-q")
        .args(args)
        .current_dir(folder)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        if let Some(done) = child.try_wait().unwrap() {
            assert!(done.success());
            return peak;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One law at a time: others beside it fill queues that it would not.
static ALONE: Mutex<()> = Mutex::new(());

/// Peaks of a short and a long input.
#[expect(clippy::print_stderr, reason = "figures for whoever asks with --nocapture")]
fn flat<T: Copy>(what: &str, peak: impl Fn(T) -> u64, (short, long): (T, T)) {
    // A law that failed leaves it poisoned, which says nothing of the next.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (short, long) = (peak(short), peak(long));
    eprintln!("peak resident set, {what}: {short} KiB, then {long} KiB");
    assert!(short > 5_000, "{short} KiB is no process");
    assert!(long as f64 <= 1.05 * short as f64, "{what}: {short} KiB, then {long} KiB");
}

// The short ones are longer than all queues and buffers together.

#[test]
fn a_record_six_times_as_long_needs_no_more_memory() {
    let peak = |bases| peak_of_record(bases, &[]);
    flat("2 and 12 Mb", peak, (2_000_000, 12_000_000));
}

#[test]
fn nor_do_its_two_strands() {
    let peak = |bases| peak_of_record(bases, &["--strand", "both"]);
    flat("both strands of 2 and 5 Mb", peak, (2_000_000, 5_000_000));
}

#[test]
fn nor_do_as_many_intervals_of_it() {
    let peak = |bases| peak_of_record(bases, &["--regions", "x.bed"]);
    flat("intervals of 2 and 6 Mb", peak, (2_000_000, 6_000_000));
}

// Ten hours against a minute are in docs/performance.md. As many threads whatever the machine, and no
// checkpoint in one of the two alone, the first of which comes after a second.

#[test]
fn nor_does_a_recording_six_times_as_long() {
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    let embed = ["embed", "x.wav", "-o", "x.parquet", "--model", &model, "--threads", "1"];
    // Fifty rows a second: as in the other laws the short one fills more than a row group.
    let rows = ["--window", "320"];
    for normalize in ["none", "two-pass"] {
        let command = [&embed[..], &rows, &["--normalize", normalize]].concat();
        let peak = |minutes| peak_of_recording(minutes, &command);
        flat(&format!("recordings of 4 and 24 minutes, {normalize}"), peak, (4, 24));
    }
}

#[test]
fn nor_does_denoising_it() {
    let model = format!("{}/model.safetensors", golden_model("clean-pruned"));
    let command = ["enhance", "x.wav", "-o", "y.wav", "--model", &model, "--threads", "1"];
    let peak = |minutes| peak_of_recording(minutes, &command);
    flat("denoised recordings of 1 and 10 minutes", peak, (1, 10));
}

#[test]
fn nor_does_a_table_of_more_rows() {
    let peak = |rows| peak_of_table(rows, &["--strand", "both", "--keep", "label"]);
    flat("tables of 20,000 and 80,000 rows", peak, (20_000, 80_000));
}

#[test]
fn nor_do_more_tokens_that_are_drawn() {
    let folder = quiet_folder();
    let model = golden_model("d29-n4-k2-e1");
    let peak = |(tokens, samples): (&str, &str)| {
        let args =
            ["generate", "--prompt-text", "ACGTACGT", "--device", "cpu", "-o", "x.fa", "--model", &model];
        peak_of(folder.path(), &[&args[..], &["--tokens", tokens, "--samples", samples]].concat())
    };
    flat("10,000 and 60,000 drawn tokens", peak, (("10000", "1"), ("60000", "1")));
    flat("3 times 5,000 and 25,000 drawn tokens", peak, (("5000", "3"), ("25000", "3")));
}
