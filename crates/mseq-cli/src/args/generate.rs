use std::path::PathBuf;

use clap::Args;
use mseq_core::{DType, DeviceSpec};

use super::DeveloperArgs;
use super::job::DTypeArg;
use crate::Failure;

/// Options of `mamba-seq generate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mamba-seq generate --prompt-text ACGTACGT --tokens 500\n  \
                  mamba-seq generate --prompt genes.fa --samples 4 --top-p 0.9 -o out.fa\n  \
                  mamba-seq generate --prompt-text ACGT --tokens 1000 --save-state s.safetensors -o 1.fa\n  \
                  mamba-seq generate --from-state s.safetensors --tokens 1000 -o 2.fa")]
pub(crate) struct GenerateArgs {
    /// FASTA or FASTQ, plain or gzip: each record is a prompt; for a model of mu-law tokens a recording
    #[arg(long, value_name = "FILE", required_unless_present_any = ["prompt_text", "from_state"],
          conflicts_with_all = ["prompt_text", "from_state"])]
    pub(crate) prompt: Option<String>,

    /// Letters of one prompt
    #[arg(long, value_name = "LETTERS", conflicts_with = "from_state")]
    pub(crate) prompt_text: Option<String>,

    /// Go on from a state that --save-state wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) from_state: Option<PathBuf>,

    /// Save the state behind the last token, also when a signal ends the run early: what was drawn until
    /// then is in OUTPUT.partial
    #[arg(long, value_name = "FILE")]
    pub(crate) save_state: Option<PathBuf>,

    /// Tokens to draw for each sequence
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(crate) tokens: u64,

    /// Sequences for each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) samples: u32,

    /// Most sequences that run at once; never changes a letter on the CPU
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,

    /// Logits are divided by it; 0 always takes the most likely token [default: 1, or that of --from-state]
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,

    /// Draw only from the K most likely tokens [default: all, or that of --from-state]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) top_k: Option<u32>,

    /// Draw only from the most likely tokens that together have probability P [default: 1, or that of
    /// --from-state]
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,

    /// Seed of the random numbers [default: 0, or that of --from-state]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Where the FASTA goes [default: standard output]; WAV from a model of audio, numbered if several
    #[arg(short, long, value_name = "PATH", default_value = "-")]
    pub(crate) output: PathBuf,

    /// Built-in name or directory [default: mamba-dna-1m]
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) model: Option<String>,

    /// auto, cpu, cuda or cuda:I
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceSpec,

    /// Arithmetic [default: f32 on the CPU, which has no other; bf16 on CUDA cards that have it]
    #[arg(long, value_enum)]
    dtype: Option<DTypeArg>,

    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,

    /// Tokens an engine step of the prompts [default: by the model's size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub(crate) chunk: Option<u64>,

    #[command(flatten)]
    pub(crate) developer: DeveloperArgs,
}

impl GenerateArgs {
    /// The model that was asked for, else the built-in one.
    ///
    /// # Errors
    /// When the prompt is sound: no built-in model predicts samples.
    pub(crate) fn model(&self) -> Result<&str, Failure> {
        if let Some(model) = &self.model {
            return Ok(model);
        }
        let prompt: Vec<String> = self.prompt.iter().cloned().collect();
        match mseq_source::holds(&prompt, false)? {
            Some(mseq_source::Holds::Sound) => Err(Failure::Usage(format!(
                "{}: is audio, and no built-in model generates it ({} only embeds); give a model of mulaw8 tokens with --model",
                prompt.join(" "),
                mseq_data::default_audio().name
            ))),
            _ => Ok(mseq_data::default_dna().name),
        }
    }

    /// The arithmetic that was asked for.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype.map(DTypeArg::dtype)
    }
}
