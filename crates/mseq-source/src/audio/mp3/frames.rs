//! Whether the frames of an MP3 file follow one another without a gap. A decoder goes on at the next one that
//! it finds, and what was between them shortens the sound without a word.

use std::fmt;

use super::is_frame;
use crate::audio::adts::cut_off;
use crate::audio::follow::Follow;

/// What a decoder would pass over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// Bytes that are no frame, with frames behind them.
    Gap { from: u64, to: u64 },
    /// Frames behind those that the file's head counts.
    More { at: u64, count: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { from, to } => {
                write!(f, "its bytes {from} to {to} hold no MP3 frame, and the sound goes on behind them")
            }
            Self::More { at, count } => {
                write!(
                    f,
                    "its head counts {count} MP3 frames, and more follow at byte {at} (split what was joined)"
                )
            }
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
    /// Frames so far, its head not counted.
    frames: u64,
    /// How many its head says there are.
    counted: Option<u64>,
    /// Where the frame begins that `skip` is of.
    frame: Option<u64>,
    /// Another format behind tags of this one: nothing is followed.
    aside: bool,
}

/// Bytes that are looked at together: the longest frame (1,441 bytes), the head of the next, any tag's head.
const AHEAD: usize = 1_500;

impl Frames {
    pub(crate) fn new() -> Self {
        let (skip, padding, lost, frames, counted, aside) = (0, true, None, 0, None, false);
        Self { at: 0, held: Vec::new(), skip, padding, lost, frames, counted, frame: None, aside }
    }

