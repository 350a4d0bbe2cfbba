use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{Error, Result};

/// Which window a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Record id.
    pub record: Arc<str>,
    /// First position.
    pub start: u64,
}

/// The rows of an `embed` file, in memory.
#[derive(Debug, Clone)]
pub struct Table {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// Width of a row.
    pub dim: usize,
    /// (rows, dim).
    pub values: Vec<f32>,
    /// One a row.
    pub keys: Vec<Key>,
    /// The text of the label column, if one was asked for: one a row, `None` for null.
    pub labels: Vec<Option<String>>,
    /// `mamba_seq.*` of the first file, without that prefix.
    pub metadata: BTreeMap<String, String>,
}

impl Table {
    /// Reads files of one model, layer and pool.
    ///
    /// # Errors
    /// When one can't be read, was not written by `embed`, has no such column, or differs from the
    /// first.
    pub fn open(paths: &[PathBuf], label: Option<&str>) -> Result<Self> {
        let mut table = Self {
            paths: paths.to_vec(),
            dim: 0,
            values: Vec::new(),
            keys: Vec::new(),
            labels: Vec::new(),
            metadata: BTreeMap::new(),
        };
        for path in paths {
            table.add(path, label)?;
        }
        if table.keys.is_empty() {
            return Err(Error::Labels("there is no row of embeddings to work on".into()));
        }
        Ok(table)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn add(&mut self, path: &Path, label: Option<&str>) -> Result<()> {
        let fail = |message: &dyn std::fmt::Display| Error::file(path, message);
        let file = File::open(path).map_err(|e| fail(&e))?;
        let foreign = |e: &dyn std::fmt::Display| {
            fail(&format!("is no complete Parquet file ({e}); give a file that `mamba-seq embed` wrote"))
        };
        let builder = mseq_core::decode(|| ParquetRecordBatchReaderBuilder::try_new(file))
            .map_err(|e| foreign(&e))?
            .map_err(|e| foreign(&e))?;
        let pairs = builder.metadata().file_metadata().key_value_metadata();
        let metadata: BTreeMap<String, String> = pairs
            .into_iter()
            .flatten()
            .filter_map(|pair| Some((pair.key.strip_prefix("mamba_seq.")?.to_owned(), pair.value.clone()?)))
            .collect();
        if !metadata.contains_key("model_sha256") || builder.schema().index_of("embedding").is_err() {
            return Err(fail(
                &"has no embeddings of a known model; give a file that `mamba-seq embed` wrote",
            ));
        }
        let label = label.map(|name| column(&builder, name)).transpose().map_err(|e| fail(&e))?;
        if self.metadata.is_empty() {
            self.metadata = metadata;
        } else {
            for key in ["model_sha256", "layer", "pool"] {
                if self.metadata.get(key) != metadata.get(key) {
                    let say = |m: &BTreeMap<String, String>| m.get(key).cloned().unwrap_or_default();
                    return Err(fail(&format!(
                        "its {key} is {}, and that of the first file is {}; use files of one job",
                        say(&metadata),
                        say(&self.metadata)
                    )));
                }
            }
        }
        let mut reader = builder.with_batch_size(1024).build().map_err(|e| fail(&e))?;
        // Damaged pages reach assertions of the decoder.
        while let Some(batch) = mseq_core::decode(|| reader.next()).map_err(|e| fail(&e))? {
            self.rows(&batch.map_err(|e| fail(&e))?, label.as_deref()).map_err(|e| fail(&e))?;
        }
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, label: Option<&str>) -> std::result::Result<(), String> {
        let column = |name: &str| batch.column_by_name(name).ok_or(format!("has no column {name}"));
        let record = column("record")?;
        let record = record.as_string_opt::<i32>().ok_or("its column record is no text")?;
        let start = column("start")?;
        let start = start.as_primitive_opt::<UInt64Type>().ok_or("its column start is no UInt64")?;
        let embedding = column("embedding")?;
        let label = label.map(column).transpose()?;
        let mut last: Arc<str> = "".into();
        for i in 0..batch.num_rows() {
            let list = match (embedding.as_fixed_size_list_opt(), embedding.as_list_opt::<i32>()) {
                (Some(lists), _) => lists.value(i),
                (None, Some(lists)) => lists.value(i),
                (None, None) => return Err("its column embedding is no list".into()),
            };
            let before = self.values.len();
            if let Some(f32s) = list.as_primitive_opt::<Float32Type>() {
                self.values.extend_from_slice(f32s.values());
            } else if let Some(f16s) = list.as_primitive_opt::<Float16Type>() {
                self.values.extend(f16s.values().iter().map(|v| v.to_f32()));
            }
            let width = self.values.len() - before;
            if self.dim == 0 {
                self.dim = width;
            }
            if width == 0 || width != self.dim {
                return Err(format!("an embedding has {width} values, the first has {}", self.dim));
            }
            if let Some(bad) = self.values[before..].iter().find(|v| !v.is_finite()) {
                return Err(format!("the embedding of record '{}' holds {bad}", record.value(i)));
            }
            if *last != *record.value(i) {
                last = record.value(i).into();
            }
            self.keys.push(Key { record: Arc::clone(&last), start: start.value(i) });
            if let Some(label) = label {
                self.labels.push(text(label.as_ref(), i)?);
            }
        }
        Ok(())
    }
}

/// The name of a label column in the file: as given, or a kept one.
fn column(
    builder: &ParquetRecordBatchReaderBuilder<File>,
    name: &str,
) -> std::result::Result<String, String> {
    let has = |name: &str| builder.schema().index_of(name).is_ok();
    let kept = format!("input.{name}");
    match () {
        () if has(name) && name.starts_with("input.") => Ok(name.to_owned()),
        () if has(&kept) => Ok(kept),
        () if has(name) => Ok(name.to_owned()),
        () => {
            let all = builder.schema().fields().iter().filter_map(|f| f.name().strip_prefix("input."));
            let all: Vec<&str> = all.collect();
            Err(format!(
                "has no column '{kept}'; {}",
                if all.is_empty() {
                    "embed the table with --keep, or give --labels".to_owned()
                } else {
                    format!("kept are {}", all.join(", "))
                }
            ))
        }
    }
}

/// A value as text; `None` for null.
fn text(array: &dyn Array, i: usize) -> std::result::Result<Option<String>, String> {
    if array.is_null(i) {
        return Ok(None);
    }
    macro_rules! number {
        ($($type:ty),*) => {
            $(if let Some(values) = array.as_primitive_opt::<$type>() {
                return Ok(Some(values.value(i).to_string()));
            })*
        };
    }
    number!(Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type);
    number!(Float32Type, Float64Type);
    match array.data_type() {
        DataType::Utf8 => Ok(Some(array.as_string::<i32>().value(i).to_owned())),
        DataType::Boolean => Ok(Some(array.as_boolean().value(i).to_string())),
        other => Err(format!("labels of type {other} are neither text nor numbers")),
    }
}
