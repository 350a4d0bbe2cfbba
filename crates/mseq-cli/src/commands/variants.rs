//! `mamba-seq variants`: what each alternative allele of a VCF does to a model's view of the reference.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mseq_core::Item;
use mseq_engine::{Effect, Variant, VariantScorer, choose, open_variant_scorer};
use mseq_model::Checkpoint;
use mseq_sink::{VariantRow, VariantSink, WholeFile, check_output};
use mseq_source::{
    Allele, BasesAt, DnaTokenizer, FaiIndex, IndexedFasta, IndexedRecord, InputSet, SequenceSource, VcfError,
    VcfReader, VcfRecord, complement_byte,
};

use super::embed::command_text;
use super::model_files;
use crate::args::{OnBadRecord, VariantStrand, VariantsArgs};
use crate::{Failure, say};

/// What was left out, by reason.
#[derive(Debug, Default)]
struct Counts {
    symbolic: u64,
    spanning: u64,
    without: u64,
    bad: u64,
    scored: u64,
}

/// A record of the contig at hand, and what its ALTs did: `None` for those without letters.
struct Record {
    index: u64,
    vcf: VcfRecord,
    forward: Vec<Option<Effect>>,
    reverse: Vec<Option<Effect>>,
}

pub(super) fn run(args: &VariantsArgs, quiet: bool, line: &[OsString]) -> Result<(), Failure> {
    let output = output(args)?;
    let kind = Kind::of(&output)?;
    check_output(&output)?;
    let checkpoint = Checkpoint::open(model_files(&args.model)?)?;
    super::reads_dna(&checkpoint)?;
    let place = args.developer.at(choose(&args.device, args.dtype())?)?;
    if let (Some(why), false) = (&place.note, quiet) {
        say::note(&format!("running on the cpu: {why}"));
    }
    let mut reader = VcfReader::open(&args.vcf)?;
    let mut reference = Reference::open(&args.reference)?;
    let chunk = args.chunk.map_or_else(|| place.default_chunk(&checkpoint.shape), |n| place.step(n as usize));
    let threads = args.threads.map_or(0, |n| n as usize);
    let mut scorer = open_variant_scorer(&place, threads, &checkpoint, args.window, chunk)?;
    let tokenizer = DnaTokenizer::new(&checkpoint.tokens.letters, checkpoint.tokens.unknown);
    let strand = match args.strand {
        VariantStrand::Forward => "forward",
        VariantStrand::Reverse => "reverse",
        VariantStrand::Both => "both",
    };
    let metadata: Vec<(String, String)> = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("command", command_text(line)),
        ("model", checkpoint.name()),
        ("model_sha256", checkpoint.files().sha256()?),
        ("modality", "dna".to_owned()),
        ("task", "variants".to_owned()),
        ("reference", args.reference.display().to_string()),
        ("window", args.window.to_string()),
        ("strand", strand.to_owned()),
        ("dtype", place.dtype.to_string()),
        ("device", scorer.device()),
        ("chunk", chunk.to_string()),
        ("seed", "none".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (format!("mamba_seq.{key}"), value))
    .collect();
    let mut out = match kind {
        Kind::Parquet => Out::Parquet(Box::new(VariantSink::create(&output, reader.path(), &metadata)?)),
        Kind::Vcf => Out::Vcf(annotated(&output, &reader, &metadata, args)?),
    };
    let mut counts = Counts::default();
    let mut seen = HashSet::new();
    let mut current: Option<String> = None;
    let mut waiting: Option<VcfRecord> = None;
    let mut index = 0;
    let skip = args.on_bad_record == OnBadRecord::Skip;
    loop {
        // The records of one contig.
        let mut records: Vec<Record> = Vec::new();
        loop {
            let next = match waiting.take() {
                Some(record) => Ok(Some(record)),
                None => reader.next(),
            };
            let record = match next {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(e) if skip && e.is_bad_record() => {
                    (counts.bad, index) = (counts.bad + 1, index + 1);
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            if current.as_deref() != Some(&record.chrom) {
                if !records.is_empty() {
                    waiting = Some(record);
                    break;
                }
                if !seen.insert(record.chrom.clone()) {
                    let (path, line, contig) = (reader.path().to_owned(), record.line, record.chrom);
                    return Err(mseq_source::Error::from(VcfError::Scattered { path, line, contig }).into());
                }
                current = Some(record.chrom.clone());
            }
            match reference.check(reader.path(), &record) {
                Ok(()) => {
                    let none = vec![None; record.alternates.len()];
                    records.push(Record { index, vcf: record, forward: none.clone(), reverse: none });
                }
                Err(e) if skip && e.is_bad_record() => {
                    counts.bad += 1;
                    out.pass(&record.text)?;
                    // The contig goes on, or is unknown as a whole.
                }
                Err(e) => return Err(e.into()),
            }
            index += 1;
        }
        if records.is_empty() && waiting.is_none() {
            break;
        }
        let Some(first) = records.first() else { continue };
        let contig = reference.load(&first.vcf.chrom)?;
        for reverse in [false, true] {
            if wanted(args, reverse) {
                score(scorer.as_mut(), &mut reference, contig, &tokenizer, &mut records, reverse)?;
            }
        }
        for record in &records {
            out.write(record, args, &mut counts)?;
        }
    }
    let rows = out.finish()?;
    if !quiet {
        summary(&output, rows, &counts);
    }
    Ok(())
}

/// Runs the variants of a contig on one strand.
fn score(
    scorer: &mut dyn VariantScorer,
    reference: &mut Reference,
    contig: usize,
    tokenizer: &DnaTokenizer,
    records: &mut [Record],
    reverse: bool,
) -> Result<(), Failure> {
    let len = reference.bases[contig];
    let mut list: Vec<(Variant, usize, usize)> = Vec::new();
    for (i, record) in records.iter().enumerate() {
        for (j, alt) in record.vcf.alternates.iter().enumerate() {
            if Allele::of(alt) != Allele::Bases {
                continue;
            }
            let mut letters = alt.clone().into_bytes();
            let ref_len = record.vcf.reference.len() as u64;
            let mut at = record.vcf.pos - 1;
            if reverse {
                complement(&mut letters);
                at = len - at - ref_len;
            }
            let mut alt = Vec::new();
            encode(tokenizer, &letters, &mut alt).map_err(Failure::Run)?;
            list.push((Variant { at, ref_len, alt }, i, j));
        }
    }
    list.sort_by_key(|(v, ..)| v.at);
    let variants: Vec<Variant> = list.iter().map(|(v, ..)| v.clone()).collect();
    let mut letters = Vec::new();
    let mut tokens = |start: u64, n: usize, ids: &mut Vec<u32>| -> mseq_engine::Result<()> {
        ids.clear();
        let from = if reverse { len - start - n as u64 } else { start };
        let wrong = mseq_engine::Error::Input;
        reference.read(contig, from, n, &mut letters).map_err(|e| wrong(e.to_string()))?;
        if letters.len() != n {
            return Err(wrong(format!("{}: the file changed while it was read", reference.path)));
        }
        if reverse {
            complement(&mut letters);
        }
        encode(tokenizer, &letters, ids).map_err(|what| {
            wrong(format!("{}: record '{}': {what}", reference.path, reference.names[contig]))
        })
    };
    let effects = scorer.contig(len, &mut tokens, &variants)?;
    for ((_, i, j), effect) in list.into_iter().zip(effects) {
        let record = &mut records[i];
        let to = if reverse { &mut record.reverse } else { &mut record.forward };
        to[j] = Some(effect);
    }
    Ok(())
}

fn complement(letters: &mut [u8]) {
    letters.reverse();
    letters.iter_mut().for_each(|b| *b = complement_byte(*b));
}

fn encode(tokenizer: &DnaTokenizer, letters: &[u8], ids: &mut Vec<u32>) -> Result<(), String> {
    tokenizer.encode(letters, ids).map(|_| ()).map_err(|bad| {
        format!("byte {:#04x} '{}' is not a nucleotide code; remove it", bad.byte, char::from(bad.byte))
    })
}

/// The reference, with bases at any place.
struct Reference {
    path: String,
    fasta: IndexedFasta,
    names: Vec<String>,
    bases: Vec<u64>,
    by_name: HashMap<String, usize>,
    /// The copy behind `fasta`, where the file itself can't be read at any place.
    _copy: Option<tempfile::NamedTempFile>,
}

impl Reference {
    /// Opens the file by its index, or makes one; of a file that is gzip without one, first a plain
    /// copy in the temporary folder, which goes when the command ends.
    fn open(path: &Path) -> Result<Self, Failure> {
        let label = path.display().to_string();
        let (fasta, copy) = match IndexedFasta::open(path)? {
            Some(fasta) => (fasta, None),
            None => match FaiIndex::build(path)? {
                Some(index) => (IndexedFasta::with_index(path, index)?, None),
                None => {
                    let copy = plain_copy(path, &label)?;
                    let no_index = || Failure::Run(format!("{label}: is not FASTA with records"));
                    let index = FaiIndex::build(copy.path())?.ok_or_else(no_index)?;
                    (IndexedFasta::with_index(copy.path(), index)?, Some(copy))
                }
            },
        };
        let names: Vec<String> = fasta.records().iter().map(|r| r.name.to_string()).collect();
        let bases = fasta.records().iter().map(|r| r.bases).collect();
        let mut by_name = HashMap::new();
        for (i, name) in names.iter().enumerate() {
            if by_name.insert(name.clone(), i).is_some() {
                return Err(Failure::Run(format!(
                    "{label}: two records are called '{name}': which one a variant means is unclear; rename one"
                )));
            }
        }
        Ok(Self { path: label, fasta, names, bases, by_name, _copy: copy })
    }

    fn load(&self, chrom: &str) -> Result<usize, Failure> {
        let missing = || Failure::Run(format!("{}: no record '{chrom}'", self.path));
        self.by_name.get(chrom).copied().ok_or_else(missing)
    }

    fn read(&mut self, record: usize, at: u64, len: usize, out: &mut Vec<u8>) -> mseq_source::Result<()> {
        IndexedRecord::new(&mut self.fasta, record).read_bases(at, len, out)
    }

    /// Whether the record's REF is what lies there.
    fn check(&mut self, vcf: &str, record: &VcfRecord) -> mseq_source::Result<()> {
        let (path, line, contig) = (vcf.to_owned(), record.line, record.chrom.clone());
        let reference = self.path.clone();
        let Some(&index) = self.by_name.get(&record.chrom) else {
            let mut has = self.names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if self.names.len() > 5 {
                has += &format!(" and {} more", self.names.len() - 5);
            }
            return Err(VcfError::NoContig { path, line, contig, reference, has }.into());
        };
        let (pos, bases) = (record.pos, self.bases[index]);
        if pos - 1 + record.reference.len() as u64 > bases {
            return Err(VcfError::PastEnd { path, line, contig, pos, bases, reference }.into());
        }
        let mut letters = Vec::new();
        self.read(index, pos - 1, record.reference.len(), &mut letters)?;
        // VCF writes an N, or the first of the bases, where a reference has another IUPAC code.
        let same = |(&have, &said): (&u8, &u8)| {
            let (have, said) = (have.to_ascii_uppercase(), said.to_ascii_uppercase());
            have == said || (!b"ACGTU".contains(&have) && (said == b'N' || Some(said) == first_of(have)))
        };
        if letters.iter().zip(record.reference.as_bytes()).all(same) {
            return Ok(());
        }
        let found = shorten(&record.reference);
        let wanted = shorten(&String::from_utf8_lossy(&letters));
        Err(VcfError::Mismatch { path, line, contig, pos, found, wanted, reference }.into())
    }
}

/// The first base, in the order of the alphabet, that an IUPAC code stands for.
fn first_of(code: u8) -> Option<u8> {
    match code {
        b'R' | b'W' | b'M' | b'D' | b'H' | b'V' => Some(b'A'),
        b'Y' | b'S' | b'B' => Some(b'C'),
        b'K' => Some(b'G'),
        _ => None,
    }
}

fn shorten(letters: &str) -> String {
    match letters.get(..20) {
        Some(start) if letters.len() > 20 => format!("{start}... ({} bases)", letters.len()),
        _ => letters.to_owned(),
    }
}

/// A plain FASTA of one line a record, in the temporary folder.
fn plain_copy(path: &Path, label: &str) -> Result<tempfile::NamedTempFile, Failure> {
    use std::io::Write;

    let set = InputSet::resolve(&[path.to_string_lossy().into_owned()], false)?;
    // Letters as ids of their own, so that the copy has them as they are.
    let table = b"ACGTUNRYSWKMBDHV-*".iter().map(|&b| (char::from(b), u32::from(b))).collect();
    let mut source = SequenceSource::open(set, DnaTokenizer::new(&table, u32::from(b'N')), 64 << 10)?;
    let full = |e: std::io::Error| Failure::Run(format!("{label}: a copy in the temporary folder: {e}"));
    let file = tempfile::NamedTempFile::new().map_err(full)?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    while let Some(item) = source.next().map_err(|e| Failure::Run(e.to_string()))? {
        match item {
            Item::Begin(head) => out.write_all(format!(">{}\n", head.id).as_bytes()).map_err(full)?,
            Item::Tokens(ids) => {
                let letters: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
                out.write_all(&letters).map_err(full)?;
            }
            // The source of letters makes none.
            Item::Samples(_) => {}
            Item::End(_) => out.write_all(b"\n").map_err(full)?,
        }
    }
    out.into_inner().map_err(|e| full(e.into_error()))
}

/// What an output is, by its name.
enum Kind {
    Parquet,
    Vcf,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("vcf") => Ok(Self::Vcf),
            _ => Err(Failure::Usage(format!(
                "-o {}: is neither .parquet nor .vcf (compress that with bgzip afterwards)",
                path.display()
            ))),
        }
    }
}