    /// Goes on while so many bytes are there.
    fn follow(&mut self, ahead: usize) -> Result<(), Fault> {
        let mut i = 0;
        let last = ahead == 1;
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
                match (self.counted, count(rest)) {
                    // Some count their head, too.
                    (Some(count), _) if self.frames > count => return Err(Fault::More { at: here, count }),
                    (None, Some(count)) if self.frames == 0 => self.counted = Some(count),
                    _ => self.frames += 1,
                }
                (self.skip, self.frame) = (bytes as u64, Some(here));
                self.padding = false;
            } else if let (Some(bytes), Some(from)) = (frame, self.lost)
                // What follows tells a frame from bytes that look like the head of one.
                && rest.get(bytes..).is_some_and(|next| {
                    is_frame(next) && alike(rest, next) || tag_bytes(next).is_some() || last && next.is_empty()
                })
            {
                return Err(Fault::Gap { from, to: here });
            } else if let (Some(bytes), None) = (tag_bytes(rest), self.lost) {
                (self.skip, self.frame) = (bytes, None);
                self.padding = true;
            } else if self.frames == 0 && self.counted.is_none() && self.lost.is_none() && other(rest) {
                self.aside = true;
                i = self.held.len();
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

impl Follow for Frames {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.aside {
            return Ok(());
        }
        self.held.extend_from_slice(bytes);
        self.follow(AHEAD).map_err(|fault| fault.to_string())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.follow(1).map_err(|fault| fault.to_string())?;
        match self.frame {
            Some(at) if self.skip > 0 => Err(cut_off(at, self.skip)),
            _ => Ok(()),
        }
    }
}

/// FLAC and ADTS, which may have tags of MP3 before them.
fn other(rest: &[u8]) -> bool {
    rest.starts_with(b"fLaC") || matches!(rest, &[0xff, b, ..] if b & 0xf6 == 0xf0)
}

/// How many frames the head of a file says follow it: Xing's, LAME's or Fraunhofer's, a frame of no sound.
fn count(frame: &[u8]) -> Option<u64> {
    let at = |i: usize| frame.get(i..i + 4)?.try_into().ok().map(u32::from_be_bytes);
    // Behind the side information, whose length depends on version and channels.
    let (half, mono) = (frame[1] & 8 == 0, frame[3] >> 6 == 3);
    let place = 4 + [[32, 17], [17, 9]][usize::from(half)][usize::from(mono)];
    let is = |at: usize, name: &[u8]| frame.get(at..).is_some_and(|rest| rest.starts_with(name));
    if is(place, b"Xing") || is(place, b"Info") {
        // Its first flag says that the count is there.
        return (at(place + 4)? & 1 == 1).then(|| at(place + 8)).flatten().map(u64::from);
    }
    is(36, b"VBRI").then(|| at(36 + 14)).flatten().map(u64::from)
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
    use super::*;
    use crate::audio::follow::fault_of;

    /// 128 kbit/s at 44,100 Hz: 417 bytes, and 418 with padding.
    fn frames(count: usize) -> Vec<u8> {
        let frame = |i: usize| {
            let mut frame = vec![(i * 7 % 200) as u8; 417 + i % 2];
            frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90 | (i % 2 * 2) as u8, 0x64]);
            frame
        };
        (0..count).flat_map(frame).collect()
    }

    fn fault(bytes: &[u8]) -> Option<String> {
        fault_of(bytes, Frames::new)
    }

    fn gap(from: usize, to: usize) -> Option<String> {
        Some(Fault::Gap { from: from as u64, to: to as u64 }.to_string())
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
            assert_eq!(fault(&bytes), None);
        }
    }

    #[test]
    fn a_gap_is_found_where_it_is() {
        let (whole, at) = (frames(40), 417 * 10 + 5);
        let mut zeros = whole.clone();
        zeros[at..at + 417 * 2 + 418].fill(0);
        assert_eq!(fault(&zeros), gap(at, at + 417 * 2 + 418));
        // Taken out, from within a frame to within another.
        let out = [&whole[..at + 100], &whole[at + 1000..]].concat();
        assert_eq!(fault(&out), gap(at + 417, at + 1670 - 900));
        // Put in.
        let put = [&whole[..at], &b"four score"[..], &whole[at..]].concat();
        assert_eq!(fault(&put), gap(at, at + 10));
        // In the last bytes, too, and whatever looks like a tag in it.
        let mut late = whole.clone();
        let end = late.len() - 2 * 417 - 1;
        late[end - 418..end - 10].fill(3);
        late[end - 300..end - 297].copy_from_slice(b"TAG");
        assert_eq!(fault(&late), gap(end - 418, end));
        let mut tagged = [&whole[..at], &b"four score ID3\x04\0\0\0\0\0\x03abc"[..], &whole[at..]].concat();
        assert_eq!(fault(&tagged), gap(at, at + 24));
        // A frame that lost its bit rate is one that is lost.
        tagged = whole.clone();
        tagged[at + 2] &= 0x0f;
        assert_eq!(fault(&tagged), gap(at, at + 417));
        // The last frame of all is one by its length.
        let mut end = whole.clone();
        let from = end.len() - 417 - 418;
        end[from..from + 417].fill(3);
        assert_eq!(fault(&end), gap(from, from + 417));
    }

    #[test]
    fn a_last_frame_that_is_not_whole_is_found() {
        let whole = frames(20);
        let last = whole.len() - 418;
        for missing in [1, 300] {
            let cut = fault(&whole[..whole.len() - missing]);
            assert_eq!(cut, Some(cut_off(last as u64, missing as u64)), "{missing}");
        }
    }

    #[test]
    fn frames_beyond_the_count_are_found() {
        let head = |count: u32| {
            let mut head = frames(1);
            head[36..44].copy_from_slice(b"Info\0\0\0\x01");
            head[44..48].copy_from_slice(&count.to_be_bytes());
            head
        };
        assert_eq!(fault(&[&head(20)[..], &frames(20)].concat()), None);
        // Its head may be one of them.
        assert_eq!(fault(&[&head(19)[..], &frames(20)].concat()), None);
        let more = |at: u64, count| Some(Fault::More { at, count }.to_string());
        let twenty = 417 * 10 + 418 * 10;
        // One more is forgiven, which here is the head of the second.
        let joined = [&head(20)[..], &frames(20), &head(20), &frames(20)].concat();
        assert_eq!(fault(&joined), more(417 + twenty + 417, 20));
        let joined = [&head(20)[..], &frames(22)].concat();
        assert_eq!(fault(&joined), more(417 + twenty + 417, 20));
        // Without a count nothing is left out.
        assert_eq!(fault(&[frames(20), head(20), frames(20)].concat()), None);
        let mut open = head(0);
        open[43] = 0;
        assert_eq!(fault(&[&open[..], &frames(20)].concat()), None);
    }

    #[test]
    fn other_formats_are_left_alone() {
        let tag = b"ID3\x04\0\0\0\0\0\x03abc";
        let flac = [&tag[..], b"fLaC", &[7; 900], &frames(3)].concat();
        assert_eq!(fault(&flac), None);
        assert!(fault(&[&tag[..], b"flak", &[7; 900], &frames(3)].concat()).is_some());
    }
}
