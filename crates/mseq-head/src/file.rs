use std::collections::HashMap;
use std::fs;
use std::path::Path;

use mseq_model::{ClassHead, NumberHead, RowHead};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Examples, Fitted, Result, Table, Targets};

/// Of the file's layout: a reader refuses any other.
const VERSION: u32 = 1;
const HEADER: &str = "mamba_seq_head";

/// What the rows were that a head was fitted on: it means nothing on others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The model, as the user named it.
    pub model: String,
    /// Digest of the model's files.
    pub model_sha256: String,
    /// As `--layer` had it.
    pub layer: String,
    /// As `--pool` had it.
    pub pool: String,
}

/// What a head says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// One of these classes.
    Classes(Vec<String>),
    /// A number.
    Number,
}

/// A fitted head and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What it was fitted on.
    pub origin: Origin,
    /// What it says.
    pub says: Predictor,
    /// Its numbers.
    pub fitted: Fitted,
    /// Rows that it was fitted on.
    pub rows: u64,
    /// The command that fitted it.
    pub command: String,
    /// SHA-256 of the file, empty for one that was never in a file.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    #[serde(flatten)]
    origin: Origin,
    says: Predictor,
    strength: f64,
    tried: Vec<(f64, f64)>,
    rows: u64,
    command: String,
}

impl Origin {
    /// That of a table of embeddings.
    pub fn of(table: &Table) -> Self {
        let get = |key: &str| table.metadata.get(key).cloned().unwrap_or_default();
        Self {
            model: get("model"),
            model_sha256: get("model_sha256"),
            layer: get("layer"),
            pool: get("pool"),
        }
    }

    fn text(&self) -> String {
        let digest: String = self.model_sha256.chars().take(12).collect();
        format!("model {} ({digest}), layer {}, pool {}", self.model, self.layer, self.pool)
    }

    /// Fails unless `other` has the same model, layer and pool.
    ///
    /// # Errors
    /// [`Error::Other`], which names both.
    pub fn check(&self, path: &Path, other: &Self) -> Result<()> {
        let key = |o: &Self| (o.model_sha256.clone(), o.layer.clone(), o.pool.clone());
        if key(self) == key(other) {
            return Ok(());
        }
        Err(Error::Other { path: path.to_owned(), of: self.text(), found: other.text() })
    }
}

impl Head {
    /// A head that was just fitted.
    pub fn new(table: &Table, examples: &Examples, fitted: Fitted, command: &str) -> Self {
        let says = match &examples.targets {
            Targets::Classes(names, _) => Predictor::Classes(names.clone()),
            Targets::Numbers(_) => Predictor::Number,
        };
        let (rows, command) = (examples.len() as u64, command.to_owned());
        Self { origin: Origin::of(table), says, fitted, rows, command, sha256: String::new() }
    }

    /// Width of the rows that it takes.
    pub fn dim(&self) -> usize {
        self.fitted.mean.len()
    }

    /// The linear layer on rows as they are, without the standardiser.
    fn folded(&self) -> (Vec<f64>, Vec<f64>) {
        let Fitted { mean, scale, weight, bias, .. } = &self.fitted;
        let dim = self.dim();
        let weight: Vec<f64> =
            weight.chunks_exact(dim).flat_map(|w| w.iter().zip(scale).map(|(w, s)| w / s)).collect();
        let bias = weight
            .chunks_exact(dim)
            .zip(bias)
            .map(|(w, b)| b - w.iter().zip(mean).map(|(w, m)| w * m).sum::<f64>())
            .collect();
        (weight, bias)
    }

    /// As a head of classes; `None` for one of numbers.
    pub fn class_head(&self) -> Option<ClassHead> {
        let Predictor::Classes(names) = &self.says else { return None };
        let (weight, bias) = self.folded();
        ClassHead::new(names.clone(), weight, bias, self.dim())
    }

    /// As what a model's rows go through; `None` when its numbers are too large once they are folded.
    pub fn row_head(&self) -> Option<RowHead> {
        match &self.says {
            Predictor::Classes(_) => self.class_head().map(RowHead::Classes),
            Predictor::Number => {
                let (weight, bias) = self.folded();
                NumberHead::new(weight, *bias.first()?).map(RowHead::Number)
            }
        }
    }

    /// The number that it says of each row.
    pub fn numbers(&self, rows: &[f64]) -> Vec<f64> {
        let (weight, bias) = self.folded();
        let bias = bias.first().copied().unwrap_or(0.0);
        rows.chunks_exact(self.dim())
            .map(|row| row.iter().zip(&weight).fold(bias, |sum, (v, w)| sum + v * w))
            .collect()
    }

