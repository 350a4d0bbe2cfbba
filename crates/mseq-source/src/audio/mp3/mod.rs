//! Where the frames of an MP3 file are. A decoder looks for the next one that it knows, and says nothing of
//! what it passed over: [`check`] looks at the first, [`Frames`] at all.

mod frames;

use std::io::{self, Read, Seek, SeekFrom};

use crate::Result;
use crate::error::AudioError;

pub(super) use frames::Frames;

/// Zeros that may follow a tag.
const PADDING: u64 = 1 << 16;

/// The first bytes behind the tags that the file begins with: other formats have such tags too.
///
/// # Errors
/// When a tag ends too early, or the file can't be read.
pub(super) fn behind_tags<F: Read + Seek>(path: &str, file: &mut F) -> Result<Vec<u8>> {
    let at = tags(path, file)?;
    read::<{ super::HEAD }, _>(file, at).map_err(|cause| crate::Error::Io { path: path.to_owned(), cause })
}

/// Where the tags end.
pub(super) fn tags<F: Read + Seek>(path: &str, file: &mut F) -> Result<u64> {
    let io = |cause| crate::Error::Io { path: path.to_owned(), cause };
    let header = |what: String| crate::Error::from(AudioError::Header { path: path.to_owned(), what });
    let mut at = 0;
    loop {
        let head = read::<10, _>(file, at).map_err(io)?;
        let Some(tag) = head.strip_prefix(b"ID3") else { return Ok(at) };
        let Some(&[_, _, flags, a, b, c, d]) = tag.first_chunk() else {
            return Err(header("its ID3 tag ends too early".into()));
        };
        // Seven bits a byte, and a footer of ten bytes where a flag says so.
        let size = [a, b, c, d].iter().fold(0u64, |size, &byte| size << 7 | u64::from(byte & 0x7f));
        at += 10 + size + if flags & 0x10 == 0 { 0 } else { 10 };
    }
}

/// # Errors
/// When what follows the tags is no frame of MPEG layer III, or the file can't be read.
pub(super) fn check<F: Read + Seek>(path: &str, file: &mut F) -> Result<()> {
    let io = |cause| crate::Error::Io { path: path.to_owned(), cause };
    let header = |what: String| crate::Error::from(AudioError::Header { path: path.to_owned(), what });
    let mut at = tags(path, file)?;
    let most = at + PADDING;
    loop {
        let head = read::<4096, _>(file, at).map_err(io)?;
        let zeros = head.iter().take_while(|&&byte| byte == 0).count();
        if zeros < head.len() {
            let frame = &head[zeros..head.len().min(zeros + 4)];
            if is_frame(frame) || frame.len() < 4 && zeros > 0 && at < most {
                return Ok(());
            }
            let (at, found) = (at + zeros as u64, frame.escape_ascii());
            return Err(header(format!("at byte {at} there is no MP3 frame but \"{found}\"")));
        }
        at += zeros as u64;
        if zeros == 0 || at > most {
            return Err(header("it holds no MP3 frame".into()));
        }
    }
}

/// Up to `N` bytes from there on.
fn read<const N: usize, F: Read + Seek>(file: &mut F, at: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.by_ref().take(N as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sync word, a version, layer III, a bit rate and a sample rate that exist. Free format, whose frames don't say
/// how long they are, has no decoder here.
fn is_frame(head: &[u8]) -> bool {
    matches!(head, &[0xff, b, c, _, ..] if b & 0xe6 == 0xe2 && b & 0x18 != 0x08 && !matches!(c >> 4, 0 | 15) && c & 0x0c != 0x0c)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_first_frame_follows_the_tags() {
        let found = |bytes: &[u8]| check("x.mp3", &mut Cursor::new(bytes)).map_err(|e| e.to_string());
        let frame = b"\xff\xfb\x90\x64 and so on";
        let tag = |size: u8, flags: u8| [&b"ID3\x04\0"[..], &[flags, 0, 0, 0, size]].concat();
        assert_eq!(found(frame), Ok(()));
        assert_eq!(found(&[&tag(3, 0)[..], b"abc", frame].concat()), Ok(()));
        assert_eq!(found(&[&tag(2, 0x10)[..], b"abfooterfoot", frame].concat()), Ok(()));
        assert_eq!(found(&[&tag(0, 0)[..], &tag(1, 0), b"a", &[0; 5000], frame].concat()), Ok(()));
        for (bytes, words) in [
            (&b"\xff\xff\xff\xff"[..], "at byte 0 there is no MP3 frame but \"\\xff\\xff\\xff\\xff\""),
            (b"\xff\xfb\xf0\x64", "at byte 0"),
            (b"\xff\xfb\x9c\x64", "at byte 0"),
            (&[&tag(3, 0)[..], b"abcRIFF"].concat(), "at byte 13 there is no MP3 frame but \"RIFF\""),
            (&tag(100, 0), "holds no MP3 frame"),
            (b"ID3", "ends too early"),
            (&[0; 200_000], "holds no MP3 frame"),
        ] {
            let e = found(bytes).unwrap_err();
            assert!(e.contains(words) && e.ends_with("; the file is damaged"), "{e}");
        }
    }
}
