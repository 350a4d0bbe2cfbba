//! Unfinished jobs: the row log `OUT.partial` and its checkpoint, gone on from by the pipeline.

use std::{fs, path::Path, sync::Arc, thread, time::Duration};

use flate2::Crc;
use mseq_core::{DeviceSpec, EmbeddingDType, Layer, ListType, Pool, Windows};
use mseq_engine::{ChunkBatch, Context, EngineConfig, Runner, Snapshot, choose, open};
use mseq_model::{Checkpoint, ModelFiles};
use mseq_pipeline::{Counters, EmbedJob, Input, Output, embed};
use mseq_sink::EmbedLayout;
use mseq_source::{DnaTokenizer, SequenceSource};
use serde_json::{Map, Value};

use super::{
    case::{Case, Files, Kind, Outcome},
    models::{damage_header, golden},
    mutate::{damage, number},
};
use crate::{
    error::{Error, Result},
    random::Random,
};

const OUTPUT: &str = "out.parquet";
const LOG: &str = "out.parquet.partial";
const CHECKPOINT: &str = "out.parquet.partial.checkpoint";

/// Tokens a step.
const CHUNK: usize = 300;

/// The files that jobs leave, and what they would have become.
pub(super) struct Jobs {
    model: Checkpoint,
    /// Goes with the jobs.
    folder: Folder,
    seeds: Vec<Seed>,
}

/// Damage to the checkpoint.
pub(super) struct JobCheckpoint(pub(super) Arc<Jobs>);

/// Damage to the row log.
pub(super) struct JobLog(pub(super) Arc<Jobs>);

struct Seed {
    config: EngineConfig,
    files: Files,
    /// The output of a job that nobody stopped.
    whole: Vec<u8>,
}

/// A folder that goes with its owner.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A runner that rests in its second step, so that a checkpoint falls due, and fails in its third.
struct Stops {
    inner: Box<dyn Runner>,
    steps: u32,
}

impl Runner for Stops {
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn run(&mut self, batch: &ChunkBatch) -> mseq_engine::Result<mseq_engine::Values> {
        self.steps += 1;
        match self.steps {
            1 => {}
            2 => thread::sleep(Duration::from_millis(1000)),
            _ => return Err(mseq_engine::Error::Stream("stopped")),
        }
        self.inner.run(batch)
    }

    fn snapshot(&self) -> mseq_engine::Result<Snapshot> {
        self.inner.snapshot()
    }

    fn restore(&mut self, snapshot: &Snapshot) -> mseq_engine::Result<()> {
        self.inner.restore(snapshot)
    }
}

fn failed(what: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!("fuzz: {what}: {cause}"))
}

/// The input of every job.
fn input() -> Vec<u8> {
    let mut random = Random(5);
    let mut record = |n: usize| -> String { (0..n).map(|_| char::from(*random.pick(b"ACGTN"))).collect() };
    format!(">a\n{}\n>b x\n{}\n>c\n{}\n", record(100), record(1500), record(37)).into_bytes()
}

