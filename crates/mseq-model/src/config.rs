use serde_json::Value;

use crate::{Error, ModelFiles, Result};

/// Sizes of a Mamba-1 model. Names are the field's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MambaShape {
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width inside a block.
    pub d_inner: usize,
    /// States a channel.
    pub d_state: usize,
    /// Taps of the convolution.
    pub d_conv: usize,
    /// Rank of dt.
    pub dt_rank: usize,
    /// Rows of the embedding; 0 where the model reads samples.
    pub vocab: usize,
    /// Values of workspace that a row takes before the first block, beyond the hidden states.
    pub front: usize,
}

/// Sizes of one block. Pruning may leave each block its own; [`MambaShape`] has the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixerShape {
    /// Width inside the block.
    pub d_inner: usize,
    /// States a channel.
    pub d_state: usize,
    /// Taps of the convolution.
    pub d_conv: usize,
    /// Rank of dt.
    pub dt_rank: usize,
}

impl MambaShape {
    /// Trained values of a model of this shape that reads tokens, without a separate head.
    pub fn parameters(&self) -> usize {
        let Self { n_layer, d_model, d_inner, d_state, d_conv, dt_rank, vocab, .. } = *self;
        let block = d_model
            + 2 * d_inner * d_model
            + d_inner * (d_conv + 1)
            + (dt_rank + 2 * d_state) * d_inner
            + d_inner * (dt_rank + 1)
            + d_inner * (d_state + 1)
            + d_model * d_inner;
        vocab * d_model + n_layer * block + d_model
    }
}

/// Where the names of keys and tensors come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `model_type: mamba` of transformers.
    HuggingFace,
    /// `state-spaces/mamba`: `d_model`, `n_layer`, `ssm_cfg`.
    Original,
    /// `lab-emi/CleanUMamba`: `encoder_n_layers`, `tsfm_n_layers`.
    CleanUMamba,
}

/// Normalisation of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm: a weight.
    Rms,
    /// LayerNorm: a weight and a bias.
    Layer,
}

/// What `config.json` says. Sizes are `None` where it is silent: then the tensors decide.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The file, for messages.
    pub path: String,
    /// Which layout.
    pub layout: Layout,
    /// RMSNorm or LayerNorm.
    pub norm: NormKind,
    /// Added under the root of a norm.
    pub eps: f32,
    /// The head is the embedding.
    pub tied: bool,
    /// The reference holds the residual stream in f32; we always do.
    pub residual_in_fp32: bool,
    /// Blocks.
    pub n_layer: usize,
    /// `n_layer` left over in an HF config that also has `num_hidden_layers`.
    pub leftover_n_layer: Option<usize>,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width inside a block.
    pub d_inner: Option<usize>,
    /// Taps.
    pub d_conv: Option<usize>,
    /// States a channel.
    pub d_state: Option<usize>,
    /// Rank of dt.
    pub dt_rank: Option<usize>,
    /// Rows of the embedding before padding.
    pub vocab: Option<usize>,
    /// Rows are rounded up to a multiple of this.
    pub vocab_multiple: usize,
    /// `in_proj` and `out_proj` have a bias.
    pub use_bias: Option<bool>,
    /// `conv1d` has a bias.
    pub use_conv_bias: Option<bool>,
    /// Keys that contradict others, and which one was believed.
    pub notes: Vec<String>,
    /// Length that the model was trained at, where the files say so.
    pub trained_length: Option<u64>,
    /// Convolutions around the blocks.
    pub unet: Option<UNetConfig>,
    /// What the config says that makes it a model of masked tokens; `None`: it predicts the next one.
    pub masked: Option<String>,
}

/// What a config says of the convolutions of CleanUMamba. Their widths are the tensors'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UNetConfig {
    /// Of the encoder, and of the decoder.
    pub levels: usize,
    /// Taps of each.
    pub taps: usize,
    /// Stride of each.
    pub stride: usize,
}

/// Typed look-ups in the object of `config.json`, with the file in every message.
struct Keys<'a> {
    path: String,
    map: &'a serde_json::Map<String, Value>,
}

