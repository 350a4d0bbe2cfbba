//! FLAC, MP3, Ogg Vorbis and AAC, through symphonia.

use std::sync::atomic::Ordering;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_AC3, CODEC_ID_ALAC, CODEC_ID_EAC3, CODEC_ID_FLAC, CODEC_ID_MP1, CODEC_ID_MP2,
    CODEC_ID_OPUS, CODEC_ID_SPEEX, CODEC_ID_VORBIS,
};
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::units::TimeBase;

use super::flac::FrameBytes;
use super::{Decoder, Layout, SampleKind};
use crate::Result;
use crate::error::AudioError;

pub(super) struct Coded {
    path: String,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    layout: Layout,
    kind: SampleKind,
    /// Samples that the header promises.
    wanted: Option<u64>,
    done: u64,
    /// Decoded before the layout was asked for.
    first: Vec<f32>,
    ended: bool,
    /// Samples that were left out at the start.
    lead: u64,
    /// Whether packets of the format say where they begin, in samples.
    timed: bool,
    /// Where the next one does.
    next_at: Option<i64>,
    /// Bytes of all frames, and of the packets so far.
    frames: Option<FrameBytes>,
    packets: u64,
}

fn words(fault: &Fault) -> String {
    match fault {
        Fault::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => "it ends too early".into(),
        Fault::Unsupported(what) | Fault::DecodeError(what) | Fault::LimitError(what) => (*what).into(),
        other => other.to_string(),
    }
}

/// Codings that are met in the containers, and not decoded.
fn coding(codec: AudioCodecId) -> &'static str {
    match codec {
        CODEC_ID_OPUS => "Opus",
        CODEC_ID_SPEEX => "Speex",
        CODEC_ID_ALAC => "ALAC",
        CODEC_ID_AC3 | CODEC_ID_EAC3 => "AC-3",
        CODEC_ID_MP1 | CODEC_ID_MP2 => "MPEG layer I or II",
        _ => "something else than FLAC, MP3, Vorbis or AAC",
    }
}

/// What is known of a stream beside what symphonia finds.
#[derive(Default)]
pub(super) struct Known {
    /// Samples before the sound that an MP4 says are not to be heard, and in what unit a second.
    pub(super) lead: Option<(u64, u32)>,
    /// Bytes of FLAC frames.
    pub(super) frames: Option<FrameBytes>,
}

/// Why AAC is not decoded.
fn unlike_aac(parameters: &AudioCodecParameters) -> &'static str {
    match parameters.channels.as_ref().map(Channels::count) {
        Some(3..) => "AAC of more than two channels",
        _ => "AAC of another profile than LC",
    }
}

/// Whether an AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1) says that the upper half of the sound is
/// made by spectral band replication, which symphonia leaves out: in the object type, or behind what is of LC.
fn has_band_replication(config: &[u8]) -> bool {
    let Some(head) = config.first_chunk::<2>().map(|head| u16::from_be_bytes(*head)) else { return false };
    let kind = head >> 11;
    let Some(&[a, b, c]) = config.get(2..5) else { return kind == 5 || kind == 29 };
    let behind = u32::from_be_bytes([0, a, b, c]);
    // Eleven bits of a mark, five of a type, one that says it is there.
    kind == 5 || kind == 29 || behind >> 13 == 0x2b7 && behind >> 8 & 31 == 5 && behind >> 7 & 1 == 1
}

