//! `models verify`: a model whole against ragged chunks, and on a device against the CPU.

use std::fmt::Write;

use mseq_core::{DType, DeviceSpec, Layer, Pool, Windows};
use mseq_engine::{BatchOutput, ChunkBatch, EngineConfig, LaneSpan, Opened, Place, choose, open};
use mseq_model::Checkpoint;

use super::model_files;
use super::verify::{chunk_limit, model_limit};
use super::verify_audio::{BUILT_IN_SAMPLES, sweep, trained_limit};
use crate::{Failure, say};

/// How the tokens are cut, again and again until they end.
const CUTS: [&[usize]; 5] = [&[1], &[2, 1, 3], &[7], &[64, 1], &[1000, 13]];

/// The same for a device: such steps as `--chunk` makes there, of 1024 tokens at least.
const STEPS: [&[usize]; 2] = [&[1024], &[1280, 1024]];

/// Verifies a model: on the CPU, equal bits; on a device, equal bits of equal runs, and the rest within
/// the limits of the arithmetic.
pub(super) fn run(name: &str, tokens: usize, place: &Place, dtype: Option<DType>) -> Result<(), Failure> {
    let checkpoint = Checkpoint::open(model_files(name)?)?;
    let input = Input::new(name, &checkpoint, tokens);
    let cpu = input.open(&choose(&DeviceSpec::Cpu, None)?)?;
    match &place.cuda {
        None => {
            if let Some(why) = &place.note {
                say::note(&format!("{why}: the CPU is verified"));
            }
            input.bits(cpu)
        }
        Some(info) => {
            let has = |dtype: &DType| *dtype != DType::Bf16 || info.capability >= (8, 0);
            let dtypes = match dtype {
                Some(dtype) => vec![dtype],
                None => DType::ALL.into_iter().filter(has).collect(),
            };
            input.table(cpu, place, &dtypes)
        }
    }
}

/// A model, and the tokens that go through it.
struct Input<'a> {
    name: &'a str,
    checkpoint: &'a Checkpoint,
    ids: Vec<u32>,
    /// For a model of samples, again and again. Noise alone is nothing that such a model was trained on.
    sound: Vec<f32>,
}

