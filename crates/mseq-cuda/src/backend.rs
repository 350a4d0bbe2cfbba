use std::env;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use half::f16;
use mseq_backend::ops::{
    CausalConv1dFwd, CausalConv1dUpdate, EmbedTokens, GluFwd, LinearFwd, NllFwd, NormFwd, PoolFwd, PoolOut,
    SelectiveScanFwd, SelectiveStateUpdate, StridedConv1dFwd, TransposedConv1dFwd,
};
use mseq_backend::{Backend, Error, LaneSpan, Result};
use mseq_core::DType;
use mseq_kernels::{Elem, MixerSizes};

use crate::blas::Blas;
use crate::buffer::{self, CudaBuffer, CudaLinear, CudaSums};
use crate::device::{Device, bytes_of};
use crate::module::{Arg, KernelSource, Kernels};
use crate::ops;
use crate::probe::{self, DeviceInfo, Unavailable};
use crate::specialize::Specialized;
use crate::staging::{Scratch, Staging};
use crate::tiles;

/// What a backend is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaConfig {
    /// Which device.
    pub index: u32,
    /// Type of activations and weights.
    pub dtype: DType,
    /// Channels of the model: with `chunk` they set the length of scan tiles.
    pub d_inner: usize,
    /// Rows of a step.
    pub chunk: usize,
    /// Sizes of the model, for which kernels are compiled where the built-in ones are not made for them;
    /// `None`: these run whatever comes.
    pub sizes: Option<MixerSizes>,
    /// A folder with kernel sources to compile instead of the built-in code; `MSEQ_KERNELS_FROM` when
    /// `None`.
    pub kernels_from: Option<PathBuf>,
}

/// One CUDA device.
///
/// Use it from one thread: everything goes to one stream, in the order of the calls. Ops return as
/// soon as they are launched; what copies to the host waits.
pub struct CudaBackend {
    pub(crate) device: Arc<Device>,
    pub(crate) kernels: Kernels,
    dtype: DType,
    pub(crate) tile: usize,
    has_blas: bool,
    /// Inside a step of generation, whose rows are one a sequence and always as many.
    pub(crate) stepping: AtomicBool,
    specialized: Specialized,
    kernels_from: Option<PathBuf>,
    /// What launches need beside their arguments. Only its holder launches, so memory that grows is
    /// never in use by another op's arguments.
    scratch: Mutex<LaunchState>,
}

/// Tables and memory that launches share.
pub(crate) struct LaunchState {
    pub(crate) ids: Staging,
    pub(crate) pool: Staging,
    pub(crate) nll: Staging,
    slots: Staging,
    pub(crate) tables: StepTables,
    pub(crate) ends: Scratch,
    pub(crate) tile_sums: Scratch,
    pub(crate) partials: Scratch,
    pub(crate) pooled: Scratch,
    pub(crate) surprise: Scratch,
    pub(crate) blas: Option<Blas>,
}

impl LaunchState {
    /// Sends the slot of each row.
    pub(crate) fn send_slots(&mut self, device: &Arc<Device>, slots: &[usize]) -> Result<Arg> {
        let slots: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
        Ok(Arg::Ptr(Elem::I32, self.slots.send(device, bytes_of(&slots))?))
    }
}

/// The tile and lane tables of the last lanes seen: all layers of a step share them.
pub(crate) struct StepTables {
    staging: Staging,
    last: Option<(Vec<LaneSpan>, usize, OnDevice)>,
}

/// Tables on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnDevice {
    pub(crate) tile_table: u64,
    pub(crate) tiles: usize,
    pub(crate) parallel_tiles: usize,
    pub(crate) lane_table: u64,
    pub(crate) lanes: usize,
    pub(crate) parallel_lanes: usize,
    pub(crate) conv_table: u64,
    pub(crate) conv_tiles: usize,
    pub(crate) conv_longest: usize,
}

impl StepTables {
    pub(crate) fn get(
        &mut self,
        device: &Arc<Device>,
        lanes: &[LaneSpan],
        d_inner: usize,
        tile: usize,
    ) -> Result<OnDevice> {
        if let Some((of, width, tables)) = &self.last
            && *width == d_inner
            && of == lanes
        {
            return Ok(*tables);
        }
        self.last = None;
        let tables = tiles::tables(lanes, d_inner, tile);
        let at = self.staging.send(device, &tables.bytes)?;
        let on_device = OnDevice {
            tile_table: at,
            tiles: tables.tiles,
            parallel_tiles: tables.parallel_tiles,
            lane_table: at + tables.lane_offset() as u64,
            lanes: tables.lanes,
            parallel_lanes: tables.parallel_lanes,
            conv_table: at + tables.conv_offset() as u64,
            conv_tiles: tables.conv_tiles,
            conv_longest: tables.conv_longest,
        };
        self.last = Some((lanes.to_vec(), d_inner, on_device));
        Ok(on_device)
    }
}

