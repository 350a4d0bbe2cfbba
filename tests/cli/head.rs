//! `head fit`, `head eval` and `classify`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;

use crate::common::heads::{classes, python_with, run_python};
use crate::common::kept::batches;
use crate::common::{Ran, golden_model, letters, mamba_seq, metadata, rows};

const SMALL: &str = "d29-n4-k2-e1";

/// A folder with a table of sequences whose label is how many A and T they have, and its embeddings.
struct Folder {
    folder: tempfile::TempDir,
    model: String,
}

impl Folder {
    fn new(classes: usize) -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap(), model: golden_model(SMALL) };
        let mut text = String::from("id,sequence,label,share\n");
        for i in 0..240u32 {
            let sequence: String = letters(i + 1, 60).replace('N', "A");
            // One in three is made poor in A and T.
            let sequence = if i % 3 == 0 { sequence.replace('A', "G") } else { sequence };
            let at = sequence.chars().filter(|c| "AT".contains(*c)).count();
            let class = (at * classes / 61).min(classes - 1);
            let _ = writeln!(text, "s{i},{sequence},c{class},{}", at as f64 / 60.0);
        }
        std::fs::write(folder.path("x.csv"), text).unwrap();
        folder.good(&[
            "embed",
            "x.csv",
            "--id-column",
            "id",
            "--keep",
            "label,share",
            "-o",
            "x.parquet",
            "--model",
            &folder.model,
        ]);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Ran {
        mamba_seq(self.folder.path(), &[args, &["-q"]].concat())
    }

    fn good(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    }

    /// `classify` of the table by a head, as probabilities.
    fn probabilities(&self, head: &str) -> Vec<Vec<f32>> {
        let model = &self.model;
        self.good(&[
            "classify",
            "x.csv",
            "--id-column",
            "id",
            "--head",
            head,
            "--model",
            model,
            "-o",
            "p.parquet",
        ]);
        classes(&self.path("p.parquet")).into_iter().map(|row| row.4).collect()
    }
}

/// Prints the probabilities of scikit-learn's own fit on the embeddings of `x.parquet`.
fn sklearn(strength: f64, weight: &str) -> String {
    format!(
        "import numpy as np, pyarrow.parquet as pq\n\
         from sklearn.linear_model import LogisticRegression\n\
         from sklearn.preprocessing import StandardScaler\n\
         t = pq.read_table('x.parquet')\n\
         x = np.array(t['embedding'].to_pylist(), dtype=np.float64)\n\
         y = t['input.label'].to_pylist()\n\
         x = StandardScaler().fit_transform(x)\n\
         m = LogisticRegression(C=1/{strength}, class_weight={weight}, tol=1e-10, max_iter=20000).fit(x, y)\n\
         for row in m.predict_proba(x):\n print(*row)\n"
    )
}

#[test]
fn a_fit_is_that_of_scikit_learn() {
    let Some(python) = python_with("sklearn, pyarrow.parquet") else { return };
    for classes in [2, 4] {
        let folder = Folder::new(classes);
        for (strength, weight) in [(1.0, "none"), (0.05, "balanced"), (200.0, "none")] {
            let text = strength.to_string();
            folder.good(&[
                "head",
                "fit",
                "x.parquet",
                "--label",
                "label",
                "--strength",
                &text,
                "--class-weight",
                weight,
            ]);
            let found = folder.probabilities("head.safetensors");
            let name = if weight == "none" { "None" } else { "'balanced'" };
            let printed = run_python(&python, folder.folder.path(), &sklearn(strength, name));
            let truth: Vec<Vec<f64>> =
                printed.lines().map(|l| l.split(' ').map(|v| v.parse().unwrap()).collect()).collect();
            assert_eq!(truth.len(), found.len());
            let worst = found
                .iter()
                .flatten()
                .zip(truth.iter().flatten())
                .map(|(a, b)| (f64::from(*a) - b).abs())
                .fold(0.0, f64::max);
            mseq_testkit::aloud(&format!(
                "{classes} classes, strength {strength}, {weight}: off by {worst:.1e}"
            ));
            assert!(worst < 1e-3, "{classes} {strength} {weight}: {worst}");
        }
    }
}

