//! Shards joined again are the job; anything less is refused with the file's name.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::common::{Ran, golden_model, mamba_seq, metadata, rows};

const RECORDS: usize = 7;

/// The file of a whole job, and the batches and metadata that it is made of.
struct Job {
    folder: tempfile::TempDir,
    batch: RecordBatch,
    pairs: Vec<KeyValue>,
}

impl Job {
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Records of 1 to 7 rows.
        let text: String =
            (1..=RECORDS).map(|n| format!(">r{n}\n{}\n", "ACGTTGCAAG".repeat(100 * n))).collect();
        std::fs::write(folder.path().join("x.fa"), text).unwrap();
        let model = golden_model("d29-n4-k2-e1");
        let args = ["embed", "x.fa", "-o", "whole.parquet", "-q", "--model", &model];
        let ran = mamba_seq(folder.path(), &[&args[..], options].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let file = File::open(folder.path().join("whole.parquet")).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let pairs = builder.metadata().file_metadata().key_value_metadata().unwrap();
        let pairs = pairs.iter().filter(|p| p.key.starts_with("mamba_seq.") && p.key != "mamba_seq.shard");
        let pairs = pairs.cloned().collect();
        let batch = builder.with_batch_size(1000).build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.num_rows(), RECORDS * (RECORDS + 1) / 2);
        Self { folder, batch, pairs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the rows of these records (from 0) as shard `shard` of the job.
    fn shard(&self, name: &str, shard: &str, records: &[usize]) {
        let mut pairs = self.pairs.clone();
        pairs.push(KeyValue::new("mamba_seq.shard".to_owned(), shard.to_owned()));
        self.file(name, pairs, records);
    }

    fn file(&self, name: &str, pairs: Vec<KeyValue>, records: &[usize]) {
        let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, self.batch.schema(), Some(properties)).unwrap();
        for record in records {
            writer.write(&self.batch.slice(record * (record + 1) / 2, record + 1)).unwrap();
        }
        writer.close().unwrap();
    }

    fn merge(&self, args: &[&str]) -> Ran {
        mamba_seq(self.folder.path(), &[&["merge"], args].concat())
    }

    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let ran = self.merge(&[args, &["-o", "out.parquet"]].concat());
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(
            ran.stderr.starts_with("error: ") && ran.stderr.trim_end().lines().count() == 1,
            "{}",
            ran.stderr
        );
        for word in words {
            assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
        }
        assert!(!self.path("out.parquet").exists());
        let names = std::fs::read_dir(self.folder.path()).unwrap();
        assert!(names.into_iter().all(|e| !e.unwrap().path().to_string_lossy().ends_with(".partial")));
    }
}

#[test]
fn shards_joined_are_the_whole() {
    for options in [&[][..], &["--list-type", "variable"]] {
        let job = Job::new(options);
        job.shard("a.parquet", "1/3", &[0, 2, 5]);
        job.shard("b c.parquet", "2/3", &[]);
        job.shard("d.parquet", "3/3", &[1, 3, 4, 6]);
        let ran = job.merge(&["d.parquet", "a.parquet", "b c.parquet", "-o", "out.parquet"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, "out.parquet: 28 rows from 3 shards\n"));
        assert!(ran.stdout.is_empty());
        assert!(rows(&job.path("out.parquet")) == rows(&job.path("whole.parquet")));
        let (mut merged, mut whole) =
            (metadata(&job.path("out.parquet")), metadata(&job.path("whole.parquet")));
        assert_eq!(merged.remove("shard").unwrap(), "1/1");
        assert_eq!(
            merged.remove("command").unwrap(),
            "mamba-seq merge d.parquet a.parquet 'b c.parquet' -o out.parquet"
        );
        whole.remove("shard");
        whole.remove("command");
        assert_eq!(merged, whole);
    }
}

#[test]
fn shards_of_the_program() {
    let job = Job::new(&[]);
    let model = golden_model("d29-n4-k2-e1");
    for n in [2, 5, 9] {
        let names: Vec<String> = (1..=n).map(|i| format!("x.embeddings.{i}-of-{n}.parquet")).collect();
        for i in 1..=n {
            // The default output name holds the number; of nine shards two get no record.
            let shard = format!("{i}/{n}");
            let ran = mamba_seq(
                job.folder.path(),
                &[
                    "embed",
                    "x.fa",
                    "-q",
                    "--model",
                    &model,
                    "--shard",
                    &shard,
                    "--chunk",
                    &(100 * i).to_string(),
                ],
            );
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        }
        let mut args: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        args.extend(["-o", "out.parquet"]);
        let ran = job.merge(&args);
        assert_eq!((ran.code, ran.stderr), (0, format!("out.parquet: 28 rows from {n} shards\n")));
        assert!(rows(&job.path("out.parquet")) == rows(&job.path("whole.parquet")));
        assert_eq!(metadata(&job.path("out.parquet"))["chunk"].split(", ").count(), n);
    }
}

