use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mseq_core::{DType, DeviceSpec};

use super::job::DTypeArg;
use super::{DeveloperArgs, OnBadRecord, ProgressMode};
use crate::Failure;

/// Options of `mamba-seq variants`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mamba-seq variants calls.vcf.gz --reference genome.fa\n  \
                  mamba-seq variants calls.vcf --reference genome.fa --strand both -o effects.vcf")]
pub(crate) struct VariantsArgs {
    /// Variants: VCF, plain, gzip or BGZF, records of a contig together; - for standard input
    #[arg(value_name = "VCF")]
    pub(crate) vcf: PathBuf,

    /// FASTA that the variants were called on, plain, gzip or BGZF; read by its index where it has one
    #[arg(long, value_name = "FA")]
    pub(crate) reference: PathBuf,

    /// Bases behind the allele, in reading direction, that are scored with it
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub(crate) window: u64,

    /// Strand that is read
    #[arg(long, value_enum, default_value_t = VariantStrand::Forward)]
    pub(crate) strand: VariantStrand,

    /// A record that can't be scored: fail, or skip and count it
    #[arg(long, value_enum, default_value_t = OnBadRecord::Fail)]
    pub(crate) on_bad_record: OnBadRecord,

    /// .parquet, or .vcf or .vcf.gz (BGZF) for an annotated copy [default: current folder, the VCF's stem
    /// plus .variants.parquet]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,

    /// Built-in name or directory
    #[arg(long, value_name = "NAME|DIR", default_value_t = mseq_data::default_dna().name.to_owned())]
    pub(crate) model: String,

    /// auto, cpu, cuda or cuda:I
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceSpec,

    /// Arithmetic [default: f32, on CUDA too: bf16 is off by as much as small effects are]
    #[arg(long, value_enum)]
    dtype: Option<DTypeArg>,

    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,

    /// Tokens an engine step [default: by the model's size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub(crate) chunk: Option<u64>,

    /// Go on from the checkpoint of an interrupted run of the same job
    #[arg(long)]
    pub(crate) resume: bool,

    /// Check the records, print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// A bar on a terminal, JSON lines, or nothing
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: ProgressMode,

    #[arg(long, hide = true)]
    shard: Option<String>,
    #[command(flatten)]
    pub(crate) developer: DeveloperArgs,
}

/// Strands that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantStrand {
    /// As the reference has it
    Forward,
    /// Its reverse complement: the context is what lies right of the variant
    Reverse,
    /// A row for each
    Both,
}

impl VariantsArgs {
    /// # Errors
    /// For options of other commands that could be meant.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        match &self.shard {
            None => Ok(()),
            Some(_) => Err(Failure::Usage(
                "--shard: `variants` has none; give a part of the VCF, such as one contig (bcftools view -r)"
                    .into(),
            )),
        }
    }

    /// The arithmetic that was asked for.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype.map_or(DType::F32, DTypeArg::dtype)
    }
}

impl VariantsArgs {
    /// The output that is asked for, else the input's stem with `.variants.parquet` in the current folder; `None`
    /// for standard input.
    pub(crate) fn named_output(&self) -> Option<PathBuf> {
        if self.output.is_some() {
            return self.output.clone();
        }
        let name = self.vcf.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = [".vcf.gz", ".vcf.bgz", ".vcf"].iter().find_map(|end| name.strip_suffix(end));
        let stem = stem.unwrap_or(&name);
        (!stem.is_empty() && stem != "-").then(|| PathBuf::from(format!("{stem}.variants.parquet")))
    }
}
