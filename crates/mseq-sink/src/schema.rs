use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Metadata, Schema};
use mseq_core::{EmbeddingDType, ListType};

use crate::column::{
    Bits, Column, Embedding, Label, Likelihood, Most, Position, Prediction, Seconds, Text, Tokens,
};
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

    /// Type of a column of lists; the width was checked when the columns were made.
    pub(crate) fn list_type(&self) -> DataType {
        match self.list {
            ListType::Fixed => DataType::FixedSizeList(self.item(), self.dim as i32),
            ListType::Variable => DataType::List(self.item()),
        }
    }
}

/// How `score` writes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreLayout {
    /// Whether there is a column `region`.
    pub region: bool,
    /// Whether there are columns `start_s` and `end_s`: recordings.
    pub seconds: bool,
}

/// How `classify` writes its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassLayout {
    /// Names of the classes, in the order of their probabilities; at least one.
    pub classes: Arc<[Arc<str>]>,
    /// List type of the column `probabilities`.
    pub list: ListType,
    /// Whether there is a column `region`.
    pub region: bool,
    /// Whether there are columns `start_s` and `end_s`: recordings.
    pub seconds: bool,
}

impl ClassLayout {
    /// Type of the column `probabilities`.
    fn lists(&self) -> EmbedLayout {
        let (dim, dtype) = (self.classes.len(), EmbeddingDType::F32);
        EmbedLayout { dim, dtype, list: self.list, region: self.region, seconds: self.seconds }
    }
}

/// How `classify` writes its rows with a head that says numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberLayout {
    /// Whether there is a column `region`.
    pub region: bool,
    /// Whether there are columns `start_s` and `end_s`: recordings.
    pub seconds: bool,
}

/// The columns that a command makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `embedding`.
    Embed(EmbedLayout),
    /// `nll`, `tokens`, `bpb`.
    Score(ScoreLayout),
    /// `label`, `probability`, `probabilities`.
    Classify(ClassLayout),
    /// `prediction`.
    Predict(NumberLayout),
}

impl From<EmbedLayout> for Body {
    fn from(layout: EmbedLayout) -> Self {
        Self::Embed(layout)
    }
}

impl From<ScoreLayout> for Body {
    fn from(layout: ScoreLayout) -> Self {
        Self::Score(layout)
    }
}

impl From<ClassLayout> for Body {
    fn from(layout: ClassLayout) -> Self {
        Self::Classify(layout)
    }
}

impl From<NumberLayout> for Body {
    fn from(layout: NumberLayout) -> Self {
        Self::Predict(layout)
    }
}

impl Body {
    /// Numbers of a row; 0 for scores, which are no numbers of a list.
    pub fn dim(&self) -> usize {
        match self {
            Self::Embed(layout) => layout.dim,
            Self::Score(_) => 0,
            Self::Classify(layout) => layout.classes.len(),
            Self::Predict(_) => 1,
        }
    }

    /// Whether there is a column `region`.
    fn region(&self) -> bool {
        match self {
            Self::Embed(layout) => layout.region,
            Self::Score(layout) => layout.region,
            Self::Classify(layout) => layout.region,
            Self::Predict(layout) => layout.region,
        }
    }

    /// Whether there are columns `start_s` and `end_s`.
    fn seconds(&self) -> bool {
        match self {
            Self::Embed(layout) => layout.seconds,
            Self::Score(layout) => layout.seconds,
            Self::Classify(layout) => layout.seconds,
            Self::Predict(layout) => layout.seconds,
        }
    }

    /// The column that holds the numbers of a row as a list; `None` for scores and single numbers.
    pub(crate) fn list(&self) -> Option<&'static str> {
        match self {
            Self::Embed(_) => Some("embedding"),
            Self::Score(_) | Self::Predict(_) => None,
            Self::Classify(_) => Some("probabilities"),
        }
    }

    /// The columns, empty, in file order.
    pub(crate) fn columns(&self) -> Result<Vec<Box<dyn Column>>> {
        let mut columns = vec![
            Text::boxed("source", |key| &key.source),
            Text::boxed("record", |key| &key.record),
            Position::boxed("record_index", |key| key.record_index),
            Position::boxed("start", |key| key.start),
            Position::boxed("end", |key| key.end),
        ];
        if self.seconds() {
            columns.push(Seconds::boxed("start_s", |key| key.start));
            columns.push(Seconds::boxed("end_s", |key| key.end));
        }
        columns.push(Text::boxed("strand", |key| key.strand.as_str()));
        if self.region() {
            columns.push(Text::boxed("region", |key| key.region.as_deref().unwrap_or_default()));
        }
        match self {
            Self::Embed(layout) => {
                layout.dim_i32()?;
                columns.push(Embedding::boxed("embedding", *layout));
            }
            Self::Score(_) => columns.extend([Likelihood::boxed(), Tokens::boxed(), Bits::boxed()]),
            Self::Classify(layout) => {
                layout.lists().dim_i32()?;
                columns.push(Label::boxed(Arc::clone(&layout.classes)));
                columns.push(Most::boxed());
                columns.push(Embedding::boxed("probabilities", layout.lists()));
            }
            Self::Predict(_) => columns.push(Prediction::boxed()),
        }
        Ok(columns)
    }
}

/// How kept columns are called in the output.
const KEPT: &str = "input.";

/// All columns of the output: those of the command, then those kept of an input table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLayout {
    body: Body,
    /// Called as in the output.
    kept: Fields,
}

impl<B: Into<Body>> From<B> for RowLayout {
    /// Without kept columns.
    fn from(body: B) -> Self {
        Self { body: body.into(), kept: Fields::empty() }
    }
}

impl RowLayout {
    /// The columns of a command, and these of an input table as `input.NAME`. Each may hold nulls.
    ///
    /// # Errors
    ///
    /// [`Error::KeptTwice`] when two of them would have one name.
    pub fn new(body: impl Into<Body>, columns: &Fields) -> Result<Self> {
        let kept: Fields = columns
            .iter()
            .map(|f| Field::new(format!("{KEPT}{}", f.name()), f.data_type().clone(), true))
            .collect();
        for (i, field) in kept.iter().enumerate() {
            if kept.iter().take(i).any(|other| other.name() == field.name()) {
                return Err(Error::KeptTwice { column: field.name().clone() });
            }
        }
        Ok(Self { body: body.into(), kept })
    }

    /// The layout of a file with these columns after its own; `None` when they are not kept ones.
    pub(crate) fn of_file(body: Body, others: &[FieldRef]) -> Option<Self> {
        let kept = |f: &FieldRef| f.name().starts_with(KEPT) && f.is_nullable();
        others.iter().all(kept).then(|| Self { body, kept: others.into() })
    }

    /// The columns that every file has.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Numbers of a row; 0 for scores.
    pub fn dim(&self) -> usize {
        self.body.dim()
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
        let fields: Vec<FieldRef> = self.body.columns()?.iter().map(|c| Arc::new(c.field())).collect();
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
            let layout = EmbedLayout {
                dim,
                dtype: EmbeddingDType::F32,
                list: ListType::Fixed,
                region: false,
                seconds: false,
            };
            assert!(matches!(layout.schema(&[]), Err(Error::Dim { .. })));
        }
    }
}
