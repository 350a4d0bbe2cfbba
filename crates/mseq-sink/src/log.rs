use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use flate2::Crc;
use mseq_core::{RowBlock, RowKey, Score, Strand};

use crate::arrange::Arranger;
use crate::column::RowBuffer;
use crate::kept::Trail;
use crate::schema::Body;
use crate::{Error, KeptMark, KeptRows, Options, ParquetSink, Report, Result, RowLayout, Sink};

/// Rows on their way to a Parquet file, in a form that survives being cut off anywhere.
///
/// A Parquet file is worth nothing without its footer, so a long job writes `OUT.partial` first:
/// an Arrow IPC stream, whose every prefix up to a [`RowLog::sync`] is complete.
/// [`RowLog::finish`] makes the Parquet file from it, under its name all at once, and removes it.
/// A log that is dropped stays, for [`RowLog::resume`].
pub struct RowLog {
    writer: StreamWriter<BufWriter<Appending>>,
    buffer: RowBuffer,
    file: File,
    log: PathBuf,
    output: PathBuf,
    layout: RowLayout,
    trail: Trail,
    metadata: Vec<(String, String)>,
    options: Options,
    failed: bool,
}

/// What of a log is safe on the disk: all that [`RowLog::resume`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// Its bytes.
    pub bytes: u64,
    /// Their CRC-32, as in gzip: Arrow has no checksum, and a damaged number looks like any other.
    pub crc32: u32,
    /// The kept values in them, if there are any.
    pub kept: Option<KeptMark>,
}

