//! Helpers of the unit tests, and the laws of the whole crate.

use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder};
use mseq_core::{Item, RecordHead, RecordTail, SequenceFormat};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::decompress::BGZF_EOF;
use crate::{DnaTokenizer, Error, Result, SequenceSource};

/// A reader that gives at most `step` bytes at a time.
pub(crate) struct Dribble {
    bytes: io::Cursor<Vec<u8>>,
    step: usize,
}

impl Dribble {
    pub(crate) fn new(bytes: &[u8], step: usize) -> Self {
        Self { bytes: io::Cursor::new(bytes.to_vec()), step }
    }
}

impl Read for Dribble {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.step);
        self.bytes.read(&mut out[..n])
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Blocks of `block` bytes and the end block. The block sizes in the headers are not filled in.
pub(crate) fn bgzf(bytes: &[u8], block: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(block) {
        let mut encoder = GzBuilder::new().extra(&b"BC\x02\0\0\0"[..]).write(Vec::new(), Compression::fast());
        encoder.write_all(piece).unwrap();
        out.extend(encoder.finish().unwrap());
    }
    out.extend(BGZF_EOF);
    out
}

pub(crate) struct Record {
    pub(crate) head: RecordHead,
    pub(crate) tokens: Vec<u32>,
    pub(crate) tail: RecordTail,
}

/// Joins the items of each record, checking the shape of the stream.
pub(crate) fn join(source: &mut SequenceSource, block_len: usize) -> Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    let (mut open, mut short) = (false, false);
    while let Some(item) = source.next()? {
        match item {
            Item::Samples(_) => panic!("no text gives sound"),
            Item::Begin(head) => {
                assert!(!open);
                assert_eq!(head.index, records.len() as u64);
                (open, short) = (true, false);
                records.push(Record { head, tokens: Vec::new(), tail: RecordTail::default() });
            }
            Item::Tokens(tokens) => {
                assert!(open && !short && !tokens.is_empty() && tokens.len() <= block_len);
                short = tokens.len() < block_len;
                records.last_mut().unwrap().tokens.extend(tokens);
            }
            Item::End(tail) => {
                assert!(open);
                open = false;
                let record = records.last_mut().unwrap();
                record.tail = tail;
                assert_eq!(tail.bases, record.tokens.len() as u64);
            }
        }
    }
    assert!(!open);
    assert_eq!(source.next().unwrap(), None);
    assert_eq!(source.bases_read(), records.iter().map(|r| r.tail.bases).sum::<u64>());
    Ok(records)
}

/// Ids and sequences.
pub(crate) fn records(
    name: &str,
    text: &[u8],
    block_len: usize,
    step: usize,
) -> Result<Vec<(String, String)>> {
    let reader = Dribble::new(text, step);
    let mut source = SequenceSource::from_reader(name, reader, DnaTokenizer::caduceus(), block_len);
    let letter = |&id: &u32| if id == 6 { '?' } else { char::from(b"ACGTN"[id as usize - 7]) };
    let records = join(&mut source, block_len)?;
    Ok(records.iter().map(|r| (r.head.id.to_string(), r.tokens.iter().map(letter).collect())).collect())
}

pub(crate) fn error(name: &str, text: &[u8], block_len: usize, step: usize) -> Error {
    records(name, text, block_len, step).unwrap_err()
}

/// How a file may be written without changing what it says.
#[derive(Debug, Clone)]
struct Layout {
    format: SequenceFormat,
    width: usize,
    crlf: bool,
    bom: bool,
    /// A blank line after each `n`-th line.
    blank_every: Option<usize>,
    gap: bool,
    description: bool,
    last_newline: bool,
    pack: usize,
}

fn layout() -> impl Strategy<Value = Layout> {
    let format = prop_oneof![Just(SequenceFormat::Fasta), Just(SequenceFormat::Fastq)];
    let flags = any::<[bool; 5]>();
    (format, 1..90_usize, flags, prop::option::of(1..5_usize), 0..4_usize).prop_map(
        |(format, width, [crlf, bom, gap, description, last_newline], blank_every, pack)| Layout {
            format,
            width,
            crlf,
            bom,
            blank_every,
            gap,
            description,
            last_newline,
            pack,
        },
    )
}

/// Id, sequence, quality.
type Written = (String, String, String);

/// A record of at least `least` bases.
fn written(least: usize) -> impl Strategy<Value = Written> {
    let codes = b"ACGTUNRYSWKMBDHVacgtunryswkmbdhv*-".map(char::from).to_vec();
    let bases = vec(prop::sample::select(codes), least..300).prop_map(String::from_iter);
    ("[!-~]{1,9}", bases, "[!-~]{300}").prop_map(|(id, seq, quality)| {
        let quality = quality[..seq.len()].to_owned();
        (id, seq, quality)
    })
}

