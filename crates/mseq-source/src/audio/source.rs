use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::vec;

use mseq_core::{Item, RecordHead, RecordTail, SequenceFormat, Signal};

use super::ahead::{Ahead, Coming};
use super::resample::Resampler;
use super::{AudioOptions, Channel, Loudness, SampleKind, Track, mulaw};
use crate::error::AudioError;
use crate::{Input, InputSet, Keep, RecordFilter, Result};

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

/// Samples of the model, or tokens of them, and how far that is.
pub(super) struct Block {
    /// `None` at the end.
    item: Option<Item>,
    /// Samples of the model.
    samples: u64,
    reached: Reached,
}

impl Block {
    pub(super) fn is_end(&self) -> bool {
        self.item.is_none()
    }
}

/// How far a recording is decoded.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// Samples of the file, and how many it has where its header tells.
    done: u64,
    total: Option<u64>,
    /// Samples beyond full scale.
    beyond: u64,
}

/// A recording that is decoded block by block.
pub(super) struct Decoding {
    open: Open,
    mulaw: bool,
    buffer: Vec<f32>,
}

impl Decoding {
    pub(super) fn open(input: &Input, options: &AudioOptions) -> Result<Self> {
        Ok(Self { open: Open::new(input, options)?, mulaw: options.mulaw, buffer: Vec::new() })
    }

    pub(super) fn recording(&self) -> Recording {
        let Open { track, scale, expected, .. } = &self.open;
        Recording {
            rate: track.rate,
            channels: track.channels,
            channel: track.channel,
            kind: track.decoder.kind(),
            scale: *scale,
            expected: *expected,
        }
    }

    /// Up to `block` samples of the model.
    pub(super) fn next(&mut self, block: usize) -> Result<Block> {
        let open = &mut self.open;
        open.fill(block, &mut self.buffer)?;
        // Copied, so that what waits in a queue takes no more than it counts.
        let block = open.ready.drain(..block.min(open.ready.len()));
        let samples = block.len() as u64;
        let item = match (samples, self.mulaw) {
            (0, _) => None,
            (_, true) => Some(Item::Tokens(block.map(mulaw).collect())),
            (_, false) => Some(Item::Samples(block.collect())),
        };
        let Track { decoder, done, .. } = &open.track;
        let reached = Reached { done: *done, total: decoder.total(), beyond: open.beyond };
        Ok(Block { item, samples, reached })
    }
}

/// The recording that is read: decoded when it is asked for, or by another thread.
enum Current {
    Here(Box<Decoding>),
    Elsewhere(Coming),
}

/// A recording whose turn will come.
struct Next {
    head: RecordHead,
    bytes: u64,
    input: Input,
    /// Where it is being decoded by then.
    coming: Option<Coming>,
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
    ahead: Option<Ahead>,
    /// Recordings that are decoded ahead of their turn.
    queue: VecDeque<Next>,
    current: Option<(Current, Reached)>,
    last: Option<Recording>,
    /// Bytes of the file that is open, and of those before it.
    bytes: (u64, u64),
    records: u64,
    samples: u64,
}

impl AudioSource {
    /// A source over `set`, in blocks of `block` samples of the model.
    pub fn open(set: InputSet, options: AudioOptions, block: usize) -> Self {
        Self {
            inputs: set.inputs.into_iter(),
            options,
            block: block.max(1),
            filter: None,
            ahead: None,
            queue: VecDeque::new(),
            current: None,
            last: None,
            bytes: (0, 0),
            records: 0,
            samples: 0,
        }
    }

    /// Reads only the records that `filter` keeps.
    #[must_use]
    pub fn with_filter(mut self, filter: RecordFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Decodes so many recordings at once, on threads of their own. The stream is the same, and a fault of a
    /// recording is told in its turn. Beside its decoder and resampler a thread holds up to 64 blocks.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        // One alone has no one to be ahead of.
        let threads = threads.min(self.inputs.len());
        self.ahead = if threads > 1 { Ahead::start(threads) } else { None };
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
        let share = self.current.as_ref().and_then(|(_, Reached { done, total, .. })| {
            let total = total.filter(|&total| total > 0)?;
            Some((*done as f64 / total as f64).min(1.0))
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
        let Some((current, reached)) = &mut self.current else { return self.begin() };
        let block = match current {
            Current::Here(decoding) => decoding.next(self.block)?,
            Current::Elsewhere(coming) => coming.block()?,
        };
        *reached = block.reached;
        self.samples += block.samples;
        if block.item.is_some() {
            return Ok(block.item);
        }
        let Reached { done: bases, beyond, .. } = block.reached;
        self.current = None;
        self.bytes.1 += std::mem::take(&mut self.bytes.0);
        Ok(Some(Item::End(RecordTail { bases, beyond, ..RecordTail::default() })))
    }

    fn begin(&mut self) -> Result<Option<Item>> {
        let wanted = self.ahead.as_ref().map_or(1, Ahead::threads);
        while self.queue.len() < wanted
            && let Some(next) = self.choose()
        {
            self.queue.push_back(next);
        }
        let Some(Next { mut head, bytes, input, coming }) = self.queue.pop_front() else { return Ok(None) };
        self.bytes.0 = bytes;
        let (current, recording) = match coming {
            Some(coming) => {
                let recording = coming.recording()?;
                (Current::Elsewhere(coming), recording)
            }
            None => {
                let decoding = Decoding::open(&input, &self.options)?;
                let recording = decoding.recording();
                (Current::Here(Box::new(decoding)), recording)
            }
        };
        self.current = Some((current, Reached::default()));
        self.last = Some(recording);
        if let Some(signal) = &mut head.signal {
            signal.rate = recording.rate;
        }
        Ok(Some(Item::Begin(head)))
    }

    /// The next recording that is wanted, which threads begin to decode.
    fn choose(&mut self) -> Option<Next> {
        for input in self.inputs.by_ref() {
            let id: Arc<str> = match input.path() {
                Some(path) => stem(path).into(),
                None => "stdin".into(),
            };
            let (model_rate, hop) = (self.options.model_rate, self.options.hop);
            let head = RecordHead {
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
            let coming =
                self.ahead.as_ref().map(|ahead| ahead.decode(input.clone(), self.options, self.block));
            return Some(Next { head, bytes, input, coming });
        }
        None
    }
}

/// A file's name without its last ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
