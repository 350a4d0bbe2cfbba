//! Packs records into chunks and runs them through a model, carrying the recurrent state.
//!
//! ```text
//! Item ──> Packer ──ChunkBatch──> Runner ──values──> Engine ──RowBlock──>
//!          lanes, windows         model, state, sums
//! ```
//!
//! A step is the next `chunk` tokens of the input, whatever records they belong to: each record's
//! part is a lane, without padding. So at most one record crosses from a step into the next, rows
//! leave in input order, and memory depends neither on the length nor on the number of records.

mod cells;
mod context;
mod engine;
mod enhance;
mod error;
mod open;
mod packer;
mod position;
mod runner;
#[cfg(test)]
mod sound_tests;
mod threaded;
mod windows;

pub use context::Context;
pub use engine::{Engine, RecordSummary, Step};
pub use enhance::{Enhancer, open_enhancer};
pub use error::{Error, Result};
pub use open::{Opened, Place, choose, choose_all, default_chunk, open};
pub use packer::{AudioConfig, BatchOutput, ChunkBatch, EngineConfig, Packer};
pub use position::Position;
pub use runner::{ModelRunner, Runner, Snapshot};

pub use mseq_backend::LaneSpan;
