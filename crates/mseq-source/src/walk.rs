use std::io::{self, Read};
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
use crate::tokenize::IllegalByte;
use crate::{Error, Input, Result};

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
}

/// The records of all inputs, one after the other, as raw pieces.
pub(crate) struct Walk {
    origins: vec::IntoIter<Origin>,
    open: Option<Open>,
    /// Records begun, bad ones counted.
    records: u64,
    bytes: Arc<AtomicU64>,
}

impl Walk {
    pub(crate) fn new(origins: Vec<Origin>) -> Self {
        let origins = origins.into_iter();
        Self { origins, open: None, records: 0, bytes: Arc::default() }
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
                    Some(origin) => self.open.insert(Open::new(origin, &self.bytes)?),
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
                return begun.map(|id| id.map(|id| RecordHead { source, id, index, format }));
            }
            if open.records == 0 {
                return Err(Error::NoRecord { path: open.label.to_string() });
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
        match self.open.as_mut().map(|open| &mut open.reader) {
            Some(Reader::Fasta(r)) => r.skip(),
            Some(Reader::Fastq(r)) => r.skip(),
            None => Ok(()),
        }
    }
}

impl Open {
    fn new(origin: Origin, bytes: &Arc<AtomicU64>) -> Result<Self> {
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
        };
        Ok(Self { name, label, format, reader, records: 0 })
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
