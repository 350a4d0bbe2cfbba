use std::path::Path;

use crate::Failure;

/// Fails when the file that `option` names is one of those that the command reads: it would be lost.
///
/// # Errors
/// Exit 2, with both names.
pub(crate) fn keep_apart<'a>(
    option: &str,
    output: &Path,
    reads: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Failure> {
    // A file that is not there has no other name.
    let Ok(written) = output.canonicalize() else { return Ok(()) };
    match reads.into_iter().find(|read| read.canonicalize().is_ok_and(|read| read == written)) {
        Some(read) => Err(Failure::Usage(format!(
            "the output {} is the input {}; choose another {option}",
            output.display(),
            read.display()
        ))),
        None => Ok(()),
    }
}
