use crate::error::at_least;
use crate::{Backend, Error, LaneSpan, Result, check_lanes};

/// `nll[t] = -log softmax(head h[t - 1])[ids[t]]`: how surprising each token is, given all to its
/// left.
///
/// The row before a lane's first lies in its slot of `last`; a fresh lane has none, and the value of
/// its first row is 0 and means nothing. The softmax runs over every row of the head. Only one number
/// a row leaves the device: logits, which may be 50,000 a row, do not.
///
/// For logits themselves, of few rows, there is [`LinearFwd`](super::LinearFwd) with the same weight.
pub struct NllFwd<'a, B: Backend> {
    /// Rows of the batch.
    pub rows: usize,
    /// Width of a row.
    pub d_model: usize,
    /// Rows of the head.
    pub vocab: usize,
    /// Slots of `last`.
    pub slots: usize,
    /// Token ids on the host, one a row.
    pub ids: &'a [u32],
    /// Which rows belong together.
    pub lanes: &'a [LaneSpan],
    /// (rows, d_model), f32: what the final norm gives.
    pub x: &'a B::Buffer,
    /// (vocab, d_model), made by [`Backend::linear`].
    pub weight: &'a B::Linear,
    /// (slots, d_model), f32, the last row of a sequence so far: read, then written.
    pub last: &'a mut B::Buffer,
}

impl<B: Backend> NllFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short, an id is not a row of the head, or lanes are broken.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "nll_fwd";
        check_lanes(OP, self.lanes, self.rows, self.slots)?;
        at_least(OP, "ids", self.ids.len(), self.rows)?;
        at_least(OP, "x", backend.len(self.x), self.rows * self.d_model)?;
        at_least(OP, "last", backend.len(self.last), self.slots * self.d_model)?;
        match self.ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(&id) => Err(Error::OutOfRange {
                op: OP,
                what: "a token id",
                found: id as usize,
                wanted: "which is not a row of the head",
            }),
            None => Ok(()),
        }
    }

    /// Where the row before each row lies; `None` for the first of a fresh lane, and between lanes.
    pub fn before(&self) -> Vec<Before> {
        let mut before = vec![Before::Nothing; self.rows];
        for lane in self.lanes.iter().filter(|lane| !lane.rows.is_empty()) {
            before[lane.rows.start] = match lane.slot {
                Some(slot) if !lane.fresh => Before::Slot(slot),
                _ => Before::Nothing,
            };
            let rest = lane.rows.start + 1..lane.rows.end;
            before[rest.clone()]
                .iter_mut()
                .zip(rest)
                .for_each(|(before, row)| *before = Before::Row(row - 1));
        }
        before
    }
}

/// What lies before a row in its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// The sequence begins.
    Nothing,
    /// Another row of the batch.
    Row(usize),
    /// What an earlier batch left in a slot.
    Slot(usize),
}
