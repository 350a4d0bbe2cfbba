use std::io::Stdout;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mseq_core::{Item, RowBlock};
use mseq_engine::{Engine, EngineConfig, Runner};
use mseq_sink::{EmbedLayout, IpcSink, Options, ParquetSink, Report, Sink};
use mseq_source::SequenceSource;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use crate::stats::{Counters, Summary};
use crate::wire::{Closed, Receiver, Sender, Stop, queue};
use crate::{Error, Result, Signal};

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A Parquet file, which appears complete or not at all.
    Parquet(PathBuf),
    /// An Arrow IPC stream on standard output.
    Stdout,
}

/// A checked embedding job: everything opened that can fail before the first base is read.
pub struct EmbedJob {
    /// The input, after the items of `first`.
    pub source: SequenceSource,
    /// Items that were read ahead, to learn what the input is.
    pub first: Vec<Item>,
    /// The model on its device.
    pub runner: Box<dyn Runner>,
    /// What to compute.
    pub engine: EngineConfig,
    /// Where rows go.
    pub output: Output,
    /// Columns.
    pub layout: EmbedLayout,
    /// File metadata.
    pub metadata: Vec<(String, String)>,
    /// Bytes that may wait between two stages.
    pub queue_bytes: usize,
}

/// Runs a job to its end.
///
/// `counters` is updated as it goes. SIGINT and SIGTERM stop it between two steps.
///
/// # Errors
/// The error of the stage that failed; the output is then untouched.
pub fn embed(job: EmbedJob, counters: &Arc<Counters>) -> Result<Summary> {
    let internal = |e: std::io::Error| Error::Internal(format!("cannot start threads: {e}"));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(internal)?;
    let summary = runtime.block_on(stages(job, Arc::clone(counters)));
    // A source that waits for standard input can't be interrupted: leave it to the exit.
    runtime.shutdown_background();
    summary
}

async fn stages(job: EmbedJob, counters: Arc<Counters>) -> Result<Summary> {
    let start = Instant::now();
    let EmbedJob { mut source, first, runner, engine, output, layout, metadata, queue_bytes } = job;
    let sink = open_sink(&output, layout, &metadata)?;
    let handle = Handle::current();
    let (items_in, items_out) = queue::<Item>(queue_bytes, &handle);
    let (rows_in, rows_out) = queue::<RowBlock>(queue_bytes, &handle);
    let stop = Stop::new();

    let (read_stop, read_counters) = (stop.clone(), Arc::clone(&counters));
    let reading = handle.spawn_blocking(move || read(first, &mut source, &items_in, &read_stop, &read_counters));
    let run_stop = stop.clone();
    let running = handle.spawn_blocking(move || {
        run(Engine::new(engine, runner), items_out, &rows_in, &run_stop, &counters)
    });
    let write_stop = stop.clone();
    let writing = handle.spawn_blocking(move || write(sink, rows_out, &write_stop));
    let joined = join(reading, running, writing);
    tokio::pin!(joined);
    tokio::select! {
        result = &mut joined => {
            let (mut summary, report) = result?;
            summary.report = report;
            summary.elapsed = start.elapsed();
            Ok(summary)
        }
        signal = signal() => {
            stop.set();
            // The sink removes its unfinished file; the source may hang in a read for good.
            let _ = tokio::time::timeout(Duration::from_millis(1500), joined).await;
            Err(Error::Signal(signal?))
        }
    }
}

/// The error that counts: a stage that was only cut off by another says `Closed`.
async fn join(
    reading: JoinHandle<Result<()>>,
    running: JoinHandle<Result<Summary>>,
    writing: JoinHandle<Result<Report>>,
) -> Result<(Summary, Report)> {
    let panicked = |e: tokio::task::JoinError| Error::Internal(format!("a stage panicked: {e}"));
    // From the sink back: an early end of a later stage closes the earlier ones.
    let written = writing.await.map_err(panicked).flatten();
    let ran = running.await.map_err(panicked).flatten();
    if let (Err(Error::Closed), Ok(_)) | (Ok(_), Ok(_)) = (&ran, &written) {
        reading.await.map_err(panicked).flatten()?;
        return Ok((ran?, written?));
    }
    match (ran, written) {
        (_, Err(e)) if !matches!(e, Error::Closed) => Err(e),
        (Err(e), _) if !matches!(e, Error::Closed) => Err(e),
        _ => Err(reading.await.map_err(panicked).flatten().err().unwrap_or(Error::Closed)),
    }
}

