//! `score`: against two oracles, under any cut, and as tracks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::heads::{ScoreRow, python_with, run_python, scores};
use crate::common::{Ran, golden_model, kill_at_checkpoint, letters, mamba_seq, metadata};

const SMALL: &str = "d29-n4-k2-e1";

struct Folder {
    folder: tempfile::TempDir,
    model: String,
}

impl Folder {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.fa"), text).unwrap();
        Self { folder, model: golden_model(SMALL) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn score(&self, options: &[&str]) -> Ran {
        mamba_seq(self.folder.path(), &[&["score", "x.fa", "--model", &self.model, "-q"], options].concat())
    }

    /// The rows of a run that must go well.
    fn rows(&self, options: &[&str]) -> Vec<ScoreRow> {
        let ran = self.score(&[&["-o", "out.parquet"], options].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{options:?}");
        scores(&self.path("out.parquet"))
    }

    fn refused(&self, options: &[&str], code: i32, words: &[&str]) {
        let ran = self.score(options);
        assert_eq!(ran.code, code, "{options:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    }
}

fn f64s(path: &Path, key: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(key).unwrap();
    match tensor.dtype() {
        safetensors::Dtype::F32 => {
            tensor.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
        safetensors::Dtype::F64 => {
            tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
        }
        _ => tensor.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
    }
}

/// Token ids 0 to 4 of the golden records as letters.
fn spelled(ids: &[f64]) -> String {
    ids.iter().map(|&id| char::from(b"ACGTN"[id as usize])).collect()
}

#[test]
fn each_token_costs_what_transformers_and_float64_say() {
    let golden = |name: &str| PathBuf::from(golden_model(name));
    let mut all: Vec<(String, PathBuf, PathBuf, Vec<String>)> = Vec::new();
    for name in
        ["d13-n16-k4-e2", "d24-n8-k3-e1", "d29-n4-k2-e1", "d33-n16-k4-e1", "d18-n64-k3-e3", "d27-n24-k4-e2"]
    {
        let expected = golden(name).join("expected.safetensors");
        let keys = (0..3).map(|i| format!("tokens.{i}")).collect();
        all.push((golden_model(name), expected, golden(name).join("nll.safetensors"), keys));
    }
    let tokens =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/models/mamba-dna-1m/golden.safetensors");
    let built_in = golden("mamba-dna-1m").join("nll.safetensors");
    all.push(("mamba-dna-1m".into(), tokens, built_in, vec!["tokens".into()]));
    for (model, tokens, truth, keys) in all {
        let records: Vec<Vec<f64>> = keys.iter().map(|key| f64s(&tokens, key)).collect();
        let text: String =
            records.iter().enumerate().map(|(i, ids)| format!(">{i}\n{}\n", spelled(ids))).collect();
        let folder = Folder { model: model.clone(), ..Folder::new(&text) };
        let rows = folder.rows(&["--window", "1", "--device", "cpu"]);
        assert_eq!(rows.len(), records.iter().map(Vec::len).sum::<usize>());
        let (mut worst_hf, mut worst, mut at) = (0f64, 0f64, 0);
        for (i, ids) in records.iter().enumerate() {
            let (hf, exact) = (f64s(&truth, &format!("hf.{i}")), f64s(&truth, &format!("f64.{i}")));
            for t in 0..ids.len() {
                let (record, start, end, _, _, nll, count, bits) = &rows[at];
                at += 1;
                assert_eq!((record.as_str(), *start, *end), (i.to_string().as_str(), t as u64, t as u64 + 1));
                if t == 0 {
                    // A record's first token has nothing to its left.
                    assert_eq!((nll, count, bits), (&None, &0, &None));
                    continue;
                }
                let nll = f64::from_bits(nll.unwrap());
                assert_eq!(*count, 1);
                assert!((f64::from_bits(bits.unwrap()) - nll / std::f64::consts::LN_2).abs() < 1e-12);
                worst_hf = worst_hf.max((nll - hf[t]).abs());
                worst = worst.max((nll - exact[t]).abs());
            }
        }
        eprintln!("{model}: worst token off by {worst_hf:.1e} from transformers, {worst:.1e} from float64");
        assert!(worst_hf < 2e-4 && worst < 2e-4, "{model}: {worst_hf:e} {worst:e}");
    }
}

#[test]
fn no_cut_changes_a_bit() {
    let text = format!(">a\n{}\n>b\nACG\n>c\n{}\n>d\nT\n", letters(1, 700), letters(2, 333));
    let folder = Folder::new(&text);
    std::fs::write(folder.path("r.bed"), "a\t3\t400\tone\na\t100\t250\ttwo\nc\t0\t333\tthree\n").unwrap();
    for options in [
        &["--window", "50", "--stride", "20"][..],
        &["--window", "1"],
        &["--window", "record"],
        &["--strand", "both", "--window", "64"],
        &["--strand", "both", "--combine-strands", "mean"],
        &["--regions", "r.bed", "--window", "30"],
        &["--context", "100", "--overlap", "30", "--window", "40"],
        &["--context", "64"],
    ] {
        let whole = folder.rows(&[options, &["--chunk", "4096"]].concat());
        for cut in [["--chunk", "1"], ["--chunk", "7"], ["--chunk", "64"], ["--threads", "1"]] {
            assert_eq!(folder.rows(&[options, &cut].concat()), whole, "{options:?} {cut:?}");
        }
    }
}

#[test]
fn windows_are_sums_of_their_tokens() {
    let text = format!(">a\n{}\n", letters(3, 1000));
    let folder = Folder::new(&text);
    let tokens = folder.rows(&["--window", "1"]);
    let value = |row: &ScoreRow| row.5.map_or(0.0, f64::from_bits);
    for (window, stride) in [(100, 100), (90, 35), (1000, 1000)] {
        for (_, start, end, _, _, nll, count, bits) in
            folder.rows(&["--window", &window.to_string(), "--stride", &stride.to_string()])
        {
            let parts = &tokens[start as usize..end as usize];
            let sum: f64 = parts.iter().map(value).sum();
            assert_eq!((nll.map(f64::from_bits), count), (Some(sum), end - start.max(1)));
            let bits = f64::from_bits(bits.unwrap());
            assert!((bits - sum / std::f64::consts::LN_2 / count as f64).abs() < 1e-12);
        }
    }
    // Without an overlap the first token of a piece has nothing to its left; with one it has.
    let unscored = |options: &[&str]| -> Vec<u64> {
        folder.rows(options).iter().filter(|row| row.6 == 0).map(|row| row.1).collect()
    };
    assert_eq!(unscored(&["--window", "1", "--context", "300"]), [0, 300, 600, 900]);
    assert_eq!(unscored(&["--window", "1", "--context", "300", "--overlap", "1"]), [0]);
    // The combined row of two strands has the tokens of both.
    let both = folder.rows(&["--strand", "both"]);
    let combined = folder.rows(&["--strand", "both", "--combine-strands", "mean"]);
    assert_eq!((both.len(), combined.len(), both[0].6 + both[1].6), (2, 1, combined[0].6));
    assert_eq!(value(&combined[0]), value(&both[0]) + value(&both[1]));
}

#[test]
fn a_killed_job_goes_on_and_shards_are_the_whole() {
    let text = format!(">a\n{}\n>b\n{}\n>c\n{}\n", letters(4, 900), letters(5, 300_000), letters(6, 400));
    let folder = Folder::new(&text);
    let options = ["--window", "700", "--stride", "300"];
    let whole = folder.rows(&options);
    std::fs::remove_file(folder.path("out.parquet")).unwrap();
    let args = ["score", "x.fa", "-o", "out.parquet", "--model", &folder.model, "-q", "--chunk", "64"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_mamba-seq"));
    command.args(args).args(options).current_dir(folder.folder.path());
    kill_at_checkpoint(&mut command, &folder.path("out.parquet.partial.checkpoint"));
    let ran = folder.score(&[&["-o", "out.parquet", "--resume", "--pool", "max"], &options[..]].concat());
    assert_eq!(ran.code, 2, "score has no --pool: {}", ran.stderr);
    folder.refused(&["-o", "out.parquet", "--resume", "--window", "5"], 1, &["window"]);
    assert_eq!(folder.rows(&[&["--resume"], &options[..]].concat()), whole);
    for shard in ["1/2", "2/2"] {
        let ran = folder
            .score(&[&["-o", &format!("s{}.parquet", &shard[..1]), "--shard", shard], &options[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let ran =
        mamba_seq(folder.folder.path(), &["merge", "s2.parquet", "s1.parquet", "-o", "all.parquet", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(scores(&folder.path("all.parquet")), whole);
    let said = metadata(&folder.path("all.parquet"));
    assert_eq!(
        (said["task"].as_str(), said["pool"].as_str(), said["shard"].as_str()),
        ("score", "nll", "1/1")
    );
}

#[test]
fn tracks_hold_the_bits_of_the_table() {
    // By name the contigs come in another order than in the file.
    let text = format!(">z9\n{}\n>b\n{}\n>one\nA\n", letters(7, 2_345), letters(8, 1_000));
    let folder = Folder::new(&text);
    let rows = folder.rows(&["--window", "100"]);
    for name in ["x.bedgraph", "x.bw"] {
        let ran = folder.score(&["-o", name, "--window", "100"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
    }
    let table: Vec<(String, u64, u64, f64)> =
        rows.iter().filter_map(|row| Some((row.0.clone(), row.1, row.2, f64::from_bits(row.7?)))).collect();
    assert_eq!(table.len(), rows.len() - 1, "the record of one base has no score");
    let text = std::fs::read_to_string(folder.path("x.bedgraph")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), table.len());
    for (line, row) in lines.iter().zip(&table) {
        assert_eq!((line[0], line[1].parse(), line[2].parse()), (row.0.as_str(), Ok(row.1), Ok(row.2)));
        assert!((line[3].parse::<f64>().unwrap() - row.3).abs() < 1e-6);
    }
    let Some(python) = python_with("pyBigWig") else { return };
    // Intervals leave a contig as long as it is.
    std::fs::write(folder.path("r.bed"), "z9\t100\t200\nb\t5\t9\n").unwrap();
    let ran = folder.score(&["-o", "r.bw", "--regions", "r.bed", "--window", "record"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let program = "import pyBigWig\nb = pyBigWig.open('r.bw')\nprint(sorted(b.chroms().items()), b.intervals('b')[0][:2])\n";
    let printed = run_python(&python, folder.folder.path(), program);
    assert_eq!(printed.trim(), "[('b', 1000), ('z9', 2345)] (5, 9)");
    // And so do windows with gaps between them.
    let ran = folder.score(&["-o", "g.bw", "--window", "100", "--stride", "400"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let program = "import pyBigWig\nprint(sorted(pyBigWig.open('g.bw').chroms().items()))\n";
    let printed = run_python(&python, folder.folder.path(), program);
    assert_eq!(printed.trim(), "[('b', 1000), ('z9', 2345)]");
    let program = "import pyBigWig\nb = pyBigWig.open('x.bw')\nfor c, n in sorted(b.chroms().items()):\n print('#', c, n)\n \
                   for s, e, v in b.intervals(c) or ():\n  print(c, s, e, repr(v))\n";
    let printed = run_python(&python, folder.folder.path(), program);
    let (heads, values): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.starts_with('#'));
    // A contig without a value is left out.
    assert_eq!(heads, ["# b 1000", "# z9 2345"]);
    let mut sorted = table.clone();
    sorted.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    assert_eq!(values.len(), sorted.len());
    for (line, row) in values.iter().zip(&sorted) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words[0], words[1].parse(), words[2].parse()), (row.0.as_str(), Ok(row.1), Ok(row.2)));
        assert!((words[3].parse::<f64>().unwrap() - row.3).abs() < 1e-6 * row.3.max(1.0), "{line} {row:?}");
    }
}

#[test]
fn what_a_track_or_a_model_cannot_hold() {
    let folder = Folder::new(">a\nACGTACGTAC\n>a\nACGT\n");
    std::fs::write(folder.path("r.bed"), "a\t0\t5\na\t3\t8\n").unwrap();
    for name in ["x.bw", "x.bigWig", "x.bedGraph"] {
        folder.refused(&["-o", name, "--window", "10", "--stride", "5"], 2, &["overlap", "--stride 10"]);
        folder.refused(&["-o", name, "--strand", "both"], 2, &["strand"]);
        folder.refused(&["-o", name, "--regions", "r.bed"], 2, &["intervals", "overlap"]);
        folder.refused(&["-o", name, "--shard", "1/2"], 2, &["Parquet"]);
        assert!(!folder.path(name).exists());
    }
    std::fs::write(folder.path("one.bed"), "a\t0\t5\n").unwrap();
    let intervals = ["-o", "x.bw", "--regions", "one.bed", "--on-bad-record", "skip"];
    folder.refused(&intervals, 2, &["lengths of all contigs", "--on-bad-record skip"]);
    for name in ["x.bw", "x.bedGraph"] {
        folder.refused(&["-o", name], 1, &["two records are called 'a'"]);
        assert!(!folder.path(name).exists());
    }
    let ran = folder.score(&["--mask-stride", "5"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    // An untied model without a head predicts nothing.
    let from = PathBuf::from(golden_model("d24-n8-k3-e1"));
    std::fs::create_dir(folder.path("headless")).unwrap();
    std::fs::copy(from.join("config.json"), folder.path("headless/config.json")).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let rest: Vec<_> = file.tensors().into_iter().filter(|(name, _)| name != "lm_head.weight").collect();
    let bytes = safetensors::serialize(rest, None).unwrap();
    std::fs::write(folder.path("headless/model.safetensors"), bytes).unwrap();
    let ran = mamba_seq(folder.folder.path(), &["score", "x.fa", "--model", "headless", "-o", "no.parquet"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("no lm_head.weight"), "{}", ran.stderr);
    assert!(!folder.path("no.parquet").exists());
}

#[test]
fn a_masked_model_is_refused_with_the_reason() {
    let folder = Folder::new(">a\nACGTACGTAC\n");
    let from = PathBuf::from(golden_model(SMALL));
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let put = |key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&config).unwrap();
        json[key] = value;
        std::fs::create_dir_all(folder.path("m")).unwrap();
        std::fs::write(folder.path("m/config.json"), json.to_string()).unwrap();
        std::fs::copy(from.join("model.safetensors"), folder.path("m/model.safetensors")).unwrap();
    };
    let run = |args: &[&str]| mamba_seq(folder.folder.path(), &[args, &["--model", "m", "-q"]].concat());
    put("architectures", serde_json::json!(["MambaForMaskedLM"]));
    let want = "m/config.json: architectures names MambaForMaskedLM, a masked model: it has no likelihood of a token given \
                only those to its left";
    std::fs::write(
        folder.path("v.vcf"),
        "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
    )
    .unwrap();
    for args in [
        &["score", "x.fa", "-o", "no.parquet"][..],
        &["variants", "v.vcf", "--reference", "x.fa", "-o", "no.parquet"],
    ] {
        let ran = run(args);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(want) && ran.stderr.contains("--mask-stride"), "{}", ran.stderr);
    }
    // Its hidden states are what they are.
    let ran = run(&["embed", "x.fa", "-o", "yes.parquet"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Families that can't run say what they are.
    for (key, value, want) in [
        (
            "model_type",
            serde_json::json!("caduceus"),
            "Caduceus (masked, bidirectional) models are not supported yet",
        ),
        ("bidirectional", serde_json::json!(true), "bidirectional models are not supported yet"),
    ] {
        put(key, value);
        let ran = run(&["score", "x.fa", "-o", "no.parquet"]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(want), "{}", ran.stderr);
    }
    assert!(!folder.path("no.parquet").exists());
}
