use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use mseq_core::{DType, Item, Layer, SequenceFormat};
use mseq_engine::{Classified, EngineConfig, Place, choose_all, open};
use mseq_model::Checkpoint;
use mseq_pipeline::{Counters, EmbedJob, Output, Summary, Track};
use mseq_sink::{Body, ClassLayout, EmbedLayout, JOB_KEYS, NumberLayout, RowLayout, ScoreLayout};
use mseq_source::{DnaTokenizer, Strands};

use super::budget::Budget;
use super::head::Chosen;
use super::plan;
use super::select::Selection;
use crate::args::{InputPlan, JobArgs, JobPlan, OnBadRecord, Task};
use crate::progress::{Progress, Unit};
use crate::{Failure, say};

/// Bases a block of the source holds.
const BLOCK: usize = 64 << 10;
/// Samples of it: four bytes each, and hundreds a token.
const SOUND_BLOCK: usize = 16 << 10;

/// Most recordings that are decoded at once for a device; each may hold 4 MiB of samples.
const MOST_DECODERS: usize = 8;
/// Bytes that wait between the stages of a CPU job on recordings: decoding is fast enough that more would
/// only fill, which a recording of a minute does not do and one of an hour does.
const SOUND_QUEUE: usize = 1 << 20;

/// `mamba-seq embed`, `score` and `classify`.
pub(crate) fn run(
    args: &JobArgs,
    checkpoint: Checkpoint,
    mut plan: JobPlan,
    quiet: bool,
    verbose: bool,
    line: &[OsString],
) -> Result<(), Failure> {
    let chosen = match &plan.task {
        Task::Classify { head, .. } => Some(Chosen::open(head.as_deref(), &checkpoint)?),
        Task::Embed { .. } | Task::Score => None,
    };
    if let Some(chosen) = &chosen {
        (plan.pool, plan.layer) = (chosen.pool, chosen.layer);
    }
    if plan.task == Task::Score {
        // Now, and not after the input was read.
        checkpoint.config.reads_left_to_right()?;
        checkpoint.has_lm_head()?;
    }
    let tokens = &checkpoint.tokens;
    let mut config = engine_config(&plan, &checkpoint)?;
    let places = choose_all(&args.device, args.dtype())?;
    let places: Vec<Place> =
        places.into_iter().map(|place| args.developer.at(place)).collect::<Result<_, _>>()?;
    let Some(place) = places.first() else { return Err(Failure::Run("no device".into())) };
    let (limit, chunk) = (args.memory_limit.map(|size| size.0), args.chunk.map(|n| place.step(n as usize)));
    let budget = Budget::new(limit, chunk, &checkpoint.shape, &config, place)?;
    config.chunk = budget.chunk;
    let layout = body(&plan, &checkpoint, chosen.as_ref(), config.regions.is_some());
    // A missing column shows here, before a pass over the whole input.
    let layout = plan.inputs.layout(layout)?;
    let output = several(&plan, args, places.len())?;
    if args.dry_run {
        return plan::dry_run(args, &plan, &checkpoint, &config, (budget, layout.dim()), &places);
    }
    let mut opened = Vec::new();
    for place in &places {
        let mut one = open(place, plan.threads, &checkpoint, &config)?;
        if let Some(chosen) = &chosen {
            one.runner = Box::new(Classified::new(one.runner, Arc::clone(&chosen.head))?);
        }
        opened.push(one);
        // The same step on every device.
        config.chunk = config.chunk.min(opened.last().map_or(config.chunk, |opened| opened.chunk));
    }
    let device = opened.iter().map(|opened| opened.device.as_str()).collect::<Vec<_>>().join(", ");
    config.grid = opened.iter().map(|opened| opened.grid).max().unwrap_or(1).min(config.chunk);

    if plan.leaves_gaps() && matches!(plan.output, Output::Track(_, Track::BigWig { .. })) {
        let whole = whole_lengths(&plan)?;
        if let Output::Track(_, Track::BigWig { lengths }) = &mut plan.output {
            *lengths = whole;
        }
    }
    let tokenizer = DnaTokenizer::new(&tokens.letters, tokens.unknown);
    let bytes_total = plan.inputs.bytes();
    let selection = Selection::new(args, &plan, &config, &tokenizer, (quiet, places.len()))?;
    config.parts = selection.parts();
    // On the CPU all threads are the model's.
    let decoders = match places.iter().any(|place| place.cuda.is_some()) {
        true => {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            decoders(places.len(), plan.threads, cores)
        }
        false => 0,
    };
    let mut sources = Vec::new();
    for i in 0..places.len() {
        let block = if plan.audio.is_some() { SOUND_BLOCK } else { BLOCK };
        let source = plan.inputs.open(tokenizer.clone(), block, selection.filter(i), &plan.reading)?;
        sources.push(source.with_threads(decoders));
    }
    if !quiet {
        // Before the first record is read, which in reverse means that it is copied.
        scratch_note(&plan);
    }
    // The first record tells what the input is, and a file that is no sequence fails here.
    let first = sources.iter_mut().map(|source| source.next()).collect::<Result<Vec<_>, _>>()?;
    let format = match &first[0] {
        Some(Item::Begin(head)) => head.format,
        // A shard without a record says of the input what the others say.
        _ => plan.inputs.first_format()?,
    };
    if config.pool == mseq_core::Pool::None {
        plan::check_size(args, &plan, &selection, layout.dim(), quiet)?;
    }
    let mut metadata =
        metadata(args, &plan, &checkpoint, &config, (format, &selection), (&device, place.dtype), line)?;
    if let Some(chosen) = &chosen {
        let sha256 = chosen.sha256.clone().unwrap_or_else(|| "the model's own".to_owned());
        metadata.push(("mamba_seq.head_sha256".into(), sha256));
        if let Some(classes) = chosen.head.classes() {
            let classes = serde_json::to_string(classes);
            let classes = classes.map_err(|e| Failure::Run(format!("internal: {e}")))?;
            metadata.push(("mamba_seq.classes".into(), classes));
        }
    }
    let digest = digest(&plan, &layout, &metadata);
    if verbose {
        say::line(&format!(
            "model {} ({} parameters, {} layers), {device}, chunk {} tokens, window {}, pool {}, layer {}",
            checkpoint.name(),
            say::grouped(checkpoint.parameters() as u64),
            checkpoint.shape.n_layer,
            config.chunk,
            plan.window_text(format).0,
            plan.pool,
            plan.layer,
        ));
    }
    if !quiet {
        notes(&plan, &checkpoint, &device, place);
        if config.chunk < budget.chunk {
            say::note(&format!("the device has not the memory for more: steps of {} tokens", config.chunk));
        }
        // Devices of a job hear the same of their kernels.
        if let Some(note) = opened.iter().find_map(|opened| opened.note.as_deref()) {
            say::note(note);
        }
        resume_notes(args.resume, &plan, places.len());
    }
    let arrange = plan.reading.arrange(&config, plan.combine);
    let parts = places.len();
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    // Rows of a CPU come slowly, and a second encoder would be seen in its peak memory.
    let most = if place.cuda.is_some() { usize::MAX } else { 1 };
    let queue_bytes = match (&plan.audio, &place.cuda) {
        (Some(_), None) => budget.queue_bytes.min(SOUND_QUEUE),
        _ => budget.queue_bytes,
    };
    let encoders = if plan.threads == 0 { cores() } else { plan.threads }.min(most);
    let jobs: Vec<EmbedJob> = opened
        .into_iter()
        .zip(sources)
        .zip(first)
        .enumerate()
        .map(|(i, ((opened, source), first))| {
            let mut digest = digest.clone();
            let output = match &output {
                None => plan.output.clone(),
                Some(output) => {
                    digest.insert("device-part".into(), format!("{}/{parts}", i + 1));
                    mseq_pipeline::part_output(output, i)
                }
            };
            EmbedJob {
                source,
                first: first.into_iter().collect(),
                runner: opened.runner,
                engine: config.clone(),
                output,
                layout: layout.clone(),
                arrange,
                metadata: metadata.clone(),
                queue_bytes,
                encoders,
                ahead: place.cuda.is_some(),
                digest,
                resume: args.resume,
            }
        })
        .collect();
    let counters: Vec<Arc<Counters>> = jobs.iter().map(|_| Arc::default()).collect();
    let all = match &counters[..] {
        [one] => Arc::clone(one),
        parts => {
            let strands = if plan.reading.strands == Strands::Both { 2 } else { 1 };
            Arc::new(Counters::of_parts(parts.to_vec(), strands * selection.total))
        }
    };
    let unit = plan.audio.map_or(Unit::Bases, |audio| Unit::Sound {
        hop: audio.options.hop.get().into(),
        rate: audio.options.model_rate.get(),
    });
    let progress = Progress::start(args.progress, quiet, &all, (bytes_total, unit));
    let result = match (&output, jobs) {
        (Some(output), jobs) => {
            let whole =
                mseq_pipeline::Whole { output, layout: layout.clone(), metadata: &metadata, encoders };
            mseq_pipeline::embed_many(jobs, &counters, whole)
        }
        (None, mut jobs) => match jobs.pop() {
            Some(job) => mseq_pipeline::embed(job, &all),
            None => return Err(Failure::Run("no device".into())),
        },
    };
    progress.finish(result.is_ok());
    let summary = result?;
    if !quiet {
        report(&summary, &plan, &selection, layout.dim());
    }
    Ok(())
}

