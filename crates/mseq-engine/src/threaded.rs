use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::packer::ChunkBatch;
use crate::runner::{Runner, Snapshot, Values};
use crate::{Error, Result};

/// Steps that a device has been given and that are not collected yet: one that runs, and one that
/// waits, so that the device goes on while the host packs the next.
pub(crate) const AHEAD: usize = 2;

enum Job {
    Run(ChunkBatch),
    Snapshot,
}

enum Done {
    Rows(ChunkBatch, Result<Values>),
    Snapshot(Result<Snapshot>),
}

/// A runner on a thread of its own: the only one that uses its device from then on.
pub(crate) struct Threaded {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
    waiting: usize,
    dim: usize,
}

const GONE: Error = Error::Stream("the thread of the device ended");

impl Threaded {
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn new(mut runner: Box<dyn Runner>) -> Result<Self> {
        let (jobs, jobs_out) = sync_channel::<Job>(AHEAD);
        // One more than can be asked for, so that the thread never waits for a reader that is gone.
        let (done_in, done) = sync_channel(AHEAD + 1);
        let dim = runner.dim();
        let work = move || {
            for job in jobs_out {
                let answer = match job {
                    Job::Run(batch) => {
                        let rows = runner.run(&batch);
                        Done::Rows(batch, rows)
                    }
                    Job::Snapshot => Done::Snapshot(runner.snapshot()),
                };
                if done_in.send(answer).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("mseq-device".into()).spawn(work).map_err(Error::Thread)?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread), waiting: 0, dim })
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Steps that were given and are not collected.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.as_ref().ok_or(GONE)?.send(job).map_err(|_| GONE)
    }

    /// Gives the device its next step.
    pub(crate) fn submit(&mut self, batch: ChunkBatch) -> Result<()> {
        self.send(Job::Run(batch))?;
        self.waiting += 1;
        Ok(())
    }

    /// Waits for the oldest step.
    pub(crate) fn collect(&mut self) -> Result<(ChunkBatch, Values)> {
        match self.done.recv().map_err(|_| GONE)? {
            Done::Rows(batch, rows) => {
                self.waiting -= 1;
                rows.map(|rows| (batch, rows))
            }
            Done::Snapshot(_) => Err(Error::Stream("a snapshot where rows were due")),
        }
    }

    /// The state after all steps, which must have been collected.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        if self.waiting > 0 {
            return Err(Error::Stream("a snapshot between steps that run"));
        }
        self.send(Job::Snapshot)?;
        match self.done.recv().map_err(|_| GONE)? {
            Done::Snapshot(snapshot) => snapshot,
            Done::Rows(..) => Err(Error::Stream("rows where a snapshot was due")),
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.jobs = None;
        // What it still answers fits into the queue; a panic of it has been seen as a closed queue.
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
