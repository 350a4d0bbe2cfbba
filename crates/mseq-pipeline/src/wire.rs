use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Tells every stage to end, also one that waits for a message.
#[derive(Clone)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }
}

/// A queue bounded in bytes, between two blocking stages.
///
/// Messages differ by orders of magnitude (a read of 100 bases, a block of a chromosome), so a
/// bound on their number bounds nothing. One larger than the whole budget passes alone.
pub(crate) fn queue<T>(bytes: usize, handle: &Handle) -> (Sender<T>, Receiver<T>) {
    let capacity = bytes.clamp(1, u32::MAX as usize >> 1) as u32;
    let budget = Arc::new(Semaphore::new(capacity as usize));
    let (tx, rx) = mpsc::unbounded_channel();
    let receiver = Receiver { rx, budget: Arc::clone(&budget), handle: handle.clone() };
    (Sender { tx, budget, capacity, handle: handle.clone() }, receiver)
}

pub(crate) struct Sender<T> {
    tx: mpsc::UnboundedSender<(T, OwnedSemaphorePermit)>,
    budget: Arc<Semaphore>,
    capacity: u32,
    handle: Handle,
}

pub(crate) struct Receiver<T> {
    rx: mpsc::UnboundedReceiver<(T, OwnedSemaphorePermit)>,
    budget: Arc<Semaphore>,
    handle: Handle,
}

/// The other side is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> Sender<T> {
    /// Waits until `bytes` more fit, then sends. For threads outside the runtime's own.
    pub(crate) fn send(&self, message: T, bytes: usize) -> Result<(), Closed> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.capacity);
        let permit = match Arc::clone(&self.budget).try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            Err(_) => {
                let wait = Arc::clone(&self.budget).acquire_many_owned(permits);
                self.handle.block_on(wait).map_err(|_| Closed)?
            }
        };
        self.tx.send((message, permit)).map_err(|_| Closed)
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` when the sender is gone and the queue is empty, or on `stop`.
    pub(crate) fn recv(&mut self, stop: &Stop) -> Option<T> {
        if stop.is_set() {
            return None;
        }
        let next = match self.rx.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                let mut stopped = stop.0.subscribe();
                self.handle.block_on(async {
                    tokio::select! {
                        biased;
                        _ = stopped.wait_for(|stop| *stop) => None,
                        next = self.rx.recv() => next,
                    }
                })
            }
        };
        next.map(|(message, _permit)| message)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Wakes a sender that waits for room which will never come.
        self.budget.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    #[test]
    fn holds_no_more_bytes_than_its_budget() {
        let rt = runtime();
        let (tx, mut rx) = queue::<usize>(100, rt.handle());
        let held = Arc::new(AtomicUsize::new(0));
        let sender = Arc::clone(&held);
        let thread = std::thread::spawn(move || {
            for i in 0..200 {
                let bytes = 1 + i * 7 % 60;
                tx.send(bytes, bytes).unwrap();
                sender.fetch_add(bytes, Ordering::SeqCst);
            }
        });
        let mut most = 0;
        std::thread::sleep(Duration::from_millis(20));
        while let Some(bytes) = rx.recv(&Stop::new()) {
            most = most.max(held.fetch_sub(bytes, Ordering::SeqCst));
        }
        thread.join().unwrap();
        // One message may be taken and not yet counted off.
        assert!(most > 40 && most <= 160, "{most}");
    }

    #[test]
    fn a_message_larger_than_the_budget_passes_alone() {
        let rt = runtime();
        let (tx, mut rx) = queue::<u8>(10, rt.handle());
        tx.send(1, 1_000_000).unwrap();
        let thread = std::thread::spawn(move || tx.send(2, 1));
        assert_eq!(rx.recv(&Stop::new()), Some(1));
        assert_eq!(rx.recv(&Stop::new()), Some(2));
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert_eq!(rx.recv(&Stop::new()), None);
    }

    #[test]
    fn a_waiting_receiver_wakes_on_stop() {
        let rt = runtime();
        let (tx, mut rx) = queue::<u8>(10, rt.handle());
        let stop = Stop::new();
        let waiting = stop.clone();
        let thread = std::thread::spawn(move || rx.recv(&waiting));
        std::thread::sleep(Duration::from_millis(20));
        stop.set();
        assert_eq!(thread.join().unwrap(), None);
        drop(tx);
    }

    #[test]
    fn a_waiting_sender_wakes_when_the_receiver_goes() {
        let rt = runtime();
        let (tx, rx) = queue::<u8>(10, rt.handle());
        tx.send(1, 10).unwrap();
        let thread = std::thread::spawn(move || tx.send(2, 10));
        std::thread::sleep(Duration::from_millis(20));
        drop(rx);
        assert_eq!(thread.join().unwrap(), Err(Closed));
    }
}
