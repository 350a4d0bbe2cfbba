//! `mamba-seq run`, and every pipeline that is committed.

use std::path::Path;

use crate::common::{mamba_seq, metadata, rows};

/// The repository's pipelines name files below its root: run them in a copy that has only these.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(folder.path().join("data/fasta")).unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    for file in ["data/fasta/lambda.fa", "data/fasta/lambda_pieces.csv"] {
        std::fs::copy(root.join(file), folder.path().join(file)).unwrap();
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
    let committed = std::fs::read_dir(folder.path().join("pipelines")).unwrap().count();
    assert_eq!(committed, expected.len(), "a pipeline without a test");
    for (name, output, count) in expected {
        let file = format!("pipelines/{name}.toml");
        let ran = mamba_seq(folder.path(), &["run", &file]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(rows(&folder.path().join(output)).len(), count, "{name}");
    }
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
