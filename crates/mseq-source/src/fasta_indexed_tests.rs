use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::bytes_at::tests::indexed_bgzf;
use crate::{FaiIndex, IndexedFasta, Result};

/// A folder with `x.fa` and the index text given.
fn opened(fasta: &[u8], fai: &str) -> Result<Option<IndexedFasta>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.fa");
    fs::write(&path, fasta).unwrap();
    fs::write(dir.path().join("x.fa.fai"), fai).unwrap();
    IndexedFasta::open(&path)
}

#[track_caller]
fn fails(fasta: &[u8], fai: &str, record: &str) {
    let Err(e) = opened(fasta, fai) else { panic!("no error") };
    let e = e.to_string();
    assert!(e.contains(&format!("x.fa (record '{record}' ")), "{e}");
    assert!(e.contains("x.fa.fai does not match ") && e.ends_with("): remake it with samtools faidx"), "{e}");
}

const TEXT: &[u8] = b">a x\nACGT\nACGT\nAC\n>b\n>a\nACG\n";
const FAI: &str = "a\t10\t5\t4\t5\nb\t0\t21\t0\t0\na\t3\t24\t3\t4\n";

#[test]
fn any_part_of_any_record() {
    let mut fasta = opened(TEXT, FAI).unwrap().unwrap();
    let mut out = b"before".to_vec();
    for (record, start, len, want) in [
        (0, 0, 100, "ACGTACGTAC"),
        (0, 3, 2, "TA"),
        (0, 9, 5, "C"),
        (0, 10, 5, ""),
        (0, u64::MAX, 5, ""),
        (1, 0, 5, ""),
        (2, 1, 2, "CG"),
        (3, 0, 9, ""),
    ] {
        fasta.bases(record, start, len, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), want);
    }
    assert_eq!(fasta.start(0).map(|s| (s.offset, s.line)), Some((0, 1)));
    assert_eq!(fasta.start(1).map(|s| (s.offset, s.line)), Some((18, 5)));
    assert_eq!(fasta.start(2).map(|s| (s.offset, s.line)), Some((21, 6)));
}

#[test]
fn indexes_of_other_files_are_refused() {
    fails(TEXT, "b\t10\t5\t4\t5\n", "b");
    fails(TEXT, "a\t10\t6\t4\t5\n", "a");
    fails(TEXT, "a\t11\t5\t4\t5\nb\t0\t21\t0\t0\n", "b");
    fails(TEXT, "a\t9\t5\t4\t5\nb\t0\t21\t0\t0\n", "b");
    fails(TEXT, "a\t900\t5\t4\t5\n", "a");
    fails(TEXT, "a\t10\t5\t4\t5\nb\t0\t2100\t0\t0\n", "b");
    fails(TEXT, "a\t10\t5\t4\t5\n", "a");
    fails(TEXT, "a\t10\t5\t4\t5\na\t3\t24\t3\t4\n", "a");
    fails(TEXT, &FAI.replace("a\t3\t", "a\t2\t"), "a");
    fails(TEXT, &FAI.replace("a\t3\t", "a\t4\t"), "a");
    fails(TEXT, "b\t0\t21\t0\t0\na\t10\t5\t4\t5\n", "a");
    fails(TEXT, "", "");
    fails(b">a\nACGT>b\nAA\n", "a\t4\t3\t4\t5\nb\t2\t10\t2\t3\n", "b");
}

#[test]
fn lines_of_another_length_are_found_when_read() {
    let read = opened(b">a\nACG\nTACG\nTAC\n", "a\t10\t3\t4\t5\n")
        .and_then(|f| f.unwrap().bases(0, 0, 99, &mut Vec::new()))
        .map_err(|e| e.to_string());
    assert!(read.unwrap_err().contains("has other line lengths"));
}

#[test]
fn a_blank_at_the_end_of_a_record_is_no_fault_of_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.fa");
    fs::write(&path, b">a\nACG \n").unwrap();
    let index = FaiIndex::build(&path).unwrap().unwrap();
    let mut out = Vec::new();
    IndexedFasta::with_index(&path, index).unwrap().bases(0, 0, 9, &mut out).unwrap();
    assert_eq!(out, b"ACG ");
}

#[test]
fn an_index_without_second_records_of_a_name_is_not_used() {
    let doubles = b">a\nAC\n>a\nACGT\n>b\nA\n>b\nAC\n";
    assert!(opened(doubles, "a\t2\t3\t2\t3\nb\t1\t17\t1\t2\n").unwrap().is_none());
    assert!(opened(b">a\nAC\n>a\nACGT\n>b\nA\n", "a\t2\t3\t2\t3\nb\t1\t17\t1\t2\n").unwrap().is_none());
    assert!(opened(b">a\nAC\n\n>a\nACGT\n", "a\t2\t3\t2\t3\n").unwrap().is_none());
    assert!(opened(b"@a\nAC\n+\nII\n", "a\t2\t3\t2\t3\t8\n").unwrap().is_none());
}

