use std::num::{NonZero, NonZeroU32};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Channel, Track};
use crate::{Counts, Input, InputSet, Result};

/// Recordings that are counted at once, at most: each takes the room of a decoder.
const MOST_THREADS: usize = 8;

/// By what recordings are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// What WAV and FLAC files say of themselves, and decoding the others. A FLAC file that ends early shows
    /// when it is read, and one that has more than it says is still read to its end.
    Headers,
    /// Decoding all of them.
    Decoding,
}

/// Counts the samples of all recordings, at their own rates, several recordings at a time.
///
/// # Errors
/// What opening and decoding find.
pub fn count_audio(set: &InputSet, channel: Option<Channel>, by: CountBy) -> Result<Counts> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    side_by_side(set, channel, by, cores.min(MOST_THREADS))
}

fn side_by_side(set: &InputSet, channel: Option<Channel>, by: CountBy, threads: usize) -> Result<Counts> {
    let (inputs, next) = (&set.inputs, AtomicUsize::new(0));
    let work = || {
        let mut mine = Vec::new();
        while let i = next.fetch_add(1, Ordering::Relaxed)
            && let Some(input) = inputs.get(i)
        {
            let counted = count(input, channel, by);
            if counted.is_err() {
                // Nobody need begin another; those before it are begun.
                next.store(inputs.len(), Ordering::Relaxed);
            }
            mine.push((i, counted));
        }
        mine
    };
    let mut all = thread::scope(|scope| {
        // This thread takes part, so that it does not matter if no other can be started.
        let others: Vec<_> = (1..threads.min(inputs.len()))
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(more) => all.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(i, _)| *i);
    let mut counts = Counts::default();
    for (_, counted) in all {
        // The first fault in the order of the inputs.
        let (samples, rate) = counted?;
        counts.records += 1;
        counts.bases = counts.bases.saturating_add(samples);
        counts.lengths.push(samples);
        counts.rates.push(rate);
    }
    Ok(counts)
}

/// Samples of a recording, and how many it has a second.
fn count(input: &Input, channel: Option<Channel>, by: CountBy) -> Result<(u64, NonZeroU32)> {
    let mut track = Track::open(input, channel)?;
    let samples = match track.decoder.counted() {
        Some(samples) if by == CountBy::Headers => samples,
        _ => {
            let mut buffer = Vec::new();
            while track.next(&mut buffer)? {}
            track.done
        }
    };
    Ok((samples, track.rate))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn threads_count_the_same_and_find_the_first_fault() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/audio/clips");
        let set = InputSet::resolve_audio(&[folder.display().to_string()], false).unwrap();
        let alone = side_by_side(&set, None, CountBy::Decoding, 1).unwrap();
        assert!(alone.records > 1 && alone.lengths.iter().all(|&samples| samples > 0));
        for threads in [1, 2, 3, 40] {
            for by in [CountBy::Headers, CountBy::Decoding] {
                assert_eq!(side_by_side(&set, None, by, threads).unwrap(), alone);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let whole = std::fs::read(set.inputs[0].path().unwrap()).unwrap();
        let files: Vec<String> = (0..9)
            .map(|i| {
                let path = dir.path().join(format!("{i}.wav"));
                std::fs::write(&path, if i == 3 || i == 7 { &whole[..20] } else { &whole[..] }).unwrap();
                path.display().to_string()
            })
            .collect();
        let set = InputSet::resolve_audio(&files, false).unwrap();
        for threads in [1, 2, 5] {
            let e = side_by_side(&set, None, CountBy::Headers, threads).unwrap_err().to_string();
            assert!(e.contains("3.wav"), "{e}");
        }
    }

    /// Headers are believed only as far as they can be true.
    #[test]
    fn a_wav_file_cut_short_is_not_counted_by_its_header() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/audio/clips/notes.wav");
        let bytes = std::fs::read(path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.wav");
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let set = InputSet::resolve_audio(&[file.display().to_string()], false).unwrap();
        let e = count_audio(&set, None, CountBy::Headers).unwrap_err().to_string();
        assert!(e.contains("x.wav") && e.contains("samples"), "{e}");
    }
}
