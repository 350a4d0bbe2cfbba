//! How lanes are cut into the tiles that blocks and warps of the device take side by side.

use mseq_backend::LaneSpan;
use mseq_kernels::launch::CONV_ROWS;
use mseq_kernels::{LaneEntry, Tile};

/// Channels times lanes from which a lane needs no cutting: two warps a scheduler of a large card.
const ENOUGH: usize = 32_000;

/// Tile lengths are multiples of this.
pub(crate) const TILE_STEP: usize = 256;

/// Longest tile.
const LONGEST: usize = 8192;

/// Length of the tiles of a long lane: about three waves of the scan's warps, 16 a multiprocessor,
/// over a step of `chunk` rows. Shorter tiles pay for their start, longer ones leave a long tail.
pub(crate) fn tile_len(d_inner: usize, chunk: usize, multiprocessors: usize) -> usize {
    let warps = 3 * 16 * multiprocessors.max(1);
    let rows = chunk.saturating_mul(d_inner.div_ceil(32)) / warps;
    (rows / TILE_STEP * TILE_STEP).clamp(TILE_STEP, LONGEST)
}

/// Rows of a tile of the convolution: it needs no state from the tile before, so tiles may be short,
/// and a long lane does not leave blocks of the short ones beside it empty.
const CONV_TILE: usize = 4 * CONV_ROWS;

/// The tables of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Tiles of the scan, then lanes, then tiles of the convolution.
    pub(crate) bytes: Vec<u8>,
    /// Tiles of all lanes.
    pub(crate) tiles: usize,
    /// Of these, the first that belong to lanes of several tiles.
    pub(crate) parallel_tiles: usize,
    /// Lanes.
    pub(crate) lanes: usize,
    /// Of these, the first that have several tiles.
    pub(crate) parallel_lanes: usize,
    /// Tiles of the convolution.
    pub(crate) conv_tiles: usize,
    /// Rows of the longest of them.
    pub(crate) conv_longest: usize,
}

impl Tables {
    /// Where the lanes begin.
    pub(crate) fn lane_offset(&self) -> usize {
        self.tiles * Tile::BYTES
    }

    /// Where the tiles of the convolution begin.
    pub(crate) fn conv_offset(&self) -> usize {
        self.lane_offset() + self.lanes * LaneEntry::BYTES
    }
}

/// Cuts every lane at multiples of `tile` from its first row, or leaves it whole where the lanes by
/// themselves fill the device.
///
/// Lanes of several tiles come first, whatever the order of their rows: only for them are tile ends
/// kept and carried. A lane's cuts don't depend on its place among the others.
pub(crate) fn tables(lanes: &[LaneSpan], d_inner: usize, tile: usize) -> Tables {
    let rows: usize = lanes.iter().map(|lane| lane.rows.len()).sum();
    // A lane's share of work so spread that no warp waits for another.
    let whole = |len: usize| len <= tile || len.saturating_mul(ENOUGH) <= rows.saturating_mul(d_inner);
    let count = |lane: &LaneSpan| {
        let len = lane.rows.len();
        if whole(len) { 1 } else { len.div_ceil(tile) }
    };
    let (several, single): (Vec<&LaneSpan>, Vec<&LaneSpan>) = lanes.iter().partition(|lane| count(lane) > 1);
    let mut tables = Tables {
        bytes: Vec::new(),
        tiles: lanes.iter().map(count).sum(),
        parallel_tiles: several.iter().map(|lane| count(lane)).sum(),
        lanes: lanes.len(),
        parallel_lanes: several.len(),
        conv_tiles: 0,
        conv_longest: 0,
    };
    let (mut entries, mut conv, mut next) = (Vec::new(), Vec::new(), 0);
    for (index, lane) in several.into_iter().chain(single).enumerate() {
        let (n_tiles, len) = (count(lane), lane.rows.len());
        cut(lane, index, if n_tiles == 1 { len } else { tile }, |tile| tile.write_to(&mut tables.bytes));
        cut(lane, index, CONV_TILE, |tile| {
            tile.write_to(&mut conv);
            tables.conv_tiles += 1;
        });
        tables.conv_longest = tables.conv_longest.max(len.min(CONV_TILE));
        let entry = LaneEntry {
            row: lane.rows.start as i64,
            len: len as i64,
            tile: next as i32,
            tiles: n_tiles as i32,
            state_in: slots(lane).0,
            state_out: slots(lane).1,
        };
        entry.write_to(&mut entries);
        next += n_tiles;
    }
    tables.bytes.append(&mut entries);
    tables.bytes.append(&mut conv);
    tables
}

