//! The job array of the README, tried as it stands there: each task a process of its own, some of
//! them killed and queued again.

#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use crate::common::{golden_model, kill_at_checkpoint, letters, mamba_seq, metadata, rows};

/// The lines of the README's script, its number of tasks, and the line that joins the shards.
fn readme() -> (String, u32, String) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let script = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let tasks = script.lines().find_map(|l| l.strip_prefix("#SBATCH --array=1-")).unwrap().parse().unwrap();
    let merge = text.split("then `mamba-seq merge ").nth(1).unwrap().split('`').next().unwrap();
    (script, tasks, format!("mamba-seq merge {merge}"))
}

/// A shell that finds the program under its name, as task number `task`.
fn shell(folder: &Path, script: &str, task: u32) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_mamba-seq")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(folder);
    command.env("PATH", format!("{}:{path}", program.display())).env("SLURM_ARRAY_TASK_ID", task.to_string());
    command
}

#[test]
fn the_array_of_the_readme_ends_in_the_rows_of_one_run() {
    let (script, tasks, merge) = readme();
    // A small model and one thread, so that it takes seconds and yet is long enough to be killed.
    let small = format!(" --model '{}' --threads 1 -q\n", golden_model("d29-n4-k2-e1"));
    assert!(script.trim_end().ends_with("--resume --threads 4"), "{script}");
    let script = script.trim_end().to_owned() + &small;

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // The two long records go to a shard each.
    let lengths = [3000, 1_500_000, 10, 1_500_000, 70_000, 999, 1000, 1001, 5000, 1, 20_000, 40_000];
    let text: String =
        lengths.iter().enumerate().map(|(i, &n)| format!(">r{i}\n{}\n", letters(i as u32, n))).collect();
    std::fs::write(path("genome.fa"), text).unwrap();
    let model = golden_model("d29-n4-k2-e1");
    let ran =
        mamba_seq(folder.path(), &["embed", "genome.fa", "-o", "whole.parquet", "-q", "--model", &model]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));

    let mut killed = 0;
    for task in 1..=tasks {
        let output = path(&format!("genome.embeddings.{task}-of-{tasks}.parquet"));
        let checkpoint = output.with_extension("parquet.partial.checkpoint");
        if task <= 2 {
            // Longest first: the first two shards have the long records.
            kill_at_checkpoint(&mut shell(folder.path(), &script, task), &checkpoint);
            assert!(checkpoint.exists() && !output.exists());
            killed += 1;
        }
        let out = shell(folder.path(), &script, task).output().unwrap();
        assert!(out.status.success(), "task {task}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(metadata(&output)["shard"], format!("{task}/{tasks}"));
        assert!(!checkpoint.exists());
    }
    assert_eq!(killed, 2);
    let out = shell(folder.path(), &merge, 0).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(rows(&path("genome.embeddings.parquet")) == rows(&path("whole.parquet")));
}
