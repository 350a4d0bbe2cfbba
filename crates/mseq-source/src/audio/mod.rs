//! Recordings to samples at the rate of a model, streaming.

mod adts;
mod ahead;
mod coded;
mod count;
mod flac;
mod follow;
mod mp3;
mod mp4;
mod ogg;
mod resample;
mod source;
#[cfg(test)]
mod tests;
mod wav;

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;

use symphonia::core::io::{MediaSource, ReadOnlySource};

use crate::error::AudioError;
use crate::{Input, Result};

pub use count::{CountBy, count_audio};
pub use source::{AudioSource, Recording};

/// Rates that are read.
const RATES: (u32, u32) = (1, 1_000_000);
/// Bytes that tell a format.
pub(crate) const HEAD: usize = 512;

/// Formats of sound, and of what is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Wav,
    Flac,
    Mp3,
    Ogg,
    Mp4,
    Aac,
    Video,
    /// One that is known by name only.
    Other(&'static str),
}

pub(crate) fn kind(head: &[u8]) -> Option<Kind> {
    let at = |i: usize, magic: &[u8]| head.get(i..).is_some_and(|rest| rest.starts_with(magic));
    Some(match head {
        _ if (at(0, b"RIFF") || at(0, b"RF64")) && at(8, b"WAVE") => Kind::Wav,
        _ if at(0, b"RIFF") && at(8, b"AVI ") => Kind::Video,
        // Matroska and WebM, Flash, MPEG programme and transport streams, Ogg with Theora.
        _ if at(0, b"\x1a\x45\xdf\xa3") || at(0, b"FLV\x01") || at(0, b"\0\0\x01\xba") => Kind::Video,
        _ if at(0, b"G@") && at(188, b"G") && at(376, b"G") => Kind::Video,
        _ if at(0, b"OggS") && head.windows(7).any(|name| name == b"\x80theora") => Kind::Video,
        _ if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) => Kind::Other("AIFF"),
        _ if at(0, b".snd\0") => Kind::Other("AU"),
        _ if at(0, b"caff\0") => Kind::Other("Core Audio"),
        _ if at(0, b"wvpk") => Kind::Other("WavPack"),
        _ if at(0, b"#!AMR") => Kind::Other("AMR"),
        _ if at(0, b"MThd\0") => Kind::Other("MIDI"),
        _ if at(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11") => Kind::Other("Windows Media"),
        _ if at(0, b"fLaC") => Kind::Flac,
        _ if at(0, b"OggS") => Kind::Ogg,
        // QuickTime files may begin without a type.
        _ if at(4, b"ftyp") => Kind::Mp4,
        _ if at(0, b"\0") && [b"moov", b"mdat", b"wide"].iter().any(|name| at(4, &name[..])) => Kind::Mp4,
        _ if at(0, b"ID3") => Kind::Mp3,
        [0xff, b, ..] if b & 0xf6 == 0xf0 => Kind::Aac,
        // Layer III, and no reserved version.
        [0xff, b, ..] if b & 0xe6 == 0xe2 && b & 0x18 != 0x08 => Kind::Mp3,
        [0xff, 0xfc | 0xfd | 0xf4 | 0xf5, ..] => Kind::Other("MPEG layer II"),
        _ => return None,
    })
}

/// Which channel a model hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The mean of all.
    Mix,
    /// One, from 1: left is 1, right is 2.
    One(usize),
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "mix" => Ok(Self::Mix),
            "left" => Ok(Self::One(1)),
            "right" => Ok(Self::One(2)),
            n => match n.parse() {
                Ok(n) if n > 0 => Ok(Self::One(n)),
                _ => Err("use mix, left, right or a number from 1".into()),
            },
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mix => f.write_str("mix"),
            Self::One(1) => f.write_str("left"),
            Self::One(2) => f.write_str("right"),
            Self::One(n) => write!(f, "{n}"),
        }
    }
}

/// What samples are divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loudness {
    /// The standard deviation of the record + 0.001, found by reading it before.
    TwoPass,
    /// This + 0.001.
    Fixed(f32),
    /// Nothing.
    None,
}

/// How recordings are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AudioOptions {
    /// `None`: mono as it is, stereo mixed, and more refused.
    pub channel: Option<Channel>,
    /// Samples a second of the model.
    pub model_rate: NonZeroU32,
    /// Samples of the model a token.
    pub hop: NonZeroU32,
    /// Whether items are mu-law tokens, not samples.
    pub mulaw: bool,
    /// What samples are divided by.
    pub loudness: Loudness,
}

/// How a file stores a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// A whole number of so many bits. Lossy formats have none of their own, and count as 16.
    Int(u16),
    /// A floating-point number.
    Float,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    rate: u32,
    channels: usize,
}

