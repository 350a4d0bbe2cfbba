//! `--dry-run`, and the check of huge outputs.

use std::time::Instant;

use mseq_core::{Item, Pool, Signal, Windows};
use mseq_engine::{BatchOutput, ChunkBatch, EngineConfig, Place, open};
use mseq_model::Checkpoint;
use mseq_pipeline::Output;
use mseq_source::{CountBy, DnaTokenizer, Strands};

use super::budget::Budget;
use super::select::Selection;
use crate::args::{JobArgs, JobPlan, Task};
use crate::{Failure, say};

/// Above this, `--pool none` needs `--yes`.
const LARGE: u64 = 100_000_000_000;

/// Bytes of a row beside its numbers: coordinates are delta-coded, texts are in dictionaries.
const KEY_BYTES: u64 = 4;

/// What a run reads and writes.
#[derive(Default)]
struct Sizes {
    records: u64,
    /// Through the model, both strands counted.
    tokens: u64,
    rows: u64,
    /// Bases of the longest record, as far as it is read.
    longest: u64,
}

/// Counts in a pass over the input. With intervals it reads what the run would, and fails where
/// that would; else it only counts letters.
fn sizes(plan: &JobPlan, selection: &Selection, tokenizer: &DnaTokenizer) -> Result<Sizes, Failure> {
    let windows = match Windows::tiled(1, 1).filter(|_| plan.pool == Pool::None) {
        Some(tokens) => tokens,
        None => plan.windows(plan.inputs.first_format()?),
    };
    let each = plan.reading.rows_a_window(plan.combine);
    let mut sizes = Sizes::default();
    let Some(bed) = &plan.reading.bed else {
        if let Some(audio) = &plan.audio {
            return Ok(audio_sizes(audio, plan, selection, &plan.inputs.count(CountBy::Decoding)?));
        }
        let counted;
        let lengths = match &selection.lengths {
            Some(lengths) => lengths,
            None => {
                counted =
                    plan.inputs.count(CountBy::Decoding)?.lengths.into_iter().map(Some).collect::<Vec<_>>();
                &counted
            }
        };
        let strands = if plan.reading.strands == Strands::Both { 2 } else { 1 };
        for (record, len) in (0..).zip(lengths) {
            let Some((starts, end)) = len.and_then(|len| selection.of(record, len)) else { continue };
            let stride = windows.stride().unwrap_or(u64::MAX);
            let count = windows.count(len.unwrap_or(0));
            let rows = count.min(starts.end.div_ceil(stride)) - count.min(starts.start.div_ceil(stride));
            let tokens = end - starts.start.min(end);
            sizes.records += 1;
            sizes.tokens += strands * tokens;
            sizes.rows += each * rows;
            sizes.longest = sizes.longest.max(tokens);
        }
        return Ok(sizes);
    };
    // Of no single device: what all of them take.
    let filter = selection.filter(usize::MAX);
    let mut source = plan.inputs.open(tokenizer.clone(), 1 << 16, filter, &plan.reading)?;
    let mut last = None;
    while let Some(item) = source.next()? {
        match item {
            Item::Begin(head) if last.replace(head.index) != Some(head.index) => {
                sizes.records += 1;
                let spans = bed.set.of(&head.id).iter().map(|i| windows.count(i.end - i.start));
                sizes.rows += each * spans.sum::<u64>();
            }
            Item::End(tail) => {
                sizes.tokens += tail.bases;
                sizes.longest = sizes.longest.max(tail.bases);
            }
            _ => {}
        }
    }
    Ok(sizes)
}

