use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use mseq_core::{Item, RecordHead, RecordTail};

use crate::filter::Wanted;
use crate::reverse::Backward;
use crate::tokenize::check;
use crate::walk::{Origin, Walk};
use crate::{DnaTokenizer, InputSet, Keep, PackedScratch, RecordFilter, RegionSet, Result, Strands};

/// Capacity of the first block, in tokens; it grows to `block_len` only if bases come.
const FIRST_CAPACITY: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a record or at the end of all.
    Between,
    /// Inside a record.
    Inside,
    /// All tokens of the record are out, its tail is not.
    Tail,
    /// Before the reverse of a record, whose forward strand is out or not wanted.
    Turn,
    /// In the reverse.
    Backward,
    /// Inside a record that gave an error.
    Bad,
    /// Behind an error that nothing can be read after.
    Over,
}

/// The records of all inputs as a stream of tokens.
///
/// Each record gives `Begin`, `Tokens` of exactly `block_len` tokens but for the last (none for an
/// empty record), and `End`. Blocks depend on nothing but the record and `block_len`.
pub struct SequenceSource {
    walk: Walk,
    tokenizer: DnaTokenizer,
    block_len: usize,
    /// The block being filled.
    block: Vec<u32>,
    at: At,
    tail: RecordTail,
    bases: u64,
    bytes_total: Option<u64>,
    filter: Option<RecordFilter>,
    /// What is wanted of the record.
    range: std::ops::Range<u64>,
    /// Whether all of the record was read, and its end checked.
    ended: bool,
    strands: Strands,
    wanted: Option<Wanted>,
    /// The record that was begun last.
    id: Arc<str>,
    /// The record, for its reverse.
    head: Option<RecordHead>,
    /// A copy of the record, when it is read in reverse without an index.
    scratch: Option<PackedScratch>,
    back: Backward,
}

impl SequenceSource {
    /// A source over `set`, with blocks of at most `block_len` bases (0 counts as 1). Files are
    /// opened one at a time, the first by the first [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// None today; kept for sources that must look at their input first.
    pub fn open(set: InputSet, tokenizer: DnaTokenizer, block_len: usize) -> Result<Self> {
        let bytes_total = set.bytes();
        let origins = set.inputs.into_iter().map(Origin::Input).collect();
        Ok(Self::new(Walk::new(origins), tokenizer, block_len, bytes_total))
    }

    /// A source over one stream, plain or gzip, called `name`.
    pub fn from_reader(
        name: &str,
        reader: impl Read + Send + 'static,
        tokenizer: DnaTokenizer,
        block_len: usize,
    ) -> Self {
        let walk = Walk::new(vec![Origin::Reader(name.into(), Box::new(reader))]);
        Self::new(walk, tokenizer, block_len, None)
    }

    fn new(walk: Walk, tokenizer: DnaTokenizer, block_len: usize, bytes_total: Option<u64>) -> Self {
        let block_len = block_len.max(1);
        Self {
            walk,
            tokenizer,
            block_len,
            block: Vec::with_capacity(block_len.min(FIRST_CAPACITY)),
            at: At::Between,
            tail: RecordTail::default(),
            bases: 0,
            bytes_total,
            filter: None,
            range: 0..u64::MAX,
            ended: true,
            strands: Strands::Forward,
            wanted: None,
            id: "".into(),
            head: None,
            scratch: None,
            back: Backward::default(),
        }
    }

    /// Reads only what `filter` keeps of each record.
    ///
    /// What is skipped is not checked: bytes there may be anything, but a FASTQ record must still
    /// be whole. With an index beside a FASTA file ([`IndexedFasta`](crate::IndexedFasta)) long
    /// skips seek, else they read past; the items are the same. From then on
    /// [`next`](Self::next) also fails on an index that does not match its file.
    #[must_use]
    pub fn with_filter(mut self, filter: RecordFilter) -> Self {
        self.filter = Some(filter);
        self.walk.use_indexes();
        self
    }

