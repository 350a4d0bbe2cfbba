use std::path::PathBuf;

use mseq_core::RowBlock;

use crate::{KeptRows, Result};

/// Where rows go, in output order.
///
/// Dropping a sink without [`finish`](Sink::finish) leaves nothing behind: no file under the final
/// name, no temporary one, and an older file of that name as it was.
pub trait Sink: Send {
    /// Takes the next rows; they may stay in memory until later rows or `finish` push them out.
    ///
    /// # Errors
    ///
    /// A value that the output cannot hold, or an output that cannot be written. After an error
    /// every later call fails with [`Error::Failed`](crate::Error::Failed).
    fn write(&mut self, rows: &RowBlock) -> Result<()>;

    /// Takes the kept columns of records before the rows of these records come, in input order. Only
    /// for a layout that has kept columns, and then for every record.
    ///
    /// # Errors
    ///
    /// [`Error::KeptShape`](crate::Error::KeptShape) for columns that are not those of the layout.
    fn keep(&mut self, kept: KeptRows) -> Result<()>;

    /// Writes what is left and makes the output complete and visible.
    ///
    /// # Errors
    ///
    /// As [`write`](Sink::write).
    fn finish(self: Box<Self>) -> Result<Report>;
}

/// What a finished sink wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Rows.
    pub rows: u64,
    /// Bytes of the finished output.
    pub bytes: u64,
    /// Row groups of a Parquet file, record batches of an Arrow stream.
    pub row_groups: u64,
    /// The output as the caller named it, `None` for a stream.
    pub path: Option<PathBuf>,
}

/// Sizes that bound the memory of a sink, and how hard it compresses. No field changes a row.
///
/// With the defaults a [`ParquetSink`](crate::ParquetSink) holds about 4 MiB of heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Uncompressed bytes at which a row group is closed. The later groups of a file of gigabytes
    /// are larger, else its footer, which waits in memory, would outgrow them.
    pub row_group_bytes: usize,
    /// Uncompressed bytes of rows that are encoded together: a record batch of a stream.
    pub batch_bytes: usize,
    /// Encoded bytes at which a data page is closed.
    pub page_bytes: usize,
    /// Zstandard level, 1 to 22.
    pub zstd_level: i32,
    /// Rows come in the order in which they close and have to be put in the order of the contract;
    /// `None`: they come in it. Only a [`RowLog`](crate::RowLog) can do that.
    pub arrange: Option<crate::Arrange>,
}

impl Default for Options {
    /// As measured with `examples/throughput.rs`.
    fn default() -> Self {
        Self {
            // Readers are as fast on 2 MiB as on 16; what a short job does not fill, a long one
            // needs on top.
            row_group_bytes: 2 << 20,
            // An f16 takes the encoder 48 bytes on the way.
            batch_bytes: 64 << 10,
            // A quarter of it, one byte of each f32, is a block of Zstandard: with 256 KiB blocks
            // mix exponents and mantissas, and a file is 3 % larger.
            page_bytes: 512 << 10,
            // Split floats come out 1 % smaller than at level 3, a third faster.
            zstd_level: 1,
            arrange: None,
        }
    }
}

impl Options {
    /// Row groups of some 4096 rows, from 512 KiB to 2 MiB: the narrow rows of a small model
    /// would take long to fill a large group, and until then memory would still grow.
    pub fn for_layout(layout: &crate::RowLayout) -> Self {
        let row_bytes = layout.dim() * 4 + 64;
        let row_group_bytes = (4096 * row_bytes).clamp(512 << 10, 2 << 20);
        Self { row_group_bytes, page_bytes: row_group_bytes / 4, ..Self::default() }
    }
}
