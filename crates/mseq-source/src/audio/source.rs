use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::vec;

use mseq_core::{Item, RecordHead, RecordTail, SequenceFormat, Signal};

use super::resample::Resampler;
use super::{AudioOptions, Channel, Loudness, SampleKind, Track, mulaw};
use crate::error::AudioError;
use crate::{Counts, Input, InputSet, Keep, RecordFilter, Result};

/// A recording on its way.
struct Open {
    track: Track,
    resampler: Resampler,
    /// What samples are divided by.
    scale: f32,
    /// At the model's rate, not yet given.
    ready: Vec<f32>,
    ended: bool,
    /// Samples beyond full scale so far.
    beyond: u64,
    /// Samples at the model's rate that a pass before counted, or the header promises.
    expected: Option<u64>,
}

impl Open {
    fn new(input: &Input, options: &AudioOptions) -> Result<Self> {
        let (scale, expected) = match options.loudness {
            Loudness::None => (1.0, None),
            Loudness::Fixed(std) => (std + 1e-3, None),
            Loudness::TwoPass => {
                let before = Self::new(input, &AudioOptions { loudness: Loudness::None, ..*options })?;
                let (scale, counted) = deviation(before)?;
                (scale, Some(counted))
            }
        };
        let track = Track::open(input, options.channel)?;
        let resampler = Resampler::new(track.rate, options.model_rate)
            .map_err(|what| AudioError::Unsupported { path: track.path.clone(), what })?;
        let promised = || {
            let samples = u128::from(track.decoder.total()?) * u128::from(options.model_rate.get());
            u64::try_from(samples.div_ceil(u128::from(track.rate.get()))).ok()
        };
        let expected = expected.or_else(promised);
        Ok(Self { track, resampler, scale, ready: Vec::new(), ended: false, beyond: 0, expected })
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
            self.beyond += self.ready[from..].iter().filter(|v| v.abs() > 1.0).count() as u64;
            if self.scale != 1.0 {
                self.ready[from..].iter_mut().for_each(|v| *v /= self.scale);
            }
        }
        Ok(())
    }
}

/// The unbiased standard deviation of a recording + 0.001, and how many samples it has.
fn deviation(mut open: Open) -> Result<(f32, u64)> {
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
    Ok((if n > 1 { (square / (n - 1) as f64).sqrt() as f32 + 1e-3 } else { 1e-3 }, n))
}

/// What is known of a recording when it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recording {
    /// Samples a second of the file.
    pub rate: NonZeroU32,
    /// Channels of the file.
    pub channels: usize,
    /// The one that is heard.
    pub channel: Channel,
    /// How the file stores a sample.
    pub kind: SampleKind,
    /// What samples are divided by.
    pub scale: f32,
    /// Samples at the model's rate, where a pass before counted them or the header says.
    pub expected: Option<u64>,
}

/// Recordings as a stream of samples, or of mu-law tokens.
pub struct AudioSource {
    inputs: vec::IntoIter<Input>,
    options: AudioOptions,
    block: usize,
    filter: Option<RecordFilter>,
    open: Option<Open>,
    last: Option<Recording>,
    /// Bytes of the file that is open, and of those before it.
    bytes: (u64, u64),
    records: u64,
    samples: u64,
    buffer: Vec<f32>,
}

impl AudioSource {
    /// A source over `set`, in blocks of `block` samples of the model.
    pub fn open(set: InputSet, options: AudioOptions, block: usize) -> Self {
        let inputs = set.inputs.into_iter();
        let block = block.max(1);
        let (filter, open, last, buffer) = (None, None, None, Vec::new());
        Self { inputs, options, block, filter, open, last, bytes: (0, 0), records: 0, samples: 0, buffer }
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

    /// Bytes of the files that are read, of the one that is open by the share of its samples; where its
    /// header does not tell how many these are, it counts when it is read.
    pub fn bytes_done(&self) -> u64 {
        let (here, before) = self.bytes;
        let share = self.open.as_ref().and_then(|open| {
            let total = open.track.decoder.total().filter(|&total| total > 0)?;
            Some((open.track.done as f64 / total as f64).min(1.0))
        });
        before + (here as f64 * share.unwrap_or(0.0)) as u64
    }

    /// The recording that began last.
    pub fn recording(&self) -> Option<Recording> {
        self.last
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
            let (bases, beyond) = (open.track.done, open.beyond);
            self.open = None;
            self.bytes.1 += std::mem::take(&mut self.bytes.0);
            return Ok(Some(Item::End(RecordTail { bases, beyond, ..RecordTail::default() })));
        }
        // Copied, so that what waits in a queue takes no more than it counts.
        let block = open.ready.drain(..self.block.min(open.ready.len()));
        self.samples += block.len() as u64;
        Ok(Some(match self.options.mulaw {
            true => Item::Tokens(block.map(mulaw).collect()),
            false => Item::Samples(block.collect()),
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
            let bytes = input.bytes().unwrap_or(0);
            if self.filter.as_mut().is_some_and(|filter| filter.choose(&head) == Keep::Skip) {
                self.bytes.1 += bytes;
                continue;
            }
            self.bytes.0 = bytes;
            let open = self.open.insert(Open::new(&input, &self.options)?);
            self.last = Some(Recording {
                rate: open.track.rate,
                channels: open.track.channels,
                channel: open.track.channel,
                kind: open.track.decoder.kind(),
                scale: open.scale,
                expected: open.expected,
            });
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