    /// Writes the file: beside its place, then renamed.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let fail = |e: &dyn std::fmt::Display| Error::file(path, format!("cannot be written: {e}"));
        let header = Header {
            version: VERSION,
            origin: self.origin.clone(),
            says: self.says.clone(),
            strength: self.fitted.strength,
            tried: self.fitted.tried.clone(),
            rows: self.rows,
            command: self.command.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|e| fail(&e))?;
        let bytes = |v: &[f64]| -> Vec<u8> { v.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let f = &self.fitted;
        let outputs = f.bias.len();
        let tensors = [
            ("mean", vec![self.dim()], bytes(&f.mean)),
            ("scale", vec![self.dim()], bytes(&f.scale)),
            ("weight", vec![outputs, self.dim()], bytes(&f.weight)),
            ("bias", vec![outputs], bytes(&f.bias)),
        ];
        let views = tensors
            .iter()
            .map(|(name, shape, data)| Ok((*name, TensorView::new(Dtype::F64, shape.clone(), data)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| fail(&e))?;
        let metadata = HashMap::from([(HEADER.to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(&e))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| fail(&e))?;
        std::io::Write::write_all(&mut file, &bytes).map_err(|e| fail(&e))?;
        file.as_file().sync_all().map_err(|e| fail(&e))?;
        file.persist(path).map_err(|e| fail(&e.error))?;
        Ok(())
    }

    /// Reads a file that [`Head::write`] wrote.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
        let bad = |e: &dyn std::fmt::Display| {
            Error::file(path, format!("is no head ({e}); make one with `mamba-seq head fit`"))
        };
        let parsed = mseq_core::decode(|| Self::parse(&bytes)).map_err(|e| bad(&e))?;
        parsed.map_err(|e| bad(&e))
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| text(&e))?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER)).ok_or("it has no header")?;
        let header: Header = serde_json::from_str(header).map_err(|e| text(&e))?;
        if header.version != VERSION {
            return Err(format!("version {}, this program reads {VERSION}", header.version));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|e| text(&e))?;
        let f64s = |name: &str| -> std::result::Result<Vec<f64>, String> {
            let tensor = file.tensor(name).map_err(|e| text(&e))?;
            let values: Vec<f64> =
                tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
            let good = tensor.dtype() == Dtype::F64 && values.iter().all(|v| v.is_finite());
            good.then_some(values).ok_or(format!("{name} is not of finite numbers"))
        };
        let (strength, tried) = (header.strength, header.tried);
        let (mean, scale, weight, bias) = (f64s("mean")?, f64s("scale")?, f64s("weight")?, f64s("bias")?);
        let outputs = match &header.says {
            Predictor::Classes(names) => names.len(),
            Predictor::Number => 1,
        };
        let dim = mean.len();
        let fits = dim > 0 && scale.len() == dim && bias.len() == outputs && weight.len() == outputs * dim;
        if !fits || outputs == 0 || scale.contains(&0.0) {
            return Err("its tensors do not fit each other".into());
        }
        Ok(Self {
            origin: header.origin,
            says: header.says,
            fitted: Fitted { mean, scale, weight, bias, strength, tried },
            rows: header.rows,
            command: header.command,
            sha256: Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            origin: Origin {
                model: "m".into(),
                model_sha256: "ab".into(),
                layer: "last".into(),
                pool: "mean".into(),
            },
            says: Predictor::Classes(vec!["no".into(), "yes".into()]),
            fitted: Fitted {
                mean: vec![1.0, 2.0, 3.0],
                scale: vec![2.0, 1.0, 0.5],
                weight: vec![0.0, 0.0, 0.0, 1.0, -2.0, 0.25],
                bias: vec![0.0, 0.5],
                strength: 0.1,
                tried: vec![(1.0, 0.5)],
            },
            rows: 7,
            command: "mamba-seq head fit".into(),
            sha256: String::new(),
        }
    }

    #[test]
    fn a_head_reads_back_and_says_the_same_without_its_standardiser() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        head().write(&path).unwrap();
        let read = Head::read(&path).unwrap();
        assert_eq!(Head { sha256: String::new(), ..read.clone() }, head());
        assert_eq!(read.sha256.len(), 64);
        // (3-1)/2 - 2 (1-2)/1 + 0.25 (4-3)/0.5 + 0.5 = 4.
        let p = read.class_head().unwrap().probabilities(&[3.0, 1.0, 4.0]);
        assert!((f64::from(p[1]) - 1.0 / (1.0 + (-4f64).exp())).abs() < 1e-7, "{p:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_and_strangers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        head().write(&path).unwrap();
        let good = fs::read(&path).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(Head::read(&path).is_err(), "{len}");
        }
        let mut other = head().origin;
        head().origin.check(&path, &other).unwrap();
        other.layer = "3".into();
        let e = head().origin.check(&path, &other).unwrap_err().to_string();
        assert!(e.contains("layer last") && e.contains("layer 3"), "{e}");
        assert!(Head::read(&folder.path().join("none")).is_err());
    }
}
