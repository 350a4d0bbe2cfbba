//! `mamba-seq bench --generate`: tokens a second of generation, with and without the reading of prompts.

use std::fmt::Write;
use std::time::Instant;

use mseq_engine::{Generate, GenerateConfig, Place, Sampling, choose, open_generator};
use mseq_model::{Checkpoint, MambaShape};
use mseq_testkit::Random;
use serde_json::json;

use crate::args::BenchArgs;
use crate::{Failure, say};

/// One batch size.
struct Measured {
    batch: usize,
    /// Of each run: reading the prompts, drawing the tokens.
    seconds: Vec<(f64, f64)>,
}

pub(super) fn run(args: &BenchArgs, quiet: bool) -> Result<(), Failure> {
    let place = args.developer.at(choose(&args.device, args.dtype())?)?;
    if let (Some(why), false) = (&place.note, quiet) {
        say::note(&format!("running on the cpu: {why}"));
    }
    let (model, checkpoint) = super::model(args)?;
    let chunk = args.chunk.map_or_else(|| place.default_chunk(&checkpoint.shape), |n| place.step(n as usize));
    let threads = args.threads.map_or(0, |n| n as usize);
    let (prompt, new) = (args.prompt_tokens as usize, args.new_tokens as usize);
    let mut measured = Vec::new();
    let mut device = String::new();
    for &batch in &args.batch {
        let batch = batch as usize;
        let sampling = Sampling { temperature: args.temperature, top_k: 0, top_p: args.top_p, seed: 1 };
        let config = GenerateConfig { lanes: batch, sampling, allowed: None, chunk, block: new };
        let mut generator = open_generator(&place, threads, &checkpoint, config)?;
        device = generator.device();
        let prompts = prompts(&checkpoint, batch, prompt);
        let lanes: Vec<usize> = (0..batch).collect();
        // Once for what is made at first use: tables, plans of products, the recording of a step.
        once(generator.as_mut(), &prompts, &lanes, new)?;
        let runs = (0..args.repeats).map(|_| once(generator.as_mut(), &prompts, &lanes, new));
        measured.push(Measured { batch, seconds: runs.collect::<Result<_, _>>()? });
    }
    let report = Report { model, shape: checkpoint.shape, device, place, args, chunk, measured };
    say::out(&if args.json { report.json() } else { report.table() })
}

/// Random prompts, each another.
fn prompts(checkpoint: &Checkpoint, batch: usize, len: usize) -> Vec<Vec<u32>> {
    let mut random = Random::new(1);
    let last = checkpoint.shape.vocab - 1;
    (0..batch).map(|_| (0..len).map(|_| random.between(0, last) as u32).collect()).collect()
}

fn once(
    generator: &mut dyn Generate,
    prompts: &[Vec<u32>],
    lanes: &[usize],
    new: usize,
) -> Result<(f64, f64), Failure> {
    let start = Instant::now();
    // Comes back when the prompts are read: the first tokens are then sent, and that waits.
    generator.prompt(prompts, lanes, 0)?;
    let read = start.elapsed().as_secs_f64();
    let drawn = generator.next(new)?;
    let whole = start.elapsed().as_secs_f64();
    if drawn.len() != new * lanes.len() {
        return Err(Failure::Run("the engine gave another number of tokens".into()));
    }
    Ok((read, whole - read))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

impl Measured {
    /// Medians: reading, drawing, both.
    fn medians(&self) -> [f64; 3] {
        let of = |get: fn(&(f64, f64)) -> f64| median(self.seconds.iter().map(get).collect());
        [of(|s| s.0), of(|s| s.1), of(|s| s.0 + s.1)]
    }
}

struct Report<'a> {
    model: String,
    shape: MambaShape,
    device: String,
    place: Place,
    args: &'a BenchArgs,
    chunk: usize,
    measured: Vec<Measured>,
}

impl Report<'_> {
    fn table(&self) -> String {
        let (s, args) = (&self.shape, self.args);
        let mut text = format!(
            "model   {}: {} x {}, {} states, vocabulary {}, {} parameters\ndevice  {}, {}\n\
             work    prompts of {} tokens, {} new tokens each, {}; median of {}\n\n",
            self.model,
            s.d_model,
            s.n_layer,
            s.d_state,
            say::grouped(s.vocab as u64),
            say::grouped(s.parameters() as u64),
            self.device,
            self.place.dtype,
            say::grouped(args.prompt_tokens),
            say::grouped(args.new_tokens),
            if args.temperature == 0.0 {
                "greedy".to_owned()
            } else {
                format!("temperature {}", args.temperature)
            },
            say::count(args.repeats, "run"),
        );
        text += "batch   prompts tok/s   new tok/s, whole run   new tok/s, decode alone   ms a step\n";
        for m in &self.measured {
            let [read, draw, whole] = m.medians();
            let new = (m.batch as u64 * args.new_tokens) as f64;
            let rate = |n: f64, s: f64| say::grouped((n / s) as u64);
            let prompts = rate((m.batch as u64 * args.prompt_tokens) as f64, read);
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "{:<7} {prompts:>13}   {:>20}   {:>23}   {:>9.3}",
                m.batch,
                rate(new, whole),
                rate(new, draw),
                1e3 * draw / args.new_tokens as f64
            );
        }
        text
    }

    fn json(&self) -> String {
        let (s, args) = (&self.shape, self.args);
        let runs: Vec<_> = self
            .measured
            .iter()
            .map(|m| {
                let [read, draw, whole] = m.medians();
                let new = (m.batch as u64 * args.new_tokens) as f64;
                json!({
                    "batch": m.batch,
                    "prompt_s": read,
                    "decode_s": draw,
                    "whole_s": whole,
                    "prompt_tokens_per_s": (m.batch as u64 * args.prompt_tokens) as f64 / read,
                    "whole_tokens_per_s": new / whole,
                    "decode_tokens_per_s": new / draw,
                    "runs_s": m.seconds.iter().map(|&(read, draw)| json!([read, draw])).collect::<Vec<_>>(),
                })
            })
            .collect();
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.model,
            "shape": {
                "d_model": s.d_model, "n_layer": s.n_layer, "d_inner": s.d_inner, "d_state": s.d_state,
                "vocab": s.vocab, "parameters": s.parameters(),
            },
            "device": self.device,
            "dtype": self.place.dtype.to_string(),
            "prompt_tokens": args.prompt_tokens,
            "new_tokens": args.new_tokens,
            "temperature": args.temperature,
            "top_p": args.top_p,
            "chunk": self.chunk,
            "repeats": args.repeats,
            "generate": runs,
        });
        format!("{value:#}\n")
    }
}
