//! Which records a run takes: `--shard` and `--on-bad-record skip`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;

use mseq_core::{Item, Pool, RecordHead, Signal, SoundWindows, Windows};
use mseq_engine::{Context, EngineConfig, Part};
use mseq_source::{AudioOptions, CountBy, DnaTokenizer, Keep, RecordFilter, Strands};
use sha2::{Digest, Sha256};

use crate::args::{JobArgs, JobPlan, OnBadRecord, Reading, Shard};
use crate::{Failure, say};

/// Bad records listed one by one.
const LISTED: usize = 10;

/// A choice of records, made in a pass before the run.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// What to take; `None` takes all.
    wanted: Option<Arc<Share>>,
    /// Of several devices: which of these each takes.
    devices: Vec<Arc<Share>>,
    /// Bases that each of several devices reads.
    pub(super) loads: Vec<u64>,
    /// For a dry run: bases of each record, `None` for one that can't be read.
    pub(super) lengths: Option<Vec<Option<u64>>>,
    /// Bases of all records, when they were counted.
    pub(super) total: u64,
    /// Records left out for an illegal byte.
    pub(super) bad: u64,
    /// SHA-256 of the lengths of all records, as hex: the shards of one input have it in common.
    pub(super) input: Option<String>,
}

/// The part of the input that one shard takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    /// One bit a record.
    records: Vec<u64>,
    /// Of those that are shared out in pieces: where the windows start that it takes, and the last
    /// base that they need. Of recordings both in tokens.
    parts: BTreeMap<u64, (Range<u64>, u64)>,
}

impl Share {
    fn add(&mut self, record: u64) {
        let word = record as usize / 64;
        if self.records.len() <= word {
            self.records.resize(word + 1, 0);
        }
        self.records[word] |= 1 << (record % 64);
    }

    fn has(&self, record: u64) -> bool {
        self.records.get(record as usize / 64).is_some_and(|word| word >> (record % 64) & 1 == 1)
    }
}

impl Selection {
    /// Reads the input once when an option asks for it.
    ///
    /// # Errors
    /// What reading finds, unless bad records are skipped.
    pub(super) fn new(
        args: &JobArgs,
        plan: &JobPlan,
        config: &EngineConfig,
        tokenizer: &DnaTokenizer,
        (quiet, devices): (bool, usize),
    ) -> Result<Self, Failure> {
        let skip = args.on_bad_record == OnBadRecord::Skip;
        if args.shard.is_none() && !skip && devices == 1 {
            return Ok(Self::default());
        }
        // With intervals the pass also says how much of each record is read.
        let (mut heard, mut signals) = (None, Vec::new());
        let (lengths, bad) = if skip || plan.reading.bed.is_some() {
            good_records(plan, tokenizer, quiet, skip)?
        } else {
            let counts = plan.inputs.count(CountBy::Headers)?;
            // Progress counts samples of the model.
            heard = plan.audio.map(|audio| counts.at_rate(audio.options.model_rate));
            if let Some(AudioOptions { model_rate, hop, .. }) = plan.audio.map(|audio| audio.options) {
                signals = counts.rates.iter().map(|&rate| Signal { rate, model_rate, hop }).collect();
            }
            (counts.lengths.into_iter().map(Some).collect(), 0)
        };
        let shard = args.shard.unwrap_or(Shard { index: 1, of: 1 });
        let windows = match config.pool {
            Pool::None => Windows::tiled(1, 1),
            _ => Some(config.windows(plan.inputs.first_format()?)),
        };
        let wanted = match (config.context.filter(|_| plan.reading.is_plain()), &config.audio) {
            (Some(context), Some(audio)) if audio.windows.is_tiled() || config.pool == Pool::None => {
                let windows = (config.pool != Pool::None).then_some(audio.windows);
                stretch_of_sound(&lengths, &signals, shard, context, windows)
            }
            (Some(context), None) if windows.is_some_and(|windows| windows.length().is_some()) => {
                stretch(&lengths, shard, context, windows.unwrap_or(Windows::record()))
            }
            _ => share(&lengths, shard),
        };
        let mut digest = Sha256::new();
        let total = heard.unwrap_or_else(|| lengths.iter().flatten().sum());
        lengths.iter().for_each(|len| digest.update(len.map_or(u64::MAX, |l| l).to_le_bytes()));
        let input = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let (devices, loads) = match devices {
            1 => (Vec::new(), Vec::new()),
            n => spread(&lengths, &wanted, n),
        };
        let lengths = args.dry_run.then_some(lengths);
        Ok(Self { wanted: Some(Arc::new(wanted)), devices, loads, lengths, total, bad, input: Some(input) })
    }

