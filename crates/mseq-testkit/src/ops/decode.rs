use mseq_backend::ops::{MixerRoom, MixerUpdate, SampleTokens};
use mseq_backend::sampling::{Sampling, draw};
use mseq_backend::{Decode, Result};

use super::{silu, softplus};
use crate::random::{poison, rounded, single, stored, whole};
use crate::{Check, Close, Random, tolerance};

/// One step between `in_proj` and `out_proj`, of one sequence and of many, against plain loops.
///
/// # Errors
/// What the backend refuses.
pub fn mixer_update<B: Decode>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    let any = (random.between(1, 150), random.between(1, 40), random.between(1, 9));
    for (rows, inner, states, taps, rank) in [
        (1, 512, 16, 4, 16),
        (70, 128, 16, 4, 8),
        (18, 1536, 16, 4, 48),
        (5, any.0, any.1, 3, any.2),
        (3, 10, 128, 1, 2),
        (6, 96, 24, 3, 4),
        (5, 64, 40, 4, 4),
        (2, 65, 16, 4, 1),
    ] {
        let (dbc, keep) = (rank + 2 * states, taps - 1);
        let (xz, xzs) = stored(backend, &random.values(rows * 2 * inner, -2.0, 2.0))?;
        let (conv1d, convs) = single(backend, &random.values(taps * inner, -0.5, 0.5))?;
        let (bias, biases) = single(backend, &random.values(inner, -0.5, 0.5))?;
        let mut x_proj = random.values(dbc * inner, -1.0, 1.0);
        x_proj.iter_mut().for_each(|v| *v /= (inner as f32).sqrt());
        let dt_proj = random.values(inner * rank, -1.0, 1.0);
        let (xps, dps) = (rounded(backend, &x_proj)?, rounded(backend, &dt_proj)?);
        let (x_proj, dt_proj) =
            (backend.linear(&x_proj, dbc, inner)?, backend.linear(&dt_proj, inner, rank)?);
        let (dt_bias, dt_biases) = single(backend, &random.values(inner, -3.0, 1.0))?;
        let (a2, a2s) = single(backend, &random.values(inner * states, -4.0, -0.01))?;
        let (d, ds) = single(backend, &random.values(inner, -1.0, 1.0))?;
        let (conv0, h0) =
            (random.values(rows * inner * keep, -1.0, 1.0), random.values(rows * inner * states, -1.0, 1.0));
        let run = || -> Result<[Vec<f32>; 3]> {
            let (mut conv_state, mut ssm_state) = (backend.upload(&conv0)?, backend.upload(&h0)?);
            let mut room = MixerRoom::new(backend, rows, inner, dbc)?;
            let mut y = backend.activations(rows * inner)?;
            poison(backend, &mut y)?;
            backend.mixer_update(MixerUpdate {
                rows,
                d_inner: inner,
                d_state: states,
                d_conv: taps,
                dt_rank: rank,
                xz: &xz,
                conv1d: &conv1d,
                conv1d_bias: Some(&bias),
                x_proj: &x_proj,
                dt_proj: &dt_proj,
                dt_proj_bias: &dt_bias,
                a2: &a2,
                d: &d,
                conv_state: &mut conv_state,
                ssm_state: &mut ssm_state,
                room: &mut room,
                y: &mut y,
            })?;
            Ok([whole(backend, &y)?, whole(backend, &ssm_state)?, whole(backend, &conv_state)?])
        };
        let (mut ys, mut hs) = (Vec::new(), vec![0f64; rows * inner * states]);
        for row in 0..rows {
            let x = &xzs[row * 2 * inner..][..2 * inner];
            let u: Vec<f64> = (0..inner)
                .map(|c| {
                    let past = |k: usize| f64::from(conv0[(row * inner + c) * keep + k]);
                    let taken = (0..keep).map(|k| convs[k * inner + c] * past(k)).sum::<f64>();
                    silu(biases[c] + taken + convs[keep * inner + c] * x[c])
                })
                .collect();
            let dot = |w: &[f64], v: &[f64]| w.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
            let bc: Vec<f64> = xps.chunks_exact(inner).map(|w| dot(w, &u)).collect();
            for c in 0..inner {
                let delta = softplus(dot(&dps[c * rank..][..rank], &bc[..rank]) + dt_biases[c]);
                let mut sum = ds[c] * u[c];
                for n in 0..states {
                    let at = (row * inner + c) * states + n;
                    let h = (delta * a2s[c * states + n]).exp2() * f64::from(h0[at])
                        + delta * bc[rank + n] * u[c];
                    hs[at] = h;
                    sum += h * bc[rank + states + n];
                }
                ys.push(sum * silu(x[inner + c]));
            }
        }
        let what = format!("{rows} sequences, d_inner {inner}, d_state {states}, taps {taps}, rank {rank}");
        let [y, h, conv] = run()?;
        // What lies between the ops is rounded to the type too: a few times its own rounding.
        let limit = 4.0 * tolerance(backend.dtype(), Close::Stored);
        checks.push(Check::new(format!("{what}, y"), &y, &ys, limit));
        checks.push(Check::new(format!("{what}, ssm_state"), &h, &hs, limit));
        let mut shifted = Vec::new();
        for at in 0..rows * inner {
            let (row, c) = (at / inner, at % inner);
            shifted.extend((1..keep).map(|k| f64::from(conv0[at * keep + k])));
            shifted.extend((keep > 0).then_some(xzs[row * 2 * inner + c]));
        }
        checks.push(Check::new(format!("{what}, conv_state"), &conv, &shifted, 0.0));
        let again = run()?;
        checks.push(Check::twice(format!("{what}, y"), &y, &again[0]));
        checks.push(Check::twice(format!("{what}, ssm_state"), &h, &again[1]));
    }
    Ok(checks)
}

