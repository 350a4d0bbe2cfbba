//! A small file system that fills up.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{error::Result, shell};

/// A tmpfs on a folder; unmounted when it goes.
pub(super) struct Mount {
    folder: PathBuf,
}

impl Mount {
    pub(super) fn new(folder: &Path, kib: u64) -> Result<Self> {
        let size = format!("size={kib}k");
        shell::run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Room for everything.
    pub(super) fn grow(&self) -> Result<()> {
        shell::run(Command::new("mount").args(["-o", "remount,size=256M"]).arg(&self.folder))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !shell::succeeds(Command::new("umount").arg(&self.folder)) {
            eprintln!("cannot unmount {}", self.folder.display());
        }
    }
}
