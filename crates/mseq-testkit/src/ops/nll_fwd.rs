use mseq_backend::ops::NllFwd;
use mseq_backend::{Backend, LaneSpan, Result};

use crate::random::{SLOTS, rounded, single, whole};
use crate::{Check, Close, Random, tolerance};

/// Heads from one token to more than a tile of any kernel, lanes that go on and lanes that begin,
/// logits small and large.
///
/// # Errors
/// What the backend refuses.
pub fn nll_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    let odd = (random.between(1, 90), random.between(1, 400));
    for (d_model, vocab, scale) in
        [(256, 8, 1.0), (64, 256, 0.3), (17, 5, 3.0), (33, 1, 1.0), (24, 1000, 2.0), (odd.0, odd.1, 1.0)]
    {
        let lengths = [random.between(1, 70), random.between(1, 5), 1, random.between(60, 200), 2];
        let mut lanes = random.lanes(&lengths);
        // A row between two lanes belongs to nobody.
        let shift = |lane: &mut LaneSpan| lane.rows = lane.rows.start + 1..lane.rows.end + 1;
        lanes.iter_mut().skip(3).for_each(shift);
        let rows = lanes.last().map_or(0, |lane| lane.rows.end);
        let ids: Vec<u32> = (0..rows).map(|_| random.between(0, vocab - 1) as u32).collect();
        let (x, xs) = single(backend, &random.values(rows * d_model, -scale, scale))?;
        let w = random.values(vocab * d_model, -1.0, 1.0);
        let (weight, ws) = (backend.linear(&w, vocab, d_model)?, rounded(backend, &w)?);
        let start = random.values(SLOTS * d_model, -scale, scale);
        let run = || -> Result<(Vec<f32>, Vec<f32>)> {
            let mut last = backend.upload(&start)?;
            let (slots, ids, lanes) = (SLOTS, &ids[..], &lanes[..]);
            let op =
                NllFwd { rows, d_model, vocab, slots, ids, lanes, x: &x, weight: &weight, last: &mut last };
            let out = backend.nll_fwd(op)?;
            Ok((out, whole(backend, &last)?))
        };
        let (found, last) = run()?;
        let mut truth = vec![0f64; rows];
        let mut kept: Vec<f64> = start.iter().map(|&v| f64::from(v)).collect();
        for lane in &lanes {
            let mut before: Option<Vec<f64>> = match lane.slot {
                Some(slot) if !lane.fresh => {
                    Some(start[slot * d_model..][..d_model].iter().map(|&v| f64::from(v)).collect())
                }
                _ => None,
            };
            for row in lane.rows.clone() {
                if let Some(h) = before {
                    let logits: Vec<f64> = ws
                        .chunks_exact(d_model)
                        .map(|w| w.iter().zip(&h).map(|(a, b)| a * b).sum::<f64>())
                        .collect();
                    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = logits.iter().map(|l| (l - most).exp()).sum();
                    truth[row] = sum.ln() + most - logits[ids[row] as usize];
                }
                before = Some(xs[row * d_model..][..d_model].to_vec());
            }
            if let (Some(slot), Some(row)) = (lane.slot, before) {
                kept[slot * d_model..][..d_model].copy_from_slice(&row);
            }
        }
        let what = format!("rows {rows}, width {d_model}, vocabulary {vocab}");
        // One token is certain, and the truth is then nothing but zeros.
        let limit = tolerance(backend.dtype(), Close::Single);
        if vocab == 1 {
            let error = found.iter().fold(0.0, |a: f64, &v| a.max(f64::from(v).abs()));
            checks.push(Check { what: what.clone(), error, limit: 1e-5 });
        } else {
            checks.push(Check::new(&what, &found, &truth, limit));
        }
        checks.push(Check::new(format!("{what}, rows kept"), &last, &kept, 0.0));
        checks.push(Check::twice(&what, &found, &run()?.0));
    }
    Ok(checks)
}
