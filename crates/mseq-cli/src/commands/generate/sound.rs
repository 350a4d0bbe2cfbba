//! Prompts that are recordings, and continuations as WAV: models of mu-law tokens.

use std::fs::{self, File};
use std::io::BufWriter;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use mseq_model::{Checkpoint, Encoding, Error};
use mseq_source::{AudioOptions, AudioSource, Channel, InputSet, Loudness, mulaw_level};

use super::{BLOCK, Prompts};
use crate::Failure;
use crate::args::GenerateArgs;

/// Samples a second, when the model is one of mu-law tokens; `None` for DNA.
///
/// # Errors
/// When it reads samples, and so predicts nothing.
pub(super) fn rate(checkpoint: &Checkpoint) -> Result<Option<u32>, Failure> {
    match checkpoint.audio {
        None => Ok(None),
        Some(audio) if audio.encoding == Encoding::Mulaw8 => Ok(Some(audio.sample_rate)),
        Some(_) => Err(Error::NoTokens { model: checkpoint.name() }.into()),
    }
}

/// The tokens of a recording, at the model's rate, its channels mixed.
pub(super) fn prompts(args: &GenerateArgs, rate: u32) -> Result<Prompts, Failure> {
    let Some(file) = &args.prompt else {
        return Err(Failure::Usage(
            "--prompt-text is for DNA, and the model generates audio; use --prompt FILE.wav".into(),
        ));
    };
    let options = AudioOptions {
        channel: Some(Channel::Mix),
        model_rate: NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN),
        hop: NonZeroU32::MIN,
        mulaw: true,
        loudness: Loudness::None,
    };
    let set = InputSet::resolve_audio(std::slice::from_ref(file), false)?;
    let mut source = AudioSource::open(set, options, BLOCK);
    let mut prompts = Prompts::new();
    while let Some(item) = source.next()? {
        prompts.take(item, |name| {
            format!("{file}: recording '{name}' has no samples, and a prompt needs at least one; remove it")
        })?;
    }
    Ok(prompts)
}

/// Where the samples of each sequence go: OUT.wav, or OUT.1.wav, OUT.2.wav, ... of several.
pub(super) struct WavFiles {
    files: Vec<Option<Wav>>,
    output: PathBuf,
    rate: u32,
    written: u64,
}

struct Wav {
    path: PathBuf,
    writer: WavWriter<BufWriter<File>>,
}

fn at(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::Run(format!("{}: {e}", path.display()))
}

impl WavFiles {
    /// For `sequences` sequences of `tokens` samples each.
    ///
    /// # Errors
    /// When the output is a stream, or too long for a WAV file.
    pub(super) fn new(output: &Path, rate: u32, sequences: usize, tokens: u64) -> Result<Self, Failure> {
        if output == Path::new("-") {
            return Err(Failure::Usage(
                "the model generates audio, and a WAV header says how long it is; give -o OUT.wav".into(),
            ));
        }
        // A header counts bytes in 32 bits.
        let most = u64::from(u32::MAX / 2) - 64;
        if tokens > most {
            return Err(Failure::Usage(format!(
                "--tokens {tokens}: a WAV file holds at most {most} samples; use --save-state and --from-state for more"
            )));
        }
        let files = (0..sequences).map(|_| None).collect();
        Ok(Self { files, output: output.to_owned(), rate, written: 0 })
    }

    fn path(&self, sequence: usize) -> PathBuf {
        if self.files.len() == 1 {
            return self.output.clone();
        }
        let stem = self.output.file_stem().unwrap_or_default().to_string_lossy();
        self.output.with_file_name(format!("{stem}.{}.wav", sequence + 1))
    }

    /// Opens the files of `lanes` sequences from `first` on, under names of their own until they are whole.
    pub(super) fn begin(&mut self, first: usize, lanes: usize) -> Result<(), Failure> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        for sequence in first..first + lanes {
            let path = self.path(sequence);
            let writer = WavWriter::create(partial(&path), spec).map_err(|e| at(&path, &e))?;
            if let Some(file) = self.files.get_mut(sequence) {
                *file = Some(Wav { path, writer });
            }
        }
        Ok(())
    }

    /// Tokens of `lanes` sequences from `first` on, one of each in turn.
    pub(super) fn push(&mut self, first: usize, lanes: usize, drawn: &[u32]) -> Result<(), Failure> {
        for step in drawn.chunks(lanes) {
            for (file, &id) in self.files[first..].iter_mut().flatten().zip(step) {
                let level = (mulaw_level(id) * f32::from(i16::MAX)).round();
                file.writer.write_sample(level as i16).map_err(|e| at(&file.path, &e))?;
                self.written += 1;
            }
        }
        Ok(())
    }

    /// Ends the files that are open.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        for slot in &mut self.files {
            if let Some(Wav { path, writer }) = slot.take() {
                let done = writer.finalize().map_err(|e| at(&path, &e));
                done.and_then(|()| fs::rename(partial(&path), &path).map_err(|e| at(&path, &e)))
                    .inspect_err(|_| drop(fs::remove_file(partial(&path))))?;
            }
        }
        Ok(())
    }

    /// Ends the files that are open where they are, under the name of an unfinished one.
    pub(super) fn cut(mut self) -> Result<(), Failure> {
        for slot in &mut self.files {
            if let Some(Wav { path, writer }) = slot.take() {
                writer.finalize().map_err(|e| at(&path, &e))?;
            }
        }
        Ok(())
    }

    /// Samples in all files.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

/// Nothing stays of a file that was not ended.
impl Drop for WavFiles {
    fn drop(&mut self) {
        for file in self.files.iter().flatten() {
            // Best effort: the error that led here is the one to tell.
            fs::remove_file(partial(&file.path)).ok();
        }
    }
}

fn partial(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", path.display()))
}
