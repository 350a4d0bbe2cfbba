//! Times of the ops of one block on one CUDA device.
//!
//! `cargo bench -p mseq-cuda --bench ops -- [d_model] [rows] [f32|f16|bf16] [lanes]`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints and may fail loudly")]

use std::time::Instant;

use mseq_backend::ops::{
    CausalConv1dFwd, EmbedTokens, LinearFwd, Norm, NormFwd, PoolFwd, PoolKind, PoolSegment, ScanShape,
    SelectiveScanFwd,
};
use mseq_backend::{Backend, LaneSpan, Rows, RowsMut};
use mseq_core::DType;
use mseq_cuda::{CudaBackend, CudaConfig};
use mseq_testkit::Random;

/// Median seconds of a call, over `REPEAT` calls without a wait between them, after a warm one.
fn time(backend: &CudaBackend, mut f: impl FnMut()) -> f64 {
    const REPEAT: u32 = 5;
    f();
    backend.synchronize().unwrap();
    let mut runs: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            (0..REPEAT).for_each(|_| f());
            backend.synchronize().unwrap();
            start.elapsed().as_secs_f64() / f64::from(REPEAT)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (d_model, rows, n_lanes) = (number(0, 256), number(1, 1 << 18), number(3, 1));
    let dtype = match args.get(2).map(String::as_str) {
        Some("f32") => DType::F32,
        Some("f16") => DType::F16,
        _ => DType::Bf16,
    };
    let (d_inner, d_state, d_conv, rank) = (2 * d_model, 16, 4, d_model.div_ceil(16));
    let width = rank + 2 * d_state;
    let config = CudaConfig { index: 0, dtype, d_inner, chunk: rows, sizes: None, kernels_from: None };
    let backend = match CudaBackend::new(&config) {
        Ok(backend) => backend,
        Err(why) => return println!("skipped: {why}"),
    };
    println!("{}, {dtype}, d_model {d_model}, {rows} rows, {n_lanes} lanes", backend.info().label());
    // A few random rows, again and again: what is timed does not depend on more.
    let fill = |len: usize, low: f32, high: f32| -> Vec<f32> {
        let some = Random::new(len as u64).values(len.min(1 << 16), low, high);
        some.iter().cycle().take(len).copied().collect()
    };
    let stored = |len: usize| {
        let mut buf = backend.activations(len).unwrap();
        backend.write(&mut buf, 0, &fill(len, -1.0, 1.0)).unwrap();
        buf
    };
    let (normed, mut xz, mut u) =
        (stored(rows * d_model), stored(rows * 2 * d_inner), stored(rows * d_inner));
    let (mut dbc, mut y) = (stored(rows * width), stored(rows * d_inner));
    let single = |len, low, high| backend.upload(&fill(len, low, high)).unwrap();
    let mut residual = single(rows * d_model, -1.0, 1.0);
    let mut dt = single(rows * d_inner, -1.0, 1.0);
    let table = single(8 * d_model, -1.0, 1.0);
    let norm_weight = single(d_model, 0.5, 1.5);
    let (conv, conv_bias) = (single(d_conv * d_inner, -0.5, 0.5), single(d_inner, -0.1, 0.1));
    let (a2, d) = (single(d_inner * d_state, -24.0, -1.0), single(d_inner, -1.0, 1.0));
    let dt_bias = single(d_inner, -6.0, -2.0);
    let (mut conv_state, mut ssm_state) = (single(d_inner * 3, -1.0, 1.0), single(d_inner * 16, -1.0, 1.0));
    let each = rows / n_lanes;
    let lanes: Vec<LaneSpan> = (0..n_lanes)
        .map(|i| LaneSpan { rows: i * each..(i + 1) * each, fresh: true, slot: (i == 0).then_some(0) })
        .collect();
    let mut total = 0.0;
    let mut say = |name: &str, seconds: f64, of_block: bool, note: String| {
        total += if of_block { seconds } else { 0.0 };
        println!("{name:<10} {:>9.1} us  {note}", seconds * 1e6);
    };
    let gigabytes = |bytes: usize, s: f64| format!("{:.0} GB/s", 1e-9 * bytes as f64 / s);
    let store = dtype.bytes();

    let ids: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 8).collect();
    let s = time(&backend, || {
        backend
            .embed_tokens(EmbedTokens { ids: &ids, table: &table, vocab: 8, d_model, out: &mut residual })
            .unwrap();
    });
    say("embed", s, false, gigabytes(rows * 4 * d_model, s));
    let mut out = stored(rows * d_model);
    let s = time(&backend, || {
        let norm = Norm::Rms { weight: &norm_weight };
        backend
            .norm_fwd(NormFwd { rows, width: d_model, norm, eps: 1e-5, x: &residual, out: &mut out })
            .unwrap();
    });
    say("norm", s, true, gigabytes(rows * d_model * (4 + store), s));
    let mut linear = |name: &str, k: usize, n: usize, x: Rows<'_, _>, y: &mut _, accumulate: bool| {
        let weight = backend.linear(&Random::new(2).values(n * k, -0.05, 0.05), n, k).unwrap();
        let s = time(&backend, || {
            backend
                .linear_fwd(LinearFwd {
                    rows,
                    in_features: k,
                    out_features: n,
                    x,
                    weight: &weight,
                    bias: None,
                    accumulate,
                    y: RowsMut { buf: y, stride: n },
                })
                .unwrap();
        });
        say(name, s, true, format!("{:.0} TFLOP/s", 2e-12 * (rows * k * n) as f64 / s));
    };
    linear("in_proj", d_model, 2 * d_inner, Rows::whole(&normed, d_model), &mut xz, false);
    linear("x_proj", d_inner, width, Rows::whole(&u, d_inner), &mut dbc, false);
    linear("dt_proj", rank, d_inner, Rows::columns(&dbc, 0, width), &mut dt, false);
    linear("out_proj", d_inner, d_model, Rows::whole(&y, d_inner), &mut residual, true);
    let s = time(&backend, || {
        backend
            .causal_conv1d_fwd(CausalConv1dFwd {
                rows,
                d_inner,
                d_conv,
                slots: 1,
                lanes: &lanes,
                x: Rows::columns(&xz, 0, 2 * d_inner),
                weight: &conv,
                bias: Some(&conv_bias),
                conv_state: &mut conv_state,
                out: &mut u,
            })
            .unwrap();
    });
    say("conv1d", s, true, gigabytes(2 * store * rows * d_inner, s));
    let s = time(&backend, || {
        backend
            .selective_scan_fwd(SelectiveScanFwd {
                shape: ScanShape { rows, d_inner, d_state, slots: 1 },
                lanes: &lanes,
                u: Rows::whole(&u, d_inner),
                dt: Rows::whole(&dt, d_inner),
                b: Rows::columns(&dbc, rank, width),
                c: Rows::columns(&dbc, rank + d_state, width),
                a2: &a2,
                d: &d,
                dt_bias: &dt_bias,
                z: Rows::columns(&xz, d_inner, 2 * d_inner),
                ssm_state: &mut ssm_state,
                y: &mut y,
            })
            .unwrap();
    });
    say("scan", s, true, format!("{:.0} G states/s", 1e-9 * (rows * d_inner * d_state) as f64 / s));
    let mut sums = backend.sums(1, d_model).unwrap();
    let segments: Vec<PoolSegment> = (0..rows / 1000)
        .map(|i| PoolSegment { rows: i * 1000..(i + 1) * 1000, from: None, keep: None, count: 1000 })
        .collect();
    let s = time(&backend, || {
        let (kind, width, slots) = (PoolKind::Mean, d_model, 1);
        let (x, segments, sums) = (&residual, &segments[..], &mut sums);
        backend.pool_fwd(PoolFwd { kind, rows, width, slots, x, segments, sums }).unwrap();
    });
    say("pool", s, false, gigabytes(4 * rows * d_model, s));
    println!("block      {:>9.1} us, {:.2} M tokens/s a block", total * 1e6, 1e-6 * rows as f64 / total);
}
