use std::ffi::OsString;
use std::sync::Arc;

use mseq_core::{Item, SequenceFormat};
use mseq_engine::{EngineConfig, open};
use mseq_model::Checkpoint;
use mseq_pipeline::{Counters, EmbedJob, Output, Summary};
use mseq_sink::{EmbedLayout, JOB_KEYS, RowLayout};
use mseq_source::DnaTokenizer;

use super::budget::Budget;
use super::select::Selection;
use super::{model_files, plan};
use crate::args::{EmbedArgs, EmbedPlan, OnBadRecord};
use crate::progress::Progress;
use crate::{Failure, say};

/// Bases a block of the source holds.
const BLOCK: usize = 64 << 10;

/// `mamba-seq embed`.
pub(crate) fn run(args: &EmbedArgs, quiet: bool, verbose: bool, line: &[OsString]) -> Result<(), Failure> {
    let plan = args.resolve()?;
    let checkpoint = Checkpoint::open(model_files(&args.model)?)?;
    let tokens = &checkpoint.tokens;
    let mut config = engine_config(args, &plan, &checkpoint)?;
    let budget =
        Budget::new(args.memory_limit.0, args.chunk.map(|n| n as usize), &checkpoint.shape, &config)?;
    config.chunk = budget.chunk;
    let layout = EmbedLayout {
        dim: checkpoint.shape.d_model,
        dtype: plan.embedding_dtype,
        list: plan.list_type,
        region: config.regions.is_some(),
    };
    // A missing column shows here, before a pass over the whole input.
    let layout = plan.inputs.layout(layout)?;
    if args.dry_run {
        return plan::dry_run(args, &plan, &checkpoint, &config, budget);
    }
    let opened = open(&args.device, plan.threads, &checkpoint, &config)?;

    let tokenizer = DnaTokenizer::new(&tokens.letters, tokens.unknown);
    let bytes_total = plan.inputs.bytes();
    let selection = Selection::new(args, &plan, &tokenizer, quiet)?;
    let mut source = plan.inputs.open(tokenizer, BLOCK, selection.filter(), &plan.reading)?;
    if !quiet {
        // Before the first record is read, which in reverse means that it is copied.
        scratch_note(&plan);
    }
    // The first record tells what the input is, and a file that is no sequence fails here.
    let first = source.next()?;
    let format = match &first {
        Some(Item::Begin(head)) => head.format,
        // A shard without a record says of the input what the others say.
        _ => plan.inputs.first_format()?,
    };
    if config.pool == mseq_core::Pool::None {
        plan::check_size(args, &plan, checkpoint.shape.d_model, quiet)?;
    }
    let metadata = metadata(args, &plan, &checkpoint, &config, (format, &selection), &opened.device, line)?;
    let digest = digest(&plan, &layout, &metadata);
    if verbose {
        say::line(&format!(
            "model {} ({} parameters, {} layers), {}, chunk {} tokens, window {}, pool {}, layer {}",
            checkpoint.name(),
            say::grouped(checkpoint.shape.parameters() as u64),
            checkpoint.shape.n_layer,
            opened.device,
            config.chunk,
            plan.window_text(format).0,
            plan.pool,
            args.layer,
        ));
    }
    if !quiet {
        notes(&plan, &checkpoint, &opened.device);
        resume_notes(args.resume, &plan);
    }
    let arrange = plan.reading.arrange(&config, plan.combine);
    let job = EmbedJob {
        source,
        first: first.into_iter().collect(),
        runner: opened.runner,
        engine: config,
        output: plan.output.clone(),
        layout,
        arrange,
        metadata,
        queue_bytes: budget.queue_bytes,
        digest,
        resume: args.resume,
    };
    let counters = Arc::new(Counters::default());
    let progress = Progress::start(args.progress, quiet, &counters, bytes_total);
    let result = mseq_pipeline::embed(job, &counters);
    progress.finish(result.is_ok());
    let summary = result?;
    if !quiet {
        report(&summary, &plan, &selection, checkpoint.shape.d_model);
    }
    Ok(())
}

