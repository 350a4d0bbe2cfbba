use std::fs;

use mseq_core::{RowBlock, RowKey, Strand};

use super::*;
use crate::testing::{layouts, part, read_back};

/// `per` rows of each of these records.
fn rows(records: impl IntoIterator<Item = u64>, per: u64, dim: usize) -> RowBlock {
    let mut block = RowBlock::new(dim);
    for record in records {
        for i in 0..per {
            block.keys.push(RowKey {
                source: "genome.fa".into(),
                record: format!("chr{record}").into(),
                record_index: record,
                start: 10 * i,
                end: 10 * (i + 1),
                strand: if i % 2 == 0 { Strand::Forward } else { Strand::Reverse },
                region: None,
                rate: None,
            });
            block.values.extend((0..dim).map(|c| (record * per + i + c as u64) as f32 / 4.0));
        }
    }
    block
}

fn metadata(shard: &str) -> Vec<(String, String)> {
    let pairs = [
        ("version", "0.1.0"),
        ("command", "mamba-seq embed x.fa"),
        ("model", "tiny"),
        ("model_sha256", "ab"),
        ("window", "10"),
        ("device", "cpu"),
        ("shard", shard),
    ];
    pairs.map(|(k, v)| (format!("mamba_seq.{k}"), v.to_owned())).to_vec()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(
        &self,
        name: &str,
        layout: EmbedLayout,
        metadata: &[(String, String)],
        block: &RowBlock,
    ) -> PathBuf {
        let options =
            Options { row_group_bytes: 3000, batch_bytes: 700, page_bytes: 512, ..Options::default() };
        let path = self.path(name);
        let mut sink = Box::new(ParquetSink::create(&path, layout, metadata, options).unwrap());
        sink.write(block).unwrap();
        sink.finish().unwrap();
        path
    }

    /// What a run without shards writes.
    fn direct(&self, layout: EmbedLayout, block: &RowBlock) -> Vec<u8> {
        let path = self.path("direct");
        let options = Options::for_layout(&layout.into());
        let mut sink = Box::new(ParquetSink::create(&path, layout, &metadata("1/1"), options).unwrap());
        sink.write(block).unwrap();
        sink.finish().unwrap();
        fs::read(path).unwrap()
    }

    /// Merges to a file that must be that of a run without shards.
    fn merges_to(&self, paths: &[PathBuf], layout: EmbedLayout, block: &RowBlock) {
        let output = self.path("out");
        let shards = Shards::open(paths).unwrap();
        assert_eq!(shards.count(), paths.len());
        let report = shards.merge(&output, "mamba-seq embed x.fa").unwrap();
        assert_eq!(report.rows, block.len() as u64);
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&output).unwrap()).unwrap();
        let batches: Vec<_> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        assert!(read_back(&batches, block.dim) == *block);
        assert!(fs::read(&output).unwrap() == self.direct(layout, block));
    }

    fn refuses(&self, paths: &[&PathBuf], words: &[&str]) {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
        let result = Shards::open(&paths).and_then(|shards| shards.merge(&self.path("out"), "merge"));
        let message = result.unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "'{word}' is not in: {message}");
        }
        assert!(!message.contains('\n') && !self.path("out").exists());
        let left = fs::read_dir(self.0.path()).unwrap();
        assert!(left.into_iter().all(|e| !e.unwrap().file_name().to_string_lossy().ends_with("partial")));
    }
}

#[test]
fn the_shards_of_a_job_are_the_job() {
    let folder = Folder::new();
    for layout in layouts(5) {
        // The second has no record, and the order of the arguments does not matter.
        let whole = rows(0..40, 7, 5);
        let shard =
            |name, i, records: Vec<u64>| folder.write(name, layout, &metadata(i), &rows(records, 7, 5));
        let paths = [
            shard("c", "3/3", (0..40).filter(|r| r % 3 != 1).collect()),
            shard("a", "1/3", (0..40).filter(|r| r % 3 == 1).collect()),
            shard("b", "2/3", vec![]),
        ];
        folder.merges_to(&paths, layout, &whole);
    }
}

#[test]
fn one_shard_or_no_row() {
    let folder = Folder::new();
    for layout in layouts(3) {
        let one = folder.write("one", layout, &metadata("1/1"), &rows(0..9, 3, 3));
        folder.merges_to(&[one], layout, &rows(0..9, 3, 3));
        let none = ["1/2", "2/2"].map(|i| folder.write(&i[..1], layout, &metadata(i), &RowBlock::new(3)));
        folder.merges_to(&none, layout, &RowBlock::new(3));
    }
}