    /// Reads only the records that have an interval in `regions`, each as far as
    /// [`RegionSet::keep`] says. `path` is the BED file, for messages.
    ///
    /// From then on [`next`](Self::next) also fails on an interval that ends behind its record and,
    /// at the end of the input, on a contig that no record had. Indexes are used as in
    /// [`with_filter`](Self::with_filter), which may leave out more.
    #[must_use]
    pub fn with_regions(mut self, path: &str, regions: Arc<RegionSet>) -> Self {
        self.wanted = Some(Wanted::new(path, regions));
        self.walk.use_indexes();
        self
    }

    /// Gives these strands of each record. The reverse is the record's reverse complement, from
    /// its end, by the index beside a FASTA file, or else from a [`PackedScratch`] in `folder`.
    ///
    /// [`Strands::Both`] gives two runs of `Begin`, `Tokens` and `End` a record, the forward one
    /// first; [`RecordHead::reversed`] tells them apart. A record found bad while the rest of it is
    /// read for its reverse gives its error after the forward `End`.
    #[must_use]
    pub fn with_strands(mut self, strands: Strands, folder: &Path) -> Self {
        self.strands = strands;
        if strands != Strands::Forward {
            self.scratch = Some(PackedScratch::new(folder));
            self.walk.use_indexes();
        }
        self
    }

    /// The next step of the stream, `None` after the last input.
    ///
    /// # Errors
    ///
    /// What [`Error`](crate::Error) lists, with file, record and line. After one that
    /// [`is_bad_record`](crate::Error::is_bad_record) the next call goes on with the record behind
    /// it, so what came of the bad one gets no `End`; after any other there is only `None`.
    #[expect(clippy::should_implement_trait, reason = "an iterator of Result<Option> reads worse")]
    pub fn next(&mut self) -> Result<Option<Item>> {
        let step = self.step();
        if let Err(e) = &step {
            self.at = if e.is_bad_record() { At::Bad } else { At::Over };
            self.block.clear();
        }
        step
    }

    fn step(&mut self) -> Result<Option<Item>> {
        loop {
            match self.at {
                At::Over => return Ok(None),
                At::Bad => {
                    (self.at, self.ended) = (At::Between, true);
                    self.walk.skip()?;
                }
                At::Between => {
                    if !std::mem::replace(&mut self.ended, true) {
                        self.walk.skip()?;
                    }
                    let Some(head) = self.walk.begin()? else {
                        self.at = At::Over;
                        self.wanted.as_ref().map_or(Ok(()), Wanted::check_all)?;
                        return Ok(None);
                    };
                    self.ended = false;
                    if self.take(&head)? && self.at == At::Inside {
                        return Ok(Some(Item::Begin(head)));
                    }
                }
                At::Inside | At::Backward => {
                    let more = if self.at == At::Inside { self.fill()? } else { self.fill_back()? };
                    if !more {
                        self.at = At::Tail;
                    }
                    if !self.block.is_empty() {
                        return Ok(Some(Item::Tokens(self.take_block())));
                    }
                }
                At::Tail => {
                    let turn = self.head.is_some();
                    self.at = if turn { At::Turn } else { At::Between };
                    return Ok(Some(Item::End(std::mem::take(&mut self.tail))));
                }
                At::Turn => {
                    self.gather()?;
                    let scratch = self.scratch.as_ref();
                    let bases = self.walk.indexed_bases().or(scratch.map(crate::BasesAt::bases));
                    let bases = bases.unwrap_or(0);
                    self.check_regions(bases)?;
                    self.back.start(bases, self.range.start);
                    self.at = At::Backward;
                    return Ok(self
                        .head
                        .take()
                        .map(|head| Item::Begin(RecordHead { reversed: Some(bases), ..head })));
                }
            }
        }
    }

