use std::path::{Path, PathBuf};
use std::sync::Arc;

use mseq_core::{Item, RecordHead, SequenceFormat};
use mseq_pipeline::Input;
use mseq_sink::{Body, RowLayout};
use mseq_source::{
    AudioOptions, AudioSource, CountBy, Counts, DnaTokenizer, InputSet, RecordFilter, SequenceSource,
    TABLE_FORMAT, TableOptions, TableSource, count_audio, table_format,
};

use super::Reading;
use crate::Failure;

/// The input of a run, resolved and not yet read: it may be opened more than once.
#[derive(Debug)]
pub(crate) enum InputPlan {
    Sequences(InputSet),
    Table { names: Vec<String>, columns: Columns, scratch: PathBuf },
    Audio(InputSet, AudioOptions),
}

/// Options that name columns of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) sequence: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) keep: Vec<String>,
}

impl Columns {
    fn any(&self) -> bool {
        self.sequence.is_some() || self.id.is_some() || !self.keep.is_empty()
    }
}

impl InputPlan {
    /// Finds out what the arguments name.
    ///
    /// # Errors
    /// When nothing is there, or tables and sequence files are mixed.
    pub(crate) fn resolve(args: &[String], recursive: bool, columns: Columns) -> Result<Self, Failure> {
        let is_table = |arg: &String| {
            let path = Path::new(arg);
            Ok::<bool, Failure>(path.exists() && table_format(path)?.is_some())
        };
        let mut tables = 0;
        for arg in args {
            tables += usize::from(is_table(arg)?);
        }
        match tables {
            0 if columns.any() => Err(Failure::Usage(
                "--sequence-column, --id-column and --keep are for tables (CSV, TSV, Parquet), and no input is one"
                    .into(),
            )),
            0 => Ok(Self::Sequences(InputSet::resolve(args, recursive)?)),
            n if n < args.len() => Err(Failure::Usage(
                "tables and sequence files in one run; run them one after the other".into(),
            )),
            _ => Ok(Self::Table {
                names: args.to_vec(),
                columns,
                scratch: std::env::temp_dir(),
            }),
        }
    }

    /// Recordings, for a model of audio.
    ///
    /// # Errors
    /// When something else is named, or can't be read as often as needed.
    pub(crate) fn audio(
        args: &[String],
        recursive: bool,
        columns: &Columns,
        options: AudioOptions,
    ) -> Result<Self, Failure> {
        if columns.any() {
            return Err(Failure::Usage(
                "--sequence-column, --id-column and --keep are for tables, and the model reads audio".into(),
            ));
        }
        let plan = Self::Audio(InputSet::resolve_audio(args, recursive)?, options);
        if plan.reads_once() && options.loudness == mseq_source::Loudness::TwoPass {
            return Err(Failure::Usage(
                "--normalize two-pass reads the input twice, and a pipe can't be; use fixed:STD or none"
                    .into(),
            ));
        }
        Ok(plan)
    }

