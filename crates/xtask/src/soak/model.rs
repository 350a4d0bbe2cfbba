//! A random model for the soak.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::random::Random;
use crate::soak::make_folder;

/// A random 32 x 2 model on the scale of a trained one, as `data/golden/bench_model.py` draws it.
pub(super) fn write_model(folder: &Path, random: &mut Random) -> Result<()> {
    const D: usize = 32;
    const LAYERS: usize = 2;
    const INNER: usize = 64;
    const N: usize = 16;
    const K: usize = 4;
    const RANK: usize = 2;
    const VOCAB: usize = 8;
    let (d, inner, n) = (D as f64, INNER as f64, N as f64);
    let mut normal = |std: f64, len: usize| -> Vec<f64> { (0..len).map(|_| std * random.normal()).collect() };
    let exp = |v: Vec<f64>| -> Vec<f64> { v.into_iter().map(f64::exp).collect() };
    let mut tensors = vec![("embeddings.weight".to_owned(), vec![VOCAB, D], normal(0.3, VOCAB * D))];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize], values: Vec<f64>| {
            tensors.push((format!("layers.{layer}.{name}"), shape.to_vec(), values));
        };
        add("norm.weight", &[D], exp(normal(0.3, D)));
        add("mixer.in_proj.weight", &[2 * INNER, D], normal(0.8 / d.sqrt(), 2 * INNER * D));
        add("mixer.conv1d.weight", &[INNER, 1, K], normal((K as f64).powf(-0.5), INNER * K));
        add("mixer.conv1d.bias", &[INNER], normal(0.3, INNER));
        // Rows of dt, then of B and C: each of these a steady part and one that follows the token.
        let mut x_proj = normal(inner.powf(-0.5), RANK * INNER);
        for _ in 0..2 * N {
            let steady = normal(1.2 / (0.25 * inner), 1)[0];
            x_proj.extend(normal(1.2 * inner.powf(-0.5), INNER).iter().map(|v| n.powf(-0.25) * (v + steady)));
        }
        add("mixer.x_proj.weight", &[RANK + 2 * N, INNER], x_proj);
        add("mixer.dt_proj.weight", &[INNER, RANK], normal(0.6 / (RANK as f64).sqrt(), INNER * RANK));
        // Steps from 1e-3 to 1e-1, through the inverse of softplus.
        let step = |i: usize| 1e-3 * 100f64.powf((i as f64 + 0.5) / inner);
        add(
            "mixer.dt_proj.bias",
            &[INNER],
            (0..INNER).map(|i| step(i) + (-(-step(i)).exp_m1()).ln()).collect(),
        );
        let a_log = normal(0.3, INNER * N).into_iter().enumerate();
        add("mixer.A_log", &[INNER, N], a_log.map(|(i, v)| v + ((i % N + 1) as f64).ln()).collect());
        add("mixer.D", &[INNER], normal(0.5, INNER));
        add("mixer.out_proj.weight", &[D, INNER], normal(1.3 / inner.sqrt(), D * INNER));
    }
    tensors.push(("norm_f.weight".to_owned(), vec![D], exp(normal(0.3, D))));
    let config = json!({
        "model_type": "mamba",
        "hidden_size": D,
        "intermediate_size": INNER,
        "expand": INNER / D,
        "num_hidden_layers": LAYERS,
        "state_size": N,
        "conv_kernel": K,
        "time_step_rank": RANK,
        "vocab_size": VOCAB,
        "hidden_act": "silu",
        "layer_norm_epsilon": 1e-5,
        "residual_in_fp32": true,
        "tie_word_embeddings": true,
        "use_bias": false,
        "use_conv_bias": true,
        "mamba_seq": {
            "modality": "dna",
            "tokens": {"A": 0, "C": 1, "G": 2, "T": 3},
            "unknown": 4,
            "complement": {"A": "T", "C": "G", "G": "C", "T": "A"},
        },
    });
    make_folder(folder)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| Error::Write { path, source })
    };
    write("config.json", config.to_string().as_bytes())?;
    write("model.safetensors", &safetensors(&tensors))
}

/// The safetensors format: the header's length, the header as JSON, the numbers.
fn safetensors(tensors: &[(String, Vec<usize>, Vec<f64>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut data: Vec<u8> = Vec::new();
    for (name, shape, values) in tensors {
        let from = data.len();
        data.extend(values.iter().flat_map(|v| (*v as f32).to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]});
        header.insert(format!("backbone.{name}"), entry);
    }
    let mut header = Value::Object(header).to_string();
    // The numbers begin at a multiple of eight.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_finite_and_as_long_as_its_header_says() {
        let folder = std::env::temp_dir().join(format!("mseq-soak-model-{}", std::process::id()));
        write_model(&folder, &mut Random(1)).unwrap();
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let (length, rest) = bytes.split_at(8);
        let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let header: Value = serde_json::from_slice(header).unwrap();
        let end = |tensor: &Value| tensor["data_offsets"][1].as_u64().unwrap_or(0);
        assert_eq!(header.as_object().unwrap().values().map(end).max().unwrap(), data.len() as u64);
        assert!(data.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()));
    }
}
