use crate::{IndexedFasta, Result, complement_byte};

/// Bases fetched at a time.
const FETCH_BASES: u64 = 256 * 1024;

const COMPLEMENT: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = complement_byte(i as u8);
        i += 1;
    }
    table
};

/// A record whose bases can be read from any position.
pub trait BasesAt {
    /// Bases of the record.
    fn bases(&self) -> u64;

    /// Makes `out` the `len` letters from base `start` on, fewer where the record ends.
    ///
    /// # Errors
    ///
    /// Those of the file behind.
    fn read_bases(&mut self, start: u64, len: usize, out: &mut Vec<u8>) -> Result<()>;
}

/// One record of an [`IndexedFasta`].
pub struct IndexedRecord<'a> {
    fasta: &'a mut IndexedFasta,
    record: usize,
}

impl<'a> IndexedRecord<'a> {
    /// The record of that number; one that is not there has no base.
    pub fn new(fasta: &'a mut IndexedFasta, record: usize) -> Self {
        Self { fasta, record }
    }
}

impl BasesAt for IndexedRecord<'_> {
    fn bases(&self) -> u64 {
        self.fasta.records().get(self.record).map_or(0, |r| r.bases)
    }

    fn read_bases(&mut self, start: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        self.fasta.bases(self.record, start, len, out)
    }
}

impl<B: BasesAt + ?Sized> BasesAt for &mut B {
    fn bases(&self) -> u64 {
        (**self).bases()
    }

    fn read_bases(&mut self, start: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        (**self).read_bases(start, len, out)
    }
}

/// Where a reading from the end stands.
#[derive(Debug, Default)]
pub(crate) struct Backward {
    /// Bases before the next one, so the next has this 1-based number.
    left: u64,
    /// Base to stop at.
    stop: u64,
    /// Bases fetched, already reversed and complemented.
    window: Vec<u8>,
    /// Those handed out.
    used: usize,
}

impl Backward {
    /// From the end of a record of `bases` bases down to base `stop`, which is read too.
    pub(crate) fn start(&mut self, bases: u64, stop: u64) {
        self.window.clear();
        (self.left, self.stop, self.used) = (bases, stop.min(bases), 0);
    }

    /// 1-based number, on the forward strand, of the base that comes next.
    pub(crate) fn next_base(&self) -> u64 {
        self.left
    }

    /// The next 1 to `room` bases; none at the end.
    pub(crate) fn piece(&mut self, from: &mut impl BasesAt, room: usize) -> Result<&[u8]> {
        if self.used == self.window.len() {
            let start = self.left.saturating_sub(FETCH_BASES).max(self.stop);
            from.read_bases(start, (self.left - start) as usize, &mut self.window)?;
            self.window.reverse();
            for base in &mut self.window {
                *base = COMPLEMENT[usize::from(*base)];
            }
            self.used = 0;
        }
        let n = room.max(1).min(self.window.len() - self.used);
        let piece = &self.window[self.used..self.used + n];
        self.used += n;
        self.left -= n as u64;
        Ok(piece)
    }
}

/// The reverse complement of a record in blocks, read from its end: 256 KiB are held, whatever
/// its length.
///
/// ```
/// use mseq_source::{PackedScratch, ReverseBases};
/// let mut scratch = PackedScratch::new(&std::env::temp_dir());
/// scratch.push(b"ACGRu-")?;
/// let (mut reverse, mut block, mut all) = (ReverseBases::new(scratch), Vec::new(), Vec::new());
/// while reverse.next_block(4, &mut block)? > 0 {
///     all.extend_from_slice(&block);
/// }
/// assert_eq!(all, b"-aYCGT");
/// # Ok::<(), mseq_source::Error>(())
/// ```
pub struct ReverseBases<B> {
    from: B,
    at: Backward,
}

impl<B: BasesAt> ReverseBases<B> {
    /// The whole record.
    pub fn new(from: B) -> Self {
        Self::down_to(from, 0)
    }

    /// From the record's end down to base `start` (0-based), which is the last one given.
    pub fn down_to(from: B, start: u64) -> Self {
        let mut at = Backward::default();
        at.start(from.bases(), start);
        Self { from, at }
    }

    /// Makes `block` the next `len` letters, fewer only at the end, and says how many.
    ///
    /// # Errors
    ///
    /// Those of the file behind.
    pub fn next_block(&mut self, len: usize, block: &mut Vec<u8>) -> Result<usize> {
        block.clear();
        while block.len() < len {
            let piece = self.at.piece(&mut self.from, len - block.len())?;
            if piece.is_empty() {
                break;
            }
            block.extend_from_slice(piece);
        }
        Ok(block.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fasta_indexed_tests::{uniform, write_indexed};
    use crate::{DnaTokenizer, PackedScratch};

    fn joined(from: impl BasesAt, start: u64, sizes: &[usize]) -> Vec<u8> {
        let (mut reverse, mut block, mut all) = (ReverseBases::down_to(from, start), Vec::new(), Vec::new());
        for size in sizes.iter().cycle() {
            let n = reverse.next_block(*size, &mut block).unwrap();
            all.extend_from_slice(&block);
            if n < *size {
                assert_eq!(reverse.next_block(9, &mut block).unwrap(), 0);
                return all;
            }
        }
        all
    }

    fn reversed(bases: &[u8]) -> Vec<u8> {
        bases.iter().rev().map(|&b| complement_byte(b)).collect()
    }

    proptest! {
        #[test]
        fn any_blocks_join_to_the_reverse_complement(
            (text, records, packed) in uniform(), sizes in prop::collection::vec(1..90_usize, 1..9), start in 0..99_u64,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut fasta = IndexedFasta::open(&write_indexed(dir.path(), &text, packed)).unwrap().unwrap();
            let mut scratch = PackedScratch::new(dir.path());
            for (i, record) in records.iter().enumerate() {
                let want = reversed(&record[record.len().min(start as usize)..]);
                prop_assert_eq!(&joined(IndexedRecord::new(&mut fasta, i), start, &sizes), &want);
                scratch.clear().unwrap();
                record.chunks(sizes[0]).for_each(|piece| scratch.push(piece).unwrap());
                prop_assert_eq!(&joined(&mut scratch, start, &sizes), &want);
            }
        }
    }

    #[test]
    fn records_longer_than_a_fetch() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = PackedScratch::new(dir.path());
        let text: Vec<u8> = (0..1_000_003_u32).map(|i| b"ACGTacgtNuU*-RYk"[(i % 16) as usize]).collect();
        text.chunks(65_536).for_each(|piece| scratch.push(piece).unwrap());
        for size in [1, 1000, 1 << 16, 1 << 20, 1 << 24] {
            assert!(joined(&mut scratch, 0, &[size]) == reversed(&text));
        }
    }

    #[test]
    fn tokens_are_those_of_the_complement() {
        let t = DnaTokenizer::caduceus();
        let map = t.complement_ids();
        let (mut forward, mut back) = (Vec::new(), Vec::new());
        let letters = b"ACGTUNRYSWKMBDHVacgtunryswkmbdhv*-";
        t.encode(letters, &mut forward).unwrap();
        t.encode(&reversed(letters), &mut back).unwrap();
        let want: Vec<_> = forward.iter().rev().map(|&id| map[id as usize]).collect();
        assert_eq!(back, want);
    }
}
