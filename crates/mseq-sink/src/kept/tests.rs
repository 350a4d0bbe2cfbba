use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::*;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType, Field};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use half::f16;
use mseq_core::{RowBlock, RowKey, Strand};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;
use crate::testing::{layouts, metadata, part, read_back};
use crate::{IpcSink, Options, ParquetSink, RowLayout, RowLog, Sink};

const DIM: usize = 3;
/// Rows of each record.
const PER: usize = 3;

/// A column of every type that can be kept, `n` rows, with nulls.
fn every_type(n: usize) -> RecordBatch {
    let some = |i: usize, k: usize| i % 7 != k % 7;
    let ints = |k: usize| (0..n).map(move |i| some(i, k).then_some(i as i64 * 3 - 11));
    macro_rules! primitive {
        ($array:ty, $k:expr, $as:ty) => {
            Arc::new(<$array>::from_iter(ints($k).map(|v| v.map(|v| v as $as)))) as ArrayRef
        };
    }
    let text = |i: usize| ["", "promoter", "a,b\n", "é"][i % 4].to_owned() + &"x".repeat(i % 5);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for i in 0..n {
        for k in 0..i % 3 {
            map.keys().append_value(format!("k{k}"));
            map.values().append_option((k == 0).then_some(i as i32));
        }
        map.append(some(i, 3)).unwrap();
    }
    let a: ArrayRef = Arc::new(Int32Array::from_iter(ints(1).map(|v| v.map(|v| v as i32))));
    let b: ArrayRef = Arc::new(StringArray::from_iter((0..n).map(|i| some(i, 2).then(|| text(i)))));
    let fields = vec![Field::new("a", a.data_type().clone(), true), Field::new("b", DataType::Utf8, true)];
    let nulls = (0..n).map(|i| some(i, 5)).collect::<Vec<_>>();
    let records = StructArray::new(fields.into(), vec![a, b], Some(nulls.into()));
    let list =
        |i: usize| some(i, 4).then(|| (0..i % 4).map(move |k| some(k + i, 1).then_some((i + k) as i32)));
    let triple = |i: usize| some(i, 4).then(|| (0..3).map(move |k| Some((i * k) as f64)));
    let bytes = (0..n).map(|i| some(i, 6).then_some([i as u8, 0, 255]));
    let columns: Vec<ArrayRef> = vec![
        primitive!(Int8Array, 0, i8),
        primitive!(Int16Array, 1, i16),
        primitive!(Int32Array, 2, i32),
        primitive!(Int64Array, 3, i64),
        primitive!(UInt8Array, 4, u8),
        primitive!(UInt16Array, 5, u16),
        primitive!(UInt32Array, 6, u32),
        primitive!(UInt64Array, 7, u64),
        Arc::new(Float16Array::from_iter(ints(1).map(|v| v.map(|v| f16::from_f64(v as f64 / 4.0))))),
        primitive!(Float32Array, 2, f32),
        primitive!(Float64Array, 3, f64),
        Arc::new(BooleanArray::from_iter((0..n).map(|i| some(i, 2).then_some(i % 3 == 0)))),
        Arc::new(StringArray::from_iter((0..n).map(|i| some(i, 0).then(|| text(i))))),
        Arc::new(BinaryArray::from_iter((0..n).map(|i| some(i, 1).then(|| text(i).into_bytes())))),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 3).unwrap()),
        primitive!(Date32Array, 0, i32),
        Arc::new(Date64Array::from_iter(ints(1).map(|v| v.map(|v| v * 86_400_000)))),
        primitive!(Time32SecondArray, 2, i32),
        primitive!(Time32MillisecondArray, 2, i32),
        primitive!(Time64MicrosecondArray, 3, i64),
        primitive!(Time64NanosecondArray, 3, i64),
        primitive!(TimestampSecondArray, 4, i64),
        primitive!(TimestampMillisecondArray, 4, i64),
        Arc::new(TimestampMicrosecondArray::from_iter(ints(4)).with_timezone("Europe/Berlin")),
        primitive!(TimestampNanosecondArray, 4, i64),
        primitive!(DurationMicrosecondArray, 5, i64),
        primitive!(IntervalYearMonthArray, 6, i32),
        Arc::new(IntervalDayTimeArray::from_iter(ints(6).map(|v| {
            v.map(|v| arrow_array::types::IntervalDayTimeType::make_value(v as i32, v as i32 * 9))
        }))),
        Arc::new(
            Decimal128Array::from_iter(ints(0).map(|v| v.map(i128::from)))
                .with_precision_and_scale(20, 3)
                .unwrap(),
        ),
        Arc::new(Decimal32Array::from_iter(ints(0).map(|v| v.map(|v| v as i32)))),
        Arc::new(NullArray::new(n)),
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>((0..n).map(list))),
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>((0..n).map(triple), 3)),
        Arc::new(records),
        Arc::new(map.finish()),
    ];
    named(columns)
}

