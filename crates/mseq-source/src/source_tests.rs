//! Tests of `source.rs`, and a measurement.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Instant;

use crate::tests::{Dribble, Record, gzip, join};
use crate::{DnaTokenizer, Error, InputSet, SequenceSource, count};
use mseq_core::{Item, SequenceFormat};

fn from(text: &[u8], block_len: usize) -> SequenceSource {
    SequenceSource::from_reader("x", Dribble::new(text, 3), DnaTokenizer::caduceus(), block_len)
}

fn open(paths: &[String]) -> SequenceSource {
    let set = InputSet::resolve(paths, false).unwrap();
    SequenceSource::open(set, DnaTokenizer::caduceus(), 1000).unwrap()
}

fn keys(records: &[Record]) -> Vec<(&str, &str, u64, u64)> {
    let key = |r: &'_ Record| (r.head.index, r.tail.bases);
    records.iter().map(|r| (&*r.head.source, &*r.head.id, key(r).0, key(r).1)).collect()
}

#[test]
fn files_are_walked_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let packed = gzip(b">b\nACG\n");
    let paths = [write("z.fa", b">a\nAC\n>e\n"), write("b.gz", &packed), write("r", b"@a\nN\n+\nI\n")];
    let mut source = open(&paths);
    let total = 9 + packed.len() as u64 + 9;
    assert_eq!((source.bytes_total(), source.bytes_done()), (Some(total), 0));
    let records = join(&mut source, 1000).unwrap();
    let [z, b, r] = paths.each_ref().map(String::as_str);
    assert_eq!(keys(&records), [(z, "a", 0, 2), (z, "e", 1, 0), (b, "b", 2, 3), (r, "a", 3, 1)]);
    assert_eq!(records[3].head.format, SequenceFormat::Fastq);
    assert_eq!((source.bases_read(), source.bytes_done()), (6, total));
    let counts = count(&InputSet::resolve(&paths, false).unwrap()).unwrap();
    assert_eq!((counts.records, counts.bases, counts.lengths), (4, 6, vec![2, 0, 3, 1]));
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    if !std::process::Command::new("mkfifo").arg(&path).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: no mkfifo");
        return;
    }
    // Would wait for ever if it opened the pipe.
    let mut source = open(&[path.to_string_lossy().into_owned()]);
    let writer = std::thread::spawn(move || fs::write(path, gzip(b">a\nACG\n")));
    assert_eq!(join(&mut source, 1000).unwrap()[0].tail.bases, 3);
    assert_eq!(source.bytes_total(), None);
    writer.join().unwrap().unwrap();
}

#[test]
fn a_source_can_move_to_another_thread() {
    fn send<T: Send>(_: T) {}
    send(from(b">a", 1));
}

#[test]
fn an_input_without_a_record_is_an_error() {
    for text in [b"".to_vec(), b"\n\r\n".to_vec(), gzip(b""), gzip(b"\n")] {
        let e = from(&text, 5).next().unwrap_err();
        assert_eq!(e.to_string(), "x: holds no record; remove it from the inputs");
    }
}

#[test]
fn a_bad_record_can_be_left_behind() {
    let good = |text: &[u8]| {
        let (mut source, mut ids, mut bad) = (from(text, 2), Vec::new(), 0);
        let mut last = None;
        loop {
            match source.next() {
                Ok(Some(Item::Samples(_))) => panic!("no text gives sound"),
                Ok(Some(Item::Begin(head))) => last = Some(head),
                Ok(Some(Item::End(tail))) => {
                    let head = last.take().unwrap();
                    ids.push((head.id.to_string(), head.index, tail.bases));
                }
                Ok(Some(Item::Tokens(_))) => {}
                Ok(None) => return (ids, bad),
                Err(e) => {
                    assert!(e.is_bad_record(), "{e}");
                    bad += 1;
                }
            }
        }
    };
    let want = vec![("a".to_owned(), 0, 2), ("e".to_owned(), 4, 3)];
    let fasta = b">a\nAC\n>b\nAC!\nGT\n>\nAC\n>d\nA>A\rA\n\r\n>e\nACG\n";
    assert_eq!(good(fasta), (want.clone(), 3));
    let fastq = b"@a\nAC\n+\nII\n@b\nAC!\nGT\n+\nIIIII\n@\nAC\n+\n@@\n@d\nAA\rA\n+\n@@@@\n@e\nACG\n+\nIII\n";
    assert_eq!(good(fastq), (want, 3));
}

#[test]
fn nothing_follows_a_fatal_error() {
    let packed = gzip(b">a\nACGTACGTACGT\n");
    let mut source = from(&packed[..packed.len() - 4], 4);
    let e = loop {
        if let Err(e) = source.next() {
            break e;
        }
    };
    assert_eq!(
        e.to_string(),
        "x: the gzip data stops before its end: the file is truncated; copy or download it again"
    );
    assert!(source.next().unwrap().is_none());
}

