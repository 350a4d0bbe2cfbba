use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::reverse::BasesAt;
use crate::{Error, Result};

/// Bases that stay in memory until a write: a short record never reaches the disk.
const BUFFER_BYTES: usize = 256 * 1024;

/// A copy of one record on disk, for reading it from its end.
///
/// One byte a base, the letter as the file has it: the 18 codes of DNA (16 IUPAC codes, U and `*`,
/// each with an own token in some model) do not fit 4 bits, and the case is counted. The file has
/// no name on Unix, so that even a killed process leaves nothing; elsewhere it is deleted on drop.
#[derive(Debug)]
pub struct PackedScratch {
    folder: PathBuf,
    /// Made by the first write.
    file: Option<File>,
    /// Bases in the file.
    written: u64,
    /// The bases behind them.
    buffer: Vec<u8>,
}

impl PackedScratch {
    /// An empty copy that will be in `folder`, where nothing happens before there is something to
    /// write.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, written: 0, buffer: Vec::new() }
    }

    /// Bytes of disk that a record of `bases` bases takes.
    pub fn bytes_needed(bases: u64) -> u64 {
        bases
    }

    /// Forgets the record and gives its disk space back.
    ///
    /// # Errors
    ///
    /// A file that cannot be truncated.
    pub fn clear(&mut self) -> Result<()> {
        self.buffer.clear();
        if self.written > 0 {
            self.written = 0;
            let emptied =
                self.file.as_mut().map_or(Ok(()), |file| file.set_len(0).and_then(|()| file.rewind()));
            emptied.map_err(|cause| self.error(cause))?;
        }
        Ok(())
    }

    /// Adds the next bases of the record.
    ///
    /// # Errors
    ///
    /// A folder that is full, which the message names, or cannot be written to.
    pub fn push(&mut self, bases: &[u8]) -> Result<()> {
        if self.buffer.len() + bases.len() > BUFFER_BYTES {
            self.flush(bases).map_err(|cause| self.error(cause))?;
        } else {
            self.buffer.extend_from_slice(bases);
        }
        Ok(())
    }

    fn flush(&mut self, then: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        file.seek(SeekFrom::Start(self.written))?;
        for bases in [&self.buffer[..], then] {
            file.write_all(bases)?;
            self.written += bases.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }

    fn error(&self, cause: io::Error) -> Error {
        let folder = self.folder.to_string_lossy().into_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Error::ScratchFull { folder, bytes: self.written }
            }
            _ => Error::Scratch { folder, cause },
        }
    }
}

impl BasesAt for PackedScratch {
    fn bases(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn read_bases(&mut self, start: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let end = start.saturating_add(len as u64).min(self.bases());
        let start = start.min(end);
        if start < self.written
            && let Some(file) = &mut self.file
        {
            let want = end.min(self.written) - start;
            let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.take(want).read_to_end(out));
            let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file lost its end");
            read.and_then(|n| if n as u64 == want { Ok(()) } else { Err(short()) })
                .map_err(|cause| self.error(cause))?;
        }
        let from = |base: u64| base.saturating_sub(self.written) as usize;
        out.extend_from_slice(&self.buffer[from(start)..from(end)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_before_and_after_the_first_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = PackedScratch::new(dir.path());
        let text: Vec<u8> = (0..700_000_u32).map(|i| b"ACGTacgtNuU*-"[(i % 13) as usize]).collect();
        let mut out = Vec::new();
        for n in [1000, 300_000, 700_000, 10, 0] {
            scratch.clear().unwrap();
            for piece in text[..n].chunks(70_001) {
                scratch.push(piece).unwrap();
            }
            assert_eq!(scratch.bases(), n as u64);
            for (start, len) in [(0, n), (n / 2, 9), (n.saturating_sub(5), 50), (n + 1, 3)] {
                scratch.read_bases(start as u64, len, &mut out).unwrap();
                assert_eq!(out, text[start.min(n)..n.min(start + len)]);
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_left_behind_not_even_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = PackedScratch::new(dir.path());
        scratch.push(&[b'A'; 1_000_000]).unwrap();
        assert_eq!(scratch.written, 1_000_000);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_gone_or_full_is_named() {
        let mut scratch = PackedScratch::new(Path::new("/nowhere/at/all"));
        scratch.push(b"ACGT").unwrap();
        let e = scratch.push(&[b'A'; 1_000_000]).unwrap_err().to_string();
        assert!(e.starts_with("/nowhere/at/all: cannot keep a scratch copy of a record"), "{e}");
        let e = scratch.error(io::ErrorKind::StorageFull.into()).to_string();
        assert!(e.starts_with("/nowhere/at/all: no space left for the scratch copy"), "{e}");
        #[cfg(target_os = "linux")]
        if let Ok(full) = File::options().read(true).write(true).open("/dev/full") {
            scratch.file = Some(full);
            let e = scratch.push(&[b'A'; 1_000_000]).unwrap_err();
            assert!(matches!(e, Error::ScratchFull { .. }), "{e}");
        }
    }
}
