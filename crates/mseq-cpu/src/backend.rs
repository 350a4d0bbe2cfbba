use std::ops::Range;
use std::sync::Arc;

use mseq_backend::ops::{
    CausalConv1dFwd, CausalConv1dUpdate, EmbedTokens, GluFwd, LinearFwd, NllFwd, NormFwd, PoolFwd, PoolOut,
    SelectiveScanFwd, SelectiveStateUpdate, StridedConv1dFwd, TransposedConv1dFwd,
};
use mseq_backend::{Backend, Error, Result};
use mseq_core::DType;
use pulp::Arch;
use rayon::ThreadPool;

use crate::buffer::{CpuBuffer, CpuLinear, CpuSums};
use crate::ops;

/// A pool of threads and the SIMD level of this machine.
#[derive(Clone)]
pub struct CpuBackend {
    pub(crate) pool: Arc<ThreadPool>,
    pub(crate) arch: Arch,
}

impl CpuBackend {
    /// A backend on `threads` threads; 0 takes every core.
    ///
    /// # Errors
    /// When the threads can't be started.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("mseq-cpu-{i}"))
            .build()
            .map_err(|e| Error::Device { device: "cpu".into(), message: e.to_string() })?;
        Ok(Self { pool: Arc::new(pool), arch: Arch::new() })
    }

    /// Threads that run the ops.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The SIMD level found on this machine: `avx512`, `avx2`, `neon` or `scalar`.
    pub fn simd(&self) -> &'static str {
        match self.arch {
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => "neon",
            _ => "scalar",
        }
    }
}

fn outside(what: &'static str, found: usize) -> Error {
    Error::OutOfRange { op: "copy", what, found, wanted: "which is past the end of the buffer" }
}

/// Fails unless a matrix has the sizes that its op says.
fn fits(op: &'static str, weight: &CpuLinear, in_features: usize, out_features: usize) -> Result<()> {
    for (what, found, of_weight) in [
        ("in_features", in_features, weight.in_features),
        ("out_features", out_features, weight.out_features),
    ] {
        if found != of_weight {
            return Err(Error::OutOfRange { op, what, found, wanted: "which is not the weight's" });
        }
    }
    Ok(())
}

impl Backend for CpuBackend {
    type Buffer = CpuBuffer;
    type Linear = CpuLinear;
    type Sums = CpuSums;

    fn name(&self) -> String {
        format!("cpu ({})", self.simd())
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn wide(&self) -> Result<Self> {
        Ok(self.clone())
    }

    fn zeros(&self, len: usize) -> Result<CpuBuffer> {
        Ok(CpuBuffer(vec![0.0; len]))
    }

    fn activations(&self, len: usize) -> Result<CpuBuffer> {
        self.zeros(len)
    }

    fn upload(&self, values: &[f32]) -> Result<CpuBuffer> {
        Ok(CpuBuffer(values.to_vec()))
    }

    fn linear(&self, weight: &[f32], out_features: usize, in_features: usize) -> Result<CpuLinear> {
        if weight.len() != out_features * in_features {
            return Err(Error::OutOfRange {
                op: "linear",
                what: "the length of a weight",
                found: weight.len(),
                wanted: "which is not out_features x in_features",
            });
        }
        Ok(CpuLinear::pack(weight, out_features, in_features))
    }

    fn len(&self, buf: &CpuBuffer) -> usize {
        buf.0.len()
    }

    fn download(&self, buf: &CpuBuffer, range: Range<usize>) -> Result<Vec<f32>> {
        let end = range.end;
        buf.0.get(range).map(<[f32]>::to_vec).ok_or_else(|| outside("an end", end))
    }

    fn write(&self, buf: &mut CpuBuffer, at: usize, values: &[f32]) -> Result<()> {
        let end = at + values.len();
        buf.0.get_mut(at..end).ok_or_else(|| outside("an end", end))?.copy_from_slice(values);
        Ok(())
    }

    fn sums(&self, slots: usize, width: usize) -> Result<CpuSums> {
        Ok(CpuSums { values: vec![0.0; slots * width], width })
    }

    fn read_sums(&self, sums: &CpuSums, slot: usize) -> Result<Vec<f64>> {
        let range = slot * sums.width..(slot + 1) * sums.width;
        sums.values.get(range).map(<[f64]>::to_vec).ok_or_else(|| outside("a slot", slot))
    }

    fn write_sums(&self, sums: &mut CpuSums, slot: usize, values: &[f64]) -> Result<()> {
        let range = slot * sums.width..slot * sums.width + values.len();
        sums.values.get_mut(range).ok_or_else(|| outside("a slot", slot))?.copy_from_slice(values);
        Ok(())
    }

    fn embed_tokens(&self, op: EmbedTokens<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::embed_tokens(op);
        Ok(())
    }

    fn norm_fwd(&self, op: NormFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        self.pool.install(|| ops::norm_fwd(self, op));
        Ok(())
    }

    fn linear_fwd(&self, op: LinearFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        fits("linear_fwd", op.weight, op.in_features, op.out_features)?;
        self.pool.install(|| ops::linear_fwd(self, op));
        Ok(())
    }

    fn causal_conv1d_fwd(&self, op: CausalConv1dFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        self.pool.install(|| ops::causal_conv1d_fwd(self, op));
        Ok(())
    }

    fn selective_scan_fwd(&self, op: SelectiveScanFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        self.pool.install(|| ops::selective_scan_fwd(self, op));
        Ok(())
    }

    fn causal_conv1d_update(&self, op: CausalConv1dUpdate<'_, Self>) -> Result<()> {
        op.check(self)?;
        self.pool.install(|| ops::causal_conv1d_update(self, op));
        Ok(())
    }

    fn selective_state_update(&self, op: SelectiveStateUpdate<'_, Self>) -> Result<()> {
        op.check(self)?;
        self.pool.install(|| ops::selective_state_update(self, op));
        Ok(())
    }

    fn nll_fwd(&self, op: NllFwd<'_, Self>) -> Result<Vec<f32>> {
        op.check(self)?;
        for (what, found, wanted) in
            [("d_model", op.d_model, op.weight.in_features), ("vocab", op.vocab, op.weight.out_features)]
        {
            if found != wanted {
                let wanted = "which is not the weight's";
                return Err(Error::OutOfRange { op: "nll_fwd", what, found, wanted });
            }
        }
        Ok(self.pool.install(|| ops::nll_fwd(self, op)))
    }

    fn strided_conv1d_fwd(&self, op: StridedConv1dFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        fits("strided_conv1d_fwd", op.weight, op.taps * op.in_channels, op.out_channels)?;
        self.pool.install(|| ops::strided_conv1d_fwd(self, op));
        Ok(())
    }

    fn transposed_conv1d_fwd(&self, op: TransposedConv1dFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        let (inputs, outputs) = (op.taps / op.stride * op.in_channels, op.stride * op.out_channels);
        fits("transposed_conv1d_fwd", op.weight, inputs, outputs)?;
        self.pool.install(|| ops::transposed_conv1d_fwd(self, op));
        Ok(())
    }

    fn glu_fwd(&self, op: GluFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        self.pool.install(|| ops::glu_fwd(self, op));
        Ok(())
    }

    fn pool_fwd(&self, op: PoolFwd<'_, Self>) -> Result<PoolOut> {
        op.check(self)?;
        Ok(self.pool.install(|| ops::pool_fwd(op)))
    }
}
