//! Scores as bigWig, by `bigtools`. Here and not in mseq-sink, because it wants a runtime.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use bigtools::beddata::BedParserStreamingIterator;
use bigtools::{BigWigWrite, Value};
use mseq_core::RowBlock;
use mseq_sink::{Error, KeptRows, Pending, Report, Result, Sink};
use tokio::runtime::Builder;

/// Bytes of a value in the spool: start, end, number.
const EACH: usize = 12;

/// Rows of scores to one bigWig file, which appears under its name when it is complete.
///
/// The header of the format names every contig with its length before the first value, and contigs
/// come by name, so values wait in a file without a name, 12 bytes a row. Without `lengths` a contig ends at
/// its last row, which is the end of a whole record.
pub(crate) struct BigWigSink {
    pending: Pending,
    file: File,
    spool: BufWriter<File>,
    contigs: Vec<Contig>,
    lengths: Option<Arc<[u64]>>,
    rows: u64,
}

struct Contig {
    name: Arc<str>,
    index: u64,
    bases: u32,
    /// Values of it, and those of all contigs before it.
    values: u64,
    before: u64,
}

impl BigWigSink {
    /// Opens a temporary file beside `path`.
    pub(crate) fn create(path: &Path, lengths: Option<Arc<[u64]>>) -> Result<Self> {
        let (pending, file) = Pending::create(path)?;
        let spool = tempfile::tempfile().map_err(|cause| write_error(path, cause))?;
        Ok(Self { pending, file, spool: BufWriter::new(spool), contigs: Vec::new(), lengths, rows: 0 })
    }

    fn too_long<T>(&self, record: &str) -> Result<T> {
        self.fail(format!(
            "record '{record}' is longer than the 4,294,967,295 bases that bigWig can count; write .bedgraph or .parquet"
        ))
    }

    fn fail<T>(&self, message: String) -> Result<T> {
        Err(Error::Track { path: self.pending.path().to_owned(), message })
    }
}

impl Sink for BigWigSink {
    fn write(&mut self, rows: &RowBlock) -> Result<()> {
        for (key, score) in rows.keys.iter().zip(&rows.scores) {
            let (Ok(start), Ok(end)) = (u32::try_from(key.start), u32::try_from(key.end)) else {
                return self.too_long(&key.record);
            };
            if self.contigs.last().is_none_or(|contig| contig.index != key.record_index) {
                let (name, index, before) = (Arc::clone(&key.record), key.record_index, self.rows);
                let whole =
                    self.lengths.as_ref().and_then(|lengths| lengths.get(usize::try_from(index).ok()?));
                let Ok(bases) = u32::try_from(whole.copied().unwrap_or(0)) else {
                    return self.too_long(&key.record);
                };
                self.contigs.push(Contig { name, index, bases, values: 0, before });
            }
            let Some(contig) = self.contigs.last_mut() else { continue };
            contig.bases = contig.bases.max(end);
            let Some(bits) = score.bits() else { continue };
            let mut value = [0; EACH];
            value[..4].copy_from_slice(&start.to_le_bytes());
            value[4..8].copy_from_slice(&end.to_le_bytes());
            value[8..].copy_from_slice(&(bits as f32).to_le_bytes());
            contig.values += 1;
            self.rows += 1;
            self.spool.write_all(&value).map_err(|cause| write_error(self.pending.path(), cause))?;
        }
        Ok(())
    }

    fn keep(&mut self, _: KeptRows) -> Result<()> {
        self.fail("columns of a table have no place in bigWig; leave --keep out, or write .parquet".into())
    }

    fn finish(self: Box<Self>) -> Result<Report> {
        let mut by_name: BTreeMap<Arc<str>, &Contig> = BTreeMap::new();
        for contig in &self.contigs {
            if by_name.insert(Arc::clone(&contig.name), contig).is_some() {
                return Err(Error::same_name(self.pending.path(), &contig.name));
            }
        }
        if self.rows == 0 {
            return self.fail("no window has a score, and a bigWig can't be empty; write .parquet".into());
        }
        let path = self.pending.path().to_owned();
        let failed = |cause: io::Error| write_error(&path, cause);
        let sizes: HashMap<String, u32> =
            by_name.values().map(|contig| (contig.name.to_string(), contig.bases)).collect();
        let pieces: Vec<(String, u64, u64)> =
            by_name.values().map(|contig| (contig.name.to_string(), contig.before, contig.values)).collect();
        let spool = self.spool.into_inner().map_err(|e| failed(e.into_error()))?;
        let values =
            Values { spool: BufReader::with_capacity(1 << 16, spool), pieces: pieces.into_iter(), now: None };
        let runtime = Builder::new_multi_thread().worker_threads(1).build().map_err(failed)?;
        let out = BigWigWrite::new(self.file.try_clone().map_err(failed)?, sizes);
        let source = BedParserStreamingIterator::wrap_iter(values, false);
        out.write(source, runtime)
            .map_err(|e| Error::Track { path: path.clone(), message: format!("cannot be written: {e}") })?;
        let bytes = self.file.metadata().map_err(failed)?.len();
        self.pending.publish(&self.file)?;
        Ok(Report { rows: self.rows, bytes, row_groups: 0, path: Some(path) })
    }
}

fn write_error(path: &Path, cause: io::Error) -> Error {
    Error::Write { path: path.to_owned(), cause }
}

/// The values in the spool, contig by contig.
struct Values {
    spool: BufReader<File>,
    pieces: std::vec::IntoIter<(String, u64, u64)>,
    /// The contig, and how many of its values are left.
    now: Option<(String, u64)>,
}

impl Iterator for Values {
    type Item = io::Result<(String, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match &mut self.now {
                Some((name, left)) if *left > 0 => {
                    *left -= 1;
                    let name = name.clone();
                    let mut value = [0; EACH];
                    if let Err(e) = self.spool.read_exact(&mut value) {
                        return Some(Err(e));
                    }
                    let [a, b, c] =
                        [0, 4, 8].map(|at| [value[at], value[at + 1], value[at + 2], value[at + 3]]);
                    let (start, end) = (u32::from_le_bytes(a), u32::from_le_bytes(b));
                    return Some(Ok((name, Value { start, end, value: f32::from_le_bytes(c) })));
                }
                _ => {
                    let (name, before, values) = self.pieces.next()?;
                    if let Err(e) = self.spool.seek(SeekFrom::Start(before * EACH as u64)) {
                        return Some(Err(e));
                    }
                    self.now = Some((name, values));
                }
            }
        }
    }
}