/// The columns of the command.
fn body(plan: &JobPlan, checkpoint: &Checkpoint, chosen: Option<&Chosen>, region: bool) -> Body {
    let seconds = plan.audio.is_some();
    match &plan.task {
        Task::Embed { dtype, list } => {
            EmbedLayout { dim: checkpoint.shape.d_model, dtype: *dtype, list: *list, region, seconds }.into()
        }
        Task::Score => ScoreLayout { region, seconds }.into(),
        Task::Classify { list, .. } => match chosen.map(Chosen::classes) {
            Some(None) => NumberLayout { region, seconds }.into(),
            classes => {
                let classes = classes.flatten().unwrap_or_else(|| Arc::from([]));
                ClassLayout { classes, list: *list, region, seconds }.into()
            }
        },
    }
}

/// The file that several devices write together; `None` for one device.
///
/// # Errors
/// When they can't: their rows meet in logs beside a file, by record.
fn several(plan: &JobPlan, args: &JobArgs, devices: usize) -> Result<Option<PathBuf>, Failure> {
    if devices == 1 {
        return Ok(None);
    }
    let refuse = |what: &str| Failure::Usage(format!("--device {}: several devices {what}", args.device));
    if plan.inputs.reads_once() {
        return Err(refuse("need an input that can be read twice; give a file"));
    }
    if args.keep.is_some() {
        return Err(refuse("do not carry columns of a table yet; use one device, or --shard and merge"));
    }
    match &plan.output {
        Output::Parquet(path) if mseq_sink::RowLog::can_log(path) => Ok(Some(path.clone())),
        _ => Err(refuse("write a file; give -o PATH")),
    }
}

