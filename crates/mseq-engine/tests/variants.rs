//! Effects of variants against both alleles run whole, each from the start of the contig.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use mseq_backend::{Backend, LaneSpan};
use mseq_cpu::CpuBackend;
use mseq_engine::{Effect, Next, TailScorer, Variant, VariantScorer, VariantState, WatchVariants};
use mseq_model::arch::{LmHead, Mamba};
use mseq_model::{Checkpoint, ModelFiles};
use mseq_testkit::Random;
use mseq_testkit::model::{ModelShape, random_model};

fn random() -> Checkpoint {
    let shape = ModelShape { d_model: 24, n_layer: 3, expand: 2, d_state: 10, d_conv: 4 };
    let files = random_model(shape, 3, true).into_iter();
    let files: Vec<(&'static str, &'static [u8])> =
        files.map(|(name, bytes)| (name, &*Box::leak(bytes.into_boxed_slice()))).collect();
    Checkpoint::open(ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) })
        .unwrap()
}

/// Collects effects, saves at each step, and stops where it is told to.
struct Watch {
    effects: Vec<Option<Effect>>,
    tokens: u64,
    /// Steps until it stops.
    left: usize,
    next: Next,
    saved: Option<VariantState>,
}

impl Watch {
    fn new(variants: usize, left: usize, next: Next) -> Self {
        Self { effects: vec![None; variants], tokens: 0, left, next, saved: None }
    }
}

impl WatchVariants for Watch {
    fn step(&mut self, tokens: u64, effects: &[(usize, Effect)]) -> Next {
        self.tokens += tokens;
        for &(i, effect) in effects {
            assert!(self.effects[i].replace(effect).is_none(), "{i} twice");
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { self.next } else { Next::Go }
    }

    fn save(&mut self, state: VariantState) {
        self.saved = Some(state);
    }
}

fn scorer(window: u64, chunk: usize, threads: usize) -> TailScorer<CpuBackend> {
    TailScorer::new(CpuBackend::new(threads).unwrap(), &random(), window, chunk).unwrap()
}

fn run(
    scorer: &mut TailScorer<CpuBackend>,
    contig: &[u32],
    variants: &[Variant],
    from: Option<&VariantState>,
    watch: &mut Watch,
) -> bool {
    let mut at = |start: u64, len: usize, out: &mut Vec<u32>| {
        out.clear();
        out.extend_from_slice(&contig[start as usize..][..len]);
        Ok(())
    };
    scorer.contig(contig.len() as u64, &mut at, variants, from, watch).unwrap()
}

fn effects(contig: &[u32], variants: &[Variant], window: u64, chunk: usize, threads: usize) -> Vec<Effect> {
    let mut watch = Watch::new(variants.len(), 0, Next::Go);
    assert!(run(&mut scorer(window, chunk, threads), contig, variants, None, &mut watch));
    watch.effects.into_iter().map(Option::unwrap).collect()
}

/// Sum of likelihoods and mean hidden state of bases `from..to`, in one run of the whole.
fn whole(ids: &[u32], from: usize, to: usize) -> (f64, Vec<f64>) {
    let (backend, checkpoint) = (CpuBackend::new(2).unwrap(), random());
    let model = Mamba::load(&backend, &checkpoint).unwrap();
    let head = LmHead::load(&backend, &checkpoint).unwrap();
    let (mut state, mut last) = (model.state(&backend, 1).unwrap(), head.state(&backend, 1).unwrap());
    let mut workspace = model.workspace(&backend, ids.len()).unwrap();
    let lanes = [LaneSpan { rows: 0..ids.len(), fresh: true, slot: None }];
    let (upto, width) = ((model.shape().n_layer, true), model.shape().d_model);
    let x = model.forward(&backend, ids, &lanes, upto, &mut state, &mut workspace).unwrap();
    let nll = head.nll(&backend, ids, &lanes, x, &mut last).unwrap();
    let rows = backend.download(x, from * width..to * width).unwrap();
    let mut mean = vec![0f64; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / (to - from) as f64);
    }
    (nll[from..to].iter().map(|&v| f64::from(v)).sum(), mean)
}

fn naive(contig: &[u32], v: &Variant, window: usize) -> Effect {
    let (at, right) = (v.at as usize, (v.at + v.ref_len) as usize);
    let end = (right + window).min(contig.len());
    let changed: Vec<u32> = [&contig[..at], &v.alt, &contig[right..]].concat();
    let alt_end = at + v.alt.len() + end - right;
    let (ref_nll, ref_mean) = whole(&contig[..end], at, end);
    let (alt_nll, alt_mean) = whole(&changed[..alt_end], at, alt_end);
    Effect {
        llr: ref_nll - alt_nll,
        llr_per_base: ref_nll / (end - at) as f64 - alt_nll / (alt_end - at) as f64,
        distance: ref_mean.iter().zip(&alt_mean).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
    }
}

fn contig(seed: u64, len: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.between(0, 4) as u32).collect()
}

