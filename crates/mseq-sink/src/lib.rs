//! Rows to Parquet and Arrow IPC, atomically.
//!
//! A [`Sink`] takes [`RowBlock`](mseq_core::RowBlock)s in output order. What ends up in the output
//! depends on the rows alone, never on how they were cut into blocks:
//!
//! ```
//! use mseq_core::{EmbeddingDType, ListType, RowBlock, RowKey, Strand};
//! use mseq_sink::{EmbedLayout, Options, ParquetSink, Sink};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("out.parquet");
//! let layout =
//!     EmbedLayout { dim: 2, dtype: EmbeddingDType::F32, list: ListType::Fixed, region: false, seconds: false };
//! let metadata = [("mamba_seq.model".to_owned(), "tiny".to_owned())];
//! let mut sink = Box::new(ParquetSink::create(&path, layout, &metadata, Options::default())?);
//! let key = RowKey {
//!     source: "genome.fa".into(), record: "chr1".into(), record_index: 0,
//!     start: 0, end: 1000, strand: Strand::Forward, region: None, rate: None,
//! };
//! sink.write(&RowBlock { keys: vec![key], dim: 2, values: vec![0.5, -1.0], scores: vec![] })?;
//! assert!(!path.exists()); // a file of the final name is always complete
//! assert_eq!(sink.finish()?.rows, 1);
//! assert!(path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrange;
mod bedgraph;
mod column;
mod effects;
mod error;
mod file;
mod groups;
mod ipc;
mod join;
mod kept;
mod log;
mod merge;
mod parquet;
mod provenance;
mod schema;
mod sink;
#[cfg(test)]
mod testing;
mod text;
mod value;
mod variants;

pub use arrange::Arrange;
pub use bedgraph::BedGraphSink;
pub use effects::{EffectLog, LoggedEffect};
pub use error::{Error, Result};
pub use file::{Pending, check_output};
pub use ipc::IpcSink;
pub use join::finish_logs;
pub use kept::{KeptMark, KeptRows};
pub use log::{RowLog, Saved};
pub use merge::Shards;
pub use parquet::ParquetSink;
pub use provenance::JOB_KEYS;
pub use schema::{Body, ClassLayout, EmbedLayout, NumberLayout, RowLayout, ScoreLayout};
pub use sink::{Options, Report, Sink};
pub use text::{BgzfFile, FastaSink, WholeFile};
pub use variants::{VariantRow, VariantSink};
