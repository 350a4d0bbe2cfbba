//! Model directories.

use std::{fs, path::Path};

use mseq_core::{DeviceSpec, Layer, Pool, Windows};
use mseq_engine::{BatchOutput, ChunkBatch, EngineConfig, LaneSpan, choose, open};
use mseq_model::{Checkpoint, ModelFiles};

use super::{
    case::{Case, Files, Kind, Outcome},
    mutate::{damage, number},
};
use crate::{
    error::{Error, Result},
    random::Random,
    shell,
};

/// Directories in both layouts, in one file and with an index.
pub(super) struct Models {
    seeds: Vec<Files>,
}

/// Parameters beyond which a damaged size is taken as it is, but not run: that would only be slow.
const RUN_AT_MOST: usize = 10_000_000;

/// A file of `data/golden`.
pub(super) fn golden(model: &str, file: &str) -> Result<Vec<u8>> {
    let path = shell::root().join("data/golden").join(model).join(file);
    fs::read(&path).map_err(|cause| Error::Failed(format!("cannot read {}: {cause}", path.display())))
}

impl Models {
    pub(super) fn new() -> Result<Self> {
        let mut seeds = Vec::new();
        for model in ["d29-n4-k2-e1", "original"] {
            let (config, weights) = (golden(model, "config.json")?, golden(model, "model.safetensors")?);
            let mut one =
                Files::from([("config.json".to_owned(), config), ("model.safetensors".to_owned(), weights)]);
            seeds.push(one.clone());
            if let Some(weights) = one.remove("model.safetensors") {
                one.insert("w1.safetensors".to_owned(), weights);
            }
            let index = br#"{"metadata": {"total_size": 1}, "weight_map": {"a": "w1.safetensors"}}"#;
            one.insert("model.safetensors.index.json".to_owned(), index.to_vec());
            let tokenizer = br#"{"tokenizer_class": "CaduceusTokenizer", "model_max_length": 131072}"#;
            one.insert("tokenizer_config.json".to_owned(), tokenizer.to_vec());
            seeds.push(one);
        }
        Ok(Self { seeds })
    }
}

/// Takes a safetensors file apart, damages its JSON, and puts it together with the right length.
pub(super) fn damage_header(bytes: &mut Vec<u8>, random: &mut Random) {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else { return };
    let len = (u64::from_le_bytes(*len) as usize).min(rest.len());
    let (json, data) = rest.split_at(len);
    let mut json = json.to_vec();
    if random.one_in(2) {
        (0..1 + random.below(3)).for_each(|_| number(&mut json, random));
    } else {
        damage(&mut json, &[], true, random);
    }
    *bytes = [&(json.len() as u64).to_le_bytes()[..], &json, data].concat();
}

impl Kind for Models {
    fn name(&self) -> &'static str {
        "model"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let mut files = random.pick(&self.seeds).clone();
        let names: Vec<String> = files.keys().cloned().collect();
        for _ in 0..if damaged { 1 + random.below(2) } else { 0 } {
            let name = random.pick(&names);
            if random.one_in(40) {
                files.remove(name);
            }
            let Some(bytes) = files.get_mut(name) else { continue };
            if !name.ends_with(".safetensors") {
                damage(bytes, &[], true, random);
            } else if random.one_in(3) {
                damage(bytes, &[], false, random);
            } else {
                damage_header(bytes, random);
            }
        }
        Case::new(files, random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        let checkpoint = match ModelFiles::dir(folder).and_then(Checkpoint::open) {
            Ok(checkpoint) => checkpoint,
            Err(e) => return Outcome::refused(&e),
        };
        if let Err(e) = checkpoint.files().sha256() {
            return Outcome::refused(&e);
        }
        if checkpoint.shape.parameters() > RUN_AT_MOST {
            return Outcome::Wrong(format!("{:?} out of a small file", checkpoint.shape));
        }
        let config = EngineConfig {
            pool: Pool::None,
            layer: Layer::Last,
            fasta_windows: Windows::record(),
            fastq_windows: Windows::record(),
            chunk: 16,
            context: None,
            regions: None,
            parts: None,
            grid: 1,
            audio: None,
        };
        let place = choose(&DeviceSpec::Cpu, None);
        let mut opened = match place.and_then(|place| open(&place, 1, &checkpoint, &config)) {
            Ok(opened) => opened,
            Err(e) => return Outcome::refused(&e),
        };
        let letters: Vec<u32> = checkpoint.tokens.letters.values().copied().collect();
        let id = |i: usize| match letters.len() {
            // A damaged config may say mu-law.
            0 => (case.choice as usize / 16 + i) as u32 % 256,
            n => letters[(case.choice as usize / 16 + i) % n],
        };
        let (ids, samples) = match checkpoint.front() {
            Some(front) => (Vec::new(), vec![0.5; 8 * front.hop + front.reach]),
            None => ((0..9).map(id).collect(), Vec::new()),
        };
        let lane_samples = std::iter::once(0..samples.len()).collect();
        let lanes = vec![LaneSpan { rows: 0..9, fresh: true, slot: None }];
        let output = BatchOutput::Rows(std::iter::once(0..9).collect());
        let (keys, done) = (Vec::new(), Vec::new());
        match opened.runner.run(&ChunkBatch { ids, samples, lane_samples, lanes, output, keys, done }) {
            Ok(values) if values.numbers.len() == 9 * checkpoint.shape.d_model => Outcome::Read,
            Ok(values) => Outcome::Wrong(format!("{} values of 9 tokens", values.numbers.len())),
            Err(e) => Outcome::refused(&e),
        }
    }
}
