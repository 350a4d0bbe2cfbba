//! The command line: real files to Parquet and back, and every kind of bad input to one clear
//! line and the right exit code.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "../common/mod.rs"]
mod common;

mod array;
mod bad_input;
mod bench;
#[cfg(target_os = "linux")]
mod cuda;
mod doctor;
mod enhance;
mod formats;
mod generate;
mod head;
mod help;
mod keep;
mod merge;
mod models;
mod pipelines;
mod reading;
mod score;
mod select;
mod spoken_digits;
mod table;
mod variants;
