use std::fmt;
use std::path::PathBuf;

use mseq_core::{DType, DeviceSpec};
use mseq_cpu::CpuBackend;
use mseq_cuda::{CudaBackend, CudaConfig, DeviceInfo, MixerSizes};
use mseq_model::arch::Mamba;
use mseq_model::{Checkpoint, MambaShape};

use crate::packer::EngineConfig;
use crate::runner::{ModelRunner, Runner};
use crate::{Error, Result};

/// Where a model will run, and in which arithmetic: what the user asked for, made definite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The CUDA device; `None` is the CPU.
    pub cuda: Option<DeviceInfo>,
    /// Arithmetic.
    pub dtype: DType,
    /// What the user should hear about the choice.
    pub note: Option<String>,
    /// A folder of CUDA sources to compile in place of the built-in kernels.
    pub kernels_from: Option<PathBuf>,
}

/// A runner, and what was found while opening it.
pub struct Opened {
    /// The model on its device.
    pub runner: Box<dyn Runner>,
    /// Device, as metadata records it.
    pub device: String,
    /// Tokens a step: what was asked for, or less where the device had not the memory.
    pub chunk: usize,
    /// A lane that goes on in the next step should end at a multiple of this many rows from its
    /// record's start, so that equal settings give equal bits; 1 where any cut gives the same.
    pub grid: usize,
    /// What the user should hear of the kernels.
    pub note: Option<String>,
}

/// Fewest tokens a step that running out of memory leads to.
pub(crate) const LEAST_CHUNK: usize = 4096;

/// Tokens of a CUDA step: enough for the scan of one sequence to fill a large card.
const CUDA_CHUNK: usize = 1 << 18;

/// Bytes of workspace of a CUDA step whose rows are frames: one takes as much as hundreds of tokens.
const CUDA_WORKSPACE: usize = 4 << 30;

/// Makes a choice definite. `auto` is a CUDA device when one can be used, else the CPU with a note.
///
/// `dtype` `None` is f32 on the CPU and on cards before compute capability 8.0, bf16 on later ones.
///
/// # Errors
/// When a device that was named is missing, or has not the type.
pub fn choose(device: &DeviceSpec, dtype: Option<DType>) -> Result<Place> {
    let index = match device {
        DeviceSpec::Cpu => return on_cpu(dtype, None),
        DeviceSpec::Auto => 0,
        DeviceSpec::Cuda(indices) if indices.len() > 1 => {
            return Err(Error::OneDevice { asked: device.to_string() });
        }
        DeviceSpec::Cuda(indices) => indices.first().copied().unwrap_or(0),
        DeviceSpec::CudaAll => match mseq_cuda::probe() {
            Ok(driver) if driver.devices.len() > 1 => {
                return Err(Error::OneDevice { asked: device.to_string() });
            }
            _ => 0,
        },
    };
    match mseq_cuda::device(index) {
        Ok(info) => on_cuda(info, dtype),
        Err(why) if *device == DeviceSpec::Auto => on_cpu(dtype, Some(why.to_string())),
        Err(why) => Err(Error::NoCuda { asked: device.to_string(), why }),
    }
}

/// Makes a choice of any number of devices definite, each as [`choose`] does. A device that is named
/// twice runs two engines.
///
/// # Errors
/// As for [`choose`].
pub fn choose_all(device: &DeviceSpec, dtype: Option<DType>) -> Result<Vec<Place>> {
    let indices = match device {
        DeviceSpec::Cuda(indices) if indices.len() > 1 => indices.clone(),
        DeviceSpec::CudaAll => match mseq_cuda::probe() {
            Ok(driver) => driver.devices.iter().map(|info| info.index).collect(),
            Err(why) => return Err(Error::NoCuda { asked: device.to_string(), why }),
        },
        _ => return Ok(vec![choose(device, dtype)?]),
    };
    indices.into_iter().map(|index| choose(&DeviceSpec::Cuda(vec![index]), dtype)).collect()
}

fn on_cpu(dtype: Option<DType>, why: Option<String>) -> Result<Place> {
    match dtype {
        None | Some(DType::F32) => Ok(Place { cuda: None, dtype: DType::F32, note: why, kernels_from: None }),
        Some(dtype) => Err(Error::NoSuchType { device: "cpu".into(), dtype, has: "f32 only" }),
    }
}

fn on_cuda(info: DeviceInfo, dtype: Option<DType>) -> Result<Place> {
    let has_bf16 = info.capability >= (8, 0);
    let dtype = match dtype {
        Some(DType::Bf16) if !has_bf16 => {
            let has = "f32 and f16: bf16 came with compute capability 8.0";
            return Err(Error::NoSuchType { device: info.label(), dtype: DType::Bf16, has });
        }
        Some(dtype) => dtype,
        None if has_bf16 => DType::Bf16,
        None => DType::F32,
    };
    Ok(Place { cuda: Some(info), dtype, note: None, kernels_from: None })
}

/// Fewest tokens of a CUDA step: tiles begin at multiples of it, and in f32 the rounding of shorter steps, a state
/// stored after each, would show in the seventh digit.
const LEAST_CUDA_STEP: usize = 1024;

