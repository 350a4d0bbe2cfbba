use std::io::{self, BufRead, Read};

use crate::fault::Fault;

const BUFFER_BYTES: usize = 128 * 1024;

/// Longest definition line that is read: it is the one thing held whole.
pub(crate) const MAX_DEFINITION_BYTES: usize = 16 << 20;

/// What the bytes now read are part of: it decides which of them are stray.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// A definition line, of which this many bytes more are allowed.
    Definition { left: usize },
    /// FASTA sequence, handed out at most `most` bytes at a time. A `>` inside a line is stray:
    /// a parser that looks at the first byte of a buffer would take it for a new record.
    Sequence { most: usize },
    /// Anything, up to CR LF.
    Free,
    /// What is thrown away: nothing is stray.
    Skipped,
}

impl Part {
    pub(crate) fn definition() -> Self {
        Part::Definition { left: MAX_DEFINITION_BYTES }
    }
}

/// A buffered reader that counts lines, turns CR LF into LF and reports bytes that would else
/// be misread where two buffers meet.
pub(crate) struct Lines {
    inner: Box<dyn Read + Send>,
    buf: Box<[u8]>,
    pos: usize,
    end: usize,
    /// First CR at or after `pos`, else `end`.
    cr: usize,
    eof: bool,
    line: u64,
    at_line_start: bool,
    part: Part,
}

impl Lines {
    pub(crate) fn new(inner: Box<dyn Read + Send>) -> Self {
        Self {
            inner,
            buf: vec![0; BUFFER_BYTES].into_boxed_slice(),
            pos: 0,
            end: 0,
            cr: 0,
            eof: false,
            line: 1,
            at_line_start: true,
            part: Part::Free,
        }
    }

    /// A reader whose first line has the number `line`.
    pub(crate) fn at_line(inner: Box<dyn Read + Send>, line: u64) -> Self {
        Self { line, ..Self::new(inner) }
    }

    /// 1-based line of the next byte.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Whether the next byte is the first of a line.
    pub(crate) fn at_line_start(&self) -> bool {
        self.at_line_start
    }

    pub(crate) fn set_part(&mut self, part: Part) {
        self.part = part;
    }

