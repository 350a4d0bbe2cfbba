//! Against two oracles that share no code with us: the `transformers` slow path in f32 and a
//! float64 NumPy scan (`data/golden/make.py`).

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod audio;

use std::path::PathBuf;

use mseq_backend::{Backend, LaneSpan};
use mseq_cpu::CpuBackend;
use mseq_model::arch::Mamba;
use mseq_model::{Checkpoint, ModelFiles};
use safetensors::SafeTensors;

const HUGGING_FACE: [&str; 6] =
    ["d13-n16-k4-e2", "d24-n8-k3-e1", "d29-n4-k2-e1", "d33-n16-k4-e1", "d18-n64-k3-e3", "d27-n24-k4-e2"];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden").join(name)
}

struct Expected(Vec<u8>);

impl Expected {
    fn open(name: &str) -> Self {
        Self(std::fs::read(golden(name).join("expected.safetensors")).unwrap())
    }

    /// Values as f64, whatever they are stored as.
    fn get(&self, key: &str) -> Option<Vec<f64>> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let t = file.tensor(key).ok()?;
        let data = t.data();
        Some(match t.dtype() {
            safetensors::Dtype::F32 => {
                data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
            }
            safetensors::Dtype::F64 => {
                data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
            }
            safetensors::Dtype::I64 => {
                data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
            }
            other => panic!("{key}: {other:?}"),
        })
    }

    fn keys(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.names().into_iter().map(str::to_owned).collect()
    }

    fn records(&self) -> Vec<Vec<u32>> {
        (0..)
            .map_while(|i| self.get(&format!("tokens.{i}")))
            .map(|ids| ids.iter().map(|&v| v as u32).collect())
            .collect()
    }
}

/// Norm of the difference over norm of the truth.
fn error(found: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(truth).map(|(a, b)| a - b)) / norm(&mut truth.iter().copied())
}

fn open(name: &str) -> (CpuBackend, Checkpoint, Mamba<CpuBackend>) {
    let backend = CpuBackend::new(2).unwrap();
    let checkpoint = Checkpoint::open(ModelFiles::dir(&golden(name)).unwrap()).unwrap();
    let model = Mamba::load(&backend, &checkpoint).unwrap();
    (backend, checkpoint, model)
}

/// `conv_state` and `ssm_state` of each block.
type States = Vec<(Vec<f32>, Vec<f32>)>;

/// Hidden states of one record, run as chunks of the given lengths (cycled), and the final states.
fn hidden(
    (backend, checkpoint, model): &(CpuBackend, Checkpoint, Mamba<CpuBackend>),
    ids: &[u32],
    upto: (usize, bool),
    cuts: &[usize],
) -> (Vec<f64>, States) {
    let d = checkpoint.shape.d_model;
    let mut state = model.state(backend, 1).unwrap();
    let mut ws = model.workspace(backend, 8).unwrap();
    let (mut out, mut at) = (Vec::new(), 0);
    for &cut in cuts.iter().cycle() {
        let end = (at + cut).min(ids.len());
        let lanes = [LaneSpan { rows: 0..end - at, fresh: at == 0, slot: Some(0) }];
        let rows = model.forward(backend, &ids[at..end], &lanes, upto, &mut state, &mut ws).unwrap();
        out.extend(backend.download(rows, 0..(end - at) * d).unwrap().into_iter().map(f64::from));
        at = end;
        if at == ids.len() {
            break;
        }
    }
    (out, state.download(backend).unwrap())
}

