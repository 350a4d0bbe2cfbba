use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decompress::{HEAD_BYTES, is_bgzf};
use crate::error::IndexError;
use crate::fai_build;
use crate::lines::MAX_DEFINITION_BYTES;
use crate::{Error, Result};

/// One record of a `.fai` index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaiRecord {
    /// First word of the definition line.
    pub name: Arc<str>,
    /// Bases of the record.
    pub bases: u64,
    /// Offset of the first base in the decompressed file, in bytes.
    pub offset: u64,
    /// Bases on each line but the last; 0 in an empty record.
    pub line_bases: u64,
    /// Bytes of each line but the last, its end counted; 0 in an empty record.
    pub line_width: u64,
}

impl FaiRecord {
    /// Offset of a base in the decompressed file.
    pub(crate) fn offset_of(&self, base: u64) -> u64 {
        match self.line_bases {
            0 => self.offset,
            n => self.offset + base / n * self.line_width + base % n,
        }
    }

    /// Offset behind the last base.
    pub(crate) fn end(&self) -> u64 {
        match self.bases {
            0 => self.offset,
            n => self.offset_of(n - 1) + 1,
        }
    }

    /// Whether no offset of the record overflows.
    fn fits(&self) -> bool {
        let lines = self.bases.checked_div(self.line_bases).unwrap_or(0);
        let end = lines.checked_mul(self.line_width).and_then(|n| n.checked_add(self.offset));
        end.and_then(|n| n.checked_add(self.line_width)).is_some_and(|n| n < 1 << 63)
    }
}

/// The `.fai` index of a FASTA file: where each record's bases are.
///
/// About 100 bytes a record are held. Names may occur more than once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FaiIndex {
    pub(crate) records: Vec<FaiRecord>,
}

impl FaiIndex {
    /// Reads the index file at `path`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a line that is wrong, with its column.
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.to_string_lossy();
        let file = File::open(path).map_err(|cause| Error::Io { path: label.to_string(), cause })?;
        Self::parse(&label, BufReader::new(file))
    }

    /// Reads an index called `path` in messages.
    ///
    /// ```
    /// let index = mseq_source::FaiIndex::parse("x.fa.fai", &b"chr1\t6\t6\t4\t5\n"[..])?;
    /// assert_eq!((&*index.records()[0].name, index.bases()), ("chr1", 6));
    /// # Ok::<(), mseq_source::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A stream that cannot be read, or a line that is wrong, with its column.
    pub fn parse(path: &str, mut reader: impl BufRead) -> Result<Self> {
        let (mut records, mut text, mut line) = (Vec::new(), Vec::new(), 0);
        loop {
            text.clear();
            line += 1;
            let limit = MAX_DEFINITION_BYTES as u64;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut text);
            if read.map_err(|cause| Error::Io { path: path.to_owned(), cause })? == 0 {
                return Ok(Self { records });
            }
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            records.push(parse_line(path, line, text)?);
        }
    }

    /// Makes the index of the plain FASTA file at `path` by reading it once.
    ///
    /// `None` when it cannot have one: lines of a record differ in length, blank lines stand
    /// inside a record, an id is missing, or the file is compressed or no FASTA.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn build(path: &Path) -> Result<Option<Self>> {
        let place = |cause| Error::Io { path: path.to_string_lossy().into_owned(), cause };
        let reader = BufReader::with_capacity(1 << 17, File::open(path).map_err(place)?);
        Ok(fai_build::build(reader).map_err(place)?.map(|records| Self { records }))
    }

    /// Writes the index as `samtools faidx` does.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for r in &self.records {
            let (name, bases) = (&r.name, r.bases);
            writeln!(out, "{name}\t{bases}\t{}\t{}\t{}", r.offset, r.line_bases, r.line_width)?;
        }
        Ok(())
    }

    /// The records, in file order.
    pub fn records(&self) -> &[FaiRecord] {
        &self.records
    }

    /// Bases of all records.
    pub fn bases(&self) -> u64 {
        self.records.iter().map(|r| r.bases).sum()
    }
}

fn parse_line(path: &str, line: u64, text: &[u8]) -> Result<FaiRecord> {
    let columns: Vec<_> = text.split(|&b| b == b'\t').collect();
    let [name, bases, offset, line_bases, line_width] = columns[..] else {
        return Err(IndexError::Columns { path: path.to_owned(), line, columns: columns.len() }.into());
    };
    let wrong = |column: usize, want| {
        let value = String::from_utf8_lossy(columns[column - 1]).into_owned();
        Error::from(IndexError::Column { path: path.to_owned(), line, column, value, want })
    };
    if name.is_empty() {
        return Err(wrong(1, "a record name"));
    }
    let number = |column: usize, text: &[u8]| {
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let value = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|t| t.parse::<u64>().ok());
        value.filter(|&n| n < 1 << 62).ok_or_else(|| wrong(column, "a number of bases or bytes"))
    };
    let record = FaiRecord {
        name: String::from_utf8_lossy(name).into(),
        bases: number(2, bases)?,
        offset: number(3, offset)?,
        line_bases: number(4, line_bases)?,
        line_width: number(5, line_width)?,
    };
    if record.bases > 0 && record.line_bases == 0 {
        return Err(wrong(4, "a line length of a record that has bases"));
    }
    let ends = record.line_width.checked_sub(record.line_bases);
    if record.bases > 0
        && !matches!(ends, Some(1 | 2))
        && (ends != Some(0) || record.bases > record.line_bases)
    {
        return Err(wrong(5, "the line length plus a line end of 1 or 2 bytes"));
    }
    if !record.fits() {
        return Err(wrong(2, "a length that fits any file"));
    }
    Ok(record)
}

