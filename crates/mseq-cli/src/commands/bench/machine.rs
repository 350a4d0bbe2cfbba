//! The machine's own rates, and how near to them a model can come.

use std::time::Instant;

use mseq_backend::ops::LinearFwd;
use mseq_backend::{Backend, Result, Rows, RowsMut};
use mseq_core::DType;
use mseq_cpu::CpuBackend;
use mseq_cuda::CudaBackend;
use mseq_model::MambaShape;
use mseq_testkit::Random;

/// What a machine can do at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Bytes read and written a second.
    pub(super) copy: f64,
    /// Operations a second of a large matrix product.
    pub(super) gemm: f64,
    /// Rows, inner and outer features of that product.
    pub(super) gemm_size: usize,
    /// Powers of two a second.
    pub(super) exp2: f64,
}

impl Rates {
    pub(super) fn of_cpu(cpu: &CpuBackend) -> Result<Self> {
        const SIZE: usize = 1024;
        Ok(Self {
            copy: cpu.copy_rate(),
            gemm: gemm(cpu, |_| Ok(()), SIZE)?,
            gemm_size: SIZE,
            exp2: cpu.exp2_rate(),
        })
    }

    pub(super) fn of_cuda(cuda: &CudaBackend) -> Result<Self> {
        // Three matrices of 8192 x 8192 need room.
        let size = if cuda.memory()?.0 > 4 << 30 { 8192 } else { 2048 };
        Ok(Self {
            copy: cuda.copy_rate()?,
            gemm: gemm(cuda, CudaBackend::synchronize, size)?,
            gemm_size: size,
            exp2: cuda.exp2_rate()?,
        })
    }
}

/// Operations a second of a square product, by the way that a model's products go.
fn gemm<B: Backend>(backend: &B, wait: fn(&B) -> Result<()>, size: usize) -> Result<f64> {
    // Not zeros: they cost a card less power, which raises its clock.
    let mut random = Random::new(1);
    let values: Vec<f32> = (0..size * size / 2)
        .flat_map(|_| {
            let bits = random.bits();
            [bits as u32, (bits >> 32) as u32]
        })
        .map(|bits| (bits >> 8) as f32 / (1u32 << 23) as f32 - 1.0)
        .collect();
    let weight = backend.linear(&values, size, size)?;
    let mut x = backend.activations(size * size)?;
    backend.write(&mut x, 0, &values)?;
    drop(values);
    let mut y = backend.activations(size * size)?;
    let mut product = || {
        backend.linear_fwd(LinearFwd {
            rows: size,
            in_features: size,
            out_features: size,
            x: Rows::whole(&x, size),
            weight: &weight,
            bias: None,
            accumulate: false,
            y: RowsMut { buf: &mut y, stride: size },
        })
    };
    product()?;
    wait(backend)?;
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        product()?;
        product()?;
        wait(backend)?;
        seconds.push(start.elapsed().as_secs_f64() / 2.0);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(2.0 * (size as f64).powi(3) / seconds[2])
}

/// What a token costs at least: powers of two, operations of matrix products, and bytes of the residual
/// stream, read and written once a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Floor {
    pub(super) exps: f64,
    pub(super) flop: f64,
    pub(super) bytes: f64,
}

impl Floor {
    pub(super) fn new(shape: &MambaShape, dtype: DType) -> Self {
        let layers = shape.n_layer as f64;
        Self {
            exps: layers * (shape.d_inner * shape.d_state) as f64,
            flop: products(shape).iter().map(|(_, flop)| flop).sum(),
            bytes: layers * (2 * dtype.bytes() * shape.d_model) as f64,
        }
    }

    /// Seconds that each would take alone, with its name.
    pub(super) fn parts(&self, rates: &Rates) -> [(&'static str, f64); 3] {
        [
            ("exp2", self.exps / rates.exp2),
            ("gemm", self.flop / rates.gemm),
            ("bytes", self.bytes / rates.copy),
        ]
    }

    /// The longest of them.
    pub(super) fn worst(&self, rates: &Rates) -> (&'static str, f64) {
        let [first, rest @ ..] = self.parts(rates);
        rest.into_iter().fold(first, |worst, part| if part.1 > worst.1 { part } else { worst })
    }
}

/// Operations a token of each matrix product of all blocks.
pub(super) fn products(shape: &MambaShape) -> [(&'static str, f64); 4] {
    let &MambaShape { n_layer, d_model, d_inner, d_state, dt_rank, .. } = shape;
    let flop = |from: usize, to: usize| 2.0 * (n_layer * from * to) as f64;
    [
        ("in_proj", flop(d_model, 2 * d_inner)),
        ("x_proj", flop(d_inner, dt_rank + 2 * d_state)),
        ("dt_proj", flop(dt_rank, d_inner)),
        ("out_proj", flop(d_inner, d_model)),
    ]
}

/// Bytes of memory that this process holds.
pub(super) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_what_a_pencil_gives() {
        let shape = MambaShape {
            n_layer: 8,
            d_model: 256,
            d_inner: 512,
            d_state: 16,
            d_conv: 4,
            dt_rank: 16,
            vocab: 8,
            front: 0,
        };
        let floor = Floor::new(&shape, DType::Bf16);
        assert_eq!((floor.exps, floor.flop, floor.bytes), (65_536.0, 6_815_744.0, 8192.0));
        assert_eq!(Floor::new(&shape, DType::F32).bytes, 16_384.0);
        let rates = Rates { copy: 3e12, gemm: 790e12, gemm_size: 1, exp2: 4.1e12 };
        let (name, seconds) = floor.worst(&rates);
        assert_eq!(name, "exp2");
        assert!((seconds - 15.98e-9).abs() < 1e-11, "{seconds}");
    }
}
