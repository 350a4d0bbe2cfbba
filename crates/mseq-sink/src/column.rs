//! One value of [`Column`] per column of the output: a new column is one more of them in the
//! layout's list, and neither the buffer nor the writers change.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, Float64Builder, StringBuilder};
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Float64Array, ListArray, RecordBatch,
    UInt64Array,
};
use arrow_schema::{DataType, Field, SchemaRef};
use half::f16;
use half::slice::HalfFloatSliceExt;
use mseq_core::{EmbeddingDType, ListType, RowBlock, RowKey, Score};

use crate::kept::KeptColumns;
use crate::schema::EmbedLayout;
use crate::{Error, KeptRows, Result, RowLayout};

/// What kind of values a column has: it decides their encoding in a Parquet file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Few distinct strings.
    Text,
    /// Coordinates and counts: mostly growing integers.
    Position,
    /// Numbers of a model, one a row: noisy.
    Number,
    /// Times.
    Seconds,
    /// The numbers of a model in a list: dense, noisy, never searched.
    Values(EmbeddingDType),
}

/// One column: its field, and the values of the rows not yet encoded.
pub(crate) trait Column: Send {
    fn field(&self) -> Field;
    fn kind(&self) -> Kind;
    /// Appends the value of row `i` and says how many bytes it takes, uncompressed.
    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize>;
    /// The values so far, which it forgets.
    fn take(&mut self) -> Result<ArrayRef>;
}

// Batches are of one size: with room for as much again a column need not grow through every smaller
// one, which takes time and leaves holes of every size in the heap.

fn emptied<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len();
    std::mem::replace(values, Vec::with_capacity(room))
}

fn emptied_text(values: &mut StringBuilder) -> StringBuilder {
    let (rows, bytes) = (values.len(), values.values_slice().len());
    std::mem::replace(values, StringBuilder::with_capacity(rows, bytes))
}

fn emptied_numbers(values: &mut Float64Builder) -> Float64Builder {
    let room = values.len();
    std::mem::replace(values, Float64Builder::with_capacity(room))
}

/// Text of the row's key.
pub(crate) struct Text {
    name: &'static str,
    get: fn(&RowKey) -> &str,
    values: StringBuilder,
}

impl Text {
    pub(crate) fn boxed(name: &'static str, get: fn(&RowKey) -> &str) -> Box<dyn Column> {
        Box::new(Self { name, get, values: StringBuilder::new() })
    }
}

impl Column for Text {
    fn field(&self) -> Field {
        Field::new(self.name, DataType::Utf8, false)
    }

    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let text = (self.get)(&rows.keys[i]);
        self.values.append_value(text);
        Ok(text.len() + size_of::<i32>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(emptied_text(&mut self.values).finish()))
    }
}

/// Number of the row's key.
pub(crate) struct Position {
    name: &'static str,
    get: fn(&RowKey) -> u64,
    values: Vec<u64>,
}

impl Position {
    pub(crate) fn boxed(name: &'static str, get: fn(&RowKey) -> u64) -> Box<dyn Column> {
        Box::new(Self { name, get, values: Vec::new() })
    }
}

impl Column for Position {
    fn field(&self) -> Field {
        Field::new(self.name, DataType::UInt64, false)
    }

    fn kind(&self) -> Kind {
        Kind::Position
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        self.values.push((self.get)(&rows.keys[i]));
        Ok(size_of::<u64>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(UInt64Array::from(emptied(&mut self.values))))
    }
}

/// A coordinate of a recording as a time.
pub(crate) struct Seconds {
    name: &'static str,
    get: fn(&RowKey) -> u64,
    values: Vec<f64>,
}

impl Seconds {
    pub(crate) fn boxed(name: &'static str, get: fn(&RowKey) -> u64) -> Box<dyn Column> {
        Box::new(Self { name, get, values: Vec::new() })
    }
}

impl Column for Seconds {
    fn field(&self) -> Field {
        Field::new(self.name, DataType::Float64, false)
    }

    fn kind(&self) -> Kind {
        Kind::Seconds
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let key = &rows.keys[i];
        let rate = key.rate.map_or(1, |rate| rate.get());
        self.values.push((self.get)(key) as f64 / f64::from(rate));
        Ok(size_of::<f64>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(Float64Array::from(emptied(&mut self.values))))
    }
}

