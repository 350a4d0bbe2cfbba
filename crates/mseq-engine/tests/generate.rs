//! Step mode against chunk mode, draws against the head, and the laws of lanes, cuts and states.

#![expect(
    clippy::unwrap_used,
    clippy::needless_range_loop,
    reason = "a test fails by a panic, and places count tokens"
)]

use mseq_backend::ops::EmbedTokens;
use mseq_backend::{Backend, Decode, LaneSpan};
use mseq_cpu::CpuBackend;
use mseq_engine::{Generate, GenerateConfig, Generator, Sampling};
use mseq_model::arch::{LmHead, Mamba};
use mseq_model::{Checkpoint, ModelFiles};
use mseq_testkit::Random;
use mseq_testkit::model::{ModelShape, random_model};

fn built_in() -> Checkpoint {
    let model = mseq_data::default_dna();
    Checkpoint::open(ModelFiles::Builtin { name: model.name, files: model.files }).unwrap()
}

fn random(shape: ModelShape) -> Checkpoint {
    let files = random_model(shape, 3, true).into_iter();
    let files: Vec<(&'static str, &'static [u8])> =
        files.map(|(name, bytes)| (name, &*Box::leak(bytes.into_boxed_slice()))).collect();
    Checkpoint::open(ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) })
        .unwrap()
}

fn small() -> Checkpoint {
    random(ModelShape { d_model: 24, n_layer: 3, expand: 2, d_state: 10, d_conv: 3 })
}

fn letters(checkpoint: &Checkpoint) -> Vec<u32> {
    checkpoint.tokens.letters.values().copied().collect()
}

fn bases(checkpoint: &Checkpoint, seed: u64, len: usize) -> Vec<u32> {
    let (letters, mut random) = (letters(checkpoint), Random::new(seed));
    (0..len).map(|_| letters[random.between(0, 3)]).collect()
}

fn config(checkpoint: &Checkpoint, lanes: usize, sampling: Sampling) -> GenerateConfig {
    GenerateConfig { lanes, sampling, allowed: Some(letters(checkpoint)), chunk: 256, block: 32 }
}

fn generator(
    checkpoint: &Checkpoint,
    lanes: usize,
    sampling: Sampling,
    threads: usize,
) -> Generator<CpuBackend> {
    let config = config(checkpoint, lanes, sampling);
    Generator::new(CpuBackend::new(threads).unwrap(), checkpoint, config, 1).unwrap()
}

/// Lane by lane.
fn take(generator: &mut impl Generate, mut steps: usize) -> Vec<Vec<u32>> {
    let mut lanes = vec![Vec::new(); generator.lanes()];
    while steps > 0 {
        let drawn = generator.next(steps).unwrap();
        steps -= drawn.len() / lanes.len();
        for row in drawn.chunks_exact(lanes.len()) {
            lanes.iter_mut().zip(row).for_each(|(lane, &id)| lane.push(id));
        }
    }
    lanes
}

fn chance(seed: u64) -> Sampling {
    Sampling { temperature: 0.9, top_k: 3, top_p: 0.95, seed }
}

/// The hidden states of 10,000 tokens, one step at a time in two lanes, against steps of 1,000.
#[test]
fn step_mode_is_chunk_mode_over_10000_tokens() {
    let random = random(ModelShape { d_model: 64, n_layer: 4, expand: 2, d_state: 16, d_conv: 4 });
    for (name, checkpoint) in [("random 64 x 4", random), ("built-in", built_in())] {
        let (worst, largest) = step_against_chunk(&checkpoint);
        mseq_testkit::aloud(&format!("step against chunk, {name}: {worst:e} of values up to {largest}"));
        assert!(largest > 0.5 && worst <= 1e-5, "{name}: {worst:e}");
    }
}

