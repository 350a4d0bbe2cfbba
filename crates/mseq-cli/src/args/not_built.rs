use clap::Args;

use crate::Failure;

/// Whatever follows a command that is not built yet.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<String>,
}

/// Options of the contract that `embed` does not have yet: named, so that they never pass for
/// something else, and refused.
#[derive(Debug, Args)]
pub(crate) struct NotBuiltOptions {
    #[arg(long, hide = true)]
    regions: Option<String>,
    #[arg(long, hide = true)]
    strand: Option<String>,
    #[arg(long, hide = true)]
    combine_strands: Option<String>,
    #[arg(long, hide = true)]
    add_special_tokens: bool,
    #[arg(long, hide = true)]
    head: Option<String>,
    #[arg(long, hide = true)]
    mask_stride: Option<String>,
    #[arg(long, hide = true)]
    channel: Option<String>,
    #[arg(long, hide = true)]
    normalize: Option<String>,
}

impl NotBuiltOptions {
    /// # Errors
    /// When one of them was given with a value other than its default.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        let given = |v: &Option<String>, default: &str| v.as_ref().is_some_and(|v| v != default);
        let options = [
            ("--regions", self.regions.is_some()),
            ("--strand", given(&self.strand, "forward")),
            ("--combine-strands", self.combine_strands.is_some()),
            ("--add-special-tokens", self.add_special_tokens),
            ("--head", self.head.is_some()),
            ("--mask-stride", self.mask_stride.is_some()),
            ("--channel", self.channel.is_some()),
            ("--normalize", self.normalize.is_some()),
        ];
        match options.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::not_built(name)),
            None => Ok(()),
        }
    }
}
