//! Tokens a second of whole random models on one CUDA device, and where the time of a step goes.
//!
//! `cargo bench -p mseq-cuda -- [tokens] [chunk] [f32|f16|bf16] [lanes]`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints and may fail loudly")]

use std::time::Instant;

use mseq_backend::ops::{PoolFwd, PoolKind, PoolSegment};
use mseq_backend::{Backend, LaneSpan};
use mseq_core::DType;
use mseq_cuda::{CudaBackend, CudaConfig};
use mseq_model::arch::Mamba;
use mseq_model::{Checkpoint, ModelFiles};
use mseq_testkit::Random;
use mseq_testkit::model::{ModelShape, VOCAB, random_model};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (tokens, chunk, lanes) = (number(0, 1 << 20), number(1, 1 << 18), number(3, 1));
    let dtype = match args.get(2).map(String::as_str) {
        Some("f32") => DType::F32,
        Some("f16") => DType::F16,
        _ => DType::Bf16,
    };
    for (d_model, n_layer) in [(256, 8), (256, 16), (768, 24)] {
        let config =
            CudaConfig { index: 0, dtype, d_inner: 2 * d_model, chunk, sizes: None, kernels_from: None };
        let backend = match CudaBackend::new(&config) {
            Ok(backend) => backend,
            Err(why) => return println!("skipped: {why}"),
        };
        let shape = ModelShape { d_model, n_layer, expand: 2, d_state: 16, d_conv: 4 };
        let files: Vec<(&'static str, &'static [u8])> = random_model(shape, 1, true)
            .into_iter()
            .map(|(name, bytes)| (name, &*Box::leak(bytes.into_boxed_slice())))
            .collect();
        let files = ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) };
        let model = Mamba::load(&backend, &Checkpoint::open(files).unwrap()).unwrap();
        let mut random = Random::new(3);
        let ids: Vec<u32> = (0..tokens).map(|_| random.between(0, VOCAB - 1) as u32).collect();
        let mut state = model.state(&backend, 1).unwrap();
        let mut workspace = model.workspace(&backend, chunk.min(tokens)).unwrap();
        let mut sums = backend.sums(1, d_model).unwrap();
        let mut run = |backend: &CudaBackend| {
            for (step, ids) in ids.chunks(chunk).enumerate() {
                let rows = ids.len();
                let each = rows / lanes;
                let spans: Vec<LaneSpan> = match lanes {
                    1 => vec![LaneSpan { rows: 0..rows, fresh: step == 0, slot: Some(0) }],
                    _ => (0..lanes)
                        .map(|i| LaneSpan { rows: i * each..(i + 1) * each, fresh: true, slot: None })
                        .collect(),
                };
                let x =
                    model.forward(backend, ids, &spans, (n_layer, true), &mut state, &mut workspace).unwrap();
                let segments: Vec<PoolSegment> = (0..rows / 1000)
                    .map(|i| PoolSegment {
                        rows: i * 1000..(i + 1) * 1000,
                        from: None,
                        keep: None,
                        count: 1000,
                    })
                    .collect();
                let (kind, width, slots) = (PoolKind::Mean, d_model, 1);
                let (segments, sums) = (&segments[..], &mut sums);
                backend.pool_fwd(PoolFwd { kind, rows, width, slots, x, segments, sums }).unwrap();
            }
        };
        run(&backend);
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let start = Instant::now();
                run(&backend);
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{}: {d_model} x {n_layer} {dtype}, {tokens} tokens in steps of {chunk}, {lanes} lanes, tiles of {}: \
             {:.3} M tokens/s (median of 5; {:.3} to {:.3}), matrix products by {}",
            backend.info().label(),
            backend.grid(),
            1e-6 * tokens as f64 / times[2],
            1e-6 * tokens as f64 / times[4],
            1e-6 * tokens as f64 / times[0],
            if backend.has_cublas() { "cuBLASLt" } else { "our own kernel" },
        );
    }
}
