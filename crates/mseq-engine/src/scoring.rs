use mseq_backend::Backend;
use mseq_backend::ops::PoolSegment;
use mseq_core::Score;
use mseq_model::Checkpoint;
use mseq_model::arch::{HeadState, LmHead};

use crate::packer::{ChunkBatch, SLOTS};
use crate::{Error, Result};

/// The head of a model, and the scores of windows that are still open.
pub(crate) struct Scoring<B: Backend> {
    head: LmHead<B>,
    last: HeadState<B>,
    /// By window slot. One number a token comes from the device, so they are summed here.
    open: Vec<Score>,
}

impl<B: Backend> Scoring<B> {
    pub(crate) fn new(backend: &B, checkpoint: &Checkpoint, slots: usize) -> Result<Self> {
        let head = LmHead::load(backend, checkpoint)?;
        let last = head.state(backend, SLOTS)?;
        Ok(Self { head, last, open: vec![Score::default(); slots] })
    }

    /// Scores of the windows that close, given the hidden states of the batch.
    pub(crate) fn run(
        &mut self,
        backend: &B,
        batch: &ChunkBatch,
        segments: &[PoolSegment],
        x: &B::Buffer,
    ) -> Result<Vec<Score>> {
        let nll = self.head.nll(backend, &batch.ids, &batch.lanes, x, &mut self.last)?;
        let mut scored = vec![true; nll.len()];
        for lane in batch.lanes.iter().filter(|lane| lane.fresh && !lane.rows.is_empty()) {
            scored[lane.rows.start] = false;
        }
        add(segments, &nll, &scored, &mut self.open)
    }

    /// Scores of open windows, as sums and counts.
    pub(crate) fn sums(&self) -> Vec<f64> {
        self.open.iter().flat_map(|score| [score.nll, score.tokens as f64]).collect()
    }

    /// Goes back to what [`Scoring::sums`] and [`Scoring::head`] gave.
    pub(crate) fn restore(&mut self, backend: &B, sums: &[f64], head: &[f32]) -> Result<()> {
        for (score, pair) in self.open.iter_mut().zip(sums.as_chunks::<2>().0) {
            *score = Score { nll: pair[0], tokens: pair[1] as u64 };
        }
        Ok(self.last.upload(backend, head)?)
    }

    /// The last hidden state of each sequence.
    pub(crate) fn head(&self, backend: &B) -> Result<Vec<f32>> {
        Ok(self.last.download(backend)?)
    }
}

/// Adds rows to their windows, in order, and gives those that close. All slots are read before the
/// first is written.
fn add(segments: &[PoolSegment], nll: &[f32], scored: &[bool], open: &mut [Score]) -> Result<Vec<Score>> {
    let outside = || Error::Stream("a window has rows or a slot that do not exist");
    let mut sums = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut sum = match segment.from {
            Some(slot) => *open.get(slot).ok_or_else(outside)?,
            None => Score::default(),
        };
        let (nll, scored) = (nll.get(segment.rows.clone()), scored.get(segment.rows.clone()));
        let (Some(nll), Some(scored)) = (nll, scored) else { return Err(outside()) };
        for (&nll, _) in nll.iter().zip(scored).filter(|(_, scored)| **scored) {
            sum.nll += f64::from(nll);
            sum.tokens += 1;
        }
        sums.push(sum);
    }
    let mut closed = Vec::new();
    for (segment, sum) in segments.iter().zip(sums) {
        match segment.keep {
            Some(slot) => *open.get_mut(slot).ok_or_else(outside)? = sum,
            None => closed.push(sum),
        }
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_open_close_and_exchange_their_slots() {
        let span = |rows, from, keep| PoolSegment { rows, from, keep, count: 1 };
        let mut open = vec![Score { nll: 10.0, tokens: 3 }, Score { nll: 20.0, tokens: 5 }];
        let segments = [
            span(0..2, Some(0), None),
            span(0..4, Some(1), Some(0)),
            span(2..4, None, Some(1)),
            span(0..1, None, None),
        ];
        let closed = add(&segments, &[9.0, 0.5, 0.25, 2.0], &[false, true, true, true], &mut open).unwrap();
        let score = |nll, tokens| Score { nll, tokens };
        assert_eq!(closed, [score(10.5, 4), score(0.0, 0)]);
        assert_eq!(open, [score(22.75, 8), score(2.25, 2)]);
        assert!(add(&[span(0..9, None, None)], &[1.0], &[true], &mut open).is_err());
        assert!(add(&[span(0..1, Some(7), None)], &[1.0], &[true], &mut open).is_err());
    }
}