/// Threads that decode recordings for each of so many devices, of `threads` in all (0: one a core): one is left
/// for what packs steps.
fn decoders(devices: usize, threads: usize, cores: usize) -> usize {
    let threads = if threads > 0 { threads } else { cores };
    (threads / devices.max(1)).saturating_sub(1).min(MOST_DECODERS)
}

fn engine_config(plan: &JobPlan, checkpoint: &Checkpoint) -> Result<EngineConfig, Failure> {
    Ok(EngineConfig {
        pool: plan.pool,
        layer: plan.layer,
        fasta_windows: plan.windows(mseq_core::SequenceFormat::Fasta),
        fastq_windows: plan.windows(mseq_core::SequenceFormat::Fastq),
        // The budget decides.
        chunk: 1,
        context: plan.context(checkpoint.tokens.context)?,
        regions: plan.reading.regions(),
        // The selection decides.
        parts: None,
        grid: 1,
        audio: plan.audio.map(|audio| audio.config),
    })
}

/// Says where reading in reverse copies records to, and how much.
fn scratch_note(plan: &JobPlan) {
    let Some(need) = plan.reading.scratch(&plan.inputs) else { return };
    let folder = std::env::temp_dir();
    let need = need.map_or("1 byte a base".to_owned(), |bytes| format!("up to {}", say::bytes(bytes)));
    say::note(&format!(
        "no index (.fai) for reading in reverse: a scratch copy of one record at a time in {}, {need}",
        folder.display()
    ));
}