impl Jobs {
    /// Runs some jobs and stops them half-way, in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let model = folder.join("model");
        let io = |e: std::io::Error| failed("cannot write", &e);
        fs::create_dir_all(&model).map_err(io)?;
        for file in ["config.json", "model.safetensors"] {
            fs::write(model.join(file), golden("d29-n4-k2-e1", file)?).map_err(io)?;
        }
        let folder = Folder(folder.to_owned());
        let model = ModelFiles::dir(&model).and_then(Checkpoint::open).map_err(|e| failed("model", &e))?;
        let windows = |length, stride| Windows::tiled(length, stride).unwrap_or_else(Windows::record);
        let config = |pool, windows, context| EngineConfig {
            pool,
            layer: Layer::Last,
            fasta_windows: windows,
            fastq_windows: windows,
            chunk: CHUNK,
            context,
            regions: None,
            parts: None,
            grid: 1,
            audio: None,
        };
        let configs = [
            config(Pool::Mean, windows(100, 30), None),
            config(Pool::Max, Windows::record(), None),
            config(Pool::None, Windows::record(), Some(Context { tokens: 170, overlap: 20 })),
        ];
        let mut jobs = Self { model, folder, seeds: Vec::new() };
        // Each rests for a second: side by side.
        let seeds: Vec<_> = thread::scope(|scope| {
            let jobs = &jobs;
            let all: Vec<_> = configs
                .into_iter()
                .enumerate()
                .map(|(i, config)| {
                    scope.spawn(move || jobs.seed(config, &jobs.folder.0.join(format!("job{i}"))))
                })
                .collect();
            let panicked = |_| Err(failed("a job", &"it panicked"));
            all.into_iter().map(|seed| seed.join().unwrap_or_else(panicked)).collect()
        });
        jobs.seeds = seeds.into_iter().collect::<Result<_>>()?;
        Ok(jobs)
    }

    fn seed(&self, config: EngineConfig, folder: &Path) -> Result<Seed> {
        fs::create_dir_all(folder).map_err(|e| failed("cannot make a folder", &e))?;
        let path = folder.join(OUTPUT);
        let read = |name: &str| fs::read(folder.join(name)).map_err(|e| failed(name, &e));
        self.run(&config, &path, false, false).map_err(|e| failed("a job", &e))?;
        let whole = read(OUTPUT)?;
        fs::remove_file(&path).map_err(|e| failed("cannot remove", &e))?;
        if let Ok(()) = self.run(&config, &path, false, true) {
            return Err(failed("a job", &"it did not stop"));
        }
        let files = [LOG, CHECKPOINT].map(|name| Ok((name.to_owned(), read(name)?)));
        Ok(Seed { config, files: files.into_iter().collect::<Result<_>>()?, whole })
    }

    fn run(
        &self,
        config: &EngineConfig,
        output: &Path,
        resume: bool,
        stop: bool,
    ) -> std::result::Result<(), mseq_pipeline::Error> {
        let tokens = &self.model.tokens;
        let tokenizer = DnaTokenizer::new(&tokens.letters, tokens.unknown);
        let source = SequenceSource::from_reader("x.fa", std::io::Cursor::new(input()), tokenizer, 64);
        let place = choose(&DeviceSpec::Cpu, None)?;
        let mut runner = open(&place, 1, &self.model, config)?.runner;
        if stop {
            runner = Box::new(Stops { inner: runner, steps: 0 });
        }
        let job = EmbedJob {
            source: Input::Sequences(Box::new(source)),
            first: Vec::new(),
            runner,
            engine: config.clone(),
            output: Output::Parquet(output.to_owned()),
            layout: EmbedLayout {
                dim: self.model.shape.d_model,
                dtype: EmbeddingDType::F32,
                list: ListType::Fixed,
                region: false,
                seconds: false,
            }
            .into(),
            arrange: None,
            ahead: false,
            metadata: vec![("mamba_seq.version".to_owned(), "0".to_owned())],
            queue_bytes: 1 << 20,
            encoders: 2,
            digest: [("pool".to_owned(), config.pool.to_string())].into(),
            resume,
        };
        embed(job, &Arc::new(Counters::default())).map(drop)
    }

    fn case(&self, name: &str, damaged: bool, random: &mut Random) -> Case {
        let which = random.below(self.seeds.len());
        let mut files = self.seeds[which].files.clone();
        let other = random.pick(&self.seeds).files.get(name).cloned().unwrap_or_default();
        let mut sealed = false;
        if let (true, Some(bytes)) = (damaged, files.get_mut(name)) {
            match random.below(4) {
                0 | 1 if name == CHECKPOINT => {
                    sealed = true;
                    *bytes = forge(bytes, random).unwrap_or_default();
                }
                2 if name == CHECKPOINT => damage_header(bytes, random),
                _ => damage(bytes, &[other], false, random),
            }
        }
        Case { files, choice: which as u64, sealed }
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        let seed = &self.seeds[case.choice as usize];
        let output = folder.join(OUTPUT);
        match self.run(&seed.config, &output, true, false) {
            Ok(()) => {}
            // What is not the job is not to be made an output, and nothing is to be lost.
            Err(e) if output.exists() => return Outcome::Wrong(format!("an output in spite of: {e}")),
            Err(e) => return Outcome::refused(&e),
        }
        match fs::read(&output) {
            Ok(found) if found == seed.whole || case.sealed => Outcome::Read,
            Ok(_) => Outcome::Wrong("it went on, and ended in other rows".to_owned()),
            Err(e) => Outcome::Wrong(format!("no output: {e}")),
        }
    }
}

/// Damages what a checkpoint says, and makes its checksum right again: as a program with a fault
/// would write it.
fn forge(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    let (json, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    let mut json: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let mut data = data.to_vec();
    let metadata = json.get_mut("__metadata__")?;
    let mut text = metadata.get("mamba_seq_checkpoint")?.as_str()?.as_bytes().to_vec();
    match random.below(8) {
        0 => damage(&mut text, &[], true, random),
        1 => (0..1 + random.below(3)).for_each(|_| damage_state(&mut data, random)),
        _ => (0..1 + random.below(3)).for_each(|_| number(&mut text, random)),
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    metadata["mamba_seq_checkpoint"] = text.clone().into();
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    // By name, as a map has them.
    for (name, tensor) in json.iter().filter(|(name, _)| *name != "__metadata__") {
        let at = |i: usize| tensor["data_offsets"][i].as_u64().and_then(|at| usize::try_from(at).ok());
        crc.update(name.as_bytes());
        crc.update(data.get(at(0)?..at(1)?)?);
    }
    json.get_mut("__metadata__")?["crc32"] = crc.sum().to_string().into();
    let json = serde_json::to_vec(&json).ok()?;
    Some([&(json.len() as u64).to_le_bytes()[..], &json, &data].concat())
}

/// A number of the state becomes NaN, an infinity or anything else.
fn damage_state(data: &mut [u8], random: &mut Random) {
    let value = *random.pick(&[f32::NAN, f32::INFINITY, f32::MAX, -1e30, 1e-40]);
    let at = random.below(data.len() / 4) * 4;
    if let Some(bytes) = data.get_mut(at..at + 4) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

impl Kind for JobCheckpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        self.0.case(CHECKPOINT, damaged, random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        self.0.read(case, folder)
    }
}

impl Kind for JobLog {
    fn name(&self) -> &'static str {
        "log"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        self.0.case(LOG, damaged, random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        self.0.read(case, folder)
    }
}
