//! `bench`: that its JSON has what it promises, and that the numbers go together.

use serde_json::Value;
use tempfile::tempdir;

use crate::common::mamba_seq;

fn run(args: &[&str]) -> (i32, String, String) {
    let ran = mamba_seq(tempdir().unwrap().path(), &[&["bench"], args].concat());
    (ran.code, String::from_utf8(ran.stdout).unwrap(), ran.stderr)
}

#[test]
fn the_json_goes_together() {
    let (code, out, err) =
        run(&["--shape", "32x2", "--tokens", "4096", "--device", "cpu", "--json", "--threads", "2"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    let number =
        |path: &str| json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {out}"));
    let text =
        |path: &str| json.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {out}"));

    assert_eq!(text("/version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text("/model/name"), "random 32x2");
    assert_eq!((text("/device/kind"), text("/dtype"), text("/gemm/path")), ("cpu", "f32", "own"));
    assert_eq!(number("/device/threads"), 2.0);
    for (path, value) in [
        ("/model/d_model", 32.0),
        ("/model/n_layer", 2.0),
        ("/tokens", 4096.0),
        ("/lanes", 1.0),
        ("/grid", 1.0),
        ("/rows", 5.0),
        ("/floor/exps_per_token", 2.0 * 64.0 * 16.0),
        ("/floor/flop_per_token", 2.0 * 2.0 * (32 * 128 + 64 * 34 + 2 * 64 + 64 * 32) as f64),
        ("/floor/bytes_per_token", 2.0 * 8.0 * 32.0),
    ] {
        assert_eq!(number(path), value, "{path}");
    }
    assert!(json["tile"].is_null() && json["memory"]["device_peak_bytes"].is_null());
    assert!(number("/memory/host_resident_bytes") > 1e6);
    assert!(number("/chunk") >= 512.0);

    let all = json["seconds"]["all"].as_array().unwrap();
    assert_eq!(all.len(), 5);
    let (fastest, median, slowest) =
        (number("/seconds/fastest"), number("/seconds/median"), number("/seconds/slowest"));
    assert!(0.0 < fastest && fastest <= median && median <= slowest);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
    assert!(near(number("/tokens_per_s"), 4096.0 / median));

    let stages = json["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    let order = ["embedding", "norm", "in_proj", "conv", "x_proj", "dt_proj", "scan", "out_proj", "pool"];
    assert_eq!(names, order);
    let of = |key: &str| stages.iter().map(|stage| stage[key].as_f64().unwrap()).collect::<Vec<f64>>();
    assert!(of("seconds").iter().chain(&of("calls")).all(|&v| v > 0.0));
    let sum: f64 = of("seconds").iter().sum();
    assert!(near(sum, number("/stages_sum_seconds")) && near(of("share").iter().sum(), 1.0));
    // The stages are what the pass does; the host packs tokens beside them, slowly where it is not optimised.
    let whole = number("/stages_seconds");
    assert!(sum <= whole && sum > 0.5 * whole, "{sum} of {whole}");

    for rate in ["copy_bytes_per_s", "gemm_flop_per_s", "exp2_per_s"] {
        assert!(number(&format!("/rates/{rate}")) > 1e6, "{rate}");
    }
    let bound = number(&format!("/floor/ns_per_token/{}", text("/floor/bound")));
    assert!(near(1e9 / bound, number("/floor/tokens_per_s")));
    assert!(near(100.0 * number("/tokens_per_s") / number("/floor/tokens_per_s"), number("/floor/percent")));
}

#[test]
fn sequences_share_a_step_and_the_table_has_its_parts() {
    let args = ["--tokens", "700", "--lanes", "3", "--chunk", "1000", "--repeats", "1", "--device", "cpu"];
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    for part in [
        "mamba-dna-1m",
        "3 sequences of 700 tokens, steps of up to 1,000",
        "tokens/s (median of 1",
        "floor",
        "in_proj",
        "out_proj",
        "exp2/s",
        "B/s",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
}

#[test]
fn variables_that_matter_are_shown() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
        .args(["bench", "--shape", "8x1", "--tokens", "100", "--repeats", "1", "--device", "cpu", "--json"])
        .env("MSEQ_NO_CUBLAS", "1")
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["environment"]["MSEQ_NO_CUBLAS"], "1");
}

#[test]
fn what_can_not_be_measured_is_one_line() {
    for (args, code, part) in [
        (&["--shape", "256"][..], 2, "such as 256x8"),
        (&["--shape", "0x8"], 2, "such as 256x8"),
        (&["--shape", "32x2", "--model", "mamba-dna-1m"], 2, "cannot be used with"),
        (&["--tokens", "0"], 2, "0 is not in 1.."),
        (&["--device", "cpu", "--dtype", "bf16"], 2, "cpu has f32 only"),
        (&["--device", "cpu", "--chunk", "16000000"], 2, "--memory-limit"),
        (&["--model", "nowhere"], 1, "no such model: nowhere"),
        (&["--device", "cuda:99"], 1, "device cuda:99"),
    ] {
        let (found, out, err) = run(args);
        assert_eq!((found, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(part), "{args:?}: {err}");
    }
}
