//! The forms that a checkpoint comes in: one set of weights, one set of rows.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::common::{Row, golden_model, mamba_seq, rows};

const SMALL: &str = "d29-n4-k2-e1";

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn golden() -> (serde_json::Value, Tensors) {
    let folder = golden_model(SMALL);
    let config = std::fs::read(Path::new(&folder).join("config.json")).unwrap();
    let bytes = std::fs::read(Path::new(&folder).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values =
        |t: &TensorView<'_>| t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let tensors = file.tensors().into_iter().map(|(n, t)| (n, (t.shape().to_vec(), values(&t)))).collect();
    (serde_json::from_slice(&config).unwrap(), tensors)
}

fn bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn save(path: &Path, tensors: &Tensors, dtype: Dtype) {
    let raw: Vec<_> = tensors.iter().map(|(n, (s, v))| (n.clone(), s.clone(), bytes(v, dtype))).collect();
    let views = raw.iter().map(|(n, s, b)| (n.clone(), TensorView::new(dtype, s.clone(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Rows of a fixed sequence from a model directory that `fill` makes.
fn embed(fill: impl Fn(&Path)) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    fill(&model);
    std::fs::write(folder.path().join("x.fa"), ">x\nACGTTGCANNGGCATTACGATTACACCGGTACGGGATC\n").unwrap();
    let ran =
        mamba_seq(folder.path(), &["embed", "x.fa", "-o", "o.parquet", "--model", "model", "--window", "9"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    rows(&folder.path().join("o.parquet"))
}

fn write_config(folder: &Path, config: &serde_json::Value) {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn shards_prefixes_and_layouts_give_the_same_rows() {
    let (config, tensors) = golden();
    let plain = embed(|folder| {
        write_config(folder, &config);
        save(&folder.join("model.safetensors"), &tensors, Dtype::F32);
    });
    let split = |folder: &Path, with_index: bool| {
        write_config(folder, &config);
        let mut map = serde_json::Map::new();
        let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        for (i, file) in names.into_iter().enumerate() {
            let part: Tensors =
                tensors.iter().skip(i).step_by(2).map(|(n, t)| (n.clone(), t.clone())).collect();
            map.extend(part.keys().map(|n| (n.clone(), file.into())));
            save(&folder.join(file), &part, Dtype::F32);
        }
        if with_index {
            let index = serde_json::json!({"metadata": {}, "weight_map": map});
            std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
    };
    assert_eq!(embed(|folder| split(folder, true)), plain);
    assert_eq!(embed(|folder| split(folder, false)), plain);
    for prefix in ["", "model.backbone.", "module.backbone.", "caduceus.backbone."] {
        let renamed = |(n, t): (&String, &(Vec<usize>, Vec<f32>))| {
            let n = n.strip_prefix("backbone.").map_or(n.clone(), |rest| format!("{prefix}{rest}"));
            (n.replace("embeddings.weight", "embedding.weight"), t.clone())
        };
        let rows = embed(|folder| {
            write_config(folder, &config);
            save(&folder.join("model.safetensors"), &tensors.iter().map(renamed).collect(), Dtype::F32);
        });
        assert_eq!(rows, plain, "{prefix}");
    }
    // The same model as the original layout would describe it.
    let original = serde_json::json!({
        "d_model": 29, "n_layer": 2, "vocab_size": 8, "rms_norm": true, "residual_in_fp32": true,
        "fused_add_norm": true, "pad_vocab_size_multiple": 8, "mamba_seq": config["mamba_seq"],
        "ssm_cfg": {"d_state": 4, "d_conv": 2, "expand": 1, "conv_bias": false},
    });
    let rows = embed(|folder| {
        write_config(folder, &original);
        save(&folder.join("model.safetensors"), &tensors, Dtype::F32);
    });
    assert_eq!(rows, plain);
}

#[test]
fn half_precision_weights_are_read_as_their_values() {
    let (config, tensors) = golden();
    for dtype in [Dtype::F16, Dtype::BF16] {
        let round = |v: f32| match dtype {
            Dtype::F16 => half::f16::from_f32(v).to_f32(),
            _ => half::bf16::from_f32(v).to_f32(),
        };
        let rounded = tensors
            .iter()
            .map(|(n, (s, v))| (n.clone(), (s.clone(), v.iter().map(|v| round(*v)).collect())))
            .collect();
        let [half, single] = [(&tensors, dtype), (&rounded, Dtype::F32)].map(|(tensors, dtype)| {
            embed(|folder| {
                write_config(folder, &config);
                save(&folder.join("model.safetensors"), tensors, dtype);
            })
        });
        assert_eq!(half, single, "{dtype:?}");
    }
}

#[test]
fn the_caduceus_tokeniser_names_letters() {
    // 16 rows: the embedding of A under `mamba_seq` ids is put where CaduceusTokenizer looks for it.
    let (mut config, mut tensors) = golden();
    let plain = embed(|folder| {
        write_config(folder, &config);
        save(&folder.join("model.safetensors"), &tensors, Dtype::F32);
    });
    let (shape, table) = tensors.get_mut("backbone.embeddings.weight").unwrap();
    let (old, d) = (table.clone(), shape[1]);
    let row = |id: usize| old[id * d..(id + 1) * d].to_vec();
    *table = vec![0.0; 16 * d];
    for (ours, theirs) in [(0, 7), (1, 8), (2, 9), (3, 10), (4, 11), (4, 6)] {
        table[theirs * d..(theirs + 1) * d].copy_from_slice(&row(ours));
    }
    shape[0] = 16;
    let object = config.as_object_mut().unwrap();
    object.remove("mamba_seq");
    object.insert("vocab_size".into(), 16.into());
    let rows = embed(|folder| {
        write_config(folder, &config);
        let tokenizer = r#"{"tokenizer_class": "CaduceusTokenizer", "model_max_length": 131072}"#;
        std::fs::write(folder.join("tokenizer_config.json"), tokenizer).unwrap();
        save(&folder.join("model.safetensors"), &tensors, Dtype::F32);
    });
    assert_eq!(rows, plain);
}

#[test]
fn a_leftover_layer_count_that_the_tensors_confirm_wins() {
    let (mut config, tensors) = golden();
    let object = config.as_object_mut().unwrap();
    object.insert("num_hidden_layers".into(), 1.into());
    object.insert("n_layer".into(), 2.into());
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &config);
    save(&folder.path().join("model.safetensors"), &tensors, Dtype::F32);
    let ran = mamba_seq(folder.path(), &["models", "info", "."]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains("num_hidden_layers is 1, n_layer is 2, the tensors have 2: 2 was used"), "{text}");
}