/// `prediction` of each row, and the kept `share`.
fn predictions(path: &Path) -> Vec<(f32, f64)> {
    let mut rows = Vec::new();
    for batch in batches(path) {
        let found = batch.column_by_name("prediction").unwrap().as_primitive::<Float32Type>();
        let share = batch.column_by_name("input.share").unwrap().as_string::<i32>();
        rows.extend((0..batch.num_rows()).map(|i| (found.value(i), share.value(i).parse().unwrap())));
    }
    rows
}

#[test]
fn numbers_are_a_ridge_regression() {
    let folder = Folder::new(2);
    folder.good(&["head", "fit", "x.parquet", "--label", "share", "--numeric", "-o", "share.safetensors"]);
    let text = folder.good(&[
        "head",
        "eval",
        "share.safetensors",
        "x.parquet",
        "--label",
        "share",
        "--json",
        "r.json",
    ]);
    assert!(text.contains("240 rows") && text.contains("R2"), "{text}");
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path("r.json")).unwrap()).unwrap();
    assert!(json["r2"]["value"].as_f64().unwrap() > 0.5, "{json}");
    // `classify` says the numbers: those that the head's weights give on the rows of `embed`, cut and merged
    // as any.
    let model = &folder.model;
    let base = ["classify", "x.csv", "--id-column", "id", "--keep", "share", "--head", "share.safetensors"];
    let say = |more: &[&str]| folder.good(&[&base[..], &["--model", model], more].concat());
    say(&["-o", "whole.parquet"]);
    let whole = predictions(&folder.path("whole.parquet"));
    assert_eq!(whole.len(), 240);
    say(&["-o", "s1.parquet", "--shard", "1/2", "--chunk", "13"]);
    say(&["-o", "s2.parquet", "--shard", "2/2"]);
    folder.good(&["merge", "s1.parquet", "s2.parquet", "-o", "merged.parquet"]);
    assert_eq!(predictions(&folder.path("merged.parquet")), whole);
    say(&["-o", "both.parquet", "--strand", "both", "--combine-strands", "mean"]);
    assert_eq!(predictions(&folder.path("both.parquet")).len(), 240);
    let r2 = {
        let truth: Vec<f64> = whole.iter().map(|row| row.1).collect();
        let mean = truth.iter().sum::<f64>() / 240.0;
        let off: f64 = whole.iter().map(|(p, t)| (f64::from(*p) - t).powi(2)).sum();
        1.0 - off / truth.iter().map(|t| (t - mean).powi(2)).sum::<f64>()
    };
    assert!((r2 - json["r2"]["value"].as_f64().unwrap()).abs() < 1e-5, "{r2} {json}");
    let said = metadata(&folder.path("whole.parquet"));
    assert!(!said.contains_key("classes") && said["head_sha256"].len() == 64);
    let Some(python) = python_with("sklearn, pyarrow.parquet") else { return };
    folder.good(&[
        "head",
        "fit",
        "x.parquet",
        "--label",
        "share",
        "--numeric",
        "--strength",
        "3",
        "-o",
        "share.safetensors",
    ]);
    folder.good(&["head", "eval", "share.safetensors", "x.parquet", "--label", "share", "--json", "r.json"]);
    let program = "import numpy as np, pyarrow.parquet as pq\n\
                   from sklearn.linear_model import Ridge\n\
                   from sklearn.preprocessing import StandardScaler\n\
                   t = pq.read_table('x.parquet')\n\
                   x = StandardScaler().fit_transform(np.array(t['embedding'].to_pylist(), dtype=np.float64))\n\
                   y = np.array(t['input.share'].to_pylist(), dtype=np.float64)\n\
                   p = Ridge(alpha=3.0).fit(x, y).predict(x)\n\
                   print(1 - ((p-y)**2).sum()/((y-y.mean())**2).sum(), abs(p-y).mean())\n";
    let printed = run_python(&python, folder.folder.path(), program);
    let truth: Vec<f64> = printed.split_whitespace().map(|v| v.parse().unwrap()).collect();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path("r.json")).unwrap()).unwrap();
    for (name, truth) in [("r2", truth[0]), ("mae", truth[1])] {
        assert!((json[name]["value"].as_f64().unwrap() - truth).abs() < 1e-6, "{name}: {json} {truth}");
    }
}

