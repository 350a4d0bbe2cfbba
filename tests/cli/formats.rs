//! Good input in every form, and every output option.

use std::io::Write;
use std::path::Path;

use crate::common::{
    Row, batch_rows, data, golden_model, mamba_seq, mamba_seq_with_input, metadata, outside_data, rows,
};

const SMALL: &str = "d29-n4-k2-e1";

fn embed(folder: &Path, input: &str, options: &[&str]) -> Vec<Row> {
    let model = golden_model(SMALL);
    let mut args = vec!["embed", input, "-o", "out.parquet", "--model", &model, "-q"];
    args.extend(options);
    let ran = mamba_seq(folder, &args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    rows(&folder.join("out.parquet"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn without_source(rows: &[Row]) -> Vec<Row> {
    rows.iter().map(|r| Row { source: String::new(), ..r.clone() }).collect()
}

#[test]
fn lambda_with_the_built_in_model() {
    let folder = tempfile::tempdir().unwrap();
    let lambda = data("fasta/lambda.fa");
    let ran = mamba_seq(folder.path(), &["embed", lambda.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("48,502 bases"), "{}", ran.stderr);
    let file = folder.path().join("lambda.embeddings.parquet");
    let found = rows(&file);
    assert_eq!(found.len(), 49);
    for (k, row) in found.iter().enumerate() {
        let (start, end) = (1000 * k as u64, (1000 * (k as u64 + 1)).min(48_502));
        assert_eq!((row.start, row.end, row.record_index, row.strand.as_str()), (start, end, 0, "+"));
        assert_eq!(row.record, "NC_001416.1");
        assert!(row.embedding.iter().all(|v| f32::from_bits(*v).is_finite()));
        assert_ne!(row.embedding, found[(k + 1) % 49].embedding);
    }
    let meta = metadata(&file);
    let keys: Vec<&str> = meta.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "chunk",
            "command",
            "context",
            "device",
            "dtype",
            "layer",
            "modality",
            "model",
            "model_sha256",
            "on_bad_record",
            "overlap",
            "pool",
            "seed",
            "shard",
            "skipped_records",
            "strand",
            "stride",
            "version",
            "window"
        ]
    );
    assert_eq!(meta["window"], "1000");
    assert_eq!(meta["model"], mseq_data::default_dna().name);
    assert_eq!(meta["model_sha256"].len(), 64);
    // Nothing else is left in the folder.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn one_genome_in_every_wrapping_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let plain = ">a first\nACGTNNACGT\nACGTAC\n>b\n\n>c\nTTTTTTTTTGGGGC\n";
    std::fs::write(path("plain.fa"), plain).unwrap();
    std::fs::write(path("crlf.fa"), plain.replace('\n', "\r\n")).unwrap();
    std::fs::write(path("no_last_newline.fa"), plain.trim_end()).unwrap();
    std::fs::write(path("lower.fa"), plain.replace("ACGT", "acgt")).unwrap();
    std::fs::write(path("rna.fa"), plain.replace("T", "U").replace(">a firsU", ">a first")).unwrap();
    std::fs::write(path("one_line.fa"), plain.replace("ACGT\nACGT", "ACGTACGT")).unwrap();
    // Content decides, not the name.
    std::fs::write(path("gzip.fa"), gzip(plain.as_bytes())).unwrap();
    let two = [gzip(&plain.as_bytes()[..20]), gzip(&plain.as_bytes()[20..])].concat();
    std::fs::write(path("members.gz"), two).unwrap();
    let expected = without_source(&embed(folder.path(), "plain.fa", &["--window", "5"]));
    assert_eq!(expected.len(), 4 + 3);
    let spans: Vec<_> =
        expected.iter().map(|r| (r.record.as_str(), r.record_index, r.start, r.end)).collect();
    assert_eq!(spans[3], ("a", 0, 15, 16));
    assert_eq!(spans[4], ("c", 2, 0, 5));
    for name in
        ["crlf.fa", "no_last_newline.fa", "lower.fa", "rna.fa", "one_line.fa", "gzip.fa", "members.gz"]
    {
        assert_eq!(without_source(&embed(folder.path(), name, &["--window", "5"])), expected, "{name}");
    }
    let model = golden_model(SMALL);
    let args = ["embed", "-", "-o", "out.parquet", "--model", &model, "--window", "5", "-q"];
    assert_eq!(mamba_seq_with_input(folder.path(), &args, plain.as_bytes()).code, 0);
    let piped = rows(&path("out.parquet"));
    assert_eq!(piped[0].source, "-");
    assert_eq!(without_source(&piped), expected);
}

#[test]
fn fastq_gives_one_row_a_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("r.fq"), "@x 1\nACGTACGT\n+\nIIIIIIII\n@y\nGG\n+y\n@>\n").unwrap();
    std::fs::write(folder.path().join("r.fa"), ">x\nACGTACGT\n>y\nGG\n").unwrap();
    let reads = embed(folder.path(), "r.fq", &[]);
    let spans: Vec<_> = reads.iter().map(|r| (r.record.as_str(), r.start, r.end)).collect();
    assert_eq!(spans, [("x", 0, 8), ("y", 0, 2)]);
    assert_eq!(metadata(&folder.path().join("out.parquet"))["window"], "record");
    assert_eq!(
        without_source(&reads),
        without_source(&embed(folder.path(), "r.fa", &["--window", "record"]))
    );
}

#[test]
fn files_folders_and_globs_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("dir/deep")).unwrap();
    std::fs::write(path("dir/b.fa"), ">b\nAC\n").unwrap();
    std::fs::write(path("dir/a.fa"), ">a\nAC\n>a\nACG\n").unwrap();
    std::fs::write(path("dir/notes.txt"), "nothing\n").unwrap();
    std::fs::write(path("dir/deep/c.fa"), ">c\nAC\n").unwrap();
    let names = |rows: &[Row]| -> Vec<(String, String, u64)> {
        rows.iter().map(|r| (r.source.clone(), r.record.clone(), r.record_index)).collect()
    };
    let own = |list: &[(&str, &str, u64)]| -> Vec<(String, String, u64)> {
        list.iter().map(|(s, r, i)| ((*s).to_owned(), (*r).to_owned(), *i)).collect()
    };
    // Sorted bytewise; the doubled id is told apart by its index.
    let flat = own(&[("dir/a.fa", "a", 0), ("dir/a.fa", "a", 1), ("dir/b.fa", "b", 2)]);
    assert_eq!(names(&embed(folder.path(), "dir", &[])), flat);
    assert_eq!(names(&embed(folder.path(), "dir/?.fa", &[])), flat);
    let deep = names(&embed(folder.path(), "dir", &["--recursive"]));
    assert_eq!(deep.len(), 4);
    assert!(deep.contains(&("dir/deep/c.fa".into(), "c".into(), 3)));
    let model = golden_model(SMALL);
    let ran = mamba_seq(folder.path(), &["embed", "dir", "--model", &model, "-o", "o.parquet"]);
    assert!(ran.stderr.contains("1 file skipped"), "{}", ran.stderr);
    let ran = mamba_seq(folder.path(), &["embed", "dir/a.fa", "dir/b.fa", "--model", &model]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("2 inputs need -o"), "{}", ran.stderr);
}

