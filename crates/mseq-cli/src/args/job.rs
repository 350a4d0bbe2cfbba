use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use mseq_core::{
    DType, DeviceSpec, Extent, Layer, Pool, SequenceFormat, SoundWindows, WindowLength, Windows,
};
use mseq_engine::{AudioConfig, Context};
use mseq_model::{Checkpoint, Encoding};
use mseq_pipeline::Output;
use mseq_source::{AudioOptions, Channel, Loudness, Strands};

use super::{
    Columns, DeveloperArgs, InputPlan, Keep, MemorySize, NotBuiltOptions, ProgressMode, Reading, Task,
    keep_apart,
};
use crate::Failure;

/// What `embed`, `score` and `classify` have in common.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct JobArgs {
    /// FASTA, FASTQ, or a table (CSV, TSV, Parquet), plain or gzip; WAV, FLAC, MP3, Ogg Vorbis or M4A
    /// for a model of audio: files, directories, globs, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<String>,

    /// File to write; - writes an Arrow IPC stream to standard output [default: input stem with
    /// .embeddings.parquet (.scores., .classes.), in the current folder]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Built-in model, or a directory with config.json and *.safetensors, or one such file that holds
    /// its config [default: mamba-dna-1m; mamba-audio-2m for recordings]
    #[arg(long, value_name = "NAME|DIR|FILE")]
    model: Option<String>,

    /// Bases a row, or `record` for one row a record; of audio, samples of the file or a time (500ms)
    /// [default: 1000; record for FASTQ; 1s for audio]
    #[arg(long, value_name = "N")]
    window: Option<Extent>,

    /// Bases, samples or time from one window's start to the next [default: the window]
    #[arg(long, value_name = "S")]
    stride: Option<Extent>,

    /// Which channel of a recording: mix, left, right or a number [default: mix of mono and stereo;
    /// of more, it must be said]
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<Channel>,

    /// What samples of a recording are divided by: two-pass, fixed:STD or none [default: two-pass for
    /// CleanUMamba, else none]
    #[arg(long, value_name = "HOW")]
    normalize: Option<super::Normalize>,

    /// Rows of the intervals of this BED file only, with all that lies before them as context
    #[arg(long, value_name = "BED")]
    regions: Option<PathBuf>,

    /// Which strands to read; rows of the reverse strand keep the coordinates of the forward one
    #[arg(long, value_enum, default_value_t)]
    strand: StrandArg,

    /// With --strand both: one row a window, the mean of its strands
    #[arg(long, value_enum)]
    combine_strands: Option<CombineArg>,

    /// Run the model on pieces of N tokens, or on whole records [default: the model's own, else
    /// whole]
    #[arg(long, value_name = "whole|N")]
    context: Option<String>,

    /// Tokens at the start of each piece but the first that only warm the state up
    #[arg(long, value_name = "M", default_value_t = 0)]
    overlap: u64,

    /// Share I of N of the records, balanced by length; `mamba-seq merge` joins the outputs
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,

    /// What to do with a record that holds an illegal byte
    #[arg(long, value_enum, default_value_t)]
    pub(crate) on_bad_record: OnBadRecord,

    /// auto, cpu, cuda, cuda:0,1 or cuda:all
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceSpec,

    /// Arithmetic [default: f32 on the CPU, which has no other; bf16 on CUDA cards that have it]
    #[arg(long, value_enum)]
    dtype: Option<DTypeArg>,

    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,

    /// Tokens an engine step [default: by the model's size]; never changes a row
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub(crate) chunk: Option<u64>,

    /// Bytes of buffers beyond the weights [default: 128MiB; of a CUDA device 80 % of its memory]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<MemorySize>,

    /// Column of a table that holds the sequences [default: sequence, else seq]
    #[arg(long, value_name = "COL")]
    sequence_column: Option<String>,

    /// Column of a table that holds the record ids [default: the 0-based row number]
    #[arg(long, value_name = "COL")]
    id_column: Option<String>,

    /// Columns of a table to carry through to the output, as input.COL
    #[arg(long, value_name = "COL,...")]
    pub(crate) keep: Option<Keep>,

    /// Go into sub-directories
    #[arg(long)]
    recursive: bool,

    /// Go on from the checkpoint of an interrupted run of the same job
    #[arg(long)]
    pub(crate) resume: bool,

    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Write more than 100 GB without asking
    #[arg(long)]
    pub(crate) yes: bool,

    /// A bar on a terminal, JSON lines, or nothing
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: ProgressMode,

    #[command(flatten)]
    pub(crate) developer: DeveloperArgs,

    #[command(flatten)]
    not_built: NotBuiltOptions,
}

