use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Metadata, Schema};
use mseq_core::{EmbeddingDType, ListType};

use crate::column::{Column, Embedding, Position, Seconds, Text};
use crate::{Error, Result};

/// How `embed` writes its rows: the width, element type and list type of the `embedding` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedLayout {
    /// Channels of an embedding, from 1.
    pub dim: usize,
    /// Element type.
    pub dtype: EmbeddingDType,
    /// List type.
    pub list: ListType,
    /// Whether there is a column `region`: the interval that a row was cut from.
    pub region: bool,
    /// Whether there are columns `start_s` and `end_s`: `start` and `end` of recordings, in seconds.
    pub seconds: bool,
}

impl EmbedLayout {
    /// The Arrow schema of the output, `metadata` (`mamba_seq.*` keys) included.
    ///
    /// None of these columns is nullable. List items are, for the sake of readers, but none is ever null.
    ///
    /// # Errors
    ///
    /// [`Error::Dim`] when no list can be that wide.
    ///
    /// ```
    /// # use mseq_core::{EmbeddingDType, ListType};
    /// let (dtype, list) = (EmbeddingDType::F32, ListType::Fixed);
    /// let layout = mseq_sink::EmbedLayout { dim: 128, dtype, list, region: false, seconds: false };
    /// let names: Vec<_> = layout.schema(&[])?.fields().iter().map(|f| f.name().clone()).collect();
    /// assert_eq!(names, ["source", "record", "record_index", "start", "end", "strand", "embedding"]);
    /// # Ok::<(), mseq_sink::Error>(())
    /// ```
    pub fn schema(&self, metadata: &[(String, String)]) -> Result<Schema> {
        RowLayout::from(*self).schema(metadata)
    }

    /// The columns, empty, in file order.
    pub(crate) fn columns(&self) -> Result<Vec<Box<dyn Column>>> {
        self.dim_i32()?;
        let mut columns = vec![
            Text::boxed("source", |key| &key.source),
            Text::boxed("record", |key| &key.record),
            Position::boxed("record_index", |key| key.record_index),
            Position::boxed("start", |key| key.start),
            Position::boxed("end", |key| key.end),
        ];
        if self.seconds {
            columns.push(Seconds::boxed("start_s", |key| key.start));
            columns.push(Seconds::boxed("end_s", |key| key.end));
        }
        columns.push(Text::boxed("strand", |key| key.strand.as_str()));
        if self.region {
            columns.push(Text::boxed("region", |key| key.region.as_deref().unwrap_or_default()));
        }
        columns.push(Embedding::boxed(*self));
        Ok(columns)
    }

    /// Width as Arrow wants it.
    pub(crate) fn dim_i32(&self) -> Result<i32> {
        i32::try_from(self.dim).ok().filter(|&dim| dim > 0).ok_or(Error::Dim { dim: self.dim })
    }

    /// Field of a list's elements.
    ///
    /// `element` is the Parquet standard's name, and what pyarrow shows for any file; a stream has
    /// it too, so that both have one schema. It is nullable though never null, because only then
    /// pyarrow finds the type equal to its own `list_(float32(), d)`; that costs no size or speed.
    pub(crate) fn item(&self) -> FieldRef {
        let values = match self.dtype {
            EmbeddingDType::F32 => DataType::Float32,
            EmbeddingDType::F16 => DataType::Float16,
        };
        Arc::new(Field::new("element", values, true))
    }

    /// Type of the `embedding` column; the width was checked when the columns were made.
    pub(crate) fn list_type(&self) -> DataType {
        match self.list {
            ListType::Fixed => DataType::FixedSizeList(self.item(), self.dim as i32),
            ListType::Variable => DataType::List(self.item()),
        }
    }
}

/// How kept columns are called in the output.
const KEPT: &str = "input.";

/// All columns of the output: those of `embed`, then those kept of an input table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLayout {
    embed: EmbedLayout,
    /// Called as in the output.
    kept: Fields,
}

