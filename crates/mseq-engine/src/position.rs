use mseq_core::{RecordHead, RecordTail};
use sha2::{Digest, Sha256};

use crate::cells::Cells;

/// A point between two steps of a job, and a digest of all input before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Records that have begun; one that is read in both directions counts twice.
    pub records: u64,
    /// Tokens of the last of them that are done.
    pub pos: u64,
    /// Whether that record has ended.
    pub ended: bool,
    /// Rows that it gave so far.
    pub rows: u64,
    /// Where its state lies.
    pub slot: Option<usize>,
    /// SHA-256 of ids and tokens so far, as hex: a resumed job passes over the same input and
    /// compares, so that another file of the same name and size is found out.
    pub digest: String,
}

impl Position {
    /// Whether nothing is done yet.
    pub fn is_start(&self) -> bool {
        self.records == 0
    }

    /// Whether both are the same place, whatever the input before it.
    pub(crate) fn is_at(&self, other: &Position) -> bool {
        (self.records, self.pos, self.ended) == (other.records, other.pos, other.ended)
    }
}

/// Follows what is taken from the input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    pub(crate) records: u64,
    pub(crate) pos: u64,
    ended: bool,
    digest: Sha256,
    block: Vec<u8>,
    /// Cells behind `pos` that tokens before it are made of, too.
    shared: Vec<u32>,
    of_sound: bool,
}

impl Trail {
    pub(crate) fn begin(&mut self, head: &RecordHead) {
        (self.records, self.pos, self.ended) = (self.records + 1, 0, false);
        self.of_sound = head.signal.is_some();
        if let Some(signal) = head.signal {
            self.digest.update(b"rate");
            self.digest.update(signal.rate.get().to_le_bytes());
        }
        if let Some(bases) = head.reversed {
            self.digest.update(b"reversed");
            self.digest.update(bases.to_le_bytes());
        }
        // Lengths before texts: no two inputs have the same bytes.
        for text in [&*head.source, &*head.id] {
            self.digest.update((text.len() as u64).to_le_bytes());
            self.digest.update(text.as_bytes());
        }
    }

    pub(crate) fn tokens(&mut self, tokens: &Cells) {
        self.pos += tokens.len() as u64;
        let (own, shared) = tokens.own_and_shared();
        // Of recordings these are hundreds a token: in place, which is a copy of memory.
        self.block.resize(4 * own.len(), 0);
        for (bytes, cell) in self.block.chunks_exact_mut(4).zip(own) {
            bytes.copy_from_slice(&cell.to_le_bytes());
        }
        self.digest.update(&self.block);
        self.shared.clear();
        self.shared.extend_from_slice(shared);
    }

    pub(crate) fn end(&mut self, tail: &RecordTail) {
        self.ended = true;
        Self::add_shared(&mut self.digest, &mut self.shared);
        self.digest.update(b"end");
        self.digest.update(self.pos.to_le_bytes());
        if self.of_sound {
            self.digest.update(tail.bases.to_le_bytes());
        }
    }

    fn add_shared(digest: &mut Sha256, shared: &mut Vec<u32>) {
        shared.drain(..).for_each(|cell| digest.update(cell.to_le_bytes()));
    }

    pub(crate) fn position(&self) -> Position {
        let mut digest = self.digest.clone();
        Self::add_shared(&mut digest, &mut self.shared.clone());
        let digest = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Position { records: self.records, pos: self.pos, ended: self.ended, rows: 0, slot: None, digest }
    }

    /// Whether the input can no longer come to `position`.
    pub(crate) fn is_past(&self, position: &Position) -> bool {
        let here = (self.records, self.pos, self.ended);
        let there = (position.records, position.pos, position.ended);
        self.records > position.records || (self.records == position.records && self.ended && here != there)
    }
}
