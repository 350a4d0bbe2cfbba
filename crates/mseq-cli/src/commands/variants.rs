//! `mamba-seq variants`: what each alternative allele of a VCF does to a model's view of the reference.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use mseq_engine::{
    Effect, Next, Variant, VariantScorer, VariantState, WatchVariants, choose, open_variant_scorer,
};
use mseq_model::Checkpoint;
use mseq_pipeline::{Counters, Survey, VariantOutput, VariantsJob, VariantsSummary, VcfFile};
use mseq_sink::{JOB_KEYS, check_output};
use mseq_source::{DnaTokenizer, Strands};

use super::embed::command_text;
use super::model_files;
use crate::args::{OnBadRecord, VariantStrand, VariantsArgs, keep_apart};
use crate::progress::{Progress, Unit};
use crate::{Failure, say};

pub(super) fn run(args: &VariantsArgs, quiet: bool, line: &[OsString]) -> Result<(), Failure> {
    args.refuse()?;
    let output = output(args)?;
    check_output(output.path())?;
    keep_apart("-o", output.path(), [&*args.vcf, &*args.reference])?;
    let checkpoint = Checkpoint::open(model_files(&args.model)?)?;
    super::reads_dna(&checkpoint)?;
    checkpoint.config.reads_left_to_right()?;
    checkpoint.has_lm_head()?;
    let place = args.developer.at(choose(&args.device, Some(args.dtype()))?)?;
    let chunk = args.chunk.map_or_else(|| place.default_chunk(&checkpoint.shape), |n| place.step(n as usize));
    let threads = args.threads.map_or(0, |n| n as usize);
    let vcf = VcfFile::new(&args.vcf)?;
    let scorer = open_variant_scorer(&place, threads, &checkpoint, args.window, chunk)?;
    let (strands, strand) = match args.strand {
        VariantStrand::Forward => (Strands::Forward, "forward"),
        VariantStrand::Reverse => (Strands::Reverse, "reverse"),
        VariantStrand::Both => (Strands::Both, "both"),
    };
    let skip = args.on_bad_record == OnBadRecord::Skip;
    let metadata: Vec<(String, String)> = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command_text(line)),
        ("model", checkpoint.name()),
        ("model_sha256", checkpoint.files().sha256()?),
        ("modality", checkpoint.modality().to_string()),
        ("task", "variants".to_owned()),
        ("reference", args.reference.display().to_string()),
        // Of hidden states, for the distance.
        ("pool", "mean".to_owned()),
        ("layer", mseq_core::Layer::Last.to_string()),
        ("window", args.window.to_string()),
        ("stride", "none".to_owned()),
        ("context", "whole".to_owned()),
        ("overlap", "0".to_owned()),
        ("strand", strand.to_owned()),
        ("on_bad_record", if skip { "skip" } else { "fail" }.to_owned()),
        ("dtype", place.dtype.to_string()),
        ("device", scorer.device()),
        ("chunk", chunk.to_string()),
        ("seed", "none".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (format!("mamba_seq.{key}"), value))
    .collect();
    let mut digest: mseq_pipeline::Digest = metadata
        .iter()
        .filter_map(|(key, value)| {
            let key = key.strip_prefix("mamba_seq.").filter(|key| JOB_KEYS.contains(key))?;
            Some((key.to_owned(), value.clone()))
        })
        .collect();
    digest.insert("input".into(), vcf.path().to_owned());
    let device = scorer.device();
    let mut job = VariantsJob {
        vcf,
        reference: args.reference.clone(),
        window: args.window,
        strands,
        tokenizer: DnaTokenizer::new(&checkpoint.tokens.letters, checkpoint.tokens.unknown),
        scorer,
        output,
        metadata,
        digest,
        skip,
        resume: args.resume,
    };
    if args.dry_run {
        return dry_run(&mut job, &checkpoint, &device, chunk);
    }
    if !quiet {
        match &place.note {
            Some(why) => say::note(&format!("running on {device}: {why}")),
            None => say::note(&format!("running on {device}, {}", place.dtype)),
        }
        for note in &checkpoint.notes {
            say::note(note);
        }
        if let Some(tokens) = checkpoint.tokens.context {
            say::note(&format!("the model asks for pieces of {tokens} tokens; contigs are read whole here"));
        }
        match (args.resume, mseq_pipeline::has_checkpoint(job.output.path())) {
            (true, false) => say::note("no checkpoint of an earlier run: starting afresh"),
            (false, true) => {
                say::note("an unfinished run is replaced; --resume would have gone on with it");
            }
            _ => {}
        }
    }
    let target = job.output.clone();
    let counters: Arc<Counters> = Arc::default();
    let progress = Progress::start(args.progress, quiet, &counters, (None, Unit::Bases));
    let result = mseq_pipeline::variants(job, &counters);
    progress.finish(result.is_ok());
    let summary = result?;
    if !quiet {
        report(&target, &summary);
    }
    Ok(())
}

