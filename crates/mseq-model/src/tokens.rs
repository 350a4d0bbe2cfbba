use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Error, ModelFiles, Result};

/// How characters of DNA become token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Upper-case letters and their ids; none for a model of audio.
    pub letters: BTreeMap<char, u32>,
    /// Id of every other legal character.
    pub unknown: u32,
    /// Length of the pieces that the model wants its input cut in; `None`: whole records.
    pub context: Option<u64>,
    /// Which file said so.
    pub origin: &'static str,
    /// `model_max_length` of the tokeniser: a training length to tell the user, no more.
    pub model_max_length: Option<u64>,
}

impl Tokens {
    /// The first of: a `mamba_seq` object in config.json; `CaduceusTokenizer`.
    ///
    /// # Errors
    /// When neither is there, or what is there is broken.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let config = files.json("config.json")?.unwrap_or_default();
        let tokenizer = files.json("tokenizer_config.json")?.unwrap_or_default();
        let class = tokenizer.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        // A tokeniser without a limit carries 1e30 here.
        let model_max_length =
            tokenizer.get("model_max_length").and_then(Value::as_u64).filter(|n| *n < 1 << 48);
        if let Some(object) = config.get("mamba_seq") {
            return Self::from_object(files, object, model_max_length);
        }
        if class == "CaduceusTokenizer" {
            // CaduceusTokenizer: [CLS] 0 ... [UNK] 6, then the letters.
            let letters = [('A', 7), ('C', 8), ('G', 9), ('T', 10), ('N', 11)].into();
            let origin = "tokenizer_config.json (CaduceusTokenizer)";
            return Ok(Self { letters, unknown: 6, context: None, origin, model_max_length });
        }
        let found = match class {
            "" => match files.open("tokenizer.json")? {
                Some(_) => "tokenizer.json is not supported yet".to_owned(),
                None => "it has no tokeniser".to_owned(),
            },
            class => format!("tokeniser '{class}' is not supported yet"),
        };
        Err(Error::Config {
            path: files.path("config.json"),
            message: format!(
                "{found}; say which letter is which token by a key such as \"mamba_seq\": \
                 {{\"modality\": \"dna\", \"tokens\": {{\"A\": 0, \"C\": 1, \"G\": 2, \"T\": 3}}, \"unknown\": 4}}"
            ),
        })
    }

    fn from_object(files: &ModelFiles, object: &Value, model_max_length: Option<u64>) -> Result<Self> {
        let error = |message: String| Error::Config { path: files.path("config.json"), message };
        match object.get("modality").and_then(Value::as_str) {
            Some("dna") => {}
            Some(other) => return Err(error(format!("mamba_seq.modality is '{other}', not dna or audio"))),
            None => return Err(error("mamba_seq has no modality; use \"modality\": \"dna\"".into())),
        }
        let id = |key: &str, v: &Value| {
            v.as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| error(format!("mamba_seq: {key} is {v}, not a token id")))
        };
        let table = object.get("tokens").and_then(Value::as_object);
        let table = table.ok_or_else(|| error("mamba_seq has no object tokens".into()))?;
        let mut letters = BTreeMap::new();
        for (key, value) in table {
            let mut chars = key.chars();
            let letter = match (chars.next(), chars.next()) {
                (Some(c), None) if c.is_ascii_graphic() => c.to_ascii_uppercase(),
                _ => return Err(error(format!("mamba_seq.tokens: '{key}' is not one letter"))),
            };
            if letters.insert(letter, id(key, value)?).is_some() {
                return Err(error(format!("mamba_seq.tokens: '{letter}' is there twice")));
            }
        }
        if letters.is_empty() {
            return Err(error("mamba_seq.tokens is empty".into()));
        }
        let unknown = match object.get("unknown") {
            Some(v) => id("unknown", v)?,
            None => return Err(error("mamba_seq has no unknown token id".into())),
        };
        let context = match object.get("context") {
            None | Some(Value::Null) => None,
            Some(v) => match v.as_u64() {
                Some(n) if n > 0 => Some(n),
                _ => return Err(error(format!("mamba_seq.context is {v}, not a number of tokens"))),
            },
        };
        Ok(Self { letters, unknown, context, origin: "config.json (mamba_seq)", model_max_length })
    }

    /// For a model that reads no letters.
    pub(crate) fn none(context: Option<u64>) -> Self {
        let origin = "config.json (mamba_seq)";
        Self { letters: BTreeMap::new(), unknown: 0, context, origin, model_max_length: None }
    }

    /// The largest id.
    pub fn max_id(&self) -> u32 {
        self.letters.values().copied().max().unwrap_or(0).max(self.unknown)
    }
}
