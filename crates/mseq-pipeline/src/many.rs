use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mseq_sink::{Options, RowLayout, finish_logs};

use crate::checkpoint;
use crate::embed::embed_part;
use crate::stats::{Counters, Summary, Tally};
use crate::wire::Stop;
use crate::{EmbedJob, Error, Output, Result};

/// What the parts of a job become together.
pub struct Whole<'a> {
    /// The Parquet file.
    pub output: &'a Path,
    /// Columns.
    pub layout: RowLayout,
    /// File metadata.
    pub metadata: &'a [(String, String)],
}

/// Runs the parts of one job side by side, each with records and a device of its own, and makes one
/// file of them. The output of each part is an [`Output::Log`].
///
/// `counters` has one for each part.
///
/// # Errors
/// The error of the part that failed; the others are stopped, and their logs stay for a resumed
/// run.
pub fn embed_many(jobs: Vec<EmbedJob>, counters: &[Arc<Counters>], whole: Whole<'_>) -> Result<Summary> {
    let start = Instant::now();
    let stop = Stop::new();
    let outputs: Vec<_> = jobs.iter().filter_map(|job| job.output.path().cloned()).collect();
    let results: Vec<Result<_>> = thread::scope(|scope| {
        let parts: Vec<_> = jobs
            .into_iter()
            .zip(counters)
            .map(|(job, counters)| {
                let stop = stop.clone();
                scope.spawn(move || {
                    let result = embed_part(job, counters, stop.clone());
                    if result.is_err() {
                        stop.set();
                    }
                    result
                })
            })
            .collect();
        let panicked = |_| Err(Error::Internal("a part of the job panicked".into()));
        parts.into_iter().map(|part| part.join().unwrap_or_else(panicked)).collect()
    });
    // One that was only stopped by another says `Closed`.
    let mut closed = false;
    let mut done = Vec::new();
    for result in results {
        match result {
            Ok(part) => done.push(part),
            Err(Error::Closed) => closed = true,
            Err(e) => return Err(e),
        }
    }
    if closed {
        return Err(Error::Closed);
    }
    let (mut tally, mut resumed_from, mut logs) = (Tally::default(), 0, Vec::new());
    for (summary, log) in done {
        tally.join(summary.tally);
        resumed_from += summary.resumed_from;
        logs.extend(log.map(|log| *log));
    }
    // The logs put their rows in order, and the file takes them as they come.
    let options = Options::for_layout(&whole.layout);
    let published = || outputs.iter().for_each(|output| checkpoint::remove(output));
    let report = finish_logs(logs, whole.output, whole.layout, whole.metadata, options, published)?;
    Ok(Summary { tally, resumed_from, report, elapsed: start.elapsed() })
}

/// The output of part number `part` of a job for `output`.
pub fn part_output(output: &Path, part: usize) -> Output {
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".device{part}"));
    Output::Log(name.into())
}
