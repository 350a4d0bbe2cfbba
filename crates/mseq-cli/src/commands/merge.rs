use std::ffi::OsString;

use mseq_sink::Shards;

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

/// The command line as a shell would take it.
fn command_text(line: &[OsString]) -> String {
    let word = |word: &OsString| {
        let text = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            text
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    let words = line.iter().skip(1).map(word);
    std::iter::once("mamba-seq".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
