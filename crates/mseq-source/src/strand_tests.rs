//! Laws of filters and strands.

use std::fs;
use std::path::Path;

use mseq_core::{Item, Strand};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fasta_indexed_tests::{uniform, write_indexed};
use crate::{DnaTokenizer, InputSet, Keep, RecordFilter, Result, SequenceSource, Strands, complement_byte};

/// Record index, strand, id, tokens, and what the end counted.
type Run = (u64, Strand, String, Vec<u32>, [u64; 3]);

fn runs(mut source: SequenceSource) -> Result<Vec<Run>> {
    let (mut runs, mut open): (Vec<Run>, Option<Run>) = (Vec::new(), None);
    while let Some(item) = source.next()? {
        match item {
            Item::Samples(_) => panic!("no text gives sound"),
            Item::Begin(head) => {
                assert!(open.is_none());
                let strand = if head.reversed.is_some() { Strand::Reverse } else { Strand::Forward };
                open = Some((head.index, strand, head.id.to_string(), Vec::new(), [0; 3]));
            }
            Item::Tokens(tokens) => open.as_mut().unwrap().3.extend(tokens),
            Item::End(tail) => {
                let mut run = open.take().unwrap();
                assert_eq!(tail.bases, run.3.len() as u64);
                run.4 = [tail.bases, tail.unknown, tail.soft_masked];
                runs.push(run);
            }
        }
    }
    assert!(open.is_none());
    assert!(source.bytes_total().is_none_or(|total| source.bytes_done() == total));
    Ok(runs)
}

fn source(path: &Path, block_len: usize) -> SequenceSource {
    let set = InputSet::resolve(&[path.to_string_lossy().into_owned()], false).unwrap();
    SequenceSource::open(set, DnaTokenizer::caduceus(), block_len).unwrap()
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![
        Just(Keep::Skip),
        Just(Keep::All),
        (0..250_u64).prop_map(Keep::UpTo),
        (0..250_u64, 0..250_u64).prop_map(|(a, b)| Keep::Between { start: a.min(b), end: a.max(b) }),
    ]
}

fn want(records: &[Vec<u8>], strands: Strands, keep: &[Keep]) -> Vec<Run> {
    let t = DnaTokenizer::caduceus();
    let mut runs = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let Some(range) = keep[i % keep.len()].range() else { continue };
        let at = |base: u64| record.len().min(usize::try_from(base).unwrap_or(usize::MAX));
        let forward = record[..at(range.end)].to_vec();
        let reverse = record[at(range.start)..].iter().rev().map(|&b| complement_byte(b)).collect();
        for (strand, bases) in [(Strand::Forward, forward), (Strand::Reverse, reverse)] {
            if (strand == Strand::Forward && strands == Strands::Reverse)
                || (strand == Strand::Reverse && strands == Strands::Forward)
            {
                continue;
            }
            let mut ids = Vec::new();
            let counts = t.encode(&bases, &mut ids).unwrap();
            let tail = [bases.len() as u64, counts.unknown, counts.soft_masked];
            runs.push((i as u64, strand, format!("r{}", i % 3), ids, tail));
        }
    }
    runs
}

