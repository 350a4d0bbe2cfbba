//! Progress of a job on standard error: a bar, or JSON lines.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mseq_pipeline::Counters;
use serde_json::json;

use crate::args::ProgressMode;
use crate::say;

/// What a job's tokens are of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// Letters.
    Bases,
    /// Samples: so many a token, and so many a second.
    Sound { hop: u64, rate: u32 },
}

impl Unit {
    /// Bases or samples of so many tokens.
    fn of(self, tokens: u64) -> u64 {
        match self {
            Self::Bases => tokens,
            Self::Sound { hop, .. } => tokens.saturating_mul(hop),
        }
    }
}

/// A display that follows a job's counters until it is dropped.
pub(crate) struct Progress {
    stop: Option<Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the display that `mode` asks for; none with `quiet`, in a pipe, or when the thread
    /// can't be had: a display is never worth a failure.
    pub(crate) fn start(
        mode: ProgressMode,
        quiet: bool,
        counters: &Arc<Counters>,
        (bytes_total, unit): (Option<u64>, Unit),
    ) -> Self {
        let none = Self { stop: None, thread: None };
        let json = match mode {
            ProgressMode::Json => true,
            ProgressMode::Auto if !quiet && io::stderr().is_terminal() => false,
            _ => return none,
        };
        let (stop, stopped) = channel();
        let counters = Arc::clone(counters);
        let body = move || {
            let view = View { counters, bytes_total, unit, start: Instant::now() };
            let bar = (!json).then(bar);
            let every = Duration::from_millis(if json { 500 } else { 100 });
            let mut over = None;
            if json {
                over = view.wait_for_start(&stopped);
                view.json("start");
            }
            let done = loop {
                if let Some(done) = over {
                    break done;
                }
                match stopped.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => match &bar {
                        Some(bar) => view.draw(bar),
                        None => view.json("progress"),
                    },
                    Ok(done) => break done,
                    Err(RecvTimeoutError::Disconnected) => break false,
                }
            };
            match bar {
                Some(bar) => bar.finish_and_clear(),
                None => view.json(if done { "done" } else { "failed" }),
            }
        };
        match std::thread::Builder::new().name("progress".into()).spawn(body) {
            Ok(thread) => Self { stop: Some(stop), thread: Some(thread) },
            Err(_) => none,
        }
    }

    /// Takes the display away; JSON ends in a line `done` or `failed`.
    pub(crate) fn finish(mut self, done: bool) {
        if let Some(stop) = self.stop.take() {
            // The thread may be gone: then there is nothing to end.
            let _ = stop.send(done);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct View {
    counters: Arc<Counters>,
    bytes_total: Option<u64>,
    unit: Unit,
    start: Instant,
}

impl View {
    /// The first line says where the job starts, which it knows once its checkpoint is read. Gives
    /// the end of a job that was over by then.
    fn wait_for_start(&self, stopped: &Receiver<bool>) -> Option<bool> {
        while !self.counters.started() {
            match stopped.recv_timeout(Duration::from_millis(5)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(done) => return Some(done),
                Err(RecvTimeoutError::Disconnected) => return Some(false),
            }
        }
        None
    }

    /// Bases or samples that are done.
    fn done(&self) -> u64 {
        self.unit.of(self.counters.bases())
    }

    fn rate(&self) -> f64 {
        let done = self.done().saturating_sub(self.unit.of(self.counters.resumed_from()));
        done as f64 / self.start.elapsed().as_secs_f64().max(1e-3)
    }

    fn eta(&self, total: Option<u64>) -> Option<f64> {
        let (done, rate) = (self.done(), self.rate());
        (rate > 0.0).then_some(total?.saturating_sub(done) as f64 / rate)
    }

    fn json(&self, event: &str) {
        let total = self.counters.bases_total(self.bytes_total);
        let mut line = json!({
            "event": event,
            "record": self.counters.record().as_deref(),
            "bases_done": self.done(),
            "bases_total": total,
            "rows": self.counters.rows(),
            "rate": (self.rate() * 10.0).round() / 10.0,
            "eta_s": self.eta(total).map(|s| (s * 10.0).round() / 10.0),
        });
        if event == "start" {
            line["resumed_from"] = json!(self.unit.of(self.counters.resumed_from()));
        }
        if let Unit::Sound { rate, .. } = self.unit {
            let seconds = |samples: u64| (samples as f64 / f64::from(rate) * 1000.0).round() / 1000.0;
            line["seconds_done"] = json!(seconds(self.done()));
            line["seconds_total"] = json!(total.map(seconds));
            line["x_real_time"] = json!((self.rate() / f64::from(rate) * 10.0).round() / 10.0);
        }
        // Nobody left to read it: the job goes on.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    fn draw(&self, bar: &ProgressBar) {
        let total = self.counters.bases_total(self.bytes_total);
        let done = self.done();
        match total {
            Some(total) => bar.set_length(total.max(done)),
            None => bar.unset_length(),
        }
        bar.set_position(done);
        let record = self.counters.record().unwrap_or_default();
        let eta = self.eta(total).map_or(String::new(), |s| format!(", {} left", say::seconds(s)));
        let speed = match self.unit {
            Unit::Bases => format!("{} bases/s", say::grouped(self.rate() as u64)),
            Unit::Sound { rate, .. } => {
                let rate = f64::from(rate);
                format!(
                    "{} of audio, {:.0} x real time",
                    say::seconds(done as f64 / rate),
                    self.rate() / rate
                )
            }
        };
        bar.set_message(format!("{record}  {speed}{eta}"));
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {percent:>3}%  {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
