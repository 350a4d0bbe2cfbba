//! Effects of the variants of a VCF: a job with checkpoints, as others are.

mod output;
mod saved;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mseq_engine::{Effect, Next, Variant, VariantScorer, VariantState, WatchVariants};
use mseq_sink::{EffectLog, LoggedEffect, RowLog};
use mseq_source::{Allele, DnaTokenizer, Reference, Strands, complement_byte};
use tokio::runtime::Builder;

use crate::checkpoint::{self, Digest};
use crate::signal::signal;
use crate::stats::Counters;
use crate::wire::Stop;
use crate::{Error, Result};

pub use output::VariantOutput;
use output::{Effects, Out, wanted};
use saved::Progress;
pub use survey::{AlleleCounts, Survey, VcfFile};
use survey::{Contig, Line, Walk};

/// A checkpoint this often, unless writing one takes more than a fiftieth of it.
const EVERY: Duration = Duration::from_millis(900);
/// How long a stopped job may take to save.
const GRACE: Duration = Duration::from_millis(1600);

/// A checked job.
pub struct VariantsJob {
    /// The variants.
    pub vcf: VcfFile,
    /// FASTA that they were called on.
    pub reference: PathBuf,
    /// Bases behind an allele that are scored with it.
    pub window: u64,
    /// Strands that are read.
    pub strands: Strands,
    /// Letters to tokens.
    pub tokenizer: DnaTokenizer,
    /// The model on its device.
    pub scorer: Box<dyn VariantScorer>,
    /// Where effects go.
    pub output: VariantOutput,
    /// File metadata.
    pub metadata: Vec<(String, String)>,
    /// What makes a job the same job, without its inputs.
    pub digest: Digest,
    /// Records that can't be scored are counted, and do not end it.
    pub skip: bool,
    /// Go on from the checkpoint of an earlier run, where there is one.
    pub resume: bool,
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantsSummary {
    /// Rows, or values an INFO key.
    pub rows: u64,
    /// Alleles and records.
    pub counts: AlleleCounts,
    /// Tokens that this run ran.
    pub tokens: u64,
    /// Wall time.
    pub elapsed: Duration,
}

/// Runs a job to its end. SIGINT and SIGTERM stop it with its state saved.
///
/// # Errors
/// When an input, the model, the device or the output fails; the output is then untouched.
pub fn variants(job: VariantsJob, counters: &Arc<Counters>) -> Result<VariantsSummary> {
    let internal = |e: std::io::Error| Error::Internal(format!("cannot start threads: {e}"));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(internal)?;
    let result = runtime.block_on(async {
        let shared = Shared { stop: Stop::new(), counters: Arc::clone(counters), saved: Arc::default() };
        let for_work = shared.clone();
        let work = tokio::task::spawn_blocking(move || job.run(&for_work));
        tokio::pin!(work);
        let panicked = |e: tokio::task::JoinError| Error::Internal(format!("the job panicked: {e}"));
        let saved = || shared.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::select! {
            result = &mut work => result.map_err(panicked)?.map_err(|e| match (e, saved()) {
                (Error::Engine(cause), Some(saved)) if cause.is_device() => Error::Device { cause, saved },
                (e, _) => e,
            }),
            signal = signal() => {
                shared.stop.set();
                // A step may take longer than we have, and then the last checkpoint counts.
                if let Ok(Ok(Ok(summary))) = tokio::time::timeout(GRACE, work).await {
                    return Ok(summary);
                }
                Err(Error::Signal { signal: signal?, saved: saved() })
            }
        }
    });
    runtime.shutdown_background();
    result
}

/// What the job and whoever waits for it share.
#[derive(Clone)]
struct Shared {
    stop: Stop,
    counters: Arc<Counters>,
    /// The log that `--resume` would go on from.
    saved: Arc<Mutex<Option<PathBuf>>>,
}

impl VariantsJob {
    /// Reads the VCF once, and checks each record against the reference.
    ///
    /// # Errors
    /// When they can't be read or do not fit.
    pub fn survey(&self) -> Result<Survey> {
        let mut reference = Reference::open(&self.reference, &|| false)?;
        self.survey_with(&mut reference, &Stop::new())
    }

