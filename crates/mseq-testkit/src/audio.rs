//! Random CleanUMamba models, pruned ones too.

use serde_json::json;

use crate::Random;
use crate::model::{Mixer, Tensors};

/// Sizes of a random CleanUMamba.
#[derive(Debug, Clone, Copy)]
pub struct CleanShape {
    /// Width of each level of the encoder, between its convolutions and after them.
    pub levels: &'static [(usize, usize)],
    /// Width of the residual stream.
    pub d_model: usize,
    /// Of each block: width inside, states a channel, rank of dt.
    pub blocks: &'static [(usize, usize, usize)],
}

/// `config.json` and `model.safetensors` of a model in which every part matters, in bf16 values.
///
/// Weights are so small that a level neither grows nor dies: half as large again, and eight levels with
/// their gates make 5e5 times of a rounding error at the output, in place of 3.
pub fn random_clean(shape: CleanShape, seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    let CleanShape { levels, d_model, blocks } = shape;
    let mut random = Random::new(seed);
    let mut tensors = Tensors::default();
    let mut conv = |random: &mut Random, name: String, shape: [usize; 3], outputs: usize, std: f64| {
        tensors.add(&format!("{name}.weight"), &shape, random.normals(std, shape.iter().product()));
        tensors.add(&format!("{name}.bias"), &[outputs], random.normals(0.3, outputs));
    };
    let root = |n: usize| (n as f64).sqrt();
    let mut inputs = 1;
    for (i, &(inner, out)) in levels.iter().enumerate() {
        let std = 1.2 / root(4 * inputs);
        conv(&mut random, format!("encoder.{i}.0"), [inner, inputs, 4], inner, std);
        conv(&mut random, format!("encoder.{i}.2"), [2 * out, inner, 1], 2 * out, 1.5 / root(inner));
        inputs = out;
    }
    conv(&mut random, "tsfm_conv1".into(), [d_model, inputs, 1], d_model, 1.3 / root(inputs));
    conv(&mut random, "tsfm_conv2".into(), [inputs, d_model, 1], inputs, 1.3 / root(d_model));
    for (j, &(inner, _)) in levels.iter().rev().enumerate() {
        let out = levels.iter().rev().nth(j + 1).map_or(1, |level| level.1);
        conv(&mut random, format!("decoder.{j}.0"), [2 * inner, inputs, 1], 2 * inner, 1.2 / root(inputs));
        conv(&mut random, format!("decoder.{j}.2"), [inner, out, 4], out, 1.2 / root(2 * inner));
        inputs = out;
    }
    for (i, &(inner, d_state, rank)) in blocks.iter().enumerate() {
        let prefix = format!("tsfm_Mamba_layers.{i}");
        let sizes = Mixer { d_model, inner, d_state, d_conv: 4, rank };
        tensors.add_block(&prefix, sizes, &mut random, true);
        tensors.add(&format!("{prefix}.norm.bias"), &[d_model], random.normals(0.4, d_model));
    }
    tensors.add(
        "norm_f.weight",
        &[d_model],
        random.values(d_model, 0.5, 1.5).iter().map(|&v| v.into()).collect(),
    );
    tensors.add("norm_f.bias", &[d_model], random.normals(0.4, d_model));
    let config = json!({"network_config": {
        "channels_input": 1,
        "channels_output": 1,
        "encoder_n_layers": levels.len(),
        "kernel_size": 4,
        "stride": 2,
        "tsfm_n_layers": blocks.len(),
        "tsfm_n_head": 4,
        "tsfm_d_model": d_model,
        "tsfm_d_inner": 2 * d_model,
    }});
    vec![("config.json", config.to_string().into_bytes()), ("model.safetensors", tensors.into_bytes())]
}