    /// Of a record of `len` bases: where the windows start that are wanted of it, and how far it is
    /// read. `None` for a record that is not.
    pub(super) fn of(&self, record: u64, len: u64) -> Option<(Range<u64>, u64)> {
        let Some(wanted) = &self.wanted else { return Some((0..u64::MAX, len)) };
        match wanted.parts.get(&record) {
            Some((starts, end)) => Some((starts.clone(), (*end).min(len))),
            None => wanted.has(record).then_some((0..u64::MAX, len)),
        }
    }

    /// Leaves out what is not wanted, or not of device number `device` where there are several.
    pub(super) fn filter(&self, device: usize) -> Option<RecordFilter> {
        let (wanted, mine) = (self.wanted.clone()?, self.devices.get(device).cloned());
        Some(RecordFilter::new(move |head| {
            if mine.as_ref().is_some_and(|mine| !mine.has(head.index)) {
                return Keep::Skip;
            }
            match wanted.parts.get(&head.index) {
                Some((_, end)) => Keep::UpTo(*end),
                None if wanted.has(head.index) => Keep::All,
                None => Keep::Skip,
            }
        }))
    }

    /// Where the windows start that are wanted of records which are shared out.
    pub(super) fn parts(&self) -> Option<Arc<BTreeMap<u64, Part>>> {
        let parts = &self.wanted.as_ref()?.parts;
        let all = parts
            .iter()
            .map(|(record, (starts, until))| (*record, Part { starts: starts.clone(), until: *until }));
        (!parts.is_empty()).then(|| Arc::new(all.collect()))
    }
}

