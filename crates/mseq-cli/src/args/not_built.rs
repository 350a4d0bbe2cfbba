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
    add_special_tokens: bool,
    #[arg(long, hide = true)]
    mask_stride: Option<String>,
}

impl NotBuiltOptions {
    /// # Errors
    /// When one of them was given.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        let options = [
            ("--add-special-tokens", self.add_special_tokens),
            ("--mask-stride", self.mask_stride.is_some()),
        ];
        match options.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::not_built(name)),
            None => Ok(()),
        }
    }
}
