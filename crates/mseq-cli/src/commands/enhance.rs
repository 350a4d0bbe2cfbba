use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use mseq_engine::{Enhancer, choose, open_enhancer};
use mseq_model::{Checkpoint, Encoding};

use super::model_files;
use crate::args::{EnhanceArgs, Normalize};
use crate::{Failure, say};

/// Samples that are read at a time.
const BLOCK: usize = 1 << 16;

/// Most bytes of samples that a WAV file can say it has.
const MOST_BYTES: u64 = u32::MAX as u64 - 1024;

/// `mamba-seq enhance`.
pub(crate) fn run(args: &EnhanceArgs, quiet: bool) -> Result<(), Failure> {
    if args.input == Path::new("-") || args.output.as_deref() == Some(Path::new("-")) {
        let why = "`enhance` reads and writes files: a WAV header says how long it is";
        return Err(Failure::Usage(format!("-: {why}")));
    }
    let checkpoint = Checkpoint::open(model_files(&args.model)?)?;
    // Whether it can, before anything is read.
    checkpoint.unet()?;
    let rate = match checkpoint.audio {
        Some(audio) if audio.encoding == Encoding::CleanUMamba => audio.sample_rate,
        _ => return Err(mseq_model::Error::NoDecoder { model: checkpoint.name() }.into()),
    };
    let mut input = Wav::open(&args.input, rate)?;
    let output = match &args.output {
        Some(path) => path.clone(),
        None => {
            let stem = args.input.file_stem().unwrap_or(args.input.as_os_str());
            PathBuf::from(format!("{}.enhanced.wav", stem.to_string_lossy()))
        }
    };
    if same_file(&args.input, &output) {
        return Err(Failure::Usage(format!("{}: is the input; give another -o", output.display())));
    }
    let scale = match args.normalize {
        Normalize::TwoPass => deviation(&mut Wav::open(&args.input, rate)?)? + 1e-3,
        Normalize::Fixed(std) => std + 1e-3,
        Normalize::None => 1.0,
    };
    let place = args.developer.at(choose(&args.device, args.dtype)?)?;
    if let Some(note) = place.note.as_ref().filter(|_| !quiet) {
        say::note(note);
    }
    let chunk = args.chunk.map_or_else(|| place.default_chunk(&checkpoint.shape), |n| place.step(n.get()));
    let threads = args.threads.map_or(0, usize::from);
    let mut enhancer = open_enhancer(&place, threads, &checkpoint, chunk)?;
    let start = Instant::now();
    let partial = PathBuf::from(format!("{}.partial", output.display()));
    let written = denoise(&mut input, enhancer.as_mut(), scale, &partial).and_then(|done| {
        fs::rename(&partial, &output).map_err(|e| at(&output, &e))?;
        Ok(done)
    });
    let (samples, clipped) = match written {
        Ok(done) => done,
        Err(e) => {
            // Best effort: the error that led here is the one to tell.
            fs::remove_file(&partial).ok();
            return Err(e);
        }
    };
    if !quiet {
        let (audio, took) = (samples as f64 / f64::from(rate), start.elapsed().as_secs_f64());
        if clipped > 0 {
            say::note(&format!("{} beyond full scale were clipped", say::count(clipped, "sample")));
        }
        say::line(&format!(
            "{}: {} of audio in {} on {}, {:.0} x real time; normalize {}, samples divided by {scale}",
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
        ));
    }
    Ok(())
}