/// Fails for a score that is no number.
fn finite(rows: &RowBlock, i: usize) -> Result<Score> {
    let (score, key) = (rows.scores[i], &rows.keys[i]);
    if score.nll.is_finite() {
        return Ok(score);
    }
    Err(Error::NotFinite {
        record: key.record.to_string(),
        start: key.start,
        channel: 0,
        value: score.nll as f32,
    })
}

/// `nll`: null where no token was scored.
#[derive(Default)]
pub(crate) struct Likelihood(Float64Builder);

impl Likelihood {
    pub(crate) fn boxed() -> Box<dyn Column> {
        Box::<Self>::default()
    }
}

impl Column for Likelihood {
    fn field(&self) -> Field {
        Field::new("nll", DataType::Float64, true)
    }

    fn kind(&self) -> Kind {
        Kind::Number
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let score = finite(rows, i)?;
        self.0.append_option((score.tokens > 0).then_some(score.nll));
        Ok(size_of::<f64>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(emptied_numbers(&mut self.0).finish()))
    }
}

/// `tokens`: how many were scored.
#[derive(Default)]
pub(crate) struct Tokens(Vec<u64>);

impl Tokens {
    pub(crate) fn boxed() -> Box<dyn Column> {
        Box::<Self>::default()
    }
}

impl Column for Tokens {
    fn field(&self) -> Field {
        Field::new("tokens", DataType::UInt64, false)
    }

    fn kind(&self) -> Kind {
        Kind::Position
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        self.0.push(rows.scores[i].tokens);
        Ok(size_of::<u64>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(UInt64Array::from(emptied(&mut self.0))))
    }
}

/// `bpb`: bits a base, null where no token was scored.
#[derive(Default)]
pub(crate) struct Bits(Float64Builder);

impl Bits {
    pub(crate) fn boxed() -> Box<dyn Column> {
        Box::<Self>::default()
    }
}

impl Column for Bits {
    fn field(&self) -> Field {
        Field::new("bpb", DataType::Float64, true)
    }

    fn kind(&self) -> Kind {
        Kind::Number
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        self.0.append_option(rows.scores[i].bits());
        Ok(size_of::<f64>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(emptied_numbers(&mut self.0).finish()))
    }
}

/// The largest of the row's numbers, and which it is: the first of equal ones.
fn most(rows: &RowBlock, i: usize) -> (usize, f32) {
    let mut most = (0, f32::NEG_INFINITY);
    for (class, &p) in rows.row(i).iter().enumerate() {
        if p > most.1 {
            most = (class, p);
        }
    }
    most
}

/// `label`: the name of the most likely class.
pub(crate) struct Label {
    classes: Arc<[Arc<str>]>,
    values: StringBuilder,
}

impl Label {
    pub(crate) fn boxed(classes: Arc<[Arc<str>]>) -> Box<dyn Column> {
        Box::new(Self { classes, values: StringBuilder::new() })
    }
}

impl Column for Label {
    fn field(&self) -> Field {
        Field::new("label", DataType::Utf8, false)
    }

    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let text = &*self.classes[most(rows, i).0];
        self.values.append_value(text);
        Ok(text.len() + size_of::<i32>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(emptied_text(&mut self.values).finish()))
    }
}

/// `probability`: that of the label.
#[derive(Default)]
pub(crate) struct Most(Vec<f32>);

impl Most {
    pub(crate) fn boxed() -> Box<dyn Column> {
        Box::<Self>::default()
    }
}

impl Column for Most {
    fn field(&self) -> Field {
        Field::new("probability", DataType::Float32, false)
    }

    fn kind(&self) -> Kind {
        Kind::Number
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        self.0.push(most(rows, i).1);
        Ok(size_of::<f32>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(Float32Array::from(emptied(&mut self.0))))
    }
}

/// `prediction`: the row's one number.
#[derive(Default)]
pub(crate) struct Prediction(Vec<f32>);

impl Prediction {
    pub(crate) fn boxed() -> Box<dyn Column> {
        Box::<Self>::default()
    }
}

