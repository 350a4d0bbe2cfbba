//! Random models whose scan matters: a wrong scan shows in their output.

use serde_json::{Value, json};

use crate::Random;

/// Sizes of a random model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Width inside a block, over `d_model`.
    pub expand: usize,
    /// States a channel.
    pub d_state: usize,
    /// Taps of the convolution.
    pub d_conv: usize,
}

/// Rows of the embedding: four letters, one unknown, three for nothing.
pub const VOCAB: usize = 8;

/// `config.json` and `model.safetensors` of a model on the scale of a trained one, as
/// `data/golden/bench_model.py` draws it. With `scan` false, C is zero: the same model with nothing of
/// its scan, to tell how much of the output that is.
///
/// Values are bf16 ones, as those of most checkpoints are: narrow arithmetic is then measured by
/// itself, without the rounding of weights.
pub fn random_model(shape: ModelShape, seed: u64, scan: bool) -> Vec<(&'static str, Vec<u8>)> {
    random_model_of(shape, VOCAB, seed, scan)
}

/// The same with `vocab` rows of the embedding, at least [`VOCAB`].
pub fn random_model_of(
    shape: ModelShape,
    vocab: usize,
    seed: u64,
    scan: bool,
) -> Vec<(&'static str, Vec<u8>)> {
    let ModelShape { d_model, n_layer, expand, d_state, d_conv } = shape;
    let (inner, rank) = (expand * d_model, d_model.div_ceil(16));
    let mut random = Random::new(seed);
    let mut tensors = Tensors::default();
    tensors.add("embeddings.weight", &[vocab, d_model], random.normals(0.3, vocab * d_model));
    for layer in 0..n_layer {
        let mixer = Mixer { d_model, inner, d_state, d_conv, rank };
        tensors.add_block(&format!("layers.{layer}"), mixer, &mut random, scan);
    }
    tensors.add("norm_f.weight", &[d_model], exp(random.normals(0.3, d_model)));
    let config = json!({
        "model_type": "mamba",
        "hidden_size": d_model,
        "intermediate_size": inner,
        "expand": expand,
        "num_hidden_layers": n_layer,
        "state_size": d_state,
        "conv_kernel": d_conv,
        "time_step_rank": rank,
        "vocab_size": vocab,
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
    vec![("config.json", config.to_string().into_bytes()), ("model.safetensors", tensors.into_bytes())]
}

/// The nearest f32 whose lower half is zero.
fn bf16(v: f64) -> f32 {
    let bits = (v as f32).to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// A file in the safetensors format: the header's length, the header as JSON, the numbers.
#[derive(Default)]
pub(crate) struct Tensors {
    header: serde_json::Map<String, Value>,
    data: Vec<u8>,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer {
    pub(crate) d_model: usize,
    pub(crate) inner: usize,
    pub(crate) d_state: usize,
    pub(crate) d_conv: usize,
    pub(crate) rank: usize,
}

fn exp(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(f64::exp).collect()
}

impl Tensors {
    /// A norm's weight and a mixer.
    pub(crate) fn add_block(&mut self, prefix: &str, sizes: Mixer, random: &mut Random, scan: bool) {
        let Mixer { d_model, inner, d_state, d_conv, rank } = sizes;
        let (d, i, n) = (d_model as f64, inner as f64, d_state as f64);
        let mut normal = |std: f64, len: usize| -> Vec<f64> { random.normals(std, len) };
        let mut add = |name: &str, shape: &[usize], values: Vec<f64>| {
            self.add(&format!("{prefix}.{name}"), shape, values);
        };
        add("norm.weight", &[d_model], exp(normal(0.3, d_model)));
        add("mixer.in_proj.weight", &[2 * inner, d_model], normal(0.8 / d.sqrt(), 2 * inner * d_model));
        add("mixer.conv1d.weight", &[inner, 1, d_conv], normal((d_conv as f64).powf(-0.5), inner * d_conv));
        add("mixer.conv1d.bias", &[inner], normal(0.3, inner));
        // Rows of dt, then of B and C: each of these a steady part and one that follows the token.
        let mut x_proj = normal(i.powf(-0.5), rank * inner);
        for row in 0..2 * d_state {
            let steady = normal(1.2 / (0.25 * i), 1)[0];
            let keep = if scan || row < d_state { n.powf(-0.25) } else { 0.0 };
            x_proj.extend(normal(1.2 * i.powf(-0.5), inner).iter().map(|v| keep * (v + steady)));
        }
        add("mixer.x_proj.weight", &[rank + 2 * d_state, inner], x_proj);
        add("mixer.dt_proj.weight", &[inner, rank], normal(0.6 / (rank as f64).sqrt(), inner * rank));
        // Steps from 2e-3 to 3, through the inverse of softplus, in mixed order.
        let step = |c: usize| 2e-3 * 1500f64.powf(((c * 37 % inner) as f64 + 0.5) / i);
        let dt_bias = (0..inner).map(|c| step(c) + (-(-step(c)).exp_m1()).ln()).collect();
        add("mixer.dt_proj.bias", &[inner], dt_bias);
        let a_log = normal(0.3, inner * d_state).into_iter().enumerate();
        let a_log = a_log.map(|(at, v)| v + ((at % d_state + 1) as f64).ln()).collect();
        add("mixer.A_log", &[inner, d_state], a_log);
        add("mixer.D", &[inner], normal(0.5, inner));
        add("mixer.out_proj.weight", &[d_model, inner], normal(1.3 / i.sqrt(), d_model * inner));
    }

    pub(crate) fn add(&mut self, name: &str, shape: &[usize], values: Vec<f64>) {
        let from = self.data.len();
        self.data.extend(values.iter().flat_map(|v| bf16(*v).to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [from, self.data.len()]});
        self.header.insert(format!("backbone.{name}"), entry);
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut header = Value::Object(self.header).to_string();
        // The numbers begin at a multiple of eight.
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let mut bytes = Vec::with_capacity(8 + header.len() + self.data.len());
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.append(&mut self.data);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_to_the_nearest() {
        assert_eq!(bf16(1.0), 1.0);
        assert_eq!(bf16(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(bf16(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(bf16(-0.1).to_bits() & 0xffff, 0);
    }

    #[test]
    fn a_model_is_as_long_as_its_header_says() {
        let shape = ModelShape { d_model: 8, n_layer: 2, expand: 2, d_state: 3, d_conv: 4 };
        let files = random_model(shape, 1, true);
        let bytes = &files[1].1;
        let (length, rest) = bytes.split_at(8);
        let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let header: Value = serde_json::from_slice(header).unwrap();
        let end = |tensor: &Value| tensor["data_offsets"][1].as_u64().unwrap_or(0);
        assert_eq!(header.as_object().unwrap().values().map(end).max().unwrap(), data.len() as u64);
        assert!(data.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()));
    }
}