#[test]
fn classes_carry_columns_and_survive_shards_and_cuts() {
    let folder = Folder::new(3);
    let model = folder.model.clone();
    folder.good(&["head", "fit", "x.parquet", "--label", "label"]);
    let text = folder.good(&["head", "eval", "head.safetensors", "x.parquet", "--label", "label"]);
    assert!(text.contains("accuracy") && text.contains("MCC") && text.contains("c2"), "{text}");
    // Equal files and seeds give equal heads.
    let first = std::fs::read(folder.path("head.safetensors")).unwrap();
    folder.good(&["head", "fit", "x.parquet", "--label", "label"]);
    assert_eq!(std::fs::read(folder.path("head.safetensors")).unwrap(), first);
    let base = [
        "classify",
        "x.csv",
        "--id-column",
        "id",
        "--keep",
        "label",
        "--head",
        "head.safetensors",
        "--model",
        &model,
    ];
    let run = |more: &[&str]| folder.good(&[&base[..], more].concat());
    run(&["-o", "whole.parquet"]);
    let whole = classes(&folder.path("whole.parquet"));
    assert_eq!(whole.len(), 240);
    for (_, _, label, most, all) in &whole {
        let sum: f32 = all.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6 && all.contains(most), "{all:?}");
        let best = all.iter().position(|p| p == most).unwrap();
        assert_eq!(label, &format!("c{best}"));
    }
    for cut in [["--chunk", "7"], ["--threads", "1"], ["--list-type", "variable"]] {
        run(&[&["-o", "cut.parquet"], &cut[..]].concat());
        assert_eq!(classes(&folder.path("cut.parquet")), whole, "{cut:?}");
    }
    run(&["-o", "s1.parquet", "--shard", "1/2"]);
    run(&["-o", "s2.parquet", "--shard", "2/2"]);
    folder.good(&["merge", "s1.parquet", "s2.parquet", "-o", "merged.parquet"]);
    assert_eq!(classes(&folder.path("merged.parquet")), whole);
    let said = metadata(&folder.path("merged.parquet"));
    assert_eq!((said["classes"].as_str(), said["task"].as_str()), (r#"["c0","c1","c2"]"#, "classify"));
    assert_eq!(said["head_sha256"].len(), 64);
}

#[test]
fn windows_of_intervals_get_the_class_of_their_row() {
    let folder = Folder::new(2);
    let model = folder.model.clone();
    folder.good(&["head", "fit", "x.parquet", "--label", "label"]);
    std::fs::write(folder.path("y.fa"), format!(">y\n{}\n", letters(77, 900))).unwrap();
    std::fs::write(folder.path("y.bed"), "y\t100\t350\ta\ny\t300\t420\tb\n").unwrap();
    let with = ["y.fa", "--regions", "y.bed", "--window", "100", "--model", &model, "-o"];
    folder.good(&[&["embed"], &with[..], &["e.parquet"]].concat());
    folder.good(&[&["classify", "--head", "head.safetensors"], &with[..], &["c.parquet"]].concat());
    let (hidden, found) = (rows(&folder.path("e.parquet")), classes(&folder.path("c.parquet")));
    assert_eq!((hidden.len(), found.len()), (5, 5));
    let bytes = std::fs::read(folder.path("head.safetensors")).unwrap();
    let head = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let data = head.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    };
    let (mean, scale, weight, bias) = (values("mean"), values("scale"), values("weight"), values("bias"));
    for (hidden, found) in hidden.iter().zip(&found) {
        assert_eq!((hidden.start, &hidden.record), (found.1, &found.0));
        let logit = |c: usize| -> f64 {
            let x = hidden.embedding.iter().map(|v| f64::from(f32::from_bits(*v)));
            let x = x.enumerate().map(|(i, x)| weight[c * mean.len() + i] * (x - mean[i]) / scale[i]);
            bias[c] + x.sum::<f64>()
        };
        let yes = 1.0 / (1.0 + (logit(0) - logit(1)).exp());
        assert!((f64::from(found.4[1]) - yes).abs() < 1e-5, "{yes} {found:?}");
    }
}