/// Tokens and rows of recordings.
fn audio_sizes(
    audio: &crate::args::AudioPlan,
    plan: &JobPlan,
    selection: &Selection,
    counts: &mseq_source::Counts,
) -> Sizes {
    let mut sizes = Sizes::default();
    for ((&samples, &rate), record) in counts.lengths.iter().zip(&counts.rates).zip(0..) {
        let Some((starts, _)) = selection.of(record, samples) else { continue };
        let of_model = u128::from(samples) * u128::from(audio.options.model_rate.get());
        let of_model = u64::try_from(of_model.div_ceil(u128::from(rate.get()))).unwrap_or(u64::MAX);
        let tokens = audio.config.front.map_or(of_model, |front| front.frames(of_model));
        let windows = audio.config.windows.at(rate);
        // Of a part of a recording those windows whose first token is in it.
        let signal = Signal { rate, model_rate: audio.options.model_rate, hop: audio.options.hop };
        let begin = |token: u64| match (token.checked_sub(1), windows.stride()) {
            (Some(before), Some(stride)) => signal.sample_of(before) / stride + 1,
            _ => 0,
        };
        let rows = match starts.end {
            u64::MAX => windows.count(samples).saturating_sub(begin(starts.start)),
            end => begin(end).saturating_sub(begin(starts.start)),
        };
        let tokens = starts.end.min(tokens).saturating_sub(starts.start);
        sizes.records += 1;
        sizes.tokens += tokens;
        sizes.rows += if plan.pool == Pool::None { tokens } else { rows.min(tokens) };
        sizes.longest = sizes.longest.max(samples);
    }
    sizes
}

/// Bytes of a row of `dim` numbers, before compression.
fn row_bytes(plan: &JobPlan, dim: usize) -> u64 {
    let dim = dim as u64;
    KEY_BYTES
        + match &plan.task {
            Task::Embed { dtype: mseq_core::EmbeddingDType::F16, .. } => 2 * dim,
            Task::Embed { .. } => 4 * dim,
            // Likelihood, count and bits.
            Task::Score => 24,
            Task::Classify { .. } => 4 * dim + 8,
        }
}

/// Says how large a file of one row a token becomes, and refuses beyond 100 GB without `--yes`.
pub(super) fn check_size(
    args: &JobArgs,
    plan: &JobPlan,
    selection: &Selection,
    dim: usize,
    quiet: bool,
) -> Result<(), Failure> {
    let each = row_bytes(plan, dim);
    if plan.inputs.reads_once() && plan.reading.bed.is_none() {
        if !quiet {
            say::note(&format!(
                "--pool none: one row a token, about {} a million tokens",
                say::bytes(each * 1_000_000)
            ));
        }
        return Ok(());
    }
    let bases = match &plan.reading.bed {
        Some(bed) => bed.set.intervals().iter().map(|i| i.end - i.start).fold(0, u64::saturating_add),
        None => {
            let counts = plan.inputs.count(CountBy::Headers)?;
            plan.audio.map_or(counts.bases, |audio| audio_sizes(&audio, plan, selection, &counts).rows)
        }
    };
    let rows = bases.saturating_mul(plan.reading.rows_a_window(plan.combine));
    let bytes = rows.saturating_mul(each);
    if bytes > LARGE && !args.yes {
        return Err(Failure::Usage(format!(
            "--pool none gives {} of {} before compression; add --yes to write it, or pool",
            say::count(rows, "row"),
            say::bytes(bytes)
        )));
    }
    if !quiet {
        say::note(&format!("--pool none: {} of up to {}", say::count(rows, "row"), say::bytes(bytes)));
    }
    Ok(())
}

