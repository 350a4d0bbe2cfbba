//! Linear heads: fitted on the embeddings of an `embed` file and labels, evaluated, kept in a file.
//!
//! ```text
//! embeddings.parquet ──Table──┐
//! labels ─────────────────────┴─> Examples ──fit──> Head ──> head.safetensors
//! ```
//!
//! Everything is f64, and sums run in an order that the rows alone decide: the same file and seed
//! give the same head on any number of threads.

mod error;
mod examples;
mod file;
mod fit;
mod labels;
mod metrics;
mod ridge;
mod split;
mod table;

pub use error::{Error, Result};
pub use examples::{Examples, Targets};
pub use file::{Head, Origin, Predictor};
pub use fit::{ClassWeight, FitOptions, Fitted, Strength, fit};
pub use labels::Labels;
pub use metrics::{ClassReport, Interval, NumberReport, classes as class_report, numbers as number_report};
pub use table::{Key, Table};
