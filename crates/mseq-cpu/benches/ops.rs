//! Rates of the ops of one block, beside what the machine can do.
//!
//! `cargo bench -p mseq-cpu -- [d_model] [rows] [threads]`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints and may fail loudly")]

use std::time::Instant;

use mseq_backend::ops::{CausalConv1dFwd, LinearFwd, Norm, NormFwd, ScanShape, SelectiveScanFwd};
use mseq_backend::{Backend, LaneSpan, Rows, RowsMut};
use mseq_cpu::CpuBackend;

/// Numbers without a pattern that hardware or rounding could like.
fn values(len: usize, lo: f32, hi: f32) -> Vec<f32> {
    let mut x = 0x9e37_79b9_u32;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            lo + (hi - lo) * (x >> 8) as f32 / (1 << 24) as f32
        })
        .collect()
}

/// Median seconds of a call, after one warm call.
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    let mut runs = Vec::new();
    while start.elapsed().as_secs_f64() < 0.7 || runs.len() < 5 {
        let t = Instant::now();
        f();
        runs.push(t.elapsed().as_secs_f64());
    }
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let d_model = args.first().copied().unwrap_or(128);
    let rows = args.get(1).copied().unwrap_or(2048);
    let backend = CpuBackend::new(args.get(2).copied().unwrap_or(0)).unwrap();
    let (d_inner, d_state, d_conv, dt_rank) = (2 * d_model, 16, 4, d_model.div_ceil(16));
    let d_dbc = dt_rank + 2 * d_state;
    println!("{}, {} threads, d_model {d_model}, {rows} rows", backend.name(), backend.threads());
    let up = |len, lo, hi| backend.upload(&values(len, lo, hi)).unwrap();
    let lanes = [LaneSpan { rows: 0..rows, fresh: true, slot: Some(0) }];
    let mut total = 0.0;

    for (name, k, n) in [
        ("in_proj", d_model, 2 * d_inner),
        ("x_proj", d_inner, d_dbc),
        ("dt_proj", dt_rank, d_inner),
        ("out_proj", d_inner, d_model),
    ] {
        let weight = backend.linear(&values(n * k, -0.1, 0.1), n, k).unwrap();
        let x = up(rows * k, -1.0, 1.0);
        let mut y = backend.zeros(rows * n).unwrap();
        let t = time(|| {
            let (x, y) = (Rows::whole(&x, k), RowsMut { buf: &mut y, stride: n });
            let (rows, weight) = (rows, &weight);
            let op = LinearFwd {
                rows,
                in_features: k,
                out_features: n,
                x,
                weight,
                bias: None,
                accumulate: false,
                y,
            };
            backend.linear_fwd(op).unwrap();
        });
        total += t;
        let rate = 2e-9 * (rows * k * n) as f64 / t;
        println!("{name:9} {k:5} -> {n:5}  {:8.1} us  {rate:7.1} GFLOP/s", t * 1e6);
    }

    let (xz, u, dt, dbc) = (
        up(rows * 2 * d_inner, -1.0, 1.0),
        up(rows * d_inner, -1.0, 1.0),
        up(rows * d_inner, -6.0, 1.0),
        up(rows * d_dbc, -1.0, 1.0),
    );
    let mut y = backend.zeros(rows * d_inner).unwrap();
    let (weight, bias) = (up(d_conv * d_inner, -0.5, 0.5), up(d_inner, -0.1, 0.1));
    let mut conv_state = backend.zeros(d_inner * (d_conv - 1)).unwrap();
    let t = time(|| {
        let x = Rows::columns(&xz, 0, 2 * d_inner);
        let (weight, bias, conv_state, out) = (&weight, Some(&bias), &mut conv_state, &mut y);
        let op = CausalConv1dFwd {
            rows,
            d_inner,
            d_conv,
            slots: 1,
            lanes: &lanes,
            x,
            weight,
            bias,
            conv_state,
            out,
        };
        backend.causal_conv1d_fwd(op).unwrap();
    });
    total += t;
    println!(
        "conv1d                     {:8.1} us  {:7.1} GB/s",
        t * 1e6,
        8e-9 * (rows * d_inner) as f64 / t
    );

    let norm_weight = up(d_model, 0.5, 1.5);
    let x = up(rows * d_model, -1.0, 1.0);
    let mut out = backend.zeros(rows * d_model).unwrap();
    let t = time(|| {
        let norm = Norm::Rms { weight: &norm_weight };
        backend.norm_fwd(NormFwd { rows, width: d_model, norm, eps: 1e-5, x: &x, out: &mut out }).unwrap();
    });
    total += t;
    println!(
        "norm                       {:8.1} us  {:7.1} GB/s",
        t * 1e6,
        8e-9 * (rows * d_model) as f64 / t
    );

    let (a2, d, dt_bias) =
        (up(d_inner * d_state, -24.0, -1.0), up(d_inner, -1.0, 1.0), up(d_inner, -6.0, -2.0));
    let mut ssm_state = backend.zeros(d_inner * d_state).unwrap();
    let t = time(|| {
        backend
            .selective_scan_fwd(SelectiveScanFwd {
                shape: ScanShape { rows, d_inner, d_state, slots: 1 },
                lanes: &lanes,
                u: Rows::whole(&u, d_inner),
                dt: Rows::whole(&dt, d_inner),
                b: Rows::columns(&dbc, dt_rank, d_dbc),
                c: Rows::columns(&dbc, dt_rank + d_state, d_dbc),
                a2: &a2,
                d: &d,
                dt_bias: &dt_bias,
                z: Rows::columns(&xz, d_inner, 2 * d_inner),
                ssm_state: &mut ssm_state,
                y: &mut y,
            })
            .unwrap();
    });
    total += t;
    println!(
        "scan                       {:8.1} us  {:7.2} G states/s",
        t * 1e6,
        1e-9 * (rows * d_inner * d_state) as f64 / t
    );
    println!("block     {:8.1} us, {:.0} tokens/s a block", total * 1e6, rows as f64 / total);
}
