//! Built-in models as data: the bytes of their files, and their cards.
//!
//! A built-in model is a model directory like any other, in the program's own bytes: what opens a
//! directory opens it too. This crate knows no format and depends on nothing.
//!
//! ```
//! let model = mseq_data::default_dna();
//! let (name, config) = model.files[0];
//! assert_eq!(name, "config.json");
//! assert!(config.starts_with(b"{"));
//! assert_eq!(mseq_data::find(model.name), Some(model));
//! ```

use std::fmt;

/// A model that comes inside the program.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Builtin {
    /// What `--model` calls it.
    pub name: &'static str,
    /// One line for a list of models.
    pub description: &'static str,
    /// What it reads: `dna` or `audio`.
    pub modality: &'static str,
    /// File name and bytes, `config.json` first: what a directory of this model would hold.
    pub files: &'static [(&'static str, &'static [u8])],
    /// The model card, Markdown: training data, use, limits, licence.
    pub card: &'static str,
}

impl Builtin {
    /// The bytes of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&'static [u8]> {
        self.files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
    }
}

/// Names and lengths, not megabytes of weights.
impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<(&str, usize)> = self.files.iter().map(|(name, bytes)| (*name, bytes.len())).collect();
        f.debug_struct("Builtin")
            .field("name", &self.name)
            .field("modality", &self.modality)
            .field("files", &files)
            .finish_non_exhaustive()
    }
}

static MAMBA_DNA_1M: Builtin = Builtin {
    name: "mamba-dna-1m",
    description: "Mamba-1 for DNA, one token a base, about a million parameters",
    modality: "dna",
    files: &[
        ("config.json", include_bytes!("../models/mamba-dna-1m/config.json")),
        ("model.safetensors", include_bytes!("../models/mamba-dna-1m/model.safetensors")),
    ],
    card: include_str!("../models/mamba-dna-1m/CARD.md"),
};

static MAMBA_AUDIO_2M: Builtin = Builtin {
    name: "mamba-audio-2m",
    description: "Mamba-1 for audio at 16 kHz, one frame of 10 ms a token, about two million parameters",
    modality: "audio",
    files: &[
        ("config.json", include_bytes!("../models/mamba-audio-2m/config.json")),
        ("model.safetensors", include_bytes!("../models/mamba-audio-2m/model.safetensors")),
    ],
    card: include_str!("../models/mamba-audio-2m/CARD.md"),
};

static ALL: &[Builtin] = &[MAMBA_DNA_1M, MAMBA_AUDIO_2M];

/// Every built-in model, in the order of a list.
#[must_use]
pub fn builtins() -> &'static [Builtin] {
    ALL
}

/// The built-in model of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|model| model.name == name)
}

/// The model for DNA when none is asked for.
#[must_use]
pub fn default_dna() -> &'static Builtin {
    &ALL[0]
}

/// The model for audio when none is asked for.
#[must_use]
pub fn default_audio() -> &'static Builtin {
    &ALL[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_found_by_its_own_name_and_no_other() {
        for (at, model) in builtins().iter().enumerate() {
            assert_eq!(find(model.name), Some(&builtins()[at]), "two models are called {}", model.name);
        }
        assert_eq!(find("no such model"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn the_defaults_read_what_they_are_for() {
        assert_eq!(default_dna().modality, "dna");
        assert_eq!(default_audio().modality, "audio");
    }

    #[test]
    fn every_config_is_json_that_says_how_letters_or_samples_become_tokens() {
        for model in builtins() {
            let config = model.file("config.json").expect("a config.json");
            let config: serde_json::Value = serde_json::from_slice(config).expect("JSON");
            assert_eq!(config["mamba_seq"]["modality"], model.modality, "{}", model.name);
            match model.modality {
                "dna" => assert!(config["mamba_seq"]["tokens"].is_object(), "{}", model.name),
                _ => assert!(config["mamba_seq"]["sample_rate"].is_u64(), "{}", model.name),
            }
        }
    }

    #[test]
    fn every_model_is_small_enough_to_live_inside_the_program() {
        for model in builtins() {
            let weights = model.file("model.safetensors").expect("weights");
            let most = if model.modality == "dna" { 3_000_000 } else { 4_000_000 };
            assert!(weights.len() < most, "{}: {} bytes", model.name, weights.len());
        }
    }

    /// A pointer of Git LFS, or a checkout that turned line ends, is not a model.
    #[test]
    fn the_weights_are_whole_safetensors() {
        for model in builtins() {
            let weights = model.file("model.safetensors").expect("weights");
            let (length, rest) = weights.split_at(8);
            let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
            let length = usize::try_from(length).expect("a header that fits");
            let header: serde_json::Value = serde_json::from_slice(&rest[..length]).expect("a JSON header");
            let end =
                header.as_object().expect("an object").values().filter_map(|t| t["data_offsets"][1].as_u64());
            assert_eq!(end.max(), Some((rest.len() - length) as u64), "{}", model.name);
        }
    }

    #[test]
    fn every_card_says_something() {
        for model in builtins() {
            assert!(!model.card.trim().is_empty(), "{}", model.name);
            assert!(!model.description.is_empty() && !model.description.contains('\n'), "{}", model.name);
        }
    }
}
