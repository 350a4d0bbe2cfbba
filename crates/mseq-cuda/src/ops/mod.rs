//! One file an op: arguments of its launches. Shapes were checked by the op itself.

mod causal_conv1d_fwd;
mod causal_conv1d_update;
mod conv1d_fwd;
mod embed_tokens;
mod linear_fwd;
mod nll_fwd;
mod norm_fwd;
mod pool_fwd;
mod selective_scan_fwd;
mod selective_state_update;

pub(crate) use causal_conv1d_fwd::{causal_conv1d_fwd, check_taps};
pub(crate) use causal_conv1d_update::causal_conv1d_update;
pub(crate) use conv1d_fwd::{glu_fwd, strided_conv1d_fwd, transposed_conv1d_fwd};
pub(crate) use embed_tokens::embed_tokens;
pub(crate) use linear_fwd::linear_fwd;
pub(crate) use nll_fwd::nll_fwd;
pub(crate) use norm_fwd::norm_fwd;
pub(crate) use pool_fwd::pool_fwd;
pub(crate) use selective_scan_fwd::selective_scan_fwd;
pub(crate) use selective_state_update::selective_state_update;

use mseq_backend::{Error, Result, Rows};

use crate::CudaBuffer;

/// Fails unless rows of a view follow each other without a gap, as the kernel reads them.
fn without_gaps(
    op: &'static str,
    what: &'static str,
    view: &Rows<'_, CudaBuffer>,
    width: usize,
) -> Result<()> {
    same(op, what, view.stride, width, "and the kernel reads rows without gaps")
}

/// Fails unless two numbers that a kernel has one parameter for are equal.
fn same(
    op: &'static str,
    what: &'static str,
    found: usize,
    other: usize,
    wanted: &'static str,
) -> Result<()> {
    if found == other { Ok(()) } else { Err(Error::OutOfRange { op, what, found, wanted }) }
}