impl Keys<'_> {
    fn error(&self, message: String) -> Error {
        Error::Config { path: self.path.clone(), message }
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_u64().and_then(|n| usize::try_from(n).ok()) {
                // 2^24 is far beyond any width in use, and keeps products inside u64.
                Some(n) if n > 0 && n <= 1 << 24 => Ok(Some(n)),
                _ => Err(self.error(format!("{key} is {v}, not a size from 1 to {}", 1 << 24))),
            },
        }
    }

    fn required_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.error(format!("no {key}")))
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(v) => Err(self.error(format!("{key} is {v}, not true or false"))),
        }
    }

    fn eps(&self, key: &str) -> Result<f32> {
        match self.map.get(key) {
            // 1e-5 is the default of every model class; the kernels' own 1e-6 is never reached.
            None | Some(Value::Null) => Ok(1e-5),
            Some(v) => match v.as_f64() {
                Some(eps) if (0.0..1.0).contains(&eps) => Ok(eps as f32),
                _ => Err(self.error(format!("{key} is {v}, not a number from 0 to 1"))),
            },
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.map.get(key).and_then(Value::as_str)
    }

    /// `"auto"` is `ceil(d_model / 16)`.
    fn dt_rank(&self, key: &str, d_model: usize) -> Result<Option<usize>> {
        match self.text(key) {
            Some("auto") => Ok(Some(d_model.div_ceil(16))),
            _ => self.size(key),
        }
    }
}

