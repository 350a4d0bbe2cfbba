//! One device: its context, its stream, its memory, launches. Most of this crate's `unsafe` is here.

use std::env;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, DriverError, result, sys};
use mseq_backend::{Error, Result};
use mseq_kernels::launch::Launch;

use crate::module::Function;
use crate::probe::{self, DeviceInfo, Unavailable};

/// A device with its context and one stream, on which everything runs in order.
pub(crate) struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    pub(crate) info: DeviceInfo,
    /// Waits after each launch, so that an asynchronous error names its op.
    sync_each_op: bool,
    /// For tests: the launch with this number fails.
    fault_after: Option<u64>,
    launches: AtomicU64,
}

/// Values that lie in memory as they are.
///
/// # Safety
/// The type has no padding, and any bits are a value of it.
#[expect(unsafe_code, reason = "a promise about the layout of the type")]
pub(crate) unsafe trait Plain: Copy {}
#[expect(unsafe_code, reason = "numbers have no padding, and any bits are a number")]
mod plain {
    // SAFETY: as the reason says.
    unsafe impl super::Plain for u8 {}
    // SAFETY: as above.
    unsafe impl super::Plain for u16 {}
    // SAFETY: as above.
    unsafe impl super::Plain for u32 {}
    // SAFETY: as above.
    unsafe impl super::Plain for i32 {}
    // SAFETY: as above.
    unsafe impl super::Plain for f32 {}
    // SAFETY: as above.
    unsafe impl super::Plain for f64 {}
}

