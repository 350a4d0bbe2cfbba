//! The edit list of the first sound track of an MP4: what lies before the sound.

use std::io::{self, Read, Seek, SeekFrom};

/// Boxes that are looked into, and how deep they lie.
const INTO: [&[u8; 4]; 4] = [b"moov", b"trak", b"edts", b"mdia"];
const DEEPEST: u32 = 4;
/// Most bytes of a box that is read.
const MOST: u64 = 4096;

/// What one track says.
#[derive(Default)]
struct Track {
    /// Of its first edit with media, in `scale`.
    start: Option<u64>,
    scale: Option<u32>,
    sound: bool,
}

/// Media before the sound begins, and the units of that a second.
pub(super) fn lead<F: Read + Seek>(file: &mut F) -> io::Result<Option<(u64, u32)>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut tracks = Vec::new();
    walk(file, 0, end, 0, &mut tracks)?;
    let sound = tracks.into_iter().find(|track| track.sound);
    Ok(sound.and_then(|track| Some((track.start.filter(|&start| start > 0)?, track.scale?))))
}

fn walk<F: Read + Seek>(
    file: &mut F,
    mut at: u64,
    end: u64,
    depth: u32,
    tracks: &mut Vec<Track>,
) -> io::Result<()> {
    while at + 8 <= end {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0u8; 16];
        let n = usize::try_from((end - at).min(16)).unwrap_or(16);
        file.read_exact(&mut head[..n])?;
        let short = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (size, body) = match short {
            0 => (end - at, 8),
            1 => (head[8..].try_into().map_or(0, u64::from_be_bytes), 16),
            size => (u64::from(size), 8),
        };
        // A damaged box: the decoder says so.
        if size < body || size > end - at {
            return Ok(());
        }
        let name = [head[4], head[5], head[6], head[7]];
        if INTO.contains(&&name) && depth < DEEPEST {
            if &name == b"trak" {
                tracks.push(Track::default());
            }
            walk(file, at + body, at + size, depth + 1, tracks)?;
        } else if let Some(track) = tracks.last_mut()
            && [b"elst", b"mdhd", b"hdlr"].contains(&&name)
        {
            let mut bytes = vec![0; usize::try_from((size - body).min(MOST)).unwrap_or(0)];
            file.seek(SeekFrom::Start(at + body))?;
            file.read_exact(&mut bytes)?;
            track.read(&name, &bytes);
        }
        at += size;
    }
    Ok(())
}

impl Track {
    fn read(&mut self, name: &[u8; 4], b: &[u8]) {
        let u32_at = |i: usize| Some(u32::from_be_bytes(b.get(i..i + 4)?.try_into().ok()?));
        let u64_at = |i: usize| Some(u64::from_be_bytes(b.get(i..i + 8)?.try_into().ok()?));
        let long = b.first() == Some(&1);
        match name {
            b"hdlr" => self.sound = b.get(8..12) == Some(b"soun"),
            b"mdhd" => self.scale = u32_at(if long { 20 } else { 12 }),
            _ => {
                let each = if long { 20 } else { 12 };
                let media = |i: usize| match long {
                    true => u64_at(8 + i * each + 8),
                    false => u32_at(8 + i * each + 4).map(|v| i64::from(v.cast_signed()).cast_unsigned()),
                };
                // An edit of -1 is an empty one.
                self.start = (0..u32_at(4).unwrap_or(0) as usize).map_while(media).find(|&v| v >> 63 == 0);
            }
        }
    }
}
