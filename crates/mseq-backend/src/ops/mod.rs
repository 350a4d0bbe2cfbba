//! One file an op: its arguments, what they mean, and the checks that every backend shares.

mod causal_conv1d_fwd;
mod causal_conv1d_update;
mod embed_tokens;
mod glu_fwd;
mod linear_fwd;
mod mixer_update;
mod nll_fwd;
mod norm_fwd;
mod pool_fwd;
mod sample_tokens;
mod selective_scan_fwd;
mod selective_state_update;
mod strided_conv1d_fwd;
mod transposed_conv1d_fwd;

pub use causal_conv1d_fwd::CausalConv1dFwd;
pub use causal_conv1d_update::CausalConv1dUpdate;
pub use embed_tokens::EmbedTokens;
pub use glu_fwd::GluFwd;
pub use linear_fwd::LinearFwd;
pub use mixer_update::{MIXER_SLICE, MixerRoom, MixerUpdate};
pub use nll_fwd::{Before, NllFwd};
pub use norm_fwd::{Norm, NormFwd};
pub use pool_fwd::{PoolFwd, PoolKind, PoolOut, PoolSegment};
pub use sample_tokens::SampleTokens;
pub use selective_scan_fwd::{ScanShape, SelectiveScanFwd};
pub use selective_state_update::SelectiveStateUpdate;
pub use strided_conv1d_fwd::{StridedConv1dFwd, strided_conv1d_weight};
pub use transposed_conv1d_fwd::{TransposedConv1dFwd, transposed_conv1d_weight};
