use std::io::BufWriter;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};
use mseq_core::Item;
use mseq_engine::{Enhancer, choose, open_enhancer};
use mseq_model::{Checkpoint, Encoding};
use mseq_pipeline::{Counters, SignalWatch};
use mseq_sink::Pending;
use mseq_source::{AudioOptions, AudioSource, Channel, Loudness, Recording, SampleKind};

use super::model_files;
use crate::args::{Columns, EnhanceArgs, InputPlan, Normalize, keep_apart};
use crate::progress::{Progress, Unit};
use crate::{Failure, say};

/// Samples that are read at a time.
const BLOCK: usize = 1 << 16;
/// Blocks that wait for the model.
const WAITING: usize = 2;
/// How long a signal may wait for a block.
const GLANCE: Duration = Duration::from_millis(50);

/// Most bytes of samples that a WAV file can say it has.
const MOST_BYTES: u64 = u32::MAX as u64 - 1024;

/// `mamba-seq enhance`.
pub(crate) fn run(args: &EnhanceArgs, quiet: bool) -> Result<(), Failure> {
    if args.output.as_deref() == Some(Path::new("-")) {
        let why = "a WAV header says how long it is, so `enhance` writes files; give -o PATH";
        return Err(Failure::Usage(format!("-: {why}")));
    }
    let checkpoint = Checkpoint::open(model_files(&args.model)?)?;
    // Whether it can, before anything is read.
    checkpoint.unet()?;
    let rate = match checkpoint.audio {
        Some(audio) if audio.encoding == Encoding::CleanUMamba => NonZeroU32::new(audio.sample_rate),
        _ => return Err(mseq_model::Error::NoDecoder { model: checkpoint.name() }.into()),
    };
    let rate = rate.ok_or_else(|| Failure::Run(format!("{}: has a sample rate of 0", checkpoint.name())))?;
    let (source, output) = open(args, rate)?;
    let place = args.developer.at(choose(&args.device, args.dtype)?)?;
    if let Some(note) = place.note.as_ref().filter(|_| !quiet) {
        say::note(note);
    }
    let chunk = args.chunk.map_or_else(|| place.default_chunk(&checkpoint.shape), |n| place.step(n.get()));
    let threads = args.threads.map_or(0, usize::from);
    let mut enhancer = open_enhancer(&place, threads, &checkpoint, chunk)?;
    let start = Instant::now();
    // From here on a signal lets the unfinished file go.
    let watch = SignalWatch::start()?;
    let (send, heard) = sync_channel(WAITING);
    let reader = move || read(source, &send);
    std::thread::Builder::new()
        .name("mseq-read".into())
        .spawn(reader)
        .map_err(|e| Failure::Run(format!("internal: cannot start threads: {e}")))?;
    let heard = Hearing { heard, watch };
    // Before the recording begins: for --normalize two-pass it is read whole until then.
    let counters = Arc::new(Counters::of_one(&record(&args.input)));
    let unit = Unit::Sound { hop: 1, rate: rate.get() };
    let progress = Progress::start(args.progress, quiet, &counters, (None, unit));
    let done = write(args, rate, &heard, enhancer.as_mut(), (&output, &counters));
    progress.finish(done.is_ok());
    let (recording, done) = done?;
    if !quiet {
        notes(&recording, rate);
        if done.beyond > 0 {
            say::note(&format!(
                "{} of the input beyond full scale went to the model as they are",
                say::count(done.beyond, "sample")
            ));
        }
        if done.clipped > 0 {
            say::note(&format!("{} of the output clipped at full scale", say::count(done.clipped, "sample")));
        }
        let (audio, took) = (done.samples as f64 / f64::from(rate.get()), start.elapsed().as_secs_f64());
        say::line(&format!(
            "{}: {} of audio in {} on {}, {:.0} x real time; normalize {}, samples divided by {}",
            output.display(),
            say::seconds(audio),
            say::seconds(took),
            enhancer.device(),
            audio / took.max(1e-9),
            match args.normalize {
                Normalize::TwoPass => "two-pass".to_owned(),
                Normalize::Fixed(std) => format!("fixed:{std}"),
                Normalize::None => "none".to_owned(),
            },
            recording.scale,
        ));
    }
    Ok(())
}

