use std::path::Path;

use crate::{Error, Result, WholeFile};

/// Bytes before the first sample.
const HEADER: u64 = 44;

/// Most samples: sizes in a WAV file are 32 bits.
const MOST: u64 = (u32::MAX as u64 - HEADER) / 2;

/// One channel of 16-bit samples as a WAV file, written as they come.
pub struct WavSink {
    file: WholeFile,
    rate: u32,
    /// Samples that there will be, and are.
    length: u64,
    written: u64,
}

fn header(rate: u32, samples: u64) -> Vec<u8> {
    // In range: `MOST`.
    let bytes = (2 * samples) as u32;
    let mut header = Vec::with_capacity(HEADER as usize);
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&(bytes + HEADER as u32 - 8).to_le_bytes());
    header.extend_from_slice(b"WAVEfmt ");
    header.extend_from_slice(&16u32.to_le_bytes());
    // PCM of one channel.
    header.extend_from_slice(&1u16.to_le_bytes());
    header.extend_from_slice(&1u16.to_le_bytes());
    header.extend_from_slice(&rate.to_le_bytes());
    header.extend_from_slice(&rate.wrapping_mul(2).to_le_bytes());
    // Bytes a frame, bits a sample.
    header.extend_from_slice(&2u16.to_le_bytes());
    header.extend_from_slice(&16u16.to_le_bytes());
    header.extend_from_slice(b"data");
    header.extend_from_slice(&bytes.to_le_bytes());
    header
}

impl WavSink {
    /// Begins a file of `length` samples, `rate` a second.
    ///
    /// # Errors
    /// As for [`WholeFile::create`], and when so many do not fit into a WAV file.
    pub fn create(path: &Path, rate: u32, length: u64) -> Result<Self> {
        if length > MOST {
            let cause = std::io::Error::other(format!("a WAV file holds at most {MOST} samples"));
            return Err(Error::Create { path: path.to_owned(), cause });
        }
        let mut file = WholeFile::create(path)?;
        file.write(&header(rate, length))?;
        Ok(Self { file, rate, length, written: 0 })
    }

    /// The next samples, of [-1, 1].
    ///
    /// # Errors
    /// When they can't be written, or are more than were announced.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        self.written += samples.len() as u64;
        if self.written > self.length {
            return Err(Error::Failed);
        }
        let words = samples.iter().map(|v| (v.clamp(-1.0, 1.0) * 32_767.0).round() as i16);
        self.file.write(&words.flat_map(i16::to_le_bytes).collect::<Vec<u8>>())
    }

    /// The file will get another name, in the same folder.
    ///
    /// # Errors
    /// As for [`WholeFile::rename`].
    pub fn rename(&mut self, path: &Path) -> Result<()> {
        self.file.rename(path)
    }

    /// Ends the file where it is.
    ///
    /// # Errors
    /// When its header can't be written anew.
    pub fn cut(&mut self) -> Result<()> {
        self.length = self.written;
        self.file.replace_start(&header(self.rate, self.length))
    }

    /// Gives the file its name; how many samples were written.
    ///
    /// # Errors
    /// When it is not complete or can't be written.
    pub fn finish(self) -> Result<u64> {
        if self.written != self.length {
            return Err(Error::Failed);
        }
        self.file.finish()?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let mut sink = WavSink::create(&path, 8000, 5).unwrap();
        sink.push(&[0.0, 1.0]).unwrap();
        sink.push(&[-1.0, 0.5, 2.0]).unwrap();
        assert!(sink.push(&[0.0]).is_err());
        let mut sink = WavSink::create(&path, 8000, 5).unwrap();
        sink.push(&[0.0, 1.0, -1.0, 0.5, 2.0]).unwrap();
        assert_eq!(sink.finish().unwrap(), 5);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len(), &bytes[..4], &bytes[8..16]), (54, &b"RIFF"[..], &b"WAVEfmt "[..]));
        let words: Vec<i16> = bytes[44..].as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
        assert_eq!(words, [0, 32_767, -32_767, 16_384, 32_767]);
        // One that is cut says its own length.
        let mut sink = WavSink::create(&path, 8000, 1000).unwrap();
        sink.push(&[0.25; 7]).unwrap();
        sink.cut().unwrap();
        assert_eq!(sink.finish().unwrap(), 7);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            (bytes.len(), &bytes[4..8], &bytes[40..44]),
            (58, &50u32.to_le_bytes()[..], &14u32.to_le_bytes()[..])
        );
        assert!(WavSink::create(&path, 8000, 1 << 31).is_err());
    }
}
