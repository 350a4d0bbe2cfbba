//! Backend on CUDA devices, found at run time.
//!
//! The crate builds and its tests pass on a machine without any CUDA library: the driver is loaded
//! when [`probe`] or [`CudaBackend::new`] asks for it, and what is missing is an error value
//! ([`Unavailable`]). Kernels are built in as machine code; cuBLASLt does the matrix products where it
//! is installed ([`Library::load`] finds it in toolkits, conda and Python packages), and a kernel of
//! ours where it is not. NVRTC, where it is installed, compiles the kernels for a shape that the built-in ones are
//! not made for ([`CudaConfig::sizes`]).
//!
//! **Types.** Activations and linear weights have the backend's type (f32, bf16 or f16); states, sums,
//! the residual stream and all that goes into an exponent are f32.
//!
//! **Bits.** Two runs with equal settings give equal bits: sums have a fixed order, nothing is added
//! atomically, and a matrix product of one shape is always done in one way, an f32 one whatever its
//! rows. Other chunks or lanes cut the scan elsewhere and agree within the tolerance of the type.
//!
//! Environment: `MSEQ_NO_CUBLAS=1` leaves cuBLASLt alone, `MSEQ_SYNC_EACH_OP=1` waits after each launch
//! so that an asynchronous error names its op, `MSEQ_NO_CUBIN=1` has the driver make the kernels of PTX as
//! on a card that is newer than they are, `MSEQ_KERNELS_FROM=DIR` compiles the kernels of a
//! folder, `MSEQ_NO_SPECIALIZE=1` compiles none for a model's own shape, `MSEQ_CACHE_DIR=DIR` is where compiled
//! ones are kept, `MSEQ_FAULT_AFTER=N` makes every launch
//! after the first N fail, for tests.

mod backend;
mod blas;
mod buffer;
mod decode;
mod device;
mod libs;
mod module;
mod nvrtc;
mod ops;
mod probe;
mod rates;
mod specialize;
mod staging;
mod tiles;

/// The sources of the kernels, as files of `--kernels-from` are named (without `.cu`).
pub const KERNELS: &[&str] = &mseq_kernels::NAMES;

pub use backend::{CudaBackend, CudaConfig};
pub use buffer::{CudaBuffer, CudaLinear, CudaSums};
pub use decode::{CudaDraws, CudaTape};
pub use libs::{Found, Library};
pub use module::KernelSource;
pub use mseq_kernels::MixerSizes;
pub use nvrtc::compiled_kernels;
pub use probe::{DeviceInfo, Driver, Unavailable, device, probe};
pub use specialize::Specialized;
