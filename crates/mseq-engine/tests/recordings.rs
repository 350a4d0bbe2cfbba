//! Recordings through packer, engine and a whole CleanUMamba: any blocks, any chunk, any neighbours, the
//! same frames, bit for bit on the CPU.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::num::{NonZeroU32, NonZeroU64};

use mseq_core::{
    DeviceSpec, Extent, Item, Layer, Pool, RecordHead, RecordTail, SequenceFormat, Signal, SoundWindows,
    Windows,
};
use mseq_engine::{AudioConfig, BatchOutput, ChunkBatch, Engine, EngineConfig, LaneSpan, choose, open};
use mseq_model::{Checkpoint, ModelFiles};
use mseq_testkit::Random;
use mseq_testkit::audio::{CleanShape, random_clean};
use proptest::prelude::*;

const RATE: u32 = 16_000;

fn model() -> Checkpoint {
    let levels = &[(5, 4), (6, 3), (4, 7)];
    let files = random_clean(CleanShape { levels, d_model: 9, blocks: &[(11, 3, 2), (8, 5, 1)] }, 3);
    let leak = |bytes: Vec<u8>| -> &'static [u8] { Box::leak(bytes.into_boxed_slice()) };
    let files: Vec<(&'static str, &'static [u8])> =
        files.into_iter().map(|(name, bytes)| (name, leak(bytes))).collect();
    let files = ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) };
    Checkpoint::open(files).unwrap()
}

fn config(checkpoint: &Checkpoint, layer: Layer, chunk: usize) -> EngineConfig {
    let length = Extent::Samples(NonZeroU64::new(1000).unwrap());
    EngineConfig {
        pool: Pool::None,
        layer,
        fasta_windows: Windows::record(),
        fastq_windows: Windows::record(),
        chunk,
        context: None,
        regions: None,
        parts: None,
        grid: 1,
        audio: Some(AudioConfig {
            front: checkpoint.front(),
            windows: SoundWindows::new(length, None).unwrap(),
        }),
    }
}

/// Frames of one recording in one step, as the runner gives them.
fn whole(checkpoint: &Checkpoint, layer: Layer, samples: &[f32]) -> Vec<f32> {
    let frames = checkpoint.front().unwrap().frames(samples.len() as u64) as usize;
    let config = config(checkpoint, layer, frames.max(1));
    let mut opened = open(&choose(&DeviceSpec::Cpu, None).unwrap(), 1, checkpoint, &config).unwrap();
    if frames == 0 {
        return Vec::new();
    }
    let batch = ChunkBatch {
        ids: Vec::new(),
        samples: samples.to_vec(),
        lane_samples: std::iter::once(0..samples.len()).collect(),
        lanes: vec![LaneSpan { rows: 0..frames, fresh: true, slot: None }],
        output: BatchOutput::Rows(std::iter::once(0..frames).collect()),
        keys: Vec::new(),
        done: Vec::new(),
    };
    opened.runner.run(&batch).unwrap().numbers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_do_not_feel_blocks_steps_or_neighbours(
        lengths in prop::collection::vec(0..400usize, 1..5), block in 1..200usize, chunk in 1..60usize,
        layer in prop_oneof![Just(Layer::Last), (0..2usize).prop_map(Layer::At)],
    ) {
        let checkpoint = model();
        let hop = checkpoint.front().unwrap().hop as u32;
        let config = config(&checkpoint, layer, chunk);
        let place = choose(&DeviceSpec::Cpu, None).unwrap();
        let runner = open(&place, 2, &checkpoint, &config).unwrap().runner;
        let mut engine = Engine::new(config, runner);
        let (mut found, mut want) = (Vec::new(), Vec::new());
        let n = |n: u32| NonZeroU32::new(n).unwrap();
        for (i, &len) in lengths.iter().enumerate() {
            let samples = Random::new(i as u64 + 9).values(len, -1.0, 1.0);
            want.extend(whole(&checkpoint, layer, &samples));
            let head = RecordHead {
                source: "x".into(),
                id: "r".into(),
                index: i as u64,
                format: SequenceFormat::Audio,
                reversed: None,
                signal: Some(Signal { rate: n(RATE), model_rate: n(RATE), hop: n(hop) }),
            };
            let items = samples.chunks(block).map(|samples| Item::Samples(samples.to_vec()));
            let tail = RecordTail { bases: len as u64, ..RecordTail::default() };
            for item in [Item::Begin(head)].into_iter().chain(items).chain([Item::End(tail)]) {
                engine.push(item).unwrap();
                while let Some(step) = engine.step().unwrap() {
                    found.extend(step.rows.values);
                }
            }
        }
        while let Some(step) = engine.last_step().unwrap() {
            found.extend(step.rows.values);
        }
        prop_assert_eq!(found.len(), want.len());
        prop_assert!(found == want);
    }
}
