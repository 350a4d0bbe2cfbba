//! Whether the frames of an MP3 file follow one another without a gap. A decoder goes on at the next one that
//! it finds, and what was between them shortens the sound without a word.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use super::is_frame;

/// What a decoder would pass over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Bytes that are no frame, with frames before and behind them.
    Gap { from: u64, to: u64 },
    /// The head of another file, whose sound the count in the first one's head leaves out.
    Joined { at: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { from, to } => {
                write!(f, "its bytes {from} to {to} hold no MP3 frame, and the sound goes on behind them")
            }
            Self::Joined { at } => write!(f, "another MP3 file begins at byte {at} (split them)"),
        }
    }
}

/// Follows the frames of a stream.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Where `held` begins in the stream.
    at: u64,
    held: Vec<u8>,
    /// Bytes that belong to what began before `held`.
    skip: u64,
    /// Whether zeros may stand here: at the start and behind a tag.
    padding: bool,
    /// Since where no frame was found.
    lost: Option<u64>,
    /// Whether a frame has been.
    begun: bool,
}

/// Bytes that are looked at together: the longest frame (1,441 bytes), the head of the next, any tag's head.
const AHEAD: usize = 1_500;

impl Frames {
    pub(crate) fn new() -> Self {
        Self { at: 0, held: Vec::new(), skip: 0, padding: true, lost: None, begun: false }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// When a gap ends in them, or another file begins.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.held.extend_from_slice(bytes);
        self.follow(AHEAD)
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        self.follow(1)
    }

    /// Goes on while so many bytes are there.
    fn follow(&mut self, ahead: usize) -> Result<(), Fault> {
        let mut i = 0;
        while self.held.len() - i >= ahead {
            if self.skip > 0 {
                let now = self.skip.min((self.held.len() - i) as u64);
                self.skip -= now;
                i += now as usize;
                continue;
            }
            let (rest, here) = (&self.held[i..], self.at + i as u64);
            let frame = frame_bytes(rest);
            if let (Some(bytes), None) = (frame, self.lost) {
                if self.begun && counts(rest) {
                    return Err(Fault::Joined { at: here });
                }
                self.skip = bytes as u64;
                (self.padding, self.begun) = (false, true);
            } else if let (Some(bytes), Some(from)) = (frame, self.lost)
                // What follows tells a frame from bytes that look like the head of one.
                && rest.get(bytes..).is_some_and(|next| is_frame(next) && alike(rest, next))
            {
                return Err(Fault::Gap { from, to: here });
            } else if let (Some(bytes), None) = (tag_bytes(rest), self.lost) {
                self.skip = bytes;
                self.padding = true;
            } else {
                if !(self.padding && rest[0] == 0) {
                    self.lost.get_or_insert(here);
                }
                i += 1;
            }
        }
        self.held.drain(..i);
        self.at += i as u64;
        Ok(())
    }
}

/// Reads a file once.
pub(crate) fn find_fault<F: Read + Seek>(file: &mut F) -> io::Result<Option<Fault>> {
    file.seek(SeekFrom::Start(0))?;
    let mut frames = Frames::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let found = match file.read(&mut block) {
            Ok(0) => return Ok(frames.finish().err()),
            Ok(n) => frames.feed(&block[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if let Err(fault) = found {
            return Ok(Some(fault));
        }
    }
}

/// A stream whose reads fail where something would be passed over.
pub(crate) struct Followed<R> {
    pub(crate) inner: R,
    pub(crate) frames: Frames,
}

impl<R: Read> Read for Followed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let ends = n == 0 && !buffer.is_empty();
        let found = if ends { self.frames.finish() } else { self.frames.feed(&buffer[..n]) };
        found.map_err(|fault| io::Error::other(fault.to_string()))?;
        Ok(n)
    }
}

/// Whether a frame is none of sound, but the head of a file with its counts: Xing's, LAME's or Fraunhofer's.
fn counts(frame: &[u8]) -> bool {
    // Behind the side information, whose length depends on version and channels.
    let (half, mono) = (frame[1] & 8 == 0, frame[3] >> 6 == 3);
    let at = 4 + [[32, 17], [17, 9]][usize::from(half)][usize::from(mono)];
    let is = |at: usize, name: &[u8]| frame.get(at..).is_some_and(|rest| rest.starts_with(name));
    is(at, b"Xing") || is(at, b"Info") || is(36, b"VBRI")
}

