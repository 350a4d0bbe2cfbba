//! The only door to cudarc: what is missing is a value here, never a panic.
//!
//! cudarc loads the driver at the first call and panics when the library, or one of its functions, is
//! not there. So the library and every function that this crate calls are looked up first, and what
//! still panics (a driver that breaks its own rules) is caught without a word on standard error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cudarc::driver::sys::{self, CUdevice_attribute};
use cudarc::driver::{DriverError, result};

use crate::libs;

/// Why no CUDA device can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// No driver library.
    #[error("no NVIDIA driver (libcuda.so.1) was found")]
    NoDriver,
    /// A library of that name that is no driver, or one that is too old.
    #[error("the driver library lacks {symbol}: it is a stub or older than CUDA 12")]
    BadDriver {
        /// A function that is not there.
        symbol: &'static str,
    },
    /// The driver is there and refuses.
    #[error("the NVIDIA driver answers: {message}")]
    Driver {
        /// What it said.
        message: String,
    },
    /// A driver without a device.
    #[error("the NVIDIA driver is there but shows no device")]
    NoDevice,
    /// An index past the last device.
    #[error("there is no cuda:{index}: this machine has {count}")]
    NoSuchDevice {
        /// What was asked for.
        index: u32,
        /// Devices there.
        count: u32,
    },
    /// A device without kernels for it.
    #[error("{device}: {message}")]
    NoKernels {
        /// Which device.
        device: String,
        /// Why.
        message: String,
    },
}

/// Driver functions that this crate calls, directly or through cudarc.
const SYMBOLS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorString",
    "cuGetErrorName",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuStreamCreate",
    "cuStreamSynchronize",
    "cuStreamDestroy_v2",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventDestroy_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemsetD8Async",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuLaunchKernel",
];

/// A device, before anything is made on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Index, as in `cuda:I`.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its memory.
    pub memory: u64,
}

impl DeviceInfo {
    /// For messages and metadata: `cuda:0 (NVIDIA H100 80GB HBM3, sm_90)`.
    pub fn label(&self) -> String {
        let (major, minor) = self.capability;
        format!("cuda:{} ({}, sm_{major}{minor})", self.index, self.name)
    }
}

/// The driver and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Newest CUDA version that it speaks, such as (13, 0).
    pub cuda: (u32, u32),
    /// Devices in the order of their indices; `CUDA_VISIBLE_DEVICES` chooses among them.
    pub devices: Vec<DeviceInfo>,
}

/// What the driver says of a failure.
pub(crate) fn message(error: DriverError) -> String {
    let text = |r: Result<&std::ffi::CStr, DriverError>| r.ok().map(|s| s.to_string_lossy().into_owned());
    match (text(error.error_string()), text(error.error_name())) {
        (Some(what), Some(name)) => format!("{what} ({name})"),
        _ => format!("{:?}", error.0),
    }
}

/// Runs `f`, and gives what a panic said as an error; this thread's panic hook stays silent.
pub(crate) fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    // The hook belongs to the process: one probe at a time may borrow it.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let before: Arc<dyn Fn(&std::panic::PanicHookInfo<'_>) + Send + Sync> =
        Arc::from(std::panic::take_hook());
    let (me, others) = (thread::current().id(), Arc::clone(&before));
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().id() != me {
            others(info);
        }
    }));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(Box::new(move |info| before(info)));
    outcome.map_err(|payload: Box<dyn Any + Send>| {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "it failed without a word".to_owned())
    })
}

/// Starts the driver and looks its devices up.
///
/// # Errors
/// What is missing: the driver, one of its functions, a device.
pub fn probe() -> Result<Driver, Unavailable> {
    libs::driver_has(SYMBOLS)?;
    let driver = quietly(|| list().map_err(message)).unwrap_or_else(Err);
    let driver = driver.map_err(|message| Unavailable::Driver { message });
    match driver {
        Ok(driver) if driver.devices.is_empty() => Err(Unavailable::NoDevice),
        Err(Unavailable::Driver { message }) if message.contains("CUDA_ERROR_NO_DEVICE") => {
            Err(Unavailable::NoDevice)
        }
        other => other,
    }
}

/// The device of that index.
///
/// # Errors
/// As [`probe`], or when there are fewer devices.
pub fn device(index: u32) -> Result<DeviceInfo, Unavailable> {
    let driver = probe()?;
    let count = driver.devices.len() as u32;
    driver.devices.into_iter().nth(index as usize).ok_or(Unavailable::NoSuchDevice { index, count })
}

#[expect(unsafe_code, reason = "queries of the driver")]
fn list() -> Result<Driver, DriverError> {
    result::init()?;
    let mut version = 0;
    // SAFETY: the driver is initialised, and writes one int.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    let mut devices = Vec::new();
    for index in 0..result::device::get_count()? {
        let device = result::device::get(index)?;
        let attribute = |which| {
            // SAFETY: `device` came from the driver just now.
            unsafe { result::device::get_attribute(device, which) }.map(|value| value.max(0) as u32)
        };
        devices.push(DeviceInfo {
            index: index as u32,
            name: result::device::get_name(device)?,
            capability: (
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            // SAFETY: as above.
            memory: unsafe { result::device::total_mem(device) }? as u64,
        });
    }
    let version = version.max(0) as u32;
    Ok(Driver { cuda: (version / 1000, version % 1000 / 10), devices })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value_and_the_hook_comes_back() {
        assert_eq!(quietly(|| 3), Ok(3));
        let missing: Result<u32, String> = quietly(|| panic!("Missing symbol {}", "cuInit"));
        assert_eq!(missing, Err("Missing symbol cuInit".to_owned()));
    }

    #[test]
    fn probing_never_panics() {
        match probe() {
            Ok(driver) => {
                assert!(device(0).is_ok());
                let count = driver.devices.len() as u32;
                assert_eq!(device(count), Err(Unavailable::NoSuchDevice { index: count, count }));
            }
            Err(why) => assert_eq!(device(0), Err(why)),
        }
    }
}
