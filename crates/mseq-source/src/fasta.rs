use std::io::{self, BufRead};
use std::sync::Arc;

use noodles_fasta::io::Reader;
use noodles_fasta::record::Definition;

use crate::fault::{Fault, fault_of, place};
use crate::lines::{Lines, Part};
use crate::tokenize::IllegalByte;
use crate::{Error, Result};

/// Reads FASTA piece by piece. noodles finds names and line ends; [`Lines`] keeps it from taking
/// a `>` or CR that happens to start a buffer for a new record or a line end.
pub(crate) struct FastaReader {
    inner: Reader<Lines>,
    definition: Definition,
    path: Arc<str>,
    id: Arc<str>,
    /// Bases of the record handed out so far.
    bases: u64,
    records: u64,
}

impl FastaReader {
    /// `lines` stands at the first `>`.
    pub(crate) fn new(lines: Lines, path: Arc<str>) -> Self {
        let (inner, definition) = (Reader::new(lines), Definition::default());
        Self { inner, definition, path, id: "".into(), bases: 0, records: 0 }
    }

    /// Goes on with `lines`, which stands at the definition line behind that many records.
    pub(crate) fn resume(&mut self, lines: Lines, records: u64) {
        self.inner = Reader::new(lines);
        (self.records, self.bases) = (records, 0);
    }

    /// Bases of the record handed out so far.
    pub(crate) fn bases(&self) -> u64 {
        self.bases
    }

    /// Starts the next record and gives its id. The one before must have been read to its end.
    pub(crate) fn begin(&mut self) -> Result<Option<Arc<str>>> {
        let line = self.inner.get_ref().line();
        self.definition_line().map_err(|e| place(e, &self.path, line))?.transpose()
    }

    fn definition_line(&mut self) -> io::Result<Option<Result<Arc<str>>>> {
        let lines = self.inner.get_mut();
        lines.set_part(Part::Free);
        lines.skip_empty_lines()?;
        if lines.peek(1)?.is_empty() {
            return Ok(None);
        }
        self.records += 1;
        self.bases = 0;
        lines.close_gap()?;
        if let [_] | [_, b'\n', ..] | [_, b'\r', b'\n', ..] = lines.peek(3)? {
            let line = lines.line();
            lines.skip_line()?;
            let path = self.path.to_string();
            return Ok(Some(Err(Error::NoId { path, record: self.records, line, marker: '>' })));
        }
        lines.set_part(Part::definition());
        self.inner.read_definition(&mut self.definition)?;
        self.id = String::from_utf8_lossy(self.definition.name()).into();
        Ok(Some(Ok(self.id.clone())))
    }

    /// Hands the next 1 to `room` bases to `take` and says how many; 0 at the record's end.
    pub(crate) fn piece(
        &mut self,
        room: usize,
        take: impl FnOnce(&[u8]) -> std::result::Result<(), IllegalByte>,
    ) -> Result<usize> {
        self.inner.get_mut().set_part(Part::Sequence { most: room });
        let mut sequence = self.inner.sequence_reader();
        let bad = match sequence.fill_buf() {
            Ok(piece) => match take(piece) {
                Ok(()) => {
                    let n = piece.len();
                    sequence.consume(n);
                    self.bases += n as u64;
                    return Ok(n);
                }
                Err(bad) => bad,
            },
            Err(e) => match fault_of(&e) {
                Some(&Fault::Stray(byte)) => IllegalByte { at: 0, byte },
                _ => return Err(place(e, &self.path, self.inner.get_ref().line())),
            },
        };
        Err(Error::NotNucleotide {
            path: self.path.to_string(),
            id: self.id.to_string(),
            base: self.bases + bad.at as u64 + 1,
            line: self.inner.get_ref().line(),
            byte: bad.byte,
        })
    }

