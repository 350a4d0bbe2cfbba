//! Tests of tables of every kind.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, Encoding};
use ::parquet::file::properties::WriterProperties;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use mseq_core::{Item, Strand};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::tests::gzip;
use crate::{DnaTokenizer, Error, Keep, RecordFilter, Result, Strands};

/// Record index, id, strand, letters, kept values.
type Row = (u64, String, Strand, String, Vec<String>);

fn source(paths: &[&Path], options: &TableOptions, block_len: usize) -> Result<TableSource> {
    let names: Vec<_> = paths.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    TableSource::open(&names, options.clone(), DnaTokenizer::caduceus(), block_len)
}

/// Rows, and the errors of those that are bad.
fn read(mut source: TableSource) -> (Vec<Row>, Vec<Error>) {
    let (mut rows, mut errors, mut kept) = (Vec::<Row>::new(), Vec::new(), Vec::<KeptBatch>::new());
    loop {
        match source.next() {
            Ok(Some(Item::Samples(_))) => panic!("no text gives sound"),
            Ok(Some(Item::Begin(head))) => {
                kept.extend(source.take_kept().unwrap());
                let found = kept.last().and_then(|k| Some((k, k.row(head.index)?)));
                let values = found.map_or(Vec::new(), |(k, row)| {
                    k.batch
                        .columns()
                        .iter()
                        .map(|c| texts::id(c, row).map_or("null".into(), Into::into))
                        .collect()
                });
                let strand = if head.reversed.is_some() { Strand::Reverse } else { Strand::Forward };
                rows.push((head.index, head.id.to_string(), strand, String::new(), values));
            }
            Ok(Some(Item::Tokens(tokens))) => {
                let letter = |id| if id == 6 { '?' } else { char::from(b"ACGTN"[id as usize - 7]) };
                rows.last_mut().unwrap().3.extend(tokens.into_iter().map(letter));
            }
            Ok(Some(Item::End(tail))) => assert_eq!(tail.bases, rows.last().unwrap().3.len() as u64),
            Ok(None) => return (rows, errors),
            Err(e) => errors.push(e),
        }
    }
}

fn all(paths: &[&Path], options: &TableOptions, block_len: usize) -> Vec<(String, String, Vec<String>)> {
    let (rows, errors) = read(source(paths, options, block_len).unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    rows.into_iter().map(|r| (r.1, r.3, r.4)).collect()
}

fn row(id: &str, bases: &str, kept: &[&str]) -> (String, String, Vec<String>) {
    (id.into(), bases.into(), kept.iter().map(|k| (*k).to_owned()).collect())
}

fn options(id: Option<&str>, keep: &[&str]) -> TableOptions {
    let keep = keep.iter().map(|k| (*k).to_owned()).collect();
    TableOptions { id_column: id.map(String::from), keep, ..TableOptions::default() }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn parquet(
        &self,
        name: &str,
        columns: Vec<(&str, ArrayRef)>,
        packing: Compression,
    ) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let properties =
            WriterProperties::builder().set_compression(packing).set_max_row_group_row_count(Some(3)).build();
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }
}

#[test]
fn csv_and_tsv_plain_and_gzip() {
    let dir = Folder::new();
    let csv = b"\xef\xbb\xbfname,sequence,label\r\na,ACGT,\"x, \"\"y\"\"\"\r\nb,acgunR,\n\"c d\",A,z";
    let want = [row("a", "ACGT", &["x, \"y\""]), row("b", "ACGTN?", &[""]), row("c d", "A", &["z"])];
    let tsv = String::from_utf8_lossy(csv).replace("x, ", "x; ").replace(',', "\t").replace("x; ", "x, ");
    let o = options(Some("name"), &["label"]);
    for (name, bytes) in [
        ("a.csv", csv.to_vec()),
        ("a.CSV.gz", gzip(csv)),
        ("a.tsv", tsv.clone().into_bytes()),
        ("a.txt", tsv.clone().into_bytes()),
        ("b.txt", csv.to_vec()),
        ("any", gzip(tsv.as_bytes())),
    ] {
        let path = dir.write(name, &bytes);
        for block_len in [1, 3, 100] {
            assert_eq!(all(&[&path], &o, block_len), want, "{name}");
        }
    }
    let path = dir.write("n.csv", b"seq\nAC\nGT\n");
    assert_eq!(
        all(&[&path, &path], &options(None, &[]), 9)[1..3],
        [row("1", "GT", &[]), row("0", "AC", &[])]
    );
}

