//! Each kind of bad input: one line that says what, where and how to mend it, the right exit
//! code, and nothing left under the final name.

use std::path::Path;
use std::process::{Command, Stdio};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::common::{data, golden_model, mamba_seq, mamba_seq_with_input};

const SMALL: &str = "d29-n4-k2-e1";

/// Runs `embed x` on these bytes and checks code, text and tidiness.
fn refused(input: &[u8], options: &[&str], code: i32, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), input).unwrap();
    let model = golden_model(SMALL);
    let mut args = vec!["embed", "x", "--model", &model, "-o", "out.parquet"];
    args.extend(options);
    let ran = mamba_seq(folder.path(), &args);
    check(&ran.stderr, ran.code, code, words);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "left something behind: {}", ran.stderr);
}

fn check(stderr: &str, found: i32, code: i32, words: &[&str]) {
    assert_eq!(found, code, "{stderr}");
    // Notes may come before; the error is one line.
    let errors: Vec<&str> = stderr.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    for word in words {
        assert!(errors[0].contains(word), "'{word}' is not in: {}", errors[0]);
    }
}

#[test]
fn text_that_is_no_sequence() {
    refused(b"Dear all,\nplease find\n", &[], 1, &["x: ", "not FASTA or FASTQ"]);
    refused(b"", &[], 1, &["x: ", "record"]);
    refused(b"\n\n", &[], 1, &["x: "]);
    refused(b"RIFF\x24\x08\x00\x00WAVEfmt ", &[], 2, &["x: ", "WAV"]);
    let mut noise = 7u32;
    let random: Vec<u8> = (0..4000)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8 | 0x80
        })
        .collect();
    refused(&random, &[], 1, &["x: "]);
}

#[test]
fn an_illegal_byte_is_named_with_its_place() {
    let text = format!(">chr1\nACGT\n>chr2 x\n{}\nACG!T\n", "ACGTACGTAC\n".repeat(5).trim_end());
    refused(
        text.as_bytes(),
        &[],
        1,
        &[
            "x: record 'chr2', base 54 (line 9): byte 0x21 '!' is not a nucleotide code; remove it or use --on-bad-record skip",
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), text).unwrap();
    let ran = mamba_seq(folder.path(), &["embed", "x", "-o", "o.parquet", "--model", &golden_model(SMALL)]);
    assert!(ran.stderr.trim_end().ends_with("; remove it or use --on-bad-record skip"), "{}", ran.stderr);
    refused(b">p\nMKVLAAGE\n", &[], 1, &["'p'", "base 4", "'L'"]);
    refused(b">a\nAC\x00GT\n", &[], 1, &["base 3 (line 2)", "0x00"]);
    refused(b"@q\nACXT\n+\nIIII\n", &[], 1, &["'q'", "base 3", "'X'"]);
}

#[test]
fn damaged_gzip() {
    let lambda = std::fs::read(data("fasta/lambda.fa.gz")).unwrap();
    refused(&lambda[..lambda.len() / 2], &[], 1, &["x: ", "truncated"]);
    let mut corrupt = lambda.clone();
    for byte in &mut corrupt[4000..4040] {
        *byte ^= 0x5a;
    }
    refused(&corrupt, &[], 1, &["x: "]);
}

#[test]
fn damaged_fastq() {
    refused(b"@q\nACGT\n+\nII\n", &[], 1, &["'q'"]);
    refused(b"@q\nACGT\n", &[], 1, &["'q'"]);
    refused(b"@q\nACGT\n+\nIIII\nACGT\n", &[], 1, &["line 5"]);
}

