use std::io::{self, BufRead, Read};

use crate::FaiRecord;
use crate::lines::{MAX_DEFINITION_BYTES, line_len};

/// The UTF-8 byte order mark.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// The lines of the record being measured.
#[derive(Default)]
struct Shape {
    bases: u64,
    line_bases: u64,
    line_width: u64,
    /// A line that only the last may be: shorter, blank, or without an end.
    last: bool,
}

impl Shape {
    /// Takes a line; `false` when the record is ragged.
    fn add(&mut self, bases: u64, width: u64) -> bool {
        if bases == 0 {
            self.last = true;
            return true;
        }
        if self.last {
            return false;
        }
        if self.bases == 0 {
            (self.line_bases, self.line_width) = (bases, width);
        }
        self.bases += bases;
        let end = width - bases;
        self.last = bases < self.line_bases || end == 0;
        bases <= self.line_bases && (end == 0 || end == self.line_width - self.line_bases)
    }
}

/// A piece of the line that is being read.
#[derive(Default)]
struct Line {
    bytes: u64,
    /// Its first byte.
    first: Option<u8>,
    cr_last: bool,
    /// The byte before the last is one too.
    cr_before: bool,
    /// A definition line, kept whole.
    text: Vec<u8>,
}

/// The records of a FASTA stream, `None` when an index cannot describe them.
pub(crate) fn build(mut reader: impl BufRead) -> io::Result<Option<Vec<FaiRecord>>> {
    let mut records: Vec<FaiRecord> = Vec::new();
    let (mut shape, mut line, mut offset) = (Shape::default(), Line::default(), 0_u64);
    let mut head = Vec::new();
    reader.by_ref().take(3).read_to_end(&mut head)?;
    if head == BOM {
        offset = 3;
        head.clear();
    }
    let mut reader = io::Cursor::new(head).chain(reader);
    loop {
        let bytes = match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let ended = bytes.is_empty();
        let len = line_len(bytes);
        let newline = len < bytes.len();
        let piece = &bytes[..len];
        if line.bytes == 0 {
            line.first = piece.first().copied();
        }
        line.bytes += len as u64;
        if let Some(&last) = piece.last() {
            let before = piece.len().checked_sub(2).map(|at| piece[at] == b'\r');
            line.cr_before = before.unwrap_or(line.cr_last);
            line.cr_last = last == b'\r';
        }
        if line.first == Some(b'>') {
            if line.text.len() + len > MAX_DEFINITION_BYTES {
                return Ok(None);
            }
            line.text.extend_from_slice(piece);
        }
        let used = len + usize::from(newline);
        offset += used as u64;
        reader.consume(used);
        if !newline && !ended {
            continue;
        }
        if line.first == Some(b'>') {
            finish(&mut records, &mut shape);
            let Some(name) = name(&line.text) else { return Ok(None) };
            records.push(FaiRecord { name, bases: 0, offset, line_bases: 0, line_width: 0 });
        } else {
            let crlf = newline && line.cr_last;
            let bases = line.bytes - u64::from(crlf);
            // A carriage return without line feed is no letter, and no end that an index knows.
            let stray = if crlf { line.cr_before } else { line.cr_last };
            let fits = shape.add(bases, line.bytes + u64::from(newline)) && !stray;
            if (bases > 0 && records.is_empty()) || !fits {
                return Ok(None);
            }
        }
        line.text.clear();
        line = Line { text: line.text, ..Line::default() };
        if ended {
            finish(&mut records, &mut shape);
            return Ok((!records.is_empty()).then_some(records));
        }
    }
}

fn finish(records: &mut [FaiRecord], shape: &mut Shape) {
    let shape = std::mem::take(shape);
    if let Some(record) = records.last_mut() {
        (record.bases, record.line_bases, record.line_width) =
            (shape.bases, shape.line_bases, shape.line_width);
    }
}

/// The id in a definition line without its end.
pub(crate) fn name(line: &[u8]) -> Option<std::sync::Arc<str>> {
    let line = line.get(1..)?.trim_ascii_start();
    let id = line.split(u8::is_ascii_whitespace).next().filter(|id| !id.is_empty())?;
    Some(String::from_utf8_lossy(id).into())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::tests::Dribble;

    fn built(text: &[u8]) -> Option<String> {
        let mut results = [1, 2, 3, 1 << 20].into_iter().map(|step| {
            let records = build(BufReader::with_capacity(7, Dribble::new(text, step))).unwrap()?;
            let mut out = Vec::new();
            crate::FaiIndex { records }.write(&mut out).unwrap();
            Some(String::from_utf8(out).unwrap())
        });
        let first = results.next().unwrap();
        assert!(results.all(|r| r == first));
        first
    }

    #[test]
    fn as_samtools_does() {
        let text = b">a x\nACGT\nACGT\nAC\n>b\n>c\nACG\n\n> d\tx\nAC";
        let want = "a\t10\t5\t4\t5\nb\t0\t21\t0\t0\nc\t3\t24\t3\t4\nd\t2\t35\t2\t2\n";
        assert_eq!(built(text).as_deref(), Some(want));
        let text = b"\xef\xbb\xbf\r\n>a\r\nACGT\r\nA\r\n>b\r\nA";
        assert_eq!(built(text).as_deref(), Some("a\t5\t9\t4\t6\nb\t1\t22\t1\t1\n"));
    }

    #[test]
    fn ragged_files_have_none() {
        for text in [
            &b">a\nAC\nACG\n"[..],
            b">a\nACG\nA\nACG\n",
            b">a\nACG\n\nACG\n",
            b">a\nACG\nACG\r\n",
            b">\nACG\n",
            b"ACG\n>a\nACG\n",
            b">a\nACG\r",
            b">a\nACG\r\n\r",
            b">a\nACG\r\r\n",
            b"",
            b"\n\n",
            b"\x1f\x8b\x08",
        ] {
            assert_eq!(built(text), None, "{}", text.escape_ascii());
        }
    }
}