#[test]
fn formats_are_found() {
    let dir = Folder::new();
    let found = |name: &str, bytes: &[u8]| table_format(&dir.write(name, bytes)).unwrap();
    assert_eq!(found("x.csv", b"a,b\n"), Some(TableFormat::Text(b',')));
    assert_eq!(found("x.tsv.gz", &gzip(b"a\tb\n")), Some(TableFormat::Text(b'\t')));
    assert_eq!(found("x", b"id\tseq\n"), Some(TableFormat::Text(b'\t')));
    assert_eq!(found("x.txt", b"id,seq\n"), Some(TableFormat::Text(b',')));
    assert_eq!(found("x.csv", b">a\nACGT\n"), None);
    assert_eq!(found("x.txt", b"hello\n"), None);
    assert_eq!(found("x.fa", b"PAR1xx"), Some(TableFormat::Parquet));
    assert_eq!(found("x.fa", &gzip(b"PAR1xx")), Some(TableFormat::PackedParquet));
}

#[test]
fn parquet_of_every_text_type_and_packing() {
    let dir = Folder::new();
    let texts = ["ACGT", "acgu", "ACGT", "N", "ACGT", "R", "A"];
    let want: Vec<_> = ["ACGT", "ACGT", "ACGT", "N", "ACGT", "?", "A"].into_iter().enumerate().collect();
    let n = Int64Array::from_iter_values(10..17);
    let columns: [ArrayRef; 4] = [
        Arc::new(StringArray::from(texts.to_vec())),
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(StringViewArray::from(texts.to_vec())),
        Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    let packings = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
    ];
    for (column, packing) in columns.into_iter().zip(packings) {
        let path = dir.parquet("x.parquet", vec![("n", Arc::new(n.clone())), ("sequence", column)], packing);
        let kept = options(Some("n"), &["n", "sequence"]);
        let rows = all(&[&path], &kept, 3);
        assert_eq!(rows.len(), 7);
        for (i, (id, bases, values)) in rows.iter().enumerate() {
            assert_eq!((i, bases.as_str()), want[i]);
            assert_eq!(
                (id, values),
                (&(10 + i).to_string(), &vec![(10 + i).to_string(), texts[i].to_owned()])
            );
        }
        let mut source = source(&[&path], &kept, 3).unwrap();
        assert_eq!(source.kept_columns()[0].data_type(), &arrow_schema::DataType::Int64);
        source.next().unwrap();
        let kept = source.take_kept().unwrap().unwrap();
        assert_eq!(kept.batch.schema().fields(), source.kept_columns());
        assert_eq!(kept.batch.column(0).as_primitive::<Int64Type>().value(0), 10);
        assert_eq!((kept.row(0), kept.row(7)), (Some(0), None));
        assert_eq!(source.take_kept().unwrap(), None);
        assert_eq!(source.kept_columns()[1].data_type(), &arrow_schema::DataType::Utf8);
        let packed = dir.write("x.parquet.gz", &gzip(&fs::read(&path).unwrap()));
        assert_eq!(all(&[&packed], &options(Some("n"), &["n", "sequence"]), 3), rows);
    }
}