    fn survey_with(&self, reference: &mut Reference, stop: &Stop) -> Result<Survey> {
        survey::survey(&self.vcf, reference, (self.window, self.strands), self.skip, stop)
    }

    fn run(mut self, shared: &Shared) -> Result<VariantsSummary> {
        let start = Instant::now();
        let mut reference = Reference::open(&self.reference, &|| shared.stop.is_set())?;
        let survey = self.survey_with(&mut reference, &shared.stop)?;
        let mut digest = self.digest.clone();
        let [vcf, fasta] = survey.crc32.map(|crc| format!("{crc:08x}"));
        digest.extend([("input_crc32".into(), vcf), ("reference_crc32".into(), fasta)]);
        let (mut store, mut progress) = Store::open(self.output.path(), digest, self.resume, shared)?;
        let resumed_from = progress.tokens;
        shared.counters.start(resumed_from, 0);
        shared.counters.set_total(survey.tokens);
        let ran = self
            .run_contigs(&survey, &mut reference, &mut store, &mut progress, shared)
            .and_then(|()| store.save(&progress))
            .and_then(|()| self.finish(&survey, &mut store));
        let rows = match ran {
            Ok(rows) => rows,
            Err(e) => {
                store.abandon();
                return Err(e);
            }
        };
        store.remove();
        let (counts, tokens) = (survey.counts, progress.tokens - resumed_from);
        Ok(VariantsSummary { rows, counts, tokens, elapsed: start.elapsed() })
    }

    fn run_contigs(
        &mut self,
        survey: &Survey,
        reference: &mut Reference,
        store: &mut Store,
        progress: &mut Progress,
        shared: &Shared,
    ) -> Result<()> {
        let mut walk = Walk::new(&self.vcf, survey)?;
        let mut unit = 0;
        let strands = self.strands;
        for (number, contig) in (0u32..).zip(&survey.contigs) {
            shared.counters.set_record(&contig.name.as_str().into());
            let alleles = alleles(&mut walk, contig)?;
            for reverse in [false, true].into_iter().filter(|&reverse| wanted(strands, reverse)) {
                unit += 1;
                if unit <= progress.units {
                    continue;
                }
                self.run_strand((number, contig), &alleles, reverse, reference, store, progress, shared)?;
                *progress = Progress { units: unit, tokens: progress.tokens, state: None };
            }
        }
        Ok(())
    }

    /// Runs the alleles of a contig on one strand.
    #[expect(clippy::too_many_arguments, reason = "what one strand of one contig needs")]
    fn run_strand(
        &mut self,
        (number, contig): (u32, &Contig),
        alleles: &[ScoredAllele],
        reverse: bool,
        reference: &mut Reference,
        store: &mut Store,
        progress: &mut Progress,
        shared: &Shared,
    ) -> Result<()> {
        let mut list = Vec::with_capacity(alleles.len());
        for (allele, i) in alleles.iter().zip(0u64..) {
            let (mut letters, mut at, mut alt) = (allele.letters.clone(), allele.at, Vec::new());
            if reverse {
                complement(&mut letters);
                at = contig.bases - at - allele.ref_len;
            }
            encode(&self.tokenizer, &letters, &mut alt).map_err(mseq_engine::Error::Input)?;
            list.push((Variant { at, ref_len: allele.ref_len, alt }, i));
        }
        list.sort_by_key(|(variant, _)| variant.at);
        let (variants, order): (Vec<Variant>, Vec<u64>) = list.into_iter().unzip();
        let (len, tokenizer) = (contig.bases, &self.tokenizer);
        let mut letters = Vec::new();
        let mut tokens = |start: u64, n: usize, ids: &mut Vec<u32>| -> mseq_engine::Result<()> {
            ids.clear();
            let from = if reverse { len - start - n as u64 } else { start };
            let wrong = mseq_engine::Error::Input;
            reference.read(contig.record, from, n, &mut letters).map_err(|e| wrong(e.to_string()))?;
            if reverse {
                complement(&mut letters);
            }
            encode(tokenizer, &letters, ids)
                .map_err(|what| wrong(format!("{}: record '{}': {what}", reference.path(), contig.name)))
        };
        let from = progress.state.take();
        let mut watch = Watch {
            store,
            progress,
            contig: (number, &contig.name),
            alleles,
            order: &order,
            reverse,
            shared,
            error: None,
        };
        let whole = self.scorer.contig(len, &mut tokens, &variants, from.as_ref(), &mut watch)?;
        match watch.error.take() {
            Some(e) => Err(e),
            None if whole => Ok(()),
            None => Err(Error::Closed),
        }
    }