impl CudaBackend {
    /// Opens a device, loads its kernels, and cuBLASLt where it is installed (`MSEQ_NO_CUBLAS=1`
    /// leaves it alone).
    ///
    /// # Errors
    /// When the device is missing, or nothing of ours runs on it.
    pub fn new(config: &CudaConfig) -> Result<Self, Unavailable> {
        let device = Device::open(probe::device(config.index)?)?;
        let from =
            config.kernels_from.clone().or_else(|| env::var_os("MSEQ_KERNELS_FROM").map(PathBuf::from));
        let mut kernels = Kernels::load(&device, config.dtype, from.as_deref())?;
        let specialized = Specialized::new(&mut kernels, &device, config.sizes, from.as_deref());
        let blas = if env::var("MSEQ_NO_CUBLAS").is_ok_and(|v| v == "1") {
            None
        } else {
            Blas::open(&device).map_err(|e| Unavailable::Driver { message: e.to_string() })?
        };
        let multiprocessors = device.info.multiprocessors as usize;
        let tile = tiles::tile_len(config.d_inner, config.chunk, multiprocessors);
        Ok(Self::of(device, (kernels, specialized), (config.dtype, tile), blas, from))
    }

    fn of(
        device: Arc<Device>,
        (kernels, specialized): (Kernels, Specialized),
        (dtype, tile): (DType, usize),
        blas: Option<Blas>,
        kernels_from: Option<PathBuf>,
    ) -> Self {
        Self {
            kernels,
            dtype,
            tile,
            has_blas: blas.is_some(),
            stepping: AtomicBool::new(false),
            specialized,
            kernels_from,
            scratch: Mutex::new(LaunchState {
                ids: Staging::new(),
                pool: Staging::new(),
                nll: Staging::new(),
                slots: Staging::new(),
                tables: StepTables { staging: Staging::new(), last: None },
                ends: Scratch::new(),
                tile_sums: Scratch::new(),
                partials: Scratch::new(),
                pooled: Scratch::new(),
                surprise: Scratch::new(),
                blas,
            }),
            device,
        }
    }

    /// Rows between the borders of scan tiles, counted from a lane's first row.
    ///
    /// A lane that goes on in the next step should end at a multiple of it, so that the borders lie on
    /// a grid fixed to the start of its record.
    pub fn grid(&self) -> usize {
        self.tile
    }

    /// The device.
    pub fn info(&self) -> &DeviceInfo {
        &self.device.info
    }

    /// Where its kernels came from.
    pub fn kernel_source(&self) -> &KernelSource {
        &self.kernels.source
    }

    /// Whether kernels were made for the model's shape.
    pub fn specialized(&self) -> &Specialized {
        &self.specialized
    }

    /// Whether matrix products go to cuBLASLt.
    pub fn has_cublas(&self) -> bool {
        self.has_blas
    }

    /// Bytes of device memory that are free, and all.
    ///
    /// # Errors
    /// When the device fails.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.device.memory()
    }

    /// Waits until everything launched so far is done.
    ///
    /// # Errors
    /// When something of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.device.synchronize("wait")
    }

    pub(crate) fn scratch(&self) -> Result<MutexGuard<'_, LaunchState>> {
        self.scratch.lock().map_err(|_| self.device.failure("an earlier op broke off".into()))
    }
}

fn outside(what: &'static str, found: usize) -> Error {
    Error::OutOfRange { op: "copy", what, found, wanted: "which is past the end of the buffer" }
}

impl Backend for CudaBackend {
    type Buffer = CudaBuffer;
    type Linear = CudaLinear;
    type Sums = CudaSums;