/// The file, and how much of it is written. While it `skips`, it swallows the schema that every
/// stream writer begins with and that a resumed log already has.
struct Appending {
    file: File,
    skips: bool,
    bytes: u64,
    crc: Crc,
}

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.skips {
            return Ok(bytes.len());
        }
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl RowLog {
    /// `OUT.partial` of an output.
    pub fn path_of(output: &Path) -> PathBuf {
        let mut name = output.as_os_str().to_owned();
        name.push(".partial");
        name.into()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// Whether `output` is a file that a rename can make, and not a device or a pipe.
    pub fn can_log(output: &Path) -> bool {
        !crate::file::writes_through(output)
    }

    /// Starts an empty log for `output`; one that is there is overwritten, after `locked` ran: what
    /// speaks of the old log must be gone before it is.
    ///
    /// # Errors
    /// As for [`ParquetSink::create`]; [`Error::Busy`] when another job writes it.
    pub fn create(
        output: &Path,
        layout: impl Into<RowLayout>,
        metadata: &[(String, String)],
        options: Options,
        locked: impl FnOnce(),
    ) -> Result<Self> {
        Self::open(output, layout.into(), metadata, options, None, locked)
    }

    /// Opens the log of `output` to append after what is `saved`; what follows is cut off. The kept
    /// columns, if there are any, are then to be given from the first record on.
    ///
    /// # Errors
    /// As for [`RowLog::create`]; [`Error::Log`] when the log is missing, shorter or damaged.
    pub fn resume(
        output: &Path,
        layout: impl Into<RowLayout>,
        metadata: &[(String, String)],
        options: Options,
        saved: &Saved,
    ) -> Result<Self> {
        Self::open(output, layout.into(), metadata, options, Some(saved), || {})
    }

    fn open(
        output: &Path,
        layout: RowLayout,
        metadata: &[(String, String)],
        options: Options,
        saved: Option<&Saved>,
        locked: impl FnOnce(),
    ) -> Result<Self> {
        let log = Self::path_of(output);
        let (file, crc, bytes) = lock_log(output, saved, locked)?;
        let kept = saved.and_then(|saved| saved.kept.clone());
        let fail = |cause| Error::Create { path: log.clone(), cause };
        let buffer = RowBuffer::new(&layout, &[])?;
        let appending = Appending { file: file.try_clone().map_err(fail)?, skips: bytes > 0, bytes, crc };
        let writer = BufWriter::new(appending);
        let mut writer = StreamWriter::try_new(writer, buffer.schema()).map_err(|e| failed(&log, e))?;
        writer.flush().map_err(|e| failed(&log, e))?;
        writer.get_mut().get_mut().skips = false;
        let (output, metadata, trail) = (output.to_owned(), metadata.to_vec(), Trail::new(kept));
        Ok(Self { writer, buffer, file, log, output, layout, trail, metadata, options, failed: false })
    }

    /// Takes the kept columns of records before the rows of these records come.
    ///
    /// # Errors
    /// As for [`Sink::keep`]; [`Error::OtherKept`] when a resumed job reads other values than those
    /// in the log.
    pub fn keep(&mut self, kept: KeptRows) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.trail.add(kept).and_then(|kept| kept.map_or(Ok(()), |k| self.buffer.keep(k)));
        self.failed = result.is_err();
        result
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    pub fn write(&mut self, rows: &RowBlock) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.append(rows);
        self.failed = result.is_err();
        result
    }

    fn append(&mut self, rows: &RowBlock) -> Result<()> {
        self.buffer.check(rows)?;
        for i in 0..rows.len() {
            self.buffer.push(rows, i)?;
            if self.buffer.bytes() >= self.options.batch_bytes {
                self.send()?;
            }
        }
        rows.keys.last().map_or(Ok(()), |key| self.trail.follow(key.record_index))
    }

    fn send(&mut self) -> Result<()> {
        match self.buffer.take()? {
            Some(batch) => self.writer.write(&batch).map_err(|e| failed(&self.log, e)),
            None => Ok(()),
        }
    }

    /// Puts every row so far on the disk, and says what is there.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn sync(&mut self) -> Result<Saved> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.send().and_then(|()| {
            self.writer.flush().map_err(|e| failed(&self.log, e))?;
            self.file.sync_data().map_err(|cause| Error::write(&self.log, cause))
        });
        self.failed = result.is_err();
        let written = self.writer.get_ref().get_ref();
        let (bytes, crc32) = (written.bytes, written.crc.sum());
        result.map(|()| Saved { bytes, crc32, kept: self.trail.mark() })
    }

    /// Makes the Parquet file, runs `published`, and removes the log: what speaks of the log must be
    /// gone before it is.
    ///
    /// # Errors
    /// As for [`Sink::finish`]; the log then stays.
    pub fn finish(mut self, published: impl FnOnce()) -> Result<Report> {
        if self.failed {
            return Err(Error::Failed);
        }
        let (layout, options) = (self.layout.clone(), self.options.clone());
        if options.encoders > 1 && layout.kept().is_empty() {
            // Read on a thread of its own, beside the encoders.
            let (output, metadata) = (self.output.clone(), std::mem::take(&mut self.metadata));
            return crate::finish_logs(vec![self], &output, layout, &metadata, options, published);
        }
        self.send()?;
        self.writer.flush().map_err(|e| failed(&self.log, e))?;
        let sink = ParquetSink::create(&self.output, layout, &self.metadata, options)?;
        let report = self.replay(Box::new(sink))?;
        published();
        remove(&self.log);
        Ok(report)
    }

    /// As [`RowLog::finish`], where the output is what `sink` makes.
    ///
    /// # Errors
    /// As for [`Sink::finish`]; the log then stays.
    pub fn finish_as(mut self, sink: Box<dyn Sink>, published: impl FnOnce()) -> Result<Report> {
        if self.failed {
            return Err(Error::Failed);
        }
        self.send()?;
        self.writer.flush().map_err(|e| failed(&self.log, e))?;
        let report = self.replay(sink)?;
        published();
        remove(&self.log);
        Ok(report)
    }

    /// Gives every row to `sink` and finishes it; the log stays.
    ///
    /// # Errors
    /// As for [`Sink::finish`].
    pub fn finish_into(mut self, sink: Box<dyn Sink>) -> Result<Report> {
        self.give(sink)
    }

    /// As [`RowLog::finish_into`]; the log stays locked as long as it is kept.
    pub(crate) fn give(&mut self, sink: Box<dyn Sink>) -> Result<Report> {
        if self.failed {
            return Err(Error::Failed);
        }
        self.send()?;
        self.writer.flush().map_err(|e| failed(&self.log, e))?;
        self.replay(sink)
    }

    fn replay(&self, mut sink: Box<dyn Sink>) -> Result<Report> {
        let bytes = self.writer.get_ref().get_ref().bytes;
        let mut file = &self.file;
        file.rewind().map_err(|cause| Error::write(&self.log, cause))?;
        let (body, kept) = (self.layout.body(), self.layout.kept().len());
        if let Some(how) = self.options.arrange {
            Arranger::new(&self.file, &self.log, bytes, (body, kept), how)?.run(&mut *sink)?;
            return sink.finish();
        }
        // Cut at what was written: nothing else may be in a file that was locked, but a file system
        // without locks can't promise it.
        let reader = BufReader::with_capacity(1 << 16, io::Read::take(file, bytes));
        let reader = StreamReader::try_new(reader, None).map_err(|e| failed(&self.log, e))?;
        for batch in reader {
            let batch = batch.map_err(|e| failed(&self.log, e))?;
            if kept > 0 {
                sink.keep(KeptRows::of_output(&batch, batch.num_columns() - kept)?)?;
            }
            sink.write(&rows_of(&batch, body))?;
        }
        sink.finish()
    }

    /// Removes the log: the job failed, and nothing of it is worth keeping.
    pub fn discard(self) {
        remove(&self.log);
    }
}

