use std::fmt;
use std::str::FromStr;

use clap::Args;
use mseq_core::{DType, DeviceSpec};
use mseq_model::MambaShape;

use super::job::DTypeArg;
use super::{DeveloperArgs, MemorySize};

/// Most parameters of a random model: 8 GiB of them.
const MAX_PARAMETERS: usize = 1 << 31;

/// Options of `mamba-seq bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mamba-seq bench\n  mamba-seq bench --shape 768x24 --device cuda --json\n  \
                  mamba-seq bench --generate --shape 768x24 --vocab 50280 --device cuda"
)]
pub(crate) struct BenchArgs {
    /// Built-in name or directory
    #[arg(long, value_name = "NAME|DIR", default_value_t = mseq_data::default_dna().name.to_owned())]
    pub(crate) model: String,

    /// A random model of this width and depth, such as 256x8, in place of --model
    #[arg(long, value_name = "D_MODELxLAYERS", conflicts_with = "model")]
    pub(crate) shape: Option<BenchShape>,

    /// auto, cpu, cuda or cuda:I
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceSpec,

    /// Arithmetic [default: f32 on the CPU, which has no other; bf16 on CUDA cards that have it]
    #[arg(long, value_enum)]
    dtype: Option<DTypeArg>,

    /// Tokens of a sequence [default: 1048576 on CUDA, 16384 on the CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) tokens: Option<u64>,

    /// Sequences of that many tokens; those that fit into a step together run side by side
    #[arg(long, value_name = "L", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) lanes: u64,

    /// Tokens an engine step [default: as `embed` takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub(crate) chunk: Option<u64>,

    /// Bytes of buffers beyond the weights [default: 128MiB; of a CUDA device 80 % of its memory]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<MemorySize>,

    /// Runs, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) repeats: u64,

    /// Threads of the CPU engine [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,

    /// Measure generation: prompts read, then tokens drawn one step at a time
    #[arg(long)]
    pub(crate) generate: bool,

    /// Tokens of a prompt
    #[arg(long, value_name = "N", default_value_t = 2048, requires = "generate", value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub(crate) prompt_tokens: u64,

    /// Tokens to draw
    #[arg(long, value_name = "N", default_value_t = 128, requires = "generate", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) new_tokens: u64,

    /// Sequences that run at once, one size after the other
    #[arg(long, value_name = "N,..", default_values_t = [64, 128], value_delimiter = ',', requires = "generate", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: Vec<u32>,

    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0, requires = "generate", value_parser = temperature)]
    pub(crate) temperature: f32,

    /// Draw only from the most likely tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "generate", value_parser = share)]
    pub(crate) top_p: f32,

    /// Rows of the embedding and the head of a random model
    #[arg(long, value_name = "N", default_value_t = 8, requires = "shape", value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    pub(crate) vocab: u32,

    /// States a channel of a random model
    #[arg(long, value_name = "N", default_value_t = 16, requires = "shape", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) d_state: u32,

    /// Taps of the convolution of a random model
    #[arg(long, value_name = "N", default_value_t = 4, requires = "shape", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) d_conv: u32,

    /// Print JSON, not a table
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) developer: DeveloperArgs,
}

fn temperature(text: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|v| v.is_finite() && *v >= 0.0);
    value.ok_or_else(|| format!("'{text}' is not a number of 0 or more"))
}

fn share(text: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|v| *v > 0.0 && *v <= 1.0);
    value.ok_or_else(|| format!("'{text}' is not above 0 and up to 1"))
}

impl BenchArgs {
    /// The arithmetic that was asked for.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype.map(DTypeArg::dtype)
    }
}

/// Width and depth of a random model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BenchShape {
    pub(crate) d_model: usize,
    pub(crate) n_layer: usize,
}

impl FromStr for BenchShape {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let numbers = s.split_once('x').and_then(|(d, n)| Some((d.parse().ok()?, n.parse().ok()?)));
        let Some((d_model @ 1..=65_536, n_layer @ 1..=4096)) = numbers else {
            return Err(format!("'{s}' is not a width and a number of layers, such as 256x8"));
        };
        let sizes = MambaShape {
            n_layer,
            d_model,
            d_inner: 2 * d_model,
            d_state: 16,
            d_conv: 4,
            dt_rank: d_model.div_ceil(16),
            vocab: 8,
            front: 0,
        };
        if sizes.parameters() > MAX_PARAMETERS {
            return Err(format!(
                "a random model of {s} has {} parameters, the most is 2^31",
                sizes.parameters()
            ));
        }
        Ok(Self { d_model, n_layer })
    }
}

impl fmt::Display for BenchShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.d_model, self.n_layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_two_numbers() {
        assert_eq!("256x8".parse(), Ok(BenchShape { d_model: 256, n_layer: 8 }));
        for bad in ["", "256", "x8", "256x", "0x8", "256x0", "256x8x2", "-1x2", "65536x4096", "99999999999x1"]
        {
            assert!(bad.parse::<BenchShape>().is_err(), "{bad}");
        }
    }
}
