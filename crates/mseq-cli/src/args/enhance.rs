use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use mseq_core::{DType, DeviceSpec};
use mseq_source::Channel;

use super::{DeveloperArgs, ProgressMode};

/// `mamba-seq enhance`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mamba-seq enhance noisy.wav --model cleanumamba.safetensors -o clean.wav")]
pub(crate) struct EnhanceArgs {
    /// One recording: WAV, FLAC, MP3, Ogg Vorbis or M4A, or - for standard input
    pub(crate) input: String,

    /// WAV file to write, of one channel at the model's sample rate, in the input's sample format (16 bits
    /// where that is lossy) [default: current folder, input stem plus .enhanced.wav]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,

    /// Model directory, or one .safetensors file with its config inside
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) model: String,

    /// Which channel: mix, left, right or a number [default: mix of mono and stereo; of more, it must be
    /// said]
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<Channel>,

    /// What the samples are divided by, and multiplied with afterwards: two-pass (the standard deviation
    /// of the whole file), fixed:STD, none
    #[arg(long, value_name = "HOW", default_value = "two-pass")]
    pub(crate) normalize: Normalize,

    /// Frames a step [default: by model and device]
    #[arg(long, value_name = "N")]
    pub(crate) chunk: Option<NonZeroUsize>,

    /// auto, cpu or cuda:I
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceSpec,

    /// Arithmetic: f32, bf16 or f16 [default: as for embed]
    #[arg(long, value_name = "TYPE", value_parser = arithmetic)]
    pub(crate) dtype: Option<DType>,

    /// Threads of the CPU [default: all cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// A bar on a terminal, JSON lines, or nothing
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: ProgressMode,

    #[command(flatten)]
    pub(crate) developer: DeveloperArgs,
}

fn arithmetic(text: &str) -> Result<DType, String> {
    let found = DType::ALL.into_iter().find(|dtype| dtype.to_string() == text);
    found.ok_or_else(|| format!("'{text}' is not f32, bf16 or f16"))
}

/// `--normalize`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Normalize {
    /// By the standard deviation of the whole recording.
    TwoPass,
    /// By a given one.
    Fixed(f32),
    /// Not at all.
    None,
}

impl FromStr for Normalize {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match (s, s.strip_prefix("fixed:").map(str::parse::<f32>)) {
            ("two-pass", _) => Ok(Self::TwoPass),
            ("none", _) => Ok(Self::None),
            (_, Some(Ok(std))) if std.is_finite() && std > 0.0 => Ok(Self::Fixed(std)),
            _ => Err(format!("'{s}' is not two-pass, fixed:STD (a number above 0) or none")),
        }
    }
}

impl EnhanceArgs {
    /// The input's stem with `.enhanced.wav`, in the current folder.
    pub(crate) fn default_output(input: &Path) -> PathBuf {
        let stem = input.file_stem().unwrap_or(input.as_os_str());
        PathBuf::from(format!("{}.enhanced.wav", stem.to_string_lossy()))
    }

    /// The output that is asked for, or that the input stands for.
    pub(crate) fn named_output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| Self::default_output(Path::new(&self.input)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_positive_deviation_divides() {
        assert_eq!("fixed:0.25".parse(), Ok(Normalize::Fixed(0.25)));
        assert_eq!("two-pass".parse(), Ok(Normalize::TwoPass));
        for bad in ["fixed:0", "fixed:", "fixed:NaN", "fixed:-1", "std", ""] {
            assert!(bad.parse::<Normalize>().is_err(), "{bad}");
        }
    }
}
