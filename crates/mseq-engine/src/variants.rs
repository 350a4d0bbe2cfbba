//! Effects of variants: one pass over a contig, and a short tail for each alternative allele.
//!
//! The pass carries the state and keeps running sums, of the likelihood and of hidden states, so that
//! what it says about the reference over any window is the difference of two sums. At places before
//! variants it stops and copies its state into lanes; many tails then run side by side.

use std::collections::{BTreeSet, HashMap};

use mseq_backend::ops::{PoolFwd, PoolKind, PoolSegment};
use mseq_backend::{Decode, LaneSpan};
use mseq_model::Checkpoint;
use mseq_model::arch::{HeadState, LmHead, Mamba, MambaState, Workspace};

use crate::generate::{OnDevice, with_device};
use crate::open::Place;
use crate::variant_state::{Next, OpenVariant, Scored, Sums, VariantState, WatchVariants};
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

    /// Effects of variants on a contig of `len` bases, which must be sorted by place, from its start or
    /// from a state that an earlier run of the same contig and variants saved. `watch` gets them as
    /// they become known. Gives whether all are: `false` when `watch` stopped it.
    ///
    /// # Errors
    /// When they are not sorted or not on the contig, the state is of another model, tokens can't be
    /// read, or the device fails.
    fn contig(
        &mut self,
        len: u64,
        tokens: &mut TokensAt<'_>,
        variants: &[Variant],
        from: Option<&VariantState>,
        watch: &mut dyn WatchVariants,
    ) -> Result<bool>;
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

    /// Runs waiting tails, time slice by time slice, and empties the list. Gives their tokens, without those before the variant.
    fn run_tails(&mut self, tails: &mut Vec<Tail>, alts: &mut HashMap<usize, Scored>) -> Result<u64> {
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
                // One by one: where time slices begin must not show.
                each[rows].iter().for_each(|&v| nll[slot] += f64::from(v));
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
        Ok(tails.drain(..).map(|tail| (tail.ids.len() - tail.skip) as u64).sum())
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
        // Row by row from the start of the contig: neither steps nor other variants can show in a sum.
        let rows = backend.download(x, 0..ids.len() * width)?;
        let mut at = Vec::with_capacity(cuts.len());
        let mut cuts = cuts.iter().map(|&cut| (cut - pos) as usize).peekable();
        for (row, (&nll, hidden)) in nll.iter().zip(rows.chunks_exact(width)).enumerate() {
            while cuts.next_if(|&cut| cut == row).is_some() {
                at.push(sums.clone());
            }
            sums.nll += f64::from(nll);
            sums.hidden.iter_mut().zip(hidden).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        at.extend(cuts.map(|_| sums.clone()));
        Ok(at)
    }

    /// Where the pass stands, and what is open.
    fn state(&self, run: &Run) -> Result<VariantState> {
        let mut open: Vec<OpenVariant> = Vec::new();
        let indices: BTreeSet<usize> = run.starts.keys().chain(run.alts.keys()).copied().collect();
        for index in indices {
            let (start, alt) = (run.starts.get(&index).cloned(), run.alts.get(&index).cloned());
            open.push(OpenVariant { index, start, alt });
        }
        Ok(VariantState {
            pos: run.pos,
            counts: [run.copied, run.started, run.ended],
            sums: run.sums.clone(),
            layers: self.main.0.download(&self.backend)?,
            head: self.main.1.download(&self.backend)?,
            open,
        })
    }

    /// Starts where `state` says.
    fn go_on(&mut self, state: &VariantState, len: u64, variants: usize) -> Result<Run> {
        let width = self.model.shape().d_model;
        let fits = |sums: &[f64]| sums.len() == width;
        let open_fits = state.open.iter().all(|open| {
            open.index < variants
                && open.start.as_ref().is_none_or(|s| fits(&s.hidden))
                && open.alt.as_ref().is_none_or(|s| fits(&s.mean))
        });
        if !fits(&state.sums.hidden)
            || state.layers.len() != self.model.shape().n_layer
            || !open_fits
            || state.pos > len
            || state.counts.iter().any(|&n| n > variants)
        {
            return Err(Error::Snapshot("it is of other variants or another model".into()));
        }
        self.main.0.upload(&self.backend, &state.layers)?;
        self.main.1.upload(&self.backend, &state.head)?;
        let mut run = Run { pos: state.pos, sums: state.sums.clone(), ..Run::default() };
        [run.copied, run.started, run.ended] = state.counts;
        for open in &state.open {
            run.starts.extend(open.start.clone().map(|start| (open.index, start)));
            run.alts.extend(open.alt.clone().map(|alt| (open.index, alt)));
        }
        Ok(run)
    }

    /// Copies the state for the variants that start here, or near behind; runs tails where there is no
    /// slot left. Gives how many tokens ran.
    fn branch(
        &mut self,
        run: &mut Run,
        tokens: &mut TokensAt<'_>,
        variants: &[Variant],
        end_of: &dyn Fn(&Variant) -> u64,
    ) -> Result<u64> {
        let (mut ran, mut behind) = (0, Vec::new());
        let pos = run.pos;
        while let Some(v) = variants.get(run.copied).filter(|v| v.at < pos + GROUP) {
            if run.tails.len() == self.slots {
                ran += self.run_tails(&mut run.tails, &mut run.alts)?;
            }
            if pos > 0 {
                let (slot, backend) = (run.tails.len(), &self.backend);
                self.tails.0.copy_slot(backend, &self.main.0, 0, slot)?;
                self.tails.1.copy_slot(backend, &self.main.1, 0, slot)?;
            }
            let skip = (v.at - pos) as usize;
            let mut ids = Vec::new();
            tokens(pos, skip, &mut ids)?;
            ids.extend_from_slice(&v.alt);
            let right = v.at + v.ref_len;
            tokens(right, (end_of(v) - right) as usize, &mut behind)?;
            ids.append(&mut behind);
            run.tails.push(Tail { variant: run.copied, ids, skip, fresh: pos == 0 });
            run.copied += 1;
        }
        Ok(ran)
    }
}

