use mseq_core::{DType, DeviceSpec};
use mseq_cpu::CpuBackend;
use mseq_model::Checkpoint;
use mseq_model::MambaShape;
use mseq_model::arch::Mamba;

use crate::packer::EngineConfig;
use crate::runner::{ModelRunner, Runner};
use crate::{Error, Result};

/// A runner, and what the user should hear about the choice of its device.
pub struct Opened {
    /// The model on its device.
    pub runner: Box<dyn Runner>,
    /// Device, as metadata records it.
    pub device: String,
}

/// Opens a model on a device.
///
/// `auto` is the CPU: this build has no CUDA engine. `threads` 0 takes every core.
///
/// # Errors
/// When the device is missing or the model can't be loaded.
pub fn open(
    device: &DeviceSpec,
    threads: usize,
    checkpoint: &Checkpoint,
    config: &EngineConfig,
) -> Result<Opened> {
    match device {
        DeviceSpec::Cuda(_) | DeviceSpec::CudaAll => Err(Error::NoCuda { asked: device.to_string() }),
        DeviceSpec::Auto | DeviceSpec::Cpu => {
            let runner = ModelRunner::new(CpuBackend::new(threads)?, checkpoint, config)?;
            let device = runner.device();
            Ok(Opened { runner: Box::new(runner), device })
        }
    }
}

/// Tokens of a CPU step: as many as keep its activations in 12 MiB (a last-level cache), from 512
/// (below, weights are re-read too often) to 8192, a multiple of 64.
pub fn default_chunk(shape: &MambaShape) -> usize {
    let rows = (12 << 20) / Mamba::<CpuBackend>::workspace_bytes_per_row(shape, DType::F32);
    (rows / 64 * 64).clamp(512, 8192)
}
