use std::ops::Range;

use crate::{Error, Result};

/// The rows of one sequence in a packed batch, and where its recurrent state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSpan {
    /// Rows of the batch, in time order. May be shorter than `d_conv - 1`.
    pub rows: Range<usize>,
    /// Whether the sequence starts here: its state before the first row is zero.
    pub fresh: bool,
    /// Where the state is read (unless `fresh`) and written. `None`: the sequence starts and ends
    /// in this batch, and its state is not kept.
    pub slot: Option<usize>,
}

/// Checks that lanes are in row order, disjoint, inside `rows` rows and `slots` slots, that one
/// that continues has a slot, and that no slot is used twice.
///
/// # Errors
/// [`Error::Lane`] names the first lane that breaks a rule.
pub fn check_lanes(op: &'static str, lanes: &[LaneSpan], rows: usize, slots: usize) -> Result<()> {
    let mut end = 0;
    let mut used = vec![false; slots];
    for (lane, span) in lanes.iter().enumerate() {
        let fail = |why| Err(Error::Lane { op, lane, why });
        if span.rows.start < end || span.rows.end < span.rows.start {
            return fail("overlaps the lane before it");
        }
        if span.rows.end > rows {
            return fail("ends after the batch");
        }
        match span.slot {
            None if !span.fresh => return fail("continues a sequence but has no state slot"),
            Some(slot) if slot >= slots => return fail("has a state slot that does not exist"),
            Some(slot) if std::mem::replace(&mut used[slot], true) => return fail("shares its state slot"),
            _ => {}
        }
        end = span.rows.end;
    }
    Ok(())
}

/// Checks that there is one slot a row, that each exists, and that none is used twice.
///
/// # Errors
/// [`Error::Lane`] names the first row that breaks a rule.
pub(crate) fn check_slots(op: &'static str, of_rows: &[usize], slots: usize) -> Result<()> {
    let mut used = vec![false; slots];
    for (lane, &slot) in of_rows.iter().enumerate() {
        let fail = |why| Err(Error::Lane { op, lane, why });
        let Some(used) = used.get_mut(slot) else { return fail("has a state slot that does not exist") };
        if std::mem::replace(used, true) {
            return fail("shares its state slot");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(rows: Range<usize>, fresh: bool, slot: Option<usize>) -> LaneSpan {
        LaneSpan { rows, fresh, slot }
    }

    #[test]
    fn each_broken_rule_is_found() {
        let ok = [lane(0..3, false, Some(1)), lane(3..3, true, None), lane(3..9, true, Some(0))];
        assert!(check_lanes("t", &ok, 9, 2).is_ok());
        let bad: [&[LaneSpan]; 5] = [
            &[lane(0..3, true, None), lane(2..4, true, None)],
            &[lane(0..10, true, None)],
            &[lane(0..3, false, None)],
            &[lane(0..3, true, Some(2))],
            &[lane(0..3, true, Some(1)), lane(3..4, true, Some(1))],
        ];
        for lanes in bad {
            assert!(matches!(check_lanes("t", lanes, 9, 2), Err(Error::Lane { .. })), "{lanes:?}");
        }
    }
}
