use std::collections::BTreeSet;

use safetensors::Dtype;

use crate::arch::Schedule;
use mseq_core::Front;

use crate::config::{Layout, MambaShape, MixerShape, ModelConfig, NormKind, UNetConfig};
use crate::{
    Audio, Encoding, Error, LevelShape, Modality, ModelFiles, Result, Tensor, Tokens, UNetShape, Weights,
};

/// A norm's weights, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct NormWeights {
    /// (d_model).
    pub weight: Vec<f32>,
    /// (d_model), LayerNorm only.
    pub bias: Option<Vec<f32>>,
}

/// One block, on the host, in f32 and in the checkpoint's own layouts.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockWeights {
    /// Before the mixer.
    pub norm: NormWeights,
    /// (2 d_inner, d_model): x, then the gate z.
    pub in_proj: Vec<f32>,
    /// (2 d_inner).
    pub in_proj_bias: Option<Vec<f32>>,
    /// (d_inner, 1, d_conv), tap 0 the oldest.
    pub conv1d: Vec<f32>,
    /// (d_inner).
    pub conv1d_bias: Option<Vec<f32>>,
    /// (dt_rank + 2 d_state, d_inner): dt, B, C.
    pub x_proj: Vec<f32>,
    /// (d_inner, dt_rank).
    pub dt_proj: Vec<f32>,
    /// (d_inner).
    pub dt_proj_bias: Vec<f32>,
    /// (d_inner, d_state): log of the negated A.
    pub a_log: Vec<f32>,
    /// (d_inner).
    pub d: Vec<f32>,
    /// (d_model, d_inner).
    pub out_proj: Vec<f32>,
    /// (d_model).
    pub out_proj_bias: Option<Vec<f32>>,
}

/// A Mamba-1 model that was checked against its config: sizes, tokens, and where tensors lie.
///
/// Weights stay on disk until [`Checkpoint::block`] reads them, one block at a time.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    files: ModelFiles,
    weights: Weights,
    /// What config.json says.
    pub config: ModelConfig,
    /// Sizes, from the tensors.
    pub shape: MambaShape,
    /// Letters to ids.
    pub tokens: Tokens,
    /// What of audio it reads; `None`: DNA.
    pub audio: Option<Audio>,
    /// Contradictions that were settled, one line each.
    pub notes: Vec<String>,
    use_bias: bool,
    use_conv_bias: bool,
    /// Of each block, from its tensors.
    mixers: Vec<MixerShape>,
    unet: Option<UNetShape>,
}

impl Checkpoint {
    /// Reads config, tokeniser and tensor headers, and checks them against each other.
    ///
    /// # Errors
    /// The first broken file; or every missing, unexpected and misshapen tensor in one message.
    pub fn open(files: ModelFiles) -> Result<Self> {
        let mut config = ModelConfig::load(&files)?;
        let audio = Audio::load(&files, &config)?;
        let tokens = match &audio {
            Some(audio) => Tokens::none(audio.context),
            None => Tokens::load(&files)?,
        };
        let weights = Weights::open(&files)?;
        config.trained_length = tokens.model_max_length;
        let mut notes = config.notes.clone();
        let layers = tensor_layers(&weights).last().map_or(0, |i| i.saturating_add(1));
        let mut n_layer = config.n_layer;
        if let Some(n) = config.leftover_n_layer {
            let won = if layers == n { n } else { n_layer };
            notes.push(format!(
                "config.json: num_hidden_layers is {n_layer}, n_layer is {n}, the tensors have {layers}: {won} was used"
            ));
            n_layer = won;
        }
        let size = |name: &str, i: usize| weights.get(name).and_then(|t| t.shape.get(i).copied());
        let mixer = |layer: usize| {
            let size = |suffix: &str, i: usize| size(&format!("layers.{layer}.mixer.{suffix}"), i);
            MixerShape {
                d_inner: size("A_log", 0).or(config.d_inner).unwrap_or(2 * config.d_model),
                d_state: size("A_log", 1).or(config.d_state).unwrap_or(16),
                d_conv: size("conv1d.weight", 2).or(config.d_conv).unwrap_or(4),
                dt_rank: size("dt_proj.weight", 1).or(config.dt_rank).unwrap_or(config.d_model.div_ceil(16)),
            }
        };
        // Only pruning makes blocks differ, and only CleanUMamba is pruned.
        let own = config.layout == Layout::CleanUMamba;
        let mixers: Vec<MixerShape> =
            (0..if own { n_layer.min(layers).max(1) } else { 1 }).map(mixer).collect();
        let most = |of: fn(&MixerShape) -> usize| mixers.iter().map(of).max().unwrap_or(0);
        let encoding = audio.map(|audio| audio.encoding);
        let unet = config.unet.map(|unet| unet_shape(&weights, unet));
        let (d_model, vocab, front) = match encoding {
            Some(Encoding::CleanUMamba) => {
                (size("tsfm_conv1.weight", 0), Some(0), unet.as_ref().map_or(0, UNetShape::values_a_frame))
            }
            Some(Encoding::Frames { hop }) => (size("frame_proj.weight", 0), Some(0), hop),
            None | Some(Encoding::Mulaw8) => {
                (size("embeddings.weight", 1), size("embeddings.weight", 0).or(config.vocab), 0)
            }
        };
        let shape = MambaShape {
            n_layer,
            d_model: d_model.unwrap_or(config.d_model),
            d_inner: most(|m| m.d_inner),
            d_state: most(|m| m.d_state),
            d_conv: most(|m| m.d_conv),
            dt_rank: most(|m| m.dt_rank),
            vocab: vocab.unwrap_or(1),
            front,
        };
        let has = |name: &str| weights.get(&format!("layers.0.mixer.{name}")).is_some();
        let use_bias = config.use_bias.unwrap_or_else(|| has("in_proj.bias"));
        let use_conv_bias = config.use_conv_bias.unwrap_or_else(|| has("conv1d.bias"));
        let checkpoint = Self {
            files,
            weights,
            config,
            shape,
            tokens,
            audio,
            notes,
            use_bias,
            use_conv_bias,
            mixers,
            unet,
        };
        checkpoint.check_sizes()?;
        checkpoint.check_tensors()?;
        checkpoint.with_head_note()
    }