#[test]
fn a_gzi_of_another_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = [b">a\n".to_vec(), b"ACGTTGCA".repeat(50_000), b"\n".to_vec()].concat();
    let (packed, mut gzi) = indexed_bgzf(&text, 60_000);
    fs::write(at("x.gz"), packed).unwrap();
    fs::write(at("x.gz.fai"), "a\t400000\t3\t400000\t400001\n").unwrap();
    gzi[16 * 3 + 8] ^= 3;
    fs::write(at("x.gz.gzi"), &gzi).unwrap();
    let mut out = Vec::new();
    let e = IndexedFasta::open(&at("x.gz")).and_then(|f| f.unwrap().bases(0, 245_000, 10, &mut out));
    let e = e.unwrap_err().to_string();
    assert!(e.contains("x.gz.gzi does not match") || e.contains("samtools faidx"), "{e}");
    fs::write(at("x.gz.gzi"), &gzi[..20]).unwrap();
    let e = IndexedFasta::open(&at("x.gz")).err().unwrap().to_string();
    assert!(e.contains("(it is damaged): remake it with bgzip --reindex"), "{e}");
}

/// A FASTA with uniform lines, its sequences, and whether it is BGZF.
pub(crate) fn uniform() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>, bool)> {
    let letters = prop::sample::select(b"ACGTUNRYSWKMBDHVacgtunryswkmbdhv*-".to_vec());
    let records = vec(vec(letters, 0..200), 1..6);
    (records, 1..70_usize, any::<[bool; 5]>()).prop_map(|(records, width, [crlf, bom, gap, last, packed])| {
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let mut text = if bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        for (i, record) in records.iter().enumerate() {
            text.extend(format!(">r{} > x", i % 3).bytes());
            text.extend(end);
            for line in record.chunks(width) {
                text.extend(line);
                text.extend(end);
            }
            if gap {
                text.extend(end);
            }
        }
        if !last {
            text.truncate(text.len() - end.len());
        }
        (text, records, packed)
    })
}

/// The file and its index in a folder.
pub(crate) fn write_indexed(dir: &std::path::Path, text: &[u8], packed: bool) -> std::path::PathBuf {
    let plain = dir.join("x.fa");
    fs::write(&plain, text).unwrap();
    let index = FaiIndex::build(&plain).unwrap().unwrap();
    let path = if packed { dir.join("x.fa.gz") } else { plain };
    let mut fai = Vec::new();
    index.write(&mut fai).unwrap();
    fs::write(format!("{}.fai", path.display()), fai).unwrap();
    if packed {
        let (packed, gzi) = indexed_bgzf(text, 53);
        fs::write(&path, packed).unwrap();
        fs::write(format!("{}.gzi", path.display()), gzi).unwrap();
    }
    path
}

proptest! {
    #[test]
    fn built_indexes_lead_to_every_base(
        (text, records, packed) in uniform(), parts in vec((0..6_usize, 0..210_u64, 0..300_usize), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = write_indexed(dir.path(), &text, packed);
        let mut fasta = IndexedFasta::open(&path).unwrap().unwrap();
        prop_assert_eq!(fasta.records().len(), records.len());
        let mut out = Vec::new();
        for (record, start, len) in parts {
            fasta.bases(record, start, len, &mut out).unwrap();
            let whole = records.get(record).map_or(&[][..], Vec::as_slice);
            let from = whole.len().min(start as usize);
            prop_assert_eq!(&out[..], &whole[from..whole.len().min(from + len)]);
        }
    }

    #[test]
    fn any_index_over_any_file_is_used_or_refused(
        text in vec(prop::sample::select(b">aACG\n\n\r".to_vec()), 0..60),
        fai in vec((prop::sample::select(vec!["a", "A", "aA"]), 0..20_u64, 0..60_u64, 0..6_u64, 0..7_u64), 0..4),
    ) {
        let fai: String = fai.iter().map(|(n, b, o, l, w)| format!("{n}\t{b}\t{o}\t{l}\t{w}\n")).collect();
        match opened(&text, &fai) {
            Ok(Some(mut fasta)) => {
                for record in 0..fasta.records().len() {
                    let mut out = Vec::new();
                    if fasta.bases(record, 0, 100, &mut out).is_ok() {
                        prop_assert_eq!(out.len() as u64, fasta.records()[record].bases);
                    }
                }
            }
            Ok(None) => {}
            Err(e) => prop_assert!(!e.to_string().contains('\n')),
        }
    }
}