#[test]
fn bad_rows_are_named_and_left_behind() {
    let dir = Folder::new();
    let path = dir.write("x.csv", b"id,sequence\na,AC\nb,\nc,AC!T\n,A\ne,GT\n");
    let (rows, errors) = read(source(&[&path], &options(Some("id"), &["id"]), 2).unwrap());
    let errors: Vec<_> = errors
        .iter()
        .map(|e| {
            assert!(e.is_bad_record());
            e.to_string().replace(&*path.to_string_lossy(), "x.csv")
        })
        .collect();
    assert_eq!(
        errors,
        [
            "x.csv: row 1: the sequence is empty; remove the row",
            "x.csv: row 2 (record 'c'), base 3: byte 0x21 '!' is not a nucleotide code; remove it",
            "x.csv: row 3: column 'id' is empty, and names the record; give it a value",
        ]
    );
    let last = rows.last().unwrap();
    assert_eq!((last.0, &last.1[..], &last.3[..], &last.4), (4, "e", "GT", &vec!["e".to_owned()]));
    let column = StringArray::from(vec![Some("AC"), None, Some("GT")]);
    let path = dir.parquet("x.parquet", vec![("seq", Arc::new(column))], Compression::SNAPPY);
    let (rows, errors) = read(source(&[&path], &options(None, &[]), 2).unwrap());
    assert_eq!((rows.len(), errors.len()), (2, 1));
    assert!(errors[0].to_string().ends_with("row 1: the sequence is null; remove the row"), "{}", errors[0]);
}

#[test]
fn bad_tables_are_named() {
    let dir = Folder::new();
    let fails = |name: &str, bytes: &[u8], o: &TableOptions| {
        let path = dir.write(name, bytes);
        let error = match source(&[&path], o, 9) {
            Err(e) => e,
            Ok(source) => read(source).1.pop().unwrap(),
        };
        error.to_string().replace(&*path.to_string_lossy(), name)
    };
    let plain = options(None, &[]);
    assert_eq!(
        fails("x.csv", b"id,Sequence\n", &plain),
        "x.csv: no column 'sequence'; the columns are: id, Sequence; choose with --sequence-column"
    );
    assert!(
        fails("x.csv", b"seq,id\n", &options(Some("name"), &[]))
            .contains("no column 'name'; the columns are: seq, id; choose with --id-column")
    );
    assert!(fails("x.csv", b"seq,id\n", &options(None, &["z"])).ends_with("choose with --keep"));
    assert!(fails("x.csv", b"seq,seq\n", &plain).contains("two columns are called 'seq'"));
    assert!(fails("x.csv", b"", &plain).contains("holds no column"));
    assert!(fails("x.csv", b"seq,id\n", &plain).contains("holds no row"));
    assert_eq!(
        fails("x.csv", b"id,seq\na,AC\n\nb,A,C\n", &plain),
        "x.csv: line 4: 3 fields where the header has 2; mend the line"
    );
    for text in ["id,seq\r\na,AC\r\n\r\nb,A,C\r\nc", "id,seq\na,AC\n\nb,A,C", "id,seq\na,AC\nb,A,\"\n\"\n"] {
        let line = if text.contains('"') { 3 } else { 4 };
        assert!(
            fails("x.csv", text.as_bytes(), &plain).contains(&format!("line {line}: 3 fields")),
            "{text}"
        );
    }
    assert!(
        fails("x.csv", b"id,seq\n\xff,A\n", &options(None, &["id"]))
            .contains("row 0: column 'id' is not UTF-8")
    );
    assert!(fails("x.md", b"hello\n", &plain).contains("not a CSV, TSV or Parquet table"));
    assert!(fails("x.parquet", b"PAR1 and no more", &plain).contains("the Parquet data is damaged"));
    let cut = gzip(b"seq\nACGT\n");
    assert!(fails("x.csv.gz", &cut[..cut.len() - 3], &plain).contains("truncated"));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let path = dir.parquet("f.parquet", vec![("seq", numbers)], Compression::SNAPPY);
    let e = source(&[&path], &plain, 9).err().unwrap().to_string();
    assert!(e.contains("column 'seq' is Float64, not text"), "{e}");
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let s: ArrayRef = Arc::new(StringArray::from(vec!["A"]));
    let path = dir.parquet("k.parquet", vec![("k", n), ("seq", s)], Compression::SNAPPY);
    let csv = dir.write("k.csv", b"k,seq\n1,A\n");
    let e = source(&[&path, &csv], &options(None, &["k"]), 9).err().unwrap().to_string();
    assert!(e.ends_with("kept column 'k' is Utf8, but Int64 in the first table; convert one of them"), "{e}");
}