/// What the recording is called, as `embed` has it.
fn record(input: &str) -> Arc<str> {
    match input {
        "-" => "stdin".into(),
        path => Path::new(path).file_stem().map_or(path.into(), |stem| stem.to_string_lossy().into()),
    }
}

/// Waits for the recording to begin, and writes it denoised.
fn write(
    args: &EnhanceArgs,
    rate: NonZeroU32,
    heard: &Hearing,
    enhancer: &mut dyn Enhancer,
    (output, counters): (&Path, &Counters),
) -> Result<(Recording, Done), Failure> {
    let Heard::Begin(recording) = heard.next()? else {
        return Err(Failure::Run("internal: a recording without a beginning".into()));
    };
    counters.expect(recording.expected);
    let (pending, file) = Pending::create(output)?;
    let spec = spec(&recording, rate);
    let bytes = u64::from(spec.bits_per_sample / 8);
    if recording.expected.is_some_and(|samples| samples.saturating_mul(bytes) > MOST_BYTES) {
        return Err(too_long(&args.input));
    }
    let to_wav = file.try_clone().map_err(|e| at(output, &e))?;
    let writer = WavWriter::new(BufWriter::new(to_wav), spec).map_err(|e| at(output, &e))?;
    let out = Out { writer, path: output, spec, written: 0, clipped: 0 };
    let done = denoise(heard, enhancer, recording.scale, out, (&args.input, counters))?;
    pending.publish(&file)?;
    Ok((recording, done))
}

/// The recording, and where the audio goes.
fn open(args: &EnhanceArgs, rate: NonZeroU32) -> Result<(AudioSource, PathBuf), Failure> {
    let options = AudioOptions {
        channel: args.channel,
        model_rate: rate,
        hop: NonZeroU32::MIN,
        mulaw: false,
        loudness: match args.normalize {
            Normalize::TwoPass => Loudness::TwoPass,
            Normalize::Fixed(std) => Loudness::Fixed(std),
            Normalize::None => Loudness::None,
        },
    };
    let plan = InputPlan::audio(std::slice::from_ref(&args.input), false, &Columns::default(), options)?;
    let paths = plan.paths();
    let input = match &paths[..] {
        [one] => one.clone(),
        all => {
            let found = all.len();
            return Err(Failure::Usage(format!(
                "{}: is {found} recordings, and `enhance` takes one; run it for each",
                args.input
            )));
        }
    };
    let output = match (&args.output, &input) {
        (Some(path), _) => path.clone(),
        (None, Some(input)) => EnhanceArgs::default_output(input),
        (None, None) => return Err(Failure::Usage("standard input needs -o PATH".into())),
    };
    let model = [Path::new(&args.model)];
    keep_apart("-o", &output, input.as_deref().into_iter().chain(model))?;
    mseq_sink::check_output(&output)?;
    match plan {
        InputPlan::Audio(set, options) => Ok((AudioSource::open(set, options, BLOCK), output)),
        _ => Err(Failure::Run("internal: no recording".into())),
    }
}

/// What the output is not as the input.
fn notes(recording: &Recording, rate: NonZeroU32) {
    let Recording { rate: from, channels, channel, .. } = recording;
    if *from != rate {
        let (from, to) = (say::grouped(from.get().into()), say::grouped(rate.get().into()));
        say::note(&format!("{from} samples a second become the {to} of the model, in the output too"));
    }
    if *channels > 1 {
        let heard = match channel {
            Channel::Mix => "the mean of all".to_owned(),
            one => format!("channel {one}"),
        };
        say::note(&format!("of {channels} channels, {heard} is heard; the output has one"));
    }
}

/// One channel at the model's rate, in the numbers of the input.
fn spec(recording: &Recording, rate: NonZeroU32) -> WavSpec {
    let (bits_per_sample, sample_format) = match recording.kind {
        SampleKind::Int(bits) => (bits, SampleFormat::Int),
        SampleKind::Float => (32, SampleFormat::Float),
    };
    WavSpec { channels: 1, sample_rate: rate.get(), bits_per_sample, sample_format }
}