    /// The next bytes as they are, at least `n` of them unless the end comes first.
    pub(crate) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.end - self.pos < n && !self.eof {
            self.buf.copy_within(self.pos..self.end, 0);
            self.end -= self.pos;
            self.pos = 0;
            while self.end < n && !self.eof {
                self.read_more()?;
            }
            self.find_cr();
        }
        Ok(&self.buf[self.pos..self.end])
    }

    /// Passes over a UTF-8 byte order mark.
    pub(crate) fn skip_bom(&mut self) -> io::Result<()> {
        if self.peek(3)?.starts_with(b"\xef\xbb\xbf") {
            self.pos += 3;
        }
        Ok(())
    }

    /// Passes over empty lines.
    pub(crate) fn skip_empty_lines(&mut self) -> io::Result<()> {
        loop {
            let n = match self.peek(2)? {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => return Ok(()),
            };
            self.pos += n;
            self.line += 1;
            self.at_line_start = true;
            self.find_cr();
        }
    }

    /// Drops blanks between the next byte, which stays, and what follows on its line.
    pub(crate) fn close_gap(&mut self) -> io::Result<()> {
        while let [marker, b' ' | b'\t' | b'\x0c', ..] = *self.peek(2)? {
            self.pos += 1;
            self.buf[self.pos] = marker;
        }
        Ok(())
    }

    /// Passes over the rest of the line and its end, and says how many bytes came before the end.
    pub(crate) fn skip_line(&mut self) -> io::Result<u64> {
        let mut n = 0;
        loop {
            let piece = self.fill_buf()?;
            if piece.is_empty() {
                return Ok(n);
            }
            let len = line_len(piece);
            let ended = len < piece.len();
            n += len as u64;
            self.consume(len + usize::from(ended));
            if ended {
                return Ok(n);
            }
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        loop {
            match self.inner.read(&mut self.buf[self.end..]) {
                Ok(n) => {
                    self.eof = n == 0;
                    self.end += n;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn find_cr(&mut self) {
        self.cr = self.pos + find(b'\r', &self.buf[self.pos..self.end]);
    }
}

/// Index of `byte`, or the length. `skip_until` is the one safe door of std to a fast memchr.
fn find(byte: u8, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    match rest.skip_until(byte) {
        Ok(n) if n > 0 && bytes[n - 1] == byte => n - 1,
        _ => bytes.len(),
    }
}

/// Bytes before the first LF.
pub(crate) fn line_len(bytes: &[u8]) -> usize {
    find(b'\n', bytes)
}

impl Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Lines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.pos == self.end {
            self.peek(1)?;
        }
        if let Part::Definition { left: 0 } = self.part {
            return Err(Fault::LongDefinition(MAX_DEFINITION_BYTES).into());
        }
        let skipped = matches!(self.part, Part::Skipped);
        let mut lone_cr = false;
        if self.pos < self.end && self.cr == self.pos {
            if let [b'\r', b'\n', ..] = self.peek(2)? {
                self.pos += 1;
                self.find_cr();
            } else if skipped {
                lone_cr = true;
            } else {
                return Err(Fault::Stray(b'\r').into());
            }
        }
        let mut end = if lone_cr { self.pos + 1 } else { self.cr };
        if let Part::Sequence { most } = self.part
            && self.pos < end
        {
            if self.buf[self.pos] == b'>' && !self.at_line_start {
                return Err(Fault::Stray(b'>').into());
            }
            end = end.min(self.pos.saturating_add(most.max(1)));
        }
        Ok(&self.buf[self.pos..end])
    }

    fn consume(&mut self, amount: usize) {
        let bytes = &self.buf[self.pos..self.pos + amount];
        let Some(last) = bytes.last() else { return };
        self.at_line_start = *last == b'\n';
        self.line += bytes.iter().filter(|&&b| b == b'\n').count() as u64;
        self.pos += amount;
        if self.cr < self.pos {
            self.find_cr();
        }
        if let Part::Definition { left } = &mut self.part {
            *left = left.saturating_sub(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::fault_of;
    use crate::tests::Dribble;

    fn lines(text: &[u8], step: usize) -> Lines {
        Lines::new(Box::new(Dribble::new(text, step)))
    }

    #[test]
    fn crlf_becomes_lf_and_lines_are_counted() {
        for step in 1..9 {
            let mut l = lines(b"ab\r\n\r\n\ncd\r\n", step);
            let mut out = Vec::new();
            l.read_to_end(&mut out).unwrap();
            assert_eq!((out.as_slice(), l.line()), (&b"ab\n\n\ncd\n"[..], 5), "{step}");
        }
    }

    #[test]
    fn a_lone_cr_is_stray_wherever_it_stands() {
        for text in [&b"\rab"[..], b"a\rb", b"ab\r", b"ab\r\r\n", b"\r"] {
            for step in 1..5 {
                let e = lines(text, step).read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(fault_of(&e), Some(&Fault::Stray(b'\r')), "{text:?} {step}");
                let mut l = lines(text, step);
                l.set_part(Part::Skipped);
                let mut out = Vec::new();
                l.read_to_end(&mut out).unwrap();
                assert_eq!(out.len(), text.len() - usize::from(text.ends_with(b"\r\n")));
            }
        }
    }

    #[test]
    fn a_marker_inside_a_line_is_stray_in_a_sequence() {
        let mut l = lines(b"A>C\n>d", 1);
        l.set_part(Part::Sequence { most: 9 });
        assert_eq!(l.fill_buf().unwrap(), b"A");
        l.consume(1);
        assert_eq!(fault_of(&l.fill_buf().unwrap_err()), Some(&Fault::Stray(b'>')));
        let mut l = lines(b"A\n>d", 1);
        l.set_part(Part::Sequence { most: 9 });
        assert_eq!(l.skip_line().unwrap(), 1);
        assert_eq!(l.fill_buf().unwrap(), b">");
    }

    #[test]
    fn gaps_close() {
        for step in 1..4 {
            let mut l = lines(b"> \t id x", step);
            l.close_gap().unwrap();
            let mut out = Vec::new();
            l.read_to_end(&mut out).unwrap();
            assert_eq!(out, b">id x");
        }
    }

    #[test]
    fn definitions_are_bounded() {
        let mut l = Lines::new(Box::new(io::repeat(b'x')));
        l.set_part(Part::definition());
        let e = l.read_until(b'\n', &mut Vec::new()).unwrap_err();
        assert_eq!(fault_of(&e), Some(&Fault::LongDefinition(MAX_DEFINITION_BYTES)));
    }
}
