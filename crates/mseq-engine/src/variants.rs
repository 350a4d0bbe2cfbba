//! Effects of variants: one pass over a contig, and a short tail for each alternative allele.
//!
//! The pass carries the state and keeps running sums, of the likelihood and of hidden states, so that
//! what it says about the reference over any window is the difference of two sums. At places before
//! variants it stops and copies its state into lanes; many tails then run side by side.

use std::collections::HashMap;

use mseq_backend::ops::{PoolFwd, PoolKind, PoolSegment};
use mseq_backend::{Decode, LaneSpan};
use mseq_model::Checkpoint;
use mseq_model::arch::{HeadState, LmHead, Mamba, MambaState, Workspace};

use crate::generate::{OnDevice, with_device};
use crate::open::Place;
use crate::{Error, Result};

/// Variants closer than this to the last copy of the state start from it, with the tokens between.
const GROUP: u64 = 64;

/// One alternative allele, in reading direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// First base of the reference allele, 0-based.
    pub at: u64,
    /// Bases of the reference allele.
    pub ref_len: u64,
    /// Tokens of the alternative one.
    pub alt: Vec<u32>,
}

/// What a variant does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// log P(alternative) - log P(reference), over the allele and the window behind it, given all
    /// before it; nats.
    pub llr: f64,
    /// The difference of the means a base.
    pub llr_per_base: f64,
    /// Euclidean distance between the mean hidden states over the same bases.
    pub distance: f64,
}

/// Tokens of a contig in reading direction: (start, number, where to).
pub type TokensAt<'a> = dyn FnMut(u64, usize, &mut Vec<u32>) -> Result<()> + 'a;

/// A model that scores variants, seen from above the generic world.
pub trait VariantScorer: Send {
    /// Device, as metadata records it.
    fn device(&self) -> String;

    /// Effects of variants on a contig of `len` bases, which must be sorted by place.
    ///
    /// # Errors
    /// When they are not sorted or not on the contig, tokens can't be read, or the device fails.
    fn contig(&mut self, len: u64, tokens: &mut TokensAt<'_>, variants: &[Variant]) -> Result<Vec<Effect>>;
}

/// Sums over the first tokens of a sequence.
#[derive(Debug, Clone, Default)]
struct Sums {
    nll: f64,
    hidden: Vec<f64>,
}

/// A mean over scored bases.
#[derive(Debug, Clone, Default)]
struct Scored {
    nll: f64,
    bases: u64,
    mean: Vec<f64>,
}

/// A tail that waits for its run.
struct Tail {
    variant: usize,
    /// From the copied state on.
    ids: Vec<u32>,
    /// Of these, bases before the variant.
    skip: usize,
    /// Whether it starts where the contig does.
    fresh: bool,
}

/// A model on any backend.
pub struct TailScorer<B: Decode> {
    backend: B,
    model: Mamba<B>,
    head: LmHead<B>,
    window: u64,
    chunk: usize,
    slots: usize,
    main: (MambaState<B>, HeadState<B>),
    tails: (MambaState<B>, HeadState<B>),
    workspace: Workspace<B>,
    sums: B::Sums,
}

impl<B: Decode> TailScorer<B> {
    /// Loads the weights and makes room. `window`: bases behind the allele; `chunk`: rows of a step.
    ///
    /// # Errors
    /// When the model has no head, or the device has no room.
    pub fn new(backend: B, checkpoint: &Checkpoint, window: u64, chunk: usize) -> Result<Self> {
        let model = Mamba::load(&backend, checkpoint)?;
        let head = LmHead::load(&backend, checkpoint)?;
        let tail = usize::try_from(window + GROUP / 2).unwrap_or(usize::MAX).max(1);
        let slots = (chunk / tail).clamp(8, 512);
        Ok(Self {
            main: (model.state(&backend, 1)?, head.state(&backend, 1)?),
            tails: (model.state(&backend, slots)?, head.state(&backend, slots)?),
            workspace: model.workspace(&backend, chunk)?,
            sums: backend.sums(slots, model.shape().d_model)?,
            backend,
            model,
            head,
            window,
            chunk,
            slots,
        })
    }

