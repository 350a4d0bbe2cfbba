//! Tables with columns to keep, and a look at what became of them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use super::letters;

/// What `--keep` takes of a [`table`].
pub(crate) const KEEP: &str = "label,score,gene,day,when,nothing";

/// A table of `n` sequences of 1 to `most` letters, with columns of several types and nulls.
pub(crate) fn table(n: usize, most: usize) -> RecordBatch {
    let text = letters(7, n * most);
    let sequence = |i: usize| &text[i * most..i * most + 1 + i * 7919 % most];
    let some = |i: usize, k: usize| i % 5 != k;
    let columns: [(&str, ArrayRef); 8] = [
        ("id", Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("s{i}"))))),
        (
            "label",
            Arc::new(Int64Array::from_iter((0..n).map(|i| some(i, 1).then_some(i as i64 * 7919 % 101)))),
        ),
        ("score", Arc::new(Float64Array::from_iter((0..n).map(|i| some(i, 2).then_some(i as f64 / 3.0))))),
        ("sequence", Arc::new(StringArray::from_iter_values((0..n).map(sequence)))),
        ("gene", Arc::new(StringArray::from_iter((0..n).map(|i| some(i, 3).then(|| format!("gene {i}")))))),
        ("day", Arc::new(Date32Array::from_iter((0..n).map(|i| some(i, 4).then_some(i as i32 - 50))))),
        (
            "when",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values((0..n as i64).map(|i| i << 30))
                    .with_timezone("UTC"),
            ),
        ),
        ("nothing", Arc::new(NullArray::new(n))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// Writes a table as Parquet, in row groups of 100 rows.
pub(crate) fn write(path: &Path, table: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), table.schema(), Some(properties)).unwrap();
    writer.write(table).unwrap();
    writer.close().unwrap();
}

/// All of a Parquet file.
pub(crate) fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

/// Fails unless each row of an output has, in `input.COL`, what its record has in the columns `keep`
/// of the table, with the same type, and the output keeps no other column. Gives the rows.
pub(crate) fn check(output: &[RecordBatch], table: &RecordBatch, keep: &str) -> usize {
    let mut rows = 0;
    for batch in output {
        let records = batch.column_by_name("record_index").unwrap().as_primitive::<UInt64Type>();
        let names: Vec<String> = batch.schema().fields()[7..].iter().map(|f| f.name().clone()).collect();
        let wanted: Vec<String> = keep.split(',').map(|name| format!("input.{name}")).collect();
        assert_eq!(names, wanted);
        for (found, name) in batch.columns()[7..].iter().zip(keep.split(',')) {
            let column = table.column_by_name(name).unwrap();
            assert_eq!(found.data_type(), column.data_type(), "{name}");
            for (i, &record) in records.values().iter().enumerate() {
                let (found, wanted) = (found.slice(i, 1), column.slice(record as usize, 1));
                assert!(*found == *wanted, "{name} of record {record}: {found:?} and not {wanted:?}");
            }
        }
        rows += batch.num_rows();
    }
    rows
}

/// The kept columns of an output as texts, row by row.
pub(crate) fn texts(output: &Path) -> Vec<Vec<String>> {
    let rows = |batch: RecordBatch| -> Vec<Vec<String>> {
        let value = |i: usize, c: &ArrayRef| c.as_string::<i32>().value(i).to_owned();
        (0..batch.num_rows()).map(|i| batch.columns()[7..].iter().map(|c| value(i, c)).collect()).collect()
    };
    batches(output).into_iter().flat_map(rows).collect()
}