    /// Joins the effects with their records.
    fn finish(&self, survey: &Survey, store: &mut Store) -> Result<u64> {
        let mut walk = Walk::new(&self.vcf, survey)?;
        let how = (self.window, self.strands);
        let mut out = Out::create(&self.output, self.vcf.path(), walk.header(), &self.metadata, how)?;
        let mut logged = store.log.read()?.peekable();
        for (number, contig) in (0u32..).zip(&survey.contigs) {
            let mut effects: Vec<Effects> = Vec::new();
            while let Some(next) = logged.next_if(|next| !matches!(next, Ok(e) if e.contig != number)) {
                let effect = next?;
                let at = effect.allele as usize;
                if effects.len() <= at {
                    effects.resize(at + 1, Effects::default());
                }
                effects[at][usize::from(effect.reverse)] = Some(effect.values);
            }
            let mut effects = &effects[..];
            while let Some(line) = walk.next()? {
                match line {
                    Line::Bad(text) => out.pass(&text)?,
                    Line::Record(_, ref record) if record.chrom != contig.name => {
                        walk.unread(line);
                        break;
                    }
                    Line::Record(index, record) => {
                        let own = record.alternates.iter().filter(|a| Allele::of(a) == Allele::Bases).count();
                        let (these, rest) = effects.split_at(own.min(effects.len()));
                        out.write(index, &record, these)?;
                        effects = rest;
                    }
                }
            }
        }
        // Without a good record there is no contig.
        while let Some(line) = walk.next()? {
            if let Line::Bad(text) = line {
                out.pass(&text)?;
            }
        }
        out.finish()
    }
}

/// An alternative allele with letters.
struct ScoredAllele {
    at: u64,
    ref_len: u64,
    letters: Vec<u8>,
}

/// Alleles of the next contig, in the order of the VCF.
fn alleles(walk: &mut Walk<'_>, contig: &Contig) -> Result<Vec<ScoredAllele>> {
    let mut list = Vec::new();
    while let Some(line) = walk.next()? {
        let record = match line {
            Line::Bad(_) => continue,
            Line::Record(_, ref record) if record.chrom != contig.name => {
                walk.unread(line);
                break;
            }
            Line::Record(_, record) => record,
        };
        let (at, ref_len) = (record.pos - 1, record.reference.len() as u64);
        let alts = record.alternates.into_iter().filter(|alt| Allele::of(alt) == Allele::Bases);
        list.extend(alts.map(|alt| ScoredAllele { at, ref_len, letters: alt.into_bytes() }));
    }
    Ok(list)
}

fn complement(letters: &mut [u8]) {
    letters.reverse();
    letters.iter_mut().for_each(|b| *b = complement_byte(*b));
}

fn encode(tokenizer: &DnaTokenizer, letters: &[u8], ids: &mut Vec<u32>) -> std::result::Result<(), String> {
    tokenizer.encode(letters, ids).map(|_| ()).map_err(|bad| {
        format!("byte {:#04x} '{}' is not a nucleotide code; remove it", bad.byte, char::from(bad.byte))
    })
}

/// The log and the checkpoint of a job.
struct Store {
    log: EffectLog,
    /// `None` for a pipe or device, whose log lies in a folder of its own and is never gone on from.
    output: Option<PathBuf>,
    digest: Digest,
    has_checkpoint: bool,
    last: Instant,
    every: Duration,
    saved: Arc<Mutex<Option<PathBuf>>>,
    _folder: Option<tempfile::TempDir>,
}

impl Store {
    fn open(output: &Path, digest: Digest, resume: bool, shared: &Shared) -> Result<(Self, Progress)> {
        let mut folder = None;
        let (log, was) = if RowLog::can_log(output) {
            let was = if resume { saved::read(output, &digest)? } else { None };
            // Under the log's lock: the checkpoint of a job that runs must stay.
            let fresh = || {
                if was.is_none() {
                    checkpoint::remove(output)
                }
            };
            (EffectLog::open(output, was.as_ref().map(|(_, saved)| saved), fresh)?, was)
        } else {
            let parent = std::env::temp_dir();
            let made =
                tempfile::tempdir_in(&parent).map_err(|cause| Error::Spool { folder: parent, cause })?;
            let log = EffectLog::open(&made.path().join("effects"), None, || {})?;
            folder = Some(made);
            (log, None)
        };
        if was.is_some() {
            *shared.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(log.path().to_owned());
        }
        let store = Self {
            log,
            output: folder.is_none().then(|| output.to_owned()),
            digest,
            has_checkpoint: was.is_some(),
            last: Instant::now(),
            every: EVERY,
            saved: Arc::clone(&shared.saved),
            _folder: folder,
        };
        Ok((store, was.map(|(progress, _)| progress).unwrap_or_default()))
    }