fn write(records: &[Written], layout: &Layout) -> Vec<u8> {
    let mut lines = Vec::new();
    let wrap = |text: &str, lines: &mut Vec<String>| {
        lines.extend(text.as_bytes().chunks(layout.width).map(|c| String::from_utf8_lossy(c).into_owned()));
    };
    let fasta = layout.format == SequenceFormat::Fasta;
    for (id, seq, quality) in records {
        let (gap, description) =
            (if layout.gap { " " } else { "" }, if layout.description { "\tx > @ +" } else { "" });
        lines.push(format!("{}{gap}{id}{description}", if fasta { '>' } else { '@' }));
        wrap(seq, &mut lines);
        if !fasta {
            lines.push("+".into());
            wrap(quality, &mut lines);
        }
    }
    let end = if layout.crlf { "\r\n" } else { "\n" };
    let mut text = if layout.bom { "\u{feff}".to_owned() } else { String::new() };
    for (i, line) in lines.iter().enumerate() {
        text += line;
        if i + 1 < lines.len() || layout.last_newline {
            text += end;
            text += layout.blank_every.filter(|n| i % n == 0).map_or("", |_| end);
        }
    }
    let text = text.into_bytes();
    let (a, b) = text.split_at(text.len() / 3);
    match layout.pack {
        0 => text,
        1 => gzip(&text),
        2 => [gzip(a), gzip(b)].concat(),
        _ => bgzf(&text, 77),
    }
}

/// Token of a letter by the table of the Caduceus tokeniser, written apart from the code.
fn token(letter: char) -> u32 {
    match letter.to_ascii_uppercase() {
        'A' => 7,
        'C' => 8,
        'G' => 9,
        'T' | 'U' => 10,
        'N' => 11,
        _ => 6,
    }
}

/// Bytes that are no code, but for those that mean something at a line's start or everywhere.
fn illegal() -> impl Strategy<Value = u8> {
    let tokenizer = DnaTokenizer::caduceus();
    let bytes = (0..128).filter(|&b| tokenizer.id(b).is_none() && !b"\n\r>@+".contains(&b));
    prop::sample::select(bytes.collect::<Vec<u8>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_layout_block_and_buffer_gives_the_same_items(
        records in vec(written(0), 1..6), layout in layout(), block_len in 1..200_usize, step in 1..99_usize,
    ) {
        let text = write(&records, &layout);
        let reader = Dribble::new(&text, step);
        let mut source = SequenceSource::from_reader("x", reader, DnaTokenizer::caduceus(), block_len);
        let got = join(&mut source, block_len).unwrap();
        prop_assert_eq!(got.len(), records.len());
        for (got, (id, seq, _)) in got.iter().zip(&records) {
            let tokens: Vec<_> = seq.chars().map(token).collect();
            prop_assert_eq!(&*got.head.id, id.as_str());
            prop_assert_eq!(&*got.head.source, "x");
            prop_assert_eq!(got.head.format, layout.format);
            prop_assert_eq!(got.tail.unknown, tokens.iter().filter(|&&t| t == 6).count() as u64);
            prop_assert_eq!(got.tail.soft_masked, seq.chars().filter(char::is_ascii_lowercase).count() as u64);
            prop_assert_eq!(&got.tokens, &tokens);
        }
    }

    #[test]
    fn any_illegal_byte_is_found_at_its_base(
        record in written(1), layout in layout(), at in 0..300_usize, byte in illegal(), block_len in 1..200_usize,
        step in 1..99_usize,
    ) {
        let (id, seq, quality) = record;
        let at = at % seq.len();
        let mut bytes = seq.into_bytes();
        bytes[at] = byte;
        let text = write(&[(id, String::from_utf8(bytes).unwrap(), quality)], &layout);
        match error("x", &text, block_len, step) {
            Error::NotNucleotide { base, byte: found, .. } => prop_assert_eq!((base, found), (at as u64 + 1, byte)),
            other => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn any_bytes_give_records_or_one_error(
        text in vec(prop::sample::select(b">@+AC\n\n\r I!".to_vec()), 0..60), start in "[>@]",
        block_len in 1..9_usize, step in 1..9_usize,
    ) {
        let text = [start.as_bytes(), &text].concat();
        let show = |r: Result<_>| r.map_err(|e| e.to_string());
        let got = show(records("x", &text, block_len, step));
        let want = show(records("x", &text, 1 << 20, 1 << 20));
        if let Err(e) = &got {
            prop_assert!(!e.contains('\n'));
        }
        prop_assert_eq!(got, want);
    }
}