    /// Runs waiting tails, time slice by time slice, and empties the list.
    fn run_tails(&mut self, tails: &mut Vec<Tail>, alts: &mut HashMap<usize, Scored>) -> Result<()> {
        let (n_layer, width) = (self.model.shape().n_layer, self.model.shape().d_model);
        let mut nll = vec![0f64; tails.len()];
        let longest = tails.iter().map(|t| t.ids.len()).max().unwrap_or(0);
        let mut at = 0;
        while at < longest {
            let active = tails.iter().filter(|t| t.ids.len() > at).count();
            let share = (self.chunk / active.max(1)).max(1);
            let (mut ids, mut lanes, mut segments) = (Vec::new(), Vec::new(), Vec::new());
            let (mut runs, mut closed) = (Vec::new(), Vec::new());
            for (slot, tail) in tails.iter().enumerate().filter(|(_, t)| t.ids.len() > at) {
                let end = (at + share).min(tail.ids.len());
                let first = ids.len();
                ids.extend_from_slice(&tail.ids[at..end]);
                let rows = first..ids.len();
                lanes.push(LaneSpan { rows: rows.clone(), fresh: tail.fresh && at == 0, slot: Some(slot) });
                let scored = first + tail.skip.saturating_sub(at).min(rows.len())..rows.end;
                if scored.is_empty() {
                    continue;
                }
                let last = end == tail.ids.len();
                if last {
                    closed.push(slot);
                }
                segments.push(PoolSegment {
                    rows: scored.clone(),
                    from: (at > tail.skip).then_some(slot),
                    keep: (!last).then_some(slot),
                    count: (tail.ids.len() - tail.skip) as u64,
                });
                runs.push((slot, scored));
            }
            let (backend, upto) = (&self.backend, (n_layer, true));
            let x =
                self.model.forward(backend, &ids, &lanes, upto, &mut self.tails.0, &mut self.workspace)?;
            let each = self.head.nll(backend, &ids, &lanes, x, &mut self.tails.1)?;
            let means = backend.pool_fwd(PoolFwd {
                kind: PoolKind::Mean,
                rows: ids.len(),
                width,
                slots: self.slots,
                x,
                segments: &segments,
                sums: &mut self.sums,
            })?;
            for (slot, rows) in runs {
                nll[slot] += each[rows].iter().map(|&v| f64::from(v)).sum::<f64>();
            }
            for (slot, mean) in closed.into_iter().zip(means.chunks_exact(width)) {
                let tail = &tails[slot];
                let scored = Scored {
                    nll: nll[slot],
                    bases: (tail.ids.len() - tail.skip) as u64,
                    mean: mean.iter().map(|&v| f64::from(v)).collect(),
                };
                alts.insert(tail.variant, scored);
            }
            at += share;
        }
        tails.clear();
        Ok(())
    }

    /// Runs the next tokens of the contig; adds to the sums, and gives those at each of `cuts`.
    fn advance(&mut self, ids: &[u32], pos: u64, sums: &mut Sums, cuts: &[u64]) -> Result<Vec<Sums>> {
        let (n_layer, width) = (self.model.shape().n_layer, self.model.shape().d_model);
        let lanes = [LaneSpan { rows: 0..ids.len(), fresh: pos == 0, slot: Some(0) }];
        let backend = &self.backend;
        let x = self.model.forward(
            backend,
            ids,
            &lanes,
            (n_layer, true),
            &mut self.main.0,
            &mut self.workspace,
        )?;
        let nll = self.head.nll(backend, ids, &lanes, x, &mut self.main.1)?;
        let mut from = 0;
        let mut segments = Vec::new();
        for end in cuts.iter().map(|&cut| (cut - pos) as usize).chain([ids.len()]) {
            if end > from {
                segments.push(PoolSegment {
                    rows: from..end,
                    from: None,
                    keep: None,
                    count: (end - from) as u64,
                });
                from = end;
            }
        }
        let means = backend.pool_fwd(PoolFwd {
            kind: PoolKind::Mean,
            rows: ids.len(),
            width,
            slots: self.slots,
            x,
            segments: &segments,
            sums: &mut self.sums,
        })?;
        let mut at = Vec::with_capacity(cuts.len());
        let mut cuts = cuts.iter().map(|&cut| (cut - pos) as usize).peekable();
        sums.hidden.resize(width, 0.0);
        for (segment, mean) in segments.iter().zip(means.chunks_exact(width)) {
            let rows = segment.rows.clone();
            while cuts.next_if(|&cut| cut == rows.start).is_some() {
                at.push(sums.clone());
            }
            sums.nll += nll[rows.clone()].iter().map(|&v| f64::from(v)).sum::<f64>();
            let count = rows.len() as f64;
            sums.hidden.iter_mut().zip(mean).for_each(|(sum, &mean)| *sum += count * f64::from(mean));
        }
        at.extend(cuts.map(|_| sums.clone()));
        Ok(at)
    }
}

impl<B: Decode> VariantScorer for TailScorer<B> {
    fn device(&self) -> String {
        self.backend.name()
    }