#[test]
fn more_shards_than_open_files_in_every_order() {
    let folder = Folder::new();
    let layout = layouts(2).next().unwrap();
    let of = 3 * OPEN as u64;
    let whole = rows(0..of * 5, 11, 2);
    for blocked in [false, true] {
        let paths: Vec<PathBuf> = (0..of)
            .map(|s| {
                let mine = |r: &u64| if blocked { r / 5 == s } else { r % of == s };
                let block = rows((0..of * 5).filter(mine), 11, 2);
                folder.write(&format!("s{s}"), layout, &metadata(&format!("{}/{of}", s + 1)), &block)
            })
            .collect();
        folder.merges_to(&paths, layout, &whole);
    }
}

#[test]
fn batches_end_anywhere() {
    let folder = Folder::new();
    let layout = layouts(3).next().unwrap();
    let block = rows(0..30, 4, 3);
    let paths = [0, 1].map(|s| {
        let block = rows((0..30).filter(|r| r / 4 % 2 == s), 4, 3);
        folder.write(&s.to_string(), layout, &metadata(&format!("{}/2", s + 1)), &block)
    });
    let Shards { mut shards, .. } = Shards::open(&paths).unwrap();
    for batch_rows in [1, 2, 3, 5, 1000] {
        for shard in &mut shards {
            (shard.read, shard.at, shard.batch) = (0, 0, None);
        }
        let output = folder.path("out");
        let mut sink = Box::new(ParquetSink::create(&output, layout, &[], Options::default()).unwrap());
        let mut readers = Readers { open: Vec::new(), batch_rows };
        let mut from = 0;
        while from < 30 {
            let (s, before) = ((from / 4 % 2) as usize, (from / 4 + 1) * 4);
            assert!(shards[s].load(s, &mut readers).unwrap());
            // Without an open reader it is found again by its row.
            readers.close(s);
            shards[s].copy((from, 0), Some((before, 0)), s, &mut readers, &mut sink, &layout.into()).unwrap();
            from = before;
        }
        sink.finish().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&output).unwrap()).unwrap();
        let batches: Vec<_> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        assert!(read_back(&batches, 3) == part(&block, 0, 120), "{batch_rows}");
    }
}

