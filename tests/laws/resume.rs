//! A job that was stopped and resumed ends in the rows of one that was not.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Row, golden_model, mamba_seq, rows};

const SMALL: &str = "d29-n4-k2-e1";

/// Three records, the middle one long enough for several checkpoints.
fn genome(middle: usize) -> String {
    let mut state = 12345u32;
    let mut letters = |n: usize| -> String {
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"ACGTN"[(state >> 24) as usize % 5] as char
            })
            .collect()
    };
    format!(">a\n{}\n>b\n{}\n>c\n{}\n", letters(5_000), letters(middle), letters(70_000))
}

struct Job {
    folder: tempfile::TempDir,
    model: String,
}

impl Job {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.fa"), text).unwrap();
        Self { folder, model: golden_model(SMALL) }
    }

    fn args<'a>(&'a self, options: &[&'a str]) -> Vec<&'a str> {
        let mut args =
            vec!["embed", "x.fa", "-o", "out.parquet", "--model", &self.model, "--progress", "json", "-q"];
        args.extend(options);
        args
    }

    /// Runs to the end and gives the rows and where it began.
    fn finish(&self, options: &[&str]) -> (Vec<Row>, u64) {
        let ran = mamba_seq(self.folder.path(), &self.args(options));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let first: serde_json::Value = serde_json::from_str(ran.stderr.lines().next().unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 2, "something was left behind");
        (rows(&self.folder.path().join("out.parquet")), first["resumed_from"].as_u64().unwrap())
    }

    /// Starts a run, sends `signal` once there is a checkpoint, and gives exit code and stderr.
    fn stop(&self, options: &[&str], signal: &str) -> (Option<i32>, String) {
        let child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
            .args(self.args(options))
            .current_dir(self.folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let checkpoint = self.path("out.parquet.partial.checkpoint");
        // Of a job that goes on: one that the earlier run did not write.
        let earlier = std::fs::read(&checkpoint).unwrap_or_default();
        let start = Instant::now();
        while std::fs::read(&checkpoint).unwrap_or_default() == earlier {
            assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Instant::now();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(2), "{signal} took {:?}", sent.elapsed());
        assert!(!self.path("out.parquet").exists());
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn killed_terminated_interrupted_and_resumed() {
    let text = genome(3_000_000);
    let options = ["--window", "700", "--stride", "300", "--resume", "--threads", "1"];
    let (whole, from) = Job::new(&text).finish(&options);
    assert_eq!(from, 0);
    for (signal, code) in [("-KILL", None), ("-TERM", Some(143)), ("-INT", Some(130))] {
        let job = Job::new(&text);
        let (found, stderr) = job.stop(&options, signal);
        assert_eq!(found, code, "{stderr}");
        if code.is_some() {
            let line = stderr.lines().last().unwrap();
            assert!(line.starts_with("error: ") && line.ends_with("add --resume to go on"), "{stderr}");
        }
        // Another chunk and another number of threads are the same job.
        let changed = ["--window", "700", "--stride", "300", "--resume", "--threads", "2", "--chunk", "333"];
        let (resumed, from) = job.finish(&changed);
        assert!(from > 0, "{signal} was not resumed");
        assert!(resumed == whole, "{signal}: other rows");
    }
}

#[test]
fn another_job_is_refused_by_name() {
    let text = genome(3_000_000);
    let job = Job::new(&text);
    job.stop(&["--resume"], "-KILL");
    let refused = |options: &[&str], words: &[&str]| {
        let ran = mamba_seq(job.folder.path(), &job.args(options));
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let line = ran.stderr.lines().rfind(|l| l.starts_with("error: ")).unwrap();
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert!(job.path("out.parquet.partial.checkpoint").exists() && !job.path("out.parquet").exists());
    };
    refused(&["--resume", "--window", "500"], &["window was '1000' and is '500'", "stride"]);
    refused(&["--resume", "--pool", "max"], &["pool was 'mean' and is 'max'"]);
    refused(&["--resume", "--embedding-dtype", "f16"], &["embedding-dtype was 'f32' and is 'f16'"]);
    let other = golden_model("d24-n8-k3-e1");
    refused(&["--resume", "--model", &other], &["model_sha256 was"]);
    // The same name, other letters where the earlier run has been.
    std::fs::write(job.path("x.fa"), text.replacen("ACG", "ACT", 1)).unwrap();
    refused(&["--resume"], &["the input is not the one"]);
    std::fs::write(job.path("x.fa"), ">a\nACGT\n").unwrap();
    refused(&["--resume"], &["the input is not the one"]);
    // The same letters under another name.
    std::fs::write(job.path("x.fa"), &text).unwrap();
    std::fs::write(job.path("y.fa"), &text).unwrap();
    let mut args = job.args(&["--resume"]);
    args[1] = "y.fa";
    let ran = mamba_seq(job.folder.path(), &args);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("input was 'x.fa' and is 'y.fa'"), "{}", ran.stderr);
    std::fs::remove_file(job.path("y.fa")).unwrap();

    // Files that are not as they were left.
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let good = std::fs::read(job.path(name)).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good);
        std::fs::write(job.path(name), &bad).unwrap();
        refused(&["--resume"], words);
        assert!(std::fs::read(job.path(name)).unwrap() == bad, "{name} was changed");
        std::fs::write(job.path(name), good).unwrap();
    };
    let (log, checkpoint) = ("out.parquet.partial", "out.parquet.partial.checkpoint");
    let afresh = "run again without --resume to start afresh";
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
    };
    damaged(checkpoint, &half, &[checkpoint, "is truncated or damaged", afresh]);
    damaged(checkpoint, &flip, &[checkpoint, "is truncated or damaged (its checksum differs)", afresh]);
    damaged(checkpoint, &Vec::clear, &[checkpoint, "is truncated or damaged", afresh]);
    let version = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(11).position(|w| w == br#"version\":2"#).unwrap();
        bytes[at + 10] = b'7';
    };
    damaged(checkpoint, &version, &[checkpoint, "has version 7; this program reads version 2", afresh]);
    let flip_first = |bytes: &mut Vec<u8>| bytes[100] ^= 4;
    damaged(log, &flip_first, &[log, "are not those that its checkpoint speaks of", afresh]);
    damaged(log, &|bytes| bytes.truncate(100), &[log, "has 100 bytes, its checkpoint needs", afresh]);
    // Back again it goes on.
    assert!(job.finish(&["--resume"]).1 > 0);
}