/// A contig that is being run.
#[derive(Default)]
struct Run {
    pos: u64,
    copied: usize,
    started: usize,
    ended: usize,
    sums: Sums,
    /// Sums where open windows begin.
    starts: HashMap<usize, Sums>,
    alts: HashMap<usize, Scored>,
    refs: HashMap<usize, Scored>,
    tails: Vec<Tail>,
}

impl Run {
    /// Variants of which both alleles are scored by now, by index.
    fn join(&mut self) -> Vec<(usize, Effect)> {
        let mut done = Vec::new();
        let alts = &mut self.alts;
        self.refs.retain(|&i, reference| {
            let Some(alt) = alts.remove(&i) else { return true };
            done.push((i, effect(reference, &alt)));
            false
        });
        done.sort_unstable_by_key(|&(i, _)| i);
        done
    }
}

impl<B: Decode> VariantScorer for TailScorer<B> {
    fn device(&self) -> String {
        self.backend.name()
    }

    fn contig(
        &mut self,
        len: u64,
        tokens: &mut TokensAt<'_>,
        variants: &[Variant],
        from: Option<&VariantState>,
        watch: &mut dyn WatchVariants,
    ) -> Result<bool> {
        let inside = |v: &Variant| v.ref_len > 0 && v.at + v.ref_len <= len;
        if !variants.is_sorted_by_key(|v| v.at) || !variants.iter().all(inside) {
            return Err(Error::Stream("variants are not sorted, or not on their contig"));
        }
        let window = self.window;
        let end_of = |v: &Variant| (v.at + v.ref_len).saturating_add(window).min(len);
        let mut ends: Vec<(u64, usize)> = variants.iter().map(end_of).zip(0..).collect();
        ends.sort_unstable();
        let last = ends.last().map_or(0, |&(end, _)| end);
        let mut run = match from {
            Some(state) => self.go_on(state, len, variants.len())?,
            None => Run::default(),
        };
        run.sums.hidden.resize(self.model.shape().d_model, 0.0);
        let mut ids = Vec::new();
        while run.pos < last || run.copied < variants.len() {
            let mut ran = 0;
            // The state here is what the next variants start from.
            if variants.get(run.copied).is_some_and(|v| v.at == run.pos) {
                ran += self.branch(&mut run, tokens, variants, &end_of)?;
            }
            let pos = run.pos;
            let stop = variants.get(run.copied).map_or(last, |v| v.at);
            let end = stop.min(pos + self.chunk as u64).min(last);
            tokens(pos, (end - pos) as usize, &mut ids)?;
            // Sums at the start of the step are known; those at its end belong to the next.
            let here = |at: u64| at < end || (at == end && end == last);
            let first_start = run.started;
            while variants.get(run.started).is_some_and(|v| here(v.at)) {
                run.started += 1;
            }
            let first_end = run.ended;
            while ends.get(run.ended).is_some_and(|e| here(e.0)) {
                run.ended += 1;
            }
            let mut cuts: Vec<u64> = variants[first_start..run.started].iter().map(|v| v.at).collect();
            cuts.extend(ends[first_end..run.ended].iter().map(|e| e.0));
            cuts.sort_unstable();
            cuts.dedup();
            let at = self.advance(&ids, pos, &mut run.sums, &cuts)?;
            let sums_at = |place: u64| cuts.binary_search(&place).ok().and_then(|i| at.get(i));
            for (i, v) in variants.iter().enumerate().take(run.started).skip(first_start) {
                run.starts.extend(sums_at(v.at).map(|sums| (i, sums.clone())));
            }
            for &(end, i) in &ends[first_end..run.ended] {
                let (Some(from), Some(to)) = (run.starts.remove(&i), sums_at(end)) else {
                    return Err(Error::Stream("a window ended that did not start"));
                };
                let bases = end - variants[i].at;
                let mean = to.hidden.iter().zip(&from.hidden).map(|(a, b)| (a - b) / bases as f64).collect();
                run.refs.insert(i, Scored { nll: to.nll - from.nll, bases, mean });
            }
            run.pos = end;
            ran += ids.len() as u64;
            let next = watch.step(ran, &run.join());
            if next == Next::Go {
                continue;
            }
            // A saved state has no tails: they are short, and run now.
            let ran = self.run_tails(&mut run.tails, &mut run.alts)?;
            let also = watch.step(ran, &run.join());
            watch.save(self.state(&run)?);
            if next == Next::Stop || also == Next::Stop {
                return Ok(false);
            }
        }
        let ran = self.run_tails(&mut run.tails, &mut run.alts)?;
        watch.step(ran, &run.join());
        if run.refs.is_empty() && run.starts.is_empty() && run.alts.is_empty() {
            Ok(true)
        } else {
            Err(Error::Stream("a variant was not scored"))
        }
    }
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
