use std::collections::{BTreeMap, HashMap};
use std::io::{Read, SeekFrom};

use mseq_core::WeightDType;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::files::ReadSeek;
use crate::{Error, ModelFiles, Result};

/// Largest header that a safetensors file may have, as in the format's own reader.
const MAX_HEADER: u64 = 100_000_000;

/// Where one tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name in the file.
    pub name: String,
    /// File of the model directory.
    pub file: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Bytes of the file.
    range: (u64, u64),
}

/// The headers of every weight file: what is there, without the data.
#[derive(Debug, Clone)]
pub struct Weights {
    files: ModelFiles,
    /// By normalised name: prefixes off, `embeddings` for `embedding`.
    tensors: BTreeMap<String, Tensor>,
    /// Tensors that a prefix made equal to another.
    pub(crate) doubled: Vec<String>,
}

/// Takes off the wrappers that training code leaves around a backbone, and gives the embedding
/// one name.
fn normalise(name: &str) -> String {
    let mut rest = name;
    while let Some(inner) =
        ["caduceus.", "backbone.", "model.", "module."].iter().find_map(|p| rest.strip_prefix(p))
    {
        rest = inner;
    }
    // CleanUMamba's name of them.
    if let Some(block) = rest.strip_prefix("tsfm_Mamba_layers.") {
        return format!("layers.{block}");
    }
    match rest {
        "embedding.weight" => "embeddings.weight".to_owned(),
        _ => rest.to_owned(),
    }
}