#[test]
fn resume_without_a_checkpoint_starts_afresh_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">a\nACGT\n").unwrap();
    let model = golden_model(SMALL);
    let ran = mamba_seq(folder.path(), &["embed", "x.fa", "--model", &model, "--resume"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("no checkpoint of an earlier run: starting afresh"), "{}", ran.stderr);
    assert_eq!(rows(Path::new(&folder.path().join("x.embeddings.parquet"))).len(), 1);
}

/// Killed on the forward strand, on the reverse one and between the two, with rows that are in
/// another order in the log than in the file.
#[test]
fn both_strands_and_intervals_resume() {
    let text = genome(1_500_000);
    let folder = tempfile::tempdir().unwrap();
    let bed = folder.path().join("x.bed");
    // Overlapping intervals along most of `b`, and one in each of the others.
    let mut intervals = "c\t100\t69000\tc\na\t4000\t5000\n".to_owned();
    for i in (0..400).rev() {
        let start = 50_000 + i * 3501;
        intervals += &format!("b\t{start}\t{}\ti{i}\n", start + 900 + i * 97 % 30_000);
    }
    std::fs::write(&bed, intervals).unwrap();
    let bed = bed.display().to_string();
    for options in [
        &["--strand", "both", "--window", "700", "--stride", "300"][..],
        &["--strand", "both", "--combine-strands", "mean", "--regions", &bed],
        &["--strand", "reverse", "--regions", &bed, "--window", "record", "--pool", "max"],
    ] {
        let (whole, from) = Job::new(&text).finish(options);
        assert_eq!(from, 0);
        let job = Job::new(&text);
        for _ in 0..2 {
            // The whole job takes longer than two checkpoints, or this fails loudly.
            job.stop(&[options, &["--resume", "--threads", "1"]].concat(), "-KILL");
        }
        let (resumed, from) = job.finish(&[options, &["--resume", "--chunk", "333"]].concat());
        assert!(from > 0, "{options:?} was not resumed");
        assert!(resumed == whole, "{options:?}: other rows");
    }
}
