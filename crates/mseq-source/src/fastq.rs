use std::io::{self, BufRead};
use std::sync::Arc;

use crate::fault::{Fault, fault_of, place};
use crate::lines::{Lines, Part, line_len};
use crate::tokenize::IllegalByte;
use crate::{Error, Result};

/// Reads FASTQ piece by piece; sequence and quality may have several lines. The quality is
/// counted, not kept.
pub(crate) struct FastqReader {
    lines: Lines,
    path: Arc<str>,
    id: Arc<str>,
    /// Bases of the record handed out so far.
    bases: u64,
    records: u64,
    /// The definition line, kept for its memory.
    definition: Vec<u8>,
}

impl FastqReader {
    /// `lines` stands at the first `@`.
    pub(crate) fn new(lines: Lines, path: Arc<str>) -> Self {
        Self { lines, path, id: "".into(), bases: 0, records: 0, definition: Vec::new() }
    }

    /// Starts the next record and gives its id. The one before must have been read to its end.
    pub(crate) fn begin(&mut self) -> Result<Option<Arc<str>>> {
        self.definition_line().map_err(|e| self.place(e))?.transpose()
    }

    fn definition_line(&mut self) -> io::Result<Option<Result<Arc<str>>>> {
        self.lines.set_part(Part::Free);
        self.lines.skip_empty_lines()?;
        let Some(&byte) = self.lines.peek(1)?.first() else { return Ok(None) };
        self.records += 1;
        self.bases = 0;
        self.id = "".into();
        let (path, record, line) = (self.path.to_string(), self.records, self.lines.line());
        if byte != b'@' {
            return Ok(Some(Err(Error::NoAt { path, record, line, byte })));
        }
        self.lines.close_gap()?;
        self.lines.set_part(Part::definition());
        self.definition.clear();
        self.lines.read_until(b'\n', &mut self.definition)?;
        let words = self.definition.get(1..).unwrap_or_default();
        match words.split(u8::is_ascii_whitespace).next().filter(|id| !id.is_empty()) {
            Some(id) => self.id = String::from_utf8_lossy(id).into(),
            None => return Ok(Some(Err(Error::NoId { path, record, line, marker: '@' }))),
        }
        Ok(Some(Ok(self.id.clone())))
    }

    /// Hands the next 1 to `room` bases to `take` and says how many; 0 at the record's end, its
    /// quality checked.
    pub(crate) fn piece(
        &mut self,
        room: usize,
        take: impl FnOnce(&[u8]) -> std::result::Result<(), IllegalByte>,
    ) -> Result<usize> {
        self.lines.set_part(Part::Free);
        self.read_piece(room, take)
    }

    /// Passes over the rest of the record, whatever its sequence holds.
    pub(crate) fn skip(&mut self) -> Result<()> {
        self.lines.set_part(Part::Skipped);
        while self.read_piece(usize::MAX, |_| Ok(()))? > 0 {}
        Ok(())
    }

    fn read_piece(
        &mut self,
        room: usize,
        take: impl FnOnce(&[u8]) -> std::result::Result<(), IllegalByte>,
    ) -> Result<usize> {
        let bad = loop {
            let starts_line = self.lines.at_line_start();
            let bytes = match self.lines.fill_buf() {
                Ok(bytes) => bytes,
                Err(e) => match fault_of(&e) {
                    Some(&Fault::Stray(byte)) => break IllegalByte { at: 0, byte },
                    _ => return Err(self.place(e)),
                },
            };
            match bytes.first() {
                None => return Err(self.truncated()),
                Some(b'\n') => {
                    self.lines.consume(1);
                    continue;
                }
                Some(b'+') if starts_line => return self.quality().map(|()| 0),
                Some(b'@') if starts_line => {
                    let (path, id) = (self.path.to_string(), self.id.to_string());
                    return Err(Error::NoPlus { path, id, line: self.lines.line() });
                }
                Some(_) => {}
            }
            let bytes = &bytes[..bytes.len().min(room.max(1))];
            let n = line_len(bytes);
            match take(&bytes[..n]) {
                Ok(()) => {
                    self.lines.consume(n);
                    self.bases += n as u64;
                    return Ok(n);
                }
                Err(bad) => break bad,
            }
        };
        Err(Error::NotNucleotide {
            path: self.path.to_string(),
            id: self.id.to_string(),
            base: self.bases + bad.at as u64 + 1,
            line: self.lines.line(),
            byte: bad.byte,
        })
    }

    /// Reads the `+` line and as much quality as there are bases.
    fn quality(&mut self) -> Result<()> {
        self.lines.set_part(Part::Free);
        self.skip_line()?;
        let first_line = self.lines.line();
        let mut quality = 0;
        while quality < self.bases {
            let next = match self.lines.peek(1) {
                Ok(bytes) => bytes.first().copied(),
                Err(e) => return Err(self.place(e)),
            };
            let in_line = !self.lines.at_line_start();
            let Some(next) = next else {
                // A file that ends with a line end was written so; else it was cut.
                return Err(if quality == 0 || in_line {
                    self.truncated()
                } else {
                    self.quality_length(first_line, quality)
                });
            };
            let more = self.skip_line()?;
            // Too much, and it starts with '@': the next record, and the quality was too short.
            if quality + more > self.bases && quality > 0 && next == b'@' {
                return Err(self.quality_length(first_line, quality));
            }
            quality += more;
        }
        if quality > self.bases {
            return Err(self.quality_length(first_line, quality));
        }
        Ok(())
    }

