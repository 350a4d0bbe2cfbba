use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes_at::BytesAt;
use crate::fai::{FaiIndex, FaiRecord, IndexFiles, find_index};
use crate::fai_check::{Checked, Start, check};
use crate::{Error, Result};

/// Raw bytes fetched at a time.
const FETCH_BYTES: u64 = 256 * 1024;

/// Random access to the records of a FASTA file through its index: plain by `.fai`, BGZF by
/// `.fai` and `.gzi`.
pub struct IndexedFasta {
    bytes: BytesAt,
    path: PathBuf,
    index: FaiIndex,
    index_label: String,
    starts: Vec<Start>,
    /// Bytes as they are in the file, kept for their memory.
    raw: Vec<u8>,
}

impl IndexedFasta {
    /// Opens the file at `path` with the index beside it, which is compared with the file: every
    /// definition line must stand right before its record and nothing may be left over.
    ///
    /// `None` when the file has no index that can be used: none there, not FASTA, gzip that is
    /// not BGZF, or records of a name that occurs twice left out, as `samtools faidx` does.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an index that is damaged or does not match.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let Some(files) = find_index(path)? else { return Ok(None) };
        let mut bytes = BytesAt::open(path, &files)?;
        let mut head = Vec::new();
        bytes.read(0, 512, &mut head)?;
        let first = head.strip_prefix(crate::fai_build::BOM).unwrap_or(&head).trim_ascii_start().first();
        if first == Some(&b'@') {
            return Ok(None);
        }
        let index = FaiIndex::open(&files.fai)?;
        Self::checked(bytes, path, index, files.fai.to_string_lossy().into_owned())
    }

    /// Opens the plain file at `path` with an index made by [`FaiIndex::build`].
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that changed since.
    pub fn with_index(path: &Path, index: FaiIndex) -> Result<Self> {
        let files = IndexFiles { fai: PathBuf::new(), gzi: None };
        let (bytes, label) = (BytesAt::open(path, &files)?, "the index just made");
        Self::checked(bytes, path, index, label.into())?.ok_or_else(|| {
            let cause = std::io::Error::other("the file changed while it was read; start again");
            Error::Io { path: path.to_string_lossy().into_owned(), cause }
        })
    }

    fn checked(mut bytes: BytesAt, path: &Path, index: FaiIndex, label: String) -> Result<Option<Self>> {
        Ok(match check(&mut bytes, &index, &label)? {
            Checked::Whole(starts) => Some(Self {
                bytes,
                path: path.to_owned(),
                index,
                index_label: label,
                starts,
                raw: Vec::new(),
            }),
            Checked::LacksDoubles => None,
        })
    }

    /// The records, in file order and none left out: the `i`-th is the `i`-th of the file.
    pub fn records(&self) -> &[FaiRecord] {
        &self.index.records
    }

    /// The index.
    pub fn index(&self) -> &FaiIndex {
        &self.index
    }

    /// Name of a record.
    pub fn name(&self, record: usize) -> Option<&Arc<str>> {
        self.index.records.get(record).map(|r| &r.name)
    }

    /// Makes `out` the letters of `record` from base `start` on, without line ends: `len` of them,
    /// fewer where the record ends, none for a record that is not there.
    ///
    /// Letters are as in the file, whatever they are. `out` should be bounded by the caller:
    /// beyond it a fixed 256 KiB is held.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or whose lines are not as the index says.
    pub fn bases(&mut self, record: usize, start: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let Some(r) = self.index.records.get(record) else { return Ok(()) };
        let mut at = start.min(r.bases);
        let end = start.saturating_add(len as u64).min(r.bases);
        while at < end {
            let from = r.offset_of(at);
            let to = (r.offset_of(end - 1) + 1).min(from + FETCH_BYTES);
            self.raw.clear();
            self.bytes.read(from, to - from, &mut self.raw)?;
            let before = out.len();
            let whole = self.raw.len() as u64 == to - from;
            if !whole || !strip_ends(&self.raw, at % r.line_bases, r.line_bases, r.line_width, out) {
                let why = if whole { "has other line lengths" } else { "goes on behind the end of the file" };
                let (label, path) = (&self.index_label, self.bytes.label());
                return Err(crate::fai_check::mismatch(label, path, &r.name, why));
            }
            at += (out.len() - before) as u64;
        }
        Ok(())
    }

    /// Where the definition line of a record starts.
    pub(crate) fn start(&self, record: usize) -> Option<Start> {
        self.starts.get(record).copied()
    }

    pub(crate) fn bytes(&self) -> &BytesAt {
        &self.bytes
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Copies the letters of `raw`, which starts at letter `column` of a line; `false` when a line end
/// is not where it should be.
fn strip_ends(raw: &[u8], column: u64, line_bases: u64, line_width: u64, out: &mut Vec<u8>) -> bool {
    let (ends, mut rest) = ((line_width - line_bases) as usize, raw);
    let mut letters = usize::try_from(line_bases - column).unwrap_or(usize::MAX);
    while !rest.is_empty() {
        let (line, after) = rest.split_at(letters.min(rest.len()));
        out.extend_from_slice(line);
        let (end, after) = after.split_at(ends.min(after.len()));
        if !b"\r\n"[2 - ends..].starts_with(end) {
            return false;
        }
        rest = after;
        letters = usize::try_from(line_bases).unwrap_or(usize::MAX);
    }
    true
}
