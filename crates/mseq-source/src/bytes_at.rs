use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::decompress::{Bytes, decompress};
use crate::error::IndexError;
use crate::fai::IndexFiles;
use crate::fault::{Fault, place};
use crate::{Error, Result};

/// A step forward of at most this many bytes is read, not sought.
const NEAR_BYTES: u64 = 64 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// Where BGZF blocks start: in the file, and in what they decompress to. Both grow.
#[derive(Debug, Clone, Default)]
struct Blocks(Vec<(u64, u64)>);

impl Blocks {
    fn open(gzi: &Path, path: &str) -> Result<Self> {
        let index = gzi.to_string_lossy().into_owned();
        let bytes = fs::read(gzi).map_err(|cause| Error::Io { path: index.clone(), cause })?;
        Self::parse(&bytes).ok_or_else(|| {
            IndexError::Blocks { index, path: path.to_owned(), why: "it is damaged".into() }.into()
        })
    }

    /// A count and as many pairs, all 64-bit little-endian.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let mut words = words.iter().map(|w| u64::from_le_bytes(*w));
        if words.next()? != words.len() as u64 / 2 || words.len() % 2 == 1 {
            return None;
        }
        let mut blocks = vec![(0, 0)];
        while let (Some(file), Some(text)) = (words.next(), words.next()) {
            let last = blocks.last().copied().unwrap_or_default();
            // Some writers list the first block too; the end block adds no text.
            if (file, text) == (0, 0) && blocks.len() == 1 {
                continue;
            }
            if file <= last.0 || text < last.1 {
                return None;
            }
            blocks.push((file, text));
        }
        Some(Self(blocks))
    }

    /// Start of the block that holds `offset`, and the offset in its text.
    fn find(&self, offset: u64) -> (u64, u64) {
        let next = self.0.partition_point(|&(_, text)| text <= offset);
        let (file, text) = self.0[..next].last().copied().unwrap_or_default();
        (file, offset - text)
    }
}

/// Goes to a block, which must look like one: other bytes would be taken for plain text.
fn check_block(file: &mut File, block: u64) -> io::Result<()> {
    let mut magic = [0; 2];
    file.seek(SeekFrom::Start(block))?;
    file.read_exact(&mut magic)
        .and_then(|()| match magic {
            [0x1f, 0x8b] => Ok(()),
            _ => Err(Fault::CorruptGzip("not gzip data".into()).into()),
        })
        .map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Fault::CorruptGzip("the file ends before".into()).into(),
            _ => e,
        })?;
    file.seek(SeekFrom::Start(block)).map(drop)
}

enum Inner {
    Plain(BufReader<File>),
    Bgzf { file: File, blocks: Blocks, reader: Option<Bytes> },
}

/// The decompressed bytes of a plain or BGZF file at any offset.
pub(crate) struct BytesAt {
    inner: Inner,
    /// Offset of the next byte of the inner reader.
    at: u64,
    label: String,
    gzi: PathBuf,
}

impl BytesAt {
    pub(crate) fn open(path: &Path, files: &IndexFiles) -> Result<Self> {
        let label = path.to_string_lossy().into_owned();
        let file = File::open(path).map_err(|cause| Error::Io { path: label.clone(), cause })?;
        let inner = match &files.gzi {
            Some(gzi) => Inner::Bgzf { file, blocks: Blocks::open(gzi, &label)?, reader: None },
            None => Inner::Plain(BufReader::with_capacity(BUFFER_BYTES, file)),
        };
        Ok(Self { inner, at: 0, label, gzi: files.gzi.clone().unwrap_or_default() })
    }

    /// What the file is called in messages.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Appends `len` bytes from `offset` on, fewer only where the file ends.
    pub(crate) fn read(&mut self, offset: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let read = self.read_io(offset, len, out);
        if read.is_err() {
            self.at = u64::MAX;
        }
        read.map_err(|e| self.error(e))
    }

