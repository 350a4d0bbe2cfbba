//! Files of a sharded job, merged.

use std::path::{Path, PathBuf};

use mseq_core::{EmbeddingDType, ListType, RowBlock, RowKey, Strand};
use mseq_sink::{EmbedLayout, Options, ParquetSink, Shards, Sink};

use super::{
    case::{Case, Files, Kind, Outcome, PARQUET_PAGE_KIB},
    mutate::damage,
};
use crate::{
    error::{Error, Result},
    random::Random,
};

/// Shards in each layout.
pub(super) struct Merge {
    seeds: Vec<Files>,
}

const SHARDS: usize = 3;

impl Merge {
    /// Writes the seeds, in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut seeds = Vec::new();
        std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        for dtype in [EmbeddingDType::F32, EmbeddingDType::F16] {
            for list in [ListType::Fixed, ListType::Variable] {
                let layout = EmbedLayout { dim: 5, dtype, list, region: false, seconds: false };
                let mut files = Files::new();
                for shard in 1..=SHARDS {
                    let path = folder.join(format!("{shard}.parquet"));
                    write(&path, shard, layout).map_err(|e| Error::Failed(format!("fuzz: {e}")))?;
                    let bytes = std::fs::read(&path);
                    let bytes = bytes.map_err(|e| Error::Failed(format!("fuzz: {}: {e}", path.display())))?;
                    files.insert(format!("{shard}.parquet"), bytes);
                }
                seeds.push(files);
            }
        }
        std::fs::remove_dir_all(folder).ok();
        Ok(Self { seeds })
    }
}

fn write(path: &Path, shard: usize, layout: EmbedLayout) -> mseq_sink::Result<()> {
    let metadata = [("version", "0"), ("model", "tiny"), ("shard", &format!("{shard}/{SHARDS}"))]
        .map(|(key, value)| (format!("mamba_seq.{key}"), value.to_owned()));
    let options = Options { row_group_bytes: 2000, batch_bytes: 500, page_bytes: 300, ..Options::default() };
    let mut sink = Box::new(ParquetSink::create(path, layout, &metadata, options)?);
    let mut rows = RowBlock::new(layout.dim);
    for record in (shard as u64..40).step_by(SHARDS) {
        for start in 0..3 {
            rows.keys.push(RowKey {
                source: "x.fa".into(),
                record: format!("r{record}").into(),
                record_index: record,
                start: 10 * start,
                end: 10 * start + 10,
                strand: Strand::Forward,
                region: None,
                rate: None,
            });
            rows.values.extend((0..layout.dim).map(|i| (record + i as u64) as f32 / 8.0));
        }
    }
    sink.write(&rows)?;
    sink.finish().map(drop)
}

impl Kind for Merge {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn memory_kib(&self) -> u64 {
        2 * PARQUET_PAGE_KIB
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let mut files = random.pick(&self.seeds).clone();
        if damaged {
            let others: Vec<Vec<u8>> = random.pick(&self.seeds).values().cloned().collect();
            let name = format!("{}.parquet", 1 + random.below(SHARDS));
            if let Some(bytes) = files.get_mut(&name) {
                damage(bytes, &others, false, random);
            }
        }
        Case::new(files, random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        let paths: Vec<PathBuf> = case.files.keys().map(|name| folder.join(name)).collect();
        let output = folder.join("out.parquet");
        match Shards::open(&paths).and_then(|shards| shards.merge(&output, "merge")) {
            Ok(_) if output.exists() => Outcome::Read,
            Ok(_) => Outcome::Wrong("no output".to_owned()),
            Err(e) if output.exists() => Outcome::Wrong(format!("an output in spite of: {e}")),
            Err(e) => Outcome::refused(&e),
        }
    }
}
