//! WAV, RF64 and their pipes, streamed. `hound`, which writes what this program writes and is what the
//! tests compare with, can't be the reader: see the decision of 2026-11-26 in ARCHITECTURE.md.

use std::io::{self, Read};

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

    fn value(self, b: &[u8]) -> f32 {
        match (self, b) {
            (Self::U8, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (Self::I16, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
            (Self::I24, &[a, b, c]) => (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / 8_388_608.0,
            (Self::I32, &[a, b, c, d]) => {
                (f64::from(i32::from_le_bytes([a, b, c, d])) / 2_147_483_648.0) as f32
            }
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F64, b) => b.try_into().map_or(0.0, f64::from_le_bytes) as f32,
            _ => 0.0,
        }
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
    bytes: Vec<u8>,
}

/// Frames read at a time.
const FRAMES: usize = 4096;
/// Most bytes of a format chunk.
const FORMAT_BYTES: u64 = 1 << 16;

impl<R: Read> Wav<R> {
    pub(super) fn open(path: &str, mut inner: R) -> Result<Self> {
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
                    let bytes = match (size, long) {
                        (u32::MAX, Some(long)) => Some(long),
                        (0 | 0x7fff_f000.., _) if size == 0 || size >= 0xffff_ff00 || size == 0x7fff_f000 => {
                            None
                        }
                        _ => Some(u64::from(size)),
                    };
                    let left = bytes.map(|bytes| bytes / frame);
                    let bytes = vec![0; FRAMES * frame as usize];
                    return Ok(Self { path: path.to_owned(), inner, layout, coding, left, done: 0, bytes });
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

    fn next(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        let frame = self.coding.bytes() * self.layout.channels;
        let want = usize::try_from(self.left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(FRAMES);
        let buffer = &mut self.bytes[..want * frame];
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
        out.extend(buffer[..frames * frame].chunks_exact(self.coding.bytes()).map(|b| self.coding.value(b)));
        Ok(frames > 0)
    }
}
