use clap::Subcommand;

use super::Anything;

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
    /// Runs a model whole and in ragged chunks, and compares the bits
    Verify {
        /// Built-in name or directory
        #[arg(value_name = "NAME|DIR")]
        model: String,
        /// Tokens to run
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
        tokens: u32,
    },
    /// Not built yet: pickled or original layouts to our directory
    #[command(hide = true)]
    Convert(Anything),
}
