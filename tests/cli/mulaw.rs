//! A model of mu-law tokens from recordings to rows, likelihoods and WAV files, against `mulaw8/`
//! (`data/golden/mulaw.py`: a float64 scan and transformers).

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt64Type};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::SafeTensors;

use crate::common::{golden_model, mamba_seq, metadata, rows};

const RATE: u32 = 8000;
const WIDTH: usize = 20;
/// Samples of the prompt that the golden continuation has.
const PROMPT: usize = 90;

fn spec(channels: u16) -> WavSpec {
    WavSpec { channels, sample_rate: RATE, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

fn write(path: &Path, samples: &[i16]) {
    let mut writer = WavWriter::create(path, spec(1)).unwrap();
    samples.iter().for_each(|v| writer.write_sample(*v).unwrap());
    writer.finalize().unwrap();
}

fn read(path: &Path) -> Vec<i16> {
    let mut reader = WavReader::open(path).unwrap();
    assert_eq!(reader.spec(), spec(1));
    reader.samples::<i16>().map(Result::unwrap).collect()
}

/// A folder with `x.wav`, and what is expected of it.
struct Golden {
    folder: tempfile::TempDir,
    samples: Vec<i16>,
    last: Vec<f64>,
    nll: Vec<f64>,
    greedy: Vec<i16>,
}

impl Golden {
    fn new() -> Self {
        let bytes = std::fs::read(Path::new(&golden_model("mulaw8")).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let doubles = |name: &str| -> Vec<f64> {
            file.tensor(name)
                .unwrap()
                .data()
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b))
                .collect()
        };
        let shorts = |name: &str| -> Vec<i16> {
            let data = file.tensor(name).unwrap().data().as_chunks::<4>().0;
            data.iter().map(|b| i16::try_from(i32::from_le_bytes(*b)).unwrap()).collect()
        };
        let folder = tempfile::tempdir().unwrap();
        let samples = shorts("samples");
        write(&folder.path().join("x.wav"), &samples);
        write(&folder.path().join("prompt.wav"), &samples[..PROMPT]);
        Self {
            folder,
            samples,
            last: doubles("f64.last"),
            nll: doubles("f64.nll"),
            greedy: shorts("greedy_samples"),
        }
    }

    fn run(&self, args: &[&str]) -> String {
        let model = golden_model("mulaw8");
        let ran = mamba_seq(self.folder.path(), &[args, &["--model", &model, "--device", "cpu"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.stderr
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn every_sample_is_a_token_of_the_oracles() {
    let golden = Golden::new();
    golden.run(&["embed", "x.wav", "--pool", "none", "-o", "o.parquet"]);
    let found = rows(&golden.at("o.parquet"));
    assert_eq!(found.len(), golden.samples.len());
    assert!(found.iter().zip(0..).all(|(row, i)| (row.start, row.end) == (i, i + 1)));
    let meta = metadata(&golden.at("o.parquet"));
    assert_eq!((meta["modality"].as_str(), meta["sample_rate"].as_str()), ("audio", "8000"));
    let values: Vec<f64> =
        found.iter().flat_map(|row| &row.embedding).map(|bits| f64::from(f32::from_bits(*bits))).collect();
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>().sqrt();
    let off = square(&mut values.iter().zip(&golden.last).map(|(a, b)| a - b))
        / square(&mut golden.last.iter().copied());
    assert!(off < 5e-6, "{off:e}");

    // Windows in samples and times, in any steps: means of the same rows.
    golden.run(&["embed", "x.wav", "--window", "200", "-o", "w.parquet"]);
    let windows = rows(&golden.at("w.parquet"));
    assert_eq!(windows.len(), 4);
    for row in &windows {
        for c in 0..WIDTH {
            let of = &golden.last[row.start as usize * WIDTH..row.end as usize * WIDTH];
            let mean = of.iter().skip(c).step_by(WIDTH).sum::<f64>() / (row.end - row.start) as f64;
            assert!((f64::from(f32::from_bits(row.embedding[c])) - mean).abs() < 1e-5);
        }
    }
    for more in [&["--chunk", "1"][..], &["--chunk", "37", "--threads", "1"], &["--window", "25ms"]] {
        golden.run(&[&["embed", "x.wav", "--window", "200", "-o", "w2.parquet"], more].concat());
        assert_eq!(rows(&golden.at("w2.parquet")), windows, "{more:?}");
    }
}

#[test]
fn what_samples_cost_is_what_the_oracles_say() {
    let golden = Golden::new();
    golden.run(&["score", "x.wav", "--window", "100", "-o", "s.parquet"]);
    let file = std::fs::File::open(golden.at("s.parquet")).unwrap();
    let mut windows = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let starts = batch.column_by_name("start").unwrap().as_primitive::<UInt64Type>();
        let ends = batch.column_by_name("end").unwrap().as_primitive::<UInt64Type>();
        let nll = batch.column_by_name("nll").unwrap().as_primitive::<Float64Type>();
        for i in 0..batch.num_rows() {
            let of = &golden.nll[starts.value(i) as usize..ends.value(i) as usize];
            let want: f64 = of.iter().filter(|v| !v.is_nan()).sum();
            assert!((nll.value(i) - want).abs() < 2e-3, "{} and {want}", nll.value(i));
            windows += 1;
        }
    }
    assert_eq!(windows, 8);
}

#[test]
fn the_most_likely_continuation_is_that_of_the_oracles() {
    let golden = Golden::new();
    let args = ["generate", "--prompt", "prompt.wav", "--temperature", "0", "-o", "out.wav"];
    golden.run(&[&args[..], &["--tokens", "120"]].concat());
    assert_eq!(read(&golden.at("out.wav")), golden.greedy);
    assert!(!golden.at("out.wav.partial").exists());
    // In two parts, by the state between them.
    let model = golden_model("mulaw8");
    let first = [&args[..], &["--tokens", "50", "--save-state", "s.safetensors"]].concat();
    golden.run(&first);
    assert_eq!(read(&golden.at("out.wav")), golden.greedy[..50]);
    let ran = mamba_seq(
        golden.folder.path(),
        &[
            "generate",
            "--from-state",
            "s.safetensors",
            "--temperature",
            "0",
            "--tokens",
            "70",
            "-o",
            "rest.wav",
            "--model",
            &model,
            "--device",
            "cpu",
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(read(&golden.at("rest.wav")), golden.greedy[50..]);
}

#[test]
fn several_sequences_are_several_files_and_depend_on_no_batch() {
    let golden = Golden::new();
    let args = [
        "generate",
        "--prompt",
        "prompt.wav",
        "--samples",
        "3",
        "--tokens",
        "64",
        "--seed",
        "5",
        "-o",
        "d.wav",
    ];
    golden.run(&args);
    let files = || ["d.1.wav", "d.2.wav", "d.3.wav"].map(|name| read(&golden.at(name)));
    let want = files();
    assert!(want[0] != want[1] && want[1] != want[2] && want.iter().all(|samples| samples.len() == 64));
    assert!(!golden.at("d.wav").exists());
    for more in [&["--batch", "1"][..], &["--batch", "2", "--threads", "1"], &["--chunk", "7"]] {
        golden.run(&[&args[..], more].concat());
        assert_eq!(files(), want, "{more:?}");
    }
}

#[test]
fn what_is_no_prompt_is_one_line_and_leaves_nothing() {
    let golden = Golden::new();
    write(&golden.at("none.wav"), &[]);
    std::fs::write(golden.at("x.fa"), ">a\nACGT\n").unwrap();
    std::fs::write(golden.at("text.wav"), "no sound\n").unwrap();
    let model = golden_model("mulaw8");
    let before = std::fs::read_dir(golden.folder.path()).unwrap().count();
    for (args, code, words) in [
        (&["--prompt", "none.wav", "-o", "o.wav"][..], 1, &["none.wav", "no samples"][..]),
        (&["--prompt", "x.fa", "-o", "o.wav"], 2, &["x.fa", "FASTA"]),
        (&["--prompt", "text.wav", "-o", "o.wav"], 1, &["text.wav", "not audio"]),
        (&["--prompt-text", "ACGT", "-o", "o.wav"], 2, &["--prompt-text", "audio"]),
        (&["--prompt", "x.wav"], 2, &["-o OUT.wav"]),
        (&["--prompt", "x.wav", "-o", "o.wav", "--tokens", "3000000000"], 2, &["WAV file holds at most"]),
        (&["--prompt", "gone.wav", "-o", "o.wav"], 1, &["gone.wav"]),
        (&["--prompt", "x.wav", "-o", "no/o.wav"], 1, &["folder 'no' does not exist"]),
    ] {
        let ran = mamba_seq(golden.folder.path(), &[&["generate", "--model", &model], args].concat());
        assert_eq!((ran.code, ran.stderr.lines().count()), (code, 1), "{args:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
        }
        assert_eq!(std::fs::read_dir(golden.folder.path()).unwrap().count(), before, "{args:?}");
    }
}