#[test]
fn hidden_states_match_transformers_and_float64() {
    for name in HUGGING_FACE {
        let model = open(name);
        let expected = Expected::open(name);
        let n_layer = model.1.shape.n_layer;
        let mut seen = 0;
        for (i, ids) in expected.records().iter().enumerate() {
            for key in expected.keys() {
                let Some(place) = key.strip_prefix("hf.").and_then(|k| k.strip_suffix(&format!(".{i}")))
                else {
                    continue;
                };
                let upto = match place.strip_prefix("layer.") {
                    Some(k) => (k.parse().unwrap(), false),
                    None => (n_layer, true),
                };
                let (found, _) = hidden(&model, ids, upto, &[usize::MAX / 2]);
                let hf = expected.get(&key).unwrap();
                let truth = expected.get(&format!("f64.{place}.{i}")).unwrap();
                let (to_hf, to_truth, hf_own) =
                    (error(&found, &hf), error(&found, &truth), error(&hf, &truth));
                eprintln!(
                    "{name} record {i} {place}: to hf {to_hf:.1e}, to f64 {to_truth:.1e}, hf to f64 {hf_own:.1e}"
                );
                assert!(to_hf <= 1e-5, "{name} {key}: {to_hf:e} from transformers");
                // Records of one token round by luck; a unit in the last place is always allowed.
                assert!(to_truth <= (1.5 * hf_own).max(6e-8), "{name} {key}: {to_truth:e}, hf {hf_own:e}");
                seen += 1;
            }
        }
        assert!(seen >= 6, "{name}: {seen} tensors compared");
    }
}

#[test]
fn original_layout_with_layer_norm_matches_float64() {
    let model = open("original");
    let expected = Expected::open("original");
    for (i, ids) in expected.records().iter().enumerate() {
        let (found, _) = hidden(&model, ids, (model.1.shape.n_layer, true), &[usize::MAX / 2]);
        let off = error(&found, &expected.get(&format!("f64.last.{i}")).unwrap());
        eprintln!("original record {i}: {off:.1e}");
        assert!(off < 1e-6, "record {i}: {off:e}");
    }
}

#[test]
fn any_cut_gives_the_same_bits_and_the_float64_states() {
    let name = "d13-n16-k4-e2";
    let model = open(name);
    let expected = Expected::open(name);
    let shape = model.1.shape;
    for (i, ids) in expected.records().iter().enumerate() {
        let (whole, states) = hidden(&model, ids, (shape.n_layer, true), &[usize::MAX / 2]);
        for cuts in [&[1][..], &[2], &[3, 1], &[64], &[65, 1, 2], &[149]] {
            let (cut, cut_states) = hidden(&model, ids, (shape.n_layer, true), cuts);
            assert_eq!(whole, cut, "record {i} cut {cuts:?}");
            assert_eq!(states, cut_states, "record {i} cut {cuts:?}");
        }
        for (layer, (conv, ssm)) in states.iter().enumerate() {
            for (what, found) in [("conv", conv), ("ssm", ssm)] {
                let truth = expected.get(&format!("f64.{what}_state.{layer}.{i}")).unwrap();
                let found: Vec<f64> = found.iter().map(|&v| f64::from(v)).collect();
                let off = error(&found, &truth);
                assert!(off < 1e-6, "{what}_state of layer {layer}, record {i}: {off:e}");
            }
        }
    }
}

/// The weights that the program carries, against a float64 recurrence of their f16 values and the
/// `transformers` slow path (`pipelines/training/golden.py`).
#[test]
fn the_built_in_model_matches_transformers_and_float64() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/models/mamba-dna-1m");
    let backend = CpuBackend::new(2).unwrap();
    let checkpoint = Checkpoint::open(ModelFiles::dir(&folder).unwrap()).unwrap();
    let model = Mamba::load(&backend, &checkpoint).unwrap();
    let expected = Expected(std::fs::read(folder.join("golden.safetensors")).unwrap());
    let ids: Vec<u32> = expected.get("tokens").unwrap().iter().map(|&v| v as u32).collect();
    let n_layer = checkpoint.shape.n_layer;
    let (found, _) = hidden(&(backend, checkpoint, model), &ids, (n_layer, true), &[usize::MAX / 2]);
    let (truth, hf) = (expected.get("hidden").unwrap(), expected.get("hidden_hf").unwrap());
    let (to_hf, to_truth, hf_own) = (error(&found, &hf), error(&found, &truth), error(&hf, &truth));
    eprintln!("mamba-dna-1m: to hf {to_hf:.1e}, to f64 {to_truth:.1e}, hf to f64 {hf_own:.1e}");
    assert!(to_hf <= 1e-5 && to_truth <= 1.5 * hf_own, "{to_hf:e} {to_truth:e} {hf_own:e}");
}