    /// The inputs as the user named them.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Sequences(set) | Self::Audio(set, _) => {
                set.inputs.iter().map(ToString::to_string).collect()
            }
            Self::Table { names, .. } => names.clone(),
        }
    }

    /// Their paths; `None` is standard input.
    pub(crate) fn paths(&self) -> Vec<Option<PathBuf>> {
        match self {
            Self::Sequences(set) | Self::Audio(set, _) => {
                set.inputs.iter().map(|i| i.path().map(Path::to_owned)).collect()
            }
            Self::Table { names, .. } => names.iter().map(|n| Some(n.into())).collect(),
        }
    }

    /// Whether one of them is standard input or a named pipe, and gives its bytes only once.
    pub(crate) fn reads_once(&self) -> bool {
        let pipe = |path: &Path| path.metadata().is_ok_and(|data| !data.is_file() && !data.is_dir());
        self.paths().iter().any(|path| path.as_deref().is_none_or(pipe))
    }

    /// Bytes of all files, where that says something about progress.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Sequences(set) | Self::Audio(set, _) => set.bytes(),
            Self::Table { .. } => None,
        }
    }

    /// Whether columns of a table go along.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self, Self::Table { columns, .. } if !columns.keep.is_empty())
    }

    /// Files of a folder that were passed over.
    pub(crate) fn skipped(&self) -> usize {
        match self {
            Self::Sequences(set) | Self::Audio(set, _) => set.skipped,
            Self::Table { .. } => 0,
        }
    }

    fn table(
        &self,
        tokenizer: DnaTokenizer,
        block: usize,
        with_kept: bool,
    ) -> Result<Option<TableSource>, Failure> {
        let Self::Table { names, columns, scratch } = self else { return Ok(None) };
        let options = TableOptions {
            sequence_column: columns.sequence.clone(),
            id_column: columns.id.clone(),
            keep: if with_kept { columns.keep.clone() } else { Vec::new() },
            scratch_folder: scratch.clone(),
        };
        Ok(Some(TableSource::open(names, options, tokenizer, block)?))
    }

    /// All columns of the output, given those of the command: looks at the header of every table that
    /// columns are kept of.
    ///
    /// # Errors
    /// When a column is missing, cannot be kept, or has not the same type in all tables.
    pub(crate) fn layout(&self, body: Body) -> Result<RowLayout, Failure> {
        if !matches!(self, Self::Table { columns, .. } if !columns.keep.is_empty()) {
            return Ok(body.into());
        }
        Ok(match self.table(DnaTokenizer::caduceus(), 1, true)? {
            Some(table) => RowLayout::new(body, table.kept_columns())?,
            None => body.into(),
        })
    }

    /// The input at its start, less what `filter` leaves out.
    ///
    /// # Errors
    /// When a file can't be opened.
    pub(crate) fn open(
        &self,
        tokenizer: DnaTokenizer,
        block: usize,
        filter: Option<RecordFilter>,
        reading: &Reading,
    ) -> Result<Input, Failure> {
        if let Self::Audio(set, options) = self {
            let source = AudioSource::open(set.clone(), *options, block);
            return Ok(Input::Audio(Box::new(match filter {
                Some(filter) => source.with_filter(filter),
                None => source,
            })));
        }
        if let Self::Sequences(set) = self {
            let mut source = SequenceSource::open(set.clone(), tokenizer, block)?;
            if let Some(filter) = filter {
                source = source.with_filter(filter);
            }
            if let Some(bed) = &reading.bed {
                source = source.with_regions(&bed.path, Arc::clone(&bed.set));
            }
            return Ok(Input::Sequences(Box::new(
                source.with_strands(reading.strands, &std::env::temp_dir()),
            )));
        }
        match self.table(tokenizer, block, true)? {
            Some(table) => Ok(Input::Table(Box::new(match filter {
                Some(filter) => table.with_filter(filter).with_strands(reading.strands),
                None => table.with_strands(reading.strands),
            }))),
            None => Err(Failure::Run("internal: neither sequences nor tables".into())),
        }
    }

    /// Records and bases, by a pass over the input.
    ///
    /// # Errors
    /// What reading finds.
    pub(crate) fn count(&self, by: CountBy) -> Result<Counts, Failure> {
        match self {
            Self::Sequences(set) => Ok(mseq_source::count(set)?),
            Self::Audio(set, options) => Ok(count_audio(set, options.channel, by)?),
            Self::Table { .. } => match self.table(DnaTokenizer::caduceus(), 1 << 16, false)? {
                Some(table) => Ok(table.count()?),
                None => Ok(Counts::default()),
            },
        }
    }

    /// The format of the first record.
    ///
    /// # Errors
    /// What reading it finds.
    pub(crate) fn first_format(&self) -> Result<SequenceFormat, Failure> {
        if matches!(self, Self::Table { .. }) {
            return Ok(TABLE_FORMAT);
        }
        if matches!(self, Self::Audio(..)) {
            return Ok(SequenceFormat::Audio);
        }
        match self.open(DnaTokenizer::caduceus(), 1, None, &Reading::default())?.next()? {
            Some(Item::Begin(RecordHead { format, .. })) => Ok(format),
            _ => Ok(SequenceFormat::Fasta),
        }
    }
}
