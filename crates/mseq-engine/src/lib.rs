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
mod classified;
mod context;
mod engine;
mod enhance;
mod error;
mod generate;
mod open;
mod packer;
mod position;
mod runner;
mod scoring;
#[cfg(test)]
mod sound_tests;
mod step;
mod threaded;
mod variant_state;
mod variants;
mod windows;

pub use classified::Classified;
pub use context::Context;
pub use engine::{Engine, RecordSummary, Step};
pub use enhance::{Enhancer, open_enhancer};
pub use error::{Error, Result};
pub use generate::{Generate, GenerateConfig, GenerateState, Generator, open_generator};
pub use open::{Opened, Place, choose, choose_all, default_chunk, open};
pub use packer::{AudioConfig, BatchOutput, ChunkBatch, EngineConfig, Packer, Part};
pub use position::Position;
pub use runner::{ModelRunner, Runner, Snapshot, Values};

pub use variant_state::{Next, OpenVariant, Scored, Sums, VariantState, WatchVariants};
pub use variants::{Effect, TailScorer, TokensAt, Variant, VariantScorer, open_variant_scorer};

pub use mseq_backend::LaneSpan;
pub use mseq_backend::sampling::Sampling;
