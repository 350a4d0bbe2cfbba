use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use crate::{Error, Result, Signal};

/// Looks out for SIGINT and SIGTERM, for work that asks between its steps.
#[derive(Debug)]
pub struct SignalWatch(Arc<OnceLock<Signal>>);

impl SignalWatch {
    /// From when it returns on, a signal no longer ends the process.
    ///
    /// # Errors
    /// When the system does not let it listen.
    pub fn start() -> Result<Self> {
        let internal = |e: std::io::Error| Error::Internal(format!("cannot listen for signals: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
        let came = Arc::new(OnceLock::new());
        let (said, listening) = (Arc::clone(&came), mpsc::channel());
        let (ready, listens) = listening;
        let listen = move || {
            runtime.block_on(async {
                let mut waiting = Box::pin(signal());
                // The first poll registers the handlers.
                let first = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(Future::poll(waiting.as_mut(), context))
                });
                let first = first.await;
                // Nobody may listen any more.
                ready.send(()).ok();
                let signal = match first {
                    std::task::Poll::Ready(signal) => signal,
                    std::task::Poll::Pending => waiting.await,
                };
                if let Ok(signal) = signal {
                    said.set(signal).ok();
                }
            });
        };
        thread::Builder::new().name("signals".into()).spawn(listen).map_err(internal)?;
        // An error means that the thread is gone, and the process ends by signals as ever.
        listens.recv().ok();
        Ok(Self(came))
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Error::Signal`] once one came.
    pub fn check(&self) -> Result<()> {
        match self.came() {
            None => Ok(()),
            Some(signal) => Err(Error::Signal { signal, saved: None }),
        }
    }

    /// The signal that came.
    pub fn came(&self) -> Option<Signal> {
        self.0.get().copied()
    }
}

/// Waits for SIGINT or SIGTERM.
#[cfg(unix)]
pub(crate) async fn signal() -> Result<Signal> {
    use tokio::signal::unix::{SignalKind, signal};
    let internal = |e: std::io::Error| Error::Internal(format!("cannot listen for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::Interrupt,
        _ = terminate.recv() => Signal::Terminate,
    })
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn signal() -> Result<Signal> {
    let internal = |e: std::io::Error| Error::Internal(format!("cannot listen for signals: {e}"));
    tokio::signal::ctrl_c().await.map_err(internal)?;
    Ok(Signal::Interrupt)
}
