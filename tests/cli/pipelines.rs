//! `mamba-seq run`, and every pipeline that is committed.

use std::path::Path;

use crate::common::heads::{classes, python_with, run_python, scores};
use crate::common::sound::seconds;
use crate::common::{mamba_seq, metadata, rows};

/// The repository's pipelines name files below its root: run them in a copy that has only these.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(folder.path().join("data/fasta")).unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    for file in ["lambda.fa", "lambda_pieces.csv", "lambda_reads.fq", "lambda_gc.tsv"]
        .map(|name| format!("data/fasta/{name}"))
    {
        std::fs::copy(root.join(&file), folder.path().join(&file)).unwrap();
    }
    std::fs::create_dir_all(folder.path().join("data/audio/clips")).unwrap();
    for entry in std::fs::read_dir(root.join("data/audio/clips")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join("data/audio/clips").join(path.file_name().unwrap())).unwrap();
    }
    for entry in std::fs::read_dir(root.join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            std::fs::copy(&path, folder.path().join("pipelines").join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

#[test]
fn every_committed_pipeline_runs() {
    let folder = workplace();
    let expected =
        [("embed-genome", "genome.embeddings.parquet", 49), ("embed-table", "table.embeddings.parquet", 100)];
    // With tests of their own, below and in spoken_digits.rs.
    let others = ["score-genome", "classify-reads", "batch", "embed-audio", "spoken-digits"];
    let committed = std::fs::read_dir(folder.path().join("pipelines")).unwrap().count();
    assert_eq!(committed, expected.len() + others.len(), "a pipeline without a test");
    for (name, output, count) in expected {
        let file = format!("pipelines/{name}.toml");
        let ran = mamba_seq(folder.path(), &["run", &file]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(rows(&folder.path().join(output)).len(), count, "{name}");
    }
}

#[test]
fn a_genome_is_scored_to_a_track() {
    let folder = workplace();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/score-genome.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let Some(python) = python_with("pyBigWig") else { return };
    let program = "import pyBigWig\nb = pyBigWig.open('genome.bw')\n\
                   c, n = next(iter(b.chroms().items()))\nprint(n, len(b.intervals(c)), b.stats(c, exact=True)[0])\n";
    let printed = run_python(&python, folder.path(), program);
    let words: Vec<f64> = printed.split_whitespace().map(|v| v.parse().unwrap()).collect();
    assert_eq!(words[..2], [48502.0, 486.0]);
    // Four letters at random cost two bits.
    assert!((1.5..2.1).contains(&words[2]), "{printed}");
}

#[test]
fn reads_are_classified_by_a_fitted_head() {
    let folder = workplace();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/classify-reads.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("all 4 jobs done"), "{}", ran.stderr);
    let found = classes(&folder.path().join("reads.classes.parquet"));
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|row| ["poor", "rich"].contains(&row.2.as_str())));
    let json = std::fs::read(folder.path().join("gc.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json["accuracy"]["value"].as_f64().unwrap() > 0.8, "{json}");
    // A step that fails stops the ones that need it.
    std::fs::write(folder.path().join("data/fasta/lambda_gc.tsv"), "ghost\t1\n").unwrap();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/classify-reads.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("1 of 4 jobs done, 1 failed (number 2), 2 not begun"), "{}", ran.stderr);
}

#[test]
fn a_folder_of_recordings_is_embedded() {
    let folder = workplace();
    std::fs::write(folder.path().join("data/audio/clips/notes.txt"), "hello\n").unwrap();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/embed-audio.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("1 file skipped: not audio"), "{}", ran.stderr);
    let output = folder.path().join("clips.embeddings.parquet");
    let found: Vec<(String, u64, u64)> =
        rows(&output).into_iter().map(|row| (row.record, row.start, row.end)).collect();
    // A second of Vorbis at 44.1 kHz in stereo, two of FLAC at 16 kHz, one and a half of WAV at 8 kHz.
    let mut want = Vec::new();
    for (name, samples, window) in
        [("bell", 44_100, 22_050), ("chirp", 32_000, 8000), ("notes", 12_000, 4000)]
    {
        want.extend((0..samples / window).map(|k| (name.to_owned(), window * k, window * (k + 1))));
    }
    assert_eq!(found, want);
    let meta = metadata(&output);
    assert_eq!((meta["model"].as_str(), meta["window"].as_str()), ("mamba-audio-2m", "500ms"));
    let times = seconds(&output);
    assert!(times.iter().all(|(from, to)| (to - from - 0.5).abs() < 1e-12), "{times:?}");
    // Options after the file override it, as for any other.
    let ran = mamba_seq(folder.path(), &["run", "pipelines/embed-audio.toml", "--window", "record", "-q"]);
    assert_eq!((ran.code, ran.stderr.as_str(), rows(&output).len()), (0, "", 3));
}

