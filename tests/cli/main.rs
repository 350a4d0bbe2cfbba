//! The command line: real files to Parquet and back, and every kind of bad input to one clear
//! line and the right exit code.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "../common/mod.rs"]
mod common;

mod array;
mod bad_input;
mod bench;
mod doctor;
mod enhance;
mod formats;
mod help;
mod keep;
mod merge;
mod models;
mod pipelines;
mod reading;
mod select;
mod table;