    /// The model as the user named it.
    pub fn name(&self) -> String {
        self.files.name()
    }

    /// How it walks over a sequence: what decides whether it can stream.
    pub fn schedule(&self) -> Schedule {
        Schedule::TimeMajor
    }

    /// What it reads.
    pub fn modality(&self) -> Modality {
        if self.audio.is_some() { Modality::Audio } else { Modality::Dna }
    }

    /// How samples become rows; `None` where each token id is one.
    pub fn front(&self) -> Option<Front> {
        match self.audio?.encoding {
            Encoding::Mulaw8 => None,
            Encoding::Frames { hop } => Some(Front { hop, reach: hop }),
            Encoding::CleanUMamba => self.unet.as_ref().map(UNetShape::front),
        }
    }

    /// The convolutions around its blocks.
    ///
    /// # Errors
    /// [`Error::NoDecoder`] where it has none.
    pub fn unet(&self) -> Result<&UNetShape> {
        self.unet.as_ref().ok_or_else(|| Error::NoDecoder { model: self.name() })
    }

    /// Sizes of block `i`.
    pub fn mixer_shape(&self, i: usize) -> MixerShape {
        let MambaShape { d_inner, d_state, d_conv, dt_rank, .. } = self.shape;
        let same = MixerShape { d_inner, d_state, d_conv, dt_rank };
        if self.mixers.len() > 1 { self.mixers.get(i).copied().unwrap_or(same) } else { same }
    }

    /// Trained values, without a separate head.
    pub fn parameters(&self) -> usize {
        match self.audio.map(|audio| audio.encoding) {
            None | Some(Encoding::Mulaw8) => self.shape.parameters(),
            _ => self.expected().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum(),
        }
    }