/// What an output is, by its name.
fn output(args: &VariantsArgs) -> Result<VariantOutput, Failure> {
    let Some(path) = args.named_output() else {
        return Err(Failure::Usage("standard input needs -o PATH".into()));
    };
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let ends = |endings: &[&str]| endings.iter().any(|end| name.ends_with(end));
    match () {
        () if ends(&[".parquet"]) => Ok(VariantOutput::Parquet(path)),
        () if ends(&[".vcf"]) => Ok(VariantOutput::Vcf(path)),
        () if ends(&[".vcf.gz", ".vcf.bgz"]) => Ok(VariantOutput::VcfGz(path)),
        () => Err(Failure::Usage(format!(
            "-o {}: is none of .parquet, .vcf and .vcf.gz, which are what `variants` writes",
            path.display()
        ))),
    }
}

fn report(output: &VariantOutput, summary: &VariantsSummary) {
    let counts = &summary.counts;
    let mut text = format!("{}: {}", output.path().display(), say::count(summary.rows, "row"));
    for (n, what) in [
        (counts.symbolic, "symbolic allele"),
        (counts.spanning, "spanning deletion (*)"),
        (counts.without, "record without ALT"),
        (counts.bad, "bad record"),
    ] {
        if n > 0 {
            text += &format!(", {} skipped", say::count(n, what));
        }
    }
    if counts.bad > 0 && !matches!(output, VariantOutput::Parquet(_)) {
        text += if counts.bad == 1 { " (its line is as it was)" } else { " (lines are as they were)" };
    }
    let s = summary.elapsed.as_secs_f64();
    say::line(&format!(
        "{text}; {} in {} ({} tokens/s)",
        say::count(summary.tokens, "token"),
        say::seconds(s),
        say::grouped((summary.tokens as f64 / s.max(1e-3)) as u64)
    ));
}

/// Prints what a run would do.
fn dry_run(
    job: &mut VariantsJob,
    checkpoint: &Checkpoint,
    device: &str,
    chunk: usize,
) -> Result<(), Failure> {
    let survey = job.survey()?;
    let Survey { counts, records, tokens, .. } = &survey;
    let strands = if job.strands == Strands::Both { 2 } else { 1 };
    let rate = measure(job.scorer.as_mut(), checkpoint, job.window)?;
    say::out(&format!(
        "model    {} ({} parameters, {} layers, d_model {})\n\
         device   {device}, chunk {chunk} tokens\n\
         records  {} on {}, {} of them bad\n\
         tokens   {}\n\
         rows     {}\n\
         output   {}\n\
         time     about {} ({} tokens/s measured now)\n",
        checkpoint.name(),
        say::grouped(checkpoint.parameters() as u64),
        checkpoint.shape.n_layer,
        checkpoint.shape.d_model,
        say::grouped(*records),
        say::count(survey.contigs() as u64, "contig"),
        say::grouped(counts.bad),
        say::grouped(*tokens),
        say::grouped(strands * counts.scored),
        job.output.path().display(),
        say::seconds(*tokens as f64 / rate),
        say::grouped(rate as u64),
    ))
}

/// Counts what runs, and lets it.
struct Timer(u64);

impl WatchVariants for Timer {
    fn step(&mut self, tokens: u64, _: &[(usize, Effect)]) -> Next {
        self.0 += tokens;
        Next::Go
    }

    fn save(&mut self, _: VariantState) {}
}

/// Tokens a second of this machine on this model: variants of a made-up contig for half a second.
fn measure(scorer: &mut dyn VariantScorer, checkpoint: &Checkpoint, window: u64) -> Result<f64, Failure> {
    let letters: Vec<u32> = checkpoint.tokens.letters.values().copied().collect();
    let id = |i: u64| letters[(i.wrapping_mul(i) + i / 3) as usize % letters.len()];
    let len = window.clamp(100, 2000);
    let variants: Vec<Variant> =
        (0..8).map(|i| Variant { at: i * len / 8, ref_len: 1, alt: vec![letters[0]] }).collect();
    let mut tokens = |start: u64, n: usize, ids: &mut Vec<u32>| {
        ids.clear();
        ids.extend((start..start + n as u64).map(id));
        Ok(())
    };
    let (start, mut timer) = (Instant::now(), Timer(0));
    while timer.0 == 0 || start.elapsed().as_secs_f64() < 0.5 {
        scorer.contig(len, &mut tokens, &variants, None, &mut timer)?;
    }
    Ok(timer.0 as f64 / start.elapsed().as_secs_f64())
}
