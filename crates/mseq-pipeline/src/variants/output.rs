//! Effects joined with the records they are of: a Parquet file, or the VCF with more in INFO.

use std::path::{Path, PathBuf};

use mseq_sink::{BgzfFile, VariantRow, VariantSink, WholeFile};
use mseq_source::{Allele, Strands, VcfRecord};

use crate::Result;

/// Where effects go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariantOutput {
    /// A row an ALT and strand.
    Parquet(PathBuf),
    /// A copy of the VCF with more in INFO.
    Vcf(PathBuf),
    /// The same as BGZF.
    VcfGz(PathBuf),
}

impl VariantOutput {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Parquet(path) | Self::Vcf(path) | Self::VcfGz(path) => path,
        }
    }
}

/// Keys of INFO, for each strand.
const KEYS: [[&str; 3]; 2] =
    [["MSEQ_LLR", "MSEQ_LLRPB", "MSEQ_DIST"], ["MSEQ_LLR_REV", "MSEQ_LLRPB_REV", "MSEQ_DIST_REV"]];

/// Lines of the header beside those of INFO.
const SAID: [&str; 3] = ["mamba_seq.version", "mamba_seq.model", "mamba_seq.model_sha256"];

/// `llr`, `llr_per_base` and `distance` of an allele on both strands, as far as they were asked for.
pub(super) type Effects = [Option<[f64; 3]>; 2];

/// An output that is being written.
pub(super) enum Out {
    Parquet(Box<VariantSink>),
    Vcf(Text, u64),
}

/// A VCF, compressed or not.
pub(super) enum Text {
    Plain(WholeFile),
    Bgzf(Box<BgzfFile>),
}

impl Text {
    fn line(&mut self, parts: &[&[u8]]) -> Result<()> {
        for part in parts.iter().chain([&&b"\n"[..]]) {
            match self {
                Self::Plain(file) => file.write(part)?,
                Self::Bgzf(file) => file.write(part)?,
            }
        }
        Ok(())
    }
}

/// Whether a line of the header is one that this program writes.
fn is_ours(line: &str) -> bool {
    let info = line.strip_prefix("##INFO=<ID=").and_then(|rest| rest.split(',').next());
    info.is_some_and(|id| KEYS.as_flattened().contains(&id))
        || line
            .strip_prefix("##")
            .and_then(|rest| rest.split_once('='))
            .is_some_and(|(key, _)| SAID.iter().any(|said| said.replace('.', "_") == key))
}

impl Out {
    pub(super) fn create(
        output: &VariantOutput,
        source: &str,
        (meta, columns): (&[String], &str),
        metadata: &[(String, String)],
        (window, strands): (u64, Strands),
    ) -> Result<Self> {
        let mut text = match output {
            VariantOutput::Parquet(path) => {
                return Ok(Self::Parquet(Box::new(VariantSink::create(path, source, metadata)?)));
            }
            VariantOutput::Vcf(path) => Text::Plain(WholeFile::create(path)?),
            VariantOutput::VcfGz(path) => Text::Bgzf(Box::new(BgzfFile::create(path)?)),
        };
        // A file that was annotated before gets new values in place of the old.
        for line in meta.iter().filter(|line| !is_ours(line)) {
            text.line(&[line.as_bytes()])?;
        }
        let what = [
            "log P(ALT) - log P(REF) over allele and window, nats",
            "difference of the mean log-likelihoods a base, nats",
            "Euclidean distance between the mean hidden states",
        ];
        for (reverse, strand) in [(false, "forward"), (true, "reverse")] {
            if !wanted(strands, reverse) {
                continue;
            }
            for (key, what) in KEYS[usize::from(reverse)].iter().zip(what) {
                let line = format!(
                    "##INFO=<ID={key},Number=A,Type=Float,Description=\"{what}, {strand} strand, window {window}\">"
                );
                text.line(&[line.as_bytes()])?;
            }
        }
        for (key, value) in metadata.iter().filter(|(key, _)| SAID.contains(&key.as_str())) {
            text.line(&[format!("##{}={value}", key.replace('.', "_")).as_bytes()])?;
        }
        text.line(&[columns.as_bytes()])?;
        Ok(Self::Vcf(text, 0))
    }

    /// A line that was not scored.
    pub(super) fn pass(&mut self, line: &[u8]) -> Result<()> {
        match self {
            Self::Parquet(_) => Ok(()),
            Self::Vcf(text, _) => text.line(&[line]),
        }
    }