fn engine_config(
    args: &EmbedArgs,
    plan: &EmbedPlan,
    checkpoint: &Checkpoint,
) -> Result<EngineConfig, Failure> {
    Ok(EngineConfig {
        pool: plan.pool,
        layer: args.layer,
        fasta_windows: plan.windows(mseq_core::SequenceFormat::Fasta),
        fastq_windows: plan.windows(mseq_core::SequenceFormat::Fastq),
        // The budget decides.
        chunk: 1,
        context: plan.context(checkpoint.tokens.context)?,
        regions: plan.reading.regions(),
    })
}

/// Says where reading in reverse copies records to, and how much.
fn scratch_note(plan: &EmbedPlan) {
    let Some(need) = plan.reading.scratch(&plan.inputs) else { return };
    let folder = std::env::temp_dir();
    let need = need.map_or("1 byte a base".to_owned(), |bytes| format!("up to {}", say::bytes(bytes)));
    say::note(&format!(
        "no index (.fai) for reading in reverse: a scratch copy of one record at a time in {}, {need}",
        folder.display()
    ));
}

/// What a user should know before the run, and could not see from the command line.
fn notes(plan: &EmbedPlan, checkpoint: &Checkpoint, device: &str) {
    say::note(&format!("running on {device}; this build has no CUDA engine"));
    for note in &checkpoint.notes {
        say::note(note);
    }
    if plan.inputs.skipped() > 0 {
        say::note(&format!(
            "{} skipped: not FASTA or FASTQ",
            say::count(plan.inputs.skipped() as u64, "file")
        ));
    }
    if let (Some(length), None) = (checkpoint.tokens.model_max_length, plan.context_is_given().then_some(()))
    {
        say::note(&format!(
            "the model was trained on at most {length} tokens; longer records extrapolate (see --context)"
        ));
    }
}

/// What `--resume` finds, or what goes lost without it.
fn resume_notes(resume: bool, plan: &EmbedPlan) {
    let Output::Parquet(path) = &plan.output else { return };
    match (resume, mseq_pipeline::has_checkpoint(path)) {
        (true, false) => say::note("no checkpoint of an earlier run: starting afresh"),
        (false, true) => say::note("an unfinished run is replaced; --resume would have gone on with it"),
        _ => {}
    }
}

/// What makes two runs the same job: everything that changes a row, or the columns.
fn digest(plan: &EmbedPlan, layout: &RowLayout, metadata: &[(String, String)]) -> mseq_pipeline::Digest {
    let mut digest: mseq_pipeline::Digest = metadata
        .iter()
        .filter_map(|(key, value)| {
            let key = key.strip_prefix("mamba_seq.")?;
            let key = Some(key).filter(|key| JOB_KEYS.contains(key) || *key == "shard")?;
            Some((key.to_owned(), value.clone()))
        })
        .collect();
    if !layout.kept().is_empty() {
        // With the types: a table that was written anew may have others.
        digest.insert("keep".into(), layout.kept_text());
    }
    digest.insert("input".into(), plan.inputs.names().join(" "));
    digest.insert("embedding-dtype".into(), format!("{:?}", plan.embedding_dtype).to_lowercase());
    digest.insert("list-type".into(), format!("{:?}", plan.list_type).to_lowercase());
    digest
}