fn output(args: &VariantsArgs) -> Result<PathBuf, Failure> {
    if let Some(output) = &args.output {
        return Ok(output.clone());
    }
    let name = args.vcf.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = [".vcf.gz", ".vcf.bgz", ".vcf"].iter().find_map(|end| name.strip_suffix(end));
    let stem = stem.unwrap_or(&name);
    if stem.is_empty() {
        return Err(Failure::Usage("name an output with -o".into()));
    }
    Ok(PathBuf::from(format!("{stem}.variants.parquet")))
}

/// Where effects go.
enum Out {
    Parquet(Box<VariantSink>),
    Vcf(Annotated),
}

/// A copy of a VCF with more in its INFO column.
struct Annotated {
    file: WholeFile,
    rows: u64,
}

/// Keys of INFO, for each strand.
const KEYS: [[&str; 3]; 2] =
    [["MSEQ_LLR", "MSEQ_LLRPB", "MSEQ_DIST"], ["MSEQ_LLR_REV", "MSEQ_LLRPB_REV", "MSEQ_DIST_REV"]];

fn annotated(
    path: &Path,
    reader: &VcfReader,
    metadata: &[(String, String)],
    args: &VariantsArgs,
) -> Result<Annotated, Failure> {
    let mut file = WholeFile::create(path)?;
    let (meta, columns) = reader.header();
    for line in meta {
        file.write(format!("{line}\n").as_bytes())?;
    }
    let what = [
        "log P(ALT) - log P(REF) over allele and window, nats",
        "difference of the mean log-likelihoods a base, nats",
        "Euclidean distance between the mean hidden states",
    ];
    for (keys, (reverse, strand)) in KEYS.iter().zip([(false, "forward"), (true, "reverse")]) {
        if !wanted(args, reverse) {
            continue;
        }
        for (key, what) in keys.iter().zip(what) {
            let line = format!(
                "##INFO=<ID={key},Number=A,Type=Float,Description=\"{what}, {strand} strand, window {}\">\n",
                args.window
            );
            file.write(line.as_bytes())?;
        }
    }
    for (key, value) in metadata {
        if matches!(key.as_str(), "mamba_seq.version" | "mamba_seq.model" | "mamba_seq.model_sha256") {
            file.write(format!("##{}={value}\n", key.replace('.', "_")).as_bytes())?;
        }
    }
    file.write(format!("{columns}\n").as_bytes())?;
    Ok(Annotated { file, rows: 0 })
}