/// The largest difference, and the largest value.
fn step_against_chunk(checkpoint: &Checkpoint) -> (f32, f32) {
    let backend = CpuBackend::new(2).unwrap();
    let model = Mamba::load(&backend, checkpoint).unwrap();
    let width = model.shape().d_model;
    let ids = [bases(checkpoint, 1, 10_000), bases(checkpoint, 2, 10_000)];
    let mut chunked = [Vec::new(), Vec::new()];
    for (ids, rows) in ids.iter().zip(&mut chunked) {
        let mut state = model.state(&backend, 1).unwrap();
        let mut workspace = model.workspace(&backend, 1000).unwrap();
        for (i, part) in ids.chunks(1000).enumerate() {
            let lanes = [LaneSpan { rows: 0..part.len(), fresh: i == 0, slot: Some(0) }];
            let upto = (model.shape().n_layer, true);
            let x = model.forward(&backend, part, &lanes, upto, &mut state, &mut workspace).unwrap();
            rows.extend(backend.download(x, 0..part.len() * width).unwrap());
        }
    }
    let mut state = model.state(&backend, 2).unwrap();
    let mut workspace = model.step_workspace(&backend, 2).unwrap();
    let mut draws = backend.draws(2, 1).unwrap();
    let (mut worst, mut largest) = (0f32, 0f32);
    for t in 0..10_000 {
        backend.set_draws(&mut draws, &[ids[0][t], ids[1][t]], 0).unwrap();
        let x = model.step(&backend, &draws, &mut state, &mut workspace).unwrap();
        let x = backend.download(x, 0..2 * width).unwrap();
        for (lane, rows) in chunked.iter().enumerate() {
            for (a, b) in x[lane * width..][..width].iter().zip(&rows[t * width..][..width]) {
                worst = worst.max((a - b).abs());
                largest = largest.max(b.abs());
            }
        }
    }
    (worst, largest)
}

/// Each token drawn greedily is the one of least negative log-likelihood, as `score` computes it, given
/// all before it.
#[test]
fn greedy_is_the_argmax_of_the_scored_distribution() {
    for checkpoint in [built_in(), small()] {
        let prompt = bases(&checkpoint, 5, 77);
        let mut greedy = generator(&checkpoint, 1, Sampling::greedy(), 1);
        greedy.prompt(std::slice::from_ref(&prompt), &[0], 0).unwrap();
        let drawn = take(&mut greedy, 60).remove(0);
        let backend = CpuBackend::new(2).unwrap();
        let model = Mamba::load(&backend, &checkpoint).unwrap();
        let head = LmHead::load(&backend, &checkpoint).unwrap();
        let whole: Vec<u32> = prompt.iter().chain(&drawn).copied().collect();
        let nll_of = |at: usize, token: u32| -> f32 {
            let mut ids = whole[..at].to_vec();
            ids.push(token);
            let lanes = [LaneSpan { rows: 0..ids.len(), fresh: true, slot: None }];
            let mut state = model.state(&backend, 1).unwrap();
            let mut last = head.state(&backend, 1).unwrap();
            let mut workspace = model.workspace(&backend, ids.len()).unwrap();
            let upto = (model.shape().n_layer, true);
            let x = model.forward(&backend, &ids, &lanes, upto, &mut state, &mut workspace).unwrap();
            *head.nll(&backend, &ids, &lanes, x, &mut last).unwrap().last().unwrap()
        };
        for at in prompt.len()..whole.len() {
            let best = letters(&checkpoint)
                .into_iter()
                .min_by(|&a, &b| nll_of(at, a).total_cmp(&nll_of(at, b)))
                .unwrap();
            assert_eq!(whole[at], best, "token {at}");
        }
    }
}

#[test]
fn a_lane_does_not_depend_on_lanes_threads_or_blocks() {
    let checkpoint = small();
    let prompts: Vec<Vec<u32>> =
        [40, 1, 333, 40, 7].iter().zip(1..).map(|(&len, seed)| bases(&checkpoint, seed, len)).collect();
    let of_lane = [0, 1, 2, 3, 4];
    let mut all = generator(&checkpoint, 5, chance(8), 2);
    all.prompt(&prompts, &of_lane, 10).unwrap();
    let together = take(&mut all, 70);
    assert!(together.iter().any(|lane| lane != &together[0]));
    for (lane, tokens) in together.iter().enumerate() {
        let mut alone = generator(&checkpoint, 1, chance(8), 1);
        alone.prompt(&prompts[lane..=lane], &[0], 10 + lane as u32).unwrap();
        assert_eq!(take(&mut alone, 70).remove(0), *tokens, "lane {lane}");
        // Once more, after it has drawn something else.
        alone.prompt(&prompts[lane..=lane], &[0], 10 + lane as u32).unwrap();
        let mut again = Vec::new();
        for steps in [1, 2, 31, 36] {
            again.extend(take(&mut alone, steps).remove(0));
        }
        assert_eq!(again, *tokens, "lane {lane}, in other blocks");
    }
    let mut other = generator(&checkpoint, 5, chance(9), 2);
    other.prompt(&prompts, &of_lane, 10).unwrap();
    assert_ne!(take(&mut other, 70), together);
}

