//! Types of the kept columns: the same values, in the one Arrow layout that every reader has.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, IntervalUnit};
use arrow_select::take::take_record_batch;

/// The kept columns of some records that follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptBatch {
    /// [`RecordHead::index`](mseq_core::RecordHead::index) of the record of row 0; row `i` belongs
    /// to the `i`-th behind it.
    pub first_record: u64,
    /// The columns, called as in the table.
    pub batch: RecordBatch,
}

impl KeptBatch {
    /// The row of a record, if it is in this batch.
    pub fn row(&self, record: u64) -> Option<usize> {
        let row = usize::try_from(record.checked_sub(self.first_record)?).ok()?;
        (row < self.batch.num_rows()).then_some(row)
    }

    /// Heap bytes that it keeps alive: what a queue counts.
    pub fn bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// Row `row` alone, as a copy: a slice would keep the whole batch alive.
    pub(super) fn alone(&self, row: usize) -> Result<Self, ArrowError> {
        let batch = take_record_batch(&self.batch, &UInt32Array::from(vec![row as u32]))?;
        Ok(Self { first_record: self.first_record + row as u64, batch })
    }
}

/// The type in which a column of this type is kept: dictionaries, views and large offsets are ways
/// to lay the same values out, and Parquet has but one. Without them tables that different programs
/// wrote go together, and a batch never drags along the buffers of its neighbours.
///
/// `None` for types that cannot be kept.
pub(super) fn plain(kind: &DataType) -> Option<DataType> {
    let field = |f: &FieldRef| -> Option<FieldRef> {
        Some(Arc::new(Field::clone(f).with_data_type(plain(f.data_type())?)))
    };
    Some(match kind {
        DataType::Dictionary(_, values) => plain(values)?,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) | DataType::LargeListView(f) => {
            DataType::List(field(f)?)
        }
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(field(f)?, *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Option<Fields>>()?),
        DataType::Map(f, sorted) => DataType::Map(field(f)?, *sorted),
        DataType::Union(..) | DataType::RunEndEncoded(..) => return None,
        // Parquet's own interval has milliseconds, and the writer takes no finer ones.
        DataType::Interval(IntervalUnit::MonthDayNano) => return None,
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_become_one_and_what_cannot_be_kept_is_said() {
        let key = Box::new(DataType::Int32);
        let of = |kind| Arc::new(Field::new("item", kind, true));
        let dictionary = DataType::Dictionary(key.clone(), Box::new(DataType::LargeUtf8));
        for (have, want) in [
            (DataType::Utf8View, Some(DataType::Utf8)),
            (DataType::BinaryView, Some(DataType::Binary)),
            (dictionary.clone(), Some(DataType::Utf8)),
            (DataType::LargeList(of(dictionary)), Some(DataType::List(of(DataType::Utf8)))),
            (DataType::Date32, Some(DataType::Date32)),
            (DataType::Interval(IntervalUnit::MonthDayNano), None),
            (DataType::List(of(DataType::Interval(IntervalUnit::MonthDayNano))), None),
        ] {
            assert_eq!(plain(&have), want, "{have}");
        }
    }
}