    fn skip_line(&mut self) -> Result<u64> {
        self.lines.skip_line().map_err(|e| self.place(e))
    }

    fn place(&self, e: io::Error) -> Error {
        place(e, &self.path, self.lines.line())
    }

    fn truncated(&self) -> Error {
        let (path, id) = (self.path.to_string(), self.id.to_string());
        Error::TruncatedRecord { path, id, line: self.lines.line() }
    }

    fn quality_length(&self, line: u64, quality: u64) -> Error {
        let (path, id) = (self.path.to_string(), self.id.to_string());
        Error::QualityLength { path, id, line, bases: self.bases, quality }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{error, records};

    #[track_caller]
    fn same(text: &[u8], want: &[(&str, &str)]) {
        for (block_len, step) in [(1, 1), (2, 3), (5, 1 << 20), (1 << 20, 1 << 20)] {
            let got = records("x.fq", text, block_len, step).unwrap();
            let got: Vec<_> = got.iter().map(|(id, seq)| (id.as_str(), seq.as_str())).collect();
            assert_eq!(got, want, "block_len {block_len} step {step}");
        }
    }

    #[track_caller]
    fn fails(text: &[u8], message: &str) {
        for (block_len, step) in [(1, 1), (2, 3), (5, 1 << 20), (1 << 20, 1 << 20)] {
            let got = error("x.fq", text, block_len, step);
            assert_eq!(got.to_string(), message, "block_len {block_len} step {step}");
        }
    }

    #[test]
    fn plain() {
        let two = [("r1", "ACGT"), ("r2", "GG")];
        same(b"@r1 x\nACGT\n+\nIIII\n@r2\nGG\n+r2\n@@\n", &two);
        same(b"@r1 x\r\nACGT\r\n+\r\nIIII\r\n@r2\r\nGG\r\n+\r\n+@\r\n", &two);
        same(b"\xef\xbb\xbf\n@ r1 x\nACGT\n+\n>>>>\n\n\n@r2\nGG\n+\nII", &two);
    }

    #[test]
    fn several_lines() {
        same(b"@r1\nAC\nG\n\nT\n+\n@I\n+\n@\n@r2\nGG\n+\n@\n@\n", &[("r1", "ACGT"), ("r2", "GG")]);
    }

    #[test]
    fn empty_records() {
        same(b"@a\n\n+\n\n@b\n+\n@c\nA\n+\nI\n@d\n+", &[("a", ""), ("b", ""), ("c", "A"), ("d", "")]);
    }

    #[test]
    fn quality_of_another_length() {
        let bad = |line, quality| {
            format!(
                "x.fq: record 'r1' (line {line}): {quality} quality characters for 4 bases; the file is damaged"
            )
        };
        fails(b"@r1\nACGT\n+\nIII\n@r2\nGG\n+\nII\n", &bad(4, 3));
        fails(b"@r1\nACGT\n+\nIIIII\n@r2\nGG\n+\nII\n", &bad(4, 5));
        fails(b"@r1\nACGT\n+\nIII\n", &bad(4, 3));
    }

    #[test]
    fn damaged_records() {
        let cut = |line| {
            format!(
                "x.fq: record 'r1' (line {line}): the file ends inside this record: it is truncated; copy or download it again"
            )
        };
        fails(b"@r1\nACGT\n+\nIII", &cut(4));
        fails(b"@r1\nACGT\n+\n", &cut(4));
        fails(b"@r1\nACGT\n+", &cut(3));
        fails(b"@r1\nACGT\n", &cut(3));
        fails(b"@r1\nAC", &cut(2));
        fails(b"@r1", &cut(1));
        fails(
            b"@r1\nACGT\n@r2\nGG\n+\nII\n",
            "x.fq: record 'r1' (line 3): the next record starts before a '+' line; the file is damaged",
        );
        fails(
            b"@r1\nAC\n+\nII\nxx\n",
            "x.fq: line 5: FASTQ record 2 starts with byte 0x78 'x', not with '@'; the file is damaged",
        );
        fails(
            b"@r1\nAC\n+\nII\n@ \nAC\n+\nII\n",
            "x.fq: record 2 (line 5): no id after the '@'; give it one",
        );
    }

    #[test]
    fn illegal_bytes_have_a_place() {
        let at = |base, line, byte: &str| {
            format!(
                "x.fq: record 'r', base {base} (line {line}): byte {byte} is not a nucleotide code; remove it"
            )
        };
        fails(b"@r\nAC.T\n+\nIIII\n", &at(3, 2, "0x2e '.'"));
        fails(b"@r\nAC\nA>T\n+\nIIIII\n", &at(4, 3, "0x3e '>'"));
        fails(b"@r\nAC\rGT\n+\nIIII\n", &at(3, 2, "0x0d"));
        fails(b"@r\nAC+T\n+\nIIII\n", &at(3, 2, "0x2b '+'"));
    }
}
