//! `generate`: the same letters however they are cut, states that go on, and every kind of bad prompt.

use std::fs;
use std::path::Path;

use crate::common::{golden_model, letters, mamba_seq};

const SMALL: &str = "d29-n4-k2-e1";

/// Runs it with a small model; the FASTA that it printed.
fn generate(folder: &Path, args: &[&str]) -> String {
    let model = golden_model(SMALL);
    let all = [&["generate", "-q", "--device", "cpu", "--model", &model], args].concat();
    let ran = mamba_seq(folder, &all);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    String::from_utf8(ran.stdout).unwrap()
}

/// Definition lines and letters.
fn records(fasta: &str) -> Vec<(String, String)> {
    let mut records: Vec<(String, String)> = Vec::new();
    for line in fasta.lines() {
        match line.strip_prefix('>') {
            Some(head) => records.push((head.to_owned(), String::new())),
            None => {
                assert!(line.len() <= 80);
                records.last_mut().unwrap().1.push_str(line);
            }
        }
    }
    records
}

fn prompts(folder: &Path) {
    let text: String = (0..5).map(|i| format!(">p{i} x\n{}\n", letters(i, 30 + 200 * i as usize))).collect();
    fs::write(folder.join("p.fa"), text).unwrap();
}

#[test]
fn letters_do_not_depend_on_batch_threads_chunk_or_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    let common = [
        "--prompt",
        "p.fa",
        "--samples",
        "3",
        "--tokens",
        "301",
        "--temperature",
        "4",
        "--top-k",
        "3",
        "--top-p",
        "0.95",
        "--seed",
        "5",
    ];
    let with = |more: &[&str]| generate(folder.path(), &[&common, more].concat());
    let want = with(&[]);
    let all = records(&want);
    assert_eq!(all.len(), 15);
    assert_eq!(all[4].0, "p1_2 tokens=301 from=0 seed=5");
    assert!(all.iter().all(|(_, s)| s.len() == 301 && s.bytes().all(|b| b"ACGTN".contains(&b))));
    let distinct: std::collections::BTreeSet<&str> = all.iter().map(|(_, s)| s.as_str()).collect();
    assert_eq!(distinct.len(), 15);
    for more in
        [&["--batch", "4", "--threads", "1"][..], &["--batch", "1", "--chunk", "7"], &["--chunk", "64"]]
    {
        assert_eq!(with(more), want, "{more:?}");
    }
    let other = generate(folder.path(), &[&common[..12], &["--seed", "6"]].concat());
    assert!(records(&other).iter().zip(&all).all(|(a, b)| a.1 != b.1));
    // To a file it is the same.
    assert_eq!(with(&["-o", "x.fa"]), "");
    assert_eq!(fs::read_to_string(folder.path().join("x.fa")).unwrap(), want);
}

#[test]
fn a_saved_state_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    let sampled = ["--temperature", "0.8", "--top-k", "3", "--top-p", "0.9", "--seed", "9"];
    let at_once = generate(folder.path(), &[&["--prompt", "p.fa", "--tokens", "500"], &sampled[..]].concat());
    let first = generate(
        folder.path(),
        &[&["--prompt", "p.fa", "--tokens", "200", "--save-state", "s.safetensors"], &sampled[..]].concat(),
    );
    // How tokens are drawn is part of the state.
    let second = generate(folder.path(), &["--from-state", "s.safetensors", "--tokens", "300"]);
    for ((whole, a), b) in records(&at_once).iter().zip(records(&first)).zip(records(&second)) {
        assert_eq!(whole.1, a.1.clone() + &b.1);
        assert_eq!(b.0, format!("{} tokens=300 from=200 seed=9", a.0.split(' ').next().unwrap()));
    }
    let state = fs::read(folder.path().join("s.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&state).unwrap();
    assert_eq!(file.tensor("tokens").unwrap().shape(), [5]);
    // Another model, and a file that is none, are refused.
    for (model, path, want) in [
        (golden_model("d13-n16-k4-e2"), "s.safetensors", "was saved with another model"),
        (golden_model(SMALL), "p.fa", "is no saved state"),
        (golden_model(SMALL), "none", "No such file"),
    ] {
        let ran = mamba_seq(
            folder.path(),
            &["generate", "--model", &model, "--from-state", path, "--device", "cpu"],
        );
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(want) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    }
}

#[test]
fn greedy_has_no_seed_and_long_runs_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |seed: &str| {
        let text = generate(
            folder.path(),
            &["--prompt-text", "acgtnacgu", "--tokens", "20000", "--temperature", "0", "--seed", seed],
        );
        records(&text).remove(0)
    };
    let (head, text) = run("1");
    assert_eq!((head.as_str(), text.len()), ("prompt tokens=20000 from=0 seed=1", 20_000));
    assert_eq!(run("2").1, text);
    // What is so cold that logits leave f32 is greedy too.
    let cold = ["--prompt-text", "acgtnacgu", "--tokens", "200", "--temperature", "1e-40"];
    assert_eq!(records(&generate(folder.path(), &cold))[0].1, text[..200]);
}