/// Values as they lie in memory.
#[expect(unsafe_code, reason = "a view of plain numbers")]
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` has no padding, so every byte is set; the length is that of the slice.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

impl Device {
    /// Opens a device that [`probe::device`] found.
    pub(crate) fn open(info: DeviceInfo) -> Result<Arc<Self>, Unavailable> {
        let made = probe::quietly(|| {
            let context = CudaContext::new(info.index as usize)?;
            // One stream, so no event has to order two of them.
            #[expect(unsafe_code, reason = "a promise about how streams are used")]
            // SAFETY: all work of this context goes to one stream.
            unsafe {
                context.disable_event_tracking();
            }
            let stream = context.new_stream()?;
            Ok((context, stream))
        });
        let made = made.unwrap_or_else(|message| Err(Opening::Panic(message)));
        let (context, stream) =
            made.map_err(|why: Opening| Unavailable::Driver { message: why.into_message() })?;
        let number = |name: &str| env::var(name).ok().and_then(|v| v.parse().ok());
        Ok(Arc::new(Self {
            context,
            stream,
            info,
            sync_each_op: env::var("MSEQ_SYNC_EACH_OP").is_ok_and(|v| v == "1"),
            fault_after: number("MSEQ_FAULT_AFTER"),
            launches: AtomicU64::new(0),
        }))
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    pub(crate) fn raw_stream(&self) -> sys::CUstream {
        self.stream.cu_stream()
    }

    /// Makes the context current on this thread.
    pub(crate) fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| self.error("context", e))
    }

    /// An error of the driver as ours.
    pub(crate) fn error(&self, op: &str, error: DriverError) -> Error {
        let mend = match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => "; use a smaller --chunk",
            _ => "",
        };
        self.failure(format!("{op}: {}{mend}", probe::message(error)))
    }

    pub(crate) fn failure(&self, message: String) -> Error {
        Error::Device { device: self.info.label(), message }
    }

    /// Bytes free and in all.
    pub(crate) fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        result::mem_get_info().map_err(|e| self.error("memory", e))
    }

    /// Waits for all that was launched.
    pub(crate) fn synchronize(&self, op: &str) -> Result<()> {
        self.stream.synchronize().map_err(|e| self.error(op, e))
    }

    /// Room for `bytes`, unset.
    #[expect(unsafe_code, reason = "device memory")]
    fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        self.bind()?;
        // The driver refuses nothing at all, and 16 spares kernels a special case.
        let size = bytes.max(16);
        // SAFETY: a context is current; the memory is owned by what is made here.
        match unsafe { result::malloc_sync(size) } {
            Ok(ptr) => Ok(Memory { device: Arc::clone(self), ptr, bytes }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(Error::OutOfMemory { device: self.info.label(), bytes })
            }
            Err(e) => Err(self.error("allocation", e)),
        }
    }

    /// `bytes` zeros.
    #[expect(unsafe_code, reason = "device memory")]
    pub(crate) fn zeros(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        let memory = self.allocate(bytes)?;
        // SAFETY: `memory` holds at least this many bytes, and outlives the call in stream order: it
        // is freed only after a wait.
        unsafe { result::memset_d8_async(memory.ptr, 0, bytes.max(16), self.raw_stream()) }
            .map_err(|e| self.error("memset", e))?;
        Ok(memory)
    }

    /// Copies values to `at` bytes into `to`, and waits, since they may lie anywhere.
    #[expect(unsafe_code, reason = "device memory")]
    pub(crate) fn upload<T: Plain>(&self, to: &Memory, at: usize, values: &[T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        to.holds("upload", at, size_of_val(values))?;
        self.bind()?;
        // SAFETY: the range lies in `to` (checked), and `values` lives until the wait below.
        unsafe { result::memcpy_htod_async(to.ptr + at as u64, values, self.raw_stream()) }
            .map_err(|e| self.error("upload", e))?;
        self.synchronize("upload")
    }

    /// Copies values from `at` bytes into `from`, after all that was launched.
    #[expect(unsafe_code, reason = "device memory")]
    pub(crate) fn download<T: Plain>(&self, from: &Memory, at: usize, values: &mut [T]) -> Result<()> {
        if values.is_empty() {
            return self.synchronize("download");
        }
        from.holds("download", at, size_of_val(values))?;
        self.bind()?;
        // SAFETY: the range lies in `from` (checked), any bits are a `T`, and `values` lives until the
        // wait below.
        unsafe { result::memcpy_dtoh_async(values, from.ptr + at as u64, self.raw_stream()) }
            .map_err(|e| self.error("download", e))?;
        self.synchronize("download")
    }

    /// Copies the first `bytes` of one memory to another, in the order of launches.
    pub(crate) fn copy(&self, from: &Memory, to: &Memory, bytes: usize) -> Result<()> {
        self.copy_range(from, 0, to, 0, bytes)
    }

    /// Copies `bytes` from byte `start` of one memory to byte `at` of another, in the order of launches.
    #[expect(unsafe_code, reason = "device memory")]
    pub(crate) fn copy_range(
        &self,
        from: &Memory,
        start: usize,
        to: &Memory,
        at: usize,
        bytes: usize,
    ) -> Result<()> {
        from.holds("copy", start, bytes)?;
        to.holds("copy", at, bytes)?;
        self.bind()?;
        let (of, into) = (from.ptr + start as u64, to.ptr + at as u64);
        // SAFETY: both hold the bytes (checked), and are freed only after a wait.
        unsafe { result::memcpy_dtod_async(into, of, bytes, self.raw_stream()) }
            .map_err(|e| self.error("copy", e))
    }

    /// Whether each op waits for the device, so that none can be recorded.
    pub(crate) fn waits_after_each_op(&self) -> bool {
        self.sync_each_op
    }

    /// Records what `step` launches, without running it.
    pub(crate) fn record(&self, mut step: impl FnMut() -> Result<()>) -> Result<CudaGraph> {
        const OP: &str = "recording a step";
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(|e| self.error(OP, e))?;
        let done = step();
        // The stream leaves its recording whatever the step did.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        done?;
        match graph.map_err(|e| self.error(OP, e))? {
            Some(graph) => Ok(graph),
            None => Err(self.failure(format!("{OP}: nothing was launched"))),
        }
    }

    /// Launches a recorded step: one launch, whatever is in it.
    pub(crate) fn replay(&self, graph: &CudaGraph) -> Result<()> {
        const OP: &str = "a recorded step";
        self.count_launch(OP)?;
        graph.launch().map_err(|e| self.error(OP, e))
    }

    /// Counts a launch, and fails where a test wants it to.
    pub(crate) fn count_launch(&self, op: &str) -> Result<()> {
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        match self.fault_after {
            Some(after) if number >= after => {
                Err(self.failure(format!("{op}: fault after {after} launches (MSEQ_FAULT_AFTER)")))
            }
            _ => Ok(()),
        }
    }

    /// Waits after an op when that was asked for.
    pub(crate) fn after_op(&self, op: &str) -> Result<()> {
        if self.sync_each_op { self.synchronize(op) } else { Ok(()) }
    }

    /// Launches a kernel whose arguments were checked against its parameters.
    ///
    /// # Safety
    /// `params` are the kernel's own, in order, each in the low bytes of its word, and every pointer
    /// among them has the room that the kernel uses.
    #[expect(unsafe_code, reason = "a kernel does what its arguments say")]
    pub(crate) unsafe fn launch(&self, f: &Function, launch: Launch, params: &mut [u64]) -> Result<()> {
        let name = f.entry.name;
        self.count_launch(name)?;
        self.bind()?;
        let mut at: Vec<*mut c_void> = params.iter_mut().map(|p| std::ptr::from_mut(p).cast()).collect();
        // SAFETY: the function's module is loaded for as long as `f` lives; the rest is the caller's.
        let launched = unsafe {
            result::launch_kernel(f.raw(), launch.grid, launch.block, 0, self.raw_stream(), &mut at)
        };
        launched.map_err(|e| self.error(name, e))?;
        self.after_op(name)
    }
}

/// Why a context could not be made.
enum Opening {
    Driver(DriverError),
    Panic(String),
}

impl From<DriverError> for Opening {
    fn from(e: DriverError) -> Self {
        Self::Driver(e)
    }
}

impl Opening {
    fn into_message(self) -> String {
        match self {
            Self::Driver(e) => probe::message(e),
            Self::Panic(message) => message,
        }
    }
}

/// Bytes on a device.
pub(crate) struct Memory {
    device: Arc<Device>,
    ptr: sys::CUdeviceptr,
    bytes: usize,
}

impl Memory {
    pub(crate) fn ptr(&self) -> u64 {
        self.ptr
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fails unless `len` bytes lie at `at`.
    fn holds(&self, op: &'static str, at: usize, len: usize) -> Result<()> {
        match at.checked_add(len) {
            Some(end) if end <= self.bytes => Ok(()),
            end => Err(Error::OutOfRange {
                op,
                what: "the last byte",
                found: end.unwrap_or(usize::MAX),
                wanted: "which is past the end of the buffer",
            }),
        }
    }
}

impl Drop for Memory {
    #[expect(unsafe_code, reason = "device memory")]
    fn drop(&mut self) {
        // What is still running may use it. Errors here have been seen, or will be, by an op.
        let _ = self.device.synchronize("free");
        if self.device.bind().is_ok() {
            // SAFETY: made by `allocate`, freed once, and nothing runs that could use it.
            let _ = unsafe { result::free_sync(self.ptr) };
        }
    }
}

/// Page-locked bytes of the host, which the device copies from by itself while the host goes on.
pub(crate) struct Pinned {
    device: Arc<Device>,
    ptr: *mut u8,
    bytes: usize,
    /// After the last copy out of it.
    copied: CudaEvent,
}

#[expect(unsafe_code, reason = "a pointer that one owner uses")]
// SAFETY: the memory belongs to this value alone, and page-locked memory to the process, not to a thread.
unsafe impl Send for Pinned {}

impl Pinned {
    #[expect(unsafe_code, reason = "page-locked memory")]
    pub(crate) fn new(device: &Arc<Device>, bytes: usize) -> Result<Self> {
        device.bind()?;
        let copied = device.context.new_event(None).map_err(|e| device.error("event", e))?;
        // SAFETY: a context is current; the memory is owned by what is made here. Any bits are bytes, and
        // they are written before they are read.
        let ptr = unsafe { result::malloc_host(bytes.max(1), 0) };
        match ptr {
            Ok(ptr) => Ok(Self { device: Arc::clone(device), ptr: ptr.cast(), bytes, copied }),
            Err(e) => Err(device.error("page-locked memory", e)),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` and sends them to the front of `to`; the host need not wait.
    #[expect(unsafe_code, reason = "page-locked memory")]
    pub(crate) fn send(&mut self, to: &Memory, bytes: &[u8]) -> Result<()> {
        let device = &self.device;
        to.holds("upload", 0, bytes.len())?;
        if bytes.len() > self.bytes {
            return Err(device.failure("upload: a staging buffer is too short".into()));
        }
        self.copied.synchronize().map_err(|e| device.error("upload", e))?;
        device.bind()?;
        // SAFETY: the memory holds `self.bytes` (at least `bytes.len()`, checked), and the device has
        // finished reading the last copy (the event).
        let staged = unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.ptr, bytes.len());
            std::slice::from_raw_parts(self.ptr, bytes.len())
        };
        // SAFETY: `to` has the room (checked); `staged` is not written again before the event.
        unsafe { result::memcpy_htod_async(to.ptr, staged, device.raw_stream()) }
            .map_err(|e| device.error("upload", e))?;
        self.copied.record(&device.stream).map_err(|e| device.error("upload", e))
    }
}

impl Drop for Pinned {
    #[expect(unsafe_code, reason = "page-locked memory")]
    fn drop(&mut self) {
        let _ = self.copied.synchronize();
        if self.device.bind().is_ok() {
            // SAFETY: made by `malloc_host`, freed once, and no copy reads it any more.
            let _ = unsafe { result::free_host(self.ptr.cast()) };
        }
    }
}
