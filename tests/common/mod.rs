//! The program as a user runs it, and its output as a reader sees it.

#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "each test folder uses its own part; skips are said aloud"
)]

pub(crate) mod fasta;
pub(crate) mod heads;
pub(crate) mod kept;
pub(crate) mod sound;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs the program in `folder`.
pub(crate) fn mamba_seq(folder: &Path, args: &[&str]) -> Ran {
    mamba_seq_with_input(folder, args, b"")
}

/// Runs the program in `folder` with `input` on standard input.
pub(crate) fn mamba_seq_with_input(folder: &Path, args: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may fail before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: out.status.code().unwrap(),
        stdout: out.stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

/// `n` letters, always the same for a seed.
pub(crate) fn letters(seed: u32, n: usize) -> String {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b"ACGTN"[(state >> 24) as usize % 5])
    };
    (0..n).map(|_| letter()).collect()
}

/// Starts the program and kills it (SIGKILL) as soon as there is a checkpoint that was not there
/// before. Fails when it ends without one.
#[cfg(unix)]
pub(crate) fn kill_at_checkpoint(command: &mut Command, checkpoint: &Path) {
    let stamp = || std::fs::metadata(checkpoint).and_then(|m| m.modified()).ok();
    let before = stamp();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = std::time::Instant::now();
    while stamp().is_none() || stamp() == before {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "ended without a checkpoint: {ended:?}");
        assert!(start.elapsed() < std::time::Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

/// A committed model of random weights, small enough for thousands of runs.
pub(crate) fn golden_model(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden").join(name).display().to_string()
}

/// A committed file of `data/`.
pub(crate) fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// A file of the genomes outside the repository (`MSEQ_TEST_DATA`, else `../shared/data`), or
/// `None`, said aloud.
pub(crate) fn outside_data(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MSEQ_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        mseq_testkit::aloud(&format!("skipped: {} is not there (set MSEQ_TEST_DATA)", path.display()));
        return None;
    }
    Some(path)
}

/// One row, numbers as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) source: String,
    pub(crate) record: String,
    pub(crate) record_index: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) strand: String,
    pub(crate) region: Option<String>,
    pub(crate) embedding: Vec<u32>,
}

/// Every row of a Parquet file of f32 embeddings.
pub(crate) fn rows(path: &Path) -> Vec<Row> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.flat_map(|batch| batch_rows(&batch.unwrap())).collect()
}

/// Every row of an Arrow IPC stream.
pub(crate) fn stream_rows(bytes: &[u8]) -> Vec<Row> {
    let reader = arrow_ipc::reader::StreamReader::try_new(bytes, None).unwrap();
    reader.flat_map(|batch| batch_rows(&batch.unwrap())).collect()
}

/// Rows of a record batch.
pub(crate) fn batch_rows(batch: &RecordBatch) -> Vec<Row> {
    let text =
        |name: &str, i: usize| batch.column_by_name(name).unwrap().as_string::<i32>().value(i).to_owned();
    let number =
        |name: &str, i: usize| batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(i);
    let embedding = batch.column_by_name("embedding").unwrap();
    (0..batch.num_rows())
        .map(|i| {
            let values = match embedding.as_fixed_size_list_opt() {
                Some(list) => list.value(i),
                None => embedding.as_list::<i32>().value(i),
            };
            Row {
                source: text("source", i),
                record: text("record", i),
                record_index: number("record_index", i),
                start: number("start", i),
                end: number("end", i),
                strand: text("strand", i),
                region: batch.column_by_name("region").map(|_| text("region", i)),
                embedding: values
                    .as_primitive::<Float32Type>()
                    .values()
                    .iter()
                    .map(|v| v.to_bits())
                    .collect(),
            }
        })
        .collect()
}

/// `mamba_seq.*` of a file's metadata.
pub(crate) fn metadata(path: &Path) -> std::collections::BTreeMap<String, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let file = builder.metadata().file_metadata().key_value_metadata().unwrap();
    let pairs = file.iter().filter(|kv| kv.key.starts_with("mamba_seq."));
    pairs.map(|kv| (kv.key["mamba_seq.".len()..].to_owned(), kv.value.clone().unwrap())).collect()
}
