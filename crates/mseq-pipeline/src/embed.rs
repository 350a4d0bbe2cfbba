use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mseq_core::{Item, RowBlock};
use mseq_engine::{Engine, EngineConfig, Runner};
use mseq_sink::{Arrange, KeptRows, Report, RowLayout, RowLog, Saved};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use crate::checkpoint::{Checkpoint, Digest};
use crate::input::Input;
use crate::output::{Making, Output, Writing};
use crate::signal::signal;
use crate::stats::{Counters, Summary, Tally};
use crate::wire::{Closed, Receiver, Sender, Stop, queue};
use crate::{Error, Result};

/// A checked embedding job: everything opened that can fail before the first base is read.
pub struct EmbedJob {
    /// The input, after the items of `first`.
    pub source: Input,
    /// Items that were read ahead, to learn what the input is.
    pub first: Vec<Item>,
    /// The model on its device.
    pub runner: Box<dyn Runner>,
    /// What to compute.
    pub engine: EngineConfig,
    /// Where rows go.
    pub output: Output,
    /// Columns.
    pub layout: RowLayout,
    /// How rows are put in order that do not come in it.
    pub arrange: Option<Arrange>,
    /// File metadata.
    pub metadata: Vec<(String, String)>,
    /// Bytes that may wait between two stages.
    pub queue_bytes: usize,
    /// Row groups that are encoded side by side when the Parquet file is made of the log.
    pub encoders: usize,
    /// Whether steps run on a thread of their own, ahead of what is collected: for devices that
    /// work by themselves.
    pub ahead: bool,
    /// What makes a job the same job.
    pub digest: Digest,
    /// Go on from the checkpoint of an earlier run, where there is one.
    pub resume: bool,
}

/// What the source hands to the engine. Kept columns go before the first record that they are of,
/// and pass the engine by: in one stream with the rest they are bounded in bytes with it, and are
/// there before any row that needs them.
enum Feed {
    Item(Item),
    Kept(KeptRows),
}

/// What the engine hands to the sink, in order.
enum Message {
    Kept(KeptRows),
    Rows(RowBlock),
    Save(Box<Checkpoint>),
}

/// What the sink made, and the log when that stays.
type Written = (Report, Option<Box<RowLog>>);

/// A checkpoint this often, unless writing one takes more than a fiftieth of it.
const EVERY: Duration = Duration::from_millis(900);
/// How long a stopped job may take to save.
const GRACE: Duration = Duration::from_millis(1600);

/// What the stages share.
#[derive(Clone)]
struct Shared {
    stop: Stop,
    /// Set with `stop` by a signal: save, and do not count it as a failure.
    signalled: Stop,
    counters: Arc<Counters>,
    /// Milliseconds that the last checkpoint took to write.
    save_ms: Arc<AtomicU64>,
    /// Save at the end too: the log stays.
    save_at_end: bool,
    /// The log that an early end left behind.
    saved: Arc<Mutex<Option<std::path::PathBuf>>>,
}

impl Shared {
    fn save(&self, path: Option<std::path::PathBuf>) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }
}

/// Stops the job when its stage panics: the next one must not take the end of its queue for the end
/// of the data, and make an output of a part.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop.set();
        }
    }
}

/// Runs a job to its end.
///
/// `counters` is updated as it goes. SIGINT and SIGTERM stop it between two steps, with its state
/// saved.
///
/// # Errors
/// The error of the stage that failed; the output is then untouched.
pub fn embed(job: EmbedJob, counters: &Arc<Counters>) -> Result<Summary> {
    embed_part(job, counters, Stop::new()).map(|(summary, _)| summary)
}

/// Runs a job that `stop` ends early, and gives back its log when that stays.
pub(crate) fn embed_part(
    job: EmbedJob,
    counters: &Arc<Counters>,
    stop: Stop,
) -> Result<(Summary, Option<Box<RowLog>>)> {
    let internal = |e: std::io::Error| Error::Internal(format!("cannot start threads: {e}"));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(internal)?;
    let summary = runtime.block_on(stages(job, Arc::clone(counters), stop));
    // A source that waits for standard input can't be interrupted: leave it to the exit.
    runtime.shutdown_background();
    summary
}

/// Whether an unfinished run of `output` can be gone on from.
pub fn has_checkpoint(output: &std::path::Path) -> bool {
    crate::checkpoint::path_of(output).exists()
}