impl Weights {
    /// Reads the header of every weight file.
    ///
    /// # Errors
    /// When a file is missing, truncated or no safetensors.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        let mut doubled = Vec::new();
        for file in files.weight_files()? {
            let mut reader = files.open(&file)?.ok_or_else(|| Error::MissingFile {
                model: files.name(),
                file: file.clone(),
                hint: "the index names it: copy the missing shard",
            })?;
            for tensor in header(reader.as_mut(), &file, &files.path(&file))? {
                let name = normalise(&tensor.name);
                if let Some(old) = tensors.insert(name, tensor) {
                    doubled.push(old.name);
                }
            }
        }
        Ok(Self { files: files.clone(), tensors, doubled })
    }

    /// Normalised names and tensors, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// The tensor of that normalised name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The element type of most weights, for information.
    pub fn dtype(&self) -> Option<WeightDType> {
        let first = ["embeddings.weight", "norm_f.weight"].iter().find_map(|name| self.get(name));
        first.and_then(|t| match t.dtype {
            Dtype::F32 => Some(WeightDType::F32),
            Dtype::F16 => Some(WeightDType::F16),
            Dtype::BF16 => Some(WeightDType::Bf16),
            _ => None,
        })
    }

    /// The values of a tensor in f32.
    ///
    /// # Errors
    /// When it can't be read, has another element type, or holds a NaN or infinity.
    pub fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        let path = self.files.path(&tensor.file);
        let bytes = self.bytes(tensor)?;
        let values: Vec<f32> = match tensor.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::BF16 => {
                bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => {
                let message = format!("tensor '{}' is {other:?}; weights are F32, F16 or BF16", tensor.name);
                return Err(Error::Safetensors { path, message });
            }
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => {
                Err(Error::NotFinite { path, tensor: tensor.name.clone(), index, value: values[index] })
            }
            None => Ok(values),
        }
    }

    /// The values of an int64 buffer.
    pub(crate) fn read_i64(&self, tensor: &Tensor) -> Result<Vec<i64>> {
        Ok(self.bytes(tensor)?.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
    }

    fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let path = || self.files.path(&tensor.file);
        let io = |source| Error::Io { path: path(), source };
        let gone = || Error::Safetensors { path: path(), message: "the file is gone".into() };
        let mut reader = self.files.open(&tensor.file)?.ok_or_else(gone)?;
        reader.seek(SeekFrom::Start(tensor.range.0)).map_err(io)?;
        let mut bytes = vec![0u8; (tensor.range.1 - tensor.range.0) as usize];
        reader.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

/// What the header of one safetensors file says, before any check of its tensors.
struct Header {
    entries: HashMap<String, serde_json::Value>,
    /// Where the data begins.
    data: u64,
    /// Of the file.
    size: u64,
}

/// A text of a file's `__metadata__`.
pub(crate) fn metadata(reader: &mut dyn ReadSeek, path: &str, key: &str) -> Result<Option<String>> {
    let header = read_header(reader, path)?;
    let text = header.entries.get("__metadata__").and_then(|meta| meta.get(key));
    Ok(text.and_then(serde_json::Value::as_str).map(str::to_owned))
}

fn truncated(path: &str, has: u64, needs: u64) -> Error {
    let message = format!("truncated: the file has {has} bytes, its header needs {needs}; copy it again");
    Error::Safetensors { path: path.to_owned(), message }
}

fn read_header(reader: &mut dyn ReadSeek, path: &str) -> Result<Header> {
    let broken = |message: String| Error::Safetensors { path: path.to_owned(), message };
    let io = |source| Error::Io { path: path.to_owned(), source };
    let size = reader.seek(SeekFrom::End(0)).map_err(io)?;
    reader.rewind().map_err(io)?;
    if size < 8 {
        return Err(truncated(path, size, 8));
    }
    let mut len = [0u8; 8];
    reader.read_exact(&mut len).map_err(io)?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER {
        return Err(broken("is not a safetensors file: its first 8 bytes are no header length".into()));
    }
    if 8 + len > size {
        return Err(truncated(path, size, 8 + len));
    }
    let mut json = vec![0u8; len as usize];
    reader.read_exact(&mut json).map_err(io)?;
    let no_json = |e: serde_json::Error| broken(format!("is not a safetensors file: header: {e}"));
    let entries = serde_json::from_slice(&json).map_err(no_json)?;
    Ok(Header { entries, data: 8 + len, size })
}

/// Reads and checks the header of one safetensors file.
fn header(reader: &mut dyn ReadSeek, file: &str, path: &str) -> Result<Vec<Tensor>> {
    let broken = |message: String| Error::Safetensors { path: path.to_owned(), message };
    let Header { mut entries, data, size } = read_header(reader, path)?;
    entries.remove("__metadata__");
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let info: TensorInfo =
            serde_json::from_value(value).map_err(|e| broken(format!("header: tensor '{name}': {e}")))?;
        tensors.push((name, info));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    // The format's own checks: no holes, no overlaps, shapes that match their bytes.
    let metadata = Metadata::new(None, tensors.clone()).map_err(|e| broken(format!("header: {e}")))?;
    // Offsets are whatever the header says.
    let needs = data.saturating_add(metadata.data_len() as u64);
    if size < needs {
        return Err(truncated(path, size, needs));
    }
    if size > needs {
        return Err(broken(format!("has {} bytes after its last tensor; copy it again", size - needs)));
    }
    Ok(tensors
        .into_iter()
        .map(|(name, info)| Tensor {
            name,
            file: file.to_owned(),
            shape: info.shape,
            dtype: info.dtype,
            range: (data + info.data_offsets.0 as u64, data + info.data_offsets.1 as u64),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_beyond_any_file_are_truncation() {
        let bits = u64::MAX;
        let header = format!(
            r#"{{"a": {{"dtype": "U8", "shape": [{0}], "data_offsets": [0, {0}]}}, "b": {{"dtype": "U8", "shape": [{1}], "data_offsets": [{0}, {bits}]}}}}"#,
            bits / 9,
            bits - bits / 9,
        );
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 9]].concat();
        let e = super::header(&mut std::io::Cursor::new(bytes), "x", "x").unwrap_err().to_string();
        assert!(e.starts_with("x: truncated") || e.starts_with("x: header"), "{e}");
    }

    #[test]
    fn wrappers_come_off_in_any_depth() {
        for name in ["norm_f.weight", "backbone.norm_f.weight", "module.model.backbone.norm_f.weight"] {
            assert_eq!(normalise(name), "norm_f.weight");
        }
        assert_eq!(normalise("backbone.embedding.weight"), "embeddings.weight");
        assert_eq!(normalise("lm_head.weight"), "lm_head.weight");
        assert_eq!(normalise("layers.0.mixer.A_log"), "layers.0.mixer.A_log");
    }
}