/// What a user should know before the run, and could not see from the command line.
fn notes(plan: &JobPlan, checkpoint: &Checkpoint, device: &str, place: &Place) {
    match &place.note {
        Some(why) => say::note(&format!("running on {device}: {why}")),
        None => say::note(&format!("running on {device}, {}", place.dtype)),
    }
    for note in &checkpoint.notes {
        say::note(note);
    }
    if plan.inputs.skipped() > 0 {
        say::note(&format!(
            "{} skipped: not {}",
            say::count(plan.inputs.skipped() as u64, "file"),
            if plan.audio.is_some() { "audio" } else { "FASTA or FASTQ" }
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
fn resume_notes(resume: bool, plan: &JobPlan, devices: usize) {
    let (Output::Parquet(path) | Output::Track(path, _)) = &plan.output else { return };
    let has = match devices {
        1 => mseq_pipeline::has_checkpoint(path),
        n => (0..n).any(|i| match mseq_pipeline::part_output(path, i) {
            Output::Log(part) => mseq_pipeline::has_checkpoint(&part),
            _ => false,
        }),
    };
    match (resume, has) {
        (true, false) => say::note("no checkpoint of an earlier run: starting afresh"),
        (false, true) => say::note("an unfinished run is replaced; --resume would have gone on with it"),
        _ => {}
    }
}

/// What makes two runs the same job: everything that changes a row, or the columns.
fn digest(plan: &JobPlan, layout: &RowLayout, metadata: &[(String, String)]) -> mseq_pipeline::Digest {
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
    let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    match &plan.task {
        Task::Embed { dtype, list } => {
            digest.insert("embedding-dtype".into(), lower(dtype));
            digest.insert("list-type".into(), lower(list));
        }
        Task::Classify { list, .. } => drop(digest.insert("list-type".into(), lower(list))),
        Task::Score => {}
    }
    digest
}

/// Bases of each record, which rows with gaps between them do not tell.
fn whole_lengths(plan: &JobPlan) -> Result<Option<Arc<[u64]>>, Failure> {
    match &plan.inputs {
        InputPlan::Sequences(set) => Ok(Some(mseq_source::count(set)?.lengths.into())),
        _ => Ok(None),
    }
}

/// The key-value metadata of the output.
fn metadata(
    args: &JobArgs,
    plan: &JobPlan,
    checkpoint: &Checkpoint,
    config: &EngineConfig,
    (format, selection): (SequenceFormat, &Selection),
    (device, dtype): (&str, DType),
    line: &[OsString],
) -> Result<Vec<(String, String)>, Failure> {
    let (window, stride) = plan.window_text(format);
    let values = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command_text(line)),
        ("model", checkpoint.name()),
        ("model_sha256", checkpoint.files().sha256()?),
        ("modality", checkpoint.modality().to_string()),
        ("pool", plan.pool.to_string()),
        ("window", window),
        ("stride", stride),
        // However it was said: a head is for one of them.
        (
            "layer",
            if plan.layer.resolve(checkpoint.shape.n_layer).is_some_and(|(_, norm)| norm) {
                Layer::Last.to_string()
            } else {
                plan.layer.to_string()
            },
        ),
        ("context", config.context.map_or("whole".to_owned(), |c| c.tokens.to_string())),
        ("overlap", config.context.map_or(0, |c| c.overlap).to_string()),
        ("strand", if plan.audio.is_some() { "." } else { plan.reading.strand_text() }.to_owned()),
        ("dtype", dtype.to_string()),
        ("device", device.to_owned()),
        ("chunk", config.chunk.to_string()),
        ("shard", args.shard.map_or("1/1".to_owned(), |s| s.to_string())),
        ("on_bad_record", if args.on_bad_record == OnBadRecord::Skip { "skip" } else { "fail" }.to_owned()),
        ("skipped_records", selection.bad.to_string()),
        // Nothing of an embedding is drawn at random.
        ("seed", "none".to_owned()),
    ];
    // Files of `embed` are as they always were.
    let task = Some(plan.task.name()).filter(|name| *name != "embed").map(|name| ("task", name.to_owned()));
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
        .chain(task)
        .chain(input)
        .chain(keep)
        .chain(plan.audio.iter().flat_map(|audio| audio.metadata()))
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
fn report(summary: &Summary, plan: &JobPlan, selection: &Selection, dim: usize) {
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
    if tally.beyond > 0
        && let Some(audio) = &plan.audio
    {
        let what = if audio.options.mulaw { "were clipped" } else { "go to the model as they are" };
        say::line(&format!("{} beyond full scale (-1 to 1) {what}", say::count(tally.beyond, "sample")));
    }
    if tally.skipped_windows > 0 {
        say::line(&format!(
            "{} in which no token begins gave no row",
            say::count(tally.skipped_windows, "window")
        ));
    }
    if tally.empty > 0 {
        let what = if plan.audio.is_some() { "sample" } else { "letter" };
        say::line(&format!("{} without a {what} gave no row", say::count(tally.empty, "record")));
    }
    if selection.bad > 0 {
        say::line(&format!("{} with an illegal byte skipped", say::count(selection.bad, "record")));
    }
    let target = match &plan.output {
        Output::Parquet(path) | Output::Track(path, _) | Output::Log(path) => path.display().to_string(),
        Output::Stdout => "standard output".to_owned(),
    };
    let s = summary.elapsed.as_secs_f64();
    // A base of both strands is two tokens.
    let of = match &plan.task {
        Task::Embed { .. } => format!(" of {dim} values"),
        // A number a row needs no word.
        Task::Classify { .. } if dim == 1 => String::new(),
        Task::Classify { .. } => format!(" of {}", say::count(dim as u64, "class")),
        Task::Score => String::new(),
    };
    let rate = tally.tokens.saturating_sub(summary.resumed_from) as f64 / s.max(1e-3);
    let (what, rate) = match &plan.audio {
        Some(audio) => {
            let tokens_a_second =
                f64::from(audio.options.model_rate.get()) / f64::from(audio.options.hop.get());
            let heard = say::seconds(tally.nanos as f64 / 1e9);
            (format!("{heard} of audio"), format!("{:.0} x real time", rate / tokens_a_second))
        }
        None => {
            let unit = if tally.tokens == tally.bases { "bases" } else { "tokens" };
            (say::count(tally.bases, "base"), format!("{} {unit}/s", say::grouped(rate as u64)))
        }
    };
    say::line(&format!(
        "{target}: {}{of} ({}) from {}, {what} in {} ({rate})",
        say::count(summary.report.rows, "row"),
        say::bytes(summary.report.bytes),
        say::count(tally.records, "record"),
        say::seconds(s),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_share_the_threads_that_are_asked_for() {
        assert_eq!(decoders(1, 0, 16), MOST_DECODERS);
        assert_eq!(decoders(4, 0, 16), 3);
        assert_eq!(decoders(1, 4, 16), 3);
        // One thread alone reads and packs in turn.
        assert_eq!((decoders(1, 1, 16), decoders(8, 4, 16), decoders(1, 0, 1)), (0, 0, 0));
    }

    #[test]
    fn commands_are_quoted_and_lose_credentials() {
        let line =
            ["/usr/bin/mamba-seq", "embed", "my genome.fa", "https://me:pw@host.org/a/b.fa?key=1", "it's"];
        let line: Vec<OsString> = line.into_iter().map(OsString::from).collect();
        assert_eq!(command_text(&line), r"mamba-seq embed 'my genome.fa' https://host.org/a/b.fa 'it'\''s'");
    }
}