/// The checkpoint to go on from, if that is asked for and there is one.
fn earlier(job: &EmbedJob) -> Result<Option<Checkpoint>> {
    let Some(path) = job.output.path() else { return Ok(None) };
    if !job.resume {
        return Ok(None);
    }
    let Some(checkpoint) = Checkpoint::read(path)? else { return Ok(None) };
    checkpoint.check(path, &job.digest)?;
    Ok(Some(checkpoint))
}

async fn stages(
    job: EmbedJob,
    counters: Arc<Counters>,
    stop: Stop,
) -> Result<(Summary, Option<Box<RowLog>>)> {
    let start = Instant::now();
    let earlier = earlier(&job)?;
    let EmbedJob { mut source, first, runner, engine, output, .. } = job;
    let EmbedJob { layout, arrange, metadata, queue_bytes, encoders, ahead, digest, .. } = job;
    let how = Making { arrange, encoders };
    let tally = earlier.as_ref().map_or_else(Tally::default, |c| c.tally.clone());
    let mut resumed_from = 0;
    let (engine, writing) = match earlier {
        None => (Engine::new(engine, runner), Writing::open(&output, layout, &metadata, how, None)?),
        Some(checkpoint) => {
            let p = &checkpoint.position;
            resumed_from = tally.tokens.saturating_add(if p.ended { 0 } else { p.pos });
            let engine = Engine::resume(engine, runner, p.clone(), &checkpoint.snapshot)?;
            (engine, Writing::open(&output, layout, &metadata, how, Some(&checkpoint))?)
        }
    };
    let engine = if ahead { engine.ahead()? } else { engine };
    counters.start(resumed_from, tally.records);
    let handle = Handle::current();
    let (items_in, items_out) = queue::<Feed>(queue_bytes, &handle);
    let (rows_in, rows_out) = queue::<Message>(queue_bytes, &handle);
    let shared = Shared {
        stop,
        signalled: Stop::new(),
        counters,
        save_ms: Arc::default(),
        save_at_end: matches!(output, Output::Log(_)),
        saved: Arc::default(),
    };
    let for_reading = shared.clone();
    let reading = handle.spawn_blocking(move || read(first, &mut source, &items_in, &for_reading));
    let for_running = shared.clone();
    let running =
        handle.spawn_blocking(move || run(engine, tally, digest, items_out, &rows_in, &for_running));
    let for_writing = shared.clone();
    let writing = handle.spawn_blocking(move || write(writing, rows_out, &for_writing));
    let joined = join(reading, running, writing);
    tokio::pin!(joined);
    tokio::select! {
        result = &mut joined => {
            let saved = || shared.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (tally, (report, log)) = result.map_err(|e| match (e, saved()) {
                (Error::Engine(cause), Some(saved)) if cause.is_device() => Error::Device { cause, saved },
                (e, _) => e,
            })?;
            Ok((Summary { tally, resumed_from, report, elapsed: start.elapsed() }, log))
        }
        signal = signal() => {
            shared.signalled.set();
            shared.stop.set();
            // The source may hang in a read for good; a step may take longer than we have, and
            // then the last checkpoint counts.
            if let Ok(Ok((tally, (report, log)))) = tokio::time::timeout(GRACE, joined).await {
                // It was making the output when the signal came, and is done.
                return Ok((Summary { tally, resumed_from, report, elapsed: start.elapsed() }, log));
            }
            let saved = shared.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Err(Error::Signal { signal: signal?, saved })
        }
    }
}

/// The error that counts: a stage that was only cut off by another says `Closed`.
async fn join(
    reading: JoinHandle<Result<()>>,
    running: JoinHandle<Result<Tally>>,
    writing: JoinHandle<Result<Written>>,
) -> Result<(Tally, Written)> {
    let panicked = |e: tokio::task::JoinError| Error::Internal(format!("a stage panicked: {e}"));
    // From the sink back: an early end of a later stage closes the earlier ones.
    let written = writing.await.map_err(panicked).flatten();
    let ran = running.await.map_err(panicked).flatten();
    match (ran, written) {
        (_, Err(e)) if !matches!(e, Error::Closed) => Err(e),
        (Err(e), _) if !matches!(e, Error::Closed) => Err(e),
        (ran, written) => {
            reading.await.map_err(panicked).flatten()?;
            Ok((ran?, written?))
        }
    }
}

