//! The state of a generation as a safetensors file.

use std::collections::HashMap;
use std::path::Path;

use mseq_engine::{GenerateState, Sampling};
use mseq_model::MambaShape;
use mseq_sink::WholeFile;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::{Error, Result};

/// Written into every file; another one is refused.
const FORMAT: &str = "mamba_seq.generation.2";

/// What is saved beside the state.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedGeneration {
    /// Digest of the model.
    pub model_sha256: String,
    /// Name of each lane.
    pub names: Vec<String>,
    /// How tokens were drawn.
    pub sampling: Sampling,
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes a state, whole or not at all.
///
/// # Errors
/// When the file can't be written.
pub fn save_generation(
    path: &Path,
    shape: &MambaShape,
    state: &GenerateState,
    with: &SavedGeneration,
) -> Result<()> {
    let lanes = state.tokens.len();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (i, (conv, ssm)) in state.layers.iter().enumerate() {
        for (name, width, values) in
            [("conv_state", shape.d_conv - 1, conv), ("ssm_state", shape.d_state, ssm)]
        {
            let of = vec![lanes, shape.d_inner, width];
            tensors.push((format!("layers.{i}.{name}"), Dtype::F32, of, bytes_of(values)));
        }
    }
    let tokens = state.tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
    tensors.push(("tokens".into(), Dtype::U32, vec![lanes], tokens));
    let broken = |message: String| Error::SavedState { path: path.display().to_string(), message };
    let views = tensors
        .iter()
        .map(|(name, dtype, of, bytes)| Ok((name, TensorView::new(*dtype, of.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| broken(e.to_string()))?;
    let metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("model_sha256".to_owned(), with.model_sha256.clone()),
        ("position".to_owned(), state.position.to_string()),
        ("first_lane".to_owned(), state.first_lane.to_string()),
        ("seed".to_owned(), with.sampling.seed.to_string()),
        ("temperature".to_owned(), with.sampling.temperature.to_string()),
        ("top_k".to_owned(), with.sampling.top_k.to_string()),
        ("top_p".to_owned(), with.sampling.top_p.to_string()),
        ("names".to_owned(), serde_json::Value::from(with.names.clone()).to_string()),
    ]);
    let bytes = serialize(views, Some(metadata)).map_err(|e| broken(e.to_string()))?;
    let mut file = WholeFile::create(path)?;
    file.write(&bytes)?;
    Ok(file.finish()?)
}

/// Reads a state that [`save_generation`] wrote.
///
/// # Errors
/// When the file is missing or damaged, or is the state of another model.
pub fn load_generation(
    path: &Path,
    shape: &MambaShape,
    model_sha256: &str,
) -> Result<(GenerateState, SavedGeneration)> {
    let broken = |message: String| Error::SavedState { path: path.display().to_string(), message };
    let bytes = std::fs::read(path).map_err(|e| broken(e.to_string()))?;
    let no_state = |e: safetensors::SafeTensorError| broken(format!("is no saved state: {e}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(no_state)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let key = |name: &str| metadata.get(name).cloned().unwrap_or_default();
    if key("format") != FORMAT {
        return Err(broken("is no state that `generate --save-state` wrote".into()));
    }
    if key("model_sha256") != model_sha256 {
        return Err(broken("was saved with another model; name that one with --model".into()));
    }
    let number = |name: &str| {
        key(name).parse::<u64>().map_err(|_| broken(format!("its {name} is '{}', not a number", key(name))))
    };
    let names: Vec<String> =
        serde_json::from_str(&key("names")).map_err(|e| broken(format!("its names: {e}")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(no_state)?;
    let words = |name: &str, dtype: Dtype, of: &[usize]| -> Result<Vec<[u8; 4]>> {
        let tensor = file.tensor(name).map_err(|e| broken(e.to_string()))?;
        if tensor.dtype() != dtype || tensor.shape() != of {
            return Err(broken(format!(
                "{name} is {:?} {:?} and should be {dtype:?} {of:?}",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        Ok(tensor.data().as_chunks::<4>().0.to_vec())
    };
    let lanes = names.len();
    let floats = |name: &str, width: usize| -> Result<Vec<f32>> {
        let words = words(name, Dtype::F32, &[lanes, shape.d_inner, width])?;
        Ok(words.into_iter().map(f32::from_le_bytes).collect())
    };
    let mut layers = Vec::with_capacity(shape.n_layer);
    for i in 0..shape.n_layer {
        let conv = floats(&format!("layers.{i}.conv_state"), shape.d_conv - 1)?;
        layers.push((conv, floats(&format!("layers.{i}.ssm_state"), shape.d_state)?));
    }
    if layers.iter().any(|(conv, ssm)| conv.iter().chain(ssm).any(|v| !v.is_finite())) {
        return Err(broken("holds a value that is not a number".into()));
    }
    let tokens: Vec<u32> =
        words("tokens", Dtype::U32, &[lanes])?.into_iter().map(u32::from_le_bytes).collect();
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= shape.vocab) {
        return Err(broken(format!("token {id} is not in the vocabulary")));
    }
    let first_lane = u32::try_from(number("first_lane")?).map_err(|_| broken("its first_lane".into()))?;
    let state = GenerateState { layers, tokens, position: number("position")?, first_lane };
    let share = |name: &str, fits: fn(f32) -> bool| {
        let value = key(name).parse::<f32>().ok().filter(|v| fits(*v));
        value.ok_or_else(|| broken(format!("its {name} is '{}'", key(name))))
    };
    let sampling = Sampling {
        temperature: share("temperature", |v| v.is_finite() && v >= 0.0)?,
        top_k: u32::try_from(number("top_k")?).map_err(|_| broken("its top_k".into()))?,
        top_p: share("top_p", |v| v > 0.0 && v <= 1.0)?,
        seed: number("seed")?,
    };
    let with = SavedGeneration { model_sha256: model_sha256.to_owned(), names, sampling };
    Ok((state, with))
}
