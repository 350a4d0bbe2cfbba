//! A backend that waits after each op and adds up where the time goes.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mseq_backend::ops::{
    CausalConv1dFwd, CausalConv1dUpdate, EmbedTokens, GluFwd, LinearFwd, NllFwd, Norm, NormFwd, PoolFwd,
    PoolOut, SelectiveScanFwd, SelectiveStateUpdate, StridedConv1dFwd, TransposedConv1dFwd,
};
use mseq_backend::{Backend, Result};
use mseq_core::DType;

/// A part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Embedding,
    Norm,
    InProj,
    Conv,
    XProj,
    DtProj,
    Scan,
    OutProj,
    Pool,
}

impl Stage {
    /// In the order in which a token meets them.
    pub(super) const ALL: [Self; 9] = [
        Self::Embedding,
        Self::Norm,
        Self::InProj,
        Self::Conv,
        Self::XProj,
        Self::DtProj,
        Self::Scan,
        Self::OutProj,
        Self::Pool,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Norm => "norm",
            Self::InProj => "in_proj",
            Self::Conv => "conv",
            Self::XProj => "x_proj",
            Self::DtProj => "dt_proj",
            Self::Scan => "scan",
            Self::OutProj => "out_proj",
            Self::Pool => "pool",
        }
    }

    /// Of a matrix product, by the order of a block: in, x, dt, out.
    fn of_product(count: u64) -> Self {
        [Self::InProj, Self::XProj, Self::DtProj, Self::OutProj][(count % 4) as usize]
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// Seconds of each stage, in the order of [`Stage::ALL`].
    pub(super) seconds: [f64; Stage::ALL.len()],
    /// Calls of each.
    pub(super) calls: [u64; Stage::ALL.len()],
    /// Matrix products since a block began; `None` before the first block of a step, where those of a
    /// front end are.
    products: Option<u64>,
}

/// The times of a [`Timed`] backend, seen from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Times>>);

impl Clock {
    pub(super) fn times(&self) -> Times {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Times::default();
    }

    fn add(&self, stage: Option<Stage>, seconds: f64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = stage.unwrap_or_else(|| match &mut times.products {
            Some(count) => {
                *count += 1;
                Stage::of_product(*count - 1)
            }
            None => Stage::Embedding,
        });
        match stage {
            Stage::Norm => times.products = Some(0),
            Stage::Pool => times.products = None,
            _ => {}
        }
        times.seconds[stage as usize] += seconds;
        times.calls[stage as usize] += 1;
    }
}

/// Another backend, with the time of each op.
pub(super) struct Timed<B: Backend> {
    inner: B,
    /// Waits for what was launched.
    wait: fn(&B) -> Result<()>,
    clock: Clock,
}

impl<B: Backend> Timed<B> {
    pub(super) fn new(inner: B, wait: fn(&B) -> Result<()>, clock: Clock) -> Self {
        Self { inner, wait, clock }
    }

    /// Runs an op to its end; a matrix product has no stage of its own.
    fn time<T>(&self, stage: Option<Stage>, op: impl FnOnce(&B) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = op(&self.inner)?;
        (self.wait)(&self.inner)?;
        self.clock.add(stage, start.elapsed().as_secs_f64());
        Ok(done)
    }
}

impl<B: Backend> Backend for Timed<B> {
    type Buffer = B::Buffer;
    type Linear = B::Linear;
    type Sums = B::Sums;

    fn name(&self) -> String {
        self.inner.name()
    }

    fn dtype(&self) -> DType {
        self.inner.dtype()
    }

    fn wide(&self) -> Result<Self> {
        Ok(Self { inner: self.inner.wide()?, wait: self.wait, clock: self.clock.clone() })
    }

    fn zeros(&self, len: usize) -> Result<B::Buffer> {
        self.inner.zeros(len)
    }

    fn activations(&self, len: usize) -> Result<B::Buffer> {
        self.inner.activations(len)
    }

    fn upload(&self, values: &[f32]) -> Result<B::Buffer> {
        self.inner.upload(values)
    }

    fn linear(&self, weight: &[f32], out_features: usize, in_features: usize) -> Result<B::Linear> {
        self.inner.linear(weight, out_features, in_features)
    }

    fn len(&self, buf: &B::Buffer) -> usize {
        self.inner.len(buf)
    }

    fn download(&self, buf: &B::Buffer, range: Range<usize>) -> Result<Vec<f32>> {
        self.inner.download(buf, range)
    }

    fn write(&self, buf: &mut B::Buffer, at: usize, values: &[f32]) -> Result<()> {
        self.inner.write(buf, at, values)
    }

    fn sums(&self, slots: usize, width: usize) -> Result<B::Sums> {
        self.inner.sums(slots, width)
    }

    fn read_sums(&self, sums: &B::Sums, slot: usize) -> Result<Vec<f64>> {
        self.inner.read_sums(sums, slot)
    }

    fn write_sums(&self, sums: &mut B::Sums, slot: usize, values: &[f64]) -> Result<()> {
        self.inner.write_sums(sums, slot, values)
    }

    fn embed_tokens(&self, op: EmbedTokens<'_, Self>) -> Result<()> {
        let EmbedTokens { ids, table, vocab, d_model, out } = op;
        self.time(Some(Stage::Embedding), |b| b.embed_tokens(EmbedTokens { ids, table, vocab, d_model, out }))
    }