#[test]
fn letters_outside_the_model_are_counted_a_record() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">clean\nACGT\n>odd\nACGTNNRY-*acgu\n").unwrap();
    let model = golden_model(SMALL);
    let ran = mamba_seq(folder.path(), &["embed", "x.fa", "--model", &model]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("record 'odd': 6 of 14 letters are unknown"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("'clean'"), "{}", ran.stderr);
}

#[test]
fn pools_agree_with_the_tokens_they_pool() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">x\nACGTTGCANNGGCATTACGATTACACCGGT\n").unwrap();
    let float = |row: &Row| row.embedding.iter().map(|v| f32::from_bits(*v)).collect::<Vec<f32>>();
    let tokens: Vec<Vec<f32>> = embed(folder.path(), "x.fa", &["--pool", "none"]).iter().map(float).collect();
    assert_eq!(tokens.len(), 30);
    for (pool, window, stride) in
        [("mean", 7, 7), ("max", 9, 4), ("last", 6, 11), ("mean", 30, 1), ("mean", 4, 3)]
    {
        let (w, s) = (window.to_string(), stride.to_string());
        for row in embed(folder.path(), "x.fa", &["--pool", pool, "--window", &w, "--stride", &s]) {
            let span = &tokens[row.start as usize..row.end as usize];
            for (channel, found) in float(&row).into_iter().enumerate() {
                let column = span.iter().map(|t| t[channel]);
                let wanted = match pool {
                    "mean" => (column.map(f64::from).sum::<f64>() / span.len() as f64) as f32,
                    "max" => column.fold(f32::NEG_INFINITY, f32::max),
                    _ => span[span.len() - 1][channel],
                };
                assert_eq!(found, wanted, "{pool} {window} {stride} {row:?} channel {channel}");
            }
        }
    }
}