#[test]
fn a_whole_job_is_one_shard_and_quiet_is_quiet() {
    let job = Job::new(&[]);
    let ran = job.merge(&["-q", "whole.parquet", "-o", "out.parquet"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(rows(&job.path("out.parquet")) == rows(&job.path("whole.parquet")));
    // An older output is replaced.
    let ran = job.merge(&["out.parquet", "-o", "whole.parquet"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "whole.parquet: 28 rows from 1 shard\n"));
}

#[test]
fn shards_that_are_missing_doubled_or_foreign() {
    let job = Job::new(&[]);
    job.shard("a", "1/3", &[0, 1]);
    job.shard("b", "2/3", &[2]);
    job.shard("c", "3/3", &[3, 4, 5, 6]);
    job.shard("again", "2/3", &[2]);
    job.shard("foreign", "2/4", &[2]);
    job.shard("overlap", "2/3", &[1]);
    job.shard("unsorted", "2/3", &[2, 0]);
    job.refused(&["b"], 1, &["shards 1/3, 3/3 are missing"]);
    job.refused(&["a", "c"], 1, &["shard 2/3 is missing"]);
    job.refused(&["a", "b", "again", "c"], 1, &["'b' and 'again' are both shard 2/3"]);
    job.refused(&["a", "foreign", "c"], 1, &["'a' is shard 1/3 and 'foreign' is shard 2/4"]);
    job.refused(&["a", "overlap", "c"], 1, &["record 1 (record_index) is in 'a' and in 'overlap'"]);
    job.shard("a1", "1/3", &[1]);
    job.refused(
        &["a1", "unsorted", "c"],
        1,
        &["'unsorted': record 0 (record_index), start 0 comes after record 2, start 2000"],
    );
    for key in ["version", "model_sha256", "window", "pool", "layer", "context"] {
        let mut pairs = job.pairs.clone();
        for pair in &mut pairs {
            if pair.key.strip_prefix("mamba_seq.") == Some(key) {
                pair.value = Some("other".to_owned());
            }
        }
        pairs.push(KeyValue::new("mamba_seq.shard".to_owned(), "2/3".to_owned()));
        job.file("other", pairs, &[2]);
        job.refused(
            &["a", "other", "c"],
            1,
            &[&format!("mamba_seq.{key} is '"), "in 'a' and 'other' in 'other'"],
        );
    }
    let half = Job::new(&["--embedding-dtype", "f16"]);
    half.shard("half", "2/3", &[2]);
    std::fs::copy(half.path("half"), job.path("half")).unwrap();
    job.refused(&["a", "half", "c"], 1, &["'a' and 'half' have different columns", "Float16"]);
    // The right ones still go together.
    assert_eq!(job.merge(&["c", "b", "a", "-o", "out.parquet"]).code, 0);
}

#[test]
fn files_and_folders() {
    let job = Job::new(&[]);
    let whole = std::fs::read(job.path("whole.parquet")).unwrap();
    job.refused(&["gone.parquet"], 1, &["cannot open 'gone.parquet': No such file"]);
    job.refused(&["whole.parquet", "gone.parquet"], 1, &["cannot open 'gone.parquet'"]);
    job.refused(&["."], 1, &["cannot open '.': is a directory"]);
    job.refused(&["x.fa"], 1, &["'x.fa' is no complete Parquet file"]);
    std::fs::write(job.path("cut"), &whole[..whole.len() / 2]).unwrap();
    job.refused(&["cut"], 1, &["'cut' is no complete Parquet file"]);
    job.file("bare", vec![], &[0]);
    job.refused(&["bare"], 1, &["'bare' was not written by mamba-seq"]);
    job.refused(
        &["whole.parquet", "./whole.parquet"],
        2,
        &["whole.parquet and ./whole.parquet are the same file"],
    );
    // Damage that the footer does not tell.
    let mut damaged = whole.clone();
    let (end, footer) = (whole.len() - 8, whole[whole.len() - 8..][..4].try_into().unwrap());
    damaged[4..end - u32::from_le_bytes(footer) as usize].fill(0x55);
    std::fs::write(job.path("damaged"), damaged).unwrap();
    job.refused(&["damaged"], 1, &["'damaged' cannot be read: "]);

    let refused = |args: &[&str], code: i32, word: &str| {
        let ran = job.merge(args);
        assert!(ran.code == code && ran.stderr.contains(word), "{args:?} {}: {}", ran.code, ran.stderr);
    };
    refused(
        &["whole.parquet", "-o", "./whole.parquet"],
        2,
        "the output ./whole.parquet is the shard whole.parquet",
    );
    refused(&["whole.parquet", "-o", "no/such/out"], 1, "output folder 'no/such' does not exist");
    refused(&["whole.parquet", "-o", "."], 1, "is a folder");
    refused(&["whole.parquet", "-o", "-"], 2, "a file and no stream");
    refused(&["whole.parquet"], 2, "--output");
    refused(&["-o", "out.parquet"], 2, "<SHARD>");
    assert!(std::fs::read(job.path("whole.parquet")).unwrap() == whole);
    assert!(!Path::new(&job.path("out.parquet")).exists());
}
