//! CUDA kernels as data: their sources, the binaries compiled from them, and what a launch must pass.
//!
//! Nothing here needs CUDA. [`find`] gives the machine code for a card, made ahead of time by
//! `cargo xtask kernels build`; [`Module::source`] gives the text for NVRTC, for development and for shapes
//! that [`specials`] names.
//! [`manifest`] names every entry point and its parameters, [`launch`] its grid, [`layout`] the tables.
//!
//! Every kernel reads its bounds from its parameters and is content with a grid that is too large. Pointers may
//! be aligned to the value that they point to, unless [`launch`] says more; tables are aligned to 16 bytes.

#![warn(missing_docs)]

mod binary;
pub mod launch;
pub mod layout;
pub mod manifest;
mod ptx;
mod source;
mod special;

pub use binary::{Binary, BinaryKind, Error, Result, find, find_ptx, pack, recorded, unpack};
pub use layout::{LaneEntry, POOL_ROWS, PoolJoin, PoolKind, PoolPart, Tile, pool_part_rows};
pub use manifest::{Elem, Entry, MODULES, Module, NAMES, PRELUDE, Param, ParamType, Storage, module};
pub use ptx::check_ptx;
pub use source::{NVRTC_VERSION, Target, compile_options, digest};
pub use special::{MixerSizes, Special, specials};
