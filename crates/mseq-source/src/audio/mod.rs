//! Recordings to samples at the rate of a model, streaming.

mod coded;
mod mp4;
mod resample;
#[cfg(test)]
mod tests;
mod wav;

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::vec;

use mseq_core::{Item, RecordHead, RecordTail, SequenceFormat, Signal};
use symphonia::core::io::ReadOnlySource;

use crate::error::AudioError;
use crate::{Counts, Input, InputSet, Keep, RecordFilter, Result};
use resample::Resampler;

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
}

pub(crate) fn kind(head: &[u8]) -> Option<Kind> {
    let at = |i: usize, magic: &[u8]| head.get(i..).is_some_and(|rest| rest.starts_with(magic));
    Some(match head {
        _ if (at(0, b"RIFF") || at(0, b"RF64")) && at(8, b"WAVE") => Kind::Wav,
        _ if at(0, b"RIFF") && at(8, b"AVI ") => Kind::Video,
        _ if at(0, b"\x1a\x45\xdf\xa3") => Kind::Video,
        _ if at(0, b"fLaC") => Kind::Flac,
        _ if at(0, b"OggS") => Kind::Ogg,
        _ if at(4, b"ftyp") => Kind::Mp4,
        _ if at(0, b"ID3") => Kind::Mp3,
        [0xff, b, ..] if b & 0xf6 == 0xf0 => Kind::Aac,
        // Layer III, and no reserved version.
        [0xff, b, ..] if b & 0xe6 == 0xe2 && b & 0x18 != 0x08 => Kind::Mp3,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    rate: u32,
    channels: usize,
}

/// Sound of a file, channels interleaved.
trait Decoder: Send {
    fn layout(&self) -> Layout;
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

/// The sample in the middle of a mu-law level; levels above 255 are full scale.
///
/// ```
/// assert!((0..256).all(|level| mseq_source::mulaw(mseq_source::mulaw_sample(level)) == level));
/// assert_eq!([0, 255].map(mseq_source::mulaw_sample), [-1.0, 1.0]);
/// ```
pub fn mulaw_sample(level: u32) -> f32 {
    let y = 2.0 * f64::from(level.min(255)) / 255.0 - 1.0;
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
                            Box::new(wav::Wav::open(&path, io::BufReader::with_capacity(1 << 16, file))?)
                        }
                        kind => {
                            let lead =
                                if kind == Kind::Mp4 { mp4::lead(&mut file).map_err(io)? } else { None };
                            file.seek(SeekFrom::Start(0)).map_err(io)?;
                            Box::new(coded::Coded::open(&path, Box::new(file), lead)?)
                        }
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
        Some(kind) => Ok(kind),
        None if head.is_empty() => {
            Err(AudioError::NotAudio { path: path.to_owned(), what: "it is empty".into() }.into())
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

fn piped(path: &str, head: Vec<u8>, rest: impl Read + Send + Sync + 'static) -> Result<Box<dyn Decoder>> {
    let kind = known(path, &head)?;
    let whole = Cursor::new(head).chain(rest);
    Ok(match kind {
        Kind::Wav => Box::new(wav::Wav::open(path, whole)?),
        Kind::Mp4 => return Err(AudioError::Pipe { what: "M4A" }.into()),
        _ => Box::new(coded::Coded::open(path, Box::new(ReadOnlySource::new(whole)), None)?),
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

/// A recording on its way.
struct Open {
    track: Track,
    resampler: Resampler,
    /// What samples are divided by.
    scale: f32,
    /// At the model's rate, not yet given.
    ready: Vec<f32>,
    ended: bool,
}

impl Open {
    fn new(input: &Input, options: &AudioOptions) -> Result<Self> {
        let scale = match options.loudness {
            Loudness::None => 1.0,
            Loudness::Fixed(std) => std + 1e-3,
            Loudness::TwoPass => {
                deviation(Self::new(input, &AudioOptions { loudness: Loudness::None, ..*options })?)?
            }
        };
        let track = Track::open(input, options.channel)?;
        let resampler = Resampler::new(track.rate, options.model_rate)
            .map_err(|what| AudioError::Unsupported { path: track.path.clone(), what })?;
        Ok(Self { track, resampler, scale, ready: Vec::new(), ended: false })
    }

    /// Fills `ready` up to `want` samples, or fewer at the end.
    fn fill(&mut self, want: usize, buffer: &mut Vec<f32>) -> Result<()> {
        let fault = |track: &Track, what: String| AudioError::Unsupported { path: track.path.clone(), what };
        while self.ready.len() < want && !self.ended {
            let from = self.ready.len();
            if self.track.next(buffer)? {
                self.resampler.push(buffer, &mut self.ready).map_err(|e| fault(&self.track, e))?;
            } else {
                self.ended = true;
                self.resampler.finish(&mut self.ready).map_err(|e| fault(&self.track, e))?;
            }
            if self.scale != 1.0 {
                self.ready[from..].iter_mut().for_each(|v| *v /= self.scale);
            }
        }
        Ok(())
    }
}

/// The unbiased standard deviation of a recording + 0.001.
fn deviation(mut open: Open) -> Result<f32> {
    let (mut n, mut mean, mut square, mut buffer) = (0u64, 0f64, 0f64, Vec::new());
    loop {
        open.fill(1 << 14, &mut buffer)?;
        if open.ready.is_empty() {
            break;
        }
        for v in open.ready.drain(..) {
            n += 1;
            let far = f64::from(v) - mean;
            mean += far / n as f64;
            square += far * (f64::from(v) - mean);
        }
    }
    Ok(if n > 1 { (square / (n - 1) as f64).sqrt() as f32 + 1e-3 } else { 1e-3 })
}

/// Recordings as a stream of samples, or of mu-law tokens.
pub struct AudioSource {
    inputs: vec::IntoIter<Input>,
    options: AudioOptions,
    block: usize,
    filter: Option<RecordFilter>,
    open: Option<Open>,
    records: u64,
    samples: u64,
    buffer: Vec<f32>,
}

impl AudioSource {
    /// A source over `set`, in blocks of `block` samples of the model.
    pub fn open(set: InputSet, options: AudioOptions, block: usize) -> Self {
        let inputs = set.inputs.into_iter();
        let block = block.max(1);
        Self { inputs, options, block, filter: None, open: None, records: 0, samples: 0, buffer: Vec::new() }
    }

    /// Reads only the records that `filter` keeps.
    #[must_use]
    pub fn with_filter(mut self, filter: RecordFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Samples of the model given so far.
    pub fn samples_read(&self) -> u64 {
        self.samples
    }

    /// The next step of the stream, `None` after the last input.
    ///
    /// # Errors
    /// What [`AudioError`] lists; nothing can be read after it.
    #[expect(clippy::should_implement_trait, reason = "an iterator of Result<Option> reads worse")]
    pub fn next(&mut self) -> Result<Option<Item>> {
        let Some(open) = &mut self.open else { return self.begin() };
        open.fill(self.block, &mut self.buffer)?;
        if open.ready.is_empty() {
            let (bases, clipped) = (open.track.done, 0);
            self.open = None;
            return Ok(Some(Item::End(RecordTail { bases, unknown: clipped, ..RecordTail::default() })));
        }
        let rest = open.ready.split_off(self.block.min(open.ready.len()));
        let block = std::mem::replace(&mut open.ready, rest);
        self.samples += block.len() as u64;
        Ok(Some(match self.options.mulaw {
            true => Item::Tokens(block.into_iter().map(mulaw).collect()),
            false => Item::Samples(block),
        }))
    }

    fn begin(&mut self) -> Result<Option<Item>> {
        for input in self.inputs.by_ref() {
            let id: Arc<str> = match input.path() {
                Some(path) => stem(path).into(),
                None => "stdin".into(),
            };
            let (model_rate, hop) = (self.options.model_rate, self.options.hop);
            let mut head = RecordHead {
                source: Arc::clone(input.name()),
                id,
                index: self.records,
                format: SequenceFormat::Audio,
                reversed: None,
                signal: Some(Signal { rate: model_rate, model_rate, hop }),
            };
            self.records += 1;
            if self.filter.as_mut().is_some_and(|filter| filter.choose(&head) == Keep::Skip) {
                continue;
            }
            let open = self.open.insert(Open::new(&input, &self.options)?);
            head.signal = Some(Signal { rate: open.track.rate, model_rate, hop });
            return Ok(Some(Item::Begin(head)));
        }
        Ok(None)
    }
}

/// A file's name without its last ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Counts the samples of all recordings, at their own rates, by decoding them.
///
/// # Errors
/// As reading does.
pub fn count_audio(set: &InputSet, channel: Option<Channel>) -> Result<Counts> {
    let (mut counts, mut buffer) = (Counts::default(), Vec::new());
    for input in &set.inputs {
        let mut track = Track::open(input, channel)?;
        while track.next(&mut buffer)? {}
        counts.records += 1;
        counts.bases += track.done;
        counts.lengths.push(track.done);
        counts.rates.push(track.rate);
    }
    Ok(counts)
}
