//! Memory does not grow with length.

use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::golden_model;

/// Peak resident set of `embed` on one random record of `bases` bases, in KiB.
fn peak(bases: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut out = BufWriter::new(std::fs::File::create(folder.path().join("x.fa")).unwrap());
    writeln!(out, ">x").unwrap();
    let mut state = 99u32;
    for _ in 0..bases / 80 {
        let line: Vec<u8> = (0..80)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"ACGT"[(state >> 30) as usize]
            })
            .collect();
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).unwrap();
    }
    out.into_inner().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
        .args(["embed", "x.fa", "-q", "--model", &golden_model("d29-n4-k2-e1")])
        .current_dir(folder.path())
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

#[test]
fn a_record_six_times_as_long_needs_no_more_memory() {
    // Both are longer than all queues and buffers together.
    let (short, long) = (peak(2_000_000), peak(12_000_000));
    eprintln!("peak resident set: {short} KiB for 2 Mb, {long} KiB for 12 Mb");
    assert!(short > 5_000, "{short} KiB is no process");
    assert!(long as f64 <= 1.05 * short as f64, "{short} KiB for 2 Mb, {long} KiB for 12 Mb");
}