/// Source stage. On an error the engine must not take the input for complete, so `stop` is set
/// before the queue closes.
fn read(first: Vec<Item>, source: &mut Input, items: &Sender<Feed>, shared: &Shared) -> Result<()> {
    let _guard = StopOnPanic(shared);
    let mut first = first.into_iter();
    let mut next = || -> Result<bool> {
        let item = match first.next() {
            Some(item) => Some(item),
            None => source.next()?,
        };
        shared.counters.set_read(source.bytes_done(), source.bases_read());
        let Some(item) = item else { return Ok(false) };
        if matches!(item, Item::Begin(_))
            && let Some(kept) = source.take_kept()?
        {
            let bytes = kept.bytes();
            items.send(Feed::Kept(kept), bytes).map_err(|Closed| Error::Closed)?;
        }
        let bytes = item.bytes();
        items.send(Feed::Item(item), bytes).map_err(|Closed| Error::Closed)?;
        Ok(true)
    };
    loop {
        match next() {
            Ok(true) if !shared.stop.is_set() => {}
            Ok(true) => return Err(Error::Closed),
            Ok(false) => {
                shared.counters.set_all_read();
                return Ok(());
            }
            Err(e) => {
                shared.stop.set();
                return Err(e);
            }
        }
    }
}

/// Engine stage.
fn run(
    mut engine: Engine,
    mut tally: Tally,
    digest: Digest,
    mut items: Receiver<Feed>,
    out: &Sender<Message>,
    shared: &Shared,
) -> Result<Tally> {
    let _guard = StopOnPanic(shared);
    let mut last = Instant::now();
    let save = |engine: &mut Engine, tally: &mut Tally| -> Result<()> {
        // What ran ahead is done, and goes before what is saved.
        while let Some(step) = engine.drain()? {
            take(step, tally, out, shared)?;
        }
        let (position, snapshot) = engine.snapshot()?;
        if position.is_start() || engine.is_resuming() {
            return Ok(());
        }
        let bytes = 8 * snapshot.sums.len()
            + 4 * snapshot.head.len()
            + snapshot.layers.iter().map(|(c, s)| 4 * (c.len() + s.len())).sum::<usize>();
        let (digest, tally) = (digest.clone(), tally.clone());
        let checkpoint = Checkpoint { digest, position, snapshot, tally, saved: Saved::default() };
        out.send(Message::Save(Box::new(checkpoint)), bytes).map_err(|Closed| Error::Closed)
    };
    let mut due = || {
        let every = EVERY.max(50 * Duration::from_millis(shared.save_ms.load(Ordering::Relaxed)));
        let due = last.elapsed() >= every;
        if due {
            last = Instant::now();
        }
        due
    };
    let mut result = (|| {
        while let Some(feed) = items.recv(&shared.stop) {
            let item = match feed {
                Feed::Item(item) => item,
                Feed::Kept(kept) => {
                    let bytes = kept.bytes();
                    out.send(Message::Kept(kept), bytes).map_err(|Closed| Error::Closed)?;
                    continue;
                }
            };
            if let Item::Begin(head) = &item {
                shared.counters.set_record(&head.id);
            }
            engine.push(item)?;
            while let Some(step) = engine.step()? {
                take(step, &mut tally, out, shared)?;
                if shared.stop.is_set() {
                    break;
                }
                if due() {
                    save(&mut engine, &mut tally)?;
                }
            }
        }
        if shared.stop.is_set() {
            return Err(Error::Closed);
        }
        while let Some(step) = engine.last_step()? {
            take(step, &mut tally, out, shared)?;
            if shared.stop.is_set() {
                return Err(Error::Closed);
            }
            if due() {
                save(&mut engine, &mut tally)?;
            }
        }
        Ok(())
    })();
    if result.is_ok() && shared.save_at_end {
        result = save(&mut engine, &mut tally);
    }
    if matches!(result, Err(Error::Closed)) && shared.signalled.is_set() {
        result = save(&mut engine, &mut tally).and(result);
    }
    if result.is_err() {
        shared.stop.set();
    }
    result.map(|()| tally)
}

