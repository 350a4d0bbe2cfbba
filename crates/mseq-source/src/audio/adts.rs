//! Whether the frames of bare AAC (ADTS, ISO/IEC 13818-7 section 6.2) follow one another without a gap. A
//! decoder goes on at the next one that it finds.

use super::follow::Follow;

/// Length of the head that tells a frame's own.
const HEAD: usize = 7;

/// Follows the frames of a stream.
#[derive(Debug, Default)]
pub(super) struct Adts {
    /// Where `held` begins in the stream.
    at: u64,
    held: Vec<u8>,
    /// Bytes that belong to what began before `held`.
    skip: u64,
    /// Where the frame begins that they belong to.
    frame: Option<u64>,
    /// A tag ends the stream.
    ended: bool,
}

impl Follow for Adts {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.held.extend_from_slice(bytes);
        let mut i = 0;
        while i < self.held.len() && !self.ended {
            if self.skip > 0 {
                let now = self.skip.min((self.held.len() - i) as u64);
                self.skip -= now;
                i += now as usize;
                continue;
            }
            let (rest, here) = (&self.held[i..], self.at + i as u64);
            if rest.len() < 10 {
                break;
            }
            if let &[b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] = rest {
                let size = [a, b, c, d].iter().fold(0u64, |size, &byte| size << 7 | u64::from(byte & 0x7f));
                (self.skip, self.frame) = (10 + size + if flags & 0x10 == 0 { 0 } else { 10 }, None);
                continue;
            }
            if rest.starts_with(b"TAG") || rest.starts_with(b"APETAGEX") {
                self.ended = true;
                break;
            }
            self.skip = frame_bytes(rest).ok_or_else(|| format!("at byte {here} there is no AAC frame"))?;
            self.frame = Some(here);
        }
        self.held.drain(..i);
        self.at += i as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.ended {
            return Ok(());
        }
        match (self.frame, self.skip, self.held.len()) {
            (Some(at), missing @ 1.., _) => Err(cut_off(at, missing)),
            (_, _, 0) => Ok(()),
            _ => {
                // Too few for a frame with sound.
                Err(format!("at byte {} there is no whole AAC frame", self.at))
            }
        }
    }
}

/// What is said of a last frame that is not whole.
pub(super) fn cut_off(at: u64, missing: u64) -> String {
    format!("its last frame, at byte {at}, lacks {missing} bytes: it was cut off")
}

/// Length of a frame from its head.
fn frame_bytes(head: &[u8]) -> Option<u64> {
    let [0xff, b, _, c, d, e, _] = *head.first_chunk::<HEAD>()? else { return None };
    let bytes = u64::from(c & 3) << 11 | u64::from(d) << 3 | u64::from(e >> 5);
    (b & 0xf6 == 0xf0 && bytes >= HEAD as u64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::follow::fault_of;

    fn frames(count: usize) -> Vec<u8> {
        let frame = |i: usize| {
            let bytes = 200 + i % 7;
            let mut frame = vec![(i * 11 % 250) as u8; bytes];
            frame[..7].copy_from_slice(&[
                0xff,
                0xf1,
                0x50,
                0x80,
                (bytes >> 3) as u8,
                (bytes << 5) as u8,
                0xfc,
            ]);
            frame
        };
        (0..count).flat_map(frame).collect()
    }

    #[test]
    fn gaps_and_cuts_are_found_where_they_are() {
        let fault = |bytes: &[u8]| fault_of(bytes, Adts::default);
        let whole = frames(20);
        let tag = [&b"TAG"[..], &[1; 125]].concat();
        let id3 = b"ID3\x04\0\0\0\0\0\x03abc";
        for good in [whole.clone(), [&id3[..], &whole].concat(), [&whole[..], &tag].concat()] {
            assert_eq!(fault(&good), None);
        }
        let cut = fault(&whole[..whole.len() - 1]).unwrap();
        assert!(cut.contains("lacks 1 bytes: it was cut off"), "{cut}");
        assert!(fault(&whole[..whole.len() - 202]).unwrap().contains("no whole AAC frame"));
        let missing = [&whole[..300], &whole[442..]].concat();
        let gap = fault(&missing).unwrap();
        assert!(gap.starts_with("at byte 401 there is no AAC frame"), "{gap}");
    }
}