    /// Its files.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Its tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Sizes that config and tensors both give must agree.
    fn check_sizes(&self) -> Result<()> {
        let (c, s) = (&self.config, &self.shape);
        let layers = self.found_layers();
        let padded = c.vocab.map(|v| v.next_multiple_of(c.vocab_multiple));
        let mut wrong = Vec::new();
        for (key, said, found) in [
            // With none at all, their names are strange, and the list of tensors shows how.
            ("the number of layers", Some(s.n_layer), if layers == 0 { s.n_layer } else { layers }),
            // That of CleanUMamba's config is from before the pruning.
            ("the model width", self.unet.is_none().then_some(c.d_model), s.d_model),
            ("the inner width", c.d_inner, s.d_inner),
            ("the state size", c.d_state, s.d_state),
            ("the number of conv taps", c.d_conv, s.d_conv),
            ("the dt rank", c.dt_rank, s.dt_rank),
            // Some releases pad the rows and some, with the same key, don't.
            ("the vocabulary", if c.vocab == Some(s.vocab) { c.vocab } else { padded }, s.vocab),
        ] {
            if key == "the vocabulary" && self.front().is_some() {
                continue;
            }
            match said {
                Some(said) if said != found => {
                    wrong.push(format!("{key} is {said} in config.json but {found} in the tensors"));
                }
                _ if found == 0 => wrong.push(format!("{key} is 0 in the tensors")),
                _ => {}
            }
        }
        let levels = self.unet.iter().flat_map(|unet| unet.encoder.iter().chain(&unet.decoder));
        if levels.clone().any(|level| level.inner == 0) || levels.clone().any(|level| level.out == 0) {
            wrong.push("the width of a convolution is 0 in the tensors".into());
        }
        if !wrong.is_empty() {
            return Err(Error::Tensors { model: self.name(), problems: wrong.join("; ") });
        }
        if let Some(Audio { encoding: Encoding::Mulaw8, .. }) = self.audio
            && s.vocab < 256
        {
            let message = format!("mulaw8 has 256 tokens, but the embedding has {} rows", s.vocab);
            return Err(Error::Config { path: self.config.path.clone(), message });
        }
        if self.audio.is_none() && self.tokens.max_id() as usize >= s.vocab {
            return Err(Error::Config {
                path: self.config.path.clone(),
                message: format!(
                    "token id {} of {} is not a row of the embedding, which has {}",
                    self.tokens.max_id(),
                    self.tokens.origin,
                    s.vocab
                ),
            });
        }
        Ok(())
    }

    /// Layers that have tensors, of those that the config counts.
    fn found_layers(&self) -> usize {
        tensor_layers(&self.weights).into_iter().filter(|&i| i < self.shape.n_layer).count()
    }

    /// Name and shape of every tensor that must be there.
    fn expected(&self) -> Vec<(String, Vec<usize>)> {
        let MambaShape { n_layer, d_model, vocab, .. } = self.shape;
        let mut list = match self.audio.map(|audio| audio.encoding) {
            None | Some(Encoding::Mulaw8) => vec![("embeddings.weight".to_owned(), vec![vocab, d_model])],
            Some(Encoding::Frames { hop }) => vec![
                ("frame_proj.weight".to_owned(), vec![d_model, hop]),
                ("frame_proj.bias".to_owned(), vec![d_model]),
            ],
            Some(Encoding::CleanUMamba) => {
                self.unet.as_ref().map_or_else(Vec::new, |unet| unet.expected(d_model))
            }
        };
        let norm = |list: &mut Vec<(String, Vec<usize>)>, name: &str| {
            list.push((format!("{name}.weight"), vec![d_model]));
            if self.config.norm == NormKind::Layer {
                list.push((format!("{name}.bias"), vec![d_model]));
            }
        };
        norm(&mut list, "norm_f");
        // A damaged config may count millions: no more are listed than have tensors, or one.
        for i in 0..n_layer.min(self.found_layers().max(1)) {
            let MixerShape { d_inner, d_state, d_conv, dt_rank } = self.mixer_shape(i);
            norm(&mut list, &format!("layers.{i}.norm"));
            let mut mixer =
                |name: &str, shape: Vec<usize>| list.push((format!("layers.{i}.mixer.{name}"), shape));
            mixer("in_proj.weight", vec![2 * d_inner, d_model]);
            mixer("conv1d.weight", vec![d_inner, 1, d_conv]);
            mixer("x_proj.weight", vec![dt_rank + 2 * d_state, d_inner]);
            mixer("dt_proj.weight", vec![d_inner, dt_rank]);
            mixer("dt_proj.bias", vec![d_inner]);
            mixer("A_log", vec![d_inner, d_state]);
            mixer("D", vec![d_inner]);
            mixer("out_proj.weight", vec![d_model, d_inner]);
            if self.use_conv_bias {
                mixer("conv1d.bias", vec![d_inner]);
            }
            if self.use_bias {
                mixer("in_proj.bias", vec![2 * d_inner]);
                mixer("out_proj.bias", vec![d_model]);
            }
        }
        list
    }