impl Column for Prediction {
    fn field(&self) -> Field {
        Field::new("prediction", DataType::Float32, false)
    }

    fn kind(&self) -> Kind {
        Kind::Number
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let value = rows.row(i).first().copied().unwrap_or(f32::NAN);
        if !value.is_finite() {
            let key = &rows.keys[i];
            let (record, start) = (key.record.to_string(), key.start);
            return Err(Error::NotFinite { record, start, channel: 0, value });
        }
        self.0.push(value);
        Ok(size_of::<f32>())
    }

    fn take(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(Float32Array::from(emptied(&mut self.0))))
    }
}

/// The row's numbers, as a list of `layout.dim`.
pub(crate) struct Embedding {
    name: &'static str,
    layout: EmbedLayout,
    f32s: Vec<f32>,
    f16s: Vec<f16>,
}

impl Embedding {
    pub(crate) fn boxed(name: &'static str, layout: EmbedLayout) -> Box<dyn Column> {
        Box::new(Self { name, layout, f32s: Vec::new(), f16s: Vec::new() })
    }

    /// The first value of row `i` that `bad` picks, with its channel.
    fn find(rows: &RowBlock, i: usize, bad: impl Fn(f32) -> bool) -> Option<(usize, f32)> {
        rows.row(i).iter().copied().enumerate().find(|&(_, value)| bad(value))
    }
}

impl Column for Embedding {
    fn field(&self) -> Field {
        Field::new(self.name, self.layout.list_type(), false)
    }

    fn kind(&self) -> Kind {
        Kind::Values(self.layout.dtype)
    }

    fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let key = &rows.keys[i];
        if let Some((channel, value)) = Self::find(rows, i, |v| !v.is_finite()) {
            return Err(Error::NotFinite {
                record: key.record.to_string(),
                start: key.start,
                channel,
                value,
            });
        }
        match self.layout.dtype {
            EmbeddingDType::F32 => {
                self.f32s.extend_from_slice(rows.row(i));
                Ok(size_of_val(rows.row(i)))
            }
            EmbeddingDType::F16 => {
                let from = self.f16s.len();
                self.f16s.resize(from + rows.dim, f16::ZERO);
                let halves = &mut self.f16s[from..];
                halves.convert_from_f32_slice(rows.row(i));
                match halves.iter().position(|h| h.is_infinite()) {
                    None => Ok(size_of_val(halves)),
                    Some(channel) => Err(Error::F16Overflow {
                        record: key.record.to_string(),
                        start: key.start,
                        channel,
                        value: rows.row(i)[channel],
                    }),
                }
            }
        }
    }

    fn take(&mut self) -> Result<ArrayRef> {
        let values: ArrayRef = match self.layout.dtype {
            EmbeddingDType::F32 => Arc::new(Float32Array::from(emptied(&mut self.f32s))),
            EmbeddingDType::F16 => Arc::new(Float16Array::from(emptied(&mut self.f16s))),
        };
        let lists = FixedSizeListArray::try_new(self.layout.item(), self.layout.dim_i32()?, values, None)?;
        Ok(match self.layout.list {
            ListType::Fixed => Arc::new(lists),
            ListType::Variable => Arc::new(ListArray::from(lists)),
        })
    }
}

/// Rows on their way to an encoder, column by column.
///
/// It is filled row by row and emptied at a size, so where batches end depends on the rows alone.
pub(crate) struct RowBuffer {
    schema: SchemaRef,
    columns: Vec<Box<dyn Column>>,
    kept: KeptColumns,
    dim: usize,
    rows: usize,
    bytes: usize,
}

impl RowBuffer {
    pub(crate) fn new(layout: &RowLayout, metadata: &[(String, String)]) -> Result<Self> {
        let schema = Arc::new(layout.schema(metadata)?);
        let (columns, kept) = (layout.body().columns()?, KeptColumns::new(layout.kept().clone()));
        Ok(Self { schema, columns, kept, dim: layout.dim(), rows: 0, bytes: 0 })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Each column's name and kind, but for kept ones, which can be anything.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (String, Kind)> {
        self.columns.iter().map(|c| (c.field().name().clone(), c.kind()))
    }

