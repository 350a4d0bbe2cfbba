//! `--shard` and `--on-bad-record`: which records a run takes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{Row, golden_model, mamba_seq, metadata, rows};

const SMALL: &str = "d29-n4-k2-e1";

fn embed(folder: &Path, options: &[&str]) -> (Vec<Row>, String) {
    let model = golden_model(SMALL);
    let mut args = vec!["embed", "x.fa", "--model", &model, "--window", "10"];
    args.extend(options);
    if !options.contains(&"--shard") {
        args.extend(["-o", "out.parquet"]);
    }
    let ran = mamba_seq(folder, &args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    let name = match options.iter().position(|o| *o == "--shard") {
        Some(at) => format!("x.embeddings.{}.parquet", options[at + 1].replace('/', "-of-")),
        None => "out.parquet".to_owned(),
    };
    (rows(&folder.join(name)), ran.stderr)
}

#[test]
fn shards_are_a_partition_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..12).map(|i| format!(">r{i}\n{}\n", "ACGTTGCA".repeat(1 + i * 5 % 7))).collect();
    std::fs::write(folder.path().join("x.fa"), text).unwrap();
    let whole = embed(folder.path(), &[]).0;
    for n in [1, 2, 3, 12, 20] {
        let mut all = Vec::new();
        let mut owners = BTreeSet::new();
        for i in 1..=n {
            let shard = format!("{i}/{n}");
            let (mine, _) = embed(folder.path(), &["--shard", &shard]);
            let records: BTreeSet<u64> = mine.iter().map(|r| r.record_index).collect();
            assert!(owners.is_disjoint(&records));
            owners.extend(records);
            let file = folder.path().join(format!("x.embeddings.{i}-of-{n}.parquet"));
            let meta = metadata(&file);
            assert_eq!((meta["shard"].as_str(), meta["window"].as_str()), (shard.as_str(), "10"));
            all.extend(mine);
        }
        all.sort_by_key(|r| (r.record_index, r.start));
        assert!(all == whole, "{n} shards");
    }
}

#[test]
fn one_record_is_shared_out_between_pieces_of_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(">a\n{}\n>b\nACGT\n>c\n\n", "ACGTTGCATTAGGC".repeat(60));
    std::fs::write(folder.path().join("x.fa"), text).unwrap();
    for (n, options) in [
        (3, ["--context", "100", "--overlap", "30", "--stride", "7"]),
        (4, ["--context", "64", "--overlap", "0", "--stride", "23"]),
        (2, ["--context", "50", "--overlap", "49", "--pool", "none"]),
    ] {
        let whole = embed(folder.path(), &options).0;
        let mut all = Vec::new();
        let mut files = Vec::new();
        for i in 1..=n {
            let shard = format!("{i}/{n}");
            let chunk = ["--chunk", if i % 2 == 0 { "13" } else { "500" }];
            let (mine, _) = embed(folder.path(), &[&["--shard", &shard][..], &options, &chunk].concat());
            let share = mine.len() as f64 / (whole.len() as f64 / f64::from(n));
            assert!((0.5..1.5).contains(&share), "{shard} has {} of {} rows", mine.len(), whole.len());
            all.extend(mine);
            files.push(format!("x.embeddings.{i}-of-{n}.parquet"));
        }
        assert!(all == whole, "{options:?}");
        let ran = mamba_seq(
            folder.path(),
            &["merge", "-o", "m.parquet"]
                .into_iter()
                .chain(files.iter().map(String::as_str))
                .collect::<Vec<_>>(),
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(rows(&folder.path().join("m.parquet")) == whole, "{options:?}");
    }
}

#[test]
fn more_shards_than_records_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">a\nACGT\n>b\nAC\n").unwrap();
    for (shard, rows) in [("1/4294967295", 1), ("2/4294967295", 1), ("4294967295/4294967295", 0)] {
        assert_eq!(embed(folder.path(), &["--shard", shard]).0.len(), rows, "{shard}");
    }
}

#[test]
fn bad_records_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.fa");
    std::fs::write(&path, ">a\nACGT\n>bad\nACGTACGTACGTACGT!\n>c\nGGCC\n>worse\n1\n").unwrap();
    let (found, stderr) = embed(folder.path(), &["--on-bad-record", "skip"]);
    let records: Vec<_> = found.iter().map(|r| (r.record.as_str(), r.record_index)).collect();
    assert_eq!(records, [("a", 0), ("c", 2)]);
    assert!(stderr.contains("skipped: x.fa: record 'bad', base 17 (line 4)"), "{stderr}");
    assert!(stderr.contains("2 records with an illegal byte skipped"), "{stderr}");
    let meta = metadata(&folder.path().join("out.parquet"));
    assert_eq!((meta["on_bad_record"].as_str(), meta["skipped_records"].as_str()), ("skip", "2"));
    // With shards too, and when nothing is bad.
    let both: usize = ["1/2", "2/2"]
        .iter()
        .map(|s| embed(folder.path(), &["--on-bad-record", "skip", "--shard", s]).0.len())
        .sum();
    assert_eq!(both, 2);
    std::fs::write(&path, ">a\nACGT\n").unwrap();
    assert_eq!(embed(folder.path(), &["--on-bad-record", "skip"]).0.len(), 1);
}
