//! One input: some files, and what became of reading them.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::watch::MEMORY_KIB;
use crate::random::Random;

/// Parquet lets a page say that it is as large as 2 GiB, and the decoder takes (but does not touch)
/// so much for it before it looks.
pub(super) const PARQUET_PAGE_KIB: u64 = 2 << 20;

/// Files of one folder, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// One input.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) files: Files,
    /// Chooses options of the reading, so that a case is read one way only.
    pub(super) choice: u64,
    /// The damage was made to look right (its checksum was mended), so that a result may differ.
    pub(super) sealed: bool,
}

/// How a case ended, short of a panic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was read to its end.
    Read,
    /// It gave an error, with this message.
    Refused(String),
    /// Something that must not be: a law is broken.
    Wrong(String),
}

/// A kind of input.
pub(super) trait Kind: Sync {
    fn name(&self) -> &'static str;

    /// Memory that a case may ask for.
    fn memory_kib(&self) -> u64 {
        MEMORY_KIB
    }

    /// Makes a valid input and, if `damaged`, damages it.
    fn case(&self, damaged: bool, random: &mut Random) -> Case;

    /// Reads the case, whose files lie in `folder`.
    fn read(&self, case: &Case, folder: &Path) -> Outcome;
}

impl Outcome {
    /// Of an error.
    pub(super) fn refused(e: &dyn std::error::Error) -> Self {
        Self::of_message(e.to_string())
    }

    fn of_message(text: String) -> Self {
        match text {
            // Every failure is one line on standard error.
            text if text.trim().is_empty() || text.contains('\n') => {
                Self::Wrong(format!("a message that is not one line: {text:?}"))
            }
            // A stage that panicked says so.
            text if text.starts_with("internal:") => Self::Wrong(text),
            text => Self::Refused(text),
        }
    }
}

impl Case {
    pub(super) fn new(files: Files, random: &mut Random) -> Self {
        Self { files, choice: random.next(), sealed: false }
    }

    /// Makes `folder` hold the files of the case and nothing else.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir_all(folder)?,
        }
        self.files.iter().try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
    }
}
