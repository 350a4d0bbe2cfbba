use std::path::{Path, PathBuf};
use std::sync::Arc;

use mseq_core::RowBlock;
use mseq_sink::{
    Arrange, BedGraphSink, IpcSink, KeptRows, Options, ParquetSink, Report, RowLayout, RowLog, Sink,
};

use crate::bigwig::BigWigSink;
use crate::checkpoint::{self, Checkpoint};
use crate::{Error, Result};

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A Parquet file, which appears complete or not at all.
    Parquet(PathBuf),
    /// Scores as a track along the genome, complete or not at all.
    Track(PathBuf, Track),
    /// A log that stays, for the file of that name: one of several logs of a job.
    Log(PathBuf),
    /// An Arrow IPC stream on standard output.
    Stdout,
}

/// A format of genome browsers: contig, start, end and one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Track {
    /// Text.
    BedGraph,
    /// Indexed and compressed; contigs of one name, or windows that overlap, can't be in it.
    BigWig {
        /// Bases of each record of the input, for intervals, which don't reach its end.
        lengths: Option<Arc<[u64]>>,
    },
}

impl Track {
    fn sink(&self, path: &Path) -> mseq_sink::Result<Box<dyn Sink>> {
        Ok(match self {
            Self::BedGraph => Box::new(BedGraphSink::create(path)?),
            Self::BigWig { lengths } => Box::new(BigWigSink::create(path, lengths.clone())?),
        })
    }
}

impl Output {
    /// The name of the file, or of that which a log is for.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::Parquet(path) | Self::Track(path, _) | Self::Log(path) => Some(path),
            Self::Stdout => None,
        }
    }
}

/// How a log becomes the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Making {
    pub(crate) arrange: Option<Arrange>,
    pub(crate) encoders: usize,
}

/// What a log is for.
#[derive(Clone)]
pub(crate) enum Becomes {
    Parquet,
    Track(Track),
    /// It stays.
    Log,
}

/// An output that is being written.
pub(crate) enum Writing {
    /// A stream or a device: no going back, so nothing to resume.
    Direct(Box<dyn Sink>),
    /// A file, with checkpoints beside its log.
    Logged { log: Box<RowLog>, output: PathBuf, has_checkpoint: bool, becomes: Becomes },
    /// A stream or a device whose rows have to be put in order first.
    Spooled { log: Box<RowLog>, sink: Box<dyn Sink>, _folder: tempfile::TempDir },
}

impl Writing {
    /// Opens an output, after what `resume` says is already in its log.
    pub(crate) fn open(
        output: &Output,
        layout: RowLayout,
        metadata: &[(String, String)],
        Making { arrange, encoders }: Making,
        resume: Option<&Checkpoint>,
    ) -> Result<Self> {
        let options = Options { arrange, ..Options::for_layout(&layout) };
        // The sink last: a stream that has begun would have to end.
        let direct = |sink: &dyn Fn() -> mseq_sink::Result<Box<dyn Sink>>| -> Result<Self> {
            if arrange.is_none() {
                return Ok(Self::Direct(sink().map_err(broken_pipe)?));
            }
            let parent = std::env::temp_dir();
            let folder =
                tempfile::tempdir_in(&parent).map_err(|cause| Error::Spool { folder: parent, cause })?;
            let log = RowLog::create(
                &folder.path().join("rows"),
                layout.clone(),
                metadata,
                options.clone(),
                || {},
            )?;
            let sink = sink().map_err(broken_pipe)?;
            Ok(Self::Spooled { log: Box::new(log), sink, _folder: folder })
        };
        Ok(match output {
            Output::Stdout => direct(&|| {
                Ok(Box::new(IpcSink::new(std::io::stdout(), layout.clone(), metadata, &options)?))
            })?,
            Output::Parquet(path) if !RowLog::can_log(path) => direct(&|| {
                Ok(Box::new(ParquetSink::create(path, layout.clone(), metadata, options.clone())?))
            })?,
            Output::Track(path, track) if !RowLog::can_log(path) => direct(&|| track.sink(path))?,
            Output::Parquet(path) | Output::Track(path, _) | Output::Log(path) => {
                // The engine is gone by then, so its memory is there for them.
                let options = Options { encoders, ..options };
                let log = match resume {
                    Some(c) => RowLog::resume(path, layout, metadata, options, &c.saved)?,
                    None => {
                        // Under the log's lock: the checkpoint of a job that runs must stay.
                        RowLog::create(path, layout, metadata, options, || checkpoint::remove(path))?
                    }
                };
                Self::Logged {
                    log: Box::new(log),
                    output: path.clone(),
                    has_checkpoint: resume.is_some(),
                    becomes: match output {
                        Output::Track(_, track) => Becomes::Track(track.clone()),
                        Output::Log(_) => Becomes::Log,
                        _ => Becomes::Parquet,
                    },
                }
            }
        })
    }

    pub(crate) fn write(&mut self, rows: &RowBlock) -> Result<()> {
        match self {
            Self::Direct(sink) => sink.write(rows).map_err(broken_pipe),
            Self::Logged { log, .. } | Self::Spooled { log, .. } => log.write(rows).map_err(broken_pipe),
        }
    }

    /// Takes the kept columns of records whose rows come later.
    pub(crate) fn keep(&mut self, kept: KeptRows) -> Result<()> {
        match self {
            Self::Direct(sink) => sink.keep(kept).map_err(broken_pipe),
            Self::Logged { log, .. } | Self::Spooled { log, .. } => log.keep(kept).map_err(broken_pipe),
        }
    }

    /// Puts rows and checkpoint on the disk; nothing for an output that can't be resumed.
    pub(crate) fn save(&mut self, mut checkpoint: Checkpoint) -> Result<()> {
        if let Self::Logged { log, output, has_checkpoint, .. } = self {
            checkpoint.saved = log.sync().map_err(broken_pipe)?;
            checkpoint.write(output)?;
            *has_checkpoint = true;
        }
        Ok(())
    }

    /// Makes the output complete; gives back a log that stays.
    pub(crate) fn finish(self) -> Result<(Report, Option<Box<RowLog>>)> {
        let report = match self {
            Self::Direct(sink) => sink.finish(),
            Self::Spooled { log, sink, .. } => log.finish_into(sink),
            Self::Logged { log, becomes: Becomes::Log, .. } => return Ok((Report::default(), Some(log))),
            Self::Logged { log, output, becomes: Becomes::Track(track), .. } => {
                let sink = track.sink(&output).map_err(broken_pipe)?;
                log.finish_as(sink, || checkpoint::remove(&output))
            }
            Self::Logged { log, output, .. } => log.finish(|| checkpoint::remove(&output)),
        };
        Ok((report.map_err(broken_pipe)?, None))
    }

    /// The log that `--resume` would go on from, were the job to end now.
    pub(crate) fn saved(&self) -> Option<PathBuf> {
        match self {
            Self::Logged { output, has_checkpoint: true, .. } => Some(RowLog::path_of(output)),
            _ => None,
        }
    }

    /// The job ended early: a log with a checkpoint stays, any other trace goes.
    pub(crate) fn abandon(self) -> Option<PathBuf> {
        let saved = self.saved();
        if let (Self::Logged { log, .. }, None) = (self, &saved) {
            log.discard();
        }
        saved
    }
}

fn broken_pipe(e: mseq_sink::Error) -> Error {
    match e {
        mseq_sink::Error::BrokenPipe => Error::BrokenPipe,
        e => Error::Sink(e),
    }
}
