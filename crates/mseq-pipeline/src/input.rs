use mseq_core::Item;
use mseq_sink::KeptRows;
use mseq_source::{AudioSource, Error, SequenceSource, TableSource};

/// Where records come from.
pub enum Input {
    /// FASTA and FASTQ.
    Sequences(Box<SequenceSource>),
    /// CSV, TSV and Parquet: a record a row.
    Table(Box<TableSource>),
    /// Recordings.
    Audio(Box<AudioSource>),
}

impl Input {
    /// Decodes so many recordings at once, which changes nothing but the speed. Text is faster than a device
    /// as it is.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        match self {
            Self::Audio(audio) => Self::Audio(Box::new(audio.with_threads(threads))),
            text => text,
        }
    }

    /// The next step of the stream, `None` at its end.
    ///
    /// # Errors
    /// What reading finds.
    #[expect(clippy::should_implement_trait, reason = "an iterator of Result<Option> reads worse")]
    pub fn next(&mut self) -> Result<Option<Item>, Error> {
        match self {
            Self::Sequences(source) => source.next(),
            Self::Table(table) => table.next(),
            Self::Audio(audio) => audio.next(),
        }
    }

    /// The kept columns of the record begun last and of some behind it, where an earlier call did not
    /// give them.
    pub(crate) fn take_kept(&mut self) -> Result<Option<KeptRows>, Error> {
        match self {
            Self::Sequences(_) | Self::Audio(_) => Ok(None),
            Self::Table(table) => {
                Ok(table.take_kept()?.map(|kept| KeptRows::new(kept.first_record, kept.batch)))
            }
        }
    }

    /// Bases given so far.
    pub(crate) fn bases_read(&self) -> u64 {
        match self {
            Self::Sequences(source) => source.bases_read(),
            Self::Table(table) => table.bases_read(),
            Self::Audio(audio) => audio.samples_read(),
        }
    }

    /// Bytes read so far, as stored; 0 for a table, which does not count them.
    pub(crate) fn bytes_done(&self) -> u64 {
        match self {
            Self::Sequences(source) => source.bytes_done(),
            Self::Audio(audio) => audio.bytes_done(),
            Self::Table(_) => 0,
        }
    }
}
