use std::collections::VecDeque;

use mseq_core::{Front, Item, RecordHead, RecordTail};

use crate::{Error, Result};

/// What a model without a front end has: a token is one number.
const TOKEN: Front = Front { hop: 1, reach: 1 };

/// Consecutive tokens of a record, with all that they are computed from: ids, or the samples of
/// frames as bits. Whatever cuts and joins tokens need not know which.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    /// (len - 1) * hop + reach of them.
    cells: Vec<u32>,
    len: usize,
    front: Front,
}

impl Cells {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All cells.
    pub(crate) fn all(&self) -> &[u32] {
        &self.cells
    }

    /// The cells that no token before these shares.
    pub(crate) fn new_ones(&self) -> &[u32] {
        &self.cells[self.front.reach - self.front.hop..]
    }

    /// The cells that are these tokens' own, and those that the tokens after them share.
    pub(crate) fn own_and_shared(&self) -> (&[u32], &[u32]) {
        self.cells.split_at((self.len * self.front.hop).min(self.cells.len()))
    }

    /// Keeps the first `at` tokens and gives the others.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let at = at.min(self.len);
        let rest = Self { len: self.len - at, front: self.front, cells: Vec::new() };
        let cells = match (at, rest.len) {
            (_, 0) => Vec::new(),
            (0, _) => std::mem::take(&mut self.cells),
            // Without cells in common the rest need not be copied from the middle.
            _ if self.front.reach == self.front.hop => self.cells.split_off(at * self.front.hop),
            _ => self.cells[at * self.front.hop..].to_vec(),
        };
        self.cells.truncate(self.front.samples(at));
        self.len = at;
        Self { cells, ..rest }
    }
}

/// The last tokens of a record, for the warm-up of a piece.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    cells: VecDeque<u32>,
    len: usize,
}

impl Tail {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds tokens that follow, and forgets all but the last `most`.
    pub(crate) fn push(&mut self, tokens: &Cells, most: usize) {
        let front = tokens.front;
        if tokens.len >= most {
            // Nothing older is needed.
            self.cells.clear();
            let from = (tokens.len - most) * front.hop;
            self.cells.extend(&tokens.cells[from..]);
            self.len = most;
            return;
        }
        match self.len {
            0 => self.cells.extend(tokens.all()),
            _ => self.cells.extend(tokens.new_ones()),
        }
        self.len += tokens.len;
        let over = self.len.saturating_sub(most);
        self.cells.drain(..over * front.hop);
        self.len -= over;
    }

    /// `len` tokens from number `from` on.
    pub(crate) fn range(&self, from: usize, len: usize, front: Front) -> Cells {
        let start = from * front.hop;
        let cells = self.cells.range(start..start + front.samples(len)).copied().collect();
        Cells { cells, len, front }
    }
}

/// What the packer cuts into steps.
#[derive(Debug)]
pub(crate) enum Piece {
    Begin(RecordHead),
    /// Never empty.
    Tokens(Cells),
    End(RecordTail),
}

/// Makes tokens of what a source gives.
#[derive(Debug)]
pub(crate) struct Framer {
    front: Option<Front>,
    /// Samples that tokens to come are made of, as bits.
    buffer: Vec<u32>,
    /// Whether the record has given a token.
    begun: bool,
}

impl Framer {
    pub(crate) fn new(front: Option<Front>) -> Self {
        // A frame of nothing could not be counted.
        let sane = |f: Front| {
            let hop = f.hop.max(1);
            Front { hop, reach: f.reach.max(hop) }
        };
        Self { front: front.map(sane), buffer: Vec::new(), begun: false }
    }

    /// What a token is made of.
    pub(crate) fn front(&self) -> Front {
        self.front.unwrap_or(TOKEN)
    }

    /// Whether tokens are made of samples.
    pub(crate) fn of_samples(&self) -> bool {
        self.front.is_some()
    }

    /// The tokens that an item completes, then the item if it is none itself.
    pub(crate) fn take(&mut self, item: Item) -> Result<(Option<Cells>, Option<Piece>)> {
        let front = self.front();
        Ok(match (item, self.front) {
            (Item::Begin(head), _) => {
                self.buffer.clear();
                self.begun = false;
                (None, Some(Piece::Begin(head)))
            }
            (Item::Tokens(cells), None) => (Some(Cells { len: cells.len(), cells, front }), None),
            (Item::Samples(samples), Some(_)) => {
                self.buffer.extend(samples.iter().map(|s| s.to_bits()));
                (self.cut(front.complete(self.buffer.len()), front), None)
            }
            (Item::End(tail), None) => (None, Some(Piece::End(tail))),
            (Item::End(tail), Some(_)) => {
                let shared = if self.begun { front.reach - front.hop } else { 0 };
                let last = usize::from(self.buffer.len() > shared);
                // Zeros behind the record's end.
                self.buffer.resize(front.samples(last).max(self.buffer.len()), 0);
                (self.cut(last, front), Some(Piece::End(tail)))
            }
            (Item::Tokens(_), Some(_)) => return Err(Error::Stream("tokens for a model of samples")),
            (Item::Samples(_), None) => return Err(Error::Stream("samples for a model of tokens")),
        })
    }

    fn cut(&mut self, len: usize, front: Front) -> Option<Cells> {
        if len == 0 {
            return None;
        }
        self.begun = true;
        let cells = self.buffer[..front.samples(len)].to_vec();
        self.buffer.drain(..len * front.hop);
        Some(Cells { cells, len, front })
    }
}
