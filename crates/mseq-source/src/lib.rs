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
//!         Item::End(tail) => assert_eq!((tail.bases, tail.soft_masked), (6, 2)),
//!     }
//! }
//! assert_eq!(tokens, [7, 8, 9, 10, 11, 11]);
//! # Ok::<(), mseq_source::Error>(())
//! ```

mod count;
mod decompress;
mod error;
mod fasta;
mod fastq;
mod fault;
mod format;
mod inputs;
mod lines;
mod source;
#[cfg(test)]
mod tests;
mod tokenize;
mod walk;

pub use count::{Counts, count};
pub use error::{Error, Result};
pub use inputs::{Input, InputSet};
pub use source::SequenceSource;
pub use tokenize::{DnaTokenizer, EncodeCounts, IllegalByte, complement_byte};
