//! `--keep`: columns of a table beside the rows of its sequences.

use std::io::Write;
use std::path::{Path, PathBuf};

use arrow_ipc::reader::StreamReader;

use crate::common::kept::{KEEP, batches, check, table, texts, write};
use crate::common::{Ran, golden_model, mamba_seq, metadata, rows};

const SMALL: &str = "d29-n4-k2-e1";

struct Folder {
    folder: tempfile::TempDir,
    model: String,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), model: golden_model(SMALL) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn embed(&self, input: &str, options: &[&str]) -> Ran {
        let args = ["embed", input, "--model", &self.model, "-q"];
        mamba_seq(self.folder.path(), &[&args[..], options].concat())
    }

    /// Runs to `out.parquet`, which must go well.
    fn output(&self, input: &str, options: &[&str]) -> PathBuf {
        let ran = self.embed(input, &[&["-o", "out.parquet"], options].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{options:?}");
        self.path("out.parquet")
    }

    /// Fails with one line that has all `words`, and leaves no output.
    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let ran = self.embed(args[0], &[&["-o", "no.parquet"], &args[1..]].concat());
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.lines().next().unwrap().contains(word), "'{word}': {}", ran.stderr);
        }
        assert!(!self.path("no.parquet").exists() && !self.path("no.parquet.partial").exists());
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text).unwrap();
    gz.finish().unwrap()
}

#[test]
fn csv_and_tsv_keep_their_text() {
    let folder = Folder::new();
    let csv = "id,sequence,label,the note\na,ACGTACGTAC,01,\"x, \"\"y\"\"\nz\"\nb,GGGCC,,é\n";
    folder.write("x.csv", csv);
    folder.write("x.csv.gz", gzip(csv.as_bytes()));
    folder.write(
        "x.tsv",
        "id\tsequence\tlabel\tthe note\na\tACGTACGTAC\t01\t\"x, \"\"y\"\"\nz\"\nb\tGGGCC\t\té\n",
    );
    let (a, b) = (["01", "x, \"y\"\nz"], ["", "é"]);
    for input in ["x.csv", "x.csv.gz", "x.tsv"] {
        assert_eq!(texts(&folder.output(input, &["--keep", "label,the note"])), [a, b], "{input}");
        // Several rows of a record repeat its values; columns come in the order asked for.
        let output = folder.output(input, &["--keep", "the note,id,label", "--window", "4"]);
        let (a, b) = (["x, \"y\"\nz", "a", "01"], ["é", "b", ""]);
        assert_eq!(texts(&output), [a, a, a, b, b], "{input}");
        assert_eq!(metadata(&output)["keep"], "the note,id,label");
        // The numbers are those of a run that keeps nothing, and it says nothing of it.
        let numbers = rows(&output);
        let plain = folder.output(input, &["--window", "4"]);
        assert_eq!(rows(&plain), numbers);
        assert!(!metadata(&plain).contains_key("keep"));
    }
    // The sequence and the id can be kept too.
    let output = folder.output("x.csv", &["--keep", "sequence,id", "--id-column", "id"]);
    assert_eq!(texts(&output), [["ACGTACGTAC", "a"], ["GGGCC", "b"]]);
}

