//! FLAC, MP3, Ogg Vorbis and AAC, through symphonia.

use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AC3, CODEC_ID_ALAC, CODEC_ID_EAC3, CODEC_ID_FLAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_OPUS,
    CODEC_ID_SPEEX, CODEC_ID_VORBIS,
};
use symphonia::core::codecs::audio::{AudioCodecId, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::units::TimeBase;

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

impl Coded {
    /// `lead`: samples before the sound that an MP4 says are not to be heard, and in what unit a second.
    pub(super) fn open(path: &str, source: Box<dyn MediaSource>, lead: Option<(u64, u32)>) -> Result<Self> {
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
        let options = AudioDecoderOptions::default();
        let decoder =
            symphonia::default::get_codecs().make_audio_decoder(parameters, &options).map_err(|_| {
                AudioError::Unsupported {
                    path: path.to_owned(),
                    what: format!("sound coded as {}", coding(parameters.codec)),
                }
            })?;
        let bits = parameters.bits_per_sample.and_then(|bits| u16::try_from(bits).ok());
        let kind = SampleKind::Int(bits.map_or(16, |bits| bits.next_multiple_of(8).clamp(8, 32)));
        let in_samples =
            |base: TimeBase| base.numer.get() == 1 && Some(base.denom.get()) == parameters.sample_rate;
        let timed = parameters.codec == CODEC_ID_FLAC && track.time_base.is_some_and(in_samples);
        // Of Ogg a place in the stream that it was taken from, and none to count on; its pages are followed.
        let wanted = track.num_frames.filter(|_| parameters.codec != CODEC_ID_VORBIS);
        let id = track.id;
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
        };
        // The first packet tells what comes out, which a header may not know (AAC).
        let mut first = Vec::new();
        while new.layout.channels == 0 && new.packet(&mut first)? {}
        new.first = first;
        // Symphonia leaves edit lists of MP4 to its user.
        if let Some((lead, scale)) = lead {
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
                    _ => Ok(false),
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

    fn next(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        if !self.first.is_empty() {
            out.append(&mut self.first);
            return Ok(true);
        }
        if self.ended { Ok(false) } else { self.packet(out) }
    }
}