fn open_sink(output: &Output, layout: EmbedLayout, metadata: &[(String, String)]) -> Result<Box<dyn Sink>> {
    Ok(match output {
        Output::Parquet(path) => Box::new(ParquetSink::create(path, layout, metadata, Options::default())?),
        Output::Stdout => {
            let stdout: Stdout = std::io::stdout();
            Box::new(IpcSink::new(stdout, layout, metadata, &Options::default()).map_err(broken_pipe)?)
        }
    })
}

fn broken_pipe(e: mseq_sink::Error) -> Error {
    match e {
        mseq_sink::Error::BrokenPipe => Error::BrokenPipe,
        e => Error::Sink(e),
    }
}

/// Source stage. On an error the engine must not take the input for complete, so `stop` is set
/// before the queue closes.
fn read(
    first: Vec<Item>,
    source: &mut SequenceSource,
    items: &Sender<Item>,
    stop: &Stop,
    counters: &Counters,
) -> Result<()> {
    let mut first = first.into_iter();
    let mut next = || -> Result<bool> {
        let item = match first.next() {
            Some(item) => Some(item),
            None => source.next()?,
        };
        counters.set_read(source.bytes_done(), source.bases_read());
        let Some(item) = item else { return Ok(false) };
        let bytes = item.bytes();
        items.send(item, bytes).map_err(|Closed| Error::Closed)?;
        Ok(true)
    };
    loop {
        match next() {
            Ok(true) if !stop.is_set() => {}
            Ok(true) => return Err(Error::Closed),
            Ok(false) => {
                counters.set_all_read();
                return Ok(());
            }
            Err(e) => {
                stop.set();
                return Err(e);
            }
        }
    }
}

/// Engine stage.
fn run(
    mut engine: Engine,
    mut items: Receiver<Item>,
    rows: &Sender<RowBlock>,
    stop: &Stop,
    counters: &Counters,
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut take = |step: mseq_engine::Step| -> Result<()> {
        if stop.is_set() {
            return Err(Error::Closed);
        }
        counters.add(step.tokens, step.rows.len() as u64, step.done.len() as u64);
        step.done.iter().for_each(|record| summary.add(record));
        if step.rows.is_empty() {
            return Ok(());
        }
        let bytes = step.rows.bytes();
        rows.send(step.rows, bytes).map_err(|Closed| Error::Closed)
    };
    let result = (|| {
        while let Some(item) = items.recv(stop) {
            if let Item::Begin(head) = &item {
                counters.set_record(&head.id);
            }
            engine.push(item, &mut take)?;
        }
        if stop.is_set() {
            return Err(Error::Closed);
        }
        engine.finish(&mut take)
    })();
    if result.is_err() {
        stop.set();
    }
    result.map(|()| summary)
}

/// Sink stage: finishes only when nothing before it failed.
fn write(mut sink: Box<dyn Sink>, mut rows: Receiver<RowBlock>, stop: &Stop) -> Result<Report> {
    while let Some(block) = rows.recv(stop) {
        sink.write(&block).map_err(broken_pipe)?;
    }
    if stop.is_set() {
        return Err(Error::Closed);
    }
    sink.finish().map_err(broken_pipe)
}

#[cfg(unix)]
async fn signal() -> Result<Signal> {
    use tokio::signal::unix::{SignalKind, signal};
    let internal = |e: std::io::Error| Error::Internal(format!("cannot listen for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::Interrupt,
        _ = terminate.recv() => Signal::Terminate,
    })
}

#[cfg(not(unix))]
async fn signal() -> Result<Signal> {
    let internal = |e: std::io::Error| Error::Internal(format!("cannot listen for signals: {e}"));
    tokio::signal::ctrl_c().await.map_err(internal)?;
    Ok(Signal::Interrupt)
}