/// Length of each record as far as it is read, `None` for one that is not: without an interval, or
/// with an illegal byte, which is named and counted.
fn good_records(
    plan: &JobPlan,
    tokenizer: &DnaTokenizer,
    quiet: bool,
    skip: bool,
) -> Result<(Vec<Option<u64>>, u64), Failure> {
    let (filter, reading) = match &plan.reading.bed {
        // The reverse strand reads a record to its end, but only one that has an interval.
        Some(bed) if plan.reading.strands != Strands::Forward => {
            let set = Arc::clone(&bed.set);
            let keep =
                move |head: &RecordHead| if set.of(&head.id).is_empty() { Keep::Skip } else { Keep::All };
            (Some(RecordFilter::new(keep)), Reading::default())
        }
        _ => (None, plan.reading.forward()),
    };
    let mut source = plan.inputs.open(tokenizer.clone(), 1 << 16, filter, &reading)?;
    let mut lengths: Vec<Option<u64>> = Vec::new();
    let mut bad = 0u64;
    loop {
        match source.next() {
            Ok(None) => break,
            Ok(Some(Item::Begin(head))) => lengths.resize(head.index as usize + 1, None),
            Ok(Some(Item::End(tail))) => {
                if let Some(last) = lengths.last_mut() {
                    *last = Some(tail.bases);
                }
            }
            Ok(Some(Item::Tokens(_) | Item::Samples(_))) => {}
            Err(e) if skip && e.is_bad_record() => {
                bad += 1;
                if bad <= LISTED as u64 && !quiet {
                    say::line(&format!("skipped: {e}"));
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    if bad > LISTED as u64 && !quiet {
        say::line(&format!("skipped: {} more records", bad - LISTED as u64));
    }
    Ok((lengths, bad))
}

/// The records of one shard: longest first, each to the shard with the fewest bases so far, so
/// that the longest shard is at most 4/3 of the best possible (Graham 1969).
fn share(lengths: &[Option<u64>], shard: Shard) -> Share {
    let mut records: Vec<(Reverse<u64>, u64)> =
        lengths.iter().zip(0u64..).filter_map(|(len, i)| len.map(|len| (Reverse(len), i))).collect();
    records.sort_unstable();
    // Each record goes to a shard without one as long as there are any: those beyond the number of
    // records get none, however many millions the command line counts.
    let of = u32::try_from(records.len()).unwrap_or(u32::MAX).min(shard.of);
    let mut shards: BinaryHeap<Reverse<(u64, u64, u32)>> = (1..=of).map(|i| Reverse((0, 0, i))).collect();
    let mut mine = Share::default();
    for (Reverse(len), record) in records {
        // As many shards as the heap was made with, at least one.
        let Some(Reverse((load, count, i))) = shards.pop() else { break };
        if i == shard.index {
            mine.add(record);
        }
        shards.push(Reverse((load + len, count + 1, i)));
    }
    mine
}

/// Which of the wanted records each of `devices` devices takes: whole ones, longest first. And the
/// bases of each.
fn spread(lengths: &[Option<u64>], wanted: &Share, devices: usize) -> (Vec<Arc<Share>>, Vec<u64>) {
    let bases = |(len, record): (&Option<u64>, u64)| match wanted.parts.get(&record) {
        Some((starts, end)) => {
            let end = (*end).min(len.unwrap_or(*end));
            Some(end - starts.start.min(end))
        }
        None => len.filter(|_| wanted.has(record)),
    };
    let lengths: Vec<Option<u64>> = lengths.iter().zip(0u64..).map(bases).collect();
    let of = devices as u32;
    let load = |share: &Share| {
        let mine = lengths.iter().zip(0u64..).filter(|(_, record)| share.has(*record));
        mine.filter_map(|(len, _)| *len).sum::<u64>()
    };
    let each = (1..=of).map(|index| share(&lengths, Shard { index, of }));
    each.map(|share| {
        let bases = load(&share);
        (Arc::new(share), bases)
    })
    .unzip()
}

/// What one shard takes of a record that may be cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    record: u64,
    len: u64,
    /// Its pieces from here ...
    start: u64,
    /// ... to here, `u64::MAX` where that is the record's end.
    end: u64,
}

/// The records of one shard, when they may be cut: all are laid end to end and cut in equal lengths, each cut
/// moved back to where a piece of the context begins to give output.
fn cuts(lengths: &[Option<u64>], shard: Shard, context: Context) -> impl Iterator<Item = Cut> {
    let total: u64 = lengths.iter().flatten().sum();
    // In 128 bits: a length times a number of shards.
    let cut = move |i: u32| (u128::from(total) * u128::from(i) / u128::from(shard.of)) as u64;
    let (from, to) = (cut(shard.index - 1), cut(shard.index));
    let mut before = 0;
    lengths.iter().zip(0u64..).filter_map(move |(len, record)| {
        let len = (*len)?;
        let here = |cut: u64| context.begin_before(cut.saturating_sub(before));
        let start = if from <= before { 0 } else { here(from) };
        let end = if to >= before + len { u64::MAX } else { here(to.max(before)) };
        // An empty record belongs to whoever has the base behind it, or the last one.
        let none = len == 0 && !(from <= before && (before < to || shard.index == shard.of));
        let outside = from > before && from >= before + len;
        before += len;
        (!none && !outside && start < end).then_some(Cut { record, len, start, end })
    })
}

/// The stretch of one shard.
///
/// A window belongs to the stretch that it starts in, with all its bases.
fn stretch(lengths: &[Option<u64>], shard: Shard, context: Context, windows: Windows) -> Share {
    let (length, stride) = (windows.length().unwrap_or(u64::MAX), windows.stride().unwrap_or(u64::MAX));
    let mut mine = Share::default();
    for Cut { record, len, start, end } in cuts(lengths, shard, context) {
        if (start, end) == (0, u64::MAX) {
            mine.add(record);
            continue;
        }
        // Those that start in it, and the end of the last one.
        let count = windows.count(len).min(end.div_ceil(stride));
        if let Some(last) = count.checked_sub(1).filter(|last| last.saturating_mul(stride) >= start) {
            let last = last.saturating_mul(stride).saturating_add(length).min(len);
            mine.parts.insert(record, (start..end, last));
        }
    }
    mine
}

/// The same of recordings, of which `lengths` are the samples; without `windows` each token has a row. They are
/// read to their end, since a resampler and a frame hear what is behind them.
fn stretch_of_sound(
    lengths: &[Option<u64>],
    signals: &[Signal],
    shard: Shard,
    context: Context,
    windows: Option<SoundWindows>,
) -> Share {
    let tokens: Vec<Option<u64>> =
        lengths.iter().zip(signals).map(|(len, signal)| len.map(|len| signal.token_from(len))).collect();
    let mut mine = Share::default();
    for Cut { record, start, end, .. } in cuts(&tokens, shard, context) {
        let at = record as usize;
        let (Some(signal), Some(Some(samples))) = (signals.get(at), lengths.get(at)) else { continue };
        if (start, end) == (0, u64::MAX) {
            mine.add(record);
            continue;
        }
        let until = match windows.map(|windows| windows.at(signal.rate)) {
            _ if end == u64::MAX => u64::MAX,
            None => end,
            Some(windows) => {
                let (length, stride) = (windows.length().unwrap_or(1), windows.stride().unwrap_or(1));
                // The last window whose first token is before the end.
                let last = signal.sample_of(end - 1) / stride * stride;
                let over = last.saturating_add(length);
                if over >= *samples { u64::MAX } else { signal.token_from(over).max(end) }
            }
        };
        mine.parts.insert(record, (start..end, until));
    }
    mine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_part_the_records_and_balance_them() {
        let lengths: Vec<Option<u64>> =
            (0..57u64).map(|i| (i % 9 != 4).then_some((i * 7919) % 1000 * (1 + i % 5))).collect();
        for of in [1, 2, 3, 10, 80] {
            let records = |share: Share| (0..57u64).filter(|&i| share.has(i)).collect::<Vec<_>>();
            let shards: Vec<Vec<u64>> =
                (1..=of).map(|index| records(share(&lengths, Shard { index, of }))).collect();
            let mut all: Vec<u64> = shards.iter().flatten().copied().collect();
            all.sort_unstable();
            let good: Vec<u64> = (0..57).filter(|i| lengths[*i as usize].is_some()).collect();
            assert_eq!(all, good, "{of}");
            let load = |s: &Vec<u64>| s.iter().filter_map(|i| lengths[*i as usize]).sum::<u64>();
            let total: u64 = lengths.iter().flatten().sum();
            let longest = lengths.iter().flatten().max().unwrap();
            let worst = shards.iter().map(load).max().unwrap();
            assert!(worst <= (total / u64::from(of) + longest), "{of}: {worst}");
        }
        let of = u32::MAX;
        let records = |share: Share| (0..57u64).filter(|&i| share.has(i)).count();
        assert_eq!(records(share(&lengths, Shard { index: 50, of })), 1);
        assert_eq!(records(share(&lengths, Shard { index: of, of })), 0);
    }

    /// Chromosomes 1 to 22, X and Y of GRCh38 in millions of bases, on as many devices as a host has.
    #[test]
    fn devices_get_even_parts_of_a_genome() {
        let genome = [
            249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64,
            47, 51, 156, 57,
        ];
        let lengths: Vec<Option<u64>> = genome.into_iter().map(|m| Some(m * 1_000_000)).collect();
        let all = share(&lengths, Shard { index: 1, of: 1 });
        for (devices, even) in [(1, 1.0), (2, 0.99), (4, 0.98), (8, 0.94)] {
            let (shares, loads) = spread(&lengths, &all, devices);
            let total: u64 = lengths.iter().flatten().sum();
            assert_eq!(loads.iter().sum::<u64>(), total);
            let owners = |i| shares.iter().filter(|share| share.has(i)).count();
            assert!((0..24).all(|i| owners(i) == 1));
            let most = loads.iter().copied().max().unwrap();
            let reached = total as f64 / (devices as u64 * most) as f64;
            println!("{devices} devices: {loads:?}, {reached:.4} of even");
            assert!(reached >= even, "{devices}: {reached}");
        }
    }

    #[test]
    fn stretches_have_every_window_once() {
        let context = Context { tokens: 100, overlap: 30 };
        for lengths in [vec![1000, 0, 1, 69, 70, 5000, 0], vec![0], vec![12345], vec![0, 0, 3]] {
            let lengths: Vec<Option<u64>> = lengths.into_iter().map(Some).collect();
            for (length, stride) in [(1, 1), (50, 50), (64, 10), (10, 64), (3000, 500)] {
                let windows = Windows::tiled(length, stride).unwrap();
                for of in [1, 2, 3, 7, 40] {
                    let mut found = Vec::new();
                    for index in 1..=of {
                        let mine = stretch(&lengths, Shard { index, of }, context, windows);
                        for (i, len) in lengths.iter().enumerate() {
                            let (len, i) = (len.unwrap(), i as u64);
                            let (starts, end) = match mine.parts.get(&i) {
                                Some(part) => part.clone(),
                                None if mine.has(i) => (0..u64::MAX, len),
                                None => continue,
                            };
                            assert!(starts.start == 0 || context.begin_before(starts.start) == starts.start);
                            for k in 0..windows.count(len) {
                                let span = windows.span(k, len);
                                if starts.contains(&span.start) {
                                    assert!(span.end <= end);
                                    found.push((i, span.start));
                                }
                            }
                            if len == 0 {
                                found.push((i, 0));
                            }
                        }
                    }
                    let mut want = Vec::new();
                    for (i, len) in lengths.iter().enumerate() {
                        let count = windows.count(len.unwrap()).max(1);
                        want.extend((0..count).map(|k| (i as u64, windows.span(k, len.unwrap()).start)));
                    }
                    found.sort_unstable();
                    want.sort_unstable();
                    assert_eq!(found, want, "{lengths:?} {length} {stride} {of}");
                }
            }
        }
    }
}
