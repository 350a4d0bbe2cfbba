//! The Backend on rayon threads and portable SIMD: the readable twin of every kernel, and fast.
//!
//! **Bits.** Every op fixes the order of its sums by index, never by the number of rows, threads
//! or SIMD lanes, and uses fused multiply-add everywhere. So a row does not depend on the chunk,
//! the thread count or its neighbours, and AVX-512, AVX2 and NEON compute the same bits.
//!
//! No `unsafe`: `pulp` picks the instruction set at run time, `ndarray` hands out disjoint blocks
//! of columns.

mod backend;
mod buffer;
mod decode;
pub mod math;
mod ops;
mod rates;

pub use backend::CpuBackend;
pub use buffer::{CpuBuffer, CpuLinear, CpuSums};
pub use decode::CpuDraws;
