//! The laws, on the whole program: what must never change a number.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "../common/mod.rs"]
mod common;

mod keep;
#[cfg(target_os = "linux")]
mod memory;
mod regions;
mod resume;
mod strands;

use std::fmt::Write;
use std::path::Path;

use common::{Row, golden_model, mamba_seq, rows, stream_rows};
use proptest::prelude::*;

const POOLS: [&str; 4] = ["mean", "max", "last", "none"];
const MODELS: [&str; 3] = ["d13-n16-k4-e2", "d29-n4-k2-e1", "original"];

/// Records of any letters that are legal DNA, some empty.
fn records() -> impl Strategy<Value = Vec<String>> {
    let letters = proptest::sample::select(b"ACGTACGTACGTNacgtnRYSWKMBDHVU-*".to_vec());
    let record = prop_oneof![
        1 => Just(Vec::new()),
        8 => proptest::collection::vec(letters.clone(), 1..40),
        3 => proptest::collection::vec(letters, 40..700),
    ];
    let record = record.prop_map(|bytes| String::from_utf8(bytes).unwrap());
    proptest::collection::vec(record, 1..9)
}

fn fasta(records: &[String]) -> String {
    let mut text = String::new();
    for (i, record) in records.iter().enumerate() {
        writeln!(text, ">r{i}").unwrap();
        for line in record.as_bytes().chunks(61) {
            writeln!(text, "{}", std::str::from_utf8(line).unwrap()).unwrap();
        }
    }
    text
}

/// Runs `embed` on `text` and reads the rows back.
fn embed(folder: &Path, text: &str, model: &str, options: &[&str]) -> Vec<Row> {
    std::fs::write(folder.join("x.fa"), text).unwrap();
    embed_file(folder, "x.fa", model, options)
}