    fn norm_fwd(&self, op: NormFwd<'_, Self>) -> Result<()> {
        let NormFwd { rows, width, norm, eps, x, out } = op;
        let norm = match norm {
            Norm::Rms { weight } => Norm::Rms { weight },
            Norm::Layer { weight, bias } => Norm::Layer { weight, bias },
        };
        self.time(Some(Stage::Norm), |b| b.norm_fwd(NormFwd { rows, width, norm, eps, x, out }))
    }

    fn linear_fwd(&self, op: LinearFwd<'_, Self>) -> Result<()> {
        let LinearFwd { rows, in_features, out_features, x, weight, bias, accumulate, y } = op;
        self.time(None, |b| {
            b.linear_fwd(LinearFwd { rows, in_features, out_features, x, weight, bias, accumulate, y })
        })
    }

    fn causal_conv1d_fwd(&self, op: CausalConv1dFwd<'_, Self>) -> Result<()> {
        let CausalConv1dFwd { rows, d_inner, d_conv, slots, lanes, x, weight, bias, conv_state, out } = op;
        self.time(Some(Stage::Conv), |b| {
            b.causal_conv1d_fwd(CausalConv1dFwd {
                rows,
                d_inner,
                d_conv,
                slots,
                lanes,
                x,
                weight,
                bias,
                conv_state,
                out,
            })
        })
    }

    fn selective_scan_fwd(&self, op: SelectiveScanFwd<'_, Self>) -> Result<()> {
        let SelectiveScanFwd { shape, lanes, u, dt, b, c, a2, d, dt_bias, z, ssm_state, y } = op;
        self.time(Some(Stage::Scan), |on| {
            on.selective_scan_fwd(SelectiveScanFwd {
                shape,
                lanes,
                u,
                dt,
                b,
                c,
                a2,
                d,
                dt_bias,
                z,
                ssm_state,
                y,
            })
        })
    }

    fn causal_conv1d_update(&self, op: CausalConv1dUpdate<'_, Self>) -> Result<()> {
        let CausalConv1dUpdate { d_inner, d_conv, slots, n_slots, x, weight, bias, conv_state, out } = op;
        self.time(Some(Stage::Conv), |b| {
            b.causal_conv1d_update(CausalConv1dUpdate {
                d_inner,
                d_conv,
                slots,
                n_slots,
                x,
                weight,
                bias,
                conv_state,
                out,
            })
        })
    }

    fn selective_state_update(&self, op: SelectiveStateUpdate<'_, Self>) -> Result<()> {
        let SelectiveStateUpdate {
            d_inner,
            d_state,
            slots,
            n_slots,
            u,
            dt,
            b,
            c,
            z,
            a2,
            d,
            dt_bias,
            ssm_state,
            y,
        } = op;
        self.time(Some(Stage::Scan), |on| {
            on.selective_state_update(SelectiveStateUpdate {
                d_inner,
                d_state,
                slots,
                n_slots,
                u,
                dt,
                b,
                c,
                z,
                a2,
                d,
                dt_bias,
                ssm_state,
                y,
            })
        })
    }

    fn nll_fwd(&self, op: NllFwd<'_, Self>) -> Result<Vec<f32>> {
        let NllFwd { rows, d_model, vocab, slots, ids, lanes, x, weight, last } = op;
        // No bench scores.
        self.inner.nll_fwd(NllFwd { rows, d_model, vocab, slots, ids, lanes, x, weight, last })
    }

    fn strided_conv1d_fwd(&self, op: StridedConv1dFwd<'_, Self>) -> Result<()> {
        let StridedConv1dFwd { rows, in_channels, out_channels, taps, stride, x, weight, bias, relu, y } = op;
        self.time(Some(Stage::Embedding), |b| {
            b.strided_conv1d_fwd(StridedConv1dFwd {
                rows,
                in_channels,
                out_channels,
                taps,
                stride,
                x,
                weight,
                bias,
                relu,
                y,
            })
        })
    }

    fn transposed_conv1d_fwd(&self, op: TransposedConv1dFwd<'_, Self>) -> Result<()> {
        let TransposedConv1dFwd {
            rows,
            in_channels,
            out_channels,
            taps,
            stride,
            x,
            weight,
            bias,
            relu,
            add,
            y,
        } = op;
        self.time(Some(Stage::Embedding), |b| {
            b.transposed_conv1d_fwd(TransposedConv1dFwd {
                rows,
                in_channels,
                out_channels,
                taps,
                stride,
                x,
                weight,
                bias,
                relu,
                add,
                y,
            })
        })
    }

    fn glu_fwd(&self, op: GluFwd<'_, Self>) -> Result<()> {
        let GluFwd { rows, width, x, out } = op;
        self.time(Some(Stage::Embedding), |b| b.glu_fwd(GluFwd { rows, width, x, out }))
    }

    fn pool_fwd(&self, op: PoolFwd<'_, Self>) -> Result<PoolOut> {
        let PoolFwd { kind, rows, width, slots, x, segments, sums } = op;
        self.time(Some(Stage::Pool), |b| b.pool_fwd(PoolFwd { kind, rows, width, slots, x, segments, sums }))
    }
}
