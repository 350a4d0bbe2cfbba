//! Joins the stages of a job with queues bounded in bytes.
//!
//! ```text
//! source thread ──Item──> engine thread ──RowBlock──> sink thread
//! ```
//!
//! Each stage is plain blocking code on a thread of its own; tokio joins them, bounds what lies
//! between them, and listens for signals. When one stage fails, the others stop, and the error of
//! the stage that failed first along the data is the one reported.

mod bigwig;
mod checkpoint;
mod embed;
mod error;
mod generation;
mod input;
mod many;
mod output;
mod signal;
mod stats;
mod wire;

pub use checkpoint::Digest;
pub use embed::{EmbedJob, embed, has_checkpoint};
pub use error::{Error, Result, Signal};
pub use generation::{SavedGeneration, load_generation, save_generation};
pub use input::Input;
pub use many::{Whole, embed_many, part_output};
pub use output::{Output, Track};
pub use signal::Stop;
pub use stats::{Counters, Summary, Tally, UnknownIn};
