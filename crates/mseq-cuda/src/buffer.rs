//! What a model keeps on a device.

use std::sync::Arc;

use half::{bf16, f16};
use mseq_backend::{Result, Rows};
use mseq_core::DType;

use crate::device::{Device, Memory};
use crate::module::Arg;

/// Values in device memory, f32 or in the type of their backend.
pub struct CudaBuffer {
    pub(crate) memory: Memory,
    pub(crate) len: usize,
    pub(crate) dtype: DType,
}

/// A weight matrix (out_features, in_features), row-major, in the type of its backend.
pub struct CudaLinear {
    pub(crate) memory: Memory,
    pub(crate) out_features: usize,
    pub(crate) in_features: usize,
    pub(crate) dtype: DType,
}

/// f64 sums of open windows: (slots, width).
pub struct CudaSums {
    pub(crate) memory: Memory,
    pub(crate) width: usize,
}

impl CudaBuffer {
    pub(crate) fn zeros(device: &Arc<Device>, len: usize, dtype: DType) -> Result<Self> {
        Ok(Self { memory: device.zeros(len * dtype.bytes())?, len, dtype })
    }

    /// The whole buffer as an argument.
    pub(crate) fn arg(&self) -> Arg {
        Arg::Buffer(self.dtype, self.memory.ptr())
    }
}

/// The first value of a view.
pub(crate) fn address(view: &Rows<'_, CudaBuffer>) -> u64 {
    view.buf.memory.ptr() + (view.offset * view.buf.dtype.bytes()) as u64
}

/// A view as an argument.
pub(crate) fn arg(view: &Rows<'_, CudaBuffer>) -> Arg {
    Arg::Buffer(view.buf.dtype, address(view))
}

/// Writes f32 values as `dtype` to value `at` of device memory.
pub(crate) fn write(device: &Device, to: &Memory, dtype: DType, at: usize, values: &[f32]) -> Result<()> {
    // Pieces bound what a narrower copy takes on the host.
    const PIECE: usize = 1 << 22;
    if dtype == DType::F32 {
        return device.upload(to, 4 * at, values);
    }
    for (i, piece) in values.chunks(PIECE).enumerate() {
        let bits: Vec<u16> = match dtype {
            DType::Bf16 => piece.iter().map(|&v| bf16::from_f32(v).to_bits()).collect(),
            _ => piece.iter().map(|&v| f16::from_f32(v).to_bits()).collect(),
        };
        device.upload(to, 2 * (at + i * PIECE), &bits)?;
    }
    Ok(())
}

/// Reads `len` values from value `at` on, as f32.
pub(crate) fn read(device: &Device, from: &Memory, dtype: DType, at: usize, len: usize) -> Result<Vec<f32>> {
    if dtype == DType::F32 {
        let mut values = vec![0f32; len];
        device.download(from, 4 * at, &mut values)?;
        return Ok(values);
    }
    let mut bits = vec![0u16; len];
    device.download(from, 2 * at, &mut bits)?;
    Ok(match dtype {
        DType::Bf16 => bits.into_iter().map(|b| bf16::from_bits(b).to_f32()).collect(),
        _ => bits.into_iter().map(|b| f16::from_bits(b).to_f32()).collect(),
    })
}
