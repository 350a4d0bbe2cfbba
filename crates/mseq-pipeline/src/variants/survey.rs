//! What a VCF asks for, in a pass before the run.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;

use flate2::Crc;
use mseq_source::{Allele, Reference, Strands, VcfError, VcfReader, VcfRecord};

use crate::wire::Stop;
use crate::{Error, Result};

/// Bad records that an error names.
const LISTED: usize = 100;

/// Letters of the reference that are read at a time.
const BLOCK: usize = 1 << 20;

/// A VCF that can be read more than once: a pipe is copied first.
pub struct VcfFile {
    path: String,
    copy: Option<tempfile::NamedTempFile>,
}

impl VcfFile {
    /// Looks at a path; `-` is standard input.
    ///
    /// # Errors
    /// When it is not there, or a copy can't be made.
    pub fn new(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let regular = path != Path::new("-") && std::fs::metadata(path).is_ok_and(|m| m.is_file());
        if regular || (path != Path::new("-") && !path.exists()) {
            // One that is missing is named when it is opened.
            return Ok(Self { path: label, copy: None });
        }
        let fail = |cause| Error::Copy { path: label.clone(), cause };
        let mut from: Box<dyn io::Read> = match path == Path::new("-") {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(fail)?),
        };
        let mut copy = tempfile::NamedTempFile::new().map_err(fail)?;
        io::copy(&mut from, &mut copy).map_err(fail)?;
        Ok(Self { path: label, copy: Some(copy) })
    }

    /// As the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads it from the start.
    pub(crate) fn open(&self) -> Result<VcfReader> {
        let Some(copy) = &self.copy else { return Ok(VcfReader::open(Path::new(&self.path))?) };
        let file = copy.reopen().map_err(|cause| Error::Copy { path: self.path.clone(), cause })?;
        Ok(VcfReader::read(&self.path, Box::new(file))?)
    }
}

/// A contig with records, in the order of the VCF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contig {
    pub(crate) name: String,
    /// Number of the record in the reference.
    pub(crate) record: usize,
    pub(crate) bases: u64,
}

/// Alleles by what is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlleleCounts {
    /// With letters: these are scored.
    pub scored: u64,
    /// `<DEL>` and breakends.
    pub symbolic: u64,
    /// `*`.
    pub spanning: u64,
    /// Records without an ALT.
    pub without: u64,
    /// Records that can't be scored.
    pub bad: u64,
}

/// What a VCF asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    pub(crate) contigs: Vec<Contig>,
    /// Records that can't be scored, by number.
    pub(crate) bad: BTreeSet<u64>,
    /// Alleles.
    pub counts: AlleleCounts,
    /// Records.
    pub records: u64,
    /// Tokens that the model has to run, all strands.
    pub tokens: u64,
    /// Of the lines of the VCF, and of the contigs that it names.
    pub(crate) crc32: [u32; 2],
}

impl Survey {
    /// Contigs that have records.
    pub fn contigs(&self) -> usize {
        self.contigs.len()
    }
}

/// Tokens of the pass over a contig, and of the tails.
#[derive(Default)]
struct Tokens {
    tails: u64,
    last: u64,
    /// Of the reverse strand.
    last_reverse: u64,
}