/// Runs `embed` on a file of `folder` and reads the rows back.
fn embed_file(folder: &Path, input: &str, model: &str, options: &[&str]) -> Vec<Row> {
    let model = golden_model(model);
    let mut args = vec!["embed", input, "-o", "x.parquet", "--model", &model];
    args.extend(options);
    let ran = mamba_seq(folder, &args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    rows(&folder.join("x.parquet"))
}

/// The same as an Arrow stream on standard output.
fn embed_stream(folder: &Path, input: &str, model: &str, options: &[&str]) -> Vec<Row> {
    let model = golden_model(model);
    let mut args = vec!["embed", input, "-o", "-", "--model", &model];
    args.extend(options);
    let ran = mamba_seq(folder, &args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    stream_rows(&ran.stdout)
}

/// The rows of `i/n` for each i, joined by `merge`.
fn embed_shards(folder: &Path, input: &str, n: u32, model: &str, options: &[&str]) -> Vec<Row> {
    let model = golden_model(model);
    let names: Vec<String> = (1..=n).map(|i| format!("s{i}-of-{n}.parquet")).collect();
    for (i, name) in names.iter().enumerate() {
        let shard = format!("{}/{n}", i + 1);
        let mut args = vec!["embed", input, "-o", name, "--model", &model, "--shard", &shard];
        args.extend(options);
        let ran = mamba_seq(folder, &args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    }
    let mut args = vec!["merge", "-o", "merged.parquet"];
    args.extend(names.iter().map(String::as_str));
    let ran = mamba_seq(folder, &args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    rows(&folder.join("merged.parquet"))
}

/// Rows without the name of their file, which differs from one wrapping to the next.
fn nameless(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().map(|row| Row { source: String::new(), ..row }).collect()
}

fn case() -> impl Strategy<Value = (Vec<String>, &'static str, Vec<String>)> {
    let pools = proptest::sample::select(POOLS.to_vec());
    let windows = prop_oneof![Just("record".to_owned()), (1u32..300).prop_map(|n| n.to_string())];
    let layers = proptest::sample::select(vec!["0", "1", "last"]);
    let pieces =
        (1u32..200).prop_flat_map(|n| (Just(n), 0..n)).prop_map(|(n, m)| (n.to_string(), m.to_string()));
    let context = prop_oneof![3 => Just(("whole".to_owned(), "0".to_owned())), 2 => pieces];
    let options = (pools, windows, proptest::option::of(1u32..300), layers, context);
    let options = options.prop_map(|(pool, window, stride, layer, (context, overlap))| {
        let mut options: Vec<String> = [
            "--pool",
            pool,
            "--window",
            &window,
            "--layer",
            layer,
            "--context",
            &context,
            "--overlap",
            &overlap,
        ]
        .map(str::to_owned)
        .into();
        if let (Some(stride), true) = (stride, window != "record") {
            options.extend(["--stride".to_owned(), stride.to_string()]);
        }
        options
    });
    (records(), proptest::sample::select(MODELS.to_vec()), options)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Any chunk, any number of threads: the same rows, bit for bit.
    #[test]
    fn no_cut_and_no_thread_count_changes_a_bit(
        (records, model, options) in case(),
        chunk in prop_oneof![1u32..8, 8u32..200, 200u32..5000],
        threads in 1u32..6,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let text = fasta(&records);
        let whole = embed(folder.path(), &text, model, &[&options[..], &["--chunk", "100000", "--threads", "1", "--memory-limit", "1GiB"]].concat());
        let (chunk, threads) = (chunk.to_string(), threads.to_string());
        let cut = embed(folder.path(), &text, model, &[&options[..], &["--chunk", &chunk, "--threads", &threads]].concat());
        prop_assert_eq!(whole, cut);
    }

    /// A record alone gives the rows that it gives among others, in whatever steps they share.
    #[test]
    fn no_neighbour_changes_a_bit((records, model, options) in case(), pick in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let pick = pick.index(records.len());
        let all = embed(folder.path(), &fasta(&records), model, &options);
        let alone = embed(folder.path(), &fasta(&records[pick..=pick]), model, &options);
        let among: Vec<Row> = all
            .into_iter()
            .filter(|row| row.record_index == pick as u64)
            .map(|row| Row { record: "r0".into(), record_index: 0, ..row })
            .collect();
        prop_assert_eq!(among, alone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// With `--context N --overlap M`, the tokens of each piece are those of the piece run alone, less
    /// its first M (but for the first piece).
    #[test]
    fn pieces_of_context_equal_pieces_alone(
        record in proptest::collection::vec(proptest::sample::select(b"ACGTN".to_vec()), 1..500),
        (n, m) in (1usize..120).prop_flat_map(|n| (Just(n), 0..n)),
        chunk in 1u32..200,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let record = String::from_utf8(record).unwrap();
        let (context, overlap, chunk) = (n.to_string(), m.to_string(), chunk.to_string());
        let options = ["--pool", "none", "--context", &context, "--overlap", &overlap, "--chunk", &chunk];
        let cut = embed(folder.path(), &fasta(std::slice::from_ref(&record)), "d13-n16-k4-e2", &options);
        let mut pieces = Vec::new();
        let mut start = 0;
        while start == 0 || start + m < record.len() {
            pieces.push(record[start..record.len().min(start + n)].to_owned());
            start += n - m;
        }
        let alone = embed(folder.path(), &fasta(&pieces), "d13-n16-k4-e2", &["--pool", "none"]);
        let expected: Vec<Vec<u32>> = alone
            .into_iter()
            .filter(|row| row.record_index == 0 || row.start >= m as u64)
            .map(|row| row.embedding)
            .collect();
        let found: Vec<Vec<u32>> = cut.into_iter().map(|row| row.embedding).collect();
        prop_assert_eq!(found, expected);
    }
}

/// A mean over a long record is as exact as over a short one: the record is one pattern over and
/// over, so that each of its windows of one period has nearly the same mean, and so has the whole.
#[test]
fn a_long_record_pools_as_exactly_as_its_windows() {
    let folder = tempfile::tempdir().unwrap();
    let period = "ACGTTGCAAGGCTTACCGATNACGGTTACA";
    let text = format!(">long\n{}\n", period.repeat(20_000));
    let tokens = embed(folder.path(), &text, "d29-n4-k2-e1", &["--window", "30"]);
    let whole = embed(folder.path(), &text, "d29-n4-k2-e1", &["--window", "record"]);
    assert_eq!((tokens.len(), whole.len()), (20_000, 1));
    for channel in 0..29 {
        let value = |row: &Row| f64::from(f32::from_bits(row.embedding[channel]));
        let mean = tokens.iter().map(value).sum::<f64>() / tokens.len() as f64;
        let off = (value(&whole[0]) - mean).abs() / mean.abs().max(1e-3);
        // 6e-8 is half a unit in the last place of the f32 that is written.
        assert!(off < 2e-7, "channel {channel}: {} and {mean}", value(&whole[0]));
    }
}
