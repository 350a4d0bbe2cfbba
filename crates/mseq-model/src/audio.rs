use std::fmt;

use serde_json::Value;

use crate::config::{Layout, ModelConfig};
use crate::{Error, ModelFiles, Result};

/// What a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// Letters.
    Dna,
    /// Samples.
    Audio,
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dna => "dna",
            Self::Audio => "audio",
        })
    }
}

/// How samples become the rows of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One token id a sample, 0 to 255 (mu-law, 8 bits).
    Mulaw8,
    /// A linear map of `hop` samples.
    Frames {
        /// Samples of a frame.
        hop: usize,
    },
    /// The convolutions of CleanUMamba.
    CleanUMamba,
}

impl Encoding {
    /// Its name in `mamba_seq.encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mulaw8 => "mulaw8",
            Self::Frames { .. } => "frames",
            Self::CleanUMamba => "cleanumamba",
        }
    }
}

/// Audio that a model reads: one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// How samples become rows.
    pub encoding: Encoding,
    /// Samples a second.
    pub sample_rate: u32,
    /// Length of the pieces, in rows, that the model wants its input cut in; `None`: whole records.
    pub context: Option<u64>,
}

/// What CleanUMamba was trained on.
const CLEAN_RATE: u32 = 16_000;

impl Audio {
    /// A `mamba_seq` object of that modality, or what the family fixes; `None` for DNA.
    ///
    /// # Errors
    /// When the object is broken.
    pub(crate) fn load(files: &ModelFiles, config: &ModelConfig) -> Result<Option<Self>> {
        if config.layout == Layout::CleanUMamba {
            let encoding = Encoding::CleanUMamba;
            return Ok(Some(Self { encoding, sample_rate: CLEAN_RATE, context: None }));
        }
        let json = files.json("config.json")?.unwrap_or_default();
        let Some(object) = json.get("mamba_seq") else { return Ok(None) };
        if object.get("modality").and_then(Value::as_str) != Some("audio") {
            return Ok(None);
        }
        let error = |message: String| Error::Config { path: files.path("config.json"), message };
        let number = |key: &str, most: u64| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_u64().filter(|n| (1..=most).contains(n)) {
                Some(n) => Ok(Some(n)),
                None => Err(error(format!("mamba_seq.{key} is {v}, not a number from 1 to {most}"))),
            },
        };
        let required = |key: &str, most| {
            number(key, most)?.ok_or_else(|| error(format!("mamba_seq has no {key}; audio needs one")))
        };
        let encoding = match object.get("encoding").and_then(Value::as_str) {
            Some("mulaw8") => Encoding::Mulaw8,
            Some("frames") => Encoding::Frames { hop: required("hop", 1 << 16)? as usize },
            Some(other) => {
                return Err(error(format!("mamba_seq.encoding is '{other}', not mulaw8 or frames")));
            }
            None => return Err(error("mamba_seq has no encoding; use \"mulaw8\" or \"frames\"".into())),
        };
        let sample_rate = required("sample_rate", 1_000_000)? as u32;
        Ok(Some(Self { encoding, sample_rate, context: number("context", 1 << 48)? }))
    }
}
