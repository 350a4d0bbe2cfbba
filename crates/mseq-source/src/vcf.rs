//! Variants of a VCF file, line by line; plain, gzip or BGZF.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use noodles_vcf as vcf;
use noodles_vcf::variant::record::AlternateBases;

use crate::decompress::{Bytes, decompress};
use crate::fault::place;
use crate::tokenize::check;
use crate::{Error, Result};

/// Longest line that is read: thousands of samples fit.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// What is wrong in a VCF file, or between it and its reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcfError {
    /// The header can't be read.
    #[error("{path}: {cause}; is this a VCF file? its header begins with ##fileformat=VCFv4")]
    Header {
        /// The VCF file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A line that is no record.
    #[error("{path}: line {line}: {what}; mend the line")]
    Line {
        /// The VCF file.
        path: String,
        /// 1-based line.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A contig that the reference does not have.
    #[error(
        "{path}: line {line}: contig '{contig}' is not in {reference}, which has {has}; name the reference of this VCF"
    )]
    NoContig {
        /// The VCF file.
        path: String,
        /// 1-based line.
        line: u64,
        /// The name.
        contig: String,
        /// The reference.
        reference: String,
        /// Some names that are there.
        has: String,
    },
    /// A place past the end of its contig.
    #[error(
        "{path}: line {line}: {contig}:{pos} is past the end of the contig, which has {bases} bases in {reference}; name the reference of this VCF"
    )]
    PastEnd {
        /// The VCF file.
        path: String,
        /// 1-based line.
        line: u64,
        /// The contig.
        contig: String,
        /// 1-based place.
        pos: u64,
        /// Bases that it has.
        bases: u64,
        /// The reference.
        reference: String,
    },
    /// A REF that is not what the reference has there.
    #[error(
        "{path}: line {line}: REF {found} at {contig}:{pos}, where {reference} has {wanted}; name the reference of this VCF"
    )]
    Mismatch {
        /// The VCF file.
        path: String,
        /// 1-based line.
        line: u64,
        /// The contig.
        contig: String,
        /// 1-based place.
        pos: u64,
        /// The record's REF.
        found: String,
        /// What the reference has.
        wanted: String,
        /// The reference.
        reference: String,
    },
    /// Records that can't be scored, more than one.
    #[error("{path}: {count} records can't be scored: {list}; mend them, name the reference of this VCF")]
    Several {
        /// The VCF file.
        path: String,
        /// How many.
        count: u64,
        /// Each with its line.
        list: String,
    },
    /// The reference can't be used.
    #[error("{reference}: {what}")]
    Reference {
        /// The reference.
        reference: String,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// A contig that comes again after another.
    #[error("{path}: line {line}: contig '{contig}' comes again after others; sort the file (bcftools sort)")]
    Scattered {
        /// The VCF file.
        path: String,
        /// 1-based line.
        line: u64,
        /// The contig.
        contig: String,
    },
}

impl VcfError {
    /// Whether one record is bad, and reading can go on after it.
    pub fn is_bad_record(&self) -> bool {
        !matches!(self, Self::Header { .. } | Self::Scattered { .. } | Self::Reference { .. })
    }

    /// Line and fault of one bad record, for a list of them.
    pub fn in_list(&self) -> String {
        match self {
            Self::Line { line, what, .. } => format!("line {line}: {what}"),
            Self::NoContig { line, contig, .. } => format!("line {line}: no contig '{contig}'"),
            Self::PastEnd { line, contig, pos, bases, .. } => {
                format!("line {line}: {contig}:{pos} is past the end of its {bases} bases")
            }
            Self::Mismatch { line, contig, pos, found, wanted, .. } => {
                format!("line {line}: REF {found} at {contig}:{pos} where the reference has {wanted}")
            }
            other => other.to_string(),
        }
    }
}

/// One alternative allele.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Allele {
    /// Letters.
    Bases,
    /// `<DEL>` and the like, breakends, and `<*>`: no letters to score.
    Symbolic,
    /// `*`: the place is deleted by another record.
    Spanning,
    /// `.`: there is none.
    Missing,
}

