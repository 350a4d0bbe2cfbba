//! Tables that kernels read, as bytes: `#[repr(C)]` structs without the `unsafe` of casting them.

/// Rows of one lane that one block of the convolution or one warp of the scan takes.
///
/// A lane is cut at multiples of some T from its first row, T a multiple of 8; a lane without rows has one tile
/// of length 0, so that its state is still written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// First row in the batch.
    pub row: i64,
    /// Rows.
    pub len: i32,
    /// The lane that it belongs to.
    pub lane: i32,
    /// Whether the lane starts here.
    pub first: bool,
    /// Whether the lane ends here.
    pub last: bool,
    /// Slot of the state before a first tile; -1: zeros. -1 for other tiles.
    pub state_in: i32,
    /// Slot for the state after a last tile; -1: not kept. -1 for other tiles.
    pub state_out: i32,
}

impl Tile {
    /// Bytes of an entry; tables must be aligned to 16.
    pub const BYTES: usize = 32;

    /// Appends the entry to a table.
    pub fn write_to(&self, table: &mut Vec<u8>) {
        table.extend(self.row.to_le_bytes());
        for word in [self.len, self.lane, self.first.into(), self.last.into(), self.state_in, self.state_out]
        {
            table.extend(word.to_le_bytes());
        }
    }
}

/// A lane: its rows, its tiles, its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneEntry {
    /// First row in the batch.
    pub row: i64,
    /// Rows.
    pub len: i64,
    /// Its first tile.
    pub tile: i32,
    /// How many tiles, at least 1.
    pub tiles: i32,
    /// Slot of the state before it; -1: zeros.
    pub state_in: i32,
    /// Slot for the state after it; -1: not kept.
    pub state_out: i32,
}

impl LaneEntry {
    /// Bytes of an entry; tables must be aligned to 16.
    pub const BYTES: usize = 32;

    /// Appends the entry to a table.
    pub fn write_to(&self, table: &mut Vec<u8>) {
        table.extend(self.row.to_le_bytes());
        table.extend(self.len.to_le_bytes());
        for word in [self.tile, self.tiles, self.state_in, self.state_out] {
            table.extend(word.to_le_bytes());
        }
    }
}

/// How rows become one: the `kind` of the pool kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum PoolKind {
    /// Sum in f64, divided by the count when the window closes.
    Mean = 0,
    /// Largest; a NaN wins.
    Max = 1,
    /// The last row.
    Last = 2,
}

/// Some rows of one segment, for one block of `pool_parts`.
///
/// A segment is cut at multiples of [`pool_part_rows`] from its first row, so that the order of its sum does not
/// depend on its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolPart {
    /// First row in the batch.
    pub row: i64,
    /// Rows of the whole window, to divide by; used when `out` is not -1.
    pub count: i64,
    /// Rows of the part, at least 1.
    pub len: i32,
    /// Slot to start from, only in the first part of a segment; -1: empty.
    pub from: i32,
    /// Row of `partials` to write; -1: none.
    pub partial: i32,
    /// Row of `out` to write, for a window that this part alone completes; -1: none.
    pub out: i32,
}

impl PoolPart {
    /// Bytes of an entry; tables must be aligned to 16.
    pub const BYTES: usize = 32;

    /// Appends the entry to a table.
    pub fn write_to(&self, table: &mut Vec<u8>) {
        table.extend(self.row.to_le_bytes());
        table.extend(self.count.to_le_bytes());
        for word in [self.len, self.from, self.partial, self.out] {
            table.extend(word.to_le_bytes());
        }
    }
}

/// Rows of a part in a segment that is not long.
pub const POOL_ROWS: usize = 256;

/// Most parts of a segment: `pool_join` adds them one after the other.
const POOL_PARTS: usize = 256;

/// Rows of a part (the last may be shorter) in a segment of so many rows.
pub fn pool_part_rows(segment: usize) -> usize {
    segment.div_ceil(POOL_PARTS).next_multiple_of(POOL_ROWS).max(POOL_ROWS)
}

/// A segment that has partial sums: several parts, or one whose sum is kept.
///
/// `pool_parts` only reads slots and `pool_join`, launched after it, only writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolJoin {
    /// Rows of the whole window, to divide by; used when `out` is not -1.
    pub count: i64,
    /// Its first row of `partials`.
    pub partial: i32,
    /// How many rows of `partials`, one after the other, in time order.
    pub partials: i32,
    /// Slot to write; -1: none.
    pub keep: i32,
    /// Row of `out` to write; -1: none.
    pub out: i32,
}

impl PoolJoin {
    /// Bytes of an entry; tables must be aligned to 8.
    pub const BYTES: usize = 24;

    /// Appends the entry to a table.
    pub fn write_to(&self, table: &mut Vec<u8>) {
        table.extend(self.count.to_le_bytes());
        for word in [self.partial, self.partials, self.keep, self.out] {
            table.extend(word.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_segments_have_longer_parts() {
        assert_eq!([0, 1, 256, 65_536, 65_537, 1 << 20].map(pool_part_rows), [256, 256, 256, 256, 512, 4096]);
    }

    #[test]
    fn entries_have_the_size_that_kernels_step_by() {
        let mut table = Vec::new();
        let tile =
            Tile { row: 1 << 33, len: 8, lane: 2, first: true, last: false, state_in: -1, state_out: 3 };
        tile.write_to(&mut table);
        assert_eq!(table.len(), Tile::BYTES);
        assert_eq!(table[..8], [0, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(table[16..], [1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 3, 0, 0, 0]);
        table.clear();
        LaneEntry { row: 0, len: 9, tile: 0, tiles: 2, state_in: -1, state_out: -1 }.write_to(&mut table);
        assert_eq!(table.len(), LaneEntry::BYTES);
        table.clear();
        PoolPart { row: 0, count: 1, len: 1, from: -1, partial: -1, out: 0 }.write_to(&mut table);
        assert_eq!(table.len(), PoolPart::BYTES);
        table.clear();
        PoolJoin { count: 1, partial: 0, partials: 1, keep: -1, out: 0 }.write_to(&mut table);
        assert_eq!(table.len(), PoolJoin::BYTES);
    }
}
