//! Looks at the pages of a Parquet row group before they are decoded.
//!
//! The decoder takes memory for as many values as a page says it has, before it looks for them: a
//! damaged page would ask for terabytes, and end the process and not only the job.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

/// Values in one page, far beyond what any program writes.
const MOST_VALUES: u64 = 1 << 26;

/// Checks the pages of the columns of a row group that are read.
///
/// # Errors
/// What is wrong with a page.
pub(super) fn check(
    file: &File,
    group: &RowGroupMetaData,
    reads: impl Fn(usize) -> bool,
) -> Result<(), String> {
    let wrong = |e: &dyn std::fmt::Display| e.to_string();
    let rows = usize::try_from(group.num_rows()).map_err(|e| wrong(&e))?;
    for (_, column) in group.columns().iter().enumerate().filter(|(i, _)| reads(*i)) {
        let file = Arc::new(file.try_clone().map_err(|e| wrong(&e))?);
        let mut pages = SerializedPageReader::new(file, column, rows, None).map_err(|e| wrong(&e))?;
        while let Some(page) = pages.get_next_page().map_err(|e| wrong(&e))? {
            if !is_sound(&page, column) {
                return Err("a page claims more values than it can hold".to_owned());
            }
        }
    }
    Ok(())
}

/// Whether a page can have as many values as the decoder will take memory for.
fn is_sound(page: &Page, column: &ColumnChunkMetaData) -> bool {
    let (bytes, values) = (page.buffer().as_ref(), u64::from(page.num_values()));
    let texts = match page {
        // No value takes less than a bit.
        Page::DictionaryPage { .. } => return values <= 8 * bytes.len() as u64,
        Page::DataPage { .. } => {
            let levels = [column.column_descr().max_rep_level(), column.column_descr().max_def_level()];
            levels.iter().filter(|level| **level > 0).try_fold(bytes, |rest, _| {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                rest.get(u32::from_le_bytes(*len) as usize..)
            })
        }
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            bytes.get((u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len)) as usize..)
        }
    };
    let most = values.min(MOST_VALUES);
    match (page.encoding(), texts) {
        (Encoding::DELTA_LENGTH_BYTE_ARRAY, Some(lengths)) => after_integers(lengths, most).is_some(),
        (Encoding::DELTA_BYTE_ARRAY, Some(prefixes)) => {
            let suffixes = after_integers(prefixes, most);
            suffixes.and_then(|suffixes| after_integers(suffixes, most)).is_some()
        }
        (Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY, None) => false,
        _ => true,
    }
}

/// What follows integers in DELTA_BINARY_PACKED (Parquet's Encodings.md), or `None` when they are more
/// than `most`, or cut off.
fn after_integers(bytes: &[u8], most: u64) -> Option<&[u8]> {
    let (block, rest) = varint(bytes)?;
    let (minis, rest) = varint(rest)?;
    let (count, rest) = varint(rest)?;
    let (_, mut rest) = varint(rest)?;
    let in_mini = block.checked_div(minis)?;
    if count > most || in_mini == 0 {
        return None;
    }
    // The first one stands in the header.
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let widths;
        (widths, rest) = varint(rest)?.1.split_at_checked(usize::try_from(minis).ok()?)?;
        for width in widths {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(in_mini);
            rest = rest.get(usize::try_from(u64::from(*width).checked_mul(in_mini)? / 8).ok()?..)?;
        }
    }
    Some(rest)
}

/// A number in base 128, lowest digits first.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32)?;
        if byte < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5 integers in one block of 4 miniblocks of 32, of which the first has a bit each.
    const FIVE: [u8; 14] = [0x80, 1, 4, 5, 2, 0, 1, 9, 9, 9, 0xaa, 0xaa, 0, 0];

    #[test]
    fn integers_are_passed_over() {
        let text = [&FIVE[..], b"rest"].concat();
        assert_eq!(after_integers(&text, 5), Some(&b"rest"[..]));
        assert_eq!(after_integers(&text, 4), None);
        assert_eq!(after_integers(&FIVE[..12], 5), None);
        assert_eq!(after_integers(&[0x80, 1, 4, 0, 0, 7], 5), Some(&[7][..]));
        // As many as a damaged page may claim, and blocks of nothing.
        let huge = [&[0x80, 1, 4][..], &[0xff; 8], &[0x7f, 0, 0, 0, 0]].concat();
        assert_eq!(after_integers(&huge, 1 << 60), None);
        assert_eq!(after_integers(&[0, 4, 5, 2, 0, 0, 0, 0], 5), None);
        assert_eq!(after_integers(&[0x80, 1, 0, 5, 2, 0], 5), None);
        assert_eq!(varint(&[0xff; 20]), None);
    }
}
