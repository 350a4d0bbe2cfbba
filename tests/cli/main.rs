//! The command line: real files to Parquet and back, and every kind of bad input to one clear
//! line and the right exit code.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod formats;
mod help;
