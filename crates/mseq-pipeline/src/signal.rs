use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};

use crate::{Error, Result, Signal};

/// Looks out for SIGINT and SIGTERM, for work that asks between its steps.
pub struct SignalWatch {
    runtime: Option<Runtime>,
    seen: Arc<Mutex<Option<Signal>>>,
}

impl SignalWatch {
    /// Signals no longer end the process from here on.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> Result<Self> {
        let internal = |e: std::io::Error| Error::Internal(format!("cannot start threads: {e}"));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(internal)?;
        let seen: Arc<Mutex<Option<Signal>>> = Arc::default();
        let here = Arc::clone(&seen);
        runtime.spawn(async move {
            if let Ok(signal) = signal().await {
                *here.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
            }
        });
        Ok(Self { runtime: Some(runtime), seen })
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Error::Signal`] once one came.
    pub fn check(&self) -> Result<()> {
        match *self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(signal) => Err(Error::Signal { signal, saved: None }),
        }
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        // It may wait for good.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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
