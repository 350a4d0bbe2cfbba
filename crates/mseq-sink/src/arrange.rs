//! Rows of a log in the order of the contract: record, then start, then strand.
//!
//! The engine gives the rows of a record as their windows close: first all of the forward strand,
//! then all of the reverse, from the record's end. Reading the log once forward and, for the
//! reverse strand, once backward puts them in order without holding them.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use arrow_ipc::reader::StreamReader;
use mseq_core::{RowBlock, RowKey, Score, Strand};

use crate::log::{failed, rows_of};
use crate::schema::Body;
use crate::{Error, KeptRows, Result, Sink};

/// How rows lie in a log that are to be put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrange {
    /// Bases of the longest window: a row that closes at base `e` starts no earlier than `e -
    /// longest`.
    pub longest: u64,
    /// The two strands of a window become one row, their mean, of strand `.`.
    pub combine: bool,
}

/// Batches that stay decoded: one for each place that is being read.
const CACHED: usize = 4;
/// Rows handed on at a time.
const BLOCK: usize = 64;

/// Where a row is: the batch at a byte of the log, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    batch: u64,
    row: u32,
}

/// Rows of one record and strand in one batch.
#[derive(Debug, Clone, Copy)]
struct Part {
    batch: u64,
    from: u32,
    to: u32,
}

/// Reads a log and gives its rows in order.
pub(crate) struct Arranger<'a> {
    file: &'a File,
    path: &'a Path,
    bytes: u64,
    body: &'a Body,
    /// Kept columns, the last ones.
    kept: usize,
    how: Arrange,
    /// The start of the log, which says what its batches are.
    schema: Vec<u8>,
    cache: VecDeque<(u64, Rc<RowBlock>)>,
    out: RowBlock,
}

/// Counts what went through it.
struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