fn wanted(args: &VariantsArgs, reverse: bool) -> bool {
    match args.strand {
        VariantStrand::Forward => !reverse,
        VariantStrand::Reverse => reverse,
        VariantStrand::Both => true,
    }
}

impl Out {
    /// A record that was not scored.
    fn pass(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Parquet(_) => Ok(()),
            Self::Vcf(vcf) => Ok(vcf.file.write(format!("{text}\n").as_bytes())?),
        }
    }

    fn write(&mut self, record: &Record, args: &VariantsArgs, counts: &mut Counts) -> Result<(), Failure> {
        let vcf = &record.vcf;
        counts.without += u64::from(vcf.alternates.iter().all(|a| Allele::of(a) == Allele::Missing));
        for alt in &vcf.alternates {
            match Allele::of(alt) {
                Allele::Symbolic => counts.symbolic += 1,
                Allele::Spanning => counts.spanning += 1,
                Allele::Bases => counts.scored += 1,
                Allele::Missing => {}
            }
        }
        let strands = [(false, "+", &record.forward), (true, "-", &record.reverse)];
        match self {
            Self::Parquet(sink) => {
                for (j, alt) in vcf.alternates.iter().enumerate() {
                    for (_, strand, effects) in strands {
                        let Some(effect) = effects[j] else { continue };
                        sink.write(VariantRow {
                            record_index: record.index,
                            chrom: vcf.chrom.clone(),
                            pos: vcf.pos,
                            reference: vcf.reference.clone(),
                            alt: alt.clone(),
                            strand,
                            llr: effect.llr,
                            llr_per_base: effect.llr_per_base,
                            distance: effect.distance,
                        })?;
                    }
                }
                Ok(())
            }
            Self::Vcf(out) => {
                let mut added = Vec::new();
                for ((reverse, _, effects), keys) in strands.into_iter().zip(KEYS) {
                    if !wanted(args, reverse) || effects.iter().all(Option::is_none) {
                        continue;
                    }
                    let gets: [fn(&Effect) -> f64; 3] = [|e| e.llr, |e| e.llr_per_base, |e| e.distance];
                    for (key, get) in keys.iter().zip(gets) {
                        let values: Vec<String> = effects
                            .iter()
                            .map(|e| e.as_ref().map_or(".".to_owned(), |e| format!("{:.6e}", get(e))))
                            .collect();
                        added.push(format!("{key}={}", values.join(",")));
                    }
                    out.rows += effects.iter().flatten().count() as u64;
                }
                let mut columns: Vec<&str> = vcf.text.split('\t').collect();
                let info = match (columns.get(7), added.is_empty()) {
                    (Some(&info), true) => info.to_owned(),
                    (Some(&"."), false) | (None, _) => added.join(";"),
                    (Some(info), false) => format!("{info};{}", added.join(";")),
                };
                if let Some(column) = columns.get_mut(7) {
                    *column = &info;
                }
                Ok(out.file.write(format!("{}\n", columns.join("\t")).as_bytes())?)
            }
        }
    }

    fn finish(self) -> Result<u64, Failure> {
        match self {
            Self::Parquet(sink) => Ok(sink.finish()?),
            Self::Vcf(Annotated { file, rows }) => {
                file.finish()?;
                Ok(rows)
            }
        }
    }
}

fn summary(output: &Path, rows: u64, counts: &Counts) {
    let mut text = format!("{}: {}", output.display(), say::count(rows, "row"));
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
    say::line(&text);
}
