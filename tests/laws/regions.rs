//! Rows of intervals are what pooling the token rows of the whole run over each window gives.

use std::fmt::Write;

use proptest::prelude::*;

use crate::common::Row;
use crate::common::fasta::Wrapping;
use crate::{MODELS, POOLS, embed_file, embed_shards, embed_stream, fasta, nameless, records};

/// One line of a BED file.
#[derive(Debug, Clone)]
struct Interval {
    record: usize,
    start: u64,
    end: u64,
    name: Option<String>,
}

impl Interval {
    fn name(&self) -> String {
        let coordinates = || format!("r{}:{}-{}", self.record, self.start, self.end);
        self.name.clone().unwrap_or_else(coordinates)
    }
}

/// Records, and intervals of them in any order, that may overlap, repeat and share names.
fn genomes() -> impl Strategy<Value = (Vec<String>, Vec<Interval>)> {
    let interval = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..300u64, 0..5u8);
    (records(), prop::collection::vec(interval, 1..12)).prop_map(|(mut records, picks)| {
        if records.iter().all(String::is_empty) {
            records[0] = "ACGTNACGT".into();
        }
        let full: Vec<usize> = (0..records.len()).filter(|i| !records[*i].is_empty()).collect();
        let intervals = picks.into_iter().enumerate().map(|(i, (record, start, len, name))| {
            let record = full[record.index(full.len())];
            let bases = records[record].len();
            let start = start.index(bases) as u64;
            let end = (start + len).min(bases as u64);
            let name = (name > 1).then(|| if name == 2 { "same".to_owned() } else { format!("n{i}") });
            Interval { record, start, end, name }
        });
        let intervals = intervals.collect();
        (records, intervals)
    })
}

/// As text, with the kinds of lines that BED files have beside intervals.
fn bed(intervals: &[Interval]) -> String {
    let mut text = "track name=x\n# intervals\n\n".to_owned();
    for (i, interval) in intervals.iter().enumerate() {
        let Interval { record, start, end, name } = interval;
        match name {
            Some(name) => writeln!(text, "r{record}\t{start}\t{end}\t{name}\t0\t-").unwrap(),
            None if i % 2 == 0 => writeln!(text, "r{record} {start} {end}").unwrap(),
            None => writeln!(text, "r{record}\t{start}\t{end}\t.").unwrap(),
        }
    }
    text
}

/// One row from the tokens of a window, in reading direction.
fn pooled(tokens: &[&Row], pool: &str) -> Vec<u32> {
    let value = |row: &Row, i: usize| f32::from_bits(row.embedding[i]);
    let column = |i: usize| match pool {
        "mean" => {
            let sum = tokens.iter().fold(0.0, |sum, row| sum + f64::from(value(row, i)));
            (sum / tokens.len() as f64) as f32
        }
        "max" => tokens
            .iter()
            .map(|row| value(row, i))
            .fold(f32::NEG_INFINITY, |most, v| if v > most { v } else { most }),
        _ => value(tokens[tokens.len() - 1], i),
    };
    (0..tokens[0].embedding.len()).map(|i| column(i).to_bits()).collect()
}

/// The rows of each strand in `strands` (`+`, `-`), from the token rows of the whole run.
fn expected(
    tokens: &[(&str, Vec<Row>)],
    intervals: &[Interval],
    pool: &str,
    window: Option<(u64, u64)>,
) -> Vec<Row> {
    let mut sorted: Vec<&Interval> = intervals.iter().collect();
    sorted.sort_by_key(|i| (i.start, i.end));
    let mut all = Vec::new();
    for (strand, tokens) in tokens {
        for (number, interval) in sorted.iter().enumerate() {
            let (length, stride) = match pool {
                "none" => (1, 1),
                _ => window.unwrap_or((u64::MAX, 1)),
            };
            let mut start = interval.start;
            loop {
                let end = start.saturating_add(length).min(interval.end);
                let mut inside: Vec<&Row> = tokens
                    .iter()
                    .filter(|t| t.record_index == interval.record as u64)
                    .filter(|t| start <= t.start && t.start < end)
                    .collect();
                if *strand == "-" {
                    inside.reverse();
                }
                assert_eq!(inside.len() as u64, end - start);
                let embedding = pooled(&inside, if pool == "none" { "last" } else { pool });
                let row = Row { start, end, region: Some(interval.name()), embedding, ..inside[0].clone() };
                all.push(((row.record_index, start, *strand == "-", end, number), row));
                start = start.saturating_add(stride);
                if end == interval.end || start >= interval.end {
                    break;
                }
            }
        }
    }
    all.sort_by_key(|(key, _): &(_, Row)| *key);
    all.into_iter().map(|(_, row)| row).collect()
}