fn at(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::Run(format!("{}: {e}", path.display()))
}

fn too_long(input: &str) -> Failure {
    Failure::Run(format!("{input}: is too long for a WAV file of 4 GiB as output; split it first"))
}

/// What the reader hands over.
enum Heard {
    Begin(Recording),
    Samples(Vec<f32>),
    /// With how many samples were beyond full scale.
    End(u64),
}

/// Reads the recording; a read that hangs (standard input) then hangs nothing else.
fn read(mut source: AudioSource, to: &SyncSender<Result<Heard, mseq_source::Error>>) {
    loop {
        let heard = match source.next() {
            Err(e) => Err(e),
            Ok(Some(Item::Begin(_))) => match source.recording() {
                Some(recording) => Ok(Heard::Begin(recording)),
                None => return,
            },
            Ok(Some(Item::Samples(samples))) => Ok(Heard::Samples(samples)),
            Ok(Some(Item::End(tail))) => Ok(Heard::End(tail.beyond)),
            Ok(Some(Item::Tokens(_)) | None) => return,
        };
        let last = !matches!(heard, Ok(Heard::Begin(_) | Heard::Samples(_)));
        // Nobody waits for it any more: the other side failed, and says why.
        if to.send(heard).is_err() || last {
            return;
        }
    }
}

/// The other end of the reader.
struct Hearing {
    heard: Receiver<Result<Heard, mseq_source::Error>>,
    watch: SignalWatch,
}

impl Hearing {
    fn next(&self) -> Result<Heard, Failure> {
        loop {
            self.watch.check()?;
            match self.heard.recv_timeout(GLANCE) {
                Ok(heard) => return Ok(heard?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Run("internal: the reader of the recording ended early".into()));
                }
            }
        }
    }
}

/// The WAV file on its way.
struct Out<'a> {
    writer: WavWriter<BufWriter<std::fs::File>>,
    path: &'a Path,
    spec: WavSpec,
    written: u64,
    clipped: u64,
}

impl Out<'_> {
    fn write(&mut self, v: f32) -> Result<(), Failure> {
        match self.spec.sample_format {
            SampleFormat::Float => self.writer.write_sample(v),
            SampleFormat::Int => {
                let full = 2f64.powi(i32::from(self.spec.bits_per_sample) - 1);
                let wanted = (f64::from(v) * full).round();
                let fits = wanted.clamp(-full, full - 1.0);
                self.clipped += u64::from(fits != wanted);
                self.writer.write_sample(fits as i32)
            }
        }
        .map_err(|e| at(self.path, &e))?;
        self.written += 1;
        Ok(())
    }
}

/// What was counted.
struct Done {
    samples: u64,
    beyond: u64,
    clipped: u64,
}

/// Writes the denoised samples.
fn denoise(
    heard: &Hearing,
    enhancer: &mut dyn Enhancer,
    scale: f32,
    mut out: Out<'_>,
    (input, counters): (&str, &Counters),
) -> Result<Done, Failure> {
    let most = MOST_BYTES / u64::from(out.spec.bits_per_sample / 8);
    loop {
        let (ready, beyond) = match heard.next()? {
            Heard::Begin(_) => continue,
            Heard::Samples(samples) => (enhancer.push(&samples)?, None),
            Heard::End(beyond) => (enhancer.finish()?, Some(beyond)),
        };
        if out.written + ready.len() as u64 > most {
            return Err(too_long(input));
        }
        counters.advance(ready.len() as u64);
        for v in ready {
            let v = v * scale;
            if !v.is_finite() {
                let message = format!("the model made sample {} of {input} {v}", out.written + 1);
                return Err(Failure::Run(message));
            }
            out.write(v)?;
        }
        if let Some(beyond) = beyond {
            let Out { writer, path, written, clipped, .. } = out;
            writer.finalize().map_err(|e| at(path, &e))?;
            return Ok(Done { samples: written, beyond, clipped });
        }
    }
}