fn at(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::Run(format!("{}: {e}", path.display()))
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A WAV file on its way through.
struct Wav {
    path: PathBuf,
    reader: WavReader<BufReader<File>>,
    spec: WavSpec,
    /// Samples that were read.
    done: u64,
}

impl Wav {
    fn open(path: &Path, rate: u32) -> Result<Self, Failure> {
        let reader = WavReader::open(path).map_err(|e| match e {
            hound::Error::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => at(path, &e),
            e => at(
                path,
                &format!("is not a WAV file that can be read ({e}); `enhance` reads PCM and float WAV"),
            ),
        })?;
        let spec = reader.spec();
        if spec.channels != 1 {
            return Err(at(
                path,
                &format!("has {} channels; `enhance` takes one: mix or split it first", spec.channels),
            ));
        }
        if spec.sample_rate != rate {
            let found = spec.sample_rate;
            return Err(at(
                path,
                &format!("has {found} samples a second, the model {rate}: resample it first"),
            ));
        }
        if u64::from(reader.duration()) * u64::from(spec.bits_per_sample.div_ceil(8)) > MOST_BYTES {
            return Err(at(path, &"is too long for a WAV file as output: split it first"));
        }
        Ok(Self { path: path.to_owned(), reader, spec, done: 0 })
    }

    /// Full scale of integers.
    fn full(&self) -> f32 {
        (1u64 << (self.spec.bits_per_sample.max(1) - 1)) as f32
    }

    /// The next samples, in [-1, 1]; none at the end.
    fn next(&mut self) -> Result<Vec<f32>, Failure> {
        let by = self.full();
        let block: hound::Result<Vec<f32>> = match self.spec.sample_format {
            SampleFormat::Int => {
                self.reader.samples::<i32>().take(BLOCK).map(|v| v.map(|v| v as f32 / by)).collect()
            }
            SampleFormat::Float => self.reader.samples::<f32>().take(BLOCK).collect(),
        };
        let block = block.map_err(|e| {
            at(&self.path, &format!("after sample {}: {e}; the file is cut short or damaged", self.done))
        })?;
        if let Some(bad) = block.iter().position(|v| !v.is_finite()) {
            let message = format!("sample {} is {}", self.done + bad as u64 + 1, block[bad]);
            return Err(at(&self.path, &message));
        }
        self.done += block.len() as u64;
        Ok(block)
    }
}

/// Unbiased standard deviation of the whole file (Welford's recurrence by blocks, in f64).
fn deviation(wav: &mut Wav) -> Result<f32, Failure> {
    let (mut n, mut mean, mut squares) = (0f64, 0f64, 0f64);
    loop {
        let block = wav.next()?;
        if block.is_empty() {
            break;
        }
        let len = block.len() as f64;
        let own = block.iter().map(|&v| f64::from(v)).sum::<f64>() / len;
        let spread: f64 = block.iter().map(|&v| (f64::from(v) - own).powi(2)).sum();
        let apart = own - mean;
        squares += spread + apart * apart * n * len / (n + len);
        mean += apart * len / (n + len);
        n += len;
    }
    Ok(if n > 1.0 { (squares / (n - 1.0)).sqrt() as f32 } else { 0.0 })
}

/// Writes the denoised samples; how many, and how many had to be clipped.
fn denoise(
    input: &mut Wav,
    enhancer: &mut dyn Enhancer,
    scale: f32,
    to: &Path,
) -> Result<(u64, u64), Failure> {
    let io = |e: hound::Error| at(to, &e);
    let mut writer = WavWriter::create(to, input.spec).map_err(io)?;
    let (mut written, mut clipped) = (0u64, 0u64);
    loop {
        let mut block = input.next()?;
        block.iter_mut().for_each(|v| *v /= scale);
        let end = block.is_empty();
        let out = if end { enhancer.finish()? } else { enhancer.push(&block)? };
        for v in out {
            let v = v * scale;
            if !v.is_finite() {
                let message =
                    format!("the model made sample {} of {} {v}", written + 1, input.path.display());
                return Err(Failure::Run(message));
            }
            match input.spec.sample_format {
                SampleFormat::Float => writer.write_sample(v).map_err(io)?,
                SampleFormat::Int => {
                    let full = f64::from(input.full());
                    let wanted = (f64::from(v) * full).round();
                    let fits = wanted.clamp(-full, full - 1.0);
                    clipped += u64::from(fits != wanted);
                    writer.write_sample(fits as i32).map_err(io)?;
                }
            }
            written += 1;
        }
        if end {
            break;
        }
    }
    writer.finalize().map_err(io)?;
    Ok((written, clipped))
}