    fn contig(&mut self, len: u64, tokens: &mut TokensAt<'_>, variants: &[Variant]) -> Result<Vec<Effect>> {
        let inside = |v: &Variant| v.ref_len > 0 && v.at + v.ref_len <= len;
        if !variants.is_sorted_by_key(|v| v.at) || !variants.iter().all(inside) {
            return Err(Error::Stream("variants are not sorted, or not on their contig"));
        }
        let window = self.window;
        let end_of = |v: &Variant| (v.at + v.ref_len).saturating_add(window).min(len);
        let mut ends: Vec<(u64, usize)> = variants.iter().map(end_of).zip(0..).collect();
        ends.sort_unstable();
        let last = ends.last().map_or(0, |&(end, _)| end);
        let mut effects: Vec<Option<Effect>> = vec![None; variants.len()];
        let (mut starts, mut alts) = (HashMap::<usize, Sums>::new(), HashMap::<usize, Scored>::new());
        let mut refs = HashMap::<usize, Scored>::new();
        let (mut tails, mut ids, mut behind) = (Vec::<Tail>::new(), Vec::new(), Vec::new());
        let (mut copied, mut started, mut ended) = (0, 0, 0);
        let (mut pos, mut sums) = (0, Sums::default());
        sums.hidden.resize(self.model.shape().d_model, 0.0);
        while pos < last || copied < variants.len() {
            // The state here is what the next variants start from.
            if variants.get(copied).is_some_and(|v| v.at == pos) {
                while let Some(v) = variants.get(copied).filter(|v| v.at < pos + GROUP) {
                    if tails.len() == self.slots {
                        self.run_tails(&mut tails, &mut alts)?;
                    }
                    if pos > 0 {
                        let (slot, backend) = (tails.len(), &self.backend);
                        self.tails.0.copy_slot(backend, &self.main.0, 0, slot)?;
                        self.tails.1.copy_slot(backend, &self.main.1, 0, slot)?;
                    }
                    let skip = (v.at - pos) as usize;
                    let mut all = Vec::new();
                    tokens(pos, skip, &mut all)?;
                    all.extend_from_slice(&v.alt);
                    let right = v.at + v.ref_len;
                    tokens(right, (end_of(v) - right) as usize, &mut behind)?;
                    all.append(&mut behind);
                    tails.push(Tail { variant: copied, ids: all, skip, fresh: pos == 0 });
                    copied += 1;
                }
            }
            if pos >= last {
                break;
            }
            let stop = variants.get(copied).map_or(last, |v| v.at);
            let end = stop.min(pos + self.chunk as u64).min(last);
            tokens(pos, (end - pos) as usize, &mut ids)?;
            // Sums at the start of the step are known; those at its end belong to the next.
            let here = |at: u64| at < end || (at == end && end == last);
            let first_start = started;
            while variants.get(started).is_some_and(|v| here(v.at)) {
                started += 1;
            }
            let first_end = ended;
            while ends.get(ended).is_some_and(|e| here(e.0)) {
                ended += 1;
            }
            let mut cuts: Vec<u64> = variants[first_start..started].iter().map(|v| v.at).collect();
            cuts.extend(ends[first_end..ended].iter().map(|e| e.0));
            cuts.sort_unstable();
            cuts.dedup();
            let at = self.advance(&ids, pos, &mut sums, &cuts)?;
            let sums_at = |place: u64| cuts.binary_search(&place).ok().and_then(|i| at.get(i));
            for (i, v) in variants.iter().enumerate().take(started).skip(first_start) {
                starts.extend(sums_at(v.at).map(|sums| (i, sums.clone())));
            }
            for &(end, i) in &ends[first_end..ended] {
                let (Some(from), Some(to)) = (starts.remove(&i), sums_at(end)) else {
                    return Err(Error::Stream("a window ended that did not start"));
                };
                let bases = end - variants[i].at;
                let mean = to.hidden.iter().zip(&from.hidden).map(|(a, b)| (a - b) / bases as f64).collect();
                refs.insert(i, Scored { nll: to.nll - from.nll, bases, mean });
            }
            pos = end;
            join(&mut refs, &mut alts, &mut effects);
        }
        self.run_tails(&mut tails, &mut alts)?;
        join(&mut refs, &mut alts, &mut effects);
        effects.into_iter().map(|e| e.ok_or(Error::Stream("a variant was not scored"))).collect()
    }
}

/// Variants of which both alleles are scored.
fn join(refs: &mut HashMap<usize, Scored>, alts: &mut HashMap<usize, Scored>, out: &mut [Option<Effect>]) {
    refs.retain(|&i, reference| {
        let Some(alt) = alts.remove(&i) else { return true };
        out[i] = Some(effect(reference, &alt));
        false
    });
}

fn effect(reference: &Scored, alt: &Scored) -> Effect {
    let squares = reference.mean.iter().zip(&alt.mean).map(|(a, b)| (a - b).powi(2));
    Effect {
        llr: reference.nll - alt.nll,
        llr_per_base: reference.nll / reference.bases.max(1) as f64 - alt.nll / alt.bases.max(1) as f64,
        distance: squares.sum::<f64>().sqrt(),
    }
}

/// Opens a model that scores variants where [`choose`](crate::choose) said.
///
/// # Errors
/// When the device is missing or the model can't be loaded.
pub fn open_variant_scorer(
    place: &Place,
    threads: usize,
    checkpoint: &Checkpoint,
    window: u64,
    chunk: usize,
) -> Result<Box<dyn VariantScorer>> {
    with_device(place, threads, checkpoint, chunk, |device| {
        let scorer: Box<dyn VariantScorer> = match device {
            OnDevice::Cpu(cpu) => Box::new(TailScorer::new(cpu, checkpoint, window, chunk)?),
            OnDevice::Cuda(cuda) => Box::new(TailScorer::new(*cuda, checkpoint, window, chunk)?),
        };
        Ok(scorer)
    })
}
