use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;

use crate::log::{lock_log, remove};
use crate::{Error, Result, RowLog, Saved};

/// Bytes of an effect.
const BYTES: usize = 36;

/// What one alternative allele does on one strand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoggedEffect {
    /// Contig, in the order of the VCF.
    pub contig: u32,
    /// Allele of the contig, in the order of the VCF, those without letters left out.
    pub allele: u64,
    /// Whether the reverse strand was read.
    pub reverse: bool,
    /// `llr`, `llr_per_base`, `distance`.
    pub values: [f64; 3],
}

impl LoggedEffect {
    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&self.contig.to_le_bytes());
        bytes[4..12].copy_from_slice(&(self.allele << 1 | u64::from(self.reverse)).to_le_bytes());
        for (to, value) in bytes[12..].chunks_exact_mut(8).zip(self.values) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            word
        };
        let allele = u64::from_le_bytes(word(4));
        let contig = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let values = [12, 20, 28].map(|at| f64::from_le_bytes(word(at)));
        Self { contig, allele: allele >> 1, reverse: allele & 1 == 1, values }
    }
}

/// Effects in the order in which they became known, in `OUT.partial`: numbers alone, since the VCF has
/// the rest. Every prefix up to an [`EffectLog::sync`] is complete; a log that is dropped stays.
pub struct EffectLog {
    out: BufWriter<File>,
    file: File,
    path: PathBuf,
    bytes: u64,
    crc: Crc,
}

impl EffectLog {
    /// Starts an empty log for `output`, or, with `saved`, goes on after what that says is in it.
    /// `locked` runs before an old log is overwritten.
    ///
    /// # Errors
    /// As for [`RowLog::create`] and [`RowLog::resume`].
    pub fn open(output: &Path, saved: Option<&Saved>, locked: impl FnOnce()) -> Result<Self> {
        let path = RowLog::path_of(output);
        let (file, crc, bytes) = lock_log(output, saved, locked)?;
        let out = file.try_clone().map_err(|cause| Error::Create { path: path.clone(), cause })?;
        Ok(Self { out: BufWriter::with_capacity(1 << 16, out), file, path, bytes, crc })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an effect.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn push(&mut self, effect: LoggedEffect) -> Result<()> {
        let bytes = effect.to_bytes();
        self.crc.update(&bytes);
        self.bytes += BYTES as u64;
        self.out.write_all(&bytes).map_err(|e| Error::write(&self.path, e))
    }

    /// Puts everything on the disk.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn sync(&mut self) -> Result<Saved> {
        let synced = self.out.flush().and_then(|()| self.file.sync_data());
        synced.map_err(|e| Error::write(&self.path, e))?;
        Ok(Saved { bytes: self.bytes, crc32: self.crc.sum(), kept: None })
    }

    /// Reads all from the first.
    ///
    /// # Errors
    /// When it can't be written out or read.
    pub fn read(&mut self) -> Result<impl Iterator<Item = Result<LoggedEffect>> + use<>> {
        let fail = |path: &Path, e: io::Error| Error::write(path, e);
        self.out.flush().map_err(|e| fail(&self.path, e))?;
        self.file.rewind().map_err(|e| fail(&self.path, e))?;
        let file = self.file.try_clone().map_err(|e| fail(&self.path, e))?;
        let mut reader = BufReader::with_capacity(1 << 16, file.take(self.bytes));
        let (mut left, path) = (self.bytes / BYTES as u64, self.path.clone());
        Ok(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let mut bytes = [0; BYTES];
            let read = reader.read_exact(&mut bytes);
            Some(read.map(|()| LoggedEffect::from_bytes(&bytes)).map_err(|e| fail(&path, e)))
        }))
    }

    /// Removes the log.
    pub fn remove(self) {
        remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(i: u64) -> LoggedEffect {
        let values = [i as f64 * 0.1, -(i as f64), f64::MIN_POSITIVE];
        LoggedEffect { contig: i as u32 / 3, allele: i, reverse: i % 2 == 1, values }
    }

    #[test]
    fn a_log_cut_off_anywhere_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        let mut log = EffectLog::open(&output, None, || {}).unwrap();
        (0..10).for_each(|i| log.push(effect(i)).unwrap());
        let saved = log.sync().unwrap();
        (10..15).for_each(|i| log.push(effect(i)).unwrap());
        assert!(matches!(EffectLog::open(&output, None, || {}), Err(Error::Busy { .. })));
        drop(log);
        let path = RowLog::path_of(&output);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"nonsense").unwrap();
        let mut log = EffectLog::open(&output, Some(&saved), || {}).unwrap();
        (10..20).for_each(|i| log.push(effect(i)).unwrap());
        let all: Vec<LoggedEffect> = log.read().unwrap().map(Result::unwrap).collect();
        assert_eq!(all, (0..20).map(effect).collect::<Vec<_>>());
        drop(log);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[100] ^= 4;
        std::fs::write(&path, &bad).unwrap();
        assert!(matches!(EffectLog::open(&output, Some(&saved), || {}), Err(Error::Log { .. })));
        std::fs::write(&path, &good).unwrap();
        EffectLog::open(&output, Some(&saved), || {}).unwrap().remove();
        assert!(!path.exists());
    }
}