impl<'a> Input<'a> {
    fn new(name: &'a str, checkpoint: &'a Checkpoint, tokens: usize) -> Self {
        let letters: Vec<u32> = match checkpoint.audio {
            Some(_) => (0..256).collect(),
            None => checkpoint.tokens.letters.values().copied().collect(),
        };
        // A linear congruential generator (Knuth's constants): the same tokens on every machine.
        let mut x = 1u64;
        let next = |_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            letters[(x >> 33) as usize % letters.len()]
        };
        let sound = if checkpoint.front().is_some() { sweep(BUILT_IN_SAMPLES) } else { Vec::new() };
        Self { name, checkpoint, ids: (0..tokens).map(next).collect(), sound }
    }

    fn open(&self, place: &Place) -> Result<Opened, Failure> {
        let config = EngineConfig {
            pool: Pool::None,
            layer: Layer::Last,
            fasta_windows: Windows::record(),
            fastq_windows: Windows::record(),
            chunk: self.ids.len(),
            context: None,
            regions: None,
            parts: None,
            grid: 1,
            audio: None,
        };
        Ok(open(place, 0, self.checkpoint, &config)?)
    }

    /// Hidden states of all tokens, in steps of the lengths of `cuts` in turn.
    fn forward(&self, opened: &mut Opened, cuts: &[usize]) -> Result<Vec<f32>, Failure> {
        let (mut out, mut at, tokens) = (Vec::new(), 0, self.ids.len());
        for &cut in cuts.iter().cycle() {
            // A device that has not the memory for all at once takes less.
            let end = (at + cut.min(opened.chunk)).min(tokens);
            let rows = 0..end - at;
            let samples: Vec<f32> = match self.checkpoint.front() {
                Some(front) => (at * front.hop..(end - 1) * front.hop + front.reach)
                    .map(|i| self.sound[i % self.sound.len()])
                    .collect(),
                None => Vec::new(),
            };
            let lane_samples = std::iter::once(0..samples.len()).collect();
            let ids = if samples.is_empty() { self.ids[at..end].to_vec() } else { Vec::new() };
            out.extend(
                opened
                    .runner
                    .run(&ChunkBatch {
                        ids,
                        samples,
                        lane_samples,
                        lanes: vec![LaneSpan { rows: rows.clone(), fresh: at == 0, slot: Some(0) }],
                        output: BatchOutput::Rows(vec![rows]),
                        keys: Vec::new(),
                        done: Vec::new(),
                    })?
                    .numbers,
            );
            at = end;
            if at == tokens {
                break;
            }
        }
        let width = self.checkpoint.shape.d_model;
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(out),
            Some(at) => {
                let (token, channel, name) = (at / width + 1, at % width, self.name);
                Err(Failure::Run(format!("{name}: hidden state {channel} of token {token} is not finite")))
            }
        }
    }

    /// On the CPU no cut may show.
    fn bits(&self, mut cpu: Opened) -> Result<(), Failure> {
        let (name, tokens) = (self.name, self.ids.len());
        let whole = self.forward(&mut cpu, &[tokens])?;
        let mut text = format!("{name}: {tokens} tokens on {}, whole against chunks\n", cpu.device);
        let mut equal = true;
        for cuts in CUTS {
            let cut = self.forward(&mut cpu, cuts)?;
            let same = same_bits(&whole, &cut);
            equal &= same;
            let verdict = match same {
                true => "equal bits".to_owned(),
                false => format!("DIFFERS, relative error {:.1e}", error(&cut, &whole)),
            };
            let _ = writeln!(text, "  chunks of {cuts:?}: {verdict}");
        }
        say::out(&text)?;
        match equal {
            true => Ok(()),
            false => Err(Failure::Run(format!("{name}: chunks change the result on this machine"))),
        }
    }

    /// On a device: a table of differences, by arithmetic.
    fn table(&self, mut cpu: Opened, place: &Place, dtypes: &[DType]) -> Result<(), Failure> {
        let (name, tokens) = (self.name, self.ids.len());
        let right = self.forward(&mut cpu, &[tokens])?;
        drop(cpu);
        let n_layer = self.checkpoint.shape.n_layer;
        let (mut text, mut breaches, mut unsound) = (String::new(), 0, 0);
        let mut device = String::new();
        for &dtype in dtypes {
            let mut opened = self.open(&Place { dtype, ..place.clone() })?;
            device.clone_from(&opened.device);
            let mut row = |what: &str, error: f64, limit: f64| {
                // Not a number is a breach too.
                let ok = error <= limit;
                breaches += u32::from(!ok);
                unsound += u32::from(!ok && (dtype == DType::F32 || limit == 0.0));
                let verdict = if ok { "ok" } else { "FAILED" };
                let _ = writeln!(text, "{dtype:<5} {what:<36} {error:>10.2e} {limit:>9.1e}  {verdict}");
            };
            let limit = match self.checkpoint.front() {
                Some(_) => trained_limit(dtype, n_layer),
                None => model_limit(dtype, n_layer),
            };
            let whole = match self.forward(&mut opened, &[tokens]) {
                // A model whose values are too large for f16 is no fault of the device.
                Err(e) if dtype == DType::F16 && dtypes.len() > 1 => {
                    let why = e.message().unwrap_or_default();
                    let _ = writeln!(text, "{dtype:<5} not run: beyond f16 ({why})");
                    continue;
                }
                whole => whole?,
            };
            row("whole against the CPU's f32", error(&whole, &right), limit);
            let again = self.forward(&mut opened, &[tokens])?;
            row("the same again (bits)", f64::from(u8::from(!same_bits(&whole, &again))), 0.0);
            // Other lengths cut the scan elsewhere, and 16-bit products then round otherwise.
            let limit = match self.checkpoint.front() {
                Some(_) => limit,
                None => chunk_limit(dtype, &self.checkpoint.shape),
            };
            for cuts in STEPS {
                let cut = self.forward(&mut opened, cuts)?;
                row(&format!("steps of {cuts:?} against whole"), error(&cut, &whole), limit);
            }
            // A state that is stored after each token is rounded more often.
            let limit = match self.checkpoint.front() {
                Some(_) => limit,
                None => (2.0 * limit).min(model_limit(dtype, n_layer)),
            };
            for cuts in CUTS {
                let cut = self.forward(&mut opened, cuts)?;
                row(&format!("cut at {cuts:?} against whole"), error(&cut, &whole), limit);
            }
        }
        say::out(&format!(
            "{name}: {tokens} tokens on {device}\n\n{:<5} {:<36} {:>10} {:>9}\n{text}",
            "dtype", "hidden states", "difference", "limit"
        ))?;
        if breaches == 0 {
            return Ok(());
        }
        let instead = advice(dtypes.contains(&DType::F32), unsound);
        Err(Failure::Run(format!(
            "{name}: {breaches} of these are beyond their limits on {device}; {instead}"
        )))
    }
}

/// What to do where some differences are beyond their limits, `unsound` of them in f32 or between two runs of
/// the same, which no rounding explains.
fn advice(ran_in_f32: bool, unsound: u32) -> &'static str {
    // A model that amplifies rounding is no fault of a device on which f32 holds.
    match ran_in_f32 && unsound == 0 {
        true => "this model in f32 is within them there: use --dtype f32",
        false => "see whether `mamba-seq doctor --verify` holds, and use --device cpu until then",
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Norm-wise difference from `right`, relative.
fn error(found: &[f32], right: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut found.iter().zip(right).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let all = norm(&mut right.iter().map(|v| f64::from(*v)));
    if found.len() == right.len() { off / all } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_is_advised_only_where_it_was_seen_to_hold() {
        assert!(advice(true, 0).contains("--dtype f32"));
        assert!(advice(true, 1).contains("--device cpu") && advice(false, 0).contains("--device cpu"));
    }

    #[test]
    fn differences_are_norm_wise() {
        let right = [3.0, 4.0];
        assert_eq!(error(&right, &right), 0.0);
        assert!((error(&[3.0, 4.5], &right) - 0.1).abs() < 1e-12);
        assert!(error(&[3.0], &right).is_nan());
        assert!(same_bits(&right, &right) && !same_bits(&[0.0], &[-0.0]));
    }
}