/// The class of `architectures` that fills masked tokens.
fn masked(map: &serde_json::Map<String, Value>) -> Option<String> {
    let classes = map.get("architectures").and_then(Value::as_array)?;
    let mut names = classes.iter().filter_map(Value::as_str);
    names.find(|name| name.contains("MaskedLM")).map(str::to_owned)
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When it is missing, broken, contradicts itself, or names a family that can't run.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let json = files.json("config.json")?.ok_or_else(|| match files {
            ModelFiles::File(_) => Error::MissingFile {
                model: files.name(),
                file: "config in its __metadata__".into(),
                hint: "give the directory that holds it beside its config.json",
            },
            _ => Error::MissingFile {
                model: files.name(),
                file: "config.json".into(),
                hint: "give a directory with config.json and *.safetensors",
            },
        })?;
        let path = files.path("config.json");
        let Value::Object(map) = &json else {
            return Err(Error::Config { path, message: "is not a JSON object".into() });
        };
        let keys = Keys { path, map };
        let unsupported =
            |family: &str| Err(Error::UnsupportedFamily { model: files.name(), family: family.to_owned() });
        let masked = masked(map);
        if keys.bool("bidirectional")?.unwrap_or(false) && keys.text("model_type") != Some("caduceus") {
            return unsupported("bidirectional");
        }
        match keys.text("model_type") {
            Some("mamba") => Ok(Self { masked, ..Self::hugging_face(&keys)? }),
            Some("mamba2") => unsupported("Mamba-2 (model_type mamba2)"),
            Some("falcon_mamba") => unsupported("Falcon-Mamba"),
            Some("caduceus") => unsupported("Caduceus (masked, bidirectional)"),
            Some(other) => match masked {
                Some(class) => unsupported(&format!("'{other}' ({class}, masked)")),
                None => unsupported(&format!("'{other}'")),
            },
            None if map.contains_key("params") || map.contains_key("dim") => unsupported("Codestral-Mamba"),
            None if map.contains_key("network_config") => {
                let network = map.get("network_config").and_then(Value::as_object);
                let network = network.ok_or_else(|| keys.error("network_config is not an object".into()))?;
                Self::clean_u_mamba(files, &Keys { path: keys.path.clone(), map: network })
            }
            None if map.contains_key("encoder_n_layers") && map.contains_key("tsfm_n_layers") => {
                Self::clean_u_mamba(files, &keys)
            }
            None if map.contains_key("d_model") && map.contains_key("n_layer") => {
                match map.get("ssm_cfg").and_then(|c| c.get("layer")).and_then(Value::as_str) {
                    None | Some("Mamba1") => {}
                    Some("Mamba2") => return unsupported("Mamba-2 (original layout)"),
                    Some(layer) => return unsupported(&format!("'{layer}'")),
                }
                if keys.map.get("d_intermediate").and_then(Value::as_u64).unwrap_or(0) > 0 {
                    return unsupported("Mamba with MLP blocks (d_intermediate)");
                }
                if map.get("attn_layer_idx").and_then(Value::as_array).is_some_and(|a| !a.is_empty()) {
                    return unsupported("Mamba with attention layers (attn_layer_idx)");
                }
                Ok(Self { masked, ..Self::original(&keys)? })
            }
            None => Err(keys.error(
                "neither model_type (Hugging Face) nor d_model and n_layer (original layout); \
                 is this the config of a Mamba model?"
                    .into(),
            )),
        }
    }

    /// Fails for a model that was trained to fill masked tokens: what it says of a token may know the
    /// token itself, and all behind it.
    ///
    /// # Errors
    /// [`Error::Masked`].
    pub fn reads_left_to_right(&self) -> Result<()> {
        match &self.masked {
            None => Ok(()),
            Some(said) => Err(Error::Masked { path: self.path.clone(), said: said.clone() }),
        }
    }

    fn hugging_face(keys: &Keys<'_>) -> Result<Self> {
        if let Some(act) = keys.text("hidden_act").filter(|a| *a != "silu" && *a != "swish") {
            return Err(keys.error(format!("hidden_act is '{act}'; Mamba-1 with silu is supported")));
        }
        let d_model = keys.required_size("hidden_size")?;
        let n_layer = keys.required_size("num_hidden_layers")?;
        let intermediate = keys.size("intermediate_size")?;
        let expanded = keys.size("expand")?.map(|e| e * d_model);
        let mut notes = Vec::new();
        let mut disagree = |key: &str, value: usize, winner: &str, won: usize| {
            if value != won {
                notes.push(format!(
                    "config.json: {key} gives {value}, {winner} gives {won}: the latter was used"
                ));
            }
        };
        if let (Some(intermediate), Some(expanded)) = (intermediate, expanded) {
            disagree("expand * hidden_size", expanded, "intermediate_size", intermediate);
        }
        // Conversions leave keys of the original layout behind, and these lie.
        let leftover_n_layer = keys.size("n_layer").ok().flatten().filter(|n| *n != n_layer);
        if let Some(d) = keys.size("d_model").ok().flatten() {
            disagree("d_model", d, "hidden_size", d_model);
        }
        if let Some(d) = keys.size("d_inner").ok().flatten() {
            disagree("d_inner", d, "intermediate_size", intermediate.or(expanded).unwrap_or(2 * d_model));
        }
        Ok(Self {
            path: keys.path.clone(),
            layout: Layout::HuggingFace,
            norm: NormKind::Rms,
            eps: keys.eps("layer_norm_epsilon")?,
            tied: keys.bool("tie_word_embeddings")?.unwrap_or(true),
            residual_in_fp32: keys.bool("residual_in_fp32")?.unwrap_or(true),
            n_layer,
            leftover_n_layer,
            d_model,
            d_inner: intermediate.or(expanded),
            d_conv: keys.size("conv_kernel")?,
            d_state: keys.size("state_size")?,
            dt_rank: keys.dt_rank("time_step_rank", d_model)?,
            vocab: keys.size("vocab_size")?,
            vocab_multiple: keys.size("pad_vocab_size_multiple")?.unwrap_or(1),
            use_bias: keys.bool("use_bias")?,
            use_conv_bias: keys.bool("use_conv_bias")?,
            notes,
            trained_length: None,
            unet: None,
            masked: None,
        })
    }

    fn clean_u_mamba(files: &ModelFiles, keys: &Keys<'_>) -> Result<Self> {
        for (key, family) in [
            ("mamba_v2", "CleanUMamba with Mamba-2 blocks (mamba_v2)"),
            ("mamba_s4", "CleanUMamba with S4 blocks (mamba_s4)"),
            ("LSTM", "CleanUMamba with an LSTM"),
        ] {
            if keys.bool(key)?.unwrap_or(false) {
                return Err(Error::UnsupportedFamily { model: files.name(), family: family.into() });
            }
        }
        for key in ["channels_input", "channels_output"] {
            if let Some(n) = keys.size(key)?.filter(|n| *n != 1) {
                return Err(keys.error(format!("{key} is {n}; models of one channel are supported")));
            }
        }
        let unet = UNetConfig {
            levels: keys.required_size("encoder_n_layers")?,
            taps: keys.size("kernel_size")?.unwrap_or(4),
            stride: keys.size("stride")?.unwrap_or(2),
        };
        let UNetConfig { levels, taps, stride } = unet;
        let fits = levels <= 16 && (2..=16).contains(&stride) && taps <= 256;
        if !fits || taps == stride || !taps.is_multiple_of(stride) {
            return Err(keys.error(format!(
                "encoder_n_layers {levels}, kernel_size {taps}, stride {stride}; supported are up to 16 layers of stride \
                 2 to 16 whose kernel is 2 strides or more"
            )));
        }
        if stride.pow(levels as u32) > 1 << 20 {
            return Err(keys.error(format!("a frame of {levels} layers of stride {stride} is too long")));
        }
        Ok(Self {
            path: keys.path.clone(),
            layout: Layout::CleanUMamba,
            norm: NormKind::Layer,
            eps: 1e-5,
            tied: false,
            residual_in_fp32: true,
            n_layer: keys.required_size("tsfm_n_layers")?,
            leftover_n_layer: None,
            // Before pruning: the tensors count.
            d_model: keys.required_size("tsfm_d_model")?,
            d_inner: None,
            d_conv: None,
            d_state: None,
            dt_rank: None,
            vocab: None,
            vocab_multiple: 1,
            use_bias: None,
            use_conv_bias: None,
            notes: Vec::new(),
            trained_length: None,
            unet: Some(unet),
            masked: None,
        })
    }

    fn original(keys: &Keys<'_>) -> Result<Self> {
        let empty = serde_json::Map::new();
        let ssm = match keys.map.get("ssm_cfg") {
            Some(Value::Object(map)) => map,
            None | Some(Value::Null) => &empty,
            Some(v) => return Err(keys.error(format!("ssm_cfg is {v}, not an object"))),
        };
        let ssm = Keys { path: keys.path.clone(), map: ssm };
        let d_model = keys.required_size("d_model")?;
        Ok(Self {
            path: keys.path.clone(),
            layout: Layout::Original,
            norm: if keys.bool("rms_norm")?.unwrap_or(true) { NormKind::Rms } else { NormKind::Layer },
            eps: keys.eps("norm_epsilon")?,
            tied: keys.bool("tie_embeddings")?.unwrap_or(true),
            residual_in_fp32: keys.bool("residual_in_fp32")?.unwrap_or(true),
            n_layer: keys.required_size("n_layer")?,
            leftover_n_layer: None,
            d_model,
            d_inner: Some(ssm.size("expand")?.unwrap_or(2) * d_model),
            d_conv: Some(ssm.size("d_conv")?.unwrap_or(4)),
            d_state: Some(ssm.size("d_state")?.unwrap_or(16)),
            dt_rank: Some(ssm.dt_rank("dt_rank", d_model)?.unwrap_or(d_model.div_ceil(16))),
            vocab: keys.size("vocab_size")?,
            vocab_multiple: keys.size("pad_vocab_size_multiple")?.unwrap_or(8),
            use_bias: Some(ssm.bool("bias")?.unwrap_or(false)),
            use_conv_bias: Some(ssm.bool("conv_bias")?.unwrap_or(true)),
            notes: Vec::new(),
            trained_length: None,
            unet: None,
            masked: None,
        })
    }
}
