//! Recordings through the packer, against loops over whole records.

use std::num::{NonZeroU32, NonZeroU64};

use mseq_core::{
    Extent, Front, Item, Layer, Pool, RecordHead, RecordTail, SequenceFormat, Signal, SoundWindows, Windows,
};
use proptest::prelude::*;

use crate::context::Context;
use crate::{AudioConfig, BatchOutput, ChunkBatch, Engine, EngineConfig, Position, Result, Runner, Snapshot};

/// A row is a checksum of the samples of its frame; a window the sum of its rows.
struct Checksums {
    front: Front,
    sums: Vec<f64>,
}

fn checksum(frame: &[f32]) -> f32 {
    frame.iter().enumerate().map(|(i, s)| s * (i + 1) as f32).sum()
}

impl Runner for Checksums {
    fn dim(&self) -> usize {
        1
    }

    fn device(&self) -> String {
        "sums".into()
    }

    fn run(&mut self, batch: &ChunkBatch) -> Result<crate::Values> {
        assert!(batch.ids.is_empty());
        assert_eq!(batch.lanes.len(), batch.lane_samples.len());
        let mut rows = Vec::new();
        for (lane, samples) in batch.lanes.iter().zip(&batch.lane_samples) {
            assert_eq!(lane.rows.start, rows.len());
            assert_eq!(samples.len(), self.front.samples(lane.rows.len()));
            let samples = &batch.samples[samples.clone()];
            rows.extend(samples.windows(self.front.reach).step_by(self.front.hop).map(checksum));
            assert_eq!(lane.rows.end, rows.len());
        }
        assert_eq!(batch.rows(), rows.len());
        let out: Vec<f32> = match &batch.output {
            BatchOutput::Rows(ranges) => ranges.iter().cloned().flatten().map(|row| rows[row]).collect(),
            BatchOutput::Pool(segments) => {
                let (before, mut out) = (self.sums.clone(), Vec::new());
                for s in segments {
                    let mut sum = s.from.map_or(0.0, |slot| before[slot]);
                    s.rows.clone().for_each(|row| sum += f64::from(rows[row]));
                    match s.keep {
                        Some(slot) => self.sums[slot] = sum,
                        None => out.push((sum / s.count as f64) as f32),
                    }
                }
                out
            }
        };
        Ok(out.into())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot { layers: Vec::new(), sums: self.sums.clone(), ..Snapshot::default() })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.sums.clone_from(&snapshot.sums);
        Ok(())
    }
}

struct Recording {
    signal: Signal,
    samples: Vec<f32>,
    /// Samples of the file.
    of_file: u64,
}

fn recordings(lengths: &[(u64, u32)], model_rate: u32, front: Front) -> Vec<Recording> {
    let n = |n: u32| NonZeroU32::new(n).unwrap();
    let one = |(i, &(of_file, rate)): (usize, &(u64, u32))| {
        let model = (of_file * u64::from(model_rate)).div_ceil(u64::from(rate));
        // Whole numbers: every sum of them is exact.
        let samples = (0..model).map(|t| ((t * 37 + i as u64 * 11) % 101) as f32 - 50.0).collect();
        Recording {
            signal: Signal { rate: n(rate), model_rate: n(model_rate), hop: n(front.hop as u32) },
            samples,
            of_file,
        }
    };
    lengths.iter().enumerate().map(one).collect()
}

fn items(recordings: &[Recording], block: usize) -> Vec<Item> {
    let mut items = Vec::new();
    for (i, r) in recordings.iter().enumerate() {
        items.push(Item::Begin(RecordHead {
            source: "x.wav".into(),
            id: format!("r{i}").into(),
            index: i as u64,
            format: SequenceFormat::Audio,
            reversed: None,
            signal: Some(r.signal),
        }));
        items.extend(r.samples.chunks(block).map(|block| Item::Samples(block.to_vec())));
        items.push(Item::End(RecordTail { bases: r.of_file, ..RecordTail::default() }));
    }
    items
}