#[test]
fn an_arrow_stream_on_standard_output_has_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">x\nACGTTGCANNGGCATTACGATTACACCGGT\n").unwrap();
    let file = embed(folder.path(), "x.fa", &["--window", "4"]);
    let model = golden_model(SMALL);
    let ran = mamba_seq(folder.path(), &["embed", "x.fa", "-o", "-", "--model", &model, "--window", "4"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let stream = arrow_ipc::reader::StreamReader::try_new(ran.stdout.as_slice(), None).unwrap();
    let streamed: Vec<Row> = stream.flat_map(|batch| batch_rows(&batch.unwrap())).collect();
    assert_eq!(streamed, file);
    let lists = embed(folder.path(), "x.fa", &["--window", "4", "--list-type", "variable"]);
    assert_eq!(lists, file);
}

#[test]
fn progress_is_json_lines_with_the_promised_keys() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">x\nACGT\n").unwrap();
    let model = golden_model(SMALL);
    let ran = mamba_seq(folder.path(), &["embed", "x.fa", "--model", &model, "--progress", "json", "-q"]);
    assert_eq!(ran.code, 0);
    let lines: Vec<serde_json::Value> =
        ran.stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["resumed_from"], 0);
    let last = lines.last().unwrap();
    for key in ["event", "record", "bases_done", "bases_total", "rows", "rate", "eta_s"] {
        assert!(last.get(key).is_some(), "{key}: {last}");
    }
    assert_eq!(
        (&last["event"], &last["bases_done"], &last["bases_total"]),
        (&"done".into(), &4.into(), &4.into())
    );
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), format!(">x\n{}\n>y\nAC\n", "ACGT".repeat(600))).unwrap();
    let model = golden_model(SMALL);
    let ran = mamba_seq(folder.path(), &["embed", "x.fa", "--model", &model, "--dry-run"]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let value = |key: &str| {
        let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{key}: {text}"));
        line[key.len()..].trim().to_owned()
    };
    assert_eq!((value("records"), value("tokens"), value("rows")), ("2".into(), "2,402".into(), "4".into()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn yeast_has_the_windows_that_its_lengths_say() {
    let Some(yeast) = outside_data("genomes/phix_like_phages_x16.fa.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let found = embed(folder.path(), yeast.to_str().unwrap(), &["--window", "500", "--stride", "250"]);
    assert_eq!(found.iter().map(|r| r.record_index).max(), Some(15));
    let bases: u64 =
        (0..16).map(|i| found.iter().filter(|r| r.record_index == i).map(|r| r.end).max().unwrap()).sum();
    assert_eq!(bases, 86_177);
}