    fn save(&mut self, progress: &Progress) -> Result<()> {
        let Some(output) = &self.output else { return Ok(()) };
        let start = Instant::now();
        let saved = self.log.sync()?;
        saved::write(output, &self.digest, progress, &saved)?;
        self.has_checkpoint = true;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.log.path().to_owned());
        self.every = EVERY.max(50 * start.elapsed());
        self.last = Instant::now();
        Ok(())
    }

    /// The job ended early: a log with a checkpoint stays.
    fn abandon(self) {
        if !self.has_checkpoint {
            self.log.remove();
        }
    }

    /// The output is there.
    fn remove(self) {
        if let Some(output) = &self.output {
            checkpoint::remove(output);
        }
        self.log.remove();
    }
}

/// Takes the effects of a contig as they become known.
struct Watch<'a> {
    store: &'a mut Store,
    progress: &'a mut Progress,
    contig: (u32, &'a str),
    alleles: &'a [ScoredAllele],
    /// Alleles of the sorted variants.
    order: &'a [u64],
    reverse: bool,
    shared: &'a Shared,
    error: Option<Error>,
}

impl Watch<'_> {
    fn push(&mut self, index: usize, effect: Effect) -> Result<()> {
        let allele = self.order.get(index).copied().unwrap_or_default();
        let values = [effect.llr, effect.llr_per_base, effect.distance];
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            let start = self.alleles.get(allele as usize).map_or(0, |allele| allele.at);
            let (record, value) = (self.contig.1.to_owned(), value as f32);
            return Err(mseq_sink::Error::NotFinite { record, start, channel: 0, value }.into());
        }
        let (contig, reverse) = (self.contig.0, self.reverse);
        Ok(self.store.log.push(LoggedEffect { contig, allele, reverse, values })?)
    }
}

impl WatchVariants for Watch<'_> {
    fn step(&mut self, tokens: u64, effects: &[(usize, Effect)]) -> Next {
        self.progress.tokens += tokens;
        self.shared.counters.add(tokens, effects.len() as u64, 0);
        for &(index, effect) in effects {
            if self.error.is_none() {
                self.error = self.push(index, effect).err();
            }
        }
        match () {
            () if self.error.is_some() || self.shared.stop.is_set() => Next::Stop,
            () if self.store.last.elapsed() >= self.store.every => Next::Save,
            () => Next::Go,
        }
    }

    fn save(&mut self, state: VariantState) {
        if self.error.is_none() {
            self.progress.state = Some(state);
            self.error = self.store.save(self.progress).err();
        }
    }
}
