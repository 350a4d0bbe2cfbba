//! `score` on recordings: what each sample costs by a model of mu-law tokens, against `mulaw8/`
//! (`data/golden/mulaw.py`: transformers, and a scan in float64).

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use hound::{SampleFormat, WavSpec, WavWriter};
use safetensors::SafeTensors;

use crate::common::heads::{ScoreRow, python_with, run_python, scores};
use crate::common::kept::batches;
use crate::common::{Ran, golden_model, mamba_seq, mamba_seq_with_input, metadata};

const RATE: u32 = 8000;

struct Recording {
    folder: tempfile::TempDir,
    model: String,
    /// What each sample costs, by the float64 scan and by transformers; the first is NaN.
    exact: Vec<f64>,
    hf: Vec<f64>,
}

impl Recording {
    fn new() -> Self {
        let model = golden_model("mulaw8");
        let bytes = std::fs::read(Path::new(&model).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f64> {
            let tensor = file.tensor(name).unwrap();
            match tensor.dtype() {
                safetensors::Dtype::F64 => {
                    tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
                }
                _ => tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let samples = file.tensor("samples").unwrap();
        let spec =
            WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut wav = WavWriter::create(folder.path().join("x.wav"), spec).unwrap();
        for bytes in samples.data().as_chunks::<4>().0 {
            wav.write_sample(i32::from_le_bytes(*bytes) as i16).unwrap();
        }
        wav.finalize().unwrap();
        Self { exact: floats("f64.nll"), hf: floats("hf.nll"), folder, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn score(&self, input: &str, options: &[&str]) -> Ran {
        let args = ["score", input, "--model", &self.model, "--device", "cpu", "-q"];
        mamba_seq(self.folder.path(), &[&args[..], options].concat())
    }

    fn rows(&self, options: &[&str]) -> Vec<ScoreRow> {
        let ran = self.score("x.wav", &[options, &["-o", "out.parquet"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{options:?}");
        scores(&self.path("out.parquet"))
    }
}

#[test]
fn each_sample_costs_what_the_oracles_say() {
    let recording = Recording::new();
    let rows = recording.rows(&["--window", "1"]);
    assert_eq!(rows.len(), recording.exact.len());
    let (mut worst, mut worst_hf) = (0f64, 0f64);
    for (t, (record, start, end, strand, _, nll, tokens, bits)) in rows.iter().enumerate() {
        assert_eq!((record.as_str(), *start, *end, strand.as_str()), ("x", t as u64, t as u64 + 1, "."));
        if t == 0 {
            // Nothing lies before it.
            assert_eq!((nll, tokens, bits), (&None, &0, &None));
            continue;
        }
        let nll = f64::from_bits(nll.unwrap());
        assert_eq!(*tokens, 1);
        assert!((f64::from_bits(bits.unwrap()) - nll / std::f64::consts::LN_2).abs() < 1e-12);
        worst = worst.max((nll - recording.exact[t]).abs());
        worst_hf = worst_hf.max((nll - recording.hf[t]).abs());
    }
    eprintln!("worst sample off by {worst_hf:.1e} from transformers, {worst:.1e} from float64");
    assert!(worst < 2e-4 && worst_hf < 2e-4, "{worst:e} {worst_hf:e}");
}

#[test]
fn windows_have_seconds_and_no_cut_changes_a_bit() {
    let recording = Recording::new();
    let samples = recording.exact.len() as u64;
    for options in [
        &["--window", "100"][..],
        &["--window", "25ms", "--stride", "10ms"],
        &["--window", "record"],
        &["--context", "64", "--window", "50"],
    ] {
        let whole = recording.rows(&[options, &["--chunk", "4096"]].concat());
        for batch in batches(&recording.path("out.parquet")) {
            let seconds = |name: &str, i: usize| {
                batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(i)
            };
            for (i, row) in whole.iter().enumerate().take(batch.num_rows()) {
                let at = |sample: u64| sample as f64 / f64::from(RATE);
                assert_eq!((seconds("start_s", i), seconds("end_s", i)), (at(row.1), at(row.2)));
            }
        }
        // Bits a sample.
        for (_, _, _, _, _, nll, tokens, bits) in &whole {
            let bits = f64::from_bits(bits.unwrap());
            let want = f64::from_bits(nll.unwrap()) / std::f64::consts::LN_2 / *tokens as f64;
            assert!((bits - want).abs() < 1e-12);
        }
        for cut in [["--chunk", "1"], ["--chunk", "7"], ["--chunk", "64"], ["--threads", "1"]] {
            assert_eq!(recording.rows(&[options, &cut].concat()), whole, "{options:?} {cut:?}");
        }
        let wav = std::fs::read(recording.path("x.wav")).unwrap();
        let args =
            ["score", "-", "--model", &recording.model, "--device", "cpu", "-q", "-o", "piped.parquet"];
        let ran = mamba_seq_with_input(recording.folder.path(), &[&args[..], options].concat(), &wav);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let numbers = |rows: &[ScoreRow]| rows.iter().map(|r| (r.1, r.2, r.5, r.6, r.7)).collect::<Vec<_>>();
        assert_eq!(numbers(&scores(&recording.path("piped.parquet"))), numbers(&whole), "{options:?}");
    }
    let whole = recording.rows(&["--window", "record"]);
    assert_eq!((whole.len(), whole[0].1, whole[0].2, whole[0].6), (1, 0, samples, samples - 1));
    let want: f64 = recording.exact.iter().filter(|v| v.is_finite()).sum();
    assert!((f64::from_bits(whole[0].5.unwrap()) - want).abs() < 1e-2);
    let said = metadata(&recording.path("out.parquet"));
    assert_eq!((said["task"].as_str(), said["modality"].as_str()), ("score", "audio"));
    let Some(python) = python_with("pyarrow") else { return };
    let program =
        "import pyarrow.parquet as pq\nt = pq.read_table('out.parquet')\nprint(t.column_names, t.num_rows)\n";
    let printed = run_python(&python, recording.folder.path(), program);
    for column in ["start_s", "end_s", "nll", "tokens", "bpb"] {
        assert!(printed.contains(column), "{printed}");
    }
}

#[test]
fn what_has_no_likelihood_or_no_track_is_refused() {
    let recording = Recording::new();
    for name in ["x.bedgraph", "x.bw", "x.bigWig"] {
        let ran = recording.score("x.wav", &["-o", name]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("a track lies along a genome, and the model reads audio"),
            "{}",
            ran.stderr
        );
        assert!(!recording.path(name).exists());
    }
    // DNA is no recording.
    std::fs::write(recording.path("x.fa"), ">a\nACGT\n").unwrap();
    let ran = recording.score("x.fa", &["-o", "no.parquet"]);
    assert!(matches!(ran.code, 1 | 2) && ran.stderr.starts_with("error: "), "{}", ran.stderr);
    assert!(!recording.path("no.parquet").exists());
}