    /// Passes over the rest of the record, whatever it holds.
    pub(crate) fn skip(&mut self) -> Result<()> {
        let lines = self.inner.get_mut();
        lines.set_part(Part::Skipped);
        loop {
            let next = match lines.peek(1) {
                Ok(bytes) => bytes.first().copied(),
                Err(e) => return Err(place(e, &self.path, lines.line())),
            };
            if next.is_none() || (next == Some(b'>') && lines.at_line_start()) {
                return Ok(());
            }
            lines.skip_line().map_err(|e| place(e, &self.path, lines.line()))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{error, records};

    #[track_caller]
    fn same(text: &[u8], want: &[(&str, &str)]) {
        for (block_len, step) in [(1, 1), (2, 3), (5, 1 << 20), (1 << 20, 1 << 20)] {
            let got = records("x.fa", text, block_len, step).unwrap();
            let got: Vec<_> = got.iter().map(|(id, seq)| (id.as_str(), seq.as_str())).collect();
            assert_eq!(got, want, "block_len {block_len} step {step}");
        }
    }

    /// The message, the same for any block and buffer.
    #[track_caller]
    fn fails(text: &[u8], message: &str) {
        for (block_len, step) in [(1, 1), (2, 3), (5, 1 << 20), (1 << 20, 1 << 20)] {
            let got = error("x.fa", text, block_len, step);
            assert_eq!(got.to_string(), message, "block_len {block_len} step {step}");
        }
    }

    #[test]
    fn plain() {
        same(b">a first\nACGT\nAC\n>b\nGG\n", &[("a", "ACGTAC"), ("b", "GG")]);
        same(b">a\nACGT\n>b\nGG", &[("a", "ACGT"), ("b", "GG")]);
    }

    #[test]
    fn line_ends_and_blank_lines() {
        same(b">a x\r\nAC\r\nGT\r\n>b\r\nGG\r\n", &[("a", "ACGT"), ("b", "GG")]);
        same(b"\n\r\n>a\n\nAC\n\n\r\nGT\n\n>b\n\n\nGG\n\n\n", &[("a", "ACGT"), ("b", "GG")]);
        same(b"\xef\xbb\xbf>a\r\nAC\n", &[("a", "AC")]);
    }

    #[test]
    fn empty_records() {
        same(b">a\n>b\n\n>c\nA\n>d", &[("a", ""), ("b", ""), ("c", "A"), ("d", "")]);
    }

    #[test]
    fn ids() {
        same(b"> \t a b\nAC\n", &[("a", "AC")]);
        same(b">a>b\tc\nAC\n", &[("a>b", "AC")]);
        same(b">a\xffb\nAC\n>a\nA\n>a\nC\n", &[("a\u{fffd}b", "AC"), ("a", "A"), ("a", "C")]);
        fails(b"\n>a\nAC\n>\nAC\n", "x.fa: record 2 (line 4): no id after the '>'; give it one");
        fails(b"> \t\r\nAC\n", "x.fa: record 1 (line 1): no id after the '>'; give it one");
        fails(b">", "x.fa: record 1 (line 1): no id after the '>'; give it one");
    }

    #[test]
    fn illegal_bytes_have_a_place() {
        let at = |base, line, byte: &str| {
            format!(
                "x.fa: record 'b', base {base} (line {line}): byte {byte} is not a nucleotide code; remove it"
            )
        };
        fails(b">a\nAC\n>b\nAC\n\nGT!A\n", &at(5, 6, "0x21 '!'"));
        fails(b">b\r\nAC\r\nG T\r\n", &at(4, 3, "0x20 ' '"));
        fails(b">b\nMKV\nLLE\n", &at(4, 3, "0x4c 'L'"));
        fails(b">b\nAC\xc3\xa9\n", &at(3, 2, "0xc3"));
        fails(b">b\nAC\0\n", &at(3, 2, "0x00"));
    }

    #[test]
    fn a_marker_inside_a_line_starts_no_record() {
        let message = "x.fa: record 'b', base 5 (line 3): byte 0x3e '>' is not a nucleotide code; remove it";
        fails(b">b\nAC\nGT>c\nAA\n", message);
        let at_buffer = [b">b\n".to_vec(), vec![b'A'; (128 << 10) - 3], b">c\nA\n".to_vec()].concat();
        let got = error("x.fa", &at_buffer, 1 << 20, 1 << 20).to_string();
        assert!(got.contains("base 131070 (line 2): byte 0x3e '>'"), "{got}");
    }

    #[test]
    fn a_lone_cr_does_not_vanish() {
        let at = |base, line| {
            format!(
                "x.fa: record 'b', base {base} (line {line}): byte 0x0d is not a nucleotide code; remove it"
            )
        };
        fails(b">b\nAC\rGT\n", &at(3, 2));
        fails(b">b\n\rGT\n", &at(1, 2));
        fails(b">b\nAC\r", &at(3, 2));
        fails(b">b\nAC\r\r\nGT", &at(3, 2));
        let mac = "x.fa: line 1: carriage return without line feed, as old Macs wrote; convert it with tr '\\r' '\\n'";
        fails(b">b\rAC\r", mac);
    }

    #[test]
    fn bytes_before_the_first_record() {
        fails(b"ACGT\n>a\n", "x.fa: not FASTA or FASTQ: it starts with \"ACGT\\n>a\\n\", not with > or @");
        fails(b";old\n>a\n", "x.fa: not FASTA or FASTQ: it starts with \";old\\n>a\\n\", not with > or @");
    }
}
