//! What can't be written as a track of a genome browser.

use std::path::Path;

use mseq_core::SequenceFormat;
use mseq_pipeline::{Output, Track};
use mseq_source::Strands;

use super::{JobArgs, JobPlan, OnBadRecord};
use crate::Failure;

impl JobPlan {
    /// Whether a contig may end behind its last row.
    pub(crate) fn leaves_gaps(&self) -> bool {
        let apart = |format| {
            let windows = self.windows(format);
            windows.length().zip(windows.stride()).is_some_and(|(length, stride)| stride > length)
        };
        self.reading.bed.is_some() || [SequenceFormat::Fasta, SequenceFormat::Fastq].into_iter().any(apart)
    }
}

impl JobArgs {
    /// A track has one value a base: nothing in it may overlap, and nothing goes with it.
    pub(super) fn check_track(&self, plan: &JobPlan, path: &Path) -> Result<(), Failure> {
        let refuse = |why: &str| Err(Failure::Usage(format!("{}: {why} write .parquet", path.display())));
        if plan.audio.is_some() {
            return refuse("a track lies along a genome, and the model reads audio;");
        }
        let whole = matches!(plan.output, Output::Track(_, Track::BigWig { .. })) && plan.leaves_gaps();
        if whole && (plan.inputs.reads_once() || self.on_bad_record == OnBadRecord::Skip) {
            return refuse(
                "a bigWig of intervals, or of windows with gaps between, has the lengths of all contigs, for which the \
                 input is read before, and can't be from standard input or with --on-bad-record skip;",
            );
        }
        for format in [SequenceFormat::Fasta, SequenceFormat::Fastq] {
            let windows = plan.windows(format);
            if let (Some(length), Some(stride)) = (windows.length(), windows.stride())
                && stride < length
            {
                return refuse(&format!(
                    "windows of {length} every {stride} bases overlap, and a track has one value a base; use --stride {length}, or"
                ));
            }
        }
        if plan.reading.strands == Strands::Both && !plan.combine {
            return refuse(
                "both strands of a window have the same place; use one strand or --combine-strands mean, or",
            );
        }
        if plan.reading.regions().is_some_and(|regions| regions.depth() > 1) {
            return refuse("intervals of --regions overlap, and a track has one value a base;");
        }
        if self.keep.is_some() {
            return refuse("a track has no columns for --keep;");
        }
        if self.shard.is_some() {
            return refuse("`merge` joins Parquet files only;");
        }
        Ok(())
    }
}
