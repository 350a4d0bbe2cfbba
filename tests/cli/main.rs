//! The command line: real files to Parquet and back, and every kind of bad input to one clear
//! line and the right exit code.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "../common/mod.rs"]
mod common;

mod apart;
mod array;
mod audio;
mod audio_bad;
mod audio_jobs;
mod bad_input;
mod bench;
mod built_in_audio;
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
mod mulaw;
mod pipelines;
mod reading;
mod score;
mod score_audio;
mod select;
mod spoken_digits;
mod table;
mod variants;
mod variants_jobs;
