//! Architectures, generic over the Backend.

mod denoiser;
mod encoder;
mod front;
mod head;
mod mamba;
mod step;

use std::fmt;

pub use denoiser::{Denoiser, DenoiserState};
pub use front::Input;
pub use head::{HeadState, LmHead};
pub use mamba::{Mamba, MambaState, Workspace};
pub use step::StepWorkspace;

/// How a model walks over a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Causal: for each chunk, all layers; the state of each layer is carried to the next chunk.
    /// Memory does not grow with length.
    TimeMajor,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::TimeMajor => {
                f.write_str("time-major: causal, streams in constant memory, state carried over chunks")
            }
        }
    }
}