/// The tiles of a lane; one of no rows for a lane of none, so that its state is still written.
fn cut(lane: &LaneSpan, index: usize, step: usize, mut take: impl FnMut(Tile)) {
    let len = lane.rows.len();
    let tiles = len.div_ceil(step.max(1)).max(1);
    for i in 0..tiles {
        let (from, to) = (i * step, len.min((i + 1) * step));
        let (first, last) = (i == 0, i + 1 == tiles);
        take(Tile {
            row: (lane.rows.start + from) as i64,
            len: (to - from) as i32,
            lane: index as i32,
            first,
            last,
            state_in: if first { slots(lane).0 } else { -1 },
            state_out: if last { slots(lane).1 } else { -1 },
        });
    }
}

/// The slots that a lane reads and writes, as kernels take them.
fn slots(lane: &LaneSpan) -> (i32, i32) {
    let slot = lane.slot.map_or(-1, |slot| slot as i32);
    (if lane.fresh { -1 } else { slot }, slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(lengths: &[usize]) -> Vec<LaneSpan> {
        let mut row = 0;
        let lane = |&len: &usize| {
            row += len;
            LaneSpan { rows: row - len..row, fresh: true, slot: None }
        };
        lengths.iter().map(lane).collect()
    }

    /// (row, len, lane, first, last) of each tile.
    fn read(tables: &Tables) -> Vec<(i64, i32, i32, i32, i32)> {
        let word = |b: &[u8]| i32::from_le_bytes(b.try_into().unwrap());
        tables.bytes[..tables.lane_offset()]
            .chunks(Tile::BYTES)
            .map(|t| {
                let row = i64::from_le_bytes(t[..8].try_into().unwrap());
                (row, word(&t[8..12]), word(&t[12..16]), word(&t[16..20]), word(&t[20..24]))
            })
            .collect()
    }

    #[test]
    fn a_long_lane_is_cut_and_a_short_one_is_not() {
        let tables = tables(&lanes(&[10, 700, 0]), 64, 256);
        assert_eq!((tables.tiles, tables.parallel_tiles), (5, 3));
        assert_eq!((tables.lanes, tables.parallel_lanes), (3, 1));
        assert_eq!((tables.conv_tiles, tables.conv_longest), (5, 256));
        assert_eq!(
            read(&tables),
            [
                (10, 256, 0, 1, 0),
                (266, 256, 0, 0, 0),
                (522, 188, 0, 0, 1),
                (0, 10, 1, 1, 1),
                (710, 0, 2, 1, 1)
            ]
        );
        assert_eq!(tables.bytes.len(), 10 * Tile::BYTES + 3 * LaneEntry::BYTES);
        assert_eq!(tables.bytes[tables.conv_offset()..], tables.bytes[..tables.lane_offset()]);
    }

    #[test]
    fn many_lanes_fill_the_device_uncut() {
        assert_eq!(tables(&lanes(&[8192; 64]), 512, 1024).tiles, 64);
        assert_eq!(tables(&lanes(&[8192; 32]), 512, 1024).tiles, 32 * 8);
        // One lane that holds most of the rows is cut, its neighbours are not.
        let uneven = tables(&lanes(&[&[100_000][..], &[100; 64]].concat()), 512, 1024);
        assert_eq!((uneven.parallel_lanes, uneven.lanes), (1, 65));
    }

    #[test]
    fn states_go_in_at_the_first_tile_and_out_at_the_last() {
        let lane = LaneSpan { rows: 5..600, fresh: false, slot: Some(3) };
        let tables = tables(&[lane], 8, 256);
        let word = |at: usize| i32::from_le_bytes(tables.bytes[at..at + 4].try_into().unwrap());
        let states: Vec<(i32, i32)> = (0..3).map(|t| (word(t * 32 + 24), word(t * 32 + 28))).collect();
        assert_eq!(states, [(3, -1), (-1, -1), (-1, 3)]);
        let at = tables.lane_offset();
        assert_eq!([16, 20, 24, 28].map(|o| word(at + o)), [0, 3, 3, 3]);
    }

    #[test]
    fn tile_lengths_suit_step_and_model() {
        // An H100 has 132 multiprocessors.
        assert_eq!(tile_len(512, 131_072, 132), 256);
        assert_eq!(tile_len(512, 1 << 20, 132), 2560);
        assert_eq!(tile_len(1536, 131_072, 132), 768);
        assert_eq!(tile_len(512, 4 << 20, 132), 8192);
        assert_eq!(tile_len(1, 1, 0), 256);
    }
}