#[test]
fn strands_filters_and_counts() {
    let dir = Folder::new();
    let path = dir.write("x.csv", b"sequence\nAACG\nACGT!\nRC\n");
    let open = || source(&[&path], &options(None, &[]), 3).unwrap();
    let filter = || {
        RecordFilter::new(|head| match head.index {
            0 => Keep::Between { start: 1, end: 3 },
            1 => Keep::Skip,
            _ => Keep::All,
        })
    };
    let (rows, errors) = read(open().with_filter(filter()).with_strands(Strands::Both));
    assert!(errors.is_empty());
    let rows: Vec<_> = rows.iter().map(|r| (r.0, r.2.as_str(), r.3.as_str())).collect();
    assert_eq!(rows, [(0, "+", "AAC"), (0, "-", "CGT"), (2, "+", "?C"), (2, "-", "G?")]);
    // The kept row of a record under a filter is its own, and is given once.
    let filter = RecordFilter::indices([0, 2].into());
    let mut source = source(&[&path], &options(None, &["sequence"]), 3).unwrap().with_filter(filter);
    let mut kept = Vec::new();
    while let Some(item) = source.next().unwrap() {
        let batch = source.take_kept().unwrap();
        assert_eq!(batch.is_some(), matches!(item, Item::Begin(_)));
        assert_eq!(source.take_kept().unwrap(), None);
        kept.extend(
            batch.map(|b| (b.first_record, b.batch.column(0).as_string::<i32>().value(0).to_owned())),
        );
    }
    assert_eq!(kept, [(0, "AACG".to_owned()), (2, "RC".to_owned())]);
    let counts = open().count().unwrap();
    assert_eq!((counts.records, counts.bases, counts.lengths), (3, 11, vec![4, 5, 2]));
    let (_, errors) = read(open().with_strands(Strands::Reverse));
    assert!(errors[0].to_string().contains("base 5: byte 0x21"), "{}", errors[0]);
}

proptest! {
    #[test]
    fn any_table_gives_its_rows(rows in vec(("[ -~]{0,9}", "[ACGTNacgtn]{1,40}"), 1..40), block_len in 1..50_usize) {
        let dir = Folder::new();
        let mut text = csv_writer(&rows, b',');
        let want: Vec<_> = rows.iter().enumerate()
            .map(|(i, (k, s))| row(&i.to_string(), &s.to_ascii_uppercase(), &[k])).collect();
        let o = options(None, &["k"]);
        prop_assert_eq!(&all(&[&dir.write("x.csv", &text)], &o, block_len), &want);
        text = csv_writer(&rows, b'\t');
        prop_assert_eq!(&all(&[&dir.write("x.tsv.gz", &gzip(&text))], &o, block_len), &want);
        let column = |f: fn(&(String, String)) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(f))) as ArrayRef;
        let columns = vec![("k", column(|r| &r.0)), ("sequence", column(|r| &r.1))];
        prop_assert_eq!(&all(&[&dir.parquet("x.parquet", columns, Compression::SNAPPY)], &o, block_len), &want);
    }

    #[test]
    fn any_bytes_give_rows_or_one_line(text in vec(prop::sample::select(b"seq,\"\n\r\tAC!,".to_vec()), 0..60)) {
        let dir = Folder::new();
        let text = [b"id,seq\n".to_vec(), text].concat();
        if let Ok(source) = source(&[&dir.write("x.csv", &text)], &options(Some("id"), &["id"]), 3) {
            prop_assert!(read(source).1.iter().all(|e| !e.to_string().contains('\n')));
        }
    }

    #[test]
    fn any_damage_to_parquet_is_an_error(at in 0..2000_usize, bit in 0..8_u8, cut in any::<bool>()) {
        let dir = Folder::new();
        let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(|i| "ACGTACGTAA"[..=i % 9].to_owned())));
        let path = dir.parquet("x.parquet", vec![("seq", column)], Compression::SNAPPY);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        bytes.truncate(if cut { at } else { bytes.len() });
        if let Ok(source) = source(&[&dir.write("x.parquet", &bytes)], &options(None, &["seq"]), 3) {
            read(source);
        }
    }
}

fn csv_writer(rows: &[(String, String)], separator: u8) -> Vec<u8> {
    let mut out = ::csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    out.write_record(["k", "sequence"]).unwrap();
    rows.iter().for_each(|(k, s)| out.write_record([k, s]).unwrap());
    out.into_inner().unwrap()
}

