use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec;

use mseq_core::{RecordHead, SequenceFormat};

use crate::decompress::{Bytes, decompress};
use crate::fasta::FastaReader;
use crate::fastq::FastqReader;
use crate::fault::place;
use crate::format::detect;
use crate::lines::Lines;
use crate::reverse::{BasesAt, IndexedRecord};
use crate::tokenize::IllegalByte;
use crate::{Error, IndexedFasta, Input, Result};

/// Bases that are rather read past than sought past.
const NEAR_BASES: u64 = 1 << 20;

/// Where bytes come from.
pub(crate) enum Origin {
    Input(Input),
    Reader(Arc<str>, Bytes),
}

enum Reader {
    Fasta(FastaReader),
    Fastq(FastqReader),
}

struct Open {
    name: Arc<str>,
    label: Arc<str>,
    format: SequenceFormat,
    reader: Reader,
    records: u64,
    indexed: Option<IndexedFasta>,
    /// Stored bytes of the inputs before this one.
    bytes_before: u64,
}

/// The records of all inputs, one after the other, as raw pieces.
pub(crate) struct Walk {
    origins: vec::IntoIter<Origin>,
    open: Option<Open>,
    /// Records begun, bad ones counted.
    records: u64,
    bytes: Arc<AtomicU64>,
    use_indexes: bool,
}

impl Walk {
    pub(crate) fn new(origins: Vec<Origin>) -> Self {
        let origins = origins.into_iter();
        Self { origins, open: None, records: 0, bytes: Arc::default(), use_indexes: false }
    }

    /// Opens the index of each file that has one.
    pub(crate) fn use_indexes(&mut self) {
        self.use_indexes = true;
    }

    /// Bytes read from the inputs as stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Starts the next record; `None` after the last of the last input.
    pub(crate) fn begin(&mut self) -> Result<Option<RecordHead>> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => match self.origins.next() {
                    Some(origin) => self.open.insert(Open::new(origin, &self.bytes, self.use_indexes)?),
                    None => return Ok(None),
                },
            };
            let begun = match &mut open.reader {
                Reader::Fasta(r) => r.begin(),
                Reader::Fastq(r) => r.begin(),
            };
            if !matches!(begun, Ok(None)) {
                open.records += 1;
                self.records += 1;
                let (source, format) = (open.name.clone(), open.format);
                let index = self.records - 1;
                return begun.map(|id| {
                    id.map(|id| RecordHead { source, id, index, format, reversed: None, signal: None })
                });
            }
            if open.records == 0 {
                return Err(Error::NoRecord { path: open.label.to_string() });
            }
            if open.indexed.is_some() {
                let size = open.indexed.as_ref().and_then(|f| std::fs::metadata(f.path()).ok());
                self.bytes
                    .fetch_max(open.bytes_before + size.map_or(0, |data| data.len()), Ordering::Relaxed);
            }
            self.open = None;
        }
    }

    /// The next 1 to `room` bases of the record; 0 at its end.
    pub(crate) fn piece(
        &mut self,
        room: usize,
        take: impl FnOnce(&[u8]) -> std::result::Result<(), IllegalByte>,
    ) -> Result<usize> {
        match self.open.as_mut().map(|open| &mut open.reader) {
            Some(Reader::Fasta(r)) => r.piece(room, take),
            Some(Reader::Fastq(r)) => r.piece(room, take),
            None => Ok(0),
        }
    }

    /// Passes over the rest of the record.
    pub(crate) fn skip(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.seek_next(&self.bytes)? {
            return Ok(());
        }
        match &mut open.reader {
            Reader::Fasta(r) => r.skip(),
            Reader::Fastq(r) => r.skip(),
        }
    }

    /// Whether the file has an index in use.
    pub(crate) fn is_indexed(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.indexed.is_some())
    }

    /// The record that was begun last, by the index of its file.
    pub(crate) fn indexed(&mut self) -> Option<IndexedRecord<'_>> {
        let open = self.open.as_mut()?;
        let record = open.records.checked_sub(1)? as usize;
        Some(IndexedRecord::new(open.indexed.as_mut()?, record))
    }

    pub(crate) fn indexed_bases(&mut self) -> Option<u64> {
        self.indexed().map(|record| record.bases())
    }

    /// The error of a byte found by the index at a 1-based base.
    pub(crate) fn not_nucleotide(&self, base: u64, byte: u8) -> Error {
        let (mut path, mut id, mut line) = (String::new(), String::new(), 0);
        if let Some(open) = &self.open {
            path = open.label.to_string();
            let number = open.records.saturating_sub(1) as usize;
            if let Some(fasta) = &open.indexed
                && let (Some(start), Some(record)) = (fasta.start(number), fasta.records().get(number))
            {
                id = record.name.to_string();
                line = start.line + 1 + base.saturating_sub(1).checked_div(record.line_bases).unwrap_or(0);
            }
        }
        Error::NotNucleotide { path, id, base, line, byte }
    }
}