/// Sound of a file, channels interleaved.
trait Decoder: Send {
    fn layout(&self) -> Layout;
    fn kind(&self) -> SampleKind;
    /// Samples a channel, where the header tells.
    fn total(&self) -> Option<u64>;
    /// The same, where fewer are an error, so that nobody has to count them. A FLAC file that has more than
    /// it says is read to its end all the same.
    fn counted(&self) -> Option<u64>;
    /// Appends the next samples; `false` at the end.
    fn next(&mut self, out: &mut Vec<f32>) -> Result<bool>;
}

/// 8-bit mu-law, as WaveNet has it: 256 levels of [-1, 1].
///
/// ```
/// assert_eq!([-1.0, 0.0, 1.0, 2.0].map(mseq_source::mulaw), [0, 128, 255, 255]);
/// ```
pub fn mulaw(sample: f32) -> u32 {
    let x = f64::from(sample).clamp(-1.0, 1.0);
    let y = x.signum() * (255.0 * x.abs()).ln_1p() / 256f64.ln();
    // Rounded down, in range by the clamp.
    ((y + 1.0) / 2.0 * 255.0 + 0.5) as u32
}

/// The level that a mu-law token stands for: what [`mulaw`] turns into it.
///
/// ```
/// assert!((0..256).all(|id| mseq_source::mulaw(mseq_source::mulaw_level(id)) == id));
/// ```
pub fn mulaw_level(id: u32) -> f32 {
    let y = 2.0 * f64::from(id.min(255)) / 255.0 - 1.0;
    (y.signum() * (256f64.powf(y.abs()) - 1.0) / 255.0) as f32
}

/// One recording, one channel, at its own rate.
struct Track {
    path: String,
    decoder: Box<dyn Decoder>,
    rate: NonZeroU32,
    channels: usize,
    channel: Channel,
    raw: Vec<f32>,
    done: u64,
}

impl Track {
    fn open(input: &Input, channel: Option<Channel>) -> Result<Self> {
        let path = input.label().to_string();
        let io = |cause| crate::Error::Io { path: path.clone(), cause };
        let decoder: Box<dyn Decoder> = match input.path() {
            Some(file) => {
                let mut file = File::open(file).map_err(io)?;
                let mut head = Vec::new();
                file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(io)?;
                let seekable = file.metadata().is_ok_and(|data| data.is_file());
                if seekable {
                    file.seek(SeekFrom::Start(0)).map_err(io)?;
                    match known(&path, &head)? {
                        Kind::Wav => {
                            let len = file.metadata().map_err(io)?.len();
                            let file = io::BufReader::with_capacity(1 << 16, file);
                            Box::new(wav::Wav::open(&path, file, Some(len))?)
                        }
                        kind => seekable_file(&path, kind, file)?,
                    }
                } else {
                    piped(&path, head, file)?
                }
            }
            None => {
                let mut head = Vec::new();
                io::stdin().take(HEAD as u64).read_to_end(&mut head).map_err(io)?;
                piped(&path, head, io::stdin())?
            }
        };
        let Layout { rate, channels } = decoder.layout();
        if channels == 0 {
            return Err(AudioError::Header { path, what: "it holds no sound".into() }.into());
        }
        let (least, most) = RATES;
        let fits = NonZeroU32::new(rate).filter(|rate| rate.get() <= most);
        let rate = fits.ok_or_else(|| AudioError::Rate { path: path.clone(), rate, least, most })?;
        let channel = match channel {
            None if channels > 2 => return Err(AudioError::Channels { path, channels }.into()),
            None => Channel::Mix,
            Some(Channel::One(n)) if n > channels => {
                return Err(AudioError::NoChannel { path, asked: n.to_string(), channels }.into());
            }
            Some(channel) => channel,
        };
        Ok(Self { path, decoder, rate, channels, channel, raw: Vec::new(), done: 0 })
    }

    /// The next samples; none at the end.
    fn next(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        out.clear();
        while out.is_empty() {
            self.raw.clear();
            if !self.decoder.next(&mut self.raw)? {
                return Ok(false);
            }
            let frames = self.raw.chunks_exact(self.channels);
            match self.channel {
                Channel::Mix if self.channels == 1 => out.extend_from_slice(&self.raw),
                Channel::Mix => out.extend(frames.map(|frame| {
                    let sum: f64 = frame.iter().map(|&v| f64::from(v)).sum();
                    (sum / self.channels as f64) as f32
                })),
                Channel::One(n) => out.extend(frames.filter_map(|frame| frame.get(n - 1))),
            }
        }
        // The resampler spreads what is near the end of f32, too.
        if let Some(i) = out.iter().position(|v| !v.is_finite() || v.abs() > 1e30) {
            let sample = self.done + i as u64;
            let seconds = sample as f64 / f64::from(self.rate.get());
            return Err(
                AudioError::NotFinite { path: self.path.clone(), sample, seconds, value: out[i] }.into()
            );
        }
        self.done += out.len() as u64;
        Ok(true)
    }
}