/// Length of a frame from its head (ISO/IEC 11172-3 section 2.4.2.3 and 13818-3): 1,152 samples of MPEG-1, 576
/// of its halves, at so many bits a second.
fn frame_bytes(head: &[u8]) -> Option<usize> {
    if !is_frame(head) {
        return None;
    }
    const KBIT: [[usize; 15]; 2] = [
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let [_, version, c, _] = *head.first_chunk()?;
    // 3: MPEG-1; 2: MPEG-2, half the rates; 0: MPEG-2.5, a quarter.
    let version = version >> 3 & 3;
    let halves = usize::from(version != 3);
    let rate = [44_100, 48_000, 32_000].get(usize::from(c >> 2 & 3))? >> (halves + usize::from(version == 0));
    let bits = 1000 * KBIT[halves].get(usize::from(c >> 4))?;
    Some((144 >> halves) * bits / rate + usize::from(c >> 1 & 1))
}

/// Whether two heads are of one stream: the same version, layer and rate.
fn alike(a: &[u8], b: &[u8]) -> bool {
    a[1] & 0xfe == b[1] & 0xfe && a[2] & 0x0c == b[2] & 0x0c
}

/// Length of an ID3v2, ID3v1 or APE tag that begins here.
fn tag_bytes(rest: &[u8]) -> Option<u64> {
    if let &[b'I', b'D', b'3', 2..=4, _, flags, a, b, c, d, ..] = rest {
        let size = [a, b, c, d].iter().fold(0u64, |size, &byte| size << 7 | u64::from(byte & 0x7f));
        return Some(10 + size + if flags & 0x10 == 0 { 0 } else { 10 });
    }
    if rest.starts_with(b"APETAGEX") {
        let at = |i: usize| rest.get(i..i + 4)?.try_into().ok().map(u32::from_le_bytes);
        // The size leaves out the head; a foot stands behind what it speaks of.
        let is_head = at(20)? & 1 << 29 != 0;
        return Some(32 + if is_head { u64::from(at(12)?) } else { 0 });
    }
    rest.starts_with(b"TAG").then_some(128)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// 128 kbit/s at 44,100 Hz: 417 bytes, and 418 with padding.
    fn frames(count: usize) -> Vec<u8> {
        let frame = |i: usize| {
            let mut frame = vec![(i * 7 % 200) as u8; 417 + i % 2];
            frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90 | (i % 2 * 2) as u8, 0x64]);
            frame
        };
        (0..count).flat_map(frame).collect()
    }

    fn fault(bytes: &[u8]) -> Option<Fault> {
        let whole = find_fault(&mut Cursor::new(bytes)).unwrap();
        let mut followed = Followed { inner: bytes, frames: Frames::new() };
        let mut piece = [0; 97];
        let piped = loop {
            match followed.read(&mut piece) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(e) => break Some(e.to_string()),
            }
        };
        assert_eq!(whole.as_ref().map(ToString::to_string), piped);
        whole
    }

    fn gap(bytes: &[u8]) -> Option<(u64, u64)> {
        match fault(bytes)? {
            Fault::Gap { from, to } => Some((from, to)),
            joined @ Fault::Joined { .. } => panic!("{joined}"),
        }
    }

    #[test]
    fn lengths_are_those_of_the_standard() {
        let bytes = |b, c| frame_bytes(&[0xff, b, c, 0]);
        assert_eq!(bytes(0xfb, 0x90), Some(417));
        assert_eq!(bytes(0xfb, 0x92), Some(418));
        assert_eq!(bytes(0xfb, 0xe8), Some(1440));
        assert_eq!(bytes(0xf3, 0x80), Some(208));
        assert_eq!(bytes(0xe3, 0xe8), Some(1440));
        assert_eq!((bytes(0xfb, 0x00), bytes(0xfb, 0xf0), bytes(0xfd, 0x90)), (None, None, None));
    }

    #[test]
    fn whole_streams_have_no_gap() {
        let id3 = [&b"ID3\x04\0\0\0\0\0\x03abc"[..], &[0; 50]].concat();
        let tag = [&b"TAG"[..], &[1; 125]].concat();
        let ape = [&b"APETAGEX\xd0\x07\0\0\x28\0\0\0\x01\0\0\0\0\0\0\xa0"[..], &[0; 8], &[7; 40]].concat();
        for bytes in [
            Vec::new(),
            frames(40),
            [&id3[..], &frames(40)].concat(),
            [&frames(20)[..], &tag].concat(),
            // Files after one another, each with its tags.
            [&id3[..], &frames(20), &ape, &tag, &id3, &frames(20)].concat(),
            // What no frame follows is none of ours.
            [&frames(20)[..], &[9; 5000]].concat(),
        ] {
            assert_eq!(gap(&bytes), None);
        }
    }

    #[test]
    fn a_gap_is_found_where_it_is() {
        let (whole, at) = (frames(40), 417 * 10 + 5);
        let mut zeros = whole.clone();
        zeros[at..at + 417 * 2 + 418].fill(0);
        assert_eq!(gap(&zeros), Some((at as u64, (at + 417 * 2 + 418) as u64)));
        // Taken out, from within a frame to within another.
        let out = [&whole[..at + 100], &whole[at + 1000..]].concat();
        let (from, to) = gap(&out).unwrap();
        assert!(from > at as u64 && to > from && to < at as u64 + 1000, "{from} {to}");
        // Put in.
        let put = [&whole[..at], &b"four score"[..], &whole[at..]].concat();
        assert_eq!(gap(&put), Some((at as u64, at as u64 + 10)));
        // In the last bytes, too, and whatever looks like a tag in it.
        let mut late = whole.clone();
        let end = late.len() - 2 * 417 - 1;
        late[end - 418..end - 10].fill(3);
        late[end - 300..end - 297].copy_from_slice(b"TAG");
        assert_eq!(gap(&late), Some((end as u64 - 418, end as u64)));
        let mut tagged = [&whole[..at], &b"four score ID3\x04\0\0\0\0\0\x03abc"[..], &whole[at..]].concat();
        assert_eq!(gap(&tagged), Some((at as u64, at as u64 + 24)));
        // A frame that lost its bit rate is one that is lost.
        tagged = whole.clone();
        tagged[at + 2] &= 0x0f;
        assert_eq!(gap(&tagged), Some((at as u64, at as u64 + 417)));
    }

    #[test]
    fn a_second_file_is_found_by_its_head() {
        let mut head = frames(1);
        head[36..40].copy_from_slice(b"Info");
        assert_eq!(fault(&[&head[..], &frames(20)].concat()), None);
        let joined = [&head[..], &frames(20), &head, &frames(20)].concat();
        assert_eq!(fault(&joined), Some(Fault::Joined { at: 417 * 11 + 418 * 10 }));
    }
}
