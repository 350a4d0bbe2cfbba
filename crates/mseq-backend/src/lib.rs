//! The Backend trait: what a device must be able to do to run a Mamba model.
//!
//! One struct per op keeps ten look-alike buffers from being swapped, and checks its own shapes
//! (`check`), so that every implementation refuses the same mistakes with the same words. The
//! trait has no default bodies: an op without a twin does not compile.
//!
//! **Packed rows.** Activations are (rows, width), row-major, where the rows of all lanes of a
//! batch lie one after the other: a [`LaneSpan`] says which rows belong to which sequence. There
//! is no padding, so a row's values can't depend on its neighbours.
//!
//! **State.** `conv_state` is (slots, d_inner, d_conv - 1) and `ssm_state` is
//! (slots, d_inner, d_state), f32. A slot belongs to one sequence from its first chunk to its last.

mod backend;
mod decode;
mod error;
mod lane;
pub mod ops;
pub mod sampling;
mod view;

pub use backend::Backend;
pub use decode::Decode;
pub use error::{Error, Result};
pub use lane::{LaneSpan, check_lanes};
pub use view::{Rows, RowsMut};