#[test]
fn things_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| mamba_seq(folder.path(), args);
    let ran = run(&["embed", "gone.fa"]);
    check(&ran.stderr, ran.code, 1, &["gone.fa"]);
    let ran = run(&["embed", "*.fa", "-o", "o.parquet"]);
    check(&ran.stderr, ran.code, 1, &["*.fa"]);
    std::fs::write(folder.path().join("x.fa"), ">a\nACGT\n").unwrap();
    let ran = run(&["embed", "x.fa", "-o", "no/such/folder/o.parquet"]);
    check(&ran.stderr, ran.code, 1, &["no/such/folder", "does not exist"]);
    let ran = run(&["embed", "x.fa", "--model", "no-such-model"]);
    check(&ran.stderr, ran.code, 1, &["no such model: no-such-model"]);
    for device in ["cuda", "cuda:0", "cuda:all"] {
        let ran = run(&["embed", "x.fa", "--device", device]);
        check(&ran.stderr, ran.code, 1, &[device, "doctor", "--device cpu"]);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn usage() {
    for (options, words) in [
        (&["--window", "0"][..], "--window"),
        (&["--window", "-5"], "-5"),
        (&["--stride", "0"], "--stride"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--pool", "median"], "--pool"),
        (&["--layer", "3"], "layer 3"),
        (&["--layer", "x"], "--layer"),
        (&["--device", "tpu"], "tpu"),
        (&["--dtype", "bf16"], "f32 only"),
        (&["--window", "record", "--stride", "5"], "--stride"),
        (&["--context", "0"], "--context"),
        (&["--chunk", "0"], "--chunk"),
        (&["--memory-limit", "12X"], "--memory-limit"),
        (&["--threads", "0"], "--threads"),
        (&["-o", "x"], "is the input"),
        (&["--window", "1000000000", "--stride", "1"], "--stride"),
        (&["--add-special-tokens"], "not built yet"),
        (&["--combine-strands", "mean"], "--strand both"),
        (&["--mask-stride", "7"], "not built yet"),
        (&["--shard", "0/3"], "from 1 to N"),
        (&["--shard", "4/3"], "from 1 to N"),
        (&["--shard", "x"], "from 1 to N"),
        (&["--shard", "1/0"], "from 1 to N"),
        (&["--shard", "a/b"], "from 1 to N"),
        (&["--shard", "1/2/3"], "from 1 to N"),
        (&["--shard", "1/99999999999"], "from 1 to N"),
        (&["--window", "18446744073709551615", "--stride", "1"], "--stride"),
        (&["--context", "18446744073709551615", "--overlap", "18446744073709551614"], "at most"),
        (&["--overlap", "5"], "--context"),
        (&["--context", "5", "--overlap", "5"], "less than"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), ">a\nACGT\n").unwrap();
        let model = golden_model(SMALL);
        let mut args = vec!["embed", "x", "--model", &model];
        if !options.contains(&"-o") {
            args.extend(["-o", "out.parquet"]);
        }
        args.extend(options);
        let ran = mamba_seq(folder.path(), &args);
        check(&ran.stderr, ran.code, 2, &[words]);
        assert_eq!(std::fs::read(folder.path().join("x")).unwrap(), b">a\nACGT\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{options:?}");
    }
    // Defaults of options that are not built yet are no request for them.
    refused(b"", &["--strand", "forward", "--shard", "1/1", "--on-bad-record", "fail"], 1, &["x: "]);
    let folder = tempfile::tempdir().unwrap();
    let ran = mamba_seq(folder.path(), &["report", "x", "--any", "thing"]);
    check(&ran.stderr, ran.code, 2, &["report", "not built yet"]);
    let ran = mamba_seq_with_input(folder.path(), &["embed", "-"], b">a\nAC\n");
    check(&ran.stderr, ran.code, 2, &["standard input needs -o"]);
    for option in [["--shard", "1/2"], ["--on-bad-record", "skip"]] {
        let ran = mamba_seq_with_input(
            folder.path(),
            &["embed", "-", "-o", "o", option[0], option[1]],
            b">a\nAC\n",
        );
        check(&ran.stderr, ran.code, 2, &[option[0], "give a file"]);
    }
}

#[test]
fn the_old_file_survives_a_failed_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out.parquet"), "precious").unwrap();
    std::fs::write(folder.path().join("x"), format!(">a\n{}!\n", "ACGT".repeat(100_000))).unwrap();
    let ran = mamba_seq(folder.path(), &["embed", "x", "-o", "out.parquet", "--model", &golden_model(SMALL)]);
    check(&ran.stderr, ran.code, 1, &["base 400001"]);
    assert_eq!(std::fs::read(folder.path().join("out.parquet")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), format!(">a\n{}\n", "ACGT".repeat(50_000))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
        .args(["embed", "x.fa", "-o", "-", "--pool", "none", "-q", "--model", &golden_model(SMALL)])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8(out.stderr).unwrap()), (Some(0), String::new()));
}