/// Rows (record, start, end, value) as the contract has them, and the windows without a token.
fn wanted(config: &EngineConfig, front: Front, all: &[Recording]) -> (Vec<(u64, u64, u64, f32)>, u64) {
    let (mut rows, mut skipped) = (Vec::new(), 0);
    for (i, r) in all.iter().enumerate() {
        let frames: Vec<f32> = (0..front.frames(r.samples.len() as u64) as usize)
            .map(|t| {
                let at = |j: usize| r.samples.get(t * front.hop + j).copied().unwrap_or(0.0);
                checksum(&(0..front.reach).map(at).collect::<Vec<_>>())
            })
            .collect();
        let file = |t: usize| {
            t as u64 * front.hop as u64 * u64::from(r.signal.rate.get())
                / u64::from(r.signal.model_rate.get())
        };
        if config.pool == Pool::None {
            for (t, &value) in frames.iter().enumerate() {
                let end = if t + 1 == frames.len() { r.of_file } else { file(t + 1) };
                rows.push((i as u64, file(t), end.max(file(t) + 1), value));
            }
            continue;
        }
        let windows = config.audio.unwrap().windows.at(r.signal.rate);
        for k in 0..windows.count(r.of_file) {
            let span = windows.span(k, r.of_file);
            let inside: Vec<f64> = (0..frames.len())
                .filter(|&t| (span.start..span.end).contains(&file(t)))
                .map(|t| f64::from(frames[t]))
                .collect();
            if inside.is_empty() {
                skipped += 1;
            } else {
                let mean = inside.iter().sum::<f64>() / inside.len() as f64;
                rows.push((i as u64, span.start, span.end, mean as f32));
            }
        }
    }
    (rows, skipped)
}

type Rows = Vec<(u64, u64, u64, f32)>;

