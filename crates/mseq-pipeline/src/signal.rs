use crate::{Error, Result, Signal};

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