#[test]
fn kept_columns_go_with_their_records() {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    let folder = Folder::new();
    let (per, records) = (29, 0..60u64);
    // Many rows a record and texts that are long now and then: batches end inside records.
    let column = |of: &[u64]| -> RecordBatch {
        let text = |r: &u64| (r % 4 != 1).then(|| format!("r{r}").repeat(1 + (r % 9 * 40) as usize));
        let columns: [(&str, ArrayRef); 2] = [
            ("text", Arc::new(of.iter().map(text).collect::<StringArray>())),
            ("n", Arc::new(of.iter().map(|r| (r % 3 > 0).then_some(*r as i64)).collect::<Int64Array>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
    };
    for embed in layouts(2) {
        let layout = RowLayout::new(embed, column(&[]).schema().fields()).unwrap();
        let write = |name: &str, shard: &str, of: Vec<u64>| {
            let path = folder.path(name);
            let options = Options { row_group_bytes: 30_000, ..Options::for_layout(&embed.into()) };
            let mut sink = ParquetSink::create(&path, layout.clone(), &metadata(shard), options).unwrap();
            for &record in &of {
                sink.keep(KeptRows::new(record, column(&[record]))).unwrap();
                sink.write(&rows([record], per, 2)).unwrap();
            }
            Box::new(sink).finish().unwrap();
            path
        };
        // The last has no record.
        let paths = [0, 1, 2].map(|s| {
            let mine = records.clone().filter(|r| r * r % 3 == s).collect();
            write(&s.to_string(), &format!("{}/3", s + 1), mine)
        });
        let shards = Shards::open(&paths).unwrap();
        assert!(shards.kept_bytes > 8, "{}", shards.kept_bytes);
        shards.merge(&folder.path("out"), "").unwrap();
        let file = File::open(folder.path("out")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
        assert!(read_back(&batches, 2) == rows(records.clone(), per, 2));
        for batch in batches {
            let records = batch.column_by_name("record_index").unwrap().as_primitive::<UInt64Type>();
            let wanted = column(records.values());
            assert!(batch.columns()[7..].iter().zip(wanted.columns()).all(|(a, b)| **a == **b));
        }
    }
    // A column that this version would not have written.
    let layout = RowLayout::new(layouts(2).next().unwrap(), column(&[]).schema().fields()).unwrap();
    let fields = layout.schema(&[]).unwrap().fields().iter().cloned().collect::<Vec<_>>();
    assert!(RowLayout::of_file(layout.body().clone(), &fields[7..]).is_some());
    assert!(RowLayout::of_file(layout.body().clone(), &fields[6..]).is_none());
}

#[test]
fn what_is_not_one_job_is_refused() {
    let folder = Folder::new();
    let layout = layouts(2).next().unwrap();
    let write = |name: &str, shard: &str, change: &[(&str, &str)], records: &[u64]| {
        let mut metadata = metadata(shard);
        for (key, value) in change {
            let key = format!("mamba_seq.{key}");
            metadata.retain(|(known, _)| *known != key);
            if !value.is_empty() {
                metadata.push((key, (*value).to_owned()));
            }
        }
        folder.write(name, layout, &metadata, &rows(records.iter().copied(), 2, 2))
    };
    let a = write("a", "1/3", &[], &[0, 1]);
    let b = write("b", "2/3", &[], &[2]);
    let c = write("c", "3/3", &[], &[3]);
    folder.refuses(&[&a], &["shards 2/3, 3/3 are missing"]);
    folder.refuses(&[&a, &c], &["shard 2/3 is missing"]);
    let again = write("again", "2/3", &[], &[2]);
    folder.refuses(&[&a, &b, &c, &again], &["b' and", "again' are both shard 2/3"]);
    let other = write("other", "3/4", &[], &[3]);
    folder.refuses(&[&a, &b, &other], &["a' is shard 1/3", "other' is shard 3/4"]);
    let many = write("many", "7/1000", &[], &[3]);
    folder.refuses(&[&many], &["1/1000, 2/1000", "10/1000, 11/1000 and 989 more are missing"]);

    let other = write("other", "3/3", &[("window", "20")], &[3]);
    folder.refuses(&[&a, &b, &other], &["mamba_seq.window is '10' in", "a' and '20' in", "other'"]);
    let other = write("other", "3/3", &[("input", "y.fa")], &[3]);
    folder.refuses(&[&a, &b, &other], &["mamba_seq.input is not there in", "and 'y.fa' in"]);
    let other = write("other", "3/3", &[("version", "")], &[3]);
    folder.refuses(&[&a, &b, &other], &["other' was not written by mamba-seq"]);
    for shard in ["0/3", "4/3", "x", "1", "-1/3", "1/2/3"] {
        let other = write("other", shard, &[], &[3]);
        folder.refuses(&[&a, &b, &other], &[&format!("mamba_seq.shard is '{shard}'")]);
    }
    for layout in layouts(2).skip(1).chain(layouts(3)) {
        let other = folder.write("other", layout, &metadata("3/3"), &rows([3], 2, layout.dim));
        folder.refuses(&[&a, &b, &other], &["have different columns: embedding ", " against embedding "]);
    }

    let other = write("other", "3/3", &[], &[1, 4]);
    folder.refuses(&[&a, &b, &other], &["record 1 (record_index) is in", "a'", "other'"]);
    let other = write("other", "3/3", &[], &[4, 3]);
    folder.refuses(&[&a, &b, &other], &["other': record 3 (record_index), start 0 comes after record 4"]);

    let other = folder.path("other");
    folder.refuses(&[&a, &folder.path("gone")], &["cannot open", "gone'"]);
    folder.refuses(&[&a, &folder.0.path().to_owned()], &["cannot open"]);
    fs::write(&other, ">x\nACGT\n").unwrap();
    folder.refuses(&[&a, &other], &["other' is no complete Parquet file"]);
    let bytes = fs::read(&a).unwrap();
    fs::write(&other, &bytes[..bytes.len() - 5]).unwrap();
    folder.refuses(&[&other], &["other' is no complete Parquet file"]);
    folder.refuses(&[], &["no shard"]);
    // And this works.
    assert_eq!(Shards::open(&[c, a, b]).unwrap().merge(&folder.path("out"), "").unwrap().rows, 8);
}

#[test]
fn variable_lists_of_two_widths_are_refused() {
    let folder = Folder::new();
    let paths = [2, 3].map(|dim| {
        let layout = layouts(dim).nth(1).unwrap();
        let shard = format!("{}/2", dim - 1);
        folder.write(&dim.to_string(), layout, &metadata(&shard), &rows([dim as u64], 2, dim))
    });
    folder.refuses(&[&paths[0], &paths[1]], &["3': its rows are not all 2 values wide"]);
}

#[test]
fn metadata_of_the_merged_file() {
    let folder = Folder::new();
    let layout = layouts(2).next().unwrap();
    let paths = ["1/3", "2/3", "3/3"].map(|shard| {
        let mut metadata = metadata(shard);
        metadata[5].1 = if shard == "2/3" { "cuda:0" } else { "cpu" }.to_owned();
        folder.write(&shard[..1], layout, &metadata, &RowBlock::new(2))
    });
    let shards = Shards::open(&paths).unwrap();
    shards.merge(&folder.path("out"), "mamba-seq merge 1 2 3").unwrap();
    let footer = Footer::read(&folder.path("out")).unwrap();
    assert_eq!(footer.get("device"), Some("cpu, cuda:0"));
    assert_eq!(footer.get("model"), Some("tiny"));
    assert_eq!(footer.get("shard"), Some("1/1"));
    assert_eq!(footer.get("command"), Some("mamba-seq merge 1 2 3"));
    assert_eq!(footer.metadata.len(), 7);
}