/// Opens `OUT.partial` to write after what is `saved`, and locks it; what follows is cut off. Gives the
/// file, and checksum and number of the bytes in it.
///
/// # Errors
/// As for [`RowLog::create`] and [`RowLog::resume`].
pub(crate) fn lock_log(
    output: &Path,
    saved: Option<&Saved>,
    locked: impl FnOnce(),
) -> Result<(File, Crc, u64)> {
    crate::check_output(output)?;
    let log = RowLog::path_of(output);
    let fail = |cause| Error::Create { path: log.clone(), cause };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(saved.is_none())
        .truncate(false)
        .open(&log)
        .map_err(|cause| match (saved, cause.kind()) {
            (Some(Saved { bytes, .. }), io::ErrorKind::NotFound) => {
                let message = format!("is missing, its checkpoint needs {bytes} bytes of it");
                Error::Log { path: log.clone(), message }
            }
            _ => fail(cause),
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { path: log }),
        // A file system without locks: two jobs on one output are the user's to avoid.
        Err(fs::TryLockError::Error(_)) => {}
    }
    // Whoever was killed while it made the Parquet file left it half made.
    crate::file::remove_pending(output);
    locked();
    let (bytes, crc32) = saved.map_or((0, 0), |saved| (saved.bytes, saved.crc32));
    let has = file.metadata().map_err(fail)?.len();
    if has < bytes {
        let message = format!("has {has} bytes, its checkpoint needs {bytes}");
        return Err(Error::Log { path: log, message });
    }
    // Before the rest is cut off: of a damaged log nothing is lost.
    let crc = crc_of(&mut file, bytes).map_err(fail)?;
    if crc.sum() != crc32 {
        let message = format!("its first {bytes} bytes are not those that its checkpoint speaks of");
        return Err(Error::Log { path: log, message });
    }
    file.set_len(bytes).map_err(fail)?;
    file.seek(SeekFrom::Start(bytes)).map_err(fail)?;
    Ok((file, crc, bytes))
}

/// Of the first `bytes` of a file.
fn crc_of(file: &mut File, bytes: u64) -> io::Result<Crc> {
    let mut crc = Crc::new();
    let mut reader = BufReader::with_capacity(1 << 16, file.take(bytes));
    loop {
        let piece = io::BufRead::fill_buf(&mut reader)?;
        let len = piece.len();
        if len == 0 {
            return Ok(crc);
        }
        crc.update(piece);
        io::BufRead::consume(&mut reader, len);
    }
}

