//! Architectures, generic over the Backend.

mod mamba;

pub use mamba::{Mamba, MambaState, Workspace};

/// How a model walks over a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Causal: for each chunk, all layers; the state of each layer is carried to the next chunk.
    /// Memory does not grow with length.
    TimeMajor,
}
