//! Whether the pages of an Ogg stream are whole and follow one another (RFC 3533). A decoder leaves a page out
//! whose checksum is wrong, and what was on it shortens the sound without a word.

use super::follow::Follow;

/// Bytes of a page before its table of lengths.
const HEAD: usize = 27;
/// Logical streams that are kept in mind: a file of sound has one.
const STREAMS: usize = 16;

/// Follows the pages of a stream.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Where `held` begins in the stream.
    at: u64,
    held: Vec<u8>,
    /// Of each logical stream its serial number, the number of its last page, and whether that was a header.
    last: Vec<(u32, u32, bool)>,
    /// What is no page is looked at no more: it stands at the end.
    lost: Option<u64>,
}

impl Follow for Pages {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.held.extend_from_slice(bytes);
        let mut i = 0;
        loop {
            let (rest, here) = (&self.held[i..], self.at + i as u64);
            if let Some(from) = self.lost {
                match rest.windows(4).position(|four| four == b"OggS") {
                    Some(_) => {
                        return Err(format!(
                            "its bytes from {from} on are no Ogg page, and pages follow them"
                        ));
                    }
                    // The name may be cut.
                    None => i += rest.len().saturating_sub(3),
                }
                break;
            }
            let Some(bytes) = page_bytes(rest) else { break };
            if !rest.starts_with(b"OggS") {
                self.lost = Some(here);
                continue;
            }
            let page = &rest[..bytes];
            let field = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
            if checksum(page) != field(22) {
                return Err(format!("the Ogg page at byte {here} is damaged"));
            }
            let (serial, number, header) = (field(14), field(18), page[6..14] == [0; 8]);
            match self.last.iter().position(|(of, ..)| *of == serial) {
                Some(stream) => {
                    let (_, last, was_header) = &mut self.last[stream];
                    let missing = number.wrapping_sub(last.wrapping_add(1));
                    // What is taken from a running stream has its headers first, then goes on where it was.
                    if missing != 0 && !*was_header {
                        return Err(format!("Ogg pages are missing before byte {here}"));
                    }
                    (*last, *was_header) = (number, header);
                }
                None if self.last.len() < STREAMS => self.last.push((serial, number, header)),
                None => {}
            }
            i += bytes;
        }
        self.held.drain(..i);
        self.at += i as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Length of the page that begins here, once it is all there; of what is no page, anything.
fn page_bytes(rest: &[u8]) -> Option<usize> {
    let count = usize::from(*rest.get(HEAD - 1)?);
    if !rest.starts_with(b"OggS") {
        return Some(0);
    }
    let table = rest.get(HEAD..HEAD + count)?;
    let bytes = HEAD + count + table.iter().map(|&n| usize::from(n)).sum::<usize>();
    (rest.len() >= bytes).then_some(bytes)
}

/// CRC-32 of polynomial 0x04c11db7, not reflected, from 0, with zeros in the place of itself.
fn checksum(page: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut i) = ([0; 256], 0);
        while i < 256 {
            let (mut value, mut bit) = ((i as u32) << 24, 0);
            while bit < 8 {
                value = if value >> 31 == 1 { value << 1 ^ 0x04c1_1db7 } else { value << 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    let step = |crc: u32, byte: u8| crc << 8 ^ TABLE[usize::from((crc >> 24) as u8 ^ byte)];
    let bytes = page.iter().enumerate().map(|(i, &byte)| if (22..26).contains(&i) { 0 } else { byte });
    bytes.fold(0, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::follow::fault_of;

    /// One page of a stream, by number, with its checksum.
    fn page(number: u32, granule: u64) -> Vec<u8> {
        let body: Vec<u8> = (0..300u32).map(|i| (i * 7 + number) as u8).collect();
        let mut page = b"OggS\0\0".to_vec();
        page.extend(granule.to_le_bytes());
        page.extend(99u32.to_le_bytes());
        page.extend(number.to_le_bytes());
        page.extend([0; 4]);
        page.extend([2, 255, 45]);
        page.extend(body);
        let crc = checksum(&page);
        page[22..26].copy_from_slice(&crc.to_le_bytes());
        page
    }

    fn fault(bytes: &[u8]) -> Option<String> {
        fault_of(bytes, Pages::default)
    }

    #[test]
    fn pages_that_are_missing_or_damaged_are_found() {
        let pages: Vec<Vec<u8>> =
            [(0, 0), (1, 0), (2, 900), (3, 1800), (4, 2700)].map(|(n, at)| page(n, at)).to_vec();
        let whole = pages.concat();
        assert_eq!(fault(&whole), None);
        assert_eq!(fault(&[&whole[..], b"and something else at the end of it all"].concat()), None);
        // A stream that was joined while it ran, and one that stops in a page.
        assert_eq!(fault(&[&pages[0][..], &pages[1], &pages[3], &pages[4]].concat()), None);
        assert_eq!(fault(&whole[..whole.len() - 5]), None);
        let at = pages[..3].iter().map(Vec::len).sum::<usize>();
        let missing = [&whole[..at], &pages[4]].concat();
        assert_eq!(fault(&missing), Some(format!("Ogg pages are missing before byte {at}")));
        let mut flipped = whole.clone();
        flipped[at + 100] ^= 4;
        assert_eq!(fault(&flipped), Some(format!("the Ogg page at byte {at} is damaged")));
        let junk = [&whole[..at], b"no page, but long enough for one", &whole[at..]].concat();
        let words = format!("its bytes from {at} on are no Ogg page, and pages follow them");
        assert_eq!(fault(&junk), Some(words));
    }
}