impl Coded {
    /// Opens a stream of which `known` was found out before.
    pub(super) fn open(path: &str, source: Box<dyn MediaSource>, known: Known) -> Result<Self> {
        let header = |what: String| AudioError::Header { path: path.to_owned(), what };
        let panicked = |e: mseq_core::DecoderPanic| header(e.to_string());
        let stream = MediaSourceStream::new(source, Default::default());
        let format = mseq_core::decode(|| {
            let options = FormatOptions::default();
            symphonia::default::get_probe().probe(&Hint::new(), stream, options, Default::default())
        })
        .map_err(panicked)?
        .map_err(|e| header(format!("its header can't be read ({})", words(&e))))?;
        if format.default_track(TrackType::Video).is_some() {
            return Err(AudioError::Video { path: path.to_owned() }.into());
        }
        let track = format.default_track(TrackType::Audio).ok_or_else(|| header("it has no sound".into()))?;
        let parameters = track.codec_params.as_ref().and_then(|p| p.audio());
        let parameters = parameters.ok_or_else(|| header("its sound has no known coding".into()))?;
        let unsupported = |what: String| AudioError::Unsupported { path: path.to_owned(), what };
        let options = AudioDecoderOptions::default();
        let decoder =
            symphonia::default::get_codecs().make_audio_decoder(parameters, &options).map_err(|_| {
                unsupported(match parameters.codec {
                    CODEC_ID_AAC => unlike_aac(parameters).to_owned(),
                    codec => format!("sound coded as {}", coding(codec)),
                })
            })?;
        if parameters.codec == CODEC_ID_AAC
            && parameters.extra_data.as_deref().is_some_and(has_band_replication)
        {
            return Err(unsupported("HE-AAC (spectral band replication)".to_owned()).into());
        }
        let bits = parameters.bits_per_sample.and_then(|bits| u16::try_from(bits).ok());
        let kind = SampleKind::Int(bits.map_or(16, |bits| bits.next_multiple_of(8).clamp(8, 32)));
        let in_samples =
            |base: TimeBase| base.numer.get() == 1 && Some(base.denom.get()) == parameters.sample_rate;
        let timed = parameters.codec == CODEC_ID_FLAC && track.time_base.is_some_and(in_samples);
        // Of Ogg a place in the stream that it was taken from, and none to count on; its pages are followed.
        let wanted = track.num_frames.filter(|_| parameters.codec != CODEC_ID_VORBIS);
        let (id, codec) = (track.id, parameters.codec);
        let (path, layout) = (path.to_owned(), Layout { rate: 0, channels: 0 });
        let mut new = Self {
            path,
            format,
            decoder,
            track: id,
            layout,
            kind,
            wanted,
            done: 0,
            first: Vec::new(),
            ended: false,
            lead: 0,
            timed,
            next_at: None,
            // Of a stream whose samples are counted these tell.
            frames: known.frames.filter(|_| timed && wanted.is_none()),
            packets: 0,
        };
        // The first packet tells what comes out, which a header may not know (AAC).
        let mut first = Vec::new();
        while new.layout.channels == 0 && new.packet(&mut first)? {}
        new.first = first;
        if codec == CODEC_ID_VORBIS && new.layout.channels > 2 {
            // symphonia undoes the couplings of channels in the wrong order (Vorbis I, section 4.3.5), and where
            // there is more than one they mix.
            let what = format!("Ogg Vorbis of {} channels", new.layout.channels);
            return Err(AudioError::Unsupported { path: new.path, what }.into());
        }
        // Symphonia leaves edit lists of MP4 to its user.
        if let Some((lead, scale)) = known.lead {
            let lead = u128::from(lead) * u128::from(new.layout.rate) / u128::from(scale.max(1));
            let mut lead =
                usize::try_from(lead).unwrap_or(usize::MAX).saturating_mul(new.layout.channels.max(1));
            loop {
                let now = lead.min(new.first.len());
                new.first.drain(..now);
                lead -= now;
                if lead == 0 || !new.packet_into_first()? {
                    break;
                }
            }
            new.lead = new.done;
            new.done = (new.first.len() / new.layout.channels.max(1)) as u64;
            new.lead -= new.done;
        }
        Ok(new)
    }

    fn packet_into_first(&mut self) -> Result<bool> {
        let mut first = std::mem::take(&mut self.first);
        let more = self.packet(&mut first);
        self.first = first;
        more
    }

