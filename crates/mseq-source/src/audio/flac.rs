//! Where the frames of a FLAC stream begin (RFC 9639 section 6): a stream whose head counts no samples shows
//! by their bytes alone whether it is whole.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::follow::Follow;

/// Bytes of frames, which a decoder's packets are compared with.
pub(super) type FrameBytes = Arc<AtomicU64>;

/// Counts the bytes behind the head of a stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes of the head that are still to come.
    skip: u64,
    begun: bool,
    last: bool,
    bytes: FrameBytes,
}

impl Frames {
    /// What it counts.
    pub(super) fn bytes(&self) -> FrameBytes {
        Arc::clone(&self.bytes)
    }
}

impl Follow for Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let now = self.skip.min(bytes.len() as u64);
                self.skip -= now;
                bytes = &bytes[now as usize..];
                continue;
            }
            if self.last {
                self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                return Ok(());
            }
            // "fLaC", then blocks of metadata, each with its length in four bytes.
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let &[kind, a, b, c] = &self.head[..] {
                if self.begun {
                    self.skip = u64::from(u32::from_be_bytes([0, a, b, c]));
                    self.last = kind & 0x80 != 0;
                }
                self.begun = true;
                self.head.clear();
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Bytes of the frames of a file.
pub(super) fn frame_bytes<F: Read + Seek>(file: &mut F, at: u64) -> io::Result<FrameBytes> {
    let size = file.seek(SeekFrom::End(0))?;
    let mut place = at + 4;
    loop {
        file.seek(SeekFrom::Start(place))?;
        let mut head = [0; 4];
        if place >= size || file.read_exact(&mut head).is_err() {
            // No frame at all, which the decoder tells.
            return Ok(FrameBytes::default());
        }
        place += 4 + u64::from(u32::from_be_bytes([0, head[1], head[2], head[3]]));
        if head[0] & 0x80 != 0 {
            return Ok(Arc::new(AtomicU64::new(size.saturating_sub(place))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_begin_behind_the_last_block_of_metadata() {
        let stream = [&b"fLaC\x00\x00\x00\x05abcde\x84\x00\x00\x03xyz"[..], &[7; 1000]].concat();
        let in_file = frame_bytes(&mut io::Cursor::new(&stream), 0).unwrap();
        assert_eq!(in_file.load(Ordering::Relaxed), 1000);
        for piece in [1, 3, 97, 5000] {
            let mut frames = Frames::default();
            stream.chunks(piece).for_each(|bytes| frames.feed(bytes).unwrap());
            assert_eq!(frames.bytes().load(Ordering::Relaxed), 1000, "{piece}");
        }
        let cut = frame_bytes(&mut io::Cursor::new(&stream[..10]), 0).unwrap();
        assert_eq!(cut.load(Ordering::Relaxed), 0);
    }
}
