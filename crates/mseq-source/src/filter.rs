use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mseq_core::RecordHead;

use crate::error::BedError;
use crate::{RegionSet, Result};

/// How much of a record is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the record gives no item, but keeps its index.
    Skip,
    /// Every base.
    All,
    /// This many bases from its start; read in reverse, every base. The `End` then counts the
    /// bases so far.
    UpTo(u64),
    /// What lies between two bases and what must be read before it: forward the bases before
    /// `end`, in reverse those from the record's end down to `start`.
    Between {
        /// First base that is wanted, 0-based.
        start: u64,
        /// Behind the last one.
        end: u64,
    },
}

impl Keep {
    /// The same, as the bases that each direction stops at.
    pub(crate) fn range(self) -> Option<Range<u64>> {
        match self {
            Keep::Skip => None,
            Keep::All => Some(0..u64::MAX),
            Keep::UpTo(end) => Some(0..end),
            Keep::Between { start, end } => Some(start..end),
        }
    }
}

/// Decides for each record how much of it is read, by its index, its id or its file.
pub struct RecordFilter(Box<dyn FnMut(&RecordHead) -> Keep + Send>);

impl RecordFilter {
    /// From a function that is asked once a record, in order.
    pub fn new(choose: impl FnMut(&RecordHead) -> Keep + Send + 'static) -> Self {
        Self(Box::new(choose))
    }

    /// The records of these indices, whole.
    pub fn indices(wanted: BTreeSet<u64>) -> Self {
        Self::new(move |head| if wanted.contains(&head.index) { Keep::All } else { Keep::Skip })
    }

    pub(crate) fn choose(&mut self, head: &RecordHead) -> Keep {
        self.0(head)
    }
}

impl fmt::Debug for RecordFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordFilter")
    }
}

/// The intervals of a run, and which contigs were met so far.
pub(crate) struct Wanted {
    /// The BED file.
    path: String,
    regions: Arc<RegionSet>,
    unseen: HashSet<Arc<str>>,
}

impl Wanted {
    pub(crate) fn new(path: &str, regions: Arc<RegionSet>) -> Self {
        let unseen = regions.contigs().iter().cloned().collect();
        Self { path: path.to_owned(), regions, unseen }
    }

    /// What has to be read of a record that begins.
    pub(crate) fn keep(&mut self, id: &str) -> Keep {
        self.unseen.remove(id);
        self.regions.keep(id)
    }

    /// Fails when an interval ends behind the record.
    pub(crate) fn check(&self, id: &str, bases: u64) -> Result<()> {
        match self.regions.of(id).iter().find(|i| i.end > bases) {
            None => Ok(()),
            Some(i) => Err(BedError::Beyond {
                path: self.path.clone(),
                contig: id.to_owned(),
                start: i.start,
                end: i.end,
                bases,
            }
            .into()),
        }
    }

    /// Fails, at the end of the input, when a contig was not in it.
    pub(crate) fn check_all(&self) -> Result<()> {
        match self.regions.contigs().iter().find(|contig| self.unseen.contains(*contig)) {
            None => Ok(()),
            Some(contig) => Err(BedError::UnknownContig {
                path: self.path.clone(),
                contig: contig.to_string(),
                more: self.unseen.len() - 1,
            }
            .into()),
        }
    }
}

/// Which strands of each record a source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strands {
    /// As the file has it.
    #[default]
    Forward,
    /// The reverse complement.
    Reverse,
    /// The record, then its reverse complement.
    Both,
}
