//! Rows and readers for the tests of this crate.

use mseq_core::{EmbeddingDType, ListType, RowBlock, RowKey, Strand};

use crate::EmbedLayout;

/// Every way to write an embedding of `dim` channels.
pub(crate) fn layouts(dim: usize) -> impl Iterator<Item = EmbedLayout> {
    [EmbeddingDType::F32, EmbeddingDType::F16].into_iter().flat_map(move |dtype| {
        [ListType::Fixed, ListType::Variable].map(|list| EmbedLayout {
            dim,
            dtype,
            list,
            region: false,
            seconds: false,
        })
    })
}

/// `n` rows whose numbers are exact in half precision.
pub(crate) fn rows(n: usize, dim: usize) -> RowBlock {
    let mut block = RowBlock::new(dim);
    for i in 0..n {
        let record = i / 10;
        block.keys.push(RowKey {
            source: "genome.fa".into(),
            record: format!("chr{record}").into(),
            record_index: record as u64,
            start: 1000 * (i as u64 % 10),
            end: 1000 * (i as u64 % 10 + 1),
            strand: if i % 2 == 0 { Strand::Forward } else { Strand::Reverse },
            region: None,
            rate: None,
        });
        block.values.extend((0..dim).map(|c| ((i * 7 + c * 3) % 501) as f32 / 8.0 - 30.0));
    }
    block
}

/// Rows `from..to` of `block`.
pub(crate) fn part(block: &RowBlock, from: usize, to: usize) -> RowBlock {
    RowBlock {
        keys: block.keys[from..to].to_vec(),
        dim: block.dim,
        values: block.values[from * block.dim..to * block.dim].to_vec(),
        scores: block.scores.get(from..to).map_or(Vec::new(), <[_]>::to_vec),
    }
}

/// Metadata with the characters that a command line may hold.
pub(crate) fn metadata() -> Vec<(String, String)> {
    [("mamba_seq.model", "tiny"), ("mamba_seq.command", "embed 'a b.fa' --pool mean\n\"é\"")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .to_vec()
}

/// What Arrow batches say, as rows again.
pub(crate) fn read_back(batches: &[arrow_array::RecordBatch], dim: usize) -> RowBlock {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float16Type, Float32Type, UInt64Type};
    let mut block = RowBlock::new(dim);
    for batch in batches {
        let text = |name| batch.column_by_name(name).unwrap().as_string::<i32>();
        let number = |name| batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>();
        let embedding = batch.column_by_name("embedding").unwrap();
        for i in 0..batch.num_rows() {
            block.keys.push(RowKey {
                source: text("source").value(i).into(),
                record: text("record").value(i).into(),
                record_index: number("record_index").value(i),
                start: number("start").value(i),
                end: number("end").value(i),
                strand: match text("strand").value(i) {
                    "+" => Strand::Forward,
                    "-" => Strand::Reverse,
                    _ => Strand::Both,
                },
                region: batch.column_by_name("region").map(|c| c.as_string::<i32>().value(i).into()),
                rate: None,
            });
            let row = match embedding.as_fixed_size_list_opt() {
                Some(lists) => lists.value(i),
                None => embedding.as_list::<i32>().value(i),
            };
            match row.as_primitive_opt::<Float32Type>() {
                Some(f32s) => block.values.extend(f32s.values()),
                None => {
                    block.values.extend(row.as_primitive::<Float16Type>().values().iter().map(|v| v.to_f32()))
                }
            }
        }
    }
    block
}