fn named(columns: Vec<ArrayRef>) -> RecordBatch {
    let columns = columns.into_iter().enumerate().map(|(i, c)| (format!("c{i}"), c, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// [`PER`] rows of each record, records numbered from `first`.
fn block(first: u64, records: usize) -> RowBlock {
    let mut block = RowBlock::new(DIM);
    for i in 0..records * PER {
        let (record, start) = ((i / PER) as u64 + first, (i % PER) as u64);
        block.keys.push(RowKey {
            source: "x.parquet".into(),
            record: record.to_string().into(),
            record_index: record,
            start,
            end: start + 1,
            strand: Strand::Forward,
            region: None,
            rate: None,
        });
        block.values.extend((0..DIM).map(|c| (i * 5 + c) as f32 / 4.0));
    }
    block
}

fn layout(kept: &RecordBatch) -> RowLayout {
    RowLayout::new(layouts(DIM).next().unwrap(), kept.schema().fields()).unwrap()
}

fn small() -> Options {
    Options { row_group_bytes: 4096, batch_bytes: 700, page_bytes: 512, ..Options::default() }
}

fn file(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(|batch| batch.unwrap()).collect()
}

/// Fails unless `batches` are the rows of `block`, each with the values of its record.
fn check(batches: &[RecordBatch], block: &RowBlock, kept: &RecordBatch, first: u64) {
    assert!(read_back(batches, DIM) == *block);
    let all = concat_batches(&batches[0].schema(), batches).unwrap();
    let of_record: UInt32Array = block.keys.iter().map(|k| (k.record_index - first) as u32).collect();
    let wanted = take_record_batch(kept, &of_record).unwrap();
    for (i, column) in wanted.columns().iter().enumerate() {
        let found = all.column_by_name(&format!("input.c{i}")).unwrap();
        assert!(found == column, "c{i}: {found:?} and not {column:?}");
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_type_comes_back_from_file_stream_and_log() {
    let folder = tempfile::tempdir().unwrap();
    let (direct, logged) = (folder.path().join("direct"), folder.path().join("logged"));
    for n in [1, 40] {
        let (kept, block) = (every_type(n), block(5, n));
        let rows = || KeptRows::new(5, kept.clone());
        let mut sink = ParquetSink::create(&direct, layout(&kept), &metadata(), small()).unwrap();
        sink.keep(rows()).unwrap();
        sink.write(&block).unwrap();
        assert_eq!(Box::new(sink).finish().unwrap().rows, block.len() as u64);
        check(&file(&direct), &block, &kept, 5);

        let bytes = Shared::default();
        let mut sink = IpcSink::new(bytes.clone(), layout(&kept), &metadata(), &small()).unwrap();
        sink.keep(rows()).unwrap();
        sink.write(&block).unwrap();
        Box::new(sink).finish().unwrap();
        let bytes = bytes.0.lock().unwrap().clone();
        let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        assert_eq!(reader.schema().as_ref(), &layout(&kept).schema(&metadata()).unwrap());
        check(&reader.map(|b| b.unwrap()).collect::<Vec<_>>(), &block, &kept, 5);

        let mut log = RowLog::create(&logged, layout(&kept), &metadata(), small(), || {}).unwrap();
        log.keep(rows()).unwrap();
        log.write(&block).unwrap();
        log.finish(|| {}).unwrap();
        assert!(fs::read(&logged).unwrap() == fs::read(&direct).unwrap());
    }
}

/// Rows of the kept batch that begin at `cuts`, each as a batch of its own.
fn pieces(kept: &RecordBatch, cuts: &[usize], first: u64) -> Vec<KeptRows> {
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % kept.num_rows()).chain([0, kept.num_rows()]).collect();
    cuts.sort_unstable();
    let pairs = cuts.windows(2).filter(|w| w[0] < w[1]);
    pairs.map(|w| KeptRows::new(first + w[0] as u64, kept.slice(w[0], w[1] - w[0]))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the values are cut into batches and the rows into blocks, and wherever the job was
    /// cut off: the same file.
    #[test]
    fn no_cut_changes_the_file(
        cuts in prop::collection::vec(0usize..1000, 0..6),
        again in prop::collection::vec(0usize..1000, 0..6),
        stop in 0usize..=90,
        synced in 0usize..=90,
    ) {
        let (kept, block) = (every_type(30), block(0, 30));
        let folder = tempfile::tempdir().unwrap();
        let (direct, logged) = (folder.path().join("direct"), folder.path().join("logged"));
        let mut sink = ParquetSink::create(&direct, layout(&kept), &[], small()).unwrap();
        sink.keep(KeptRows::new(0, kept.clone())).unwrap();
        sink.write(&block).unwrap();
        Box::new(sink).finish().unwrap();

        let (stop, synced) = (stop.max(synced), synced.min(stop));
        let mut log = RowLog::create(&logged, layout(&kept), &[], small(), || {}).unwrap();
        for rows in pieces(&kept, &cuts, 0) {
            log.keep(rows).unwrap();
        }
        log.write(&part(&block, 0, synced)).unwrap();
        let saved = log.sync().unwrap();
        log.write(&part(&block, synced, stop)).unwrap();
        drop(log);
        let mut log = RowLog::resume(&logged, layout(&kept), &[], small(), &saved).unwrap();
        for rows in pieces(&kept, &again, 0) {
            log.keep(rows).unwrap();
        }
        log.write(&part(&block, synced, 90)).unwrap();
        log.finish(|| {}).unwrap();
        prop_assert!(fs::read(&logged).unwrap() == fs::read(&direct).unwrap());
    }
}

#[test]
fn a_resumed_job_must_read_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x");
    let labels = |changed: Option<usize>| {
        let value = |i: usize| if Some(i) == changed { -1 } else { i as i64 };
        named(vec![Arc::new(Int64Array::from_iter_values((0..20).map(value)))])
    };
    let kept = labels(None);
    let mut log = RowLog::create(&output, layout(&kept), &[], small(), || {}).unwrap();
    log.keep(KeptRows::new(0, kept.clone())).unwrap();
    assert_eq!(log.sync().unwrap().kept, None);
    log.write(&block(0, 8)).unwrap();
    let saved = log.sync().unwrap();
    assert_eq!(saved.kept.as_ref().unwrap().record, 7);
    drop(log);
    for (changed, refused) in [(Some(0), true), (Some(7), true), (Some(8), false), (None, false)] {
        let mut log = RowLog::resume(&output, layout(&kept), &[], small(), &saved).unwrap();
        let found = pieces(&labels(changed), &[5, 10], 0).into_iter().try_for_each(|rows| log.keep(rows));
        assert_eq!(matches!(found, Err(Error::OtherKept)), refused, "{changed:?}");
        assert_eq!(log.sync().is_err(), refused);
    }
    // One record less is another input.
    let mut log = RowLog::resume(&output, layout(&kept), &[], small(), &saved).unwrap();
    assert!(matches!(log.keep(KeptRows::new(0, kept.slice(1, 19))), Err(Error::OtherKept)));
}

#[test]
fn what_no_row_needs_is_let_go() {
    // A resumed job passes over the table: nothing piles up.
    let mut trail = Trail::new(Some(KeptMark { record: 999, sha256: String::new() }));
    let one = every_type(1);
    for record in 0..999 {
        assert!(trail.add(KeptRows::new(record, one.clone())).unwrap().is_none());
        assert!(trail.waiting.batches.is_empty());
    }
    // Batches of an output in which one record has very many rows.
    let mut columns = KeptColumns::new(one.schema().fields().clone());
    for _ in 0..100 {
        columns.keep(KeptRows { records: vec![4], batch: one.clone() }).unwrap();
        columns.push(4).unwrap();
    }
    columns.keep(KeptRows { records: vec![4, 5], batch: every_type(2) }).unwrap();
    assert_eq!((columns.waiting.batches.len(), columns.used.len()), (2, 1));
    columns.push(5).unwrap();
    assert_eq!((columns.waiting.batches.len(), columns.used.len()), (1, 2));
    assert_eq!(columns.take().unwrap()[0].len(), 101);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let kept = named(vec![Arc::new(Int64Array::from(vec![1, 2]))]);
    let mut columns = KeptColumns::new(kept.schema().fields().clone());
    columns.keep(KeptRows::new(3, kept.clone())).unwrap();
    assert!(matches!(columns.push(2), Err(Error::KeptMissing { record: 2 })));
    columns.push(4).unwrap();
    assert!(matches!(columns.push(5), Err(Error::KeptMissing { record: 5 })));
    let other = named(vec![Arc::new(Int32Array::from(vec![1]))]);
    assert!(matches!(columns.keep(KeptRows::new(5, other)), Err(Error::KeptShape { columns: 1, want: 1 })));
    let twice = ["a", "b", "a"].map(|name| Field::new(name, DataType::Int8, true));
    let twice = RowLayout::new(layouts(2).next().unwrap(), &twice.to_vec().into()).unwrap_err();
    assert_eq!(twice.to_string(), "two kept columns are called 'input.a'; rename one in the table");
    assert_eq!(layout(&kept).kept_text(), "c0 Int64");
}

/// `cargo test --release -p mseq-sink -- --ignored --nocapture kept_speed`
#[test]
#[ignore = "a measurement"]
fn kept_speed() {
    let n = 1_000_000;
    let label = Int64Array::from_iter_values((0..n as i64).map(|i| i % 7));
    let name = StringArray::from_iter_values((0..n).map(|i| format!("gene{i}")));
    let kept = named(vec![Arc::new(label), Arc::new(name)]);
    let mut columns = KeptColumns::new(kept.schema().fields().clone());
    let mut trail = Trail::default();
    let start = std::time::Instant::now();
    for at in (0..n).step_by(4096) {
        let rows = KeptRows::new(at as u64, kept.slice(at, 4096.min(n - at)));
        columns.keep(trail.add(rows).unwrap().unwrap()).unwrap();
        for record in at..n.min(at + 4096) {
            columns.push(record as u64).unwrap();
            trail.follow(record as u64).unwrap();
        }
        columns.take().unwrap();
    }
    eprintln!("{:.2} M records/s", n as f64 / start.elapsed().as_secs_f64() / 1e6);
}