/// `--on-bad-record`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnBadRecord {
    /// The job fails
    #[default]
    Fail,
    /// It gives no row, and is counted
    Skip,
}

/// `I/N` of `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// 1-based.
    pub(crate) index: u32,
    pub(crate) of: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let parts = s.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if 1 <= index && index <= of => Ok(Self { index, of }),
            _ => Err("use I/N, with I from 1 to N".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DTypeArg {
    F32,
    Bf16,
    F16,
}

impl DTypeArg {
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::Bf16,
            Self::F16 => DType::F16,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum StrandArg {
    #[default]
    Forward,
    Reverse,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CombineArg {
    Mean,
}

/// A job, checked as far as the command line alone allows.
#[derive(Debug)]
pub(crate) struct JobPlan {
    pub(crate) inputs: InputPlan,
    pub(crate) output: Output,
    pub(crate) reading: Reading,
    /// Whether the strands of a window become one row.
    pub(crate) combine: bool,
    pub(crate) task: Task,
    pub(crate) pool: Pool,
    pub(crate) layer: Layer,
    /// Of a model of audio.
    pub(crate) audio: Option<AudioPlan>,
    window: Option<WindowLength>,
    stride: Option<NonZeroU64>,
    /// `None`: as the model says. `Some(None)`: whole records.
    context: Option<Option<u64>>,
    overlap: u64,
    pub(crate) threads: usize,
}

/// How recordings are read and cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AudioPlan {
    pub(crate) options: AudioOptions,
    pub(crate) config: AudioConfig,
    normalize: super::Normalize,
}

impl AudioPlan {
    /// As metadata records it.
    pub(crate) fn metadata(&self) -> [(&'static str, String); 3] {
        let normalize = match self.normalize {
            super::Normalize::TwoPass => "two-pass".to_owned(),
            super::Normalize::Fixed(std) => format!("fixed:{std}"),
            super::Normalize::None => "none".to_owned(),
        };
        let channel = self.options.channel.unwrap_or(Channel::Mix).to_string();
        [("channel", channel), ("normalize", normalize), ("sample_rate", self.options.model_rate.to_string())]
    }
}

impl JobPlan {
    /// Windows of a record of that format.
    pub(crate) fn windows(&self, format: SequenceFormat) -> Windows {
        let length = self.window.unwrap_or(match (format, NonZeroU64::new(1000)) {
            (SequenceFormat::Fasta, Some(n)) => WindowLength::Bases(n),
            _ => WindowLength::Record,
        });
        Windows::new(length, self.stride)
    }

    /// Whether the user said what pieces the model sees.
    pub(crate) fn context_is_given(&self) -> bool {
        self.context.is_some()
    }

    /// Pieces that the model sees, given what it asks for itself.
    ///
    /// # Errors
    /// When the overlap leaves nothing of a piece, or there are no pieces.
    pub(crate) fn context(&self, of_model: Option<u64>) -> Result<Option<Context>, Failure> {
        let Some(tokens) = self.context.unwrap_or(of_model) else {
            return match self.overlap {
                0 => Ok(None),
                _ => Err(Failure::Usage("--overlap needs --context N: whole records have no pieces".into())),
            };
        };
        // The overlap of a piece is kept in memory.
        if self.overlap >= tokens || self.overlap > 1 << 24 {
            return Err(Failure::Usage(format!(
                "--overlap {}: use less than the {tokens} tokens of --context, and at most {}",
                self.overlap,
                1 << 24
            )));
        }
        Ok(Some(Context { tokens, overlap: self.overlap }))
    }

    /// Window and stride as metadata records them, given the format of the first record.
    pub(crate) fn window_text(&self, first: SequenceFormat) -> (String, String) {
        if let Some(audio) = &self.audio {
            return audio.config.windows.text();
        }
        let text = |format| {
            let w = self.windows(format);
            let say = |n: Option<u64>| n.map_or("record".to_owned(), |n| n.to_string());
            (say(w.length()), say(w.stride()))
        };
        let (fasta, fastq) = (text(SequenceFormat::Fasta), text(SequenceFormat::Fastq));
        if self.inputs.names().len() > 1 && first == SequenceFormat::Fasta && fasta != fastq {
            let both = |a: String, b: String| format!("{a} (FASTA), {b} (FASTQ)");
            return (both(fasta.0, fastq.0), both(fasta.1, fastq.1));
        }
        if first == SequenceFormat::Fasta { fasta } else { fastq }
    }
}

impl JobArgs {
    /// The model that was asked for, else the built-in one for what the inputs hold.
    ///
    /// # Errors
    /// When some hold letters and some sound.
    pub(crate) fn model(&self) -> Result<&str, Failure> {
        if let Some(model) = &self.model {
            return Ok(model);
        }
        // Standard input without an output is wrong usage: that is said without waiting for its first bytes.
        let waits = self.output.is_none() && self.inputs.iter().any(|input| input == "-");
        let holds = if waits { None } else { mseq_source::holds(&self.inputs, self.recursive)? };
        Ok(match holds {
            Some(mseq_source::Holds::Sound) => mseq_data::default_audio().name,
            _ => mseq_data::default_dna().name,
        })
    }

    /// The arithmetic that was asked for.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype.map(DTypeArg::dtype)
    }

    /// Checks the arguments and looks the inputs and the output folder up.
    ///
    /// # Errors
    /// Exit 2 for what can't be meant, exit 1 for what is not there.
    pub(crate) fn resolve(
        &self,
        checkpoint: &Checkpoint,
        task: Task,
        pool: Pool,
        layer: Layer,
    ) -> Result<JobPlan, Failure> {
        self.not_built.refuse()?;
        if self.window == Some(Extent::Record) && self.stride.is_some() {
            return Err(Failure::Usage("--stride has no meaning with --window record; leave one out".into()));
        }
        let context = match self.context.as_deref() {
            None => None,
            Some("whole") => Some(None),
            Some(n) => match n.parse::<u64>() {
                Ok(n) if n > 0 => Some(Some(n)),
                _ => {
                    return Err(Failure::Usage(format!(
                        "--context '{n}': use whole, or a number of tokens from 1"
                    )));
                }
            },
        };
        if self.resume && self.output.as_deref().is_some_and(|o| o.as_os_str() == "-") {
            return Err(Failure::Usage(
                "--resume needs an output file; a stream can't be gone on with".into(),
            ));
        }
        let columns = Columns {
            sequence: self.sequence_column.clone(),
            id: self.id_column.clone(),
            keep: self.keep.as_ref().map_or(Vec::new(), |keep| keep.0.clone()),
        };
        let audio = self.audio(checkpoint)?;
        let (inputs, window, stride) = match &audio {
            Some(audio) => {
                let options = audio.options;
                (InputPlan::audio(&self.inputs, self.recursive, &columns, options)?, None, None)
            }
            None => {
                let (window, stride) = self.in_bases()?;
                (InputPlan::resolve(&self.inputs, self.recursive, columns)?, window, stride)
            }
        };
        if inputs.reads_once() {
            let counts = [
                (self.shard.is_some(), "--shard"),
                (self.on_bad_record == OnBadRecord::Skip, "--on-bad-record skip"),
            ];
            if let Some((_, option)) = counts.iter().find(|(given, _)| *given) {
                return Err(Failure::Usage(format!(
                    "{option} reads the input twice, and a pipe can't be; give a file"
                )));
            }
        }
        if self.combine_strands.is_some() && self.strand != StrandArg::Both {
            return Err(Failure::Usage(
                "--combine-strands needs --strand both: there is nothing to combine".into(),
            ));
        }
        if self.regions.is_some() && matches!(inputs, InputPlan::Table { .. }) {
            return Err(Failure::Usage(
                "--regions needs FASTA or FASTQ: the rows of a table are no contigs".into(),
            ));
        }
        let output = self.resolve_output(&inputs, &task)?;
        let strands = match self.strand {
            StrandArg::Forward => Strands::Forward,
            StrandArg::Reverse => Strands::Reverse,
            StrandArg::Both => Strands::Both,
        };
        let reading = Reading::open(strands, self.regions.as_deref())?;
        let plan = JobPlan {
            inputs,
            output,
            reading,
            combine: self.combine_strands.is_some(),
            task,
            pool,
            layer,
            audio,
            window,
            stride,
            context,
            overlap: self.overlap,
            threads: self.threads.map_or(0, |n| n as usize),
        };
        if let Output::Track(path, _) = &plan.output {
            self.check_track(&plan, path)?;
        }
        Ok(plan)
    }

    /// Window and stride of DNA.
    fn in_bases(&self) -> Result<(Option<WindowLength>, Option<NonZeroU64>), Failure> {
        if self.channel.is_some() || self.normalize.is_some() {
            return Err(Failure::Usage(
                "--channel and --normalize are for audio, and the model reads DNA".into(),
            ));
        }
        let window = match self.window {
            None => None,
            Some(Extent::Record) => Some(WindowLength::Record),
            Some(Extent::Samples(n)) => Some(WindowLength::Bases(n)),
            Some(Extent::Nanos(_)) => {
                return Err(Failure::Usage("--window: a time is for audio, and the model reads DNA".into()));
            }
        };
        match self.stride {
            None => Ok((window, None)),
            Some(Extent::Samples(n)) => Ok((window, Some(n))),
            Some(_) => Err(Failure::Usage("--stride: use a number of bases from 1".into())),
        }
    }

    /// How a model of audio reads; `None` for one of DNA.
    fn audio(&self, checkpoint: &Checkpoint) -> Result<Option<AudioPlan>, Failure> {
        let Some(audio) = checkpoint.audio else { return Ok(None) };
        let refused = [
            (self.regions.is_some(), "--regions", "intervals are for DNA; use --window"),
            (self.strand != StrandArg::Forward, "--strand", "a recording has no strands"),
            (self.on_bad_record == OnBadRecord::Skip, "--on-bad-record", "a damaged recording fails the run"),
        ];
        if let Some((_, option, why)) = refused.iter().find(|(given, ..)| *given) {
            return Err(Failure::Usage(format!("{option}: the model reads audio, and {why}")));
        }
        if self.stride == Some(Extent::Record) {
            return Err(Failure::Usage("--stride: use a number of samples or a time".into()));
        }
        let second = NonZeroU64::new(1_000_000_000).map_or(Extent::Record, Extent::Nanos);
        let windows = SoundWindows::new(self.window.unwrap_or(second), self.stride).ok_or_else(|| {
            Failure::Usage("--window and --stride: give both in samples, or both as times".into())
        })?;
        let front = checkpoint.front();
        let broken = || Failure::Run(format!("{}: has a sample rate or hop of 0", checkpoint.name()));
        let hop = u32::try_from(front.map_or(1, |front| front.hop)).ok().and_then(NonZeroU32::new);
        let normalize = self.normalize.unwrap_or(match audio.encoding {
            Encoding::CleanUMamba => super::Normalize::TwoPass,
            _ => super::Normalize::None,
        });
        let options = AudioOptions {
            channel: self.channel,
            model_rate: NonZeroU32::new(audio.sample_rate).ok_or_else(broken)?,
            hop: hop.ok_or_else(broken)?,
            mulaw: audio.encoding == Encoding::Mulaw8,
            loudness: match normalize {
                super::Normalize::TwoPass => Loudness::TwoPass,
                super::Normalize::Fixed(std) => Loudness::Fixed(std),
                super::Normalize::None => Loudness::None,
            },
        };
        Ok(Some(AudioPlan { options, config: AudioConfig { front, windows }, normalize }))
    }

    /// The file that the command line names as output, or that its one input stands for.
    pub(crate) fn named_output(&self, stem: &str) -> Option<PathBuf> {
        match (&self.output, self.inputs.as_slice()) {
            (Some(path), _) => (path.as_os_str() != "-").then(|| path.clone()),
            (None, [one]) if one != "-" => Some(default_output(Path::new(one), stem, self.shard)),
            _ => None,
        }
    }

    fn resolve_output(&self, inputs: &InputPlan, task: &Task) -> Result<Output, Failure> {
        let paths = inputs.paths();
        let path = match &self.output {
            Some(path) if path.as_os_str() == "-" => return Ok(Output::Stdout),
            Some(path) => path.clone(),
            None => match paths.as_slice() {
                [Some(one)] => default_output(one, task.stem(), self.shard),
                [None] => {
                    return Err(Failure::Usage(
                        "standard input needs -o PATH, or -o - for an Arrow stream".into(),
                    ));
                }
                all => {
                    return Err(Failure::Usage(format!(
                        "{} inputs need -o PATH, or -o - for an Arrow stream",
                        all.len()
                    )));
                }
            },
        };
        let others = self.regions.as_deref().into_iter().chain(task.head());
        let model = self.model.as_deref().map(Path::new);
        let reads = paths.iter().flatten().map(PathBuf::as_path).chain(others).chain(model);
        keep_apart("-o", &path, reads)?;
        mseq_sink::check_output(&path)?;
        Ok(match task.track(&path) {
            Some(track) => Output::Track(path, track),
            None => Output::Parquet(path),
        })
    }
}

/// `dir/genome.fa.gz` gives `genome.embeddings.parquet` in the current folder.
fn default_output(input: &Path, what: &str, shard: Option<Shard>) -> PathBuf {
    const SEQUENCE: [&str; 20] = [
        "fa", "fasta", "fna", "ffn", "frn", "fas", "mfa", "fq", "fastq", "txt", "csv", "tsv", "parquet",
        "wav", "flac", "mp3", "ogg", "oga", "m4a", "aac",
    ];
    let name = input.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let strip = |name: &str, endings: &[&str]| {
        let (stem, ending) = name.rsplit_once('.')?;
        (!stem.is_empty() && endings.iter().any(|e| ending.eq_ignore_ascii_case(e))).then(|| stem.to_owned())
    };
    let name = strip(&name, &["gz", "bgz", "bgzf"]).unwrap_or(name);
    let stem = strip(&name, &SEQUENCE).unwrap_or(name);
    let shard = shard.map_or(String::new(), |s| format!(".{}-of-{}", s.index, s.of));
    PathBuf::from(format!("{stem}.{what}{shard}.parquet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_loses_every_known_ending() {
        for (input, output) in [
            ("x/genome.fa", "genome.embeddings.parquet"),
            ("genome.v2.fa.gz", "genome.v2.embeddings.parquet"),
            ("reads.FASTQ", "reads.embeddings.parquet"),
            ("plain", "plain.embeddings.parquet"),
            (".fa", ".fa.embeddings.parquet"),
        ] {
            assert_eq!(
                default_output(Path::new(input), "embeddings", None),
                PathBuf::from(output),
                "{input}"
            );
        }
    }
}
