use std::io::{self, BufWriter, Write};
use std::path::Path;

use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use mseq_core::RowBlock;

use crate::column::RowBuffer;
use crate::{Error, KeptRows, Options, Report, Result, RowLayout, Sink};

/// Rows to an Arrow IPC stream: a schema, then record batches, each flushed as it is complete.
pub struct IpcSink<W: Write + Send> {
    writer: StreamWriter<BufWriter<Counted<W>>>,
    buffer: RowBuffer,
    batch_bytes: usize,
    rows: u64,
    batches: u64,
    failed: bool,
}

impl<W: Write + Send> IpcSink<W> {
    /// Writes the schema, `metadata` (`mamba_seq.*` keys) included.
    ///
    /// Of `options` only `batch_bytes` matters: a stream is not compressed.
    ///
    /// # Errors
    ///
    /// [`Error::BrokenPipe`], [`Error::Write`] or [`Error::Dim`].
    pub fn new(
        writer: W,
        layout: impl Into<RowLayout>,
        metadata: &[(String, String)],
        options: &Options,
    ) -> Result<Self> {
        let buffer = RowBuffer::new(&layout.into(), metadata)?;
        let writer = BufWriter::new(Counted { writer, bytes: 0 });
        let mut writer = StreamWriter::try_new(writer, buffer.schema()).map_err(stream_error)?;
        writer.flush().map_err(stream_error)?;
        Ok(Self { writer, buffer, batch_bytes: options.batch_bytes, rows: 0, batches: 0, failed: false })
    }

    fn append(&mut self, rows: &RowBlock) -> Result<()> {
        self.buffer.check(rows)?;
        for i in 0..rows.len() {
            self.buffer.push(rows, i)?;
            if self.buffer.bytes() >= self.batch_bytes {
                self.send()?;
            }
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// Sends the buffered rows as one record batch.
    fn send(&mut self) -> Result<()> {
        if let Some(batch) = self.buffer.take()? {
            self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(stream_error)?;
            self.batches += 1;
        }
        Ok(())
    }
}

impl<W: Write + Send> Sink for IpcSink<W> {
    fn write(&mut self, rows: &RowBlock) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.append(rows);
        self.failed = result.is_err();
        result
    }

    fn keep(&mut self, kept: KeptRows) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.buffer.keep(kept);
        self.failed = result.is_err();
        result
    }

    fn finish(mut self: Box<Self>) -> Result<Report> {
        if self.failed {
            return Err(Error::Failed);
        }
        self.send()?;
        self.writer.finish().map_err(stream_error)?;
        let bytes = self.writer.get_ref().get_ref().bytes;
        Ok(Report { rows: self.rows, bytes, row_groups: self.batches, path: None })
    }
}

/// The system's errors apart from the encoder's.
fn stream_error(cause: ArrowError) -> Error {
    match cause {
        ArrowError::IoError(_, io) => Error::write(Path::new("-"), io),
        cause => cause.into(),
    }
}

/// Counts the bytes on their way to `writer`.
struct Counted<W> {
    writer: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow_ipc::reader::StreamReader;
    use mseq_core::EmbeddingDType;

    use super::*;
    use crate::testing::{layouts, metadata, part, read_back, rows};

    /// A pipe that its reader closes after `room` bytes.
    #[derive(Clone)]
    struct Pipe {
        bytes: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }

    impl Pipe {
        fn new(room: usize) -> Self {
            Self { bytes: Arc::default(), room }
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.bytes.lock().unwrap();
            if all.len() + bytes.len() > self.room {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            all.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn small() -> Options {
        Options { batch_bytes: 1000, ..Options::default() }
    }

    #[test]
    fn round_trip_with_schema_and_metadata() {
        for layout in layouts(5) {
            for n in [0, 1, 300] {
                let pipe = Pipe::new(usize::MAX);
                let mut sink = Box::new(IpcSink::new(pipe.clone(), layout, &metadata(), &small()).unwrap());
                let block = rows(n, 5);
                sink.write(&part(&block, 0, n / 3)).unwrap();
                sink.write(&part(&block, n / 3, n)).unwrap();
                let report = sink.finish().unwrap();
                let bytes = pipe.bytes.lock().unwrap().clone();
                let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
                assert_eq!(reader.schema().as_ref(), &layout.schema(&metadata()).unwrap());
                let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
                assert_eq!(read_back(&batches, 5), block);
                let per_row = if layout.dtype == EmbeddingDType::F32 { 20 + 50 } else { 10 + 50 };
                assert!(batches.iter().all(|b| b.num_rows() <= 1000 / per_row + 1));
                let row_groups = batches.len() as u64;
                assert_eq!(
                    report,
                    Report { rows: n as u64, bytes: bytes.len() as u64, row_groups, path: None }
                );
            }
        }
    }

    #[test]
    fn batches_arrive_as_they_fill() {
        let pipe = Pipe::new(usize::MAX);
        let len = || pipe.bytes.lock().unwrap().len();
        let mut sink = IpcSink::new(pipe.clone(), layouts(4).next().unwrap(), &[], &small()).unwrap();
        let schema = len();
        assert!(schema > 0);
        sink.write(&rows(2, 4)).unwrap();
        assert_eq!(len(), schema);
        sink.write(&rows(20, 4)).unwrap();
        assert!(len() > schema + 1000);
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        let layout = layouts(64).next().unwrap();
        assert!(matches!(IpcSink::new(Pipe::new(0), layout, &[], &small()), Err(Error::BrokenPipe)));
        let mut sink = Box::new(IpcSink::new(Pipe::new(5000), layout, &[], &small()).unwrap());
        assert!(matches!(sink.write(&rows(100, 64)), Err(Error::BrokenPipe)));
        assert!(matches!(sink.finish(), Err(Error::Failed)));
    }
}