/// The mean of the rows of two strands.
fn combined(
    rows: &[Row],
    tokens: &[(&str, Vec<Row>)],
    how: (&str, Option<(u64, u64)>),
    intervals: &[Interval],
) -> Vec<Row> {
    let reverse = expected(&tokens[1..], intervals, how.0, how.1);
    let forward = expected(&tokens[..1], intervals, how.0, how.1);
    assert_eq!(rows.len(), forward.len() + reverse.len());
    let mean = |(a, b): (&u32, &u32)| {
        let (a, b) = (f64::from(f32::from_bits(*a)), f64::from(f32::from_bits(*b)));
        ((0.5 * a + 0.5 * b) as f32).to_bits()
    };
    forward
        .into_iter()
        .zip(reverse)
        .map(|(a, b)| {
            let embedding = a.embedding.iter().zip(&b.embedding).map(mean).collect();
            Row { strand: ".".into(), embedding, ..a }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_intervals_are_pooled_tokens_of_the_whole_run(
        (records, intervals) in genomes(),
        model in prop::sample::select(MODELS.to_vec()),
        pool in prop::sample::select(POOLS.to_vec()),
        window in prop::option::of((1..150u64, 1..150u64)),
        context in prop::option::weighted(0.3, (1u32..200).prop_flat_map(|n| (Just(n), 0..n))),
        strand in prop::sample::select(vec!["forward", "reverse", "both", "combined"]),
        wrapping in prop::sample::select(Wrapping::ALL.to_vec()),
        chunk in prop_oneof![1u32..8, 8u32..200, 200u32..5000], threads in 1u32..6, shards in 1u32..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = wrapping.write(folder, &fasta(&records));
        std::fs::write(folder.join("x.bed"), bed(&intervals)).unwrap();
        let (n, m) = context.map_or(("whole".to_owned(), "0".to_owned()), |(n, m)| (n.to_string(), m.to_string()));
        let context = ["--context", &n, "--overlap", &m];
        let tokens: Vec<(&str, Vec<Row>)> = [("+", "forward"), ("-", "reverse")]
            .into_iter()
            .filter(|(_, name)| ["both", "combined", *name].contains(&strand))
            .map(|(sign, name)| {
                let options = [&context[..], &["--pool", "none", "--strand", name]].concat();
                (sign, nameless(embed_file(folder, input, model, &options)))
            })
            .collect();
        let mut want = expected(&tokens, &intervals, pool, window);
        if strand == "combined" {
            want = combined(&want, &tokens, (pool, window), &intervals);
        }

        let (length, stride) = window.map_or(("record".to_owned(), None), |(l, s)| (l.to_string(), Some(s.to_string())));
        let (chunk, threads) = (chunk.to_string(), threads.to_string());
        let mut options = context.to_vec();
        options.extend(["--pool", pool, "--regions", "x.bed", "--chunk", &chunk, "--threads", &threads]);
        options.extend(["--window", &length]);
        options.extend(stride.iter().flat_map(|stride| ["--stride", stride]));
        match strand {
            "combined" => options.extend(["--strand", "both", "--combine-strands", "mean"]),
            strand => options.extend(["--strand", strand]),
        }
        prop_assert_eq!(&nameless(embed_file(folder, input, model, &options)), &want);
        prop_assert_eq!(&nameless(embed_stream(folder, input, model, &options)), &want);
        prop_assert_eq!(&nameless(embed_shards(folder, input, shards, model, &options)), &want);
    }
}

/// Two intervals that cut the same window from a record: forward the first of them is open first,
/// in reverse the second is.
#[test]
fn equal_windows_of_two_intervals_meet_their_other_strand() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("x.fa"), ">r0\nACGTTGCAGGATCCA\n").unwrap();
    std::fs::write(folder.join("x.bed"), "r0\t5\t12\tlater\nr0\t0\t10\tearlier\n").unwrap();
    let options = ["--regions", "x.bed", "--window", "5", "--strand", "both"];
    let names = |more: &[&str]| -> Vec<String> {
        let rows = embed_file(folder, "x.fa", MODELS[0], &[&options[..], more].concat());
        let name = |r: Row| format!("{}-{}{} {}", r.start, r.end, r.strand, r.region.unwrap());
        rows.into_iter().map(name).collect()
    };
    assert_eq!(
        names(&[]),
        [
            "0-5+ earlier",
            "0-5- earlier",
            "5-10+ earlier",
            "5-10+ later",
            "5-10- earlier",
            "5-10- later",
            "10-12+ later",
            "10-12- later"
        ]
    );
    assert_eq!(
        names(&["--combine-strands", "mean"]),
        ["0-5. earlier", "5-10. earlier", "5-10. later", "10-12. later"]
    );
}