    /// Takes kept values of records, before the rows of these are pushed.
    pub(crate) fn keep(&mut self, kept: KeptRows) -> Result<()> {
        self.kept.keep(kept)
    }

    /// Fails unless `rows` has the layout's width and a key for each row.
    pub(crate) fn check(&self, rows: &RowBlock) -> Result<()> {
        let (dim, values) = (rows.dim, rows.values.len());
        let scores = if self.dim == 0 { rows.len() } else { 0 };
        let fits = rows.len().checked_mul(dim) == Some(values) && rows.scores.len() == scores;
        match dim == self.dim && fits {
            true => Ok(()),
            false => Err(Error::Shape { rows: rows.len(), values, dim, want: self.dim }),
        }
    }

    /// Appends row `i` of a checked block and says how many bytes it takes, uncompressed.
    pub(crate) fn push(&mut self, rows: &RowBlock, i: usize) -> Result<usize> {
        let mut bytes = 0;
        for column in &mut self.columns {
            bytes += column.push(rows, i)?;
        }
        bytes += self.kept.push(rows.keys[i].record_index)?;
        self.rows += 1;
        self.bytes += bytes;
        Ok(bytes)
    }

    /// Uncompressed bytes of the rows in it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows so far, which it forgets; `None` when there are none.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(None);
        }
        self.bytes = 0;
        let mut arrays = self.columns.iter_mut().map(|c| c.take()).collect::<Result<Vec<_>>>()?;
        arrays.extend(self.kept.take()?);
        Ok(Some(RecordBatch::try_new(self.schema.clone(), arrays)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layouts, rows};

    fn push_all(layout: EmbedLayout, block: &RowBlock) -> Result<RowBuffer> {
        let mut buffer = RowBuffer::new(&layout.into(), &[])?;
        buffer.check(block)?;
        for i in 0..block.len() {
            buffer.push(block, i)?;
        }
        Ok(buffer)
    }

    #[test]
    fn bytes_are_those_of_the_arrow_arrays() {
        for layout in layouts(6) {
            let width = if layout.dtype == EmbeddingDType::F32 { 4 } else { 2 };
            let mut buffer = push_all(layout, &rows(3, 6)).unwrap();
            assert_eq!(
                buffer.bytes(),
                3 * (6 * width + 3 * 8 + 3 * 4 + "genome.fa".len() + "chr0".len() + 1)
            );
            assert_eq!(buffer.take().unwrap().unwrap().num_rows(), 3);
            assert_eq!(buffer.bytes(), 0);
            assert!(buffer.take().unwrap().is_none());
        }
    }

    #[test]
    fn half_precision_rounds_but_never_overflows() {
        let layout = layouts(2).find(|l| l.dtype == EmbeddingDType::F16).unwrap();
        let mut block = rows(2, 2);
        // The largest f32 that still rounds down to f16::MAX, and one below the smallest subnormal.
        block.values[2] = 65519.996;
        block.values[3] = -1e-30;
        push_all(layout, &block).unwrap();
        block.values[3] = -65520.0;
        let error = push_all(layout, &block).err().unwrap();
        let Error::F16Overflow { record, start, channel, value } = &error else { panic!("{error}") };
        assert_eq!((record.as_str(), *start, *channel, *value), ("chr0", 1000, 1, -65520.0));
    }

    #[test]
    fn numbers_must_be_finite() {
        for layout in layouts(4) {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut block = rows(2, 4);
                block.values[6] = bad;
                assert!(matches!(
                    push_all(layout, &block),
                    Err(Error::NotFinite { start: 1000, channel: 2, .. })
                ));
            }
        }
    }

    #[test]
    fn blocks_must_fit_the_layout() {
        let layout = layouts(4).next().unwrap();
        let mut block = rows(2, 4);
        block.values.pop();
        assert!(matches!(
            push_all(layout, &block),
            Err(Error::Shape { rows: 2, values: 7, dim: 4, want: 4 })
        ));
        assert!(matches!(push_all(layout, &rows(2, 2)), Err(Error::Shape { .. })));
        assert!(matches!(push_all(layout, &RowBlock::default()), Err(Error::Shape { .. })));
    }
}