/// Draws of many lanes over several steps against the plain form, token for token.
///
/// # Errors
/// What the backend refuses.
pub fn sample_tokens<B: Decode>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (lanes, vocab) in [(1, 8), (7, 5), (3, 5000), (2, 50_280)] {
        let values: Vec<f32> = random.normals(2.0, lanes * vocab).iter().map(|&v| v as f32).collect();
        let logits = backend.upload(&values)?;
        let forbidden: Vec<f32> =
            (0..vocab).map(|v| if v % 5 == 2 { f32::NEG_INFINITY } else { 0.0 }).collect();
        let on_device = backend.upload(&forbidden)?;
        for (temperature, top_k, top_p) in
            [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.7, 3, 1.0), (1.3, 0, 0.8), (1.0, 50, 0.5), (2.0, 1, 1.0)]
        {
            let sampling = Sampling { temperature, top_k, top_p, seed: seed ^ 0x1234_5678_9abc };
            for bias in [None, Some((&on_device, &forbidden[..]))] {
                let (steps, first_lane, position) = (4, 11, (1u64 << 32) - 2);
                let mut draws = backend.draws(lanes, steps)?;
                backend.set_draws(&mut draws, &vec![0; lanes], position)?;
                for _ in 0..steps {
                    backend.sample_tokens(SampleTokens {
                        vocab,
                        logits: &logits,
                        bias: bias.map(|b| b.0),
                        sampling,
                        first_lane,
                        draws: &mut draws,
                    })?;
                }
                let found = backend.take_draws(&mut draws, steps)?;
                let truth = (0..steps * lanes).map(|i| {
                    let (step, lane) = (i / lanes, i % lanes);
                    let row = &values[lane * vocab..][..vocab];
                    draw(&sampling, row, bias.map(|b| b.1), first_lane + lane as u32, position + step as u64)
                });
                let differ = truth.zip(&found).filter(|(want, got)| *want != Some(**got)).count();
                checks.push(Check {
                    what: format!("{lanes} lanes of {vocab}, {sampling:?}, tokens that differ"),
                    error: differ as f64,
                    limit: 0.0,
                });
            }
        }
    }
    Ok(checks)
}