/// Reads the VCF once, and checks each record against the reference.
pub(crate) fn survey(
    vcf: &VcfFile,
    reference: &mut Reference,
    (window, strands): (u64, Strands),
    skip: bool,
    stop: &Stop,
) -> Result<Survey> {
    let mut reader = vcf.open()?;
    let mut survey = Survey::default();
    let mut crcs = [Crc::new(), Crc::new()];
    let (meta, columns) = reader.header();
    meta.iter().map(String::as_str).chain([columns]).for_each(|line| crcs[0].update(line.as_bytes()));
    let (mut seen, mut list) = (HashSet::new(), Vec::new());
    let mut first_bad = None;
    let mut tokens = Tokens::default();
    loop {
        if stop.is_set() {
            return Err(Error::Closed);
        }
        let next = match reader.next() {
            Ok(None) => break,
            Ok(Some(record)) => reference.check(vcf.path(), &record).map(|()| record),
            Err(e) => Err(e),
        };
        crcs[0].update(reader.last_line());
        crcs[0].update(b"\n");
        let index = survey.records;
        survey.records += 1;
        let record = match next {
            Ok(record) => record,
            Err(mseq_source::Error::Vcf(e)) if e.is_bad_record() => {
                survey.counts.bad += 1;
                survey.bad.insert(index);
                if !skip && list.len() < LISTED {
                    list.push(e.in_list());
                }
                first_bad.get_or_insert(e);
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        if survey.contigs.last().is_none_or(|contig| contig.name != record.chrom) {
            add_tokens(&mut survey, std::mem::take(&mut tokens), strands);
            let (path, line, contig) = (vcf.path().to_owned(), record.line, record.chrom.clone());
            let Some((number, bases)) = reference.find(&record.chrom) else {
                return Err(Error::Internal(format!("no record '{contig}'")));
            };
            if !seen.insert(record.chrom.clone()) {
                return Err(mseq_source::Error::from(VcfError::Scattered { path, line, contig }).into());
            }
            survey.contigs.push(Contig { name: contig, record: number, bases });
        }
        let bases = survey.contigs.last().map_or(0, |contig| contig.bases);
        count(&record, bases, window, &mut survey.counts, &mut tokens, strands);
    }
    add_tokens(&mut survey, tokens, strands);
    match (first_bad, survey.counts.bad) {
        (Some(e), 1) if !skip => return Err(mseq_source::Error::Vcf(e).into()),
        (Some(_), count) if !skip => {
            let rest = count - list.len() as u64;
            let mut list = list.join("; ");
            if rest > 0 {
                list += &format!("; and {rest} more");
            }
            let path = vcf.path().to_owned();
            return Err(mseq_source::Error::from(VcfError::Several { path, count, list }).into());
        }
        _ => {}
    }
    let mut letters = Vec::new();
    for contig in &survey.contigs {
        let mut at = 0;
        while at < contig.bases {
            if stop.is_set() {
                return Err(Error::Closed);
            }
            let n = (contig.bases - at).min(BLOCK as u64) as usize;
            reference.read(contig.record, at, n, &mut letters)?;
            crcs[1].update(&letters);
            at += n as u64;
        }
    }
    survey.crc32 = crcs.map(|crc| crc.sum());
    Ok(survey)
}

fn add_tokens(survey: &mut Survey, tokens: Tokens, strands: Strands) {
    survey.tokens += match strands {
        Strands::Forward => tokens.last,
        Strands::Reverse => tokens.last_reverse,
        Strands::Both => tokens.last + tokens.last_reverse,
    } + tokens.tails;
}

fn count(
    record: &VcfRecord,
    bases: u64,
    window: u64,
    counts: &mut AlleleCounts,
    tokens: &mut Tokens,
    strands: Strands,
) {
    counts.without += u64::from(record.alternates.iter().all(|a| Allele::of(a) == Allele::Missing));
    let right = record.pos - 1 + record.reference.len() as u64;
    // Bases behind the allele, in reading direction.
    let behind = (bases - right).min(window);
    let behind_reverse = (record.pos - 1).min(window);
    for alt in &record.alternates {
        match Allele::of(alt) {
            Allele::Symbolic => counts.symbolic += 1,
            Allele::Spanning => counts.spanning += 1,
            Allele::Missing => {}
            Allele::Bases => {
                counts.scored += 1;
                let len = alt.len() as u64;
                tokens.tails += match strands {
                    Strands::Forward => len + behind,
                    Strands::Reverse => len + behind_reverse,
                    Strands::Both => 2 * len + behind + behind_reverse,
                };
                tokens.last = tokens.last.max(right + behind);
                tokens.last_reverse = tokens.last_reverse.max(bases - (record.pos - 1) + behind_reverse);
            }
        }
    }
}

/// A line of the VCF, in a pass after the survey.
pub(crate) enum Line {
    /// Can't be scored: the line as it is.
    Bad(Vec<u8>),
    Record(u64, VcfRecord),
}

/// A pass over the VCF after the survey.
pub(crate) struct Walk<'a> {
    reader: VcfReader,
    bad: &'a BTreeSet<u64>,
    index: u64,
    back: Option<Line>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(vcf: &VcfFile, survey: &'a Survey) -> Result<Self> {
        Ok(Self { reader: vcf.open()?, bad: &survey.bad, index: 0, back: None })
    }

    pub(crate) fn header(&self) -> (&[String], &str) {
        self.reader.header()
    }

    pub(crate) fn next(&mut self) -> Result<Option<Line>> {
        if let Some(line) = self.back.take() {
            return Ok(Some(line));
        }
        let next = self.reader.next();
        let index = self.index;
        self.index += 1;
        if self.bad.contains(&index) && !matches!(next, Ok(None)) {
            return Ok(Some(Line::Bad(self.reader.last_line().to_vec())));
        }
        Ok(next?.map(|record| Line::Record(index, record)))
    }

    /// Gives a line back, to be the next again.
    pub(crate) fn unread(&mut self, line: Line) {
        self.back = Some(line);
    }
}