/// Prints what a run would do.
pub(super) fn dry_run(
    args: &JobArgs,
    plan: &JobPlan,
    checkpoint: &Checkpoint,
    config: &EngineConfig,
    (budget, dim): (Budget, usize),
    places: &[Place],
) -> Result<(), Failure> {
    if plan.inputs.reads_once() {
        return Err(Failure::Usage(
            "--dry-run reads the input to count it, and a pipe can't be read twice; give a file".into(),
        ));
    }
    let [place, ..] = places else { return Err(Failure::Run("no device".into())) };
    let tokenizer = DnaTokenizer::new(&checkpoint.tokens.letters, checkpoint.tokens.unknown);
    let selection = Selection::new(args, plan, config, &tokenizer, (true, places.len()))?;
    let sizes = sizes(plan, &selection, &tokenizer)?;
    let scratch = match plan.reading.scratch(&plan.inputs) {
        None => "none".to_owned(),
        Some(need) => {
            let need = need.map_or(sizes.longest, |most| most.min(sizes.longest));
            format!("{} in {}", say::bytes(need), std::env::temp_dir().display())
        }
    };
    let shape = checkpoint.shape;
    let row_bytes = row_bytes(plan, dim);
    let memory = 4 * shape.parameters() as u64 + budget.total;
    let (device, rate) = measure(plan, checkpoint, config, place)?;
    // The devices work side by side, and the one with the most bases ends last.
    let (most, sum) = (selection.loads.iter().max(), selection.loads.iter().sum::<u64>().max(1));
    let share = most.map_or(1.0, |most| *most as f64 / sum as f64);
    let balance = match selection.loads.len() {
        0 => String::new(),
        n => format!(
            "balance  {} bases on the devices, {:.1} % of even\n",
            selection.loads.iter().map(|&bases| say::grouped(bases)).collect::<Vec<_>>().join(" + "),
            100.0 / (share * n as f64),
        ),
    };
    let more = match places.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let target = match &plan.output {
        Output::Parquet(path) | Output::Track(path, _) | Output::Log(path) => path.display().to_string(),
        Output::Stdout => "standard output (Arrow IPC stream)".to_owned(),
    };
    say::out(&format!(
        "model    {} ({} parameters, {} layers, d_model {})\n\
         device   {device}{more}, chunk {} tokens\n{balance}\
         records  {}\n\
         tokens   {}\n\
         rows     {}\n\
         output   {target}, up to {}{}\n\
         memory   about {}\n\
         scratch  {scratch}\n\
         time     about {} ({} tokens/s{} measured now)\n",
        checkpoint.name(),
        say::grouped(checkpoint.parameters() as u64),
        shape.n_layer,
        shape.d_model,
        config.chunk,
        say::grouped(sizes.records),
        say::grouped(sizes.tokens),
        say::grouped(sizes.rows),
        say::bytes(sizes.rows * row_bytes),
        if plan.inputs.keeps() { ", and the kept columns" } else { "" },
        say::bytes(memory),
        say::seconds(sizes.tokens as f64 * share / rate),
        say::grouped(rate as u64),
        if places.len() > 1 { " a device" } else { "" },
    ))
}

/// Tokens a second of this machine on this model: a warm step, then steps for half a second.
fn measure(
    plan: &JobPlan,
    checkpoint: &Checkpoint,
    config: &EngineConfig,
    place: &Place,
) -> Result<(String, f64), Failure> {
    let mut opened = open(place, plan.threads, checkpoint, config)?;
    let letters: Vec<u32> = match checkpoint.audio {
        Some(_) => (0..256).collect(),
        None => checkpoint.tokens.letters.values().copied().collect(),
    };
    // A CUDA device needs a whole step to show what it can.
    let rows = if place.cuda.is_some() { opened.chunk } else { config.chunk.min(2048) };
    // Any fixed walk over the letters will do: time does not depend on them.
    let ids = (0..rows).map(|i| letters[(i * i + i / 3) % letters.len()]).collect();
    let samples = vec![0.5; checkpoint.front().map_or(0, |front| front.samples(rows))];
    let lanes = vec![mseq_engine::LaneSpan { rows: 0..rows, fresh: true, slot: None }];
    let batch = ChunkBatch {
        ids: if checkpoint.front().is_some() { Vec::new() } else { ids },
        lane_samples: std::iter::once(0..samples.len()).collect(),
        samples,
        lanes,
        output: BatchOutput::Rows(Vec::new()),
        keys: Vec::new(),
        done: Vec::new(),
    };
    opened.runner.run(&batch)?;
    let (start, mut steps) = (Instant::now(), 0u32);
    while steps == 0 || start.elapsed().as_secs_f64() < 0.5 {
        opened.runner.run(&batch)?;
        steps += 1;
    }
    Ok((opened.device, f64::from(steps) * rows as f64 / start.elapsed().as_secs_f64()))
}