/// The format, or what is wrong with an input that is no sound.
fn known(path: &str, head: &[u8]) -> Result<Kind> {
    match kind(head) {
        Some(Kind::Video) => Err(AudioError::Video { path: path.to_owned() }.into()),
        Some(Kind::Other(what)) => {
            Err(AudioError::Unsupported { path: path.to_owned(), what: what.to_owned() }.into())
        }
        Some(kind) => Ok(kind),
        None if head.is_empty() => {
            Err(AudioError::NotAudio { path: path.to_owned(), what: "it is empty".into() }.into())
        }
        None if head.starts_with(b"\x1f\x8b") => {
            let what = "it is gzip; unpack it first, recordings are not read from gzip".to_owned();
            Err(AudioError::NotAudio { path: path.to_owned(), what }.into())
        }
        None if head.starts_with(b">") => {
            Err(AudioError::IsDna { path: path.to_owned(), what: "FASTA" }.into())
        }
        None if head.starts_with(b"@") => {
            Err(AudioError::IsDna { path: path.to_owned(), what: "FASTQ" }.into())
        }
        None => {
            let what = format!("it starts with \"{}\"", head[..head.len().min(24)].escape_ascii());
            Err(AudioError::NotAudio { path: path.to_owned(), what }.into())
        }
    }
}

fn seekable_file(path: &str, kind: Kind, mut file: File) -> Result<Box<dyn Decoder>> {
    let io = |cause| crate::Error::Io { path: path.to_owned(), cause };
    let kind = match kind {
        // What a tag says nothing of.
        Kind::Mp3 => match self::kind(&mp3::behind_tags(path, &mut file)?) {
            Some(other @ (Kind::Flac | Kind::Aac)) => other,
            Some(Kind::Other(what)) => {
                return Err(AudioError::Unsupported { path: path.to_owned(), what: what.to_owned() }.into());
            }
            _ => kind,
        },
        kind => kind,
    };
    let fault = match kind {
        Kind::Mp3 => {
            mp3::check(path, &mut file)?;
            follow::find_fault(&mut file, mp3::Frames::new()).map_err(io)?
        }
        Kind::Ogg => follow::find_fault(&mut file, ogg::Pages::default()).map_err(io)?,
        Kind::Aac => follow::find_fault(&mut file, adts::Adts::default()).map_err(io)?,
        _ => None,
    };
    if let Some(what) = fault {
        return Err(AudioError::Header { path: path.to_owned(), what }.into());
    }
    let lead = if kind == Kind::Mp4 { mp4::lead(&mut file).map_err(io)? } else { None };
    let frames = match kind {
        Kind::Flac => {
            let begin = mp3::tags(path, &mut file)?;
            Some(flac::frame_bytes(&mut file, begin).map_err(io)?)
        }
        _ => None,
    };
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let source: Box<dyn MediaSource> = match kind {
        // Of what has no count symphonia would make one, from the size and the first frames, and cut there.
        Kind::Mp3 | Kind::Aac => Box::new(ReadOnlySource::new(file)),
        _ => Box::new(file),
    };
    Ok(Box::new(coded::Coded::open(path, source, coded::Known { lead, frames })?))
}

fn piped(path: &str, head: Vec<u8>, rest: impl Read + Send + Sync + 'static) -> Result<Box<dyn Decoder>> {
    let kind = known(path, &head)?;
    let whole = Cursor::new(head).chain(rest);
    Ok(match kind {
        Kind::Wav => Box::new(wav::Wav::open(path, whole, None)?),
        Kind::Mp4 => return Err(AudioError::Pipe { what: "M4A" }.into()),
        Kind::Mp3 => {
            let whole = follow::Followed { inner: whole, follow: mp3::Frames::new() };
            Box::new(coded::Coded::open(path, Box::new(ReadOnlySource::new(whole)), coded::Known::default())?)
        }
        Kind::Ogg => {
            let whole = follow::Followed { inner: whole, follow: ogg::Pages::default() };
            Box::new(coded::Coded::open(path, Box::new(ReadOnlySource::new(whole)), coded::Known::default())?)
        }
        Kind::Aac => {
            let whole = follow::Followed { inner: whole, follow: adts::Adts::default() };
            Box::new(coded::Coded::open(path, Box::new(ReadOnlySource::new(whole)), coded::Known::default())?)
        }
        Kind::Flac => {
            let follow = flac::Frames::default();
            let known = coded::Known { frames: Some(follow.bytes()), lead: None };
            let whole = follow::Followed { inner: whole, follow };
            Box::new(coded::Coded::open(path, Box::new(ReadOnlySource::new(whole)), known)?)
        }
        _ => {
            Box::new(coded::Coded::open(path, Box::new(ReadOnlySource::new(whole)), coded::Known::default())?)
        }
    })
}

/// Looks whether a file is sound, by its first bytes.
///
/// # Errors
/// When it can't be read, or is something else.
pub(crate) fn check(input: &Input) -> Result<()> {
    let Some(path) = input.path() else { return Ok(()) };
    let head = head(path).map_err(|cause| crate::Error::Io { path: input.name().to_string(), cause })?;
    known(input.name(), &head).map(|_| ())
}

/// The first bytes of a file.
pub(crate) fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}