impl<'a> Arranger<'a> {
    /// Over the first `bytes` of the log `file`, which is at its start.
    pub(crate) fn new(
        file: &'a File,
        path: &'a Path,
        bytes: u64,
        (body, kept): (&'a Body, usize),
        how: Arrange,
    ) -> Result<Self> {
        let out = RowBlock::new(body.dim());
        Ok(Self { file, path, bytes, body, kept, how, schema: Vec::new(), cache: VecDeque::new(), out })
    }

    /// Gives every row to `sink`.
    pub(crate) fn run(mut self, sink: &mut dyn Sink) -> Result<()> {
        let count = Rc::new(Cell::new(0));
        // A handle has one position, and rows are fetched while this goes on: each read seeks.
        let scan = BufReader::with_capacity(1 << 16, At { file: self.file, at: 0, end: self.bytes });
        let scan = Counting { inner: scan, count: Rc::clone(&count) };
        let mut scan = StreamReader::try_new(scan, None).map_err(|e| failed(self.path, e))?;
        self.schema = vec![0; count.get() as usize];
        let mut start = At { file: self.file, at: 0, end: self.bytes };
        start.read_exact(&mut self.schema).map_err(|cause| Error::write(self.path, cause))?;
        let (mut record, mut forward, mut reverse) = (None, Vec::new(), Vec::new());
        loop {
            let batch = count.get();
            let Some(found) = scan.next() else { break };
            let found = found.map_err(|e| failed(self.path, e))?;
            if self.kept > 0 {
                sink.keep(KeptRows::of_output(&found, found.num_columns() - self.kept)?)?;
            }
            let block = Rc::new(rows_of(&found, self.body));
            self.remember(batch, Rc::clone(&block));
            let mut from = 0;
            let same = |a: &RowKey, b: &RowKey| (a.record_index, a.strand) == (b.record_index, b.strand);
            for run in block.keys.chunk_by(same) {
                if record != Some(run[0].record_index) {
                    self.record(&forward, &reverse, sink)?;
                    forward.clear();
                    reverse.clear();
                    record = Some(run[0].record_index);
                }
                let part = Part { batch, from, to: from + run.len() as u32 };
                from = part.to;
                if run[0].strand == Strand::Reverse { &mut reverse } else { &mut forward }.push(part);
            }
        }
        self.record(&forward, &reverse, sink)?;
        self.send(sink)
    }

    /// Gives the rows of one record.
    fn record(&mut self, forward: &[Part], reverse: &[Part], sink: &mut dyn Sink) -> Result<()> {
        let mut forward = Ascending { parts: forward, at: 0, row: 0, heap: BinaryHeap::new(), seen: 0 };
        let mut reverse = Descending { parts: reverse, row: None };
        let mut plus = forward.next(self)?;
        let mut minus = reverse.next(self)?;
        loop {
            let plus_first = match (&plus, &minus) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) => a.0 <= b.0,
                (a, _) => a.is_some(),
            };
            if self.how.combine {
                let (Some(a), Some(b)) = (plus, minus) else {
                    return Err(self.broken("a row has no other strand"));
                };
                self.combine(a.1, b.1)?;
                (plus, minus) = (forward.next(self)?, reverse.next(self)?);
            } else if plus_first {
                if let Some(row) = plus {
                    self.push(row.1)?;
                }
                plus = forward.next(self)?;
            } else {
                if let Some(row) = minus {
                    self.push(row.1)?;
                }
                minus = reverse.next(self)?;
            }
            if self.out.len() >= BLOCK {
                self.send(sink)?;
            }
        }
    }

    fn send(&mut self, sink: &mut dyn Sink) -> Result<()> {
        if !self.out.is_empty() {
            sink.write(&self.out)?;
            self.out.keys.clear();
            self.out.values.clear();
            self.out.scores.clear();
        }
        Ok(())
    }

    fn push(&mut self, place: Place) -> Result<()> {
        let block = self.block(place.batch)?;
        self.out.keys.push(block.keys[place.row as usize].clone());
        self.out.values.extend_from_slice(block.row(place.row as usize));
        self.out.scores.extend(block.scores.get(place.row as usize));
        Ok(())
    }

    /// The mean of the two strands of a window; of scores their sum, whose bits a token are a mean.
    fn combine(&mut self, plus: Place, minus: Place) -> Result<()> {
        let (a, b) = (self.block(plus.batch)?, self.block(minus.batch)?);
        let (i, k) = (plus.row as usize, minus.row as usize);
        let key = RowKey { strand: Strand::Both, ..a.keys[i].clone() };
        if key != (RowKey { strand: Strand::Both, ..b.keys[k].clone() }) {
            return Err(self.broken("the strands of a window do not meet"));
        }
        self.out.keys.push(key);
        // Halved before they are added, which can't overflow.
        self.out.values.extend(a.row(i).iter().zip(b.row(k)).map(|(a, b)| 0.5 * a + 0.5 * b));
        if let (Some(a), Some(b)) = (a.scores.get(i), b.scores.get(k)) {
            self.out.scores.push(Score { nll: a.nll + b.nll, tokens: a.tokens + b.tokens });
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> Error {
        Error::Log { path: self.path.to_owned(), message: what.to_owned() }
    }

    fn remember(&mut self, batch: u64, block: Rc<RowBlock>) {
        if self.cache.len() >= CACHED {
            self.cache.pop_front();
        }
        self.cache.push_back((batch, block));
    }

    /// The batch at a byte of the log.
    fn block(&mut self, batch: u64) -> Result<Rc<RowBlock>> {
        if let Some(i) = self.cache.iter().position(|(at, _)| *at == batch)
            && let Some(found) = self.cache.remove(i)
        {
            let block = Rc::clone(&found.1);
            self.cache.push_back(found);
            return Ok(block);
        }
        let rest = BufReader::with_capacity(1 << 16, At { file: self.file, at: batch, end: self.bytes });
        let stream = StreamReader::try_new(self.schema.as_slice().chain(rest), None);
        let found = stream.map_err(|e| failed(self.path, e))?.next();
        let found = found.ok_or_else(|| self.broken("lost a batch"))?.map_err(|e| failed(self.path, e))?;
        let block = Rc::new(rows_of(&found, self.body));
        self.remember(batch, Rc::clone(&block));
        Ok(block)
    }

    /// What the order of a row depends on.
    fn key(&mut self, place: Place) -> Result<(u64, u64)> {
        let block = self.block(place.batch)?;
        let key = block.keys.get(place.row as usize).ok_or_else(|| self.broken("lost a row"))?;
        Ok((key.start, key.end))
    }
}

/// A part of a file, read from a place of its own.
struct At<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(out.len());
        self.file.seek(SeekFrom::Start(self.at))?;
        let n = self.file.read(&mut out[..room])?;
        self.at += n as u64;
        Ok(n)
    }
}

/// The start of a row, and where it is.
type Row = (u64, Place);

/// Rows that come in the order of their end, by start: a row waits until none can come before it.
struct Ascending<'p> {
    parts: &'p [Part],
    at: usize,
    row: u32,
    /// By start, end and the order in the log.
    heap: BinaryHeap<Reverse<(u64, u64, u64, Place)>>,
    seen: u64,
}

impl Ascending<'_> {
    fn next(&mut self, log: &mut Arranger<'_>) -> Result<Option<Row>> {
        loop {
            let coming = match self.parts.get(self.at) {
                None => None,
                Some(part) => {
                    let place = Place { batch: part.batch, row: part.from + self.row };
                    Some((log.key(place)?, place))
                }
            };
            let settled = self.heap.peek().is_some_and(|Reverse((start, ..))| {
                coming.is_none_or(|((_, end), _)| *start < end.saturating_sub(log.how.longest))
            });
            if settled {
                return Ok(self.heap.pop().map(|Reverse((start, _, _, place))| (start, place)));
            }
            let Some(((start, end), place)) = coming else { return Ok(None) };
            self.heap.push(Reverse((start, end, self.seen, place)));
            self.seen += 1;
            self.row += 1;
            if self.parts[self.at].from + self.row == self.parts[self.at].to {
                (self.at, self.row) = (self.at + 1, 0);
            }
        }
    }
}