proptest! {
    #[test]
    fn strands_and_filters_with_and_without_an_index(
        (text, records, packed) in uniform(), keep in vec(keep(), 1..4), block_len in 1..90_usize,
        strands in prop::sample::select(vec![Strands::Forward, Strands::Reverse, Strands::Both]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = write_indexed(dir.path(), &text, packed);
        let want = want(&records, strands, &keep);
        for indexed in [true, false] {
            if !indexed {
                fs::remove_file(format!("{}.fai", path.display())).unwrap();
            }
            let keep = keep.clone();
            let filter = RecordFilter::new(move |head| keep[head.index as usize % keep.len()]);
            let source = source(&path, block_len).with_filter(filter).with_strands(strands, dir.path());
            prop_assert_eq!(&runs(source).unwrap(), &want, "indexed {}", indexed);
        }
    }
}

/// Records long enough to be sought past.
fn long() -> (Vec<u8>, Vec<Vec<u8>>) {
    let record = |n: u32, salt: u32| {
        (0..n)
            .map(|i| b"ACGTNacgtR"[(i.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 8) as usize % 10])
            .collect()
    };
    let records: Vec<Vec<u8>> =
        vec![record(3_000_001, 1), record(5, 2), record(2_500_000, 3), record(1_200_000, 4)];
    let mut text = Vec::new();
    for (i, record) in records.iter().enumerate() {
        text.extend(format!(">r{}\n", i % 3).bytes());
        for line in record.chunks(61) {
            text.extend(line);
            text.push(b'\n');
        }
    }
    (text, records)
}

#[test]
fn long_records_are_sought_past() {
    let dir = tempfile::tempdir().unwrap();
    let (text, records) = long();
    for packed in [false, true] {
        let path = if packed {
            fs::write(dir.path().join("x.fa"), b">a\nA\n").unwrap();
            write_packed(dir.path(), &text)
        } else {
            write_indexed(dir.path(), &text, false)
        };
        for keep in [
            vec![Keep::Skip, Keep::All],
            vec![Keep::UpTo(1000)],
            vec![Keep::All, Keep::Skip, Keep::Skip, Keep::Skip],
            vec![Keep::Between { start: 1_000_000, end: 1_000_100 }],
            vec![Keep::Skip],
        ] {
            for strands in [Strands::Forward, Strands::Both] {
                let want = want(&records, strands, &keep);
                let keep = keep.clone();
                let filter = RecordFilter::new(move |head| keep[head.index as usize % keep.len()]);
                let source = source(&path, 1 << 16).with_filter(filter).with_strands(strands, dir.path());
                assert!(runs(source).unwrap() == want);
            }
        }
    }
}

fn write_packed(dir: &Path, text: &[u8]) -> std::path::PathBuf {
    let path = dir.join("y.fa.gz");
    let plain = dir.join("y.fa");
    fs::write(&plain, text).unwrap();
    let mut fai = Vec::new();
    crate::FaiIndex::build(&plain).unwrap().unwrap().write(&mut fai).unwrap();
    let (packed, gzi) = crate::bytes_at::tests::indexed_bgzf(text, 60_000);
    for (name, bytes) in [("y.fa.gz", packed), ("y.fa.gz.fai", fai), ("y.fa.gz.gzi", gzi)] {
        fs::write(dir.join(name), bytes).unwrap();
    }
    path
}

#[test]
fn bad_bytes_have_the_same_place_with_and_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let text = b"\n>r0\nACGT\nAC!T\n\n>r1\nACGT\n";
    let path = write_indexed(dir.path(), text, false);
    for indexed in [true, false] {
        if !indexed {
            fs::remove_file(format!("{}.fai", path.display())).unwrap();
        }
        for strands in [Strands::Forward, Strands::Reverse, Strands::Both] {
            let mut source = source(&path, 3)
                .with_filter(RecordFilter::new(|_| Keep::All))
                .with_strands(strands, dir.path());
            let (mut errors, mut ends) = (Vec::new(), 0);
            loop {
                match source.next() {
                    Ok(Some(Item::End(tail))) => ends += tail.bases,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(e) => errors.push(e.to_string()),
                }
            }
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(
                errors[0].ends_with(
                    "record 'r0', base 7 (line 4): byte 0x21 '!' is not a nucleotide code; remove it"
                ),
                "{errors:?}"
            );
            assert_eq!(ends, if strands == Strands::Both { 8 } else { 4 });
        }
    }
}

#[test]
fn skipped_bytes_may_be_anything() {
    let text = b">a\nAC!\n>b\nAC?C\n>c\nAC\n";
    let filter = RecordFilter::new(|head| match &*head.id {
        "a" => Keep::Skip,
        "b" => Keep::UpTo(2),
        _ => Keep::All,
    });
    let source = SequenceSource::from_reader("x", &text[..], DnaTokenizer::caduceus(), 9).with_filter(filter);
    let got: Vec<_> = runs(source).unwrap().into_iter().map(|r| (r.0, r.3)).collect();
    assert_eq!(got, [(1, vec![7, 8]), (2, vec![7, 8])]);
}

/// `cargo test --release -p mseq-source -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn strand_speed() {
    let dir = tempfile::tempdir().unwrap();
    let line = [&b"ACGTacgtNN".repeat(6)[..], b"\n"].concat();
    let text = [b">a\n".to_vec(), line.repeat(100_000_000 / 60), b">b\nACGT\n".to_vec()].concat();
    let time = |name: &str, source: SequenceSource| {
        let start = std::time::Instant::now();
        let bases: u64 = runs(source).unwrap().iter().map(|r| r.4[0]).sum();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{name}: {bases} bases in {seconds:.3} s, {:.0} Mbases/s", bases as f64 / seconds / 1e6);
    };
    let skip = || RecordFilter::new(|head| if head.index == 0 { Keep::Skip } else { Keep::All });
    for (name, path) in
        [("plain", write_indexed(dir.path(), &text, false)), ("BGZF", write_packed(dir.path(), &text))]
    {
        let open = || source(&path, 1 << 16);
        time(&format!("{name}, reverse, index"), open().with_strands(Strands::Reverse, dir.path()));
        time(&format!("{name}, skip 100 Mb, index"), open().with_filter(skip()));
        let start = std::time::Instant::now();
        let mut fasta = crate::IndexedFasta::open(&path).unwrap().unwrap();
        let mut out = Vec::new();
        for i in 0..2000_u64 {
            fasta.bases(0, i.wrapping_mul(2_654_435_761) % 99_000_000, 1000, &mut out).unwrap();
        }
        eprintln!(
            "{name}: {:.0} random reads of 1000 bases a second",
            2000.0 / start.elapsed().as_secs_f64()
        );
        fs::remove_file(format!("{}.fai", path.display())).unwrap();
        time(&format!("{name}, reverse, scratch"), open().with_strands(Strands::Reverse, dir.path()));
        time(&format!("{name}, skip 100 Mb, no index"), open().with_filter(skip()));
    }
    let start = std::time::Instant::now();
    crate::FaiIndex::build(&dir.path().join("x.fa")).unwrap().unwrap();
    eprintln!("build: {:.0} MB/s", text.len() as f64 / start.elapsed().as_secs_f64() / 1e6);
}