fn take(step: mseq_engine::Step, tally: &mut Tally, out: &Sender<Message>, shared: &Shared) -> Result<()> {
    let records = tally.records;
    step.done.iter().for_each(|record| tally.add(record));
    shared.counters.add(step.tokens, step.rows.len() as u64, tally.records - records);
    if step.rows.is_empty() {
        return Ok(());
    }
    let bytes = step.rows.bytes();
    out.send(Message::Rows(step.rows), bytes).map_err(|Closed| Error::Closed)
}

/// Sink stage: finishes only when nothing before it failed.
fn write(mut writing: Writing, mut messages: Receiver<Message>, shared: &Shared) -> Result<Written> {
    let mut all = || -> Result<()> {
        // Not stopped by `stop`: what the engine sent before it ended is still to be saved.
        while let Some(message) = messages.recv(&Stop::new()) {
            match message {
                Message::Kept(kept) => writing.keep(kept)?,
                Message::Rows(rows) => writing.write(&rows)?,
                Message::Save(checkpoint) => {
                    let start = Instant::now();
                    writing.save(*checkpoint)?;
                    shared.save_ms.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
                }
            }
        }
        if shared.stop.is_set() { Err(Error::Closed) } else { Ok(()) }
    };
    match all() {
        Ok(()) => {
            // A signal may come while the output is made, and this is then what is left.
            shared.save(writing.saved());
            writing.finish()
        }
        Err(e) => {
            shared.stop.set();
            shared.save(writing.abandon());
            Err(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use mseq_core::{EmbeddingDType, Layer, ListType, Pool, Windows};
    use mseq_engine::{ChunkBatch, Snapshot};
    use mseq_source::{DnaTokenizer, SequenceSource};

    use super::*;

    /// A model of rows that are all zero, which panics in a step.
    struct Zeros {
        panics_in: u32,
    }

    impl Runner for Zeros {
        fn dim(&self) -> usize {
            2
        }

        fn device(&self) -> String {
            "none".into()
        }

        fn run(&mut self, batch: &ChunkBatch) -> mseq_engine::Result<mseq_engine::Values> {
            self.panics_in -= 1;
            assert!(self.panics_in > 0, "on purpose");
            Ok(vec![0.0; 2 * batch.keys.len()].into())
        }

        fn snapshot(&self) -> mseq_engine::Result<Snapshot> {
            Ok(Snapshot::default())
        }

        fn restore(&mut self, _: &Snapshot) -> mseq_engine::Result<()> {
            Ok(())
        }
    }

    /// Panics behind its text.
    struct Broken(&'static [u8]);

    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.read(out)?;
            assert!(n > 0, "on purpose");
            Ok(n)
        }
    }

    fn job(reader: impl Read + Send + 'static, panics_in: u32, output: &Path) -> EmbedJob {
        let source = SequenceSource::from_reader("x.fa", reader, DnaTokenizer::caduceus(), 4);
        EmbedJob {
            source: Input::Sequences(Box::new(source)),
            first: Vec::new(),
            runner: Box::new(Zeros { panics_in }),
            engine: EngineConfig {
                pool: Pool::None,
                layer: Layer::Last,
                fasta_windows: Windows::record(),
                fastq_windows: Windows::record(),
                chunk: 4,
                context: None,
                regions: None,
                parts: None,
                grid: 1,
                audio: None,
            },
            output: Output::Parquet(output.to_owned()),
            layout: mseq_sink::EmbedLayout {
                dim: 2,
                dtype: EmbeddingDType::F32,
                list: ListType::Fixed,
                region: false,
                seconds: false,
            }
            .into(),
            arrange: None,
            ahead: false,
            metadata: Vec::new(),
            queue_bytes: 1 << 10,
            encoders: 2,
            digest: Digest::new(),
            resume: false,
        }
    }

    #[test]
    fn a_stage_that_panics_leaves_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        let text = &b">a\nACGTACGTACGTACGT\n>b\nACGT\n"[..];
        let run = |job| embed(job, &Arc::new(Counters::default()));
        for job in [job(text, 4, &output), job(Broken(text), u32::MAX, &output)] {
            let e = run(job).unwrap_err();
            assert!(matches!(&e, Error::Internal(text) if text.contains("on purpose")), "{e}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{e}");
        }
        assert_eq!(run(job(text, u32::MAX, &output)).unwrap().report.rows, 20);
    }
}
