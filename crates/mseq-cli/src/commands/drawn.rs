//! What drawn tokens are written as: letters in FASTA, or samples in a WAV file.

use std::collections::BTreeMap;
use std::path::Path;

use mseq_model::{Checkpoint, Encoding};
use mseq_sink::{FastaSink, WavSink};

use crate::Failure;

/// What tokens are, by the model.
pub(super) enum Alphabet {
    /// Letters by token.
    Letters(BTreeMap<u32, u8>),
    /// 8-bit mu-law, so many samples a second.
    Mulaw(u32),
}

impl Alphabet {
    /// # Errors
    /// When a row of the model is no token that could be drawn.
    pub(super) fn new(checkpoint: &Checkpoint) -> Result<Self, Failure> {
        let Some(audio) = checkpoint.audio else {
            let mut letters = BTreeMap::new();
            for (&letter, &id) in &checkpoint.tokens.letters {
                if letter.is_ascii() {
                    letters.entry(id).or_insert(letter as u8);
                }
            }
            return Ok(Self::Letters(letters));
        };
        match audio.encoding {
            Encoding::Mulaw8 => Ok(Self::Mulaw(audio.sample_rate)),
            other => Err(Failure::Run(format!(
                "{}: reads audio as {}, which are no tokens to draw; `generate` takes models of DNA and of mu-law samples (mulaw8)",
                checkpoint.name(),
                other.name()
            ))),
        }
    }

    /// The tokens that can be drawn.
    pub(super) fn ids(&self) -> Vec<u32> {
        match self {
            Self::Letters(letters) => letters.keys().copied().collect(),
            Self::Mulaw(_) => (0..256).collect(),
        }
    }
}

/// Where drawn tokens go.
pub(super) enum Drawn<'a> {
    Fasta(FastaSink, &'a BTreeMap<u32, u8>),
    Wav(WavSink),
}

impl<'a> Drawn<'a> {
    /// A file, or standard output for `-`, of sequences of `tokens`.
    pub(super) fn create(alphabet: &'a Alphabet, path: &Path, tokens: u64) -> Result<Self, Failure> {
        Ok(match alphabet {
            Alphabet::Letters(letters) if path == Path::new("-") => {
                Self::Fasta(FastaSink::stream(Box::new(std::io::stdout())), letters)
            }
            Alphabet::Letters(letters) => Self::Fasta(FastaSink::create(path)?, letters),
            Alphabet::Mulaw(rate) => Self::Wav(WavSink::create(path, *rate, tokens)?),
        })
    }

    /// Begins sequences of `tokens`, by their definition lines.
    pub(super) fn begin(&mut self, heads: Vec<String>, tokens: u64) -> Result<(), Failure> {
        match self {
            Self::Fasta(sink, _) => Ok(sink.begin(heads, tokens, &std::env::temp_dir())?),
            // One, which its file names.
            Self::Wav(_) => Ok(()),
        }
    }

    /// The next tokens: (steps, sequences).
    pub(super) fn push(&mut self, ids: &[u32]) -> Result<(), Failure> {
        match self {
            Self::Fasta(sink, letters) => {
                let letter = |id: &u32| letters.get(id).copied().unwrap_or(b'N');
                Ok(sink.push(&ids.iter().map(letter).collect::<Vec<u8>>())?)
            }
            Self::Wav(sink) => {
                Ok(sink.push(&ids.iter().map(|&id| mseq_source::mulaw_sample(id)).collect::<Vec<f32>>())?)
            }
        }
    }

    /// Ends the sequences that were begun.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Fasta(sink, _) => Ok(sink.end()?),
            Self::Wav(_) => Ok(()),
        }
    }

    /// Ends them where they are, under another name.
    pub(super) fn cut(mut self, path: &Path) -> Result<(), Failure> {
        match &mut self {
            Self::Fasta(sink, _) => {
                sink.rename(path)?;
                sink.cut()?;
            }
            Self::Wav(sink) => {
                sink.rename(path)?;
                sink.cut()?;
            }
        }
        self.finish().map(drop)
    }

    /// Gives the file its name; how many tokens were written.
    pub(super) fn finish(self) -> Result<u64, Failure> {
        Ok(match self {
            Self::Fasta(sink, _) => sink.finish()?,
            Self::Wav(sink) => sink.finish()?,
        })
    }
}
