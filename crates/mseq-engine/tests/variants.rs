//! Effects of variants against both alleles run whole, each from the start of the contig.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use mseq_backend::{Backend, LaneSpan};
use mseq_cpu::CpuBackend;
use mseq_engine::{Effect, TailScorer, Variant, VariantScorer};
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

fn effects(contig: &[u32], variants: &[Variant], window: u64, chunk: usize, threads: usize) -> Vec<Effect> {
    let backend = CpuBackend::new(threads).unwrap();
    let mut scorer = TailScorer::new(backend, &random(), window, chunk).unwrap();
    let mut at = |start: u64, len: usize, out: &mut Vec<u32>| {
        out.clear();
        out.extend_from_slice(&contig[start as usize..][..len]);
        Ok(())
    };
    scorer.contig(contig.len() as u64, &mut at, variants).unwrap()
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
    let near = |a: &Effect, b: &Effect| {
        // Likelihoods are the same bits; running sums over the contig are cut elsewhere.
        (a.llr - b.llr).abs() < 1e-9 && (a.distance - b.distance).abs() < 1e-6
    };
    for (chunk, threads) in [(64, 1), (37, 2), (5000, 2)] {
        let found = effects(&contig, &all, 90, chunk, threads);
        assert!(found.iter().zip(&want).all(|(a, b)| near(a, b)), "chunk {chunk}");
    }
    for (v, want) in all.iter().zip(&want) {
        let alone = effects(&contig, std::slice::from_ref(v), 90, 256, 1);
        assert!(near(&alone[0], want), "{v:?}: {:?}, {want:?}", alone[0]);
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
    let backend = CpuBackend::new(1).unwrap();
    let mut scorer = TailScorer::new(backend, &random(), 10, 64).unwrap();
    let mut at = |_: u64, len: usize, out: &mut Vec<u32>| {
        out.clear();
        out.extend_from_slice(&contig[..len]);
        Ok(())
    };
    let v = |at: u64, ref_len: u64| Variant { at, ref_len, alt: vec![0] };
    for bad in [vec![v(50, 1)], vec![v(45, 6)], vec![v(3, 0)], vec![v(7, 1), v(6, 1)]] {
        assert!(scorer.contig(50, &mut at, &bad).is_err());
    }
    assert_eq!(scorer.contig(50, &mut at, &[]).unwrap(), []);
}