/// The key-value metadata of the output.
fn metadata(
    args: &EmbedArgs,
    plan: &EmbedPlan,
    checkpoint: &Checkpoint,
    config: &EngineConfig,
    (format, selection): (SequenceFormat, &Selection),
    device: &str,
    line: &[OsString],
) -> Result<Vec<(String, String)>, Failure> {
    let (window, stride) = plan.window_text(format);
    let values = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command_text(line)),
        ("model", checkpoint.name()),
        ("model_sha256", checkpoint.files().sha256()?),
        ("modality", "dna".to_owned()),
        ("pool", plan.pool.to_string()),
        ("window", window),
        ("stride", stride),
        ("layer", args.layer.to_string()),
        ("context", config.context.map_or("whole".to_owned(), |c| c.tokens.to_string())),
        ("overlap", config.context.map_or(0, |c| c.overlap).to_string()),
        ("strand", plan.reading.strand_text().to_owned()),
        ("dtype", "f32".to_owned()),
        ("device", device.to_owned()),
        ("chunk", config.chunk.to_string()),
        ("shard", args.shard.map_or("1/1".to_owned(), |s| s.to_string())),
        ("on_bad_record", if args.on_bad_record == OnBadRecord::Skip { "skip" } else { "fail" }.to_owned()),
        ("skipped_records", selection.bad.to_string()),
        // Nothing of an embedding is drawn at random.
        ("seed", "none".to_owned()),
    ];
    let input = selection.input.clone().map(|input| ("input", input));
    let keep = args.keep.as_ref().map(|keep| ("keep", keep.to_string()));
    let combine = plan.combine.then(|| ("combine_strands", "mean".to_owned()));
    let regions = plan.reading.bed.as_ref().map(|bed| ("regions", bed.path.clone()));
    let regions_sha256 = plan.reading.digest().map(|digest| ("regions_sha256", digest));
    Ok(values
        .into_iter()
        .chain(combine)
        .chain(regions)
        .chain(regions_sha256)
        .chain(input)
        .chain(keep)
        .map(|(key, value)| (format!("mamba_seq.{key}"), value))
        .collect())
}

/// The command line as a shell would take it; user names, passwords and query strings of URLs
/// are left out.
pub(super) fn command_text(line: &[OsString]) -> String {
    let word = |word: &OsString| {
        let text = word.to_string_lossy();
        let text = match text.split_once("://") {
            Some((scheme, rest)) => {
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                let (host, path) = rest.split_once('/').map_or((rest, None), |(h, p)| (h, Some(p)));
                let host = host.rsplit_once('@').map_or(host, |(_, h)| h);
                format!("{scheme}://{host}{}", path.map_or(String::new(), |p| format!("/{p}")))
            }
            None => text.into_owned(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            text
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    let mut words = vec!["mamba-seq".to_owned()];
    words.extend(line.iter().skip(1).map(word));
    words.join(" ")
}

/// The summary after a run.
fn report(summary: &Summary, plan: &EmbedPlan, selection: &Selection, dim: usize) {
    const LINES: usize = 10;
    let tally = &summary.tally;
    for unknown in tally.unknown_in.iter().take(LINES) {
        say::line(&format!(
            "record '{}': {} of {} letters are unknown to the model (N, other IUPAC codes, gaps)",
            unknown.record,
            say::grouped(unknown.unknown),
            say::grouped(unknown.bases),
        ));
    }
    if tally.unknown_records > LINES as u64 {
        say::line(&format!(
            "{} more records have unknown letters; {} letters in all",
            say::grouped(tally.unknown_records - LINES as u64),
            say::grouped(tally.unknown),
        ));
    }
    if tally.empty > 0 {
        say::line(&format!("{} without a letter gave no row", say::count(tally.empty, "record")));
    }
    if selection.bad > 0 {
        say::line(&format!("{} with an illegal byte skipped", say::count(selection.bad, "record")));
    }
    let target = match &plan.output {
        Output::Parquet(path) => path.display().to_string(),
        Output::Stdout => "standard output".to_owned(),
    };
    let s = summary.elapsed.as_secs_f64();
    // A base of both strands is two tokens.
    let unit = if tally.tokens == tally.bases { "bases" } else { "tokens" };
    say::line(&format!(
        "{target}: {} of {dim} values ({}) from {}, {} in {} ({} {unit}/s)",
        say::count(summary.report.rows, "row"),
        say::bytes(summary.report.bytes),
        say::count(tally.records, "record"),
        say::count(tally.bases, "base"),
        say::seconds(s),
        say::grouped((tally.tokens.saturating_sub(summary.resumed_from) as f64 / s.max(1e-3)) as u64),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_and_lose_credentials() {
        let line =
            ["/usr/bin/mamba-seq", "embed", "my genome.fa", "https://me:pw@host.org/a/b.fa?key=1", "it's"];
        let line: Vec<OsString> = line.into_iter().map(OsString::from).collect();
        assert_eq!(command_text(&line), r"mamba-seq embed 'my genome.fa' https://host.org/a/b.fa 'it'\''s'");
    }
}