/// Runs the items; with `stop_at` only so many steps, and gives what was saved there.
fn run(
    config: &EngineConfig,
    front: Front,
    items: Vec<Item>,
    from: Option<(Position, Snapshot)>,
    stop_at: Option<usize>,
) -> (Rows, u64, Option<(Position, Snapshot)>) {
    let sums = vec![0.0; config.open_windows() as usize];
    let runner = Box::new(Checksums { front, sums });
    let mut engine = match from {
        Some((position, snapshot)) => Engine::resume(config.clone(), runner, position, &snapshot).unwrap(),
        None => Engine::new(config.clone(), runner),
    };
    let (mut rows, mut skipped, mut steps) = (Rows::new(), 0, 0);
    let mut take = |step: crate::Step| {
        skipped += step.done.iter().map(|record| record.skipped_windows).sum::<u64>();
        for (key, value) in step.rows.keys.iter().zip(&step.rows.values) {
            assert_eq!(key.strand, mseq_core::Strand::Both);
            rows.push((key.record_index, key.start, key.end, *value));
        }
    };
    for item in items {
        engine.push(item).unwrap();
        while let Some(step) = engine.step().unwrap() {
            take(step);
            steps += 1;
            if Some(steps) == stop_at {
                let saved = engine.snapshot().unwrap();
                return (rows, skipped, Some(saved));
            }
        }
    }
    while let Some(step) = engine.last_step().unwrap() {
        take(step);
    }
    (rows, skipped, None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_block_and_neighbour_gives_the_rows_of_the_contract(
        lengths in prop::collection::vec((0..300u64, prop::sample::select(vec![8u32, 16, 11, 44])), 1..6),
        front in prop::sample::select(vec![(1usize, 1usize), (4, 4), (4, 9), (3, 7), (5, 22)]),
        block in 1..60usize, chunk in 1..40usize, grid in 1..5usize,
        window in prop::option::of((1..90u64, 1..90u64)), timed in any::<bool>(),
        pool in prop::sample::select(vec![Pool::Mean, Pool::None]),
        context in prop::option::of((6..60u64, 0..6u64)), stop in 1..9usize,
    ) {
        let front = Front { hop: front.0, reach: front.1 };
        let extent = |n: u64| match timed {
            true => Extent::Nanos(NonZeroU64::new(n * 100_000_000).unwrap()),
            false => Extent::Samples(NonZeroU64::new(n).unwrap()),
        };
        let windows = match window {
            Some((length, stride)) => SoundWindows::new(extent(length), Some(extent(stride))),
            None => SoundWindows::new(Extent::Record, None),
        };
        let config = EngineConfig {
            pool,
            layer: Layer::Last,
            fasta_windows: Windows::record(),
            fastq_windows: Windows::record(),
            chunk,
            context: context.map(|(tokens, overlap)| Context { tokens, overlap }),
            regions: None,
            parts: None,
            grid: grid.min(chunk),
            audio: Some(AudioConfig { front: Some(front), windows: windows.unwrap() }),
        };
        let all = recordings(&lengths, 16, front);
        let (want, skipped_want) = wanted(&config, front, &all);
        let (rows, skipped, _) = run(&config, front, items(&all, block), None, None);
        prop_assert_eq!(&rows, &want);
        prop_assert_eq!(skipped, skipped_want);
        // Stopped after some step and gone on with, in other blocks.
        let (mut rows, _, saved) = run(&config, front, items(&all, block), None, Some(stop));
        if let Some(saved) = saved {
            rows.extend(run(&config, front, items(&all, block + 3), Some(saved.clone()), None).0);
            prop_assert_eq!(&rows, &want);
            // A sample that changed before the place, or that a frame before it is made of, shows.
            let position = saved.0;
            let index = position.records as usize - 1;
            let mut other = recordings(&lengths, 16, front);
            let reached = if position.pos > 0 { (position.pos as usize - 1) * front.hop + front.reach } else { 0 };
            if let Some(last) = reached.min(other[index].samples.len()).checked_sub(1) {
                other[index].samples[last] += 1.0;
                let sums = vec![0.0; config.open_windows() as usize];
                let runner = Box::new(Checksums { front, sums });
                let mut engine = Engine::resume(config, runner, position, &saved.1).unwrap();
                let found = items(&other, block).into_iter().find_map(|item| engine.push(item).err());
                prop_assert!(matches!(found, Some(crate::Error::OtherInput)));
            }
        }
    }

    #[test]
    fn parts_of_recordings_give_the_rows_that_begin_in_them(
        lengths in prop::collection::vec((0..300u64, prop::sample::select(vec![8u32, 16, 44])), 1..6),
        places in prop::collection::vec((0..90u64, 0..90u64), 6),
        front in prop::sample::select(vec![(1usize, 1usize), (4, 4), (4, 9), (5, 22)]),
        block in 1..60usize, chunk in 1..80usize, window in (1..90u64, 1..90u64),
        pool in prop::sample::select(vec![Pool::Mean, Pool::None]),
        context in (6..60u64, 0..6u64), stop in 1..9usize,
    ) {
        let front = Front { hop: front.0, reach: front.1 };
        let samples = |n: u64| Extent::Samples(NonZeroU64::new(n).unwrap());
        let windows = SoundWindows::new(samples(window.0), Some(samples(window.1))).unwrap();
        let context = Context { tokens: context.0, overlap: context.1 };
        let all = recordings(&lengths, 16, front);
        // Any part of each, also in the middle of the input; nothing beyond what its windows have is run.
        let part = |(r, &(a, b)): (&Recording, &(u64, u64))| {
            let (start, end) = (context.begin_before(a.min(b)), context.begin_before(a.max(b)));
            let (start, end) = if start == end { (start, u64::MAX) } else { (start, end) };
            let last = r.signal.sample_of(end.saturating_sub(1)) / window.1 * window.1;
            let over = last.saturating_add(window.0);
            let until = match pool {
                _ if end == u64::MAX => end,
                Pool::None => end,
                _ if over >= r.of_file => u64::MAX,
                _ => r.signal.token_from(over).max(end),
            };
            crate::Part { starts: start..end, until }
        };
        let parts: std::collections::BTreeMap<u64, crate::Part> =
            (0..).zip(all.iter().zip(&places).map(part)).collect();
        let config = EngineConfig {
            pool,
            layer: Layer::Last,
            fasta_windows: Windows::record(),
            fastq_windows: Windows::record(),
            chunk,
            context: Some(context),
            regions: None,
            parts: Some(std::sync::Arc::new(parts.clone())),
            grid: 1,
            audio: Some(AudioConfig { front: Some(front), windows }),
        };
        // Whole recordings, of which those rows are left whose first token is in the part; without pooling
        // each is a token of its own, and several may begin at one sample.
        let (whole, _) = wanted(&config, front, &all);
        let mut token = (0, 0);
        let want: Rows = whole.into_iter().filter(|row| {
            token = if token.0 == row.0 { (row.0, token.1 + 1) } else { (row.0, 1) };
            let first = match pool {
                Pool::None => token.1 - 1,
                _ => all[row.0 as usize].signal.token_from(row.1),
            };
            parts[&row.0].starts.contains(&first)
        }).collect();
        let (rows, skipped, _) = run(&config, front, items(&all, block), None, None);
        prop_assert_eq!(&rows, &want);
        prop_assert!(skipped == 0 || parts.values().any(|part| part.starts.start == 0 && part.until == u64::MAX));
        let (mut rows, _, saved) = run(&config, front, items(&all, block), None, Some(stop));
        if let Some(saved) = saved {
            rows.extend(run(&config, front, items(&all, block + 3), Some(saved), None).0);
            prop_assert_eq!(&rows, &want);
        }
    }
}
