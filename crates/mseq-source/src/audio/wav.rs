//! WAV, RF64 and their pipes, streamed. Chunks are found here, and `hound` reads the samples: it refuses
//! lengths that pipes leave open, RF64 and chunks of odd length, so each block of the data goes to it as a
//! WAV of its own. See the decision of 2026-11-26 in ARCHITECTURE.md.

use std::io::{self, Read};

use hound::WavReader;

use super::{Decoder, Layout, SampleKind};
use crate::Result;
use crate::error::AudioError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    U8,
    I16,
    I24,
    I32,
    F32,
    F64,
}

impl Coding {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I16 => 2,
            Self::I24 => 3,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn kind(self) -> SampleKind {
        match self {
            Self::U8 => SampleKind::Int(8),
            Self::I16 => SampleKind::Int(16),
            Self::I24 => SampleKind::Int(24),
            Self::I32 => SampleKind::Int(32),
            Self::F32 | Self::F64 => SampleKind::Float,
        }
    }

    /// The samples of a block: its header here, its data in `block` behind [`HEADER`] bytes of room.
    fn decode(self, channels: u16, block: &mut [u8], out: &mut Vec<f32>) -> hound::Result<()> {
        let Self::F64 = self else {
            let header = self.header(channels, block.len() - HEADER);
            block[..HEADER].copy_from_slice(&header);
            let mut reader = WavReader::new(&block[..])?;
            if self == Self::F32 {
                return reader.samples::<f32>().try_for_each(|v| v.map(|v| out.push(v)));
            }
            // By a power of two: exact but for 32 bits, which are rounded once.
            let scale = 1.0 / (1u64 << (8 * self.bytes() - 1)) as f32;
            return reader.samples::<i32>().try_for_each(|v| v.map(|v| out.push(v as f32 * scale)));
        };
        // What hound has no sample for.
        let doubles = block[HEADER..].chunks_exact(8).filter_map(|b| b.try_into().ok());
        out.extend(doubles.map(|b| f64::from_le_bytes(b) as f32));
        Ok(())
    }

    /// The least header that WAV has: one `fmt ` chunk of 16 bytes, then `bytes` of data.
    fn header(self, channels: u16, bytes: usize) -> [u8; HEADER] {
        let tag: u16 = if self == Self::F32 { 3 } else { 1 };
        let frame = self.bytes() as u16 * channels;
        let mut header = [0; HEADER];
        let fields: [(usize, &[u8]); 12] = [
            (0, b"RIFF"),
            (4, &((bytes + HEADER - 8) as u32).to_le_bytes()),
            (8, b"WAVEfmt "),
            (16, &16u32.to_le_bytes()),
            (20, &tag.to_le_bytes()),
            (22, &channels.to_le_bytes()),
            // One frame a second: what the file has is kept elsewhere.
            (24, &1u32.to_le_bytes()),
            (28, &u32::from(frame).to_le_bytes()),
            (32, &frame.to_le_bytes()),
            (34, &(8 * self.bytes() as u16).to_le_bytes()),
            (36, b"data"),
            (40, &(bytes as u32).to_le_bytes()),
        ];
        for (at, field) in fields {
            header[at..at + field.len()].copy_from_slice(field);
        }
        header
    }
}

pub(super) struct Wav<R> {
    path: String,
    inner: R,
    layout: Layout,
    coding: Coding,
    /// Frames that are still to come; `None`: up to the end.
    left: Option<u64>,
    done: u64,
    /// Room for a header, then a block.
    block: Vec<u8>,
    /// Whether a file is long enough for what its header says.
    is_there: bool,
}

/// Frames read at a time, at most, and bytes.
const FRAMES: usize = 4096;
const BLOCK: usize = 1 << 16;
/// Bytes of the header that a block gets.
const HEADER: usize = 44;
/// Most bytes of a format chunk.
const FORMAT_BYTES: u64 = 1 << 16;