    fn check_tensors(&self) -> Result<()> {
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        let mut known = BTreeSet::new();
        for (name, shape) in self.expected() {
            match self.weights.get(&name) {
                None => missing.push(name.clone()),
                Some(t) if t.shape != shape => {
                    misshapen.push(format!("{} is {:?} and should be {shape:?}", t.name, t.shape));
                }
                Some(_) => {}
            }
            known.insert(name);
        }
        let mut unexpected: Vec<String> = self.weights.doubled.clone();
        for (name, tensor) in self.weights.iter() {
            if known.contains(name) || self.is_known_extra(name, tensor)? {
                continue;
            }
            unexpected.push(tensor.name.clone());
        }
        let mut problems = Vec::new();
        for (what, list) in [
            ("missing tensors", missing),
            ("unexpected tensors", unexpected),
            ("misshapen tensors", misshapen),
        ] {
            if !list.is_empty() {
                problems.push(format!("{what}: {}", shorten(&list)));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors { model: self.name(), problems: problems.join("; ") })
    }

    /// A head, or a complement map that really is one.
    fn is_known_extra(&self, name: &str, tensor: &Tensor) -> Result<bool> {
        if name == "lm_head.weight" {
            return Ok(tensor.shape == [self.shape.vocab, self.shape.d_model]);
        }
        if self.is_class_head(name, &tensor.shape) {
            return Ok(true);
        }
        if name.ends_with("complement_map") && tensor.dtype == Dtype::I64 {
            let map = self.weights.read_i64(tensor)?;
            let twice = |i: i64| map.get(usize::try_from(i).unwrap_or(usize::MAX)).copied();
            return Ok(map.iter().enumerate().all(|(i, &j)| twice(j) == Some(i as i64)));
        }
        Ok(false)
    }

    /// A tied head may be stored too; when it differs from the embedding, say so.
    fn with_head_note(mut self) -> Result<Self> {
        let (Some(head), Some(embedding)) =
            (self.weights.get("lm_head.weight"), self.weights.get("embeddings.weight"))
        else {
            return Ok(self);
        };
        if self.config.tied && self.weights.read(head)? != self.weights.read(embedding)? {
            self.notes.push(
                "config.json ties the head to the embedding, but lm_head.weight differs: the stored head counts".into(),
            );
        }
        Ok(self)
    }

    /// The values of a tensor, by its normalised name.
    ///
    /// # Errors
    /// When it is missing, can't be read or holds a NaN.
    pub(crate) fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        match self.weights.get(name) {
            Some(tensor) => self.weights.read(tensor),
            None => Err(Error::Tensors { model: self.name(), problems: format!("missing tensors: {name}") }),
        }
    }

    fn norm(&self, name: &str) -> Result<NormWeights> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = match self.config.norm {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.tensor(&format!("{name}.bias"))?),
        };
        Ok(NormWeights { weight, bias })
    }

    /// (vocab, d_model).
    ///
    /// # Errors
    /// When the tensor can't be read or holds a NaN.
    pub fn embedding(&self) -> Result<Vec<f32>> {
        self.tensor("embeddings.weight")
    }

    /// The language-model head, (vocab, d_model): its own, else the embedding that it is tied to.
    ///
    /// # Errors
    /// [`Error::NoHead`] when it is neither there nor tied; [`Error::NoTokens`]; else as for [`Checkpoint::embedding`].
    pub fn lm_head(&self) -> Result<Vec<f32>> {
        self.has_lm_head()?;
        match self.weights.get("lm_head.weight") {
            Some(head) => self.weights.read(head),
            None if self.config.tied => self.embedding(),
            None => Err(Error::NoHead { model: self.name() }),
        }
    }

    /// Fails when there is nothing to predict tokens with.
    ///
    /// # Errors
    /// [`Error::NoHead`]; [`Error::NoTokens`] where the model reads samples.
    pub fn has_lm_head(&self) -> Result<()> {
        if self.front().is_some() {
            return Err(Error::NoTokens { model: self.name() });
        }
        let there = self.config.tied || self.weights.get("lm_head.weight").is_some();
        if there { Ok(()) } else { Err(Error::NoHead { model: self.name() }) }
    }

    /// The final norm.
    ///
    /// # Errors
    /// When a tensor can't be read or holds a NaN.
    pub fn norm_f(&self) -> Result<NormWeights> {
        self.norm("norm_f")
    }

    /// The weights of block `i`.
    ///
    /// # Errors
    /// When a tensor can't be read or holds a NaN.
    pub fn block(&self, i: usize) -> Result<BlockWeights> {
        let mixer = |name: &str| self.tensor(&format!("layers.{i}.mixer.{name}"));
        let bias = |there: bool, name: &str| if there { mixer(name).map(Some) } else { Ok(None) };
        Ok(BlockWeights {
            norm: self.norm(&format!("layers.{i}.norm"))?,
            in_proj: mixer("in_proj.weight")?,
            in_proj_bias: bias(self.use_bias, "in_proj.bias")?,
            conv1d: mixer("conv1d.weight")?,
            conv1d_bias: bias(self.use_conv_bias, "conv1d.bias")?,
            x_proj: mixer("x_proj.weight")?,
            dt_proj: mixer("dt_proj.weight")?,
            dt_proj_bias: mixer("dt_proj.bias")?,
            a_log: mixer("A_log")?,
            d: mixer("D")?,
            out_proj: mixer("out_proj.weight")?,
            out_proj_bias: bias(self.use_bias, "out_proj.bias")?,
        })
    }
}

