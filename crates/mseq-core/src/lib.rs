//! Shared nouns of mamba-seq: records, windows, rows, element types, devices. No I/O, no threads.
//!
//! Everything here is plain data that two or more stages hand to each other:
//!
//! ```text
//! source ──Item──> engine ──RowBlock──> sink
//! ```
//!
//! Coordinates are 0-based and half-open, in bases or samples of the record, always `u64`.

mod decode;
mod device;
mod dtype;
mod front;
mod item;
mod region;
mod row;
mod signal;
mod sound;
mod span;
mod window;

pub use decode::{DecoderPanic, decode, is_decoding};
pub use device::{DeviceSpec, ParseDeviceError};
pub use dtype::{DType, EmbeddingDType, ListType, WeightDType};
pub use front::Front;
pub use item::{Item, RecordHead, RecordTail, SequenceFormat};
pub use region::{Region, Regions};
pub use row::{RowBlock, RowKey, Score, Strand};
pub use signal::Signal;
pub use sound::{Extent, SoundWindows};
pub use span::Span;
pub use window::{Layer, ParseWindowError, Pool, Stride, WindowLength, Windows};
