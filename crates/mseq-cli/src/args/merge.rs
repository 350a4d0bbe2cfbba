use std::path::{Path, PathBuf};

use clap::Args;

use crate::Failure;

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Every file that `embed --shard` wrote for one job, in any order
    #[arg(required = true, value_name = "SHARD")]
    pub(crate) shards: Vec<PathBuf>,

    /// Parquet file to write
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: PathBuf,
}

impl MergeArgs {
    /// Checks what the command line and the names of the files tell.
    ///
    /// # Errors
    /// Exit 2 for a file that is given twice or is the output, exit 1 for a missing output folder.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.output.as_os_str() == "-" {
            return Err(Failure::Usage("merge writes a file and no stream; name one with -o".into()));
        }
        // A file that is not there has no other name, and fails when it is opened.
        let real = |path: &Path| path.canonicalize().ok();
        let output = real(&self.output);
        let mut seen = std::collections::HashMap::new();
        for shard in &self.shards {
            let Some(path) = real(shard) else { continue };
            if output.as_ref() == Some(&path) {
                return Err(Failure::Usage(format!(
                    "the output {} is the shard {}; choose another -o",
                    self.output.display(),
                    shard.display()
                )));
            }
            if let Some(other) = seen.insert(path, shard) {
                return Err(Failure::Usage(format!(
                    "{} and {} are the same file; give each shard once",
                    other.display(),
                    shard.display()
                )));
            }
        }
        Ok(mseq_sink::check_output(&self.output)?)
    }
}
