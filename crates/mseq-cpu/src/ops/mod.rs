//! One file an op. Parallel loops are here; each task enters SIMD through `Arch::dispatch`.

mod causal_conv1d_fwd;
mod causal_conv1d_update;
mod embed_tokens;
mod glu_fwd;
mod linear_fwd;
mod nll_fwd;
mod norm_fwd;
mod pool_fwd;
mod selective_scan_fwd;
mod selective_state_update;
mod strided_conv1d_fwd;
#[cfg(test)]
mod tests;
mod transposed_conv1d_fwd;

pub(crate) use causal_conv1d_fwd::causal_conv1d_fwd;
pub(crate) use causal_conv1d_update::causal_conv1d_update;
pub(crate) use embed_tokens::embed_tokens;
pub(crate) use glu_fwd::glu_fwd;
pub(crate) use linear_fwd::linear_fwd;
pub(crate) use nll_fwd::nll_fwd;
pub(crate) use norm_fwd::norm_fwd;
pub(crate) use pool_fwd::pool_fwd;
pub(crate) use selective_scan_fwd::selective_scan_fwd;
pub(crate) use selective_state_update::selective_state_update;
pub(crate) use strided_conv1d_fwd::strided_conv1d_fwd;
pub(crate) use transposed_conv1d_fwd::transposed_conv1d_fwd;
