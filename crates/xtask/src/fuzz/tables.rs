//! Tables: CSV, TSV and Parquet.

use std::{path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray, types::Int32Type,
};
use mseq_core::Item;
use mseq_source::{DnaTokenizer, Strands, TableOptions, TableSource, table_format};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::{WriterProperties, WriterVersion},
};

use super::{
    case::{Case, Kind, Outcome, PARQUET_PAGE_KIB},
    mutate::damage,
    pack::gzip,
};
use crate::random::Random;

/// CSV and TSV, plain and gzip.
pub(super) struct Text;

/// Parquet, plain and gzip.
pub(super) struct Parquet;

fn letters(random: &mut Random) -> String {
    (0..1 + random.below(90)).map(|_| char::from(*random.pick(b"ACGTacgtNRY-*"))).collect()
}

fn text(separator: char, random: &mut Random) -> String {
    let column = random.pick(&["sequence", "seq", "\"sequence\""]);
    let mut text = format!("name{separator}{column}{separator}label\n");
    for i in 0..1 + random.below(9) {
        let (bases, quoted) = (letters(random), format!("\"{}\"", letters(random)));
        let bases = if random.one_in(4) { quoted } else { bases };
        let label = random.pick(&["0", "1.5", "\"a \"\"b\"\"\nc\"", ""]);
        text += &format!("n{i}{separator}{bases}{separator}{label}\n");
    }
    text
}

impl Kind for Text {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let (separator, name) = *random.pick(&[(',', "x.csv"), ('\t', "x.tsv"), ('\t', "x.txt"), (',', "x")]);
        let mut bytes = text(separator, random).into_bytes();
        let others = [text(separator, random).into_bytes(), text(',', random).into_bytes()];
        let (packed, before) = (random.one_in(4), random.one_in(2));
        if damaged && (!packed || before) {
            damage(&mut bytes, &others, true, random);
        }
        if packed {
            bytes = gzip(&bytes);
            if damaged && !before {
                damage(&mut bytes, &[], false, random);
            }
        }
        Case::new([(name.to_owned(), bytes)].into(), random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        read(case, folder)
    }
}

/// A column of texts of any type that a table may have.
fn column(texts: Vec<Option<String>>, random: &mut Random) -> ArrayRef {
    match random.below(5) {
        0 => Arc::new(StringArray::from(texts)),
        1 => Arc::new(LargeStringArray::from(texts)),
        2 => Arc::new(StringViewArray::from(texts)),
        3 => {
            let texts: Vec<_> = texts.iter().map(|text| text.as_ref().map(String::as_bytes)).collect();
            Arc::new(BinaryArray::from(texts))
        }
        _ => Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>()),
    }
}

fn parquet_file(random: &mut Random) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let rows = 1 + random.below(40);
    let few: Vec<String> = (0..3).map(|_| letters(random)).collect();
    let texts =
        (0..rows).map(|_| Some(if random.one_in(2) { letters(random) } else { random.pick(&few).clone() }));
    let sequence = column(texts.collect(), random);
    let names = column((0..rows).map(|i| Some(format!("n{i}"))).collect(), random);
    let labels = Arc::new((0..rows as i64).map(|i| (i % 3 > 0).then_some(i)).collect::<Int64Array>());
    let columns = [("name", names), ("sequence", sequence), ("label", labels as ArrayRef)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    let packing = *random.pick(&[
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(parquet::basic::GzipLevel::default()),
    ]);
    let version = *random.pick(&[WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]);
    let properties = WriterProperties::builder()
        .set_compression(packing)
        .set_writer_version(version)
        .set_dictionary_enabled(random.one_in(2))
        .set_max_row_group_row_count(Some(1 + random.below(30)))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

impl Kind for Parquet {
    fn name(&self) -> &'static str {
        "parquet"
    }

    fn memory_kib(&self) -> u64 {
        2 * PARQUET_PAGE_KIB
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let make = |random: &mut Random| parquet_file(random).unwrap_or_default();
        let mut bytes = make(random);
        if damaged {
            damage(&mut bytes, &[make(random)], false, random);
        }
        if random.one_in(8) {
            bytes = gzip(&bytes);
        }
        Case::new([("x.parquet".to_owned(), bytes)].into(), random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        read(case, folder)
    }
}

fn read(case: &Case, folder: &Path) -> Outcome {
    let Some((name, bytes)) = case.files.first_key_value() else { return Outcome::Read };
    let path = folder.join(name);
    match table_format(&path) {
        Ok(Some(_)) => {}
        Ok(None) => return Outcome::Refused("no table".to_owned()),
        Err(e) => return Outcome::refused(&e),
    }
    let choice = case.choice;
    // Else it may be called `seq`.
    let has_sequence = bytes.windows(8).any(|word| word == b"sequence");
    let options = TableOptions {
        sequence_column: (choice & 3 == 0 && has_sequence).then(|| "sequence".to_owned()),
        id_column: (choice & 4 == 0).then(|| "name".to_owned()),
        keep: if choice & 8 == 0 { vec!["label".to_owned(), "name".to_owned()] } else { Vec::new() },
        scratch_folder: folder.to_owned(),
    };
    let open = || {
        let names = [path.display().to_string()];
        TableSource::open(&names, options.clone(), DnaTokenizer::caduceus(), 1 + choice as usize % 100)
    };
    let (table, counting) = match (open(), open()) {
        (Ok(table), Ok(counting)) => (table, counting),
        (Err(e), _) | (_, Err(e)) => return Outcome::refused(&e),
    };
    let counted = counting.count();
    let mut table = if choice & 16 == 0 { table.with_strands(Strands::Both) } else { table };
    let (mut error, mut rows, mut bases) = (None, 0, 0);
    loop {
        match table.next() {
            Ok(Some(Item::Begin(head))) => {
                if let Ok(Some(kept)) = table.take_kept()
                    && kept.row(head.index).is_none()
                {
                    return Outcome::Wrong(format!("record {} is not in its own batch", head.index));
                }
            }
            Ok(Some(Item::Tokens(tokens))) => bases += tokens.len() as u64,
            Ok(Some(Item::End(_))) => rows += 1,
            // No table gives sound.
            Ok(Some(Item::Samples(_))) => {}
            Ok(None) => break,
            Err(e) => match Outcome::refused(&e) {
                Outcome::Refused(text) => drop(error.get_or_insert(text)),
                other => return other,
            },
        }
    }
    if let Some(text) = error {
        return Outcome::Refused(text);
    }
    let strands = if choice & 16 == 0 { 2 } else { 1 };
    match counted {
        Ok(counts) if (strands * counts.records, strands * counts.bases) == (rows, bases) => Outcome::Read,
        other => {
            Outcome::Wrong(format!("counted {other:?} where reading found {rows} rows of {bases} bases"))
        }
    }
}