impl Allele {
    /// What kind of allele an ALT is.
    pub fn of(alt: &str) -> Self {
        match alt.as_bytes() {
            b"*" => Self::Spanning,
            b"." | b"" => Self::Missing,
            b if b[0] == b'<' || b.iter().any(|c| matches!(c, b'[' | b']')) => Self::Symbolic,
            // A single breakend: a letter and a point.
            b if b[0] == b'.' || b[b.len() - 1] == b'.' => Self::Symbolic,
            _ => Self::Bases,
        }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcfRecord {
    /// 1-based line of the file.
    pub line: u64,
    /// The line, without its end.
    pub text: String,
    /// Contig.
    pub chrom: String,
    /// 1-based place of the first base of REF.
    pub pos: u64,
    /// REF, as the file has it.
    pub reference: String,
    /// ALTs, as the file has them; none where ALT is `.`.
    pub alternates: Vec<String>,
}

/// Reads a VCF file.
pub struct VcfReader {
    path: String,
    inner: BufReader<Bytes>,
    /// Lines before the line of column names.
    meta: Vec<String>,
    /// `#CHROM ...`.
    columns: String,
    line: u64,
    text: Vec<u8>,
}

impl VcfReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it can't be read or has no header of VCF.
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.to_string_lossy().into_owned();
        let file = File::open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: label.clone() },
            _ => place(e, &label, 0),
        })?;
        Self::read(&label, Box::new(file))
    }

    /// Reads the header of bytes; `path` is for messages.
    ///
    /// # Errors
    /// As for [`VcfReader::open`].
    pub fn read(path: &str, bytes: Box<dyn Read + Send>) -> Result<Self> {
        let inner = decompress(bytes).map_err(|e| place(e, path, 0))?;
        let mut reader = Self {
            path: path.to_owned(),
            inner: BufReader::with_capacity(256 << 10, inner),
            meta: Vec::new(),
            columns: String::new(),
            line: 0,
            text: Vec::new(),
        };
        let bad = |cause: String| Error::from(VcfError::Header { path: path.to_owned(), cause });
        let mut parser = vcf::header::Parser::default();
        loop {
            let Some(text) = reader.next_line()? else {
                return Err(bad("the header has no line of column names (#CHROM ...)".into()));
            };
            if !text.starts_with('#') {
                return Err(bad(format!("line {}: a record before the line of column names", reader.line)));
            }
            // Of the lines between the version and the names nothing is read here. Repeated ones, and ones that lack
            // a field, are common where files were merged: they are passed on as they are.
            if reader.line == 1 || !text.starts_with("##") {
                parser
                    .parse_partial(text.as_bytes())
                    .map_err(|e| bad(format!("line {}: {e}", reader.line)))?;
            }
            if text.starts_with("##") {
                reader.meta.push(text);
                continue;
            }
            reader.columns = text;
            parser.finish().map_err(|e| bad(e.to_string()))?;
            return Ok(reader);
        }
    }

    /// The file, as messages name it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The lines of the header: `##...`, then the one of column names.
    pub fn header(&self) -> (&[String], &str) {
        (&self.meta, &self.columns)
    }

    /// The line that was read last, without its end: a record, or what is none.
    pub fn last_line(&self) -> &[u8] {
        &self.text
    }

    /// The next line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<String>> {
        self.text.clear();
        let mut limited = self.inner.by_ref().take(MAX_LINE_BYTES);
        let io = |e| place(e, &self.path, self.line + 1);
        if limited.read_until(b'\n', &mut self.text).map_err(io)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        while self.text.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            self.text.pop();
        }
        match String::from_utf8(self.text.clone()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.bad("is not UTF-8")),
        }
    }

    fn bad(&self, what: impl Into<String>) -> Error {
        Error::from(VcfError::Line { path: self.path.clone(), line: self.line, what: what.into() })
    }

    /// The next record; `None` at the end. After an error of one record the reading can go on.
    ///
    /// # Errors
    /// When the file can't be read or the line is no record.
    #[expect(clippy::should_implement_trait, reason = "as the other sources: an error does not end it")]
    pub fn next(&mut self) -> Result<Option<VcfRecord>> {
        let text = loop {
            match self.next_line()? {
                None => return Ok(None),
                Some(text) if text.is_empty() => {}
                Some(text) => break text,
            }
        };
        if text.split('\t').count() < 8 {
            return Err(self.bad("fewer than the 8 columns of VCF, which are separated by tabs"));
        }
        let record = vcf::Record::try_from(text.as_bytes()).map_err(|e| self.bad(e.to_string()))?;
        let pos = match record.variant_start() {
            Some(Ok(pos)) => usize::from(pos) as u64,
            _ => return Err(self.bad("POS is not a number from 1 on")),
        };
        let reference = record.reference_bases().to_owned();
        if reference.is_empty() || check(reference.as_bytes()).is_err() {
            return Err(self.bad(format!("REF '{reference}' is not made of nucleotide codes")));
        }
        let alternates: Vec<String> = record
            .alternate_bases()
            .iter()
            .map(|alt| alt.map(str::to_owned))
            .collect::<io::Result<_>>()
            .map_err(|e| self.bad(e.to_string()))?;
        for alt in &alternates {
            if Allele::of(alt) == Allele::Bases && check(alt.as_bytes()).is_err() {
                return Err(self.bad(format!("ALT '{alt}' is neither nucleotide codes nor a symbol")));
            }
        }
        let chrom = record.reference_sequence_name().to_owned();
        Ok(Some(VcfRecord { line: self.line, chrom, pos, reference, alternates, text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "##fileformat=VCFv4.3\n##contig=<ID=c,length=9>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

    fn open(text: &str) -> Result<VcfReader> {
        VcfReader::read("v.vcf", Box::new(io::Cursor::new(text.as_bytes().to_vec())))
    }

    #[test]
    fn records_have_their_line_and_alleles() {
        let text =
            format!("{HEADER}c\t3\t.\tA\tC,<DEL>,*\t50.0\tPASS\tDP=3;X\r\n\nc\t4\trs1\tgT\t.\t.\t.\t.\n");
        let mut reader = open(&text).unwrap();
        assert_eq!(reader.header().0.len(), 2);
        let first = reader.next().unwrap().unwrap();
        assert_eq!((first.line, first.pos, &first.reference[..]), (4, 3, "A"));
        assert_eq!(first.alternates, ["C", "<DEL>", "*"]);
        assert_eq!(first.text, "c\t3\t.\tA\tC,<DEL>,*\t50.0\tPASS\tDP=3;X");
        let second = reader.next().unwrap().unwrap();
        assert_eq!((second.line, second.alternates.len()), (6, 0));
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn kinds_of_alleles() {
        for (alt, kind) in [
            ("ACGT", Allele::Bases),
            ("n", Allele::Bases),
            ("*", Allele::Spanning),
            ("<*>", Allele::Symbolic),
            ("<INS:ME>", Allele::Symbolic),
            ("G]17:198982]", Allele::Symbolic),
            ("[13:123457[C", Allele::Symbolic),
            ("G.", Allele::Symbolic),
            (".", Allele::Missing),
        ] {
            assert_eq!(Allele::of(alt), kind, "{alt}");
        }
    }

    #[test]
    fn what_is_no_vcf_is_said() {
        for (text, want) in [
            ("", "no line of column names"),
            (">chr1\nACGT\n", "line 1"),
            ("##fileformat=VCFv4.3\nc\t1\t.\tA\tC\t.\t.\t.\n", "line 2: a record before"),
            ("##fileformat=x\n#CHROM\tPOS\n", "line 1"),
        ] {
            let message = open(text).err().unwrap().to_string();
            assert!(message.starts_with("v.vcf: ") && message.contains(want), "{message}");
        }
    }

    #[test]
    fn headers_that_repeat_themselves_are_read() {
        let line = "##INFO=<ID=DP,Number=1,Type=Integer>\n##contig=<ID=c,length=9>\n";
        let text = format!(
            "##fileformat=VCFv4.3\n{line}{line}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nc\t1\t.\tA\tC\t.\t.\t.\n"
        );
        let mut reader = open(&text).unwrap();
        assert_eq!(reader.header().0.len(), 5);
        assert_eq!(reader.next().unwrap().unwrap().line, 7);
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let text = format!(
            "{HEADER}c\t0\t.\tA\tC\t.\t.\t.\nc\tx\t.\tA\tC\t.\t.\t.\nc\t1\t.\tA\nc\t1\t.\t!\tC\t.\t.\t.\nc\t1\t.\tA\tQ\t.\t.\t.\nc\t1\t.\tA\tC\t.\t.\t.\n"
        );
        let mut reader = open(&text).unwrap();
        for line in 4..=8 {
            let message = reader.next().unwrap_err().to_string();
            assert!(message.starts_with(&format!("v.vcf: line {line}: ")), "{message}");
        }
        assert_eq!(reader.next().unwrap().unwrap().line, 9);
    }
}