#[test]
fn what_can_not_be_meant_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.fa"), ">a\nACGT\nAC!T\n").unwrap();
    fs::write(folder.path().join("empty.fa"), ">a\nAC\n>b\n").unwrap();
    fs::write(folder.path().join("two.fa"), ">a\nAC\n>b\nGT\n").unwrap();
    for (args, code, want) in [
        (
            &["--prompt-text", "ACXGT"][..],
            2,
            "--prompt-text: base 3: byte 0x58 'X' is not a nucleotide code; remove it",
        ),
        (&["--prompt-text", ""], 2, "--prompt-text is empty"),
        (&["--prompt", "bad.fa"], 1, "bad.fa: record 'a', base 7 (line 3): byte 0x21 '!'"),
        (&["--prompt", "empty.fa"], 1, "empty.fa: record 'b' is empty"),
        (&["--prompt", "none.fa"], 1, "none.fa"),
        (&["--prompt-text", "A", "--temperature=-1"], 2, "--temperature -1 is not 0 or more"),
        (&["--prompt-text", "A", "--top-p", "0"], 2, "--top-p 0 is not above 0"),
        (&["--prompt-text", "A", "--top-k", "0"], 2, "--top-k"),
        (&["--prompt-text", "A", "-o", "no/x.fa"], 1, "output folder 'no' does not exist"),
        (
            &["--prompt", "two.fa", "--batch", "1", "--save-state", "s"],
            2,
            "--save-state needs all 2 sequences",
        ),
        (&[], 2, "--prompt"),
    ] {
        let all = [&["generate", "--device", "cpu", "--tokens", "5"], args].concat();
        let ran = mamba_seq(folder.path(), &all);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(want), "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3);
}

/// Starts a generation that would take very long, and sends it a signal once it draws.
#[cfg(unix)]
fn stopped(folder: &Path, signal: &str, more: &[&str]) -> (i32, String) {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let model = golden_model(SMALL);
    let child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
        .args([
            "generate",
            "--device",
            "cpu",
            "--model",
            &model,
            "--prompt",
            "p.fa",
            "--tokens",
            "1000000000",
        ])
        .args(["-o", "x.fa", "--seed", "3"])
        .args(more)
        .current_dir(folder)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // The temporary file is made when it listens and the prompts are read.
    let draws = || {
        fs::read_dir(folder).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with(".x.fa."))
    };
    while !draws() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    let sent = Instant::now();
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
    (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[cfg(unix)]
#[test]
fn a_signal_saves_the_state_or_leaves_nothing() {
    for samples in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.fa"), ">p\nACGTTGCA\n").unwrap();
        let save = ["--samples", samples, "--save-state", "s.safetensors"];
        let (code, told) = stopped(folder.path(), "-INT", &save);
        assert_eq!(code, 130, "{told}");
        for word in [
            "error: interrupted (SIGINT) after",
            "x.fa.partial",
            "--from-state s.safetensors --tokens",
            " --model ",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(!folder.path().join("x.fa").exists());
        let so_far = records(&fs::read_to_string(folder.path().join("x.fa.partial")).unwrap());
        let drawn = so_far[0].1.len();
        assert_eq!(so_far.len().to_string(), samples);
        assert!(drawn > 0 && so_far.iter().all(|(_, letters)| letters.len() == drawn), "{drawn}");
        assert!(told.contains(&format!("after {drawn} of 1000000000 tokens")), "{told}");
        // It goes on as if nothing had been.
        let rest = generate(folder.path(), &["--from-state", "s.safetensors", "--tokens", "70"]);
        let tokens = (drawn + 70).to_string();
        let whole = ["--prompt", "p.fa", "--samples", samples, "--seed", "3", "--tokens", &tokens];
        let whole = generate(folder.path(), &whole);
        for ((whole, a), b) in records(&whole).iter().zip(&so_far).zip(records(&rest)) {
            assert!(whole.1 == a.1.clone() + &b.1, "{samples} {drawn}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.fa"), ">p\nACGTTGCA\n").unwrap();
    let (code, told) = stopped(folder.path(), "-TERM", &[]);
    assert_eq!(code, 143, "{told}");
    assert!(told.contains("error: terminated (SIGTERM) after") && told.contains("nothing is kept"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
