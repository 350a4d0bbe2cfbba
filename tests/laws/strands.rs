//! The reverse strand is the reverse complement read forward, and both are the two of them.

use arrow_array::cast::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use crate::common::Row;
use crate::common::fasta::Wrapping;
use crate::{case, embed, embed_file, embed_shards, embed_stream, fasta, nameless};

/// The reverse complement, letter by letter as IUPAC has it.
fn reverse_complement(record: &str) -> String {
    const PAIRS: &str = "ATCGRYKMBVDHUA";
    let complement = |letter: char| {
        let upper = letter.to_ascii_uppercase();
        let at = PAIRS.find(upper).filter(|at| upper != 'A' || *at == 0);
        let other = match at {
            // U has no partner that would give it back.
            Some(12) => 'A',
            Some(at) => PAIRS.as_bytes()[at ^ 1] as char,
            None => upper,
        };
        if letter.is_ascii_lowercase() { other.to_ascii_lowercase() } else { other }
    };
    record.chars().rev().map(complement).collect()
}

/// Cuts a record so that its windows lie the same from both of its ends.
fn mirrored(record: &str, window: Option<usize>, stride: usize) -> String {
    match window {
        Some(window) if record.len() > window => {
            record[..window + (record.len() - window) / stride * stride].to_owned()
        }
        _ => record.to_owned(),
    }
}

fn option(options: &[String], name: &str) -> Option<String> {
    options.iter().position(|o| o == name).map(|at| options[at + 1].clone())
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn chunks() -> impl Strategy<Value = String> {
    prop_oneof![1u32..8, 8u32..200, 200u32..5000].prop_map(|n| n.to_string())
}

/// In the order of the contract.
fn ordered(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.record_index, row.start, row.strand != "+"));
    rows
}

#[test]
fn complements() {
    assert_eq!(reverse_complement("ACGTURYKMBDVHSWN*-acgtun"), "naacgt-*NWSDBHVKMRYAACGT");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Reverse rows are the forward rows of the reverse complement, bit for bit, from the other end:
    /// `last` is the last token in reading direction, and pieces of context begin at that end too.
    #[test]
    fn reverse_is_the_reverse_complement_mirrored(
        (records, model, options) in case(), chunk in chunks(), threads in 1u32..6,
        wrapping in prop::sample::select(Wrapping::ALL.to_vec()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let window = option(&options, "--window").and_then(|w| w.parse::<usize>().ok());
        let stride = option(&options, "--stride").map(|s| s.parse::<usize>().unwrap()).or(window);
        let records: Vec<String> =
            records.iter().map(|r| mirrored(r, window, stride.unwrap_or(1))).collect();
        let other: Vec<String> = records.iter().map(|r| reverse_complement(r)).collect();
        let mut want = nameless(embed(folder.path(), &fasta(&other), model, &words(&options)));
        for row in &mut want {
            let bases = records[row.record_index as usize].len() as u64;
            (row.start, row.end) = (bases - row.end, bases - row.start);
            row.strand = "-".into();
        }
        let input = wrapping.write(folder.path(), &fasta(&records));
        let threads = threads.to_string();
        let how = ["--strand", "reverse", "--chunk", &chunk, "--threads", &threads];
        let found = nameless(embed_file(folder.path(), input, model, &[&words(&options)[..], &how].concat()));
        prop_assert_eq!(found, ordered(want));
    }

    /// Both strands are the rows of each, in the order of record, start and strand, and combined
    /// they are the mean of the two; as a file, as a stream and from shards.
    #[test]
    fn both_are_forward_and_reverse(
        (records, model, options) in case(), chunk in chunks(), threads in 1u32..6, shards in 1u32..4,
        wrapping in prop::sample::select(Wrapping::ALL.to_vec()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = wrapping.write(folder, &fasta(&records));
        let options = words(&options);
        let forward = embed_file(folder, input, model, &options);
        let reverse = embed_file(folder, input, model, &[&options[..], &["--strand", "reverse"]].concat());
        let mean: Vec<Row> = forward
            .iter()
            .zip(ordered(reverse.clone()))
            .map(|(a, b)| {
                assert_eq!((a.record_index, a.start, a.end), (b.record_index, b.start, b.end));
                let value = |bits: u32| f64::from(f32::from_bits(bits));
                let mean = |(a, b): (&u32, &u32)| ((0.5 * value(*a) + 0.5 * value(*b)) as f32).to_bits();
                let embedding = a.embedding.iter().zip(&b.embedding).map(mean).collect();
                Row { strand: ".".into(), embedding, ..a.clone() }
            })
            .collect();
        let each = ordered([forward, reverse].concat());
        let threads = threads.to_string();
        let how = ["--strand", "both", "--chunk", &chunk, "--threads", &threads];
        for (more, want) in [(&[][..], each), (&["--combine-strands", "mean"], mean)] {
            let options = [&options[..], &how, more].concat();
            prop_assert_eq!(&embed_file(folder, input, model, &options), &want);
            prop_assert_eq!(&embed_stream(folder, input, model, &options), &want);
            prop_assert_eq!(&embed_shards(folder, input, shards, model, &options), &want);
        }
    }
}

/// A table and a FASTQ file give the rows that the same records give as FASTA, and the kept columns
/// of a row stand beside each of its strands.
#[test]
fn tables_and_reads_have_two_strands_too() {
    const MODEL: &str = "d29-n4-k2-e1";
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut text, mut reads, mut table) =
        (String::new(), String::new(), "id,sequence,label,note\n".to_owned());
    for i in 0..300 {
        let bases = "ACGTTGCANGGC".repeat(12)[i % 12..i % 12 + 1 + i * 7 % 120].to_owned();
        text += &format!(">r{i}\n{bases}\n");
        reads += &format!("@r{i}\n{bases}\n+\n{}\n", "I".repeat(bases.len()));
        table += &format!("r{i},{bases},label {},{i}\n", i % 5);
    }
    std::fs::write(folder.join("x.fq"), reads).unwrap();
    std::fs::write(folder.join("x.csv"), table).unwrap();
    for window in [&["--window", "record"][..], &["--window", "13", "--stride", "9"]] {
        for strand in [
            &["--strand", "reverse"][..],
            &["--strand", "both"],
            &["--strand", "both", "--combine-strands", "mean"],
        ] {
            let options = [window, strand].concat();
            let want = nameless(embed(folder, &text, MODEL, &options));
            assert_eq!(nameless(embed_file(folder, "x.fq", MODEL, &options)), want, "{options:?}");
            let options = [&options[..], &["--id-column", "id", "--keep", "note,label"]].concat();
            for (shards, chunk) in [(1, "100000"), (3, "77")] {
                let options = [&options[..], &["--chunk", chunk]].concat();
                let found = nameless(embed_shards(folder, "x.csv", shards, MODEL, &options));
                assert_eq!(found, want, "{options:?}");
                let file = std::fs::File::open(folder.join("merged.parquet")).unwrap();
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
                let mut rows = want.iter();
                for batch in reader.map(Result::unwrap) {
                    let text = |name: &str, i: usize| {
                        batch.column_by_name(name).unwrap().as_string::<i32>().value(i).to_owned()
                    };
                    for i in 0..batch.num_rows() {
                        let record = rows.next().unwrap().record_index;
                        assert_eq!(text("input.note", i), record.to_string());
                        assert_eq!(text("input.label", i), format!("label {}", record % 5));
                    }
                }
                assert!(rows.next().is_none());
            }
        }
    }
}
