//! Tables with a sequence column.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use crate::common::{Row, golden_model, mamba_seq, outside_data, rows};

const SMALL: &str = "d29-n4-k2-e1";

#[test]
fn a_table_gives_the_rows_of_the_same_fasta() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("x.csv"), "name,sequence,label\na,ACGTNACGT,1\nb,GGGCC,0\nc,acgu,1\n").unwrap();
    std::fs::write(path("x.tsv"), "name\tseq\tlabel\na\tACGTNACGT\t1\nb\tGGGCC\t0\nc\tacgu\t1\n").unwrap();
    std::fs::write(path("x.fa"), ">a\nACGTNACGT\n>b\nGGGCC\n>c\nacgu\n").unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&std::fs::read(path("x.csv")).unwrap()).unwrap();
    std::fs::write(path("x.csv.gz"), gz.finish().unwrap()).unwrap();
    let model = golden_model(SMALL);
    let embed = |input: &str, options: &[&str]| -> Vec<Row> {
        let mut args = vec!["embed", input, "-o", "o.parquet", "--model", &model, "-q"];
        args.extend(options);
        let ran = mamba_seq(folder.path(), &args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        rows(&path("o.parquet")).into_iter().map(|r| Row { source: String::new(), ..r }).collect()
    };
    let fasta = embed("x.fa", &["--window", "record"]);
    for table in ["x.csv", "x.tsv", "x.csv.gz"] {
        let found = embed(table, &["--id-column", "name"]);
        assert_eq!(found, fasta, "{table}");
        let ids: Vec<String> = embed(table, &[]).into_iter().map(|r| r.record).collect();
        assert_eq!(ids, ["0", "1", "2"]);
    }
    assert_eq!(embed("x.csv", &["--window", "4"]).len(), 3 + 2 + 1);
    // An output of one run is a table too, and needs no other reader.
    std::fs::write(path("y.csv"), "dna\nACGT\n").unwrap();
    let refused = |args: &[&str], code: i32, words: &str| {
        let ran = mamba_seq(folder.path(), args);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    };
    refused(&["embed", "y.csv", "-o", "p"], 1, "dna");
    refused(&["embed", "x.csv", "-o", "p", "--sequence-column", "name2"], 1, "name2");
    refused(&["embed", "x.csv", "x.fa", "-o", "p"], 2, "tables and sequence files");
    refused(&["embed", "x.fa", "-o", "p", "--sequence-column", "seq"], 2, "for tables");
    std::fs::write(path("z.csv"), "sequence\nACGT\nHELLO\n").unwrap();
    refused(&["embed", "z.csv", "-o", "p", "--model", &model], 1, "is not a nucleotide code");
    std::fs::write(path("n.csv"), "sequence,x\nACGT,1\n,2\n").unwrap();
    refused(&["embed", "n.csv", "-o", "p", "--model", &model], 1, "row 1");
}

/// Each bad cell is named by its row, in text and in Parquet.
#[test]
fn bad_tables_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = golden_model(SMALL);
    let refused = |args: &[&str], words: &[&str]| {
        let args = [&["embed"], args, &["-o", "o.parquet", "--model", &model]].concat();
        let ran = mamba_seq(folder.path(), &args);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let line = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert!(!path("o.parquet").exists() && !path("o.parquet.partial").exists(), "{args:?}");
    };
    let parquet = |name: &str, column: &str, cells: Vec<Option<&str>>| {
        let ids: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..cells.len()).map(|i| format!("n{i}"))));
        let cells: ArrayRef = Arc::new(StringArray::from(cells));
        let columns = [("name", ids, false), (column, cells, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let file = std::fs::File::create(path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };

    std::fs::write(path("x.csv"), "name,dna\na,ACGT\n").unwrap();
    parquet("x.parquet", "dna", vec![Some("ACGT")]);
    for table in ["x.csv", "x.parquet"] {
        refused(&[table], &[table, "no column 'sequence'; the columns are: name, dna", "--sequence-column"]);
    }

    std::fs::write(path("null.csv"), "name,sequence\na,ACGT\nb,\n").unwrap();
    parquet("null.parquet", "sequence", vec![Some("ACGT"), None]);
    refused(&["null.csv"], &["null.csv: row 1: the sequence is empty; remove the row"]);
    refused(&["null.parquet"], &["null.parquet: row 1: the sequence is null; remove the row"]);

    std::fs::write(path("text.csv"), "name,sequence\na,ACGT\nb,ACGT!\n").unwrap();
    parquet("text.parquet", "sequence", vec![Some("ACGT"), Some("ACGT!")]);
    for (table, id) in [("text.csv", "b"), ("text.parquet", "n1")] {
        let place = format!("{table}: row 1 (record '{id}'), base 5: byte 0x21 '!' is not a nucleotide code");
        refused(&[table, "--id-column", "name"], &[&place]);
    }

    std::fs::write(path("ragged.csv"), "name,sequence\na,ACGT\nb,AC,GT\n").unwrap();
    refused(&["ragged.csv"], &["ragged.csv: line 3: 3 fields where the header has 2"]);
    let good = std::fs::read(path("text.parquet")).unwrap();
    std::fs::write(path("cut.parquet"), &good[..good.len() / 2]).unwrap();
    refused(&["cut.parquet"], &["cut.parquet: the Parquet data is damaged"]);
}

/// A damaged file that stops the decoder by an assertion is bad input like any other: one line.
#[test]
fn damaged_parquet_is_one_line_whatever_the_decoder_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..9).map(|i| "ACGT".repeat(i + 1))));
    let batch = RecordBatch::try_from_iter([("sequence", names)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let good = writer.into_inner().unwrap();
    let model = golden_model(SMALL);
    for at in (4..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        std::fs::write(&path, bad).unwrap();
        let ran = mamba_seq(folder.path(), &["embed", "x.parquet", "-q", "-o", "o", "--model", &model]);
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert!(ran.code == 0 || (ran.code == 1 && lines.len() == 1), "{at}: {}", ran.stderr);
        assert!(!ran.stderr.contains("internal"), "{at}: {}", ran.stderr);
    }
}

#[test]
fn real_promoters() {
    let Some(table) = outside_data("dna_labels/gue_prom_core_all/dev.csv.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = golden_model(SMALL);
    let ran =
        mamba_seq(folder.path(), &["embed", table.to_str().unwrap(), "-o", "o.parquet", "--model", &model]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let found = rows(&folder.path().join("o.parquet"));
    assert_eq!(found.len(), 5920);
    assert!(found.iter().all(|r| (r.start, r.end) == (0, 70)));
}
