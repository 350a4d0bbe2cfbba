//! Grids of the kernels. Block sizes are compiled into them, and none takes dynamic shared memory.

/// Geometry of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: (u32, u32, u32),
    /// Threads of a block.
    pub block: (u32, u32, u32),
}

/// Rows of a tile that one block of the convolution takes.
pub const CONV_ROWS: usize = 64;

/// Channels of a warp of the fast scan.
pub const SCAN_CHANNELS: usize = 32;

/// States of the fast scan.
pub const SCAN_STATES: usize = 16;

/// Most states of the fast scan where it is compiled for their number.
pub const SPECIAL_STATES: usize = 64;

/// Rows that the fast scan stages at a time: tile lengths are multiples of it.
pub const SCAN_STAGE: usize = 8;

/// Most states of the generic scan.
pub const MAX_STATES: usize = 256;

/// Most taps of the convolution.
pub const MAX_CONV: usize = 8;

/// More rows of a table than grid.y may have are walked in strides.
const GRID_Y: usize = 65_535;

fn launch(x: usize, y: usize, block: u32) -> Launch {
    // Kernels look at their bounds, so a grid that is cut off would only leave work undone: none is, since
    // 2^31 blocks are more rows than a card has memory for.
    let x = u32::try_from(x).unwrap_or(u32::MAX >> 1).clamp(1, u32::MAX >> 1);
    let y = u32::try_from(y.clamp(1, GRID_Y)).unwrap_or(1);
    Launch { grid: (x, y, 1), block: (block, 1, 1) }
}

/// `embed_tokens`.
pub fn embed_tokens(rows: usize, d_model: usize) -> Launch {
    launch((rows * d_model.div_ceil(4)).div_ceil(256), 1, 256)
}

/// `rms_norm_fwd`, `layer_norm_fwd` and their `_f32out` forms.
pub fn norm_fwd(rows: usize) -> Launch {
    launch(rows.div_ceil(8), 1, 256)
}

/// The argument `pieces` of `causal_conv1d_fwd`, from the longest tile.
pub fn conv_pieces(longest_tile: usize) -> usize {
    longest_tile.div_ceil(CONV_ROWS).max(1)
}

/// `causal_conv1d_fwd`.
pub fn causal_conv1d_fwd(tiles: usize, pieces: usize, d_inner: usize) -> Launch {
    launch(tiles * pieces, d_inner.div_ceil(512), 128)
}

/// `causal_conv1d_state`, `causal_conv1d_update`, `selective_state_update`.
pub fn per_lane(lanes: usize, d_inner: usize) -> Launch {
    launch(d_inner.div_ceil(128), lanes, 128)
}

/// `scan_tile_ends`, `scan_apply`.
pub fn scan(tiles: usize, d_inner: usize) -> Launch {
    launch((tiles * d_inner.div_ceil(SCAN_CHANNELS)).div_ceil(2), 1, 64)
}

/// `scan_tile_ends_generic`, `scan_apply_generic`.
pub fn scan_generic(tiles: usize, d_inner: usize, d_state: usize) -> Launch {
    // A channel's states lie eight to a thread, on a power of two of threads.
    let threads = d_state.div_ceil(8).next_power_of_two().min(32);
    launch((tiles * d_inner.div_ceil(32 / threads)).div_ceil(4), 1, 128)
}

/// `scan_carry`, over lanes of two tiles or more.
pub fn scan_carry(lanes: usize, d_inner: usize, d_state: usize) -> Launch {
    launch(d_inner.div_ceil(SCAN_CHANNELS) * d_state, lanes, 256)
}

/// `linear_fwd`, `linear_fwd_f32out`.
pub fn linear_fwd(rows: usize, out_features: usize) -> Launch {
    launch(rows.div_ceil(128) * out_features.div_ceil(128), 1, 256)
}

/// `add_bias`, `add_bias_f32out`.
pub fn add_bias(rows: usize, out_features: usize) -> Launch {
    launch((rows * out_features).div_ceil(1024), 1, 256)
}