/// SNVs, insertions, deletions, several at one place, dense ones, and the ends of the contig.
fn variants(contig: &[u32], seed: u64) -> Vec<Variant> {
    let mut random = Random::new(seed);
    let mut list = Vec::new();
    let mut at = 0;
    while at < contig.len() {
        let ref_len = [1, 1, 1, 3, 12][random.between(0, 4)].min(contig.len() - at);
        let alt_len = [1, 1, 1, 2, 9][random.between(0, 4)];
        let alt = (0..alt_len).map(|_| random.between(0, 3) as u32).collect();
        list.push(Variant { at: at as u64, ref_len: ref_len as u64, alt });
        at += [0, 1, 1, 3, 70, 200][random.between(0, 5)];
    }
    list.push(Variant { at: contig.len() as u64 - 1, ref_len: 1, alt: vec![2] });
    list
}

fn close(a: &Effect, b: &Effect) -> bool {
    (a.llr - b.llr).abs() < 1e-4
        && (a.llr_per_base - b.llr_per_base).abs() < 1e-5
        && (a.distance - b.distance).abs() < 1e-5
}

#[test]
fn each_is_as_if_both_alleles_were_run_from_the_start() {
    let contig = contig(1, 2500);
    let variants = variants(&contig, 2);
    assert!(variants.len() > 40);
    let found = effects(&contig, &variants, 100, 512, 2);
    let mut moved = 0;
    for (v, found) in variants.iter().zip(&found) {
        let want = naive(&contig, v, 100);
        assert!(close(found, &want), "{v:?}: {found:?}, {want:?}");
        moved += usize::from(found.llr.abs() > 0.1);
    }
    assert!(moved > variants.len() / 3);
}

#[test]
fn neither_chunk_nor_threads_nor_neighbours_change_one() {
    let contig = contig(5, 1800);
    let all = variants(&contig, 6);
    let want = effects(&contig, &all, 90, 512, 2);
    for (chunk, threads) in [(64, 1), (37, 2), (5000, 2)] {
        assert_eq!(effects(&contig, &all, 90, chunk, threads), want, "chunk {chunk}");
    }
    for (v, want) in all.iter().zip(&want) {
        let alone = effects(&contig, std::slice::from_ref(v), 90, 256, 1);
        assert_eq!(alone[0], *want, "{v:?}");
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let contig = contig(15, 1500);
    let all = variants(&contig, 16);
    let want = effects(&contig, &all, 80, 64, 2);
    // Saving on the way changes nothing.
    let mut watch = Watch::new(all.len(), 1, Next::Save);
    assert!(run(&mut scorer(80, 64, 2), &contig, &all, None, &mut watch));
    assert_eq!(watch.effects.into_iter().map(Option::unwrap).collect::<Vec<_>>(), want);
    let mut stops = 0;
    for every in [1, 2, 7] {
        let (mut from, mut found) = (None, vec![None; all.len()]);
        loop {
            // Another process, with other steps.
            let mut scorer = scorer(80, [64, 33, 200][stops % 3], 1 + stops % 2);
            let mut watch = Watch::new(all.len(), every, Next::Stop);
            let whole = run(&mut scorer, &contig, &all, from.as_ref(), &mut watch);
            for (found, new) in found.iter_mut().zip(watch.effects) {
                assert!(found.is_none() || new.is_none());
                *found = found.or(new);
            }
            if whole {
                break;
            }
            (from, stops) = (watch.saved, stops + 1);
        }
        assert_eq!(found.into_iter().map(Option::unwrap).collect::<Vec<_>>(), want, "every {every}");
    }
    assert!(stops > 20, "{stops}");
    // A state of another model or of fewer variants is refused.
    let mut watch = Watch::new(all.len(), 9, Next::Stop);
    assert!(!run(&mut scorer(80, 64, 2), &contig, &all, None, &mut watch));
    let good = watch.saved.unwrap();
    let mut at = |_: u64, len: usize, out: &mut Vec<u32>| {
        *out = vec![0; len];
        Ok(())
    };
    let mut bad = [good.clone(), good.clone(), good.clone()];
    bad[0].sums.hidden.pop();
    bad[1].counts[0] = all.len() + 1;
    bad[2].layers.pop();
    for bad in bad {
        let mut watch = Watch::new(all.len(), 9, Next::Stop);
        assert!(scorer(80, 64, 2).contig(1500, &mut at, &all, Some(&bad), &mut watch).is_err());
    }
}

#[test]
fn the_reference_itself_does_nothing() {
    let contig = contig(9, 600);
    let same = |at: usize, len: usize| Variant {
        at: at as u64,
        ref_len: len as u64,
        alt: contig[at..at + len].to_vec(),
    };
    for effect in effects(&contig, &[same(0, 1), same(10, 4), same(300, 1), same(599, 1)], 50, 128, 1) {
        assert!(effect.llr.abs() < 1e-9 && effect.distance < 1e-6, "{effect:?}");
    }
}

#[test]
fn what_is_not_on_the_contig_is_refused() {
    let contig = contig(9, 50);
    let mut scorer = scorer(10, 64, 1);
    let mut watch = Watch::new(9, 0, Next::Go);
    let mut at = |_: u64, len: usize, out: &mut Vec<u32>| {
        out.clear();
        out.extend_from_slice(&contig[..len]);
        Ok(())
    };
    let v = |at: u64, ref_len: u64| Variant { at, ref_len, alt: vec![0] };
    for bad in [vec![v(50, 1)], vec![v(45, 6)], vec![v(3, 0)], vec![v(7, 1), v(6, 1)]] {
        assert!(scorer.contig(50, &mut at, &bad, None, &mut watch).is_err());
    }
    assert!(scorer.contig(50, &mut at, &[], None, &mut watch).unwrap());
}