    fn name(&self) -> String {
        self.device.info.label()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn wide(&self) -> Result<Self> {
        let from = self.kernels_from.clone();
        let mut kernels = Kernels::load(&self.device, DType::F32, from.as_deref())
            .map_err(|why| self.device.failure(why.to_string()))?;
        // Front ends have no scan.
        let specialized = Specialized::new(&mut kernels, &self.device, None, from.as_deref());
        let blas = if self.has_blas { Blas::open(&self.device)? } else { None };
        Ok(Self::of(Arc::clone(&self.device), (kernels, specialized), (DType::F32, self.tile), blas, from))
    }

    fn zeros(&self, len: usize) -> Result<CudaBuffer> {
        CudaBuffer::zeros(&self.device, len, DType::F32)
    }

    fn activations(&self, len: usize) -> Result<CudaBuffer> {
        CudaBuffer::zeros(&self.device, len, self.dtype)
    }

    fn upload(&self, values: &[f32]) -> Result<CudaBuffer> {
        let mut buf = self.zeros(values.len())?;
        self.write(&mut buf, 0, values)?;
        Ok(buf)
    }

    fn linear(&self, weight: &[f32], out_features: usize, in_features: usize) -> Result<CudaLinear> {
        if weight.len() != out_features * in_features {
            return Err(Error::OutOfRange {
                op: "linear",
                what: "the length of a weight",
                found: weight.len(),
                wanted: "which is not out_features x in_features",
            });
        }
        let most = f16::MAX.to_f32();
        if self.dtype == DType::F16
            && let Some(weight) = weight.iter().find(|w| w.abs() > most)
        {
            return Err(self
                .device
                .failure(format!("a weight is {weight}, too large for f16; use --dtype bf16 or f32")));
        }
        let memory = self.device.zeros(weight.len() * self.dtype.bytes())?;
        buffer::write(&self.device, &memory, self.dtype, 0, weight)?;
        Ok(CudaLinear { memory, out_features, in_features, dtype: self.dtype })
    }

    fn len(&self, buf: &CudaBuffer) -> usize {
        buf.len
    }

    fn download(&self, buf: &CudaBuffer, range: Range<usize>) -> Result<Vec<f32>> {
        if range.end > buf.len || range.start > range.end {
            return Err(outside("an end", range.end));
        }
        buffer::read(&self.device, &buf.memory, buf.dtype, range.start, range.len())
    }

    fn write(&self, buf: &mut CudaBuffer, at: usize, values: &[f32]) -> Result<()> {
        let end = at + values.len();
        if end > buf.len {
            return Err(outside("an end", end));
        }
        buffer::write(&self.device, &buf.memory, buf.dtype, at, values)
    }

    fn sums(&self, slots: usize, width: usize) -> Result<CudaSums> {
        Ok(CudaSums { memory: self.device.zeros(8 * slots * width)?, width })
    }

    fn read_sums(&self, sums: &CudaSums, slot: usize) -> Result<Vec<f64>> {
        let mut values = vec![0f64; sums.width];
        self.device.download(&sums.memory, 8 * slot * sums.width, &mut values)?;
        Ok(values)
    }

    fn write_sums(&self, sums: &mut CudaSums, slot: usize, values: &[f64]) -> Result<()> {
        self.device.upload(&sums.memory, 8 * slot * sums.width, values)
    }

    fn embed_tokens(&self, op: EmbedTokens<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::embed_tokens(self, op)
    }

    fn norm_fwd(&self, op: NormFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::norm_fwd(self, op)
    }

    fn linear_fwd(&self, op: LinearFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::linear_fwd(self, op)
    }

    fn causal_conv1d_fwd(&self, op: CausalConv1dFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::causal_conv1d_fwd(self, op)
    }

    fn selective_scan_fwd(&self, op: SelectiveScanFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::selective_scan_fwd(self, op)
    }

    fn causal_conv1d_update(&self, op: CausalConv1dUpdate<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::causal_conv1d_update(self, op)
    }

    fn selective_state_update(&self, op: SelectiveStateUpdate<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::selective_state_update(self, op)
    }

    fn nll_fwd(&self, op: NllFwd<'_, Self>) -> Result<Vec<f32>> {
        op.check(self)?;
        ops::nll_fwd(self, op)
    }

    fn strided_conv1d_fwd(&self, op: StridedConv1dFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::strided_conv1d_fwd(self, op)
    }

    fn transposed_conv1d_fwd(&self, op: TransposedConv1dFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::transposed_conv1d_fwd(self, op)
    }

    fn glu_fwd(&self, op: GluFwd<'_, Self>) -> Result<()> {
        op.check(self)?;
        ops::glu_fwd(self, op)
    }

    fn pool_fwd(&self, op: PoolFwd<'_, Self>) -> Result<PoolOut> {
        op.check(self)?;
        ops::pool_fwd(self, op)
    }
}