#[test]
fn parquet_keeps_types_and_nulls() {
    let folder = Folder::new();
    let table = table(250, 60);
    write(&folder.path("t.parquet"), &table);
    folder.write("t.parquet.gz", gzip(&std::fs::read(folder.path("t.parquet")).unwrap()));
    for input in ["t.parquet", "t.parquet.gz"] {
        let output = folder.output(input, &["--keep", KEEP]);
        assert_eq!(check(&batches(&output), &table, KEEP), 250);
    }
    for options in [&["--window", "9", "--stride", "4"][..], &["--pool", "none", "--chunk", "33"]] {
        let options = [options, &["--keep", KEEP, "--list-type", "variable"]].concat();
        let found = check(&batches(&folder.output("t.parquet", &options)), &table, KEEP);
        assert!(found > 1000, "{found}");
        // A stream has the same.
        let ran = folder.embed("t.parquet", &[&options[..], &["-o", "-"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let reader = StreamReader::try_new(ran.stdout.as_slice(), None).unwrap();
        assert_eq!(reader.schema().metadata()["mamba_seq.keep"], KEEP);
        let stream: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
        assert_eq!(check(&stream, &table, KEEP), found);
    }
    // A device is written to without a log.
    let ran = folder.embed("t.parquet", &["--keep", KEEP, "-o", "/dev/null"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    // What was written is a table again.
    std::fs::rename(folder.path("out.parquet"), folder.path("again.parquet")).unwrap();
    let options = ["--keep", "input.label,embedding", "--sequence-column", "record"];
    folder.refused(&[&["again.parquet"], &options[..]].concat(), 1, &["byte 0x30 '0' is not a nucleotide"]);
}

#[test]
fn several_tables_go_together() {
    let folder = Folder::new();
    let whole = table(90, 50);
    for (name, from, n) in [("a.parquet", 0, 40), ("b.parquet", 40, 50)] {
        write(&folder.path(name), &whole.slice(from, n));
    }
    let output = folder.output("a.parquet", &["b.parquet", "--keep", KEEP, "--window", "20"]);
    assert!(check(&batches(&output), &whole, KEEP) > 90);
    folder.write("a.csv", "sequence,label\nACGT,1\n");
    folder.write("b.tsv", "label\tsequence\n2\tACGT\n");
    assert_eq!(texts(&folder.output("a.csv", &["b.tsv", "--keep", "label"])), [["1"], ["2"]]);
    let words = ["a.csv: kept column 'label' is Utf8, but Int64 in the first table"];
    folder.refused(&["a.parquet", "a.csv", "--keep", "label"], 1, &words);
    let words = ["b.tsv: no column 'gene'; the columns are: label, sequence"];
    folder.refused(&["a.parquet", "b.tsv", "--keep", "gene"], 1, &words);
}

#[test]
fn shards_are_joined_with_their_columns() {
    let folder = Folder::new();
    let table = table(300, 60);
    write(&folder.path("t.parquet"), &table);
    for options in [&["--window", "9"][..], &["--list-type", "variable"]] {
        let whole = folder.output("t.parquet", &[&["--keep", KEEP][..], options].concat());
        let whole = (batches(&whole), rows(&whole));
        for n in [1, 3, 7] {
            let mut args = vec!["merge".to_owned()];
            for i in 1..=n {
                let (shard, chunk) = (format!("{i}/{n}"), (50 * i).to_string());
                let shard = ["--keep", KEEP, "--shard", &shard, "--chunk", &chunk];
                let ran = folder.embed("t.parquet", &[&shard[..], options].concat());
                assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
                args.push(format!("t.embeddings.{i}-of-{n}.parquet"));
            }
            args.extend(["-o", "out.parquet", "-q"].map(str::to_owned));
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let ran = mamba_seq(folder.folder.path(), &args);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
            let output = folder.path("out.parquet");
            assert_eq!(check(&batches(&output), &table, KEEP), whole.1.len());
            assert!(rows(&output) == whole.1);
            assert_eq!(batches(&output)[0].schema().fields(), whole.0[0].schema().fields());
            assert_eq!(metadata(&output)["keep"], KEEP);
        }
    }
    // Shards that keep other columns are of another job.
    let shard = |i: &str, keep: &str| {
        let ran = folder.embed("t.parquet", &["--keep", keep, "--shard", i, "-o", &i.replace('/', "of")]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    shard("1/2", "label");
    shard("2/2", "label,gene");
    let ran = mamba_seq(folder.folder.path(), &["merge", "1of2", "2of2", "-o", "no.parquet"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            1,
            "error: mamba_seq.keep is 'label' in '1of2' and 'label,gene' in '2of2'; merge the shards of one job\n"
        )
    );
}

#[test]
fn bad_records_are_left_out_with_their_columns() {
    let folder = Folder::new();
    let bad = ["AC", "AC!T", "", "GGT", "1", "A"];
    let text: String = bad.iter().enumerate().map(|(i, s)| format!("{s},l{i}\n")).collect();
    folder.write("x.csv", format!("sequence,label\n{text}"));
    let output = folder.output("x.csv", &["--keep", "label", "--on-bad-record", "skip"]);
    assert_eq!(texts(&output), [["l0"], ["l3"], ["l5"]]);
    assert_eq!(rows(&output).iter().map(|r| r.record_index).collect::<Vec<_>>(), [0, 3, 5]);
    folder.refused(&["x.csv", "--keep", "label"], 1, &["row 1 (record '1'), base 3"]);
}

#[test]
fn what_cannot_be_kept_is_one_line() {
    let folder = Folder::new();
    folder.write("x.csv", "sequence,label,label,a b\nACGT,1,2,3\n");
    folder.write("x.fa", ">a\nACGT\n");
    let refused = |args: &[&str], code, words: &[&str]| folder.refused(args, code, words);
    refused(&["x.fa", "--keep", "label"], 2, &["--keep", "for tables"]);
    refused(&["x.csv", "--keep", "a b,a b"], 2, &["column 'a b' is named twice; name it once"]);
    refused(&["x.csv", "--keep", "a b,"], 2, &["a name is empty"]);
    refused(
        &["x.csv", "--keep", "nope"],
        1,
        &["x.csv: no column 'nope'; the columns are: sequence, label, label, a b; choose with --keep"],
    );
    refused(&["x.csv", "--keep", "label"], 1, &["x.csv: two columns are called 'label'; rename one"]);
    // Before the input is read for anything else.
    refused(&["x.csv", "--keep", "nope", "--dry-run"], 1, &["no column 'nope'"]);
    refused(&["x.csv", "--keep", "nope", "--shard", "1/2"], 1, &["no column 'nope'"]);
    let ran = folder.embed("x.csv", &["--keep", "a b", "--dry-run"]);
    assert!(ran.code == 0 && String::from_utf8(ran.stdout).unwrap().contains(", and the kept columns\n"));
    folder.write("y.csv", b"sequence,label\nACGT,\xff\n");
    refused(&["y.csv", "--keep", "label"], 1, &["y.csv: row 0: column 'label' is not UTF-8 text"]);
}

#[cfg(unix)]
mod resumed {
    use std::process::Command;
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};

    use super::*;
    use crate::common::kill_at_checkpoint;

    /// Runs the job and kills it after `times` checkpoints, each of a run of its own.
    fn killed(folder: &Folder, options: &[&str], times: usize) {
        for _ in 0..times {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mamba-seq"));
            command.args(["embed", "t.parquet", "-o", "out.parquet", "--resume", "--model", &folder.model]);
            command.args(options).current_dir(folder.folder.path());
            kill_at_checkpoint(&mut command, Path::new(&folder.path("out.parquet.partial.checkpoint")));
        }
    }

    #[test]
    fn a_killed_job_ends_with_the_same_columns() {
        let folder = Folder::new();
        let table = table(8000, 600);
        write(&folder.path("t.parquet"), &table);
        let options = ["--keep", KEEP, "--window", "90", "--threads", "1"];
        let whole = rows(&folder.output("t.parquet", &options));
        std::fs::remove_file(folder.path("out.parquet")).unwrap();
        killed(&folder, &options, 2);
        // Any chunk and any number of threads goes on with it; other columns are another job.
        let refused = |options: &[&str], words: &str| {
            let ran = folder.embed("t.parquet", &[&["-o", "out.parquet", "--resume"], options].concat());
            assert_eq!(ran.code, 1, "{}", ran.stderr);
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
            assert!(folder.path("out.parquet.partial.checkpoint").exists());
        };
        let window = ["--window", "90"];
        refused(&window, "keep was 'label Int64, score Float64");
        refused(&[&window[..], &["--keep", "label"]].concat(), "and is 'label Int64'; give the same");
        // The same sequences, but values that rows in the log have are no longer those of the table.
        let bytes = std::fs::read(folder.path("t.parquet")).unwrap();
        let mut columns: Vec<_> = table.columns().to_vec();
        columns[1] = Arc::new(Int64Array::from_iter_values(0..8000));
        let other = RecordBatch::try_new(table.schema(), columns).unwrap();
        write(&folder.path("t.parquet"), &other);
        refused(&options, "the kept columns are not those that the unfinished run read");
        std::fs::write(folder.path("t.parquet"), bytes).unwrap();
        let changed = ["--keep", KEEP, "--window", "90", "--threads", "2", "--chunk", "777", "--resume"];
        let output = folder.output("t.parquet", &changed);
        assert!(rows(&output) == whole);
        check(&batches(&output), &table, KEEP);
        assert!(!folder.path("out.parquet.partial").exists());
    }

    #[test]
    fn a_killed_shard_too() {
        let folder = Folder::new();
        let table = table(12_000, 600);
        write(&folder.path("t.parquet"), &table);
        let options = ["--keep", KEEP, "--threads", "1", "--shard", "2/2"];
        killed(&folder, &options, 1);
        let output = folder.output("t.parquet", &[&options[..], &["--resume"]].concat());
        assert!((5000..7000).contains(&check(&batches(&output), &table, KEEP)));
    }
}
