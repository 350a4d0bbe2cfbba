use std::path::PathBuf;

use clap::Args;
use mseq_engine::Place;

use crate::Failure;

/// For those who change mamba-seq: of every command that takes `--device`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DeveloperArgs {
    /// Compile the CUDA sources in this folder (with NVRTC) and run them in place of the built-in kernels
    #[arg(long, value_name = "DIR", help_heading = "Developer options")]
    pub(crate) kernels_from: Option<PathBuf>,
}

impl DeveloperArgs {
    /// A place whose kernels come from where the user wants them.
    ///
    /// # Errors
    /// When the folder does not exist, has no kernel, or the place has no use for it.
    pub(crate) fn at(&self, place: Place) -> Result<Place, Failure> {
        let Some(folder) = &self.kernels_from else { return Ok(place) };
        let shown = folder.display();
        if place.cuda.is_none() {
            let why = place.note.map_or(String::new(), |note| format!(" ({note})"));
            return Err(Failure::Usage(format!(
                "--kernels-from {shown}: only a CUDA device runs kernels, and this job would run on the CPU{why}"
            )));
        }
        let entries =
            std::fs::read_dir(folder).map_err(|e| Failure::Run(format!("--kernels-from {shown}: {e}")))?;
        let is_kernel = |name: &std::ffi::OsStr| {
            let known = |name| mseq_cuda::KERNELS.contains(&name);
            name.to_str().and_then(|name| name.strip_suffix(".cu")).is_some_and(known)
        };
        if !entries.flatten().any(|entry| is_kernel(&entry.file_name())) {
            return Err(Failure::Run(format!(
                "--kernels-from {shown}: it holds no kernel; the names are {}.cu",
                mseq_cuda::KERNELS.join(".cu, ")
            )));
        }
        Ok(Place { kernels_from: Some(folder.clone()), ..place })
    }
}
