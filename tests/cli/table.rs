//! Tables with a sequence column.

use std::io::Write;

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