#[test]
fn labels_that_do_not_suit() {
    let folder = Folder::new(2);
    let write = |text: &str| std::fs::write(folder.path("l.tsv"), text).unwrap();
    let all = |label: &dyn Fn(usize) -> String| -> String {
        (0..240).fold(String::new(), |text, i| text + &format!("s{i}\t{}\n", label(i)))
    };
    let fit = ["head", "fit", "x.parquet", "--labels", "l.tsv", "-o", "no.safetensors"];
    write(&(all(&|i| (i % 2).to_string()) + "ghost\t1\n"));
    folder.refused(&fit, 1, &["unknown", "'ghost'"]);
    write("s0\t1\n");
    folder.refused(&fit, 1, &["no label for record 's1'"]);
    write(&all(&|_| "same".into()));
    folder.refused(&fit, 1, &["'same'", "one class"]);
    write(&all(&|i| if i == 17 { "NaN".into() } else { (i % 2).to_string() }));
    folder.refused(&fit, 1, &["'s17'", "NaN"]);
    write("s0 1\n");
    folder.refused(&fit, 1, &["line 1", "tab"]);
    write(&all(&|i| if i < 3 { "rare".into() } else { "often".into() }));
    folder.refused(&fit, 1, &["'rare' has 3 rows", "5 folds"]);
    folder.refused(&["head", "fit", "x.parquet"], 2, &["--label"]);
    folder.refused(&["head", "fit", "x.parquet", "--label", "colour"], 1, &["input.colour", "label, share"]);
    folder.refused(&["head", "fit", "x.csv", "--label", "label"], 1, &["x.csv", "embed"]);
    folder.refused(&["head", "fit", "x.parquet", "--label", "label", "--strength", "-1"], 2, &["--strength"]);
    folder.refused(&["head", "fit", "gone.parquet", "--label", "label"], 1, &["gone.parquet"]);
    assert!(!folder.path("no.safetensors").exists());
}

#[test]
fn a_head_is_for_its_model_layer_and_pool() {
    let folder = Folder::new(2);
    let model = folder.model.clone();
    folder.good(&["head", "fit", "x.parquet", "--label", "label"]);
    let embed = |name: &str, more: &[&str]| {
        let base = ["embed", "x.csv", "--id-column", "id", "--keep", "label", "-o", name];
        folder.good(&[&base[..], more].concat());
    };
    let other = golden_model("d13-n16-k4-e2");
    embed("layer.parquet", &["--model", &model, "--layer", "1"]);
    embed("pool.parquet", &["--model", &model, "--pool", "max"]);
    embed("other.parquet", &["--model", &other]);
    for (name, word) in [("layer.parquet", "layer 1"), ("pool.parquet", "pool max"), ("other.parquet", "d13")]
    {
        folder.refused(
            &["head", "eval", "head.safetensors", name, "--label", "label"],
            1,
            &["was fitted on", word],
        );
    }
    folder.refused(
        &["classify", "x.csv", "--head", "head.safetensors", "--model", &other, "-o", "no.parquet"],
        1,
        &["was fitted on model", "--model"],
    );
    folder.refused(
        &["classify", "x.csv", "--head", "x.csv", "--model", &model, "-o", "no.parquet"],
        1,
        &["x.csv", "is no head"],
    );
    folder.refused(
        &["classify", "x.csv", "--model", &model, "-o", "no.parquet"],
        1,
        &["has no classification head", "--head"],
    );
    // The last layer by its number is the last layer.
    embed("number.parquet", &["--model", &model, "--layer", "2"]);
    assert_eq!(metadata(&folder.path("number.parquet"))["layer"], "last");
    folder.good(&["head", "eval", "head.safetensors", "number.parquet", "--label", "label"]);
    // A head of an inner layer classifies with that layer.
    folder.good(&["head", "fit", "layer.parquet", "--label", "label", "-o", "one.safetensors"]);
    folder.good(&["classify", "x.csv", "--head", "one.safetensors", "--model", &model, "-o", "one.parquet"]);
    assert_eq!(metadata(&folder.path("one.parquet"))["layer"], "1");
}

