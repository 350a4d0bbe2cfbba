use std::collections::VecDeque;
use std::fs::File;
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::SerializedFileWriter;

/// Uncompressed bytes of row groups that are encoded side by side. Later groups of a file are larger,
/// and then fewer at a time.
const AT_ONCE: usize = 64 << 20;

type Encoded = Result<Vec<ArrowColumnChunk>, ParquetError>;

/// Row groups on their way into a file, in order: encoded as their rows come, or, with several
/// encoders, each whole on a thread of its own.
///
/// What a group becomes depends on its rows alone, so the file is the same either way.
pub(crate) struct Groups {
    file: SerializedFileWriter<File>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    encoders: usize,
    open: Open,
    /// Groups that are ended, the first of them written already.
    ended: usize,
    running: VecDeque<Running>,
}

/// The group that rows go to.
enum Open {
    Empty,
    /// Rows are encoded as they come.
    Encoding(Vec<ArrowColumnWriter>),
    /// Rows wait for a thread.
    Waiting(Vec<RecordBatch>),
}

/// A group that a thread encodes.
struct Running {
    thread: JoinHandle<Encoded>,
    bytes: usize,
}

impl Groups {
    /// Takes over a writer that has written no row yet.
    pub(crate) fn new(
        writer: ArrowWriter<File>,
        schema: SchemaRef,
        encoders: usize,
    ) -> Result<Self, ParquetError> {
        let (file, factory) = writer.into_serialized_writer()?;
        let (open, running) = (Open::Empty, VecDeque::new());
        Ok(Self { file, factory, schema, encoders, open, ended: 0, running })
    }

    /// Groups that are ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended
    }

    /// Appends rows to the group that is open.
    pub(crate) fn write(&mut self, batch: RecordBatch) -> Result<(), ParquetError> {
        if matches!(self.open, Open::Empty) {
            self.open = match self.encoders {
                0 | 1 => Open::Encoding(self.factory.create_column_writers(self.ended)?),
                _ => Open::Waiting(Vec::new()),
            };
        }
        match &mut self.open {
            Open::Encoding(columns) => append(&self.schema, columns, &batch),
            Open::Waiting(batches) => {
                batches.push(batch);
                Ok(())
            }
            Open::Empty => Ok(()),
        }
    }

    /// Ends the group that is open, if it has rows; `bytes` is what these take, uncompressed.
    pub(crate) fn end(&mut self, bytes: usize) -> Result<(), ParquetError> {
        match std::mem::replace(&mut self.open, Open::Empty) {
            Open::Empty => return Ok(()),
            Open::Encoding(columns) => {
                let chunks = close(columns)?;
                self.append(chunks)?;
            }
            Open::Waiting(batches) => self.start(batches, bytes)?,
        }
        self.ended += 1;
        Ok(())
    }

    /// Gives a group to a thread, once there is room for it.
    fn start(&mut self, batches: Vec<RecordBatch>, bytes: usize) -> Result<(), ParquetError> {
        while self.running.len() >= self.encoders
            || (!self.running.is_empty()
                && bytes + self.running.iter().map(|group| group.bytes).sum::<usize>() > AT_ONCE)
        {
            self.collect()?;
        }
        let columns = self.factory.create_column_writers(self.ended)?;
        let (schema, rows) = (self.schema.clone(), batches.clone());
        let work = move || encode(&schema, columns, rows);
        match thread::Builder::new().name("mseq-encode".into()).spawn(work) {
            Ok(thread) => self.running.push_back(Running { thread, bytes }),
            // No more threads to be had: then here, after those before it.
            Err(_) => {
                while !self.running.is_empty() {
                    self.collect()?;
                }
                let columns = self.factory.create_column_writers(self.ended)?;
                let chunks = encode(&self.schema, columns, batches)?;
                self.append(chunks)?;
            }
        }
        Ok(())
    }

    /// Waits for the oldest group and writes it.
    fn collect(&mut self) -> Result<(), ParquetError> {
        let Some(group) = self.running.pop_front() else { return Ok(()) };
        let panicked = |_| Err(ParquetError::General("an encoder of row groups panicked".to_owned()));
        let chunks = group.thread.join().unwrap_or_else(panicked)?;
        self.append(chunks)
    }

    fn append(&mut self, chunks: Vec<ArrowColumnChunk>) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close().map(drop)
    }

    /// Ends the last group, whose rows take `bytes`, and writes the footer.
    pub(crate) fn finish(&mut self, bytes: usize) -> Result<ParquetMetaData, ParquetError> {
        self.end(bytes)?;
        while !self.running.is_empty() {
            self.collect()?;
        }
        self.file.finish()
    }

    pub(crate) fn bytes_written(&self) -> usize {
        self.file.bytes_written()
    }

    pub(crate) fn file(&self) -> &File {
        self.file.inner()
    }

    /// Bytes that the open group holds, where it is encoded as rows come.
    #[cfg(test)]
    pub(crate) fn memory_size(&self) -> usize {
        match &self.open {
            Open::Encoding(columns) => columns.iter().map(ArrowColumnWriter::memory_size).sum(),
            _ => 0,
        }
    }
}

fn append(
    schema: &SchemaRef,
    columns: &mut [ArrowColumnWriter],
    batch: &RecordBatch,
) -> Result<(), ParquetError> {
    let mut columns = columns.iter_mut();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        for leaf in compute_leaves(field, array)? {
            let column = columns.next().ok_or_else(|| ParquetError::General("a column too many".into()))?;
            column.write(&leaf)?;
        }
    }
    Ok(())
}

fn close(columns: Vec<ArrowColumnWriter>) -> Encoded {
    columns.into_iter().map(ArrowColumnWriter::close).collect()
}

fn encode(schema: &SchemaRef, mut columns: Vec<ArrowColumnWriter>, batches: Vec<RecordBatch>) -> Encoded {
    for batch in batches {
        append(schema, &mut columns, &batch)?;
    }
    close(columns)
}