#[test]
fn samples_of_one_prompt_differ_and_start_from_its_state() {
    let checkpoint = small();
    let prompts = [bases(&checkpoint, 3, 100), bases(&checkpoint, 4, 9)];
    let mut many = generator(&checkpoint, 6, chance(1), 2);
    many.prompt(&prompts, &[0, 0, 0, 1, 1, 0], 0).unwrap();
    let lanes = take(&mut many, 50);
    assert_ne!(lanes[0], lanes[1]);
    let mut one = generator(&checkpoint, 1, chance(1), 2);
    one.prompt(&prompts[1..], &[0], 4).unwrap();
    assert_eq!(take(&mut one, 50).remove(0), lanes[4]);
}

#[test]
fn a_saved_state_goes_on_as_if_nothing_had_been() {
    let checkpoint = small();
    let prompts = [bases(&checkpoint, 3, 50), bases(&checkpoint, 4, 20)];
    let mut whole = generator(&checkpoint, 2, chance(4), 2);
    whole.prompt(&prompts, &[0, 1], 7).unwrap();
    let first = take(&mut whole, 45);
    let saved = whole.save().unwrap();
    let rest = take(&mut whole, 33);
    let mut second = generator(&checkpoint, 2, chance(4), 1);
    second.restore(&saved).unwrap();
    assert_eq!(second.save().unwrap(), saved);
    assert_eq!(take(&mut second, 33), rest);
    assert_eq!(saved.tokens, [first[0][44], first[1][44]]);
    assert!(generator(&checkpoint, 3, chance(4), 1).restore(&saved).is_err());
    assert!(generator(&built_in(), 2, chance(4), 1).restore(&saved).is_err());
}

#[test]
fn only_allowed_tokens_are_drawn_and_empty_prompts_refused() {
    let checkpoint = small();
    let hot = Sampling { temperature: 50.0, top_k: 0, top_p: 1.0, seed: 1 };
    let mut lanes = generator(&checkpoint, 4, hot, 1);
    lanes.prompt(&[vec![0]], &[0; 4], 0).unwrap();
    let seen: std::collections::BTreeSet<u32> = take(&mut lanes, 100).concat().into_iter().collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), letters(&checkpoint));
    assert!(lanes.prompt(&[vec![]], &[0; 4], 0).is_err());
    assert!(lanes.prompt(&[vec![0]], &[0; 3], 0).is_err());
    assert!(lanes.prompt(&[vec![0]], &[1; 4], 0).is_err());
    let backend = CpuBackend::new(1).unwrap();
    let table = backend.zeros(8).unwrap();
    let mut out = backend.zeros(8).unwrap();
    assert!(
        backend
            .embed_tokens(EmbedTokens { ids: &[9], table: &table, vocab: 8, d_model: 1, out: &mut out })
            .is_err()
    );
}

/// Greedy tokens in f32, and draws, on the first CUDA device as on the CPU; also after a state that
/// went from one to the other.
#[test]
fn cuda_draws_what_the_cpu_draws() {
    use mseq_core::{DType, DeviceSpec};
    let place = match mseq_engine::choose(&DeviceSpec::Cuda(vec![0]), Some(DType::F32)) {
        Ok(place) => place,
        Err(why) => {
            assert!(std::env::var("MSEQ_REQUIRE_CUDA").is_err(), "{why}");
            mseq_testkit::aloud(&format!("skipped, no CUDA device: {why}"));
            return;
        }
    };
    let wide = ModelShape { d_model: 256, n_layer: 4, expand: 2, d_state: 16, d_conv: 4 };
    for checkpoint in [built_in(), small(), random(wide)] {
        let prompts: Vec<Vec<u32>> =
            [300, 1, 77, 1024].iter().zip(1..).map(|(&len, seed)| bases(&checkpoint, seed, len)).collect();
        for sampling in [Sampling::greedy(), chance(3)] {
            let config = config(&checkpoint, 4, sampling);
            let mut cuda = mseq_engine::open_generator(&place, 1, &checkpoint, config).unwrap();
            let mut cpu = generator(&checkpoint, 4, sampling, 0);
            cuda.prompt(&prompts, &[0, 1, 2, 3], 0).unwrap();
            cpu.prompt(&prompts, &[0, 1, 2, 3], 0).unwrap();
            let steps = 32;
            let mut differ = 0;
            for _ in 0..4 {
                let (a, b) = (cuda.next(steps).unwrap(), cpu.next(steps).unwrap());
                differ += a.iter().zip(&b).filter(|(a, b)| a != b).count();
            }
            assert_eq!(differ, 0, "{sampling:?}, d_model {}", checkpoint.shape.d_model);
            cpu.restore(&cuda.save().unwrap()).unwrap();
            assert_eq!(cuda.next(steps).unwrap(), cpu.next(steps).unwrap(), "after a saved state");
        }
    }
}