/// The golden model with a head of its own, as `name.weight` and `name.bias`.
fn with_head(folder: &Path, name: &str, config: &str) -> (PathBuf, Vec<f32>, Vec<f32>) {
    with_heads(folder, &[(name, 3)], config)
}

/// The same with any number of heads of at most three outputs.
fn with_heads(folder: &Path, heads: &[(&str, usize)], config: &str) -> (PathBuf, Vec<f32>, Vec<f32>) {
    let from = PathBuf::from(golden_model(SMALL));
    let to = folder.join("own");
    std::fs::create_dir_all(&to).unwrap();
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    std::fs::write(to.join("config.json"), text.replacen('{', &format!("{{{config}"), 1)).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let weight: Vec<f32> = (0..3 * 29).map(|i| (i as f32 * 0.7).sin()).collect();
    let bias = vec![0.25f32, -0.5, 0.0];
    let raw = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (w, b) = (raw(&weight), raw(&bias));
    let view =
        |shape: Vec<usize>, data| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data);
    let mut tensors = file.tensors();
    for &(name, outputs) in heads {
        tensors.push((format!("{name}.weight"), view(vec![outputs, 29], &w[..4 * 29 * outputs]).unwrap()));
        tensors.push((format!("{name}.bias"), view(vec![outputs], &b[..4 * outputs]).unwrap()));
    }
    std::fs::write(to.join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    (to, weight, bias)
}

#[test]
fn a_models_own_head_pools_as_its_config_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), format!(">a\n{}\n>b\n{}\n", letters(1, 250), letters(2, 90)))
        .unwrap();
    let run = |args: &[&str]| mamba_seq(folder.path(), &[args, &["--model", "own", "-q"]].concat());
    let names = r#""id2label": {"0": "x", "1": "y", "2": "z"}, "#;
    for (name, pool) in [("score", "mean"), ("classifier", "max"), ("classification_head", "last")] {
        let config = format!(r#"{names}"pooling_strategy": "{pool}", "#);
        let (_, weight, bias) = with_head(folder.path(), name, &config);
        let ran = run(&["classify", "x.fa", "--window", "100", "-o", "c.parquet"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
        let ran = run(&["embed", "x.fa", "--window", "100", "--pool", pool, "-o", "e.parquet"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let (found, hidden) =
            (classes(&folder.path().join("c.parquet")), rows(&folder.path().join("e.parquet")));
        assert_eq!((found.len(), hidden.len()), (4, 4));
        for (found, hidden) in found.iter().zip(&hidden) {
            let logit = |c: usize| -> f64 {
                let row = hidden.embedding.iter().zip(&weight[c * 29..]);
                f64::from(bias[c])
                    + row.map(|(x, w)| f64::from(f32::from_bits(*x)) * f64::from(*w)).sum::<f64>()
            };
            let exp: Vec<f64> = (0..3).map(|c| logit(c).exp()).collect();
            let sum: f64 = exp.iter().sum();
            for (c, p) in found.4.iter().enumerate() {
                assert!((f64::from(*p) - exp[c] / sum).abs() < 1e-6, "{name}: {found:?}");
            }
            assert!(["x", "y", "z"].contains(&found.2.as_str()));
        }
    }
    for (config, word) in [
        (names.to_owned(), "does not say how its rows are pooled"),
        (r#""pooling_strategy": "first", "#.to_owned(), "'first'"),
        (r#""pooling_strategy": "mean", "problem_type": "regression", "#.to_owned(), "regression"),
    ] {
        with_head(folder.path(), "score", &config);
        let ran = run(&["classify", "x.fa", "-o", "no.parquet"]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        // Embeddings do not care.
        let ran = run(&["embed", "x.fa", "-o", "e.parquet"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    // One output is a number, and of two heads nothing says which is meant.
    for (heads, word) in [
        (&[("score", 1)][..], "one output"),
        (&[("score", 3), ("classifier", 3)], "score.weight, classifier.weight"),
    ] {
        with_heads(folder.path(), heads, r#""pooling_strategy": "mean", "#);
        let ran = run(&["classify", "x.fa", "-o", "no.parquet"]);
        assert!(ran.code == 1 && ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}