    /// Whether the record that begins is wanted, and prepares for it.
    fn take(&mut self, head: &RecordHead) -> Result<bool> {
        let mut keep = self.filter.as_mut().map_or(Keep::All, |filter| filter.choose(head));
        if let Some(wanted) = &mut self.wanted {
            let of_regions = wanted.keep(&head.id);
            keep = if keep == Keep::Skip { keep } else { of_regions };
        }
        let Some(range) = keep.range() else { return Ok(false) };
        self.id = Arc::clone(&head.id);
        (self.range, self.tail) = (range, RecordTail::default());
        if let Some(bases) = self.walk.indexed_bases() {
            self.check_regions(bases)?;
        }
        self.at = if self.strands == Strands::Reverse { At::Turn } else { At::Inside };
        self.head = (self.strands != Strands::Forward).then(|| head.clone());
        if let Some(scratch) = &mut self.scratch {
            scratch.clear()?;
        }
        Ok(true)
    }

    /// Fills the block; `false` when the record ended, or what is wanted of it.
    fn fill(&mut self) -> Result<bool> {
        let mut copy = self.scratch.as_mut().filter(|_| self.head.is_some() && !self.walk.is_indexed());
        let (tokenizer, block, tail) = (&self.tokenizer, &mut self.block, &mut self.tail);
        while block.len() < self.block_len {
            let left = usize::try_from(self.range.end - tail.bases).unwrap_or(usize::MAX);
            let room = left.min(self.block_len - block.len());
            if room == 0 {
                return Ok(false);
            }
            let mut copied = Ok(());
            let n = self.walk.piece(room, |bases| {
                let counts = tokenizer.encode(bases, block)?;
                tail.unknown += counts.unknown;
                tail.soft_masked += counts.soft_masked;
                copied = copy.as_mut().map_or(Ok(()), |copy| copy.push(bases));
                Ok(())
            })?;
            copied?;
            tail.bases += n as u64;
            self.bases += n as u64;
            if n == 0 {
                self.ended = true;
                self.check_regions(self.tail.bases)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fails when the record, of that many bases, lacks some of an interval.
    fn check_regions(&self, bases: u64) -> Result<()> {
        self.wanted.as_ref().map_or(Ok(()), |wanted| wanted.check(&self.id, bases))
    }

    /// Copies what was not yet read of the record, if its reverse needs that.
    fn gather(&mut self) -> Result<()> {
        let Some(copy) = self.scratch.as_mut().filter(|_| !self.walk.is_indexed()) else { return Ok(()) };
        while !self.ended {
            let mut copied = Ok(());
            let n = self.walk.piece(usize::MAX, |bases| {
                check(bases)?;
                copied = copy.push(bases);
                Ok(())
            })?;
            copied?;
            self.ended = n == 0;
        }
        Ok(())
    }

    /// Fills the block from the record's end; `false` at the last base that is wanted.
    fn fill_back(&mut self) -> Result<bool> {
        while self.block.len() < self.block_len {
            let (base, room) = (self.back.next_base(), self.block_len - self.block.len());
            let piece = match (self.walk.indexed(), &mut self.scratch) {
                (Some(mut record), _) => self.back.piece(&mut record, room)?,
                (None, Some(scratch)) => self.back.piece(scratch, room)?,
                (None, None) => &[],
            };
            let n = piece.len() as u64;
            let counts = match self.tokenizer.encode(piece, &mut self.block) {
                Ok(counts) => counts,
                Err(bad) => return Err(self.walk.not_nucleotide(base - bad.at as u64, bad.byte)),
            };
            self.tail.unknown += counts.unknown;
            self.tail.soft_masked += counts.soft_masked;
            self.tail.bases += n;
            self.bases += n;
            if n == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A full block as it is; the short rest of a record copied, so that reads of a hundred bases
    /// do not each hold the memory of a block.
    fn take_block(&mut self) -> Vec<u32> {
        if self.block.len() < self.block_len {
            let copy = self.block.as_slice().to_vec();
            self.block.clear();
            return copy;
        }
        std::mem::replace(&mut self.block, Vec::with_capacity(self.block_len))
    }

    /// Bases given so far, over all records and strands.
    pub fn bases_read(&self) -> u64 {
        self.bases
    }

    /// Bytes read so far from the inputs, as stored (compressed), a buffer ahead of the bases.
    pub fn bytes_done(&self) -> u64 {
        self.walk.bytes().min(self.bytes_total.unwrap_or(u64::MAX))
    }

    /// Bytes of all inputs as stored; `None` when one is a pipe.
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }
}