/// Best effort: a log that can't be removed does no harm.
pub(crate) fn remove(path: &Path) {
    fs::remove_file(path).ok();
}

pub(crate) fn failed(path: &Path, cause: ArrowError) -> Error {
    match cause {
        ArrowError::IoError(_, io) => Error::write(path, io),
        cause => Error::Log { path: path.to_owned(), message: cause.to_string() },
    }
}

/// The numbers of all lists, one after the other. Lists of another width than the layout's show in how many there are.
fn numbers_of(lists: &dyn Array) -> Option<Vec<f32>> {
    let (values, range) = match lists.as_fixed_size_list_opt() {
        Some(lists) => (lists.values(), lists.value_offset_at(0)..lists.value_offset_at(lists.len())),
        None => {
            let lists = lists.as_list_opt::<i32>()?;
            let offsets = lists.value_offsets();
            let at = |offset: Option<&i32>| usize::try_from(*offset?).ok();
            (lists.values(), at(offsets.first())?..at(offsets.last())?)
        }
    };
    match values.as_primitive_opt::<Float32Type>() {
        Some(f32s) => Some(f32s.values().get(range)?.to_vec()),
        None => {
            let f16s = values.as_primitive_opt::<Float16Type>()?;
            Some(f16s.values().get(range)?.iter().map(|v| v.to_f32()).collect())
        }
    }
}

