use crate::common::mamba_seq;

fn out(args: &[&str]) -> String {
    let ran = mamba_seq(std::env::temp_dir().as_path(), args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn every_command_has_help() {
    let top = out(&["--help"]);
    for command in ["embed", "models", "doctor", "bench", "completions", "man"] {
        assert!(top.contains(&format!("\n  {command}")), "{command} is not in\n{top}");
        assert!(out(&[command, "--help"]).contains("Usage:"));
    }
    let embed = out(&["embed", "--help"]);
    for option in [
        "--output",
        "--model",
        "--window",
        "--stride",
        "--pool",
        "--layer",
        "--regions",
        "--strand",
        "--combine-strands",
        "--context",
        "--device",
        "--dtype",
        "--chunk",
        "--embedding-dtype",
        "--list-type",
        "--threads",
        "--regions",
        "--strand",
        "--combine-strands",
        "--dry-run",
        "--progress",
        "--recursive",
        "--quiet",
        "--verbose",
        "--yes",
    ] {
        assert!(embed.contains(option), "{option} is not in\n{embed}");
    }
    // Hidden until they work.
    assert!(!embed.contains("--mask-stride") && !top.contains("report"));
    for command in ["score", "classify", "head", "variants", "generate", "enhance"] {
        assert!(top.contains(command), "{command} is not in\n{top}");
    }
}

#[test]
fn commands_that_only_print() {
    assert!(out(&["--version"]).starts_with("mamba-seq "));
    assert!(out(&["completions", "bash"]).contains("complete -F"));
    assert!(out(&["completions", "zsh"]).contains("#compdef mamba-seq"));
    assert!(out(&["man"]).contains(".TH mamba-seq 1"));
    let doctor = out(&["doctor"]);
    for key in ["cpu", "threads", "simd", "memory", "cuda"] {
        assert!(doctor.lines().any(|l| l.starts_with(key)), "{key} is not in\n{doctor}");
    }
}

#[test]
fn models_are_listed_described_and_verified() {
    let name = mseq_data::default_dna().name;
    assert!(out(&["models", "list"]).contains(name));
    let info = out(&["models", "info", name]);
    for key in ["d_model", "d_state", "parameters", "sha256", "tokens", "state"] {
        assert!(info.lines().any(|l| l.starts_with(key)), "{key} is not in\n{info}");
    }
    let verify = out(&["models", "verify", name, "--tokens", "300"]);
    assert_eq!(verify.matches("equal bits").count(), 5, "{verify}");
}
