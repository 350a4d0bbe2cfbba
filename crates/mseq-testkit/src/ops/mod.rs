//! One file an op: shapes, the plain loop, the comparison.

mod buffers;
mod causal_conv1d;
mod conv1d;
mod decode;
mod embed_tokens;
mod linear_fwd;
mod nll_fwd;
mod norm_fwd;
mod pool_fwd;
mod selective_scan;

pub use buffers::buffers;
pub use causal_conv1d::{causal_conv1d_fwd, causal_conv1d_update};
pub use conv1d::{glu_fwd, strided_conv1d_fwd, transposed_conv1d_fwd};
pub use decode::{mixer_update, sample_tokens};
pub use embed_tokens::embed_tokens;
pub use linear_fwd::linear_fwd;
pub use nll_fwd::nll_fwd;
pub use norm_fwd::norm_fwd;
pub use pool_fwd::pool_fwd;
pub use selective_scan::{selective_scan_fwd, selective_state_update};

/// `x / (1 + exp(-x))`.
fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `ln(1 + exp(x))`, and x itself above 20.
fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