/// Widths of the convolutions, from the tensors; those that are not there are 1, and found missing.
fn unet_shape(weights: &Weights, config: UNetConfig) -> UNetShape {
    let UNetConfig { levels, taps, stride } = config;
    let rows = |name: &str| weights.get(name).and_then(|t| t.shape.first().copied()).unwrap_or(1);
    let encoder = (0..levels).map(|i| LevelShape {
        inner: rows(&format!("encoder.{i}.0.weight")),
        out: rows(&format!("encoder.{i}.2.weight")) / 2,
    });
    let encoder: Vec<LevelShape> = encoder.collect();
    // A decoder level gives what the next one reads, which is added to what the encoder gave there.
    let decoder = (0..levels).map(|j| LevelShape {
        inner: rows(&format!("decoder.{j}.0.weight")) / 2,
        out: if j + 1 == levels { 1 } else { encoder[levels - 2 - j].out },
    });
    UNetShape { taps, stride, decoder: decoder.collect(), encoder }
}

/// Indices of layers among the tensors.
fn tensor_layers(weights: &Weights) -> BTreeSet<usize> {
    let index = |name: &str| name.strip_prefix("layers.")?.split('.').next()?.parse::<usize>().ok();
    weights.iter().filter_map(|(name, _)| index(name)).collect()
}

/// All of a short list; the first 20 of a long one and how many follow.
fn shorten(list: &[String]) -> String {
    match list.get(20..) {
        Some(rest) if !rest.is_empty() => format!("{} and {} more", list[..20].join(", "), rest.len()),
        _ => list.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Shapes of a model of one layer, d_inner 2; `change` spoils them.
    fn message(config: &str, change: impl Fn(&str) -> Option<&'static str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let tokens = r#""mamba_seq": {"modality": "dna", "tokens": {"A": 0}, "unknown": 1}"#;
        let config = format!(r#"{{"model_type": "mamba", "hidden_size": 1, {config} {tokens}}}"#);
        fs::write(folder.path().join("config.json"), config).unwrap();
        let (mut header, mut at) = (String::new(), 0);
        for (name, shape) in [
            ("embeddings.weight", "[2, 1]"),
            ("norm_f.weight", "[1]"),
            ("layers.0.norm.weight", "[1]"),
            ("layers.0.mixer.in_proj.weight", "[4, 1]"),
            ("layers.0.mixer.conv1d.weight", "[2, 1, 1]"),
            ("layers.0.mixer.x_proj.weight", "[3, 2]"),
            ("layers.0.mixer.dt_proj.weight", "[2, 1]"),
            ("layers.0.mixer.dt_proj.bias", "[2]"),
            ("layers.0.mixer.A_log", "[2, 1]"),
            ("layers.0.mixer.D", "[2]"),
            ("layers.0.mixer.out_proj.weight", "[1, 2]"),
        ] {
            let shape = change(name).unwrap_or(shape);
            let sizes: Vec<usize> = serde_json::from_str(shape).unwrap();
            let end = at + 4 * sizes.iter().product::<usize>();
            let comma = if header.is_empty() { "" } else { "," };
            header += &format!(
                r#"{comma}"{name}": {{"dtype": "F32", "shape": {shape}, "data_offsets": [{at}, {end}]}}"#
            );
            at = end;
        }
        write(&folder.path().join("model.safetensors"), &format!("{{{header}}}"), at);
        match Checkpoint::open(ModelFiles::dir(folder.path()).unwrap()) {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        }
    }

    fn write(path: &Path, header: &str, data: usize) {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_layer_count_without_tensors_is_refused_at_once() {
        assert_eq!(message(r#""num_hidden_layers": 1,"#, |_| None), "");
        let e = message(r#""num_hidden_layers": 16777216,"#, |_| None);
        assert!(e.ends_with("the number of layers is 16777216 in config.json but 1 in the tensors"), "{e}");
    }

    #[test]
    fn no_size_is_zero() {
        let config = r#""num_hidden_layers": 1,"#;
        let e = message(config, |name| name.ends_with("conv1d.weight").then_some("[2, 1, 0]"));
        assert!(e.ends_with("the number of conv taps is 0 in the tensors"), "{e}");
        let e = message(config, |name| name.ends_with("A_log").then_some("[2, 0]"));
        assert!(e.ends_with("the state size is 0 in the tensors"), "{e}");
    }
}
