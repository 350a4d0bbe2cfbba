//! Several logs of one job, each with records of its own, to one file.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use mseq_core::RowBlock;

use crate::{Error, KeptRows, Options, ParquetSink, Report, Result, RowLayout, RowLog, Sink};

/// Blocks that wait between a log that is read and the file that is written.
const WAITING: usize = 8;

/// Makes the Parquet file of a job whose rows are in several logs, runs `published`, and removes the
/// logs. A record is in one log, and each log has its records in the order of the input.
///
/// # Errors
/// As for [`RowLog::finish`]; the logs then stay.
pub fn finish_logs(
    logs: Vec<RowLog>,
    output: &Path,
    layout: impl Into<RowLayout>,
    metadata: &[(String, String)],
    options: Options,
    published: impl FnOnce(),
) -> Result<Report> {
    let mut sink = Box::new(ParquetSink::create(output, layout, metadata, options)?);
    let paths: Vec<_> = logs.iter().map(|log| log.path().to_owned()).collect();
    // Logs are read side by side, and this thread encodes.
    thread::scope(|scope| {
        let mut readers = Vec::new();
        let mut rows = Vec::new();
        for log in logs {
            let (send, receive) = sync_channel(WAITING);
            readers.push(scope.spawn(move || log.finish_into(Box::new(Forward(send)))));
            rows.push(Rows { receive, block: RowBlock::default(), at: 0 });
        }
        let joined = join(&mut rows, &mut *sink);
        // Readers that still send find nobody, and end.
        drop(rows);
        for reader in readers {
            match reader.join() {
                // What stopped the join counts more than that a reader found nobody.
                Ok(Err(Error::Failed)) | Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(e),
                Err(_) => return Err(Error::Failed),
            }
        }
        joined
    })?;
    let report = sink.finish()?;
    published();
    for path in paths {
        std::fs::remove_file(path).ok();
    }
    Ok(report)
}

/// Hands rows to another thread.
struct Forward(SyncSender<RowBlock>);

impl Sink for Forward {
    fn write(&mut self, rows: &RowBlock) -> Result<()> {
        self.0.send(rows.clone()).map_err(|_| Error::Failed)
    }

    fn keep(&mut self, _: KeptRows) -> Result<()> {
        Err(Error::Failed)
    }

    fn finish(self: Box<Self>) -> Result<Report> {
        Ok(Report::default())
    }
}

/// Rows of one log, as they come.
struct Rows {
    receive: Receiver<RowBlock>,
    block: RowBlock,
    at: usize,
}

impl Rows {
    /// The record of the next row; `None` after the last.
    fn record(&mut self) -> Option<u64> {
        while self.at == self.block.len() {
            (self.block, self.at) = (self.receive.recv().ok()?, 0);
        }
        Some(self.block.keys[self.at].record_index)
    }
}

/// Gives the rows of all to `sink`, by record.
fn join(rows: &mut [Rows], sink: &mut dyn Sink) -> Result<()> {
    loop {
        let next = rows.iter_mut().enumerate().filter_map(|(i, rows)| Some((rows.record()?, i)));
        let mut next: Vec<(u64, usize)> = next.collect();
        next.sort_unstable();
        let Some(&(_, first)) = next.first() else { return Ok(()) };
        let before = next.get(1).map_or(u64::MAX, |(record, _)| *record);
        let from = &mut rows[first];
        let mine = from.block.keys[from.at..].iter().take_while(|key| key.record_index < before).count();
        if mine == 0 {
            return Err(Error::Shards {
                message: format!(
                    "record {before} (record_index) is in two logs of one job; run it again without --resume"
                ),
            });
        }
        if mine == from.block.len() {
            sink.write(&from.block)?;
        } else {
            let (at, dim) = (from.at, from.block.dim);
            let scores = from.block.scores.get(at..at + mine).map_or(Vec::new(), <[_]>::to_vec);
            sink.write(&RowBlock {
                keys: from.block.keys[at..at + mine].to_vec(),
                dim,
                values: from.block.values[at * dim..(at + mine) * dim].to_vec(),
                scores,
            })?;
        }
        from.at += mine;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layouts, metadata, part, read_back, rows};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn records_of_any_log_come_in_the_order_of_the_input() {
        let layout = layouts(3).next().unwrap();
        let all = rows(400, 3);
        let folder = tempfile::tempdir().unwrap();
        let options = || Options { batch_bytes: 900, ..Options::default() };
        let mut logs = Vec::new();
        for (i, mine) in [[0, 3, 4, 17, 39].as_slice(), &[], &[1, 2, 5]].into_iter().enumerate() {
            let path = folder.path().join(format!("log{i}"));
            let mut log = RowLog::create(&path, layout, &[], options(), || {}).unwrap();
            for record in 0..40 {
                // The first takes what nobody else does.
                let others = [1, 2, 5];
                if mine.contains(&record) || (i == 0 && !others.contains(&record)) {
                    log.write(&part(&all, 10 * record, 10 * record + 10)).unwrap();
                }
            }
            logs.push(log);
        }
        let output = folder.path().join("x.parquet");
        let report = finish_logs(logs, &output, layout, &metadata(), options(), || {}).unwrap();
        assert_eq!(report.rows, 400);
        let file = std::fs::File::open(&output).unwrap();
        let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let batches: Vec<_> = batches.collect::<std::result::Result<_, _>>().unwrap();
        assert_eq!(read_back(&batches, 3), all);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_record_in_two_logs_is_an_error() {
        let layout = layouts(3).next().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = |name| {
            let mut log =
                RowLog::create(&folder.path().join(name), layout, &[], Options::default(), || {}).unwrap();
            log.write(&rows(20, 3)).unwrap();
            log
        };
        let output = folder.path().join("x.parquet");
        let logs = vec![log("a"), log("b")];
        let e = finish_logs(logs, &output, layout, &[], Options::default(), || {}).unwrap_err();
        assert!(matches!(e, Error::Shards { .. }), "{e}");
        assert!(!output.exists() && folder.path().join("a.partial").exists());
    }
}
