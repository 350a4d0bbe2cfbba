//! One file an op: its arguments, what they mean, and the checks that every backend shares.

mod causal_conv1d_fwd;
mod embed_tokens;
mod linear_fwd;
mod norm_fwd;
mod pool_fwd;
mod selective_scan_fwd;

pub use causal_conv1d_fwd::CausalConv1dFwd;
pub use embed_tokens::EmbedTokens;
pub use linear_fwd::LinearFwd;
pub use norm_fwd::{Norm, NormFwd};
pub use pool_fwd::{PoolFwd, PoolKind, PoolOut, PoolSegment};
pub use selective_scan_fwd::{ScanShape, SelectiveScanFwd};
