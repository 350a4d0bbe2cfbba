//! `config.json` and safetensors to an architecture, generic over the Backend.
//!
//! ```text
//! ModelFiles ──> ModelConfig ┐
//!           └──> Weights ────┴──> Checkpoint (host, f32) ──> Mamba<B> (on a backend)
//! ```
//!
//! Formats: CleanUMamba with Mamba-1 blocks (raw audio); Mamba-1 in the Hugging Face layout (`model_type: mamba`) and in the original
//! `state-spaces` layout, safetensors in one file or in shards, f32, f16 or bf16. Tensors are only
//! read; nothing of a checkpoint is ever executed.

pub mod arch;
mod audio;
mod checkpoint;
mod class_head;
mod config;
mod error;
mod files;
mod tokens;
mod unet;
mod weights;

pub use audio::{Audio, Encoding, Modality};
pub use checkpoint::{BlockWeights, Checkpoint, NormWeights};
pub use class_head::{ClassHead, NumberHead, RowHead};
pub use config::{Layout, MambaShape, MixerShape, ModelConfig, NormKind, UNetConfig};
pub use error::{Error, Result};
pub use files::ModelFiles;
pub use tokens::Tokens;
pub use unet::{LevelShape, UNetShape};
pub use weights::{Tensor, Weights};
