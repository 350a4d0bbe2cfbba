//! Files of `score` and `classify`, and other people's tools to look at them with.

use std::path::{Path, PathBuf};
use std::process::Command;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, UInt64Type};
use arrow_array::{Array, RecordBatch};

use super::kept::batches;

/// A row of `score`, numbers as bits: record, start, end, strand, region, nll, tokens, bpb.
pub(crate) type ScoreRow = (String, u64, u64, String, Option<String>, Option<u64>, u64, Option<u64>);

fn text(batch: &RecordBatch, name: &str, i: usize) -> String {
    batch.column_by_name(name).unwrap().as_string::<i32>().value(i).to_owned()
}

fn number(batch: &RecordBatch, name: &str, i: usize) -> u64 {
    batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(i)
}

/// Every row of a file of scores.
pub(crate) fn scores(path: &Path) -> Vec<ScoreRow> {
    let mut rows = Vec::new();
    for batch in batches(path) {
        let bits = |name: &str, i: usize| {
            let column = batch.column_by_name(name).unwrap().as_primitive::<Float64Type>();
            (!column.is_null(i)).then(|| column.value(i).to_bits())
        };
        for i in 0..batch.num_rows() {
            rows.push((
                text(&batch, "record", i),
                number(&batch, "start", i),
                number(&batch, "end", i),
                text(&batch, "strand", i),
                batch.column_by_name("region").map(|_| text(&batch, "region", i)),
                bits("nll", i),
                number(&batch, "tokens", i),
                bits("bpb", i),
            ));
        }
    }
    rows
}

/// A row of `classify`: record, start, label, probability, probabilities.
pub(crate) type ClassRow = (String, u64, String, f32, Vec<f32>);

/// Every row of a file of classes.
pub(crate) fn classes(path: &Path) -> Vec<ClassRow> {
    let mut rows = Vec::new();
    for batch in batches(path) {
        let most = batch.column_by_name("probability").unwrap().as_primitive::<Float32Type>();
        let lists = batch.column_by_name("probabilities").unwrap();
        for i in 0..batch.num_rows() {
            let list = match lists.as_fixed_size_list_opt() {
                Some(lists) => lists.value(i),
                None => lists.as_list::<i32>().value(i),
            };
            rows.push((
                text(&batch, "record", i),
                number(&batch, "start", i),
                text(&batch, "label", i),
                most.value(i),
                list.as_primitive::<Float32Type>().values().to_vec(),
            ));
        }
    }
    rows
}

/// A Python that has a module: that of `MSEQ_READERS_VENV`, of `target/readers-venv` (`cargo xtask readers`
/// makes it), or `python3`. `MSEQ_REQUIRE_READERS` makes its absence a failure.
/// `None`, said aloud, where none has.
pub(crate) fn python_with(module: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("MSEQ_READERS_VENV").map(|venv| Path::new(&venv).join("bin/python"));
    let all = given.into_iter().chain([root.join("target/readers-venv/bin/python"), "python3".into()]);
    let found = all.into_iter().find(|python| {
        let has = Command::new(python).args(["-c", &format!("import {module}")]).output();
        has.is_ok_and(|out| out.status.success())
    });
    if found.is_none() {
        assert!(std::env::var_os("MSEQ_REQUIRE_READERS").is_none(), "no Python with {module}");
        mseq_testkit::aloud(&format!("skipped: no Python with {module} (`cargo xtask readers` makes one)"));
    }
    found
}

/// What a Python program prints.
pub(crate) fn run_python(python: &Path, folder: &Path, program: &str) -> String {
    let out = Command::new(python).args(["-c", program]).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
