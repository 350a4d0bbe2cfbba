//! Recordings that are decoded while an earlier one is read.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::AudioOptions;
use super::source::{Block, Decoding, Recording};
use crate::{Input, Result};

/// Blocks of a recording that wait to be read: short recordings are decoded whole before their turn comes,
/// and of long ones no more is held.
const WAITING: usize = 64;

/// What a thread makes of a recording.
enum Heard {
    Begin(Recording),
    Block(Block),
}

struct Job {
    input: Input,
    options: AudioOptions,
    /// Samples a block.
    block: usize,
    to: SyncSender<Result<Heard>>,
}

impl Job {
    /// Decodes to the end, or until no one listens.
    fn run(self) {
        let mut decoding = match Decoding::open(&self.input, &self.options) {
            Ok(decoding) => decoding,
            // That no one listens is no fault: the job has ended.
            Err(e) => return drop(self.to.send(Err(e))),
        };
        let mut heard = Ok(Heard::Begin(decoding.recording()));
        loop {
            let goes_on = match &heard {
                Ok(Heard::Begin(_)) => true,
                Ok(Heard::Block(block)) => !block.is_end(),
                Err(_) => false,
            };
            if self.to.send(heard).is_err() || !goes_on {
                return;
            }
            heard = decoding.next(self.block).map(Heard::Block);
        }
    }
}

/// Threads that decode recordings in the order in which they are given.
pub(super) struct Ahead {
    jobs: Sender<Job>,
    threads: usize,
}

impl Ahead {
    /// Fewer threads where no more can be started; `None` where none can.
    pub(super) fn start(threads: usize) -> Option<Self> {
        let (jobs, taken) = channel::<Job>();
        let taken = Arc::new(Mutex::new(taken));
        let work = move |taken: &Mutex<Receiver<Job>>| {
            loop {
                let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                job.run();
            }
        };
        let started = (0..threads).map_while(|_| {
            let taken = Arc::clone(&taken);
            thread::Builder::new().name("mseq-decode".into()).spawn(move || work(&taken)).ok()
        });
        let threads = started.count();
        (threads > 0).then_some(Self { jobs, threads })
    }

    /// Recordings that may be on their way.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Begins to decode a recording, after those given before.
    pub(super) fn decode(&self, input: Input, options: AudioOptions, block: usize) -> Coming {
        let (to, heard) = sync_channel(WAITING);
        let path = input.label().to_string();
        // Where all threads are gone, so is the sender, and that is seen when it is read.
        let _ = self.jobs.send(Job { input, options, block, to });
        Coming { path, heard }
    }
}

/// A recording that a thread decodes.
pub(super) struct Coming {
    path: String,
    heard: Receiver<Result<Heard>>,
}

impl Coming {
    fn next(&self) -> Result<Heard> {
        self.heard.recv().unwrap_or_else(|_| Err(self.broken("the thread that decodes it ended")))
    }

    /// Waits until it is open.
    pub(super) fn recording(&self) -> Result<Recording> {
        match self.next()? {
            Heard::Begin(recording) => Ok(recording),
            Heard::Block(_) => Err(self.broken("a recording without a beginning")),
        }
    }

    /// Waits for its next block.
    pub(super) fn block(&self) -> Result<Block> {
        match self.next()? {
            Heard::Block(block) => Ok(block),
            Heard::Begin(_) => Err(self.broken("a recording that begins twice")),
        }
    }

    fn broken(&self, what: &str) -> crate::Error {
        crate::Error::Io { path: self.path.clone(), cause: io::Error::other(what) }
    }
}
