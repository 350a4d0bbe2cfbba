use std::ffi::OsString;

use mseq_sink::Shards;

use super::embed::command_text;
use crate::args::MergeArgs;
use crate::{Failure, say};

/// `mamba-seq merge`.
pub(crate) fn run(args: &MergeArgs, quiet: bool, line: &[OsString]) -> Result<(), Failure> {
    args.check()?;
    let shards = Shards::open(&args.shards)?;
    let count = shards.count() as u64;
    let report = shards.merge(&args.output, &command_text(line))?;
    if !quiet {
        say::line(&format!(
            "{}: {} from {}",
            args.output.display(),
            say::count(report.rows, "row"),
            say::count(count, "shard"),
        ));
    }
    Ok(())
}