/// The rows of a batch that this module wrote. A column of another type gives no row.
pub(crate) fn rows_of(batch: &RecordBatch, body: &Body) -> RowBlock {
    let dim = body.dim();
    let mut block = RowBlock::new(dim);
    // Kept columns may follow.
    let Some(keys) = batch.columns().get(..5) else { return block };
    let Some(strand) = batch.column_by_name("strand") else { return block };
    let lists = body.list().map(|name| batch.column_by_name(name));
    if matches!(lists, Some(None)) {
        return block;
    }
    // Rates are not written: seconds tell them, exactly, since an end is never 0.
    let seconds = batch.column_by_name("end_s").and_then(|c| c.as_primitive_opt::<Float64Type>());
    let region = batch.column_by_name("region").and_then(|region| region.as_string_opt::<i32>());
    let [source, record, index, start, end] = keys else { return block };
    let (Some(source), Some(record), Some(strand)) =
        (source.as_string_opt::<i32>(), record.as_string_opt::<i32>(), strand.as_string_opt::<i32>())
    else {
        return block;
    };
    let number = |column: &std::sync::Arc<dyn Array>, i: usize| {
        column.as_primitive_opt::<UInt64Type>().map_or(0, |c| c.value(i))
    };
    block.keys.reserve(batch.num_rows());
    // Neighbouring rows share their texts.
    let mut shared: [std::sync::Arc<str>; 3] = ["".into(), "".into(), "".into()];
    for i in 0..batch.num_rows() {
        let texts = [source.value(i), record.value(i), region.map_or("", |region| region.value(i))];
        for (shared, text) in shared.iter_mut().zip(texts) {
            if **shared != *text {
                *shared = text.into();
            }
        }
        block.keys.push(RowKey {
            source: shared[0].clone(),
            record: shared[1].clone(),
            record_index: number(index, i),
            start: number(start, i),
            end: number(end, i),
            strand: match strand.value(i) {
                "+" => Strand::Forward,
                "-" => Strand::Reverse,
                _ => Strand::Both,
            },
            region: region.is_some().then(|| shared[2].clone()),
            rate: seconds.and_then(|s| NonZeroU32::new((number(end, i) as f64 / s.value(i)).round() as u32)),
        });
    }
    if let Some(Some(lists)) = lists {
        match numbers_of(lists) {
            Some(values) => block.values = values,
            None => return RowBlock::new(dim),
        }
    }
    if let Body::Predict(_) = body {
        match batch.column_by_name("prediction").and_then(|c| c.as_primitive_opt::<Float32Type>()) {
            Some(numbers) => block.values.extend_from_slice(numbers.values()),
            None => return RowBlock::new(dim),
        }
    } else if lists.is_none() {
        let nll = batch.column_by_name("nll").and_then(|c| c.as_primitive_opt::<Float64Type>());
        let tokens = batch.column_by_name("tokens").and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let (Some(nll), Some(tokens)) = (nll, tokens) else { return RowBlock::new(dim) };
        let score =
            |i| Score { nll: if nll.is_null(i) { 0.0 } else { nll.value(i) }, tokens: tokens.value(i) };
        block.scores = (0..batch.num_rows()).map(score).collect();
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmbedLayout;
    use crate::testing::{layouts, metadata, part, rows};

    fn small() -> Options {
        Options { batch_bytes: 700, row_group_bytes: 4096, encoders: 3, ..Options::default() }
    }

    /// The file that a sink makes of the same rows at once.
    fn direct(folder: &Path, layout: EmbedLayout, block: &RowBlock) -> Vec<u8> {
        let path = folder.join("direct.parquet");
        let mut sink = Box::new(ParquetSink::create(&path, layout, &metadata(), small()).unwrap());
        sink.write(block).unwrap();
        sink.finish().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn a_log_cut_off_and_resumed_ends_in_the_same_file() {
        for layout in layouts(5) {
            let folder = tempfile::tempdir().unwrap();
            let output = folder.path().join("x.parquet");
            let block = rows(300, 5);
            let wanted = direct(folder.path(), layout, &block);
            let mut log = RowLog::create(&output, layout, &metadata(), small(), || {}).unwrap();
            log.write(&part(&block, 0, 120)).unwrap();
            let saved = log.sync().unwrap();
            log.write(&part(&block, 120, 290)).unwrap();
            drop(log);
            // What came after the sync was cut anywhere, or is nonsense.
            let path = RowLog::path_of(&output);
            fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"nonsense").unwrap();
            let mut log = RowLog::resume(&output, layout, &metadata(), small(), &saved).unwrap();
            log.write(&part(&block, 120, 200)).unwrap();
            let saved = log.sync().unwrap();
            drop(log);
            let mut log = RowLog::resume(&output, layout, &metadata(), small(), &saved).unwrap();
            assert!(!output.exists());
            log.write(&part(&block, 200, 300)).unwrap();
            assert_eq!(log.finish(|| assert!(path.exists())).unwrap().rows, 300);
            assert_eq!(fs::read(&output).unwrap(), wanted);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_can_go_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        let layout = layouts(3).next().unwrap();
        let saved = |bytes| Saved { bytes, ..Saved::default() };
        assert!(matches!(RowLog::resume(&output, layout, &[], small(), &saved(10)), Err(Error::Log { .. })));
        let log = RowLog::create(&output, layout, &[], small(), || {}).unwrap();
        assert!(matches!(RowLog::create(&output, layout, &[], small(), || {}), Err(Error::Busy { .. })));
        drop(log);
        assert!(matches!(
            RowLog::resume(&output, layout, &[], small(), &saved(1 << 20)),
            Err(Error::Log { .. })
        ));
        RowLog::create(&output, layout, &[], small(), || {}).unwrap().discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_log_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        let layout = layouts(3).next().unwrap();
        let mut log = RowLog::create(&output, layout, &[], small(), || {}).unwrap();
        log.write(&rows(50, 3)).unwrap();
        let saved = log.sync().unwrap();
        log.write(&rows(50, 3)).unwrap();
        drop(log);
        let path = RowLog::path_of(&output);
        let good = fs::read(&path).unwrap();
        for at in (0..saved.bytes as usize).step_by(97) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let refused = RowLog::resume(&output, layout, &[], small(), &saved).err().unwrap();
            assert!(matches!(refused, Error::Log { .. }), "{at}: {refused}");
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
        fs::write(&path, &good).unwrap();
        let log = RowLog::resume(&output, layout, &[], small(), &saved).unwrap();
        assert_eq!(log.finish(|| {}).unwrap().rows, 50);
    }
}