impl Open {
    fn new(origin: Origin, bytes: &Arc<AtomicU64>, use_indexes: bool) -> Result<Self> {
        let bytes_before = bytes.load(Ordering::Relaxed);
        let path = match &origin {
            Origin::Input(input) if use_indexes => input.path().map(Path::to_owned),
            _ => None,
        };
        let (name, label, inner) = match origin {
            Origin::Input(input) => (input.name().clone(), input.label(), input.open()),
            Origin::Reader(name, inner) => (name.clone(), name, Ok(inner)),
        };
        let detected = inner.and_then(|inner| {
            let mut lines = Lines::new(decompress(Box::new(Counted { inner, bytes: bytes.clone() }))?);
            Ok((detect(&mut lines, &label)?, lines))
        });
        let (content, lines) = detected.map_err(|e| place(e, &label, 1))?;
        let format = content.sequence(&label)?;
        let reader = match format {
            SequenceFormat::Fasta => Reader::Fasta(FastaReader::new(lines, label.clone())),
            SequenceFormat::Fastq => Reader::Fastq(FastqReader::new(lines, label.clone())),
            // Text is never found to be sound.
            SequenceFormat::Audio => return Err(Error::NoRecord { path: label.to_string() }),
        };
        let indexed = match path.filter(|_| format == SequenceFormat::Fasta) {
            Some(path) => IndexedFasta::open(&path)?,
            None => None,
        };
        Ok(Self { name, label, format, reader, records: 0, indexed, bytes_before })
    }

    /// Goes to the next record by the index; `false` when there is none, or it is near.
    fn seek_next(&mut self, bytes: &Arc<AtomicU64>) -> Result<bool> {
        let (Some(fasta), Reader::Fasta(reader)) = (&self.indexed, &mut self.reader) else {
            return Ok(false);
        };
        let next = self.records as usize;
        let record = next.checked_sub(1).and_then(|i| fasta.records().get(i));
        if record.is_none_or(|r| r.bases.saturating_sub(reader.bases()) <= NEAR_BASES) {
            return Ok(false);
        }
        let Some(start) = fasta.start(next) else {
            reader.resume(Lines::new(Box::new(io::empty())), self.records);
            return Ok(true);
        };
        let open = || {
            let (inner, skip, stored) = fasta.bytes().stream(fasta.path(), start.offset)?;
            bytes.fetch_max(self.bytes_before + stored, Ordering::Relaxed);
            let counted = Counted { inner: Box::new(inner), bytes: bytes.clone() };
            let mut text = decompress(Box::new(counted))?;
            io::copy(&mut text.by_ref().take(skip), &mut io::sink())?;
            Ok(Lines::at_line(text, start.line))
        };
        reader.resume(open().map_err(|e| place(e, &self.label, start.line))?, self.records);
        Ok(true)
    }
}

struct Counted {
    inner: Bytes,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
