//! Front ends of audio models that a `mamba_seq` object names, and what is wrong with broken ones.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::Path;

use mseq_backend::{Backend, LaneSpan};
use mseq_core::Front;
use mseq_cpu::CpuBackend;
use mseq_model::arch::{Input, Mamba};
use mseq_model::{Checkpoint, Encoding, ModelFiles};
use mseq_testkit::Random;
use mseq_testkit::model::{ModelShape, random_model};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

const SHAPE: ModelShape = ModelShape { d_model: 12, n_layer: 2, expand: 2, d_state: 5, d_conv: 4 };
const HOP: usize = 20;

/// A random model whose config has this `mamba_seq` object; with a frame projection in the place of the
/// embedding where there is one.
fn write(folder: &Path, object: &Value, projection: Option<&(Vec<f32>, Vec<f32>)>) {
    let files = random_model(SHAPE, 4, true);
    let mut config: Value = serde_json::from_slice(&files[0].1).unwrap();
    config["mamba_seq"] = object.clone();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let Some((weight, bias)) = projection else {
        return std::fs::write(folder.join("model.safetensors"), &files[1].1).unwrap();
    };
    let file = SafeTensors::deserialize(&files[1].1).unwrap();
    let bytes = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (weight, bias) = (bytes(weight), bytes(bias));
    let mut tensors: Vec<(String, TensorView<'_>)> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| name != "backbone.embeddings.weight")
        .map(|(name, t)| (name, TensorView::new(t.dtype(), t.shape().to_vec(), t.data()).unwrap()))
        .collect();
    let view = |shape, bytes| TensorView::new(Dtype::F32, shape, bytes).unwrap();
    tensors.push(("frame_proj.weight".into(), view(vec![SHAPE.d_model, HOP], &weight)));
    tensors.push(("frame_proj.bias".into(), view(vec![SHAPE.d_model], &bias)));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn projection() -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(8);
    (random.values(SHAPE.d_model * HOP, -0.3, 0.3), random.values(SHAPE.d_model, -0.5, 0.5))
}

fn frames() -> Value {
    json!({"modality": "audio", "encoding": "frames", "hop": HOP, "sample_rate": 8000, "context": 50})
}

fn open(folder: &Path) -> Result<Checkpoint, String> {
    Checkpoint::open(ModelFiles::dir(folder).unwrap()).map_err(|e| e.to_string())
}

#[test]
fn linear_frames_are_a_linear_map_of_their_samples() {
    let folder = tempfile::tempdir().unwrap();
    let (weight, bias) = projection();
    write(folder.path(), &frames(), Some(&(weight.clone(), bias.clone())));
    let checkpoint = open(folder.path()).unwrap();
    let audio = checkpoint.audio.unwrap();
    assert_eq!((audio.encoding, audio.sample_rate), (Encoding::Frames { hop: HOP }, 8000));
    assert_eq!(checkpoint.tokens.context, Some(50));
    let front = checkpoint.front().unwrap();
    assert_eq!(front, Front { hop: HOP, reach: HOP });

    let backend = CpuBackend::new(2).unwrap();
    let model = Mamba::load(&backend, &checkpoint).unwrap();
    let samples = Random::new(1).values(30 * HOP + 7, -1.0, 1.0);
    let rows = front.frames(samples.len() as u64) as usize;
    assert_eq!(rows, 31);
    let run = |steps: &[usize], upto: (usize, bool)| -> Vec<f32> {
        let mut state = model.state(&backend, 1).unwrap();
        let mut workspace = model.workspace(&backend, 0).unwrap();
        let (mut out, mut at) = (Vec::new(), 0);
        for step in steps.iter().cycle() {
            if at == rows {
                break;
            }
            let end = (at + step).min(rows);
            // A neighbour lies before it.
            let piece = &samples[at * HOP..samples.len().min(end * HOP)];
            let all = [&samples[..HOP + 3], piece].concat();
            let lanes = [
                LaneSpan { rows: 0..2, fresh: true, slot: None },
                LaneSpan { rows: 2..2 + end - at, fresh: at == 0, slot: Some(0) },
            ];
            let input = Input::Samples { samples: &all, lanes: &[0..HOP + 3, HOP + 3..all.len()] };
            let x = model.forward(&backend, input, &lanes, upto, &mut state, &mut workspace).unwrap();
            let own = 2 * SHAPE.d_model..(2 + end - at) * SHAPE.d_model;
            out.extend(backend.download(x, own).unwrap());
            at = end;
        }
        out
    };
    let first = run(&[100], (0, false));
    for t in 0..rows {
        for c in 0..SHAPE.d_model {
            let mut want = f64::from(bias[c]);
            for (k, w) in weight[c * HOP..(c + 1) * HOP].iter().enumerate() {
                want += f64::from(*w) * samples.get(t * HOP + k).map_or(0.0, |v| f64::from(*v));
            }
            let found = f64::from(first[t * SHAPE.d_model + c]);
            assert!((found - want).abs() < 2e-6, "frame {t}, channel {c}: {found} and {want}");
        }
    }
    let whole = run(&[100], (SHAPE.n_layer, true));
    assert!(whole.iter().all(|v| v.is_finite()));
    for steps in [&[1][..], &[2, 5, 1], &[17]] {
        assert!(run(steps, (SHAPE.n_layer, true)) == whole, "{steps:?}");
    }
    // Token ids are refused, not read as something else.
    let mut state = model.state(&backend, 1).unwrap();
    let mut workspace = model.workspace(&backend, 0).unwrap();
    let lanes = [LaneSpan { rows: 0..2, fresh: true, slot: None }];
    let upto = (SHAPE.n_layer, true);
    assert!(model.forward(&backend, &vec![1, 2], &lanes, upto, &mut state, &mut workspace).is_err());
}

#[test]
fn a_broken_object_is_named() {
    for (change, words) in [
        (json!({"encoding": "mulaw8", "sample_rate": 16000}), "mulaw8 has 256 tokens"),
        (json!({"encoding": "frames", "hop": 20}), "no sample_rate"),
        (json!({"encoding": "frames", "sample_rate": 16000}), "no hop"),
        (json!({"encoding": "frames", "hop": 0, "sample_rate": 16000}), "hop is 0"),
        (json!({"encoding": "opus", "sample_rate": 16000}), "'opus'"),
        (json!({"sample_rate": 16000}), "no encoding"),
        (json!({"encoding": "frames", "hop": 20, "sample_rate": "16k"}), "sample_rate is \"16k\""),
        // As many frames as the projection has not.
        (json!({"encoding": "frames", "hop": 21, "sample_rate": 16000}), "frame_proj.weight"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut object = change.clone();
        object["modality"] = "audio".into();
        let projection = (!words.starts_with("mulaw8")).then(projection);
        write(folder.path(), &object, projection.as_ref());
        let e = open(folder.path()).unwrap_err();
        assert!(e.contains(words), "{change}: {e}");
    }
}
