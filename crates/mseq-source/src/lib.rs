//! Files to blocks of token ids, streaming.
//!
//! [`InputSet`] turns what the user named into files, [`SequenceSource`] reads them one after the
//! other: decompresses, finds the format by content, and hands out [`mseq_core::Item`]s. No record
//! is ever held whole, however long its lines are. Plain blocking code: no threads.
//!
//! ```
//! use mseq_core::Item;
//! use mseq_source::{DnaTokenizer, SequenceSource};
//!
//! let text = &b">chr1 first\nACGT\nnn\n"[..];
//! let mut source = SequenceSource::from_reader("my.fa", text, DnaTokenizer::caduceus(), 4);
//! let mut tokens = Vec::new();
//! while let Some(item) = source.next()? {
//!     match item {
//!         Item::Begin(head) => assert_eq!(&*head.id, "chr1"),
//!         Item::Tokens(block) => tokens.extend(block),
//!         Item::Samples(_) => {}
//!         Item::End(tail) => assert_eq!((tail.bases, tail.soft_masked), (6, 2)),
//!     }
//! }
//! assert_eq!(tokens, [7, 8, 9, 10, 11, 11]);
//! # Ok::<(), mseq_source::Error>(())
//! ```

mod audio;
mod bed;
mod bytes_at;
mod count;
mod count_side_by_side;
mod decompress;
mod error;
mod fai;
mod fai_build;
mod fai_check;
mod fasta;
mod fasta_indexed;
#[cfg(test)]
mod fasta_indexed_tests;
mod fastq;
mod fault;
mod filter;
mod format;
mod holds;
mod inputs;
mod lines;
mod reference;
mod reverse;
mod scratch;
mod source;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod strand_tests;
mod table;
#[cfg(test)]
mod tests;
mod tokenize;
mod vcf;
mod walk;

pub use audio::{
    AudioOptions, AudioSource, Channel, CountBy, Loudness, Recording, SampleKind, count_audio, mulaw,
    mulaw_level,
};
pub use bed::{Interval, RegionSet, read_bed};
pub use count::{Counts, count};
pub use error::{AudioError, BedError, Error, IndexError, Result, TableError};
pub use fai::{FaiIndex, FaiRecord, IndexFiles, find_index};
pub use fasta_indexed::IndexedFasta;
pub use filter::{Keep, RecordFilter, Strands};
pub use holds::{Holds, holds};
pub use inputs::{Input, InputSet};
pub use reference::Reference;
pub use reverse::{BasesAt, IndexedRecord, ReverseBases};
pub use scratch::PackedScratch;
pub use source::SequenceSource;
pub use table::{KeptBatch, TABLE_FORMAT, TableFormat, TableOptions, TableSource, table_format};
pub use tokenize::{DnaTokenizer, EncodeCounts, IllegalByte, complement_byte};
pub use vcf::{Allele, VcfError, VcfReader, VcfRecord};