impl From<EmbedLayout> for RowLayout {
    /// Without kept columns.
    fn from(embed: EmbedLayout) -> Self {
        Self { embed, kept: Fields::empty() }
    }
}

impl RowLayout {
    /// The columns of `embed`, and these of an input table as `input.NAME`. Each may hold nulls.
    ///
    /// # Errors
    ///
    /// [`Error::KeptTwice`] when two of them would have one name.
    pub fn new(embed: EmbedLayout, columns: &Fields) -> Result<Self> {
        let kept: Fields = columns
            .iter()
            .map(|f| Field::new(format!("{KEPT}{}", f.name()), f.data_type().clone(), true))
            .collect();
        for (i, field) in kept.iter().enumerate() {
            if kept.iter().take(i).any(|other| other.name() == field.name()) {
                return Err(Error::KeptTwice { column: field.name().clone() });
            }
        }
        Ok(Self { embed, kept })
    }

    /// The layout of a file with these columns after those of `embed`; `None` when they are not kept
    /// ones.
    pub(crate) fn of_file(embed: EmbedLayout, others: &[FieldRef]) -> Option<Self> {
        let kept = |f: &FieldRef| f.name().starts_with(KEPT) && f.is_nullable();
        others.iter().all(kept).then(|| Self { embed, kept: others.into() })
    }

    /// The columns that every file has.
    pub fn embed(&self) -> &EmbedLayout {
        &self.embed
    }

    /// The kept columns, called as in the output.
    pub fn kept(&self) -> &Fields {
        &self.kept
    }

    /// Names and types of the kept columns, as in the input: what makes two jobs keep the same.
    pub fn kept_text(&self) -> String {
        let text = |f: &FieldRef| {
            let name = f.name();
            format!("{} {}", name.strip_prefix(KEPT).unwrap_or(name), f.data_type())
        };
        self.kept.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// The Arrow schema of the output, `metadata` (`mamba_seq.*` keys) included.
    ///
    /// # Errors
    ///
    /// As for [`EmbedLayout::schema`].
    pub fn schema(&self, metadata: &[(String, String)]) -> Result<Schema> {
        let fields: Vec<FieldRef> = self.embed.columns()?.iter().map(|c| Arc::new(c.field())).collect();
        let fields: Fields = fields.into_iter().chain(self.kept.iter().cloned()).collect();
        Ok(Schema::new_with_metadata(fields, metadata.iter().cloned().collect::<Metadata>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layouts, metadata};

    #[test]
    fn schema_is_the_contract() {
        for layout in layouts(7) {
            let schema = layout.schema(&metadata()).unwrap();
            let text: Vec<_> =
                schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
            let item =
                if layout.dtype == EmbeddingDType::F32 { DataType::Float32 } else { DataType::Float16 };
            let item = Arc::new(Field::new("element", item, true));
            assert_eq!(
                text[..6],
                [
                    "source: Utf8",
                    "record: Utf8",
                    "record_index: UInt64",
                    "start: UInt64",
                    "end: UInt64",
                    "strand: Utf8"
                ]
            );
            let list = match layout.list {
                ListType::Fixed => DataType::FixedSizeList(item, 7),
                ListType::Variable => DataType::List(item),
            };
            assert_eq!(schema.field(6).name(), "embedding");
            assert_eq!(schema.field(6).data_type(), &list);
            assert!(schema.fields().iter().all(|f| !f.is_nullable()));
            assert_eq!(schema.metadata().get("mamba_seq.model").unwrap(), "tiny");
        }
    }

    #[test]
    fn no_list_is_that_wide() {
        for dim in [0, i32::MAX as usize + 1] {
            let layout =
                EmbedLayout { dim, dtype: EmbeddingDType::F32, list: ListType::Fixed, region: false, seconds: false };
            assert!(matches!(layout.schema(&[]), Err(Error::Dim { .. })));
        }
    }
}