impl<R: Read> Wav<R> {
    /// `len`: bytes of a file, where that is known.
    pub(super) fn open(path: &str, mut inner: R, len: Option<u64>) -> Result<Self> {
        let header = |what: &str| AudioError::Header { path: path.to_owned(), what: what.to_owned() };
        let io = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => header("the WAV header ends too early").into(),
            _ => crate::Error::Io { path: path.to_owned(), cause: e },
        };
        let mut head = [0u8; 12];
        inner.read_exact(&mut head).map_err(io)?;
        let mut format = None;
        let mut long = None;
        loop {
            let mut chunk = [0u8; 8];
            inner.read_exact(&mut chunk).map_err(io)?;
            let size = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
            let padded = u64::from(size) + u64::from(size % 2);
            let body = |inner: &mut R| {
                if padded > FORMAT_BYTES {
                    return Err(header("a chunk of the WAV header is too long").into());
                }
                let mut body = vec![0; padded as usize];
                inner.read_exact(&mut body).map_err(io)?;
                Ok::<_, crate::Error>(body)
            };
            match &chunk[..4] {
                b"fmt " => format = Some(read_format(path, &body(&mut inner)?)?),
                b"ds64" => {
                    let body = body(&mut inner)?;
                    long = body.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
                }
                b"data" => {
                    let (layout, coding) =
                        format.ok_or_else(|| header("the WAV data has no format before it"))?;
                    let frame = (coding.bytes() * layout.channels) as u64;
                    // What a program that writes to a pipe puts there: 0, or as much as fits.
                    // sox takes 0x7ffff000, as far as whole frames go.
                    let sox = 0x7fff_f000 / frame * frame;
                    let bytes = match (size, long) {
                        (0 | u32::MAX, Some(long)) => Some(long).filter(|&long| long != 0),
                        _ => Some(u64::from(size))
                            .filter(|&size| size != 0 && size < 0xffff_ff00 && size != sox),
                    };
                    let left = bytes.map(|bytes| bytes / frame);
                    let frames = (BLOCK / frame as usize).clamp(1, FRAMES);
                    let block = vec![0; HEADER + frames * frame as usize];
                    let needed = left.and_then(|frames| frames.checked_mul(frame));
                    let is_there = needed.zip(len).is_some_and(|(needed, len)| needed <= len);
                    let path = path.to_owned();
                    return Ok(Self { path, inner, layout, coding, left, done: 0, block, is_there });
                }
                _ => {
                    let skipped = io::copy(&mut inner.by_ref().take(padded), &mut io::sink()).map_err(io)?;
                    if skipped < padded {
                        return Err(header("the WAV file ends before its data").into());
                    }
                }
            }
        }
    }
}

fn read_format(path: &str, body: &[u8]) -> Result<(Layout, Coding)> {
    let header = |what: String| crate::Error::from(AudioError::Header { path: path.to_owned(), what });
    let u16_at = |i: usize| body.get(i..i + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |i: usize| body.get(i..i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (Some(mut tag), Some(channels), Some(rate), Some(bits)) =
        (u16_at(0), u16_at(2), u32_at(4), u16_at(14))
    else {
        return Err(header("the WAV format chunk is too short".into()));
    };
    const EXTENSIBLE: u16 = 0xfffe;
    if tag == EXTENSIBLE {
        tag = u16_at(24).ok_or_else(|| header("the extensible WAV format chunk is too short".into()))?;
    }
    let coding = match (tag, bits) {
        (1, 8) => Coding::U8,
        (1, 16) => Coding::I16,
        (1, 24) => Coding::I24,
        (1, 32) => Coding::I32,
        (3, 32) => Coding::F32,
        (3, 64) => Coding::F64,
        _ => {
            let what = format!("WAV of format {tag} with {bits} bits");
            return Err(AudioError::Unsupported { path: path.to_owned(), what }.into());
        }
    };
    let align = u16_at(12).unwrap_or(0);
    if channels == 0 || usize::from(align) != usize::from(channels) * coding.bytes() {
        return Err(header(format!("{channels} channels of {bits} bits in blocks of {align} bytes")));
    }
    Ok((Layout { rate, channels: usize::from(channels) }, coding))
}

impl<R: Read + Send> Decoder for Wav<R> {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn kind(&self) -> SampleKind {
        self.coding.kind()
    }

    fn total(&self) -> Option<u64> {
        self.left.map(|left| self.done + left)
    }

    fn counted(&self) -> Option<u64> {
        self.total().filter(|_| self.is_there)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        let frame = self.coding.bytes() * self.layout.channels;
        let want = usize::try_from(self.left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let want = want.min((self.block.len() - HEADER) / frame);
        let buffer = &mut self.block[HEADER..HEADER + want * frame];
        let mut n = 0;
        while n < buffer.len() {
            match self.inner.read(&mut buffer[n..]) {
                Ok(0) => break,
                Ok(read) => n += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(crate::Error::Io { path: self.path.clone(), cause }),
            }
        }
        let frames = n / frame;
        self.done += frames as u64;
        if n < want * frame
            && let Some(left) = self.left
        {
            let wanted = self.done - frames as u64 + left;
            return Err(AudioError::Truncated { path: self.path.clone(), samples: self.done, wanted }.into());
        }
        self.left = self.left.map(|left| left - frames as u64);
        let block = &mut self.block[..HEADER + frames * frame];
        self.coding.decode(self.layout.channels as u16, block, out).map_err(|e| AudioError::Damaged {
            path: self.path.clone(),
            sample: self.done,
            seconds: self.done as f64 / f64::from(self.layout.rate.max(1)),
            what: e.to_string(),
        })?;
        Ok(frames > 0)
    }
}
