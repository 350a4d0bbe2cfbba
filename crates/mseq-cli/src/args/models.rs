use clap::Subcommand;
use mseq_core::DeviceSpec;

use super::job::DTypeArg;
use super::{Anything, DeveloperArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Built-in models
    List,
    /// Sizes, tokens, provenance of a model
    Info {
        /// Built-in name or directory
        #[arg(value_name = "NAME|DIR")]
        model: String,
    },
    /// Runs a model whole and in ragged chunks, and compares: on the CPU the bits, on a CUDA device also
    /// each arithmetic with the CPU's
    Verify {
        /// Built-in name or directory
        #[arg(value_name = "NAME|DIR")]
        model: String,
        /// Tokens to run
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
        tokens: u32,
        /// Where: cpu, or cuda:I
        #[arg(long, default_value = "cpu")]
        device: DeviceSpec,
        /// Arithmetic: f32, bf16 or f16; all that the device has when left out
        #[arg(long, value_enum)]
        dtype: Option<DTypeArg>,
        #[command(flatten)]
        developer: DeveloperArgs,
    },
    /// Not built yet: pickled or original layouts to our directory
    #[command(hide = true)]
    Convert(Anything),
}