/// `cargo test --release -p mseq-source -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn table_speed() {
    let dir = Folder::new();
    let n = 1_000_000_usize;
    let base = |i: usize| char::from(b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 20) % 4]);
    let text: Vec<String> = (0..n).map(|i| (0..100).map(|j| base(i * 100 + j)).collect()).collect();
    let path = dir.0.path().join("x.csv");
    let mut csv = std::io::BufWriter::new(File::create(&path).unwrap());
    writeln!(csv, "label,sequence").unwrap();
    text.iter().enumerate().for_each(|(i, s)| writeln!(csv, "{i},{s}").unwrap());
    csv.flush().unwrap();
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(&text));
    let labels: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n as i64));
    let batch = RecordBatch::try_from_iter([("label", labels), ("sequence", column)]).unwrap();
    let parquet = dir.0.path().join("x.parquet");
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer =
        ArrowWriter::try_new(File::create(&parquet).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for path in [path, parquet] {
        let start = Instant::now();
        let mut source = source(&[&path], &options(None, &["label"]), 1 << 16).unwrap();
        let mut kept = 0;
        while let Some(item) = source.next().unwrap() {
            if let (Item::Begin(_), Some(batch)) = (item, source.take_kept().unwrap()) {
                kept += batch.batch.num_rows();
            }
        }
        assert_eq!(kept, n);
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{}: {:.2} M rows/s", path.extension().unwrap().display(), n as f64 / seconds / 1e6);
    }
}

/// Damaged Parquet reaches assertions of its decoder; each must come out as an error of the file.
#[test]
fn flipped_bits_of_a_parquet_file_are_no_panics() {
    let folder = Folder::new();
    let texts = |from: usize| (from..from + 6).map(|i| "ACGT".repeat(1 + i % 4)).collect::<Vec<_>>();
    let columns: Vec<(&str, ArrayRef)> = vec![("sequence", Arc::new(StringArray::from(texts(0))))];
    let path = folder.parquet("x.parquet", columns, Compression::UNCOMPRESSED);
    let good = fs::read(path).unwrap();
    let (mut refused, mut stopped) = (0, 0);
    for bit in (0..8 * good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let path = folder.write("bad.parquet", &bad);
        let mut table = match source(&[&path], &TableOptions::default(), 100) {
            Ok(table) => table,
            Err(_) => continue,
        };
        while let Some(step) = table.next().transpose() {
            if let Err(e) = step {
                refused += 1;
                stopped += usize::from(e.to_string().contains("the decoder stopped at"));
            }
        }
    }
    assert!(refused > 0 && stopped > 0, "{refused} {stopped}");
}

/// The decoder would take terabytes, and no error can be made of that.
#[test]
fn a_page_of_more_values_than_it_can_hold_is_refused() {
    let folder = Folder::new();
    let texts = StringArray::from_iter_values((0..40).map(|i| "ACGT".repeat(1 + i)));
    let batch = RecordBatch::try_from_iter([("sequence", Arc::new(texts) as ArrayRef)]).unwrap();
    for encoding in [Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
        let properties =
            WriterProperties::builder().set_dictionary_enabled(false).set_encoding(encoding).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let good = writer.into_inner().unwrap();
        let path = folder.write("x.parquet", &good);
        assert_eq!(all(&[&path], &TableOptions::default(), 9).len(), 40, "{encoding}");
        // Blocks of 128 in 4 parts, then the number of integers.
        let headers: Vec<_> = (0..good.len() - 3).filter(|&at| good[at..at + 3] == [0x80, 1, 4]).collect();
        assert!(!headers.is_empty());
        for at in headers {
            let mut bad = good.clone();
            bad[at + 3..at + 9].copy_from_slice(b"\xfe\xfe\xfe\xfe\xfe\x7f");
            let path = folder.write("bad.parquet", &bad);
            let (_, errors) = read(source(&[&path], &TableOptions::default(), 9).unwrap());
            let e = errors[0].to_string();
            assert!(e.contains("a page claims more values than it can hold"), "{encoding} {at}: {e}");
        }
    }
}
