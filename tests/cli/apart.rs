//! No command replaces a file that it reads.

use crate::common::{golden_model, mamba_seq};

#[test]
fn an_output_that_is_an_input_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden_model("d29-n4-k2-e1");
    for (name, text) in [
        ("x.fa", ">a\nACGTACGTACGT\n"),
        ("x.bed", "a\t0\t5\n"),
        ("x.tsv", "a\t1\n"),
        ("x.vcf", "##fileformat=VCFv4.3\n"),
        ("h.safetensors", "head"),
        ("e.parquet", "embeddings"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let files = || -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let all = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        all.sort();
        all
    };
    let before = files();
    let cases: [&[&str]; 13] = [
        &["embed", "x.fa", "-o", "x.fa"],
        &["embed", "x.fa", "-o", "./x.fa"],
        &["score", "x.fa", "--regions", "x.bed", "-o", "x.bed"],
        &["classify", "x.fa", "--head", "h.safetensors", "-o", "h.safetensors"],
        &["variants", "x.vcf", "--reference", "x.fa", "-o", "x.vcf"],
        &["generate", "--prompt", "x.fa", "-o", "x.fa"],
        &["generate", "--prompt", "x.fa", "--save-state", "x.fa"],
        &["generate", "--from-state", "h.safetensors", "-o", "h.safetensors"],
        &["head", "fit", "e.parquet", "--labels", "x.tsv", "-o", "e.parquet"],
        &["head", "fit", "e.parquet", "--labels", "x.tsv", "-o", "x.tsv"],
        &["head", "eval", "h.safetensors", "e.parquet", "--labels", "x.tsv", "--json", "h.safetensors"],
        &["head", "eval", "h.safetensors", "e.parquet", "--labels", "x.tsv", "--json", "e.parquet"],
        &["merge", "e.parquet", "-o", "e.parquet"],
    ];
    for case in cases {
        let of_model = ["embed", "score", "classify", "variants", "generate"].contains(&case[0]);
        let model = ["--model", &model];
        let ran = mamba_seq(folder.path(), &[case, if of_model { &model } else { &[] }].concat());
        assert_eq!(ran.code, 2, "{case:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("choose another"), "{case:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{case:?}: {}", ran.stderr);
        assert!(files() == before, "{case:?}");
    }
    let both = ["generate", "--prompt", "x.fa", "-o", "y", "--save-state", "y", "--model", &model];
    let ran = mamba_seq(folder.path(), &both);
    assert!(ran.code == 2 && ran.stderr.contains("are both y"), "{}", ran.stderr);
}
