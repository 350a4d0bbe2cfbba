//! Recordings: WAV that is made here, and the committed clips of other formats.

use std::{num::NonZeroU32, path::Path};

use mseq_core::Item;
use mseq_source::{AudioOptions, AudioSource, Channel, InputSet, Loudness};

use super::{
    case::{Case, Kind, Outcome},
    mutate::damage,
};
use crate::random::Random;

/// FLAC, Ogg Vorbis, and MP4 with a picture.
const CLIPS: [&[u8]; 3] = [
    include_bytes!("../../../../data/audio/clips/chirp.flac"),
    include_bytes!("../../../../data/audio/clips/bell.ogg"),
    include_bytes!("../../../../data/audio/film.mp4"),
];

pub(super) struct Recordings;

/// RIFF or RF64, of any width, with chunks before the data.
fn wav(random: &mut Random) -> Vec<u8> {
    let (tag, bits) = *random.pick(&[(1u16, 8u16), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)]);
    let (channels, rate) = (1 + random.below(2) as u16, *random.pick(&[8000u32, 16_000, 44_100]));
    let frame = channels * (bits / 8);
    // Zeros are numbers of every width.
    let data = vec![0u8; random.below(3000) * usize::from(frame)];
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(rate.to_le_bytes());
    fmt.extend((rate * u32::from(frame)).to_le_bytes());
    fmt.extend(frame.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    let long = random.one_in(4);
    let mut out = if long { b"RF64\xff\xff\xff\xffWAVE".to_vec() } else { b"RIFF\0\0\0\0WAVE".to_vec() };
    let mut chunk = |name: &[u8; 4], length: u32, body: &[u8]| {
        out.extend(name);
        out.extend(length.to_le_bytes());
        out.extend(body);
        if body.len() % 2 == 1 {
            out.push(0);
        }
    };
    if long {
        let sizes = [0, data.len() as u64, 0].map(u64::to_le_bytes).concat();
        chunk(b"ds64", 28, &[&sizes[..], &[0; 4]].concat());
    }
    if random.one_in(3) {
        let text = vec![b'x'; random.below(9)];
        chunk(b"LIST", text.len() as u32, &text);
    }
    chunk(b"fmt ", fmt.len() as u32, &fmt);
    let length = if long || random.one_in(5) { u32::MAX } else { data.len() as u32 };
    chunk(b"data", length, &data);
    out
}

impl Kind for Recordings {
    fn name(&self) -> &'static str {
        "recordings"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        // A film is an error as it is.
        let clips = if damaged { CLIPS.len() } else { CLIPS.len() - 1 };
        let mut bytes = if random.one_in(2) { wav(random) } else { CLIPS[random.below(clips)].to_vec() };
        if damaged {
            let others = [wav(random), CLIPS[random.below(clips)].to_vec()];
            damage(&mut bytes, &others, false, random);
        }
        Case::new([("x.wav".to_owned(), bytes)].into(), random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        let set = match InputSet::resolve_audio(&[folder.join("x.wav").display().to_string()], false) {
            Ok(set) => set,
            Err(e) => return Outcome::refused(&e),
        };
        let options = AudioOptions {
            channel: (case.choice & 1 == 0).then_some(Channel::Mix),
            // Resampling takes most of the time: the rate of most cases.
            model_rate: NonZeroU32::new(16_000).unwrap_or(NonZeroU32::MIN),
            hop: NonZeroU32::MIN,
            mulaw: case.choice & 2 == 0,
            loudness: if case.choice & 12 == 0 { Loudness::TwoPass } else { Loudness::None },
        };
        let block = 1 + (case.choice >> 8) as usize % 5000;
        let (mut source, mut open) = (AudioSource::open(set, options, block), false);
        loop {
            match source.next() {
                Err(e) => return Outcome::refused(&e),
                Ok(None) if open => return Outcome::Wrong("a recording without an end".to_owned()),
                Ok(None) => return Outcome::Read,
                Ok(Some(Item::Begin(_))) => open = true,
                Ok(Some(Item::End(_))) => open = false,
                Ok(Some(Item::Tokens(tokens))) => {
                    if tokens.is_empty() || tokens.len() > block || tokens.iter().any(|&t| t > 255) {
                        return Outcome::Wrong(format!("a block of {} tokens", tokens.len()));
                    }
                }
                Ok(Some(Item::Samples(samples))) => {
                    if samples.is_empty() || samples.len() > block || samples.iter().any(|v| !v.is_finite()) {
                        return Outcome::Wrong(format!("a block of {} samples", samples.len()));
                    }
                }
            }
        }
    }
}
