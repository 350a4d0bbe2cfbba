//! What no case may do: panic, hang, or take memory because a number in a file says so.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A case that takes longer is reported.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// A case that takes longer will not end.
pub(super) const HANGS: Duration = Duration::from_secs(60);
/// KiB of address space that one small case may add. Threads of a first case take some, too.
pub(super) const MEMORY_KIB: u64 = 512 << 10;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic on a thread that some stage of a case started.
static ELSEWHERE: Mutex<Option<String>> = Mutex::new(None);

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Keeps the words of each panic instead of printing them, until it is dropped.
pub(super) struct Quiet(Option<Hook>);

impl Quiet {
    pub(super) fn new() -> Self {
        let old = panic::take_hook();
        panic::set_hook(Box::new(|info| {
            // The libraries catch these themselves.
            if mseq_core::is_decoding() {
                return;
            }
            let text = words(info);
            LAST.with_borrow_mut(|last| *last = Some(text.clone()));
            *ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }));
        Self(Some(old))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(old) = self.0.take() {
            panic::set_hook(old);
        }
    }
}

fn words(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    let place = info.location().map_or("nowhere".to_owned(), |at| {
        // Without the folder of the registry.
        let file = at.file().rsplit_once("/src/").map_or(at.file(), |(before, _)| before);
        let name = file.rsplit('/').next().unwrap_or(file);
        let rest = at.file().strip_prefix(file).unwrap_or_default();
        format!("{name}{rest}:{}", at.line())
    });
    // Without numbers, so that one fault counts as one whatever the input says.
    let text: String = text.chars().filter(|c| !c.is_ascii_digit()).take(100).collect();
    format!("panicked at {place}: {}", text.replace('\n', " "))
}

/// The words of the last panic on any thread, once.
pub(super) fn take_panic() -> Option<String> {
    LAST.with_borrow_mut(Option::take);
    ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What running something took.
pub(super) struct Run<T> {
    /// `Err` when it panicked.
    pub(super) result: Result<T, String>,
    pub(super) time: Duration,
    /// KiB by which the largest address space of the process grew, when that is too much.
    pub(super) grew: Option<u64>,
}

/// Runs `work`, which may take `most_kib` of memory.
pub(super) fn run<T>(most_kib: u64, work: impl FnOnce() -> T) -> Run<T> {
    take_panic();
    let (before, start) = (peak_kib(), Instant::now());
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let time = start.elapsed();
    let grew = peak_kib().saturating_sub(before);
    let result = result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        take_panic().or(text).or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
    });
    Run { result, time, grew: (grew > most_kib).then_some(grew) }
}

/// Largest address space so far, where the system tells; memory that is asked for and never
/// touched counts.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