#[test]
fn errors_of_the_reader_keep_their_cause() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let mut source = SequenceSource::from_reader("x", b">a\nAC".chain(Broken), DnaTokenizer::caduceus(), 1);
    let e = loop {
        match source.next() {
            Ok(Some(Item::Samples(_))) => panic!("no text gives sound"),
            Ok(item) => assert!(item.is_some()),
            Err(e) => break e,
        }
    };
    assert_eq!(e.to_string(), "x: disk on fire");
    assert!(matches!(e, Error::Io { .. }));
}

#[test]
fn one_line_of_200_million_bases() {
    let text = b">long\n".chain(io::repeat(b'a').take(200_000_000));
    let mut source = SequenceSource::from_reader("x", text, DnaTokenizer::caduceus(), 1 << 16);
    let mut bases = 0;
    while let Some(item) = source.next().unwrap() {
        match item {
            Item::Samples(_) => panic!("no text gives sound"),
            Item::Tokens(tokens) => {
                assert!(tokens.capacity() <= 1 << 16);
                bases += tokens.len();
            }
            Item::End(tail) => assert_eq!((tail.bases, tail.soft_masked), (200_000_000, 200_000_000)),
            Item::Begin(_) => {}
        }
    }
    assert_eq!(bases, 200_000_000);
}

/// A file of the shared test data, or a word on why there is none.
fn genome(name: &str) -> Option<String> {
    let dir = std::env::var_os("MSEQ_TEST_DATA").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into());
    let path = dir.join("genomes").join(name);
    if !path.exists() {
        eprintln!("skipped: no {name} in MSEQ_TEST_DATA");
        return None;
    }
    Some(path.to_string_lossy().into_owned())
}

#[test]
fn real_genomes() {
    let files = [
        ("ecoli_k12_mg1655.fa.gz", 1, 4_641_652),
        ("yeast_s288c_r64.fa.gz", 17, 12_157_105),
        ("phix_like_phages_x16.fa.gz", 16, 86_177),
        ("human_mt.fa", 1, 16_569),
        ("phage_lambda.fa", 1, 48_502),
    ];
    for (name, n, bases) in files {
        let Some(path) = genome(name) else { continue };
        let records = join(&mut open(std::slice::from_ref(&path)), 1000).unwrap();
        assert_eq!((records.len(), records.iter().map(|r| r.tail.bases).sum::<u64>()), (n, bases), "{name}");
        let counts = count(&InputSet::resolve(&[path], false).unwrap()).unwrap();
        assert_eq!((counts.records, counts.bases), (n as u64, bases));
        assert!(counts.lengths.iter().eq(records.iter().map(|r| &r.tail.bases)));
    }
}

/// `cargo test --release -p mseq-source -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut fastq = Vec::new();
    for i in 0..400_000 {
        fastq.extend(format!("@read{i}\n{}\n+\n{}\n", "ACGTN".repeat(30), "IIIII".repeat(30)).bytes());
    }
    let line = |width: usize| [&b"ACGTacgtNN".repeat(width / 10)[..], b"\n"].concat();
    let fasta = |width: usize| [&b">a\n"[..], &line(width).repeat(200_000_000 / width)].concat();
    let mut texts = vec![
        ("fasta, lines of 60", fasta(60)),
        ("fasta, lines of 80", fasta(80)),
        ("fasta, one line", fasta(200_000_000)),
        ("fastq, 150 bases", fastq),
    ];
    for name in ["yeast_s288c_r64.fa.gz", "ecoli_k12_mg1655.fa.gz"] {
        texts.extend(genome(name).map(|path| (name, fs::read(path).unwrap())));
    }
    for (name, text) in texts {
        let bytes = text.len();
        let start = Instant::now();
        let text = io::Cursor::new(text);
        let mut source = SequenceSource::from_reader(name, text, DnaTokenizer::caduceus(), 1 << 16);
        while source.next().unwrap().is_some() {}
        let seconds = start.elapsed().as_secs_f64();
        let rate = |n: f64| n / seconds / 1e6;
        let (file, bases) = (rate(bytes as f64), rate(source.bases_read() as f64));
        eprintln!("{name}: {file:.0} MB/s of file, {bases:.0} Mbases/s");
    }
    let bases = b"ACGTacgtNN".repeat(10_000);
    let (start, mut ids) = (Instant::now(), Vec::new());
    for _ in 0..5_000 {
        ids.clear();
        DnaTokenizer::caduceus().encode(&bases, &mut ids).unwrap();
    }
    eprintln!("tokenizer alone: {:.0} MB/s", 500.0 / start.elapsed().as_secs_f64());
}