/// Rows in the order in which they lie, from the last.
struct Descending<'p> {
    parts: &'p [Part],
    /// One past the next row of the last part.
    row: Option<u32>,
}

impl Descending<'_> {
    fn next(&mut self, log: &mut Arranger<'_>) -> Result<Option<Row>> {
        let Some((part, rest)) = self.parts.split_last() else { return Ok(None) };
        let row = self.row.unwrap_or(part.to) - 1;
        let place = Place { batch: part.batch, row };
        if row == part.from {
            (self.parts, self.row) = (rest, None);
        } else {
            self.row = Some(row);
        }
        Ok(Some((log.key(place)?.0, place)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mseq_core::{EmbeddingDType, ListType};
    use proptest::prelude::*;

    use super::*;
    use crate::{EmbedLayout, Options, Report, RowLog};

    /// Keeps what it is given.
    #[derive(Default)]
    struct Kept(Arc<std::sync::Mutex<RowBlock>>);

    impl Sink for Kept {
        fn write(&mut self, rows: &RowBlock) -> Result<()> {
            let mut all = self.0.lock().unwrap();
            all.dim = rows.dim;
            all.keys.extend(rows.keys.iter().cloned());
            all.values.extend_from_slice(&rows.values);
            Ok(())
        }

        fn keep(&mut self, _: KeptRows) -> Result<()> {
            Ok(())
        }

        fn finish(self: Box<Self>) -> Result<Report> {
            Ok(Report::default())
        }
    }

    fn key(record: u64, start: u64, end: u64, strand: Strand, region: usize) -> RowKey {
        RowKey {
            source: "x.fa".into(),
            record: format!("r{record}").into(),
            record_index: record,
            start,
            end,
            strand,
            region: Some(format!("i{region}").into()),
            rate: None,
        }
    }

    fn arranged(block: &RowBlock, cuts: usize, how: Arrange) -> RowBlock {
        let folder = tempfile::tempdir().unwrap();
        let layout = EmbedLayout {
            dim: block.dim,
            dtype: EmbeddingDType::F32,
            list: ListType::Fixed,
            region: true,
            seconds: false,
        };
        let options = Options { batch_bytes: 400, arrange: Some(how), ..Options::default() };
        let output = folder.path().join("x.parquet");
        let mut log = RowLog::create(&output, layout, &[], options, || {}).unwrap();
        let mut from = 0;
        while from < block.len() {
            let to = (from + cuts).min(block.len());
            log.write(&crate::testing::part(block, from, to)).unwrap();
            from = to;
        }
        let kept = Kept::default();
        let all = Arc::clone(&kept.0);
        log.finish_into(Box::new(kept)).unwrap();
        let rows = all.lock().unwrap();
        rows.clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_by_record_start_and_strand(
            records in prop::collection::vec(prop::collection::vec((0..200_u64, 1..40_u64), 0..60), 1..5),
            strands in 1..4_u8, cuts in 1..50_usize, combine in any::<bool>(),
        ) {
            let (dim, mut block) = (2, RowBlock::new(2));
            let combine = combine && strands == 3;
            let mut want: Vec<(RowKey, f32)> = Vec::new();
            for (r, windows) in records.iter().enumerate() {
                let r = r as u64;
                let mut windows: Vec<_> = windows.iter().enumerate().map(|(i, w)| (w.0, w.0 + w.1, i)).collect();
                windows.sort_by_key(|w| (w.0, w.1));
                let rows = |strand| windows.iter().map(move |w| key(r, w.0, w.1, strand, w.2));
                let value = |key: &RowKey| {
                    let sign = if key.strand == Strand::Reverse { -3.0 } else { 1.0 };
                    sign * (key.start * 1000 + key.end) as f32
                };
                let mut forward: Vec<_> = rows(Strand::Forward).filter(|_| strands & 1 > 0).collect();
                let reverse: Vec<_> = rows(Strand::Reverse).filter(|_| strands & 2 > 0).collect();
                for (i, plus) in forward.iter().enumerate().filter(|_| combine) {
                    let mean = 0.5 * value(plus) + 0.5 * value(&reverse[i]);
                    want.push((RowKey { strand: Strand::Both, ..plus.clone() }, mean));
                }
                if !combine {
                    let mut all: Vec<_> = forward.iter().chain(&reverse).map(|k| (k.clone(), value(k))).collect();
                    all.sort_by_key(|(k, _)| (k.start, k.strand == Strand::Reverse));
                    want.extend(all);
                }
                forward.sort_by_key(|k| k.end);
                for k in forward.into_iter().chain(reverse.into_iter().rev()) {
                    block.values.extend([value(&k); 2]);
                    block.keys.push(k);
                }
            }
            let got = arranged(&block, cuts, Arrange { longest: 39, combine });
            prop_assert_eq!(&got.keys, &want.iter().map(|w| w.0.clone()).collect::<Vec<_>>());
            prop_assert_eq!(got.values.len(), dim * want.len());
            prop_assert!(got.values.chunks(dim).zip(&want).all(|(v, w)| v == [w.1; 2]));
        }
    }
}