#[test]
fn a_batch_goes_on_after_an_input_that_fails() {
    let folder = workplace();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/batch.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for (name, count) in [("lambda", 49), ("reads", 100), ("pieces", 100)] {
        let path = folder.path().join(format!("{name}.scores.parquet"));
        assert_eq!(scores(&path).len(), count, "{name}");
        std::fs::remove_file(path).unwrap();
    }
    std::fs::write(folder.path().join("data/fasta/lambda_reads.fq"), "@r\nAC!GT\n+\nIIIII\n").unwrap();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/batch.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for words in
        ["error: job 2 of 3: ", "0x21 '!'", "2 of 3 jobs done, 1 failed (number 2); the others are complete"]
    {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let there = |name: &str| folder.path().join(format!("{name}.scores.parquet")).exists();
    assert!(there("lambda") && !there("reads") && there("pieces"));
    // A misspelt option is found before the first job runs.
    let text = std::fs::read_to_string(folder.path().join("pipelines/batch.toml")).unwrap();
    std::fs::write(folder.path().join("typo.toml"), text + "\n[[job]]\nwindoww = 3\n").unwrap();
    let ran = mamba_seq(folder.path(), &["run", "typo.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("typo.toml: job 4: ") && ran.stderr.contains("--windoww"), "{}", ran.stderr);
}

#[test]
fn each_job_of_a_list_takes_the_added_options_that_it_has() {
    let folder = workplace();
    let list = "pipelines/classify-reads.toml";
    let ran = mamba_seq(folder.path(), &["run", list, "--device", "cpu", "--threads=1", "-q"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(folder.path().join("reads.classes.parquet").exists());
    // What none has is a mistake, and so is a value that does not fit.
    for (option, word) in [("--windoww", "--windoww"), ("--threads=many", "--threads")] {
        let ran = mamba_seq(folder.path(), &["run", list, option]);
        assert!(ran.code == 2 && ran.stderr.contains(word), "{option}: {}", ran.stderr);
    }
}

#[test]
fn two_jobs_never_write_one_file() {
    let folder = workplace();
    let ran = mamba_seq(folder.path(), &["run", "pipelines/batch.toml", "-o", "one.parquet"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("jobs 1 and 2 both write one.parquet"), "{}", ran.stderr);
    let text = "command = \"score\"\n[[job]]\ninput = \"a/x.fa\"\n[[job]]\ninput = \"b/x.fa\"\n";
    let same = |text: &str| {
        std::fs::write(folder.path().join("two.toml"), text).unwrap();
        mamba_seq(folder.path(), &["run", "two.toml"])
    };
    // Other commands than those of rows are jobs too.
    let ran = same(
        "command = \"enhance\"\nmodel = \"m\"\n[[job]]\ninput = \"a/x.wav\"\n[[job]]\ninput = \"b/x.wav\"\n",
    );
    assert!(ran.code == 2 && ran.stderr.contains("both write x.enhanced.wav"), "{}", ran.stderr);
    let ran = same(
        "command = \"generate\"\nprompt_text = \"ACGT\"\ntokens = 50\n[[job]]\noutput = \"1.fa\"\n[[job]]\noutput = \"2.fa\"\nseed = 3\n",
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(folder.path().join("1.fa").exists() && folder.path().join("2.fa").exists());
    std::fs::write(folder.path().join("same.toml"), text).unwrap();
    let ran = mamba_seq(folder.path(), &["run", "same.toml"]);
    assert!(ran.code == 2 && ran.stderr.contains("both write x.scores.parquet"), "{}", ran.stderr);
}

#[test]
fn options_after_the_file_override_it() {
    let folder = workplace();
    let ran = mamba_seq(
        folder.path(),
        &["run", "pipelines/embed-genome.toml", "--window", "5000", "-o", "other.parquet", "-q"],
    );
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let output = folder.path().join("other.parquet");
    assert_eq!(rows(&output).len(), 10);
    assert_eq!(metadata(&output)["window"], "5000");
    // The command in the metadata is the one that the file stands for.
    assert!(metadata(&output)["command"].starts_with("mamba-seq embed "), "{}", metadata(&output)["command"]);
}

#[test]
fn what_is_no_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, code: i32, words: &[&str]| {
        std::fs::write(folder.path().join("p.toml"), text).unwrap();
        let ran = mamba_seq(folder.path(), &["run", "p.toml"]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    };
    refused("input = 3", 2, &["p.toml: no key command"]);
    refused("command = \"embed\"\nfrobnicate = 1\ninput = \"x\"", 2, &["--frobnicate"]);
    refused("command = \"embed\"\n= 1", 2, &["p.toml: line 2"]);
    refused("command = \"embed\"\ninput = \"gone.fa\"", 1, &["gone.fa"]);
    let ran = mamba_seq(folder.path(), &["run", "gone.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}
