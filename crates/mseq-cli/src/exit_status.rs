//! Exit codes, and how each error becomes one.

use mseq_pipeline::Signal;

/// Done; also a broken pipe on standard output.
pub const OK: u8 = 0;
/// Failed at run time.
pub const RUN_TIME: u8 = 1;
/// Wrong usage, or something that is not built yet.
pub const USAGE: u8 = 2;
/// SIGINT.
pub const INTERRUPTED: u8 = 130;
/// SIGTERM.
pub const TERMINATED: u8 = 143;

/// Why a command ended without success.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something impossible or not built: exit 2.
    Usage(String),
    /// The work failed: exit 1.
    Run(String),
    /// A signal: exit 130 or 143.
    Signal(Signal, String),
    /// Standard output was closed: exit 0 without a word.
    Quiet,
}

impl Failure {
    /// Exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Run(_) => RUN_TIME,
            Failure::Signal(Signal::Interrupt, _) => INTERRUPTED,
            Failure::Signal(Signal::Terminate, _) => TERMINATED,
            Failure::Quiet => OK,
        }
    }

    /// The line for standard error.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Usage(m) | Failure::Run(m) | Failure::Signal(_, m) => Some(m),
            Failure::Quiet => None,
        }
    }

    /// An option or command of the contract that this version does not have.
    pub(crate) fn not_built(what: &str) -> Self {
        Failure::Usage(format!("{what} is not built yet in mamba-seq {}", env!("CARGO_PKG_VERSION")))
    }
}

impl From<mseq_source::Error> for Failure {
    fn from(e: mseq_source::Error) -> Self {
        if e.is_usage() {
            return Failure::Usage(e.to_string());
        }
        let way_out = if e.is_bad_record() { " or use --on-bad-record skip" } else { "" };
        Failure::Run(format!("{e}{way_out}"))
    }
}

impl From<mseq_model::Error> for Failure {
    fn from(e: mseq_model::Error) -> Self {
        match e {
            mseq_model::Error::NoSuchLayer { .. } => Failure::Usage(e.to_string()),
            e => Failure::Run(e.to_string()),
        }
    }
}

impl From<mseq_engine::Error> for Failure {
    fn from(e: mseq_engine::Error) -> Self {
        match e {
            mseq_engine::Error::Model(e) => e.into(),
            mseq_engine::Error::TooManyWindows { .. }
            | mseq_engine::Error::OneDevice { .. }
            | mseq_engine::Error::NoSuchType { .. } => Failure::Usage(e.to_string()),
            e => Failure::Run(e.to_string()),
        }
    }
}

impl From<mseq_head::Error> for Failure {
    fn from(e: mseq_head::Error) -> Self {
        Failure::Run(e.to_string())
    }
}

impl From<mseq_sink::Error> for Failure {
    fn from(e: mseq_sink::Error) -> Self {
        match e {
            mseq_sink::Error::BrokenPipe => Failure::Quiet,
            e => Failure::Run(e.to_string()),
        }
    }
}

impl From<mseq_pipeline::Error> for Failure {
    fn from(e: mseq_pipeline::Error) -> Self {
        match e {
            mseq_pipeline::Error::Source(e) => e.into(),
            mseq_pipeline::Error::Engine(e) => e.into(),
            mseq_pipeline::Error::Sink(e) => e.into(),
            mseq_pipeline::Error::BrokenPipe => Failure::Quiet,
            mseq_pipeline::Error::Signal { signal, .. } => Failure::Signal(signal, e.to_string()),
            e => Failure::Run(e.to_string()),
        }
    }
}