/// A copy of a golden model, to be spoilt.
struct Model(tempfile::TempDir);

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(Path::new(&golden_model(SMALL)).join(file), folder.path().join(file)).unwrap();
        }
        std::fs::write(folder.path().join("x.fa"), ">a\nACGT\n").unwrap();
        Self(folder)
    }

    fn config(&self, change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) -> &Self {
        let path = self.0.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(config.as_object_mut().unwrap());
        std::fs::write(path, config.to_string()).unwrap();
        self
    }

    /// Gives every tensor to `change`, which gives back those to write.
    fn tensors(
        &self,
        change: impl Fn(String, Vec<usize>, Vec<f32>) -> Vec<(String, Vec<usize>, Vec<f32>)>,
    ) -> &Self {
        let path = self.0.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut out = Vec::new();
        for (name, t) in file.tensors() {
            let values = t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            out.extend(change(name, t.shape().to_vec(), values));
        }
        let raw: Vec<(String, Vec<usize>, Vec<u8>)> = out
            .into_iter()
            .map(|(n, s, v)| (n, s, v.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views =
            raw.iter().map(|(n, s, b)| (n.clone(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
        self
    }

    fn refused(&self, words: &[&str]) {
        let model = self.0.path().display().to_string();
        let ran = mamba_seq(self.0.path(), &["embed", "x.fa", "-o", "out.parquet", "--model", &model]);
        check(&ran.stderr, ran.code, 1, words);
        assert!(!self.0.path().join("out.parquet").exists());
    }

    fn works(&self) {
        let model = self.0.path().display().to_string();
        let ran = mamba_seq(self.0.path(), &["embed", "x.fa", "-o", "out.parquet", "--model", &model]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

#[test]
fn broken_model_directories() {
    Model::new().works();

    let model = Model::new();
    std::fs::remove_file(model.0.path().join("config.json")).unwrap();
    model.refused(&["no config.json"]);

    let model = Model::new();
    std::fs::write(model.0.path().join("config.json"), "{\"model_type\": \"mamba\",\n oops}").unwrap();
    model.refused(&["config.json: line 2", "not valid JSON"]);

    let model = Model::new();
    std::fs::remove_file(model.0.path().join("model.safetensors")).unwrap();
    model.refused(&["no model.safetensors"]);
    std::fs::write(model.0.path().join("pytorch_model.bin"), "pickle").unwrap();
    model.refused(&["never executed"]);

    let model = Model::new();
    let path = model.0.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    model.refused(&["model.safetensors: truncated"]);
    std::fs::write(&path, &bytes[..20]).unwrap();
    model.refused(&["model.safetensors: truncated"]);
    std::fs::write(&path, b"not safetensors at all, but text").unwrap();
    model.refused(&["model.safetensors: ", "not a safetensors file"]);
    std::fs::write(&path, b"").unwrap();
    model.refused(&["model.safetensors: truncated"]);
}

#[test]
fn tensors_that_do_not_fit_are_listed_in_one_message() {
    let model = Model::new();
    model.tensors(|name, mut shape, mut values| match name.as_str() {
        n if n.ends_with("layers.0.mixer.D") => vec![],
        n if n.ends_with("layers.1.mixer.out_proj.weight") => vec![],
        n if n.ends_with("layers.1.mixer.dt_proj.bias") => {
            shape[0] -= 1;
            values.pop();
            vec![(name, shape, values), ("backbone.layers.0.mixer.extra".into(), vec![1], vec![0.0])]
        }
        _ => vec![(name, shape, values)],
    });
    model.refused(&[
        "missing tensors: layers.0.mixer.D, layers.1.mixer.out_proj.weight",
        "unexpected tensors: backbone.layers.0.mixer.extra",
        "misshapen tensors: ",
        "dt_proj.bias is [28] and should be [29]",
    ]);
}

#[test]
fn weights_that_are_not_numbers() {
    let model = Model::new();
    model.tensors(|name, shape, mut values| {
        if name.ends_with("layers.1.mixer.A_log") {
            values[5] = f32::NAN;
        }
        vec![(name, shape, values)]
    });
    model.refused(&["layers.1.mixer.A_log", "NaN", "index 5"]);
}

#[test]
fn known_families_are_named() {
    for (key, value, words) in [
        ("model_type", "mamba2", "Mamba-2"),
        ("model_type", "falcon_mamba", "Falcon-Mamba"),
        ("model_type", "caduceus", "Caduceus"),
        ("model_type", "llama", "'llama'"),
    ] {
        let model = Model::new();
        model.config(|c| drop(c.insert(key.into(), value.into())));
        model.refused(&[words, "not supported yet"]);
    }
}

#[test]
fn configs_that_lie() {
    let model = Model::new();
    model.config(|c| drop(c.insert("state_size".into(), 5.into())));
    model.refused(&["state size is 5 in config.json but 4 in the tensors"]);
    // intermediate_size wins over expand, and leftovers of the original layout are not believed.
    let model = Model::new();
    model.config(|c| {
        c.insert("expand".into(), 16.into());
        c.insert("d_model".into(), 2048.into());
    });
    model.works();
    let model = Model::new();
    model.config(|c| drop(c.remove("mamba_seq")));
    model.refused(&["no tokeniser", "mamba_seq"]);
    let model = Model::new();
    model.config(|c| c["mamba_seq"]["unknown"] = 99.into());
    model.refused(&["token id 99"]);
}