/// `conv1d_fwd`, `conv1d_fwd_f32out`.
pub fn conv1d_fwd(rows: usize, cols: usize) -> Launch {
    launch(rows.div_ceil(64) * cols.div_ceil(64), 1, 256)
}

/// `glu_fwd`.
pub fn glu_fwd(rows: usize, width: usize) -> Launch {
    launch((rows * width).div_ceil(1024), 1, 256)
}

/// `pool_parts`; `pool_join` takes the same with its joins.
pub fn pool(parts: usize, width: usize) -> Launch {
    launch(parts, width.div_ceil(128), 128)
}

/// `nll_fwd`: 64 rows a block.
pub fn nll_fwd(rows: usize) -> Launch {
    launch(rows.div_ceil(64), 1, 256)
}

/// `nll_keep`, over the lanes that go on.
pub fn nll_keep(lanes: usize) -> Launch {
    launch(lanes, 1, 256)
}

/// Most values of `x_proj` that `mixer_scan_update` keeps of a sequence.
pub const MIXER_MAX_DBC: usize = 1024;

/// `mixer_conv_x_proj`: 64 channels of 16 sequences a block.
pub fn mixer_conv_x_proj(lanes: usize, d_inner: usize) -> Launch {
    launch(d_inner.div_ceil(64), lanes.div_ceil(16), 256)
}

/// `mixer_scan_update`: 64 channels of four sequences a block.
pub fn mixer_scan_update(lanes: usize, d_inner: usize) -> Launch {
    launch(d_inner.div_ceil(64), lanes.div_ceil(4), 256)
}

/// `sample_tokens`: a block a lane.
pub fn sample_tokens(lanes: usize) -> Launch {
    launch(lanes, 1, 1024)
}

/// Powers of two that a thread of `exp2_rate` computes a step.
pub const EXP2_CHAINS: usize = 8;

/// `exp2_rate`: every multiprocessor full.
pub fn exp2_rate(multiprocessors: usize) -> Launch {
    launch(multiprocessors.max(1) * 8, 1, 256)
}

/// Whether `scan_tile_ends` and `scan_apply` can take this shape; the `_generic` ones take any.
///
/// They also ask for rows of u, dt and z at multiples of 16 bytes; B and C may lie anywhere.
pub fn scan_is_fast(d_inner: usize, d_state: usize) -> bool {
    d_state == SCAN_STATES && d_inner.is_multiple_of(SCAN_CHANNELS)
}

/// Whether `scan_tile_ends` and `scan_apply` can take this shape when they are compiled for it
/// ([`crate::specials`]).
pub fn scan_can_be_fast(d_inner: usize, d_state: usize) -> bool {
    (1..=SPECIAL_STATES).contains(&d_state) && d_inner.is_multiple_of(SCAN_CHANNELS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_their_work() {
        assert_eq!(embed_tokens(1000, 6).grid.0, 8);
        assert_eq!(norm_fwd(17).grid.0, 3);
        assert_eq!(conv_pieces(0), 1);
        assert_eq!(causal_conv1d_fwd(3, conv_pieces(65), 513).grid, (6, 2, 1));
        assert_eq!(scan(3, 96).grid.0, 5);
        // 130 states: 17 threads of eight, so a warp a channel.
        assert_eq!(scan_generic(3, 5, 130).grid.0, 4);
        assert_eq!(scan_generic(1, 33, 8).grid.0, 1);
        assert_eq!(linear_fwd(129, 129).grid.0, 4);
        assert_eq!(conv1d_fwd(65, 128).grid.0, 4);
        assert_eq!(pool(0, 1).grid, (1, 1, 1));
        assert_eq!(per_lane(70_000, 1).grid, (1, 65_535, 1));
        assert!(scan_can_be_fast(512, 1) && scan_can_be_fast(32, 64));
        assert!(!scan_can_be_fast(512, 65) && !scan_can_be_fast(33, 24));
        assert!(scan_is_fast(512, 16) && !scan_is_fast(520, 16) && !scan_is_fast(512, 8));
    }
}