/// The index files beside a FASTA file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFiles {
    /// `PATH.fai`.
    pub fai: PathBuf,
    /// `PATH.gzi`, of a BGZF file.
    pub gzi: Option<PathBuf>,
}

/// Finds the index of the file at `path`: `PATH.fai`, and of a BGZF file also `PATH.gzi`.
///
/// `None` when one is missing, and for gzip that is not BGZF, which has no random access.
///
/// # Errors
///
/// A file that cannot be read.
pub fn find_index(path: &Path) -> Result<Option<IndexFiles>> {
    let fai = beside(path, ".fai");
    let regular = |p: &Path| fs::metadata(p).is_ok_and(|data| data.is_file());
    if !regular(path) || !regular(&fai) {
        return Ok(None);
    }
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.map_err(|cause| Error::Io { path: path.to_string_lossy().into_owned(), cause })?;
    if !head.starts_with(b"\x1f\x8b") {
        return Ok(Some(IndexFiles { fai, gzi: None }));
    }
    let gzi = beside(path, ".gzi");
    let found = is_bgzf(&head) && regular(&gzi);
    Ok(found.then_some(IndexFiles { fai, gzi: Some(gzi) }))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{bgzf, gzip};

    fn error(text: &[u8]) -> String {
        FaiIndex::parse("x.fai", text).unwrap_err().to_string()
    }

    #[test]
    fn good_lines() {
        let text = b"a\t10\t3\t4\t5\nb\t0\t20\t0\t0\r\na\t3\t30\t3\t3\nc d\t2\t40\t60\t62";
        let index = FaiIndex::parse("x.fai", &text[..]).unwrap();
        assert_eq!(index.records().len(), 4);
        let a = &index.records()[0];
        assert_eq!((a.offset_of(0), a.offset_of(4), a.offset_of(9), a.end()), (3, 8, 14, 15));
        assert_eq!(index.records()[1].end(), 20);
        let mut out = Vec::new();
        index.write(&mut out).unwrap();
        assert_eq!(FaiIndex::parse("y", &out[..]).unwrap(), index);
        assert_eq!(FaiIndex::parse("x", &b""[..]).unwrap(), FaiIndex::default());
    }

    #[test]
    fn bad_lines_have_a_place() {
        let start = "x.fai: line 2, column";
        let second = |text: &str| error(format!("a\t10\t3\t4\t5\n{text}\n").as_bytes());
        assert_eq!(
            second("b\t1\t2\t3"),
            "x.fai: line 2: 4 columns where a .fai has 5; remake it with samtools faidx"
        );
        assert!(second("").contains("1 columns"));
        assert_eq!(
            second("b\tx\t2\t3\t4"),
            format!("{start} 2: 'x' is not a number of bases or bytes; remake it with samtools faidx")
        );
        for (text, column) in [
            ("\t1\t2\t3\t4", 1),
            ("b\t-1\t2\t3\t4", 2),
            ("b\t1\t+2\t3\t4", 3),
            ("b\t1\t99999999999999999999\t3\t4", 3),
            ("b\t1\t2\t0\t4", 4),
            ("b\t9\t2\t3\t3", 5),
            ("b\t9\t2\t3\t6", 5),
            ("b\t9\t2\t3\t2", 5),
            ("b\t4000000000000000000\t2\t1\t3", 2),
        ] {
            assert!(second(text).starts_with(&format!("{start} {column}")), "{text}: {}", second(text));
        }
    }

    #[test]
    fn indexes_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.fa", "b.fa", "a.fa.fai", "g.fa.gz.fai", "z.fa.gz.fai", "z.fa.gz.gzi", "y.fa.gz.fai"] {
            fs::write(at(name), b">a\nA\n").unwrap();
        }
        fs::write(at("g.fa.gz"), gzip(b">a\nA\n")).unwrap();
        fs::write(at("z.fa.gz"), bgzf(b">a\nA\n", 3)).unwrap();
        fs::write(at("y.fa.gz"), bgzf(b">a\nA\n", 3)).unwrap();
        let found = |name: &str| find_index(&at(name)).unwrap();
        assert_eq!(found("a.fa"), Some(IndexFiles { fai: at("a.fa.fai"), gzi: None }));
        assert_eq!(
            found("z.fa.gz"),
            Some(IndexFiles { fai: at("z.fa.gz.fai"), gzi: Some(at("z.fa.gz.gzi")) })
        );
        for name in ["b.fa", "g.fa.gz", "y.fa.gz", "gone.fa"] {
            assert_eq!(found(name), None, "{name}");
        }
    }
}