    fn damaged(&self, what: String) -> AudioError {
        let seconds = self.done as f64 / f64::from(self.layout.rate.max(1));
        AudioError::Damaged { path: self.path.clone(), sample: self.done, seconds, what }
    }

    /// The samples of one packet; `false` after the last.
    fn packet(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        let packet = match mseq_core::decode(|| self.format.next_packet()) {
            Err(panic) => return Err(self.damaged(panic.to_string()).into()),
            Ok(Ok(Some(packet))) => packet,
            Ok(Ok(None)) => {
                self.ended = true;
                return match self.wanted {
                    Some(wanted) if self.done + self.lead < wanted => {
                        let (path, samples) = (self.path.clone(), self.done);
                        Err(AudioError::Truncated { path, samples, wanted }.into())
                    }
                    _ => {
                        let bytes = self.frames.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed));
                        match bytes.saturating_sub(self.packets) {
                            0 => Ok(false),
                            n => {
                                let what = format!(
                                    "its last {n} bytes are no whole frame: it was cut off, or something else follows"
                                );
                                Err(self.damaged(what).into())
                            }
                        }
                    }
                };
            }
            Ok(Err(Fault::ResetRequired)) => {
                return Err(self.damaged("another stream begins here (chained Ogg); split it".into()).into());
            }
            Ok(Err(e)) => {
                return Err(match (&e, self.wanted) {
                    (Fault::IoError(cause), Some(wanted))
                        if cause.kind() == std::io::ErrorKind::UnexpectedEof =>
                    {
                        AudioError::Truncated { path: self.path.clone(), samples: self.done, wanted }
                    }
                    _ => self.damaged(words(&e)),
                }
                .into());
            }
        };
        if packet.track_id != self.track {
            return Ok(true);
        }
        self.packets += packet.data.len() as u64;
        if self.timed {
            // A frame that did not arrive whole is passed over, but those behind it keep their place.
            let at = packet.pts.get();
            match self.next_at.and_then(|next| at.checked_sub(next)) {
                None | Some(0) => {}
                Some(missing) if missing > 0 => {
                    return Err(self.damaged(format!("{missing} samples are missing here")).into());
                }
                Some(_) => return Err(self.damaged("another stream begins here; split it".into()).into()),
            }
            let long =
                [packet.trim_start, packet.dur, packet.trim_end].map(|part| part.get()).iter().sum::<u64>();
            self.next_at = i64::try_from(long).ok().and_then(|long| at.checked_add(long));
        }
        let from = out.len();
        let decoder = &mut self.decoder;
        let layout = mseq_core::decode(|| {
            decoder.decode(&packet).map(|audio| {
                let layout = Layout { rate: audio.spec().rate(), channels: audio.num_planes() };
                out.resize(from + audio.samples_interleaved(), 0.0);
                audio.copy_to_slice_interleaved::<f32, _>(&mut out[from..]);
                layout
            })
        });
        let layout = match layout {
            Err(panic) => return Err(self.damaged(panic.to_string()).into()),
            Ok(Err(e)) => return Err(self.damaged(words(&e)).into()),
            Ok(Ok(layout)) => layout,
        };
        if self.layout.channels == 0 {
            self.layout = layout;
        } else if layout != self.layout {
            return Err(self.damaged("rate or channels change".into()).into());
        }
        self.done += ((out.len() - from) / layout.channels.max(1)) as u64;
        Ok(true)
    }
}

impl Decoder for Coded {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn kind(&self) -> SampleKind {
        self.kind
    }

    fn total(&self) -> Option<u64> {
        self.wanted
    }

    fn counted(&self) -> Option<u64> {
        // An MP3's count leaves out what decoders add, an MP4's what is not to be heard.
        self.wanted.filter(|_| self.timed && self.lead == 0)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        if !self.first.is_empty() {
            out.append(&mut self.first);
            return Ok(true);
        }
        if self.ended { Ok(false) } else { self.packet(out) }
    }
}
