//! `doctor`, and what a missing or broken CUDA driver makes of a run.

use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::common::{data, mamba_seq};

#[test]
fn doctor_needs_no_gpu() {
    let ran = mamba_seq(tempdir().unwrap().path(), &["doctor"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = String::from_utf8(ran.stdout).unwrap();
    for row in ["cpu", "simd", "cuda", "model"] {
        assert!(out.lines().any(|line| line.starts_with(row)), "{row}: {out}");
    }
}

#[test]
fn the_cpu_verifies_itself() {
    let ran = mamba_seq(tempdir().unwrap().path(), &["doctor", "--verify", "--device", "cpu"]);
    let out = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.code, 0, "{out}{}", ran.stderr);
    assert!(out.contains("selective_scan_fwd") && out.contains("within their limits"), "{out}");
}

/// A library of the driver's name without the driver's functions, as build images have it.
#[test]
fn a_stub_of_the_driver_is_named_and_nothing_panics() {
    let folder = tempdir().unwrap();
    let stub = folder.path().join("libcuda.so");
    if !compile_nothing(&stub) {
        return mseq_testkit::aloud("skipped: a stub of the driver needs a C compiler");
    }
    let with_stub = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_mamba-seq"));
        let out =
            program.args(args).current_dir(&folder).env("LD_LIBRARY_PATH", folder.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let (code, out, err) = with_stub(&["doctor"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("lacks cuInit"), "{out}");
    assert_eq!(err, "");
    let (code, _, err) =
        with_stub(&["embed", &data("fasta/lambda.fa").display().to_string(), "--device", "cuda"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("lacks cuInit") && !err.contains("panic") && err.lines().count() == 1, "{err}");
}

fn compile_nothing(to: &Path) -> bool {
    let cc = Command::new("cc").args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(to).output();
    cc.is_ok_and(|out| out.status.success())
}