    fn read_io(&mut self, offset: u64, len: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let near = offset >= self.at && offset - self.at <= NEAR_BYTES;
        let n = match &mut self.inner {
            Inner::Plain(file) => {
                match offset.checked_signed_diff(self.at).filter(|_| self.at != u64::MAX) {
                    Some(step) => file.seek_relative(step)?,
                    None => drop(file.seek(SeekFrom::Start(offset))?),
                }
                file.take(len).read_to_end(out)?
            }
            Inner::Bgzf { file, blocks, reader } => {
                let (skip, reader) = match reader {
                    Some(reader) if near => (offset - self.at, reader),
                    _ => {
                        let (block, skip) = blocks.find(offset);
                        check_block(file, block)?;
                        (skip, reader.insert(decompress(Box::new(file.try_clone()?))?))
                    }
                };
                io::copy(&mut reader.take(skip), &mut io::sink())?;
                reader.take(len).read_to_end(out)?
            }
        };
        self.at = offset + n as u64;
        Ok(())
    }

    /// The file, opened anew where the byte at `offset` or its block starts; how many decompressed
    /// bytes come before that byte; and the place in the file.
    pub(crate) fn stream(&self, path: &Path, offset: u64) -> io::Result<(File, u64, u64)> {
        let (start, skip) = match &self.inner {
            Inner::Plain(_) => (offset, 0),
            Inner::Bgzf { blocks, .. } => blocks.find(offset),
        };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok((file, skip, start))
    }

    fn error(&self, e: io::Error) -> Error {
        let (path, index) = (self.label.clone(), self.gzi.to_string_lossy().into_owned());
        match place(e, &self.label, 1) {
            Error::CorruptGzip { cause, .. } => {
                IndexError::Blocks { index, path, why: format!("no whole BGZF block where it says: {cause}") }
                    .into()
            }
            other => other,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::decompress::BGZF_EOF;
    use crate::tests::bgzf;

    /// BGZF with blocks of `block` bytes, and its `.gzi`.
    pub(crate) fn indexed_bgzf(text: &[u8], block: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut pairs) = (Vec::new(), Vec::new());
        for (i, piece) in text.chunks(block).enumerate() {
            pairs.push((out.len() as u64, (i * block) as u64));
            let one = bgzf(piece, block);
            out.extend(&one[..one.len() - BGZF_EOF.len()]);
        }
        out.extend(BGZF_EOF);
        let pairs = pairs.get(1..).unwrap_or_default();
        let mut gzi = (pairs.len() as u64).to_le_bytes().to_vec();
        gzi.extend(pairs.iter().flat_map(|(a, b)| [a.to_le_bytes(), b.to_le_bytes()].concat()));
        (out, gzi)
    }

    #[test]
    fn any_offset() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let text: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (packed, gzi) = indexed_bgzf(&text, 700);
        fs::write(at("x"), &text).unwrap();
        fs::write(at("x.gz"), packed).unwrap();
        fs::write(at("x.gzi"), gzi).unwrap();
        let files = |gzi| IndexFiles { fai: at("none"), gzi };
        let plain = BytesAt::open(&at("x"), &files(None)).unwrap();
        let blocks = BytesAt::open(&at("x.gz"), &files(Some(at("x.gzi")))).unwrap();
        for mut bytes in [plain, blocks] {
            for (offset, len) in
                [(0, 10), (10, 700), (3000, 1), (2999, 2), (4990, 50), (0, 5000), (5000, 9), (7, 0)]
            {
                let mut out = vec![1];
                bytes.read(offset as u64, len as u64, &mut out).unwrap();
                assert_eq!(out[1..], text[offset..text.len().min(offset + len)], "{offset} {len}");
            }
        }
    }

    #[test]
    fn gzi_files() {
        let pack = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        let found = Blocks::parse(&pack(&[2, 8, 21, 13, 55])).unwrap();
        assert_eq!([0, 20, 21, 60].map(|o| found.find(o)), [(0, 0), (0, 20), (8, 0), (13, 5)]);
        assert!(Blocks::parse(&pack(&[0])).is_some());
        for bad in
            [&[][..], &[1], &[1, 8], &[2, 8, 21], &[1, 8, 21, 9, 22], &[2, 8, 21, 8, 30], &[2, 8, 21, 9, 20]]
        {
            assert!(Blocks::parse(&pack(bad)).is_none(), "{bad:?}");
        }
        assert!(Blocks::parse(&[0; 9]).is_none());
    }
}