impl Place {
    /// Tokens of a step where the user asks for so many.
    pub fn step(&self, tokens: usize) -> usize {
        if self.cuda.is_some() { tokens.max(LEAST_CUDA_STEP) } else { tokens.max(1) }
    }

    /// The device, opened for a model with steps of `chunk` rows; `None` is the CPU.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn open_cuda(&self, shape: &MambaShape, chunk: usize) -> Result<Option<CudaBackend>> {
        let Some(info) = &self.cuda else { return Ok(None) };
        let MambaShape { d_inner, d_state, d_conv, .. } = *shape;
        let opened = CudaBackend::new(&CudaConfig {
            index: info.index,
            dtype: self.dtype,
            d_inner,
            chunk,
            sizes: Some(MixerSizes { d_inner, d_state, d_conv }),
            kernels_from: self.kernels_from.clone(),
        });
        opened.map(Some).map_err(|why| Error::NoCuda { asked: info.label(), why })
    }

    /// Tokens a step where the user names no number: fixed by model and kind of device.
    pub fn default_chunk(&self, shape: &MambaShape) -> usize {
        match self.cuda {
            None => default_chunk(shape),
            Some(_) if shape.front > 0 => {
                let row = Mamba::<CpuBackend>::workspace_bytes_per_row(shape, self.dtype);
                (CUDA_WORKSPACE / row.max(1)).clamp(LEAST_CHUNK, CUDA_CHUNK)
            }
            Some(_) => CUDA_CHUNK,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cuda {
            Some(info) => write!(f, "{}, {}", info.label(), self.dtype),
            None => write!(f, "cpu, {}", self.dtype),
        }
    }
}

/// Opens a model where [`choose`] said.
///
/// `threads` is for the CPU; 0 takes every core. On a device whose memory does not suffice the chunk
/// is halved until it does.
///
/// # Errors
/// When the device is missing or the model can't be loaded.
pub fn open(place: &Place, threads: usize, checkpoint: &Checkpoint, config: &EngineConfig) -> Result<Opened> {
    let mut config = config.clone();
    loop {
        let Some(backend) = place.open_cuda(&checkpoint.shape, config.chunk)? else {
            let runner = ModelRunner::new(CpuBackend::new(threads)?, checkpoint, &config)?;
            let device = runner.device();
            return Ok(Opened { runner: Box::new(runner), device, chunk: config.chunk, grid: 1, note: None });
        };
        let (grid, note) = (backend.grid(), backend.specialized().note());
        match ModelRunner::new(backend, checkpoint, &config) {
            Ok(runner) => {
                let device = runner.device();
                return Ok(Opened { runner: Box::new(runner), device, chunk: config.chunk, grid, note });
            }
            Err(e) if e.is_out_of_memory() && config.chunk / 2 >= LEAST_CHUNK => config.chunk /= 2,
            Err(e) => return Err(e),
        }
    }
}

/// Tokens of a CPU step: as many as keep its activations in 12 MiB (a last-level cache), from 512
/// (below, weights are re-read too often; frames of convolutions, which share them, from 128) to 8192,
/// a multiple of 64.
pub fn default_chunk(shape: &MambaShape) -> usize {
    let rows = (12 << 20) / Mamba::<CpuBackend>::workspace_bytes_per_row(shape, DType::F32);
    (rows / 64 * 64).clamp(if shape.front > 0 { 128 } else { 512 }, 8192)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(capability: (u32, u32)) -> DeviceInfo {
        DeviceInfo { index: 0, name: "a card".into(), capability, multiprocessors: 100, memory: 1 << 34 }
    }

    #[test]
    fn types_follow_the_device() {
        assert_eq!(choose(&DeviceSpec::Cpu, None).unwrap().dtype, DType::F32);
        assert!(matches!(choose(&DeviceSpec::Cpu, Some(DType::Bf16)), Err(Error::NoSuchType { .. })));
        let dtype = |capability, asked| on_cuda(card(capability), asked).map(|place| place.dtype);
        assert_eq!(dtype((9, 0), None).unwrap(), DType::Bf16);
        assert_eq!(dtype((7, 5), None).unwrap(), DType::F32);
        assert_eq!(dtype((7, 5), Some(DType::F16)).unwrap(), DType::F16);
        assert_eq!(dtype((8, 0), Some(DType::F32)).unwrap(), DType::F32);
        assert!(dtype((7, 5), Some(DType::Bf16)).is_err());
        let two = DeviceSpec::Cuda(vec![0, 1]);
        assert!(matches!(choose(&two, None), Err(Error::OneDevice { .. })));
    }

    #[test]
    fn steps_of_a_device_are_not_short() {
        let cuda = on_cuda(card((9, 0)), None).unwrap();
        assert_eq!([1, 1023, 1024, 1300].map(|tokens| cuda.step(tokens)), [1024, 1024, 1024, 1300]);
        assert_eq!(choose(&DeviceSpec::Cpu, None).unwrap().step(1), 1);
    }

    #[test]
    fn auto_always_finds_a_place() {
        let place = choose(&DeviceSpec::Auto, None).unwrap();
        assert_eq!(place.cuda.is_none(), place.note.is_some());
    }
}