    /// A record; `effects` are those of its alleles that have letters.
    pub(super) fn write(&mut self, index: u64, record: &VcfRecord, effects: &[Effects]) -> Result<()> {
        let mut effects = effects.iter();
        let all: Vec<Effects> = record
            .alternates
            .iter()
            .map(|alt| match Allele::of(alt) {
                Allele::Bases => effects.next().copied().unwrap_or_default(),
                _ => Effects::default(),
            })
            .collect();
        match self {
            Self::Parquet(sink) => {
                for (alt, effects) in record.alternates.iter().zip(&all) {
                    for (strand, effect) in ["+", "-"].into_iter().zip(effects) {
                        let Some([llr, llr_per_base, distance]) = *effect else { continue };
                        sink.write(VariantRow {
                            record_index: index,
                            chrom: record.chrom.clone(),
                            pos: record.pos,
                            reference: record.reference.clone(),
                            alt: alt.clone(),
                            strand,
                            llr,
                            llr_per_base,
                            distance,
                        })?;
                    }
                }
                Ok(())
            }
            Self::Vcf(text, rows) => {
                *rows += all.iter().flatten().flatten().count() as u64;
                text.line(&[with_info(&record.text, &added(&all)).as_bytes()])
            }
        }
    }

    /// Gives the file its name; how many rows are in it.
    pub(super) fn finish(self) -> Result<u64> {
        match self {
            Self::Parquet(sink) => Ok(sink.finish()?),
            Self::Vcf(text, rows) => {
                match text {
                    Text::Plain(file) => file.finish()?,
                    Text::Bgzf(file) => file.finish()?,
                }
                Ok(rows)
            }
        }
    }
}

/// Whether a strand is read.
pub(super) fn wanted(strands: Strands, reverse: bool) -> bool {
    match strands {
        Strands::Forward => !reverse,
        Strands::Reverse => reverse,
        Strands::Both => true,
    }
}

/// Entries of INFO: one value an ALT.
fn added(effects: &[Effects]) -> Vec<String> {
    let mut entries = Vec::new();
    for (strand, keys) in KEYS.iter().enumerate() {
        if effects.iter().all(|effects| effects[strand].is_none()) {
            continue;
        }
        for (i, key) in keys.iter().enumerate() {
            let value =
                |effects: &Effects| effects[strand].map_or(".".to_owned(), |e| format!("{:.6e}", e[i]));
            let values: Vec<String> = effects.iter().map(value).collect();
            entries.push(format!("{key}={}", values.join(",")));
        }
    }
    entries
}

/// The line with entries added to its INFO column, in place of those of an earlier run.
fn with_info(line: &str, added: &[String]) -> String {
    let mut columns: Vec<&str> = line.split('\t').collect();
    let Some(info) = columns.get_mut(7) else { return line.to_owned() };
    let old = |entry: &&str| KEYS.as_flattened().contains(&entry.split('=').next().unwrap_or_default());
    let has_old = info.split(';').any(|entry| old(&entry));
    if added.is_empty() && !has_old {
        return line.to_owned();
    }
    let kept = info.split(';').filter(|entry| *entry != "." && !old(entry));
    let entries: Vec<&str> = kept.chain(added.iter().map(String::as_str)).collect();
    let text = if entries.is_empty() { ".".to_owned() } else { entries.join(";") };
    *info = &text;
    columns.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_to_the_end_of_info_and_replace_old_ones() {
        let added = vec!["MSEQ_LLR=1".to_owned(), "MSEQ_DIST=2".to_owned()];
        for (info, want) in [
            (".", "MSEQ_LLR=1;MSEQ_DIST=2"),
            ("DP=3;H2", "DP=3;H2;MSEQ_LLR=1;MSEQ_DIST=2"),
            ("MSEQ_LLR=9,8;DP=3;MSEQ_DIST_REV=5", "DP=3;MSEQ_LLR=1;MSEQ_DIST=2"),
        ] {
            let line = |info: &str| format!("c\t1\t.\tA\tC\t5\tPASS\t{info}\tGT\t0/1");
            assert_eq!(with_info(&line(info), &added), line(want));
        }
        assert_eq!(with_info("c\t1\t.\tA\t.\t5\tPASS\tMSEQ_LLR=9", &[]), "c\t1\t.\tA\t.\t5\tPASS\t.");
        let untouched = "c\t1\t.\tA\t.\t5\tPASS\tDP=1;;X";
        assert_eq!(with_info(untouched, &[]), untouched);
    }

    #[test]
    fn lines_of_ours_are_known() {
        for (line, ours) in [
            ("##INFO=<ID=MSEQ_LLR,Number=A,Type=Float,Description=\"x\">", true),
            ("##INFO=<ID=MSEQ_LLRX,Number=A,Type=Float,Description=\"x\">", false),
            ("##INFO=<ID=DP,Number=1>", false),
            ("##mamba_seq_model_sha256=00", true),
            ("##mamba_seq_other=1", false),
            ("##contig=<ID=c>", false),
        ] {
            assert_eq!(is_ours(line), ours, "{line}");
        }
    }
}
