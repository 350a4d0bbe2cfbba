use std::path::Path;
use std::sync::Arc;

use mseq_core::{Pool, Regions, Windows};
use mseq_engine::EngineConfig;
use mseq_sink::Arrange;
use mseq_source::{PackedScratch, RegionSet, Strands, find_index};
use sha2::{Digest, Sha256};

use super::InputPlan;
use crate::Failure;

/// Which parts of the records are read, and in which direction.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) strands: Strands,
    pub(crate) bed: Option<Bed>,
}

/// The intervals of `--regions`.
#[derive(Debug, Clone)]
pub(crate) struct Bed {
    /// The file, as the user named it.
    pub(crate) path: String,
    pub(crate) set: Arc<RegionSet>,
}

impl Reading {
    /// # Errors
    /// When the BED file can't be read, or a line of it is wrong.
    pub(crate) fn open(strands: Strands, bed: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| -> Result<Bed, Failure> {
            Ok(Bed { path: path.display().to_string(), set: Arc::new(RegionSet::open(path)?) })
        };
        Ok(Self { strands, bed: bed.map(open).transpose()? })
    }

    /// The same intervals without the other strand: what a pass before the run reads.
    pub(crate) fn forward(&self) -> Self {
        Self { strands: Strands::Forward, bed: self.bed.clone() }
    }

    /// The intervals as the engine wants them. One without a name is called `contig:start-end`, as
    /// BED counts.
    pub(crate) fn regions(&self) -> Option<Arc<Regions>> {
        let intervals = self.bed.as_ref()?.set.intervals();
        let names: Vec<String> = intervals
            .iter()
            .map(|i| match &i.name {
                Some(_) => String::new(),
                None => format!("{}:{}-{}", i.contig, i.start, i.end),
            })
            .collect();
        let named = intervals
            .iter()
            .zip(&names)
            .map(|(i, name)| (&*i.contig, i.start, i.end, i.name.as_deref().unwrap_or(name)));
        Some(Arc::new(Regions::new(named)))
    }

    /// SHA-256 of the intervals, as hex.
    pub(crate) fn digest(&self) -> Option<String> {
        let mut digest = Sha256::new();
        for i in self.bed.as_ref()?.set.intervals() {
            for text in [&*i.contig, i.name.as_deref().unwrap_or_default()] {
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
            digest.update(i.start.to_le_bytes());
            digest.update(i.end.to_le_bytes());
        }
        Some(digest.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// How rows are put in order; `None` when they come in it.
    pub(crate) fn arrange(&self, config: &EngineConfig, combine: bool) -> Option<Arrange> {
        if self.strands == Strands::Forward && self.bed.is_none() {
            return None;
        }
        // No row has to wait where the record or the interval is the window.
        let region = config.regions.as_ref().map(|regions| regions.longest());
        let longest =
            |windows: Windows| windows.length().or(region).unwrap_or(0).min(region.unwrap_or(u64::MAX));
        let window = match config.pool {
            Pool::None => 1,
            _ => longest(config.fasta_windows).max(longest(config.fastq_windows)),
        };
        Some(Arrange { longest: window, combine })
    }

    /// Whether whole records are read in one direction.
    pub(crate) fn is_plain(&self) -> bool {
        self.strands == Strands::Forward && self.bed.is_none()
    }

    /// Rows of a window: one a strand, or one in all.
    pub(crate) fn rows_a_window(&self, combine: bool) -> u64 {
        if self.strands == Strands::Both && !combine { 2 } else { 1 }
    }

    /// As in the metadata.
    pub(crate) fn strand_text(&self) -> &'static str {
        match self.strands {
            Strands::Forward => "forward",
            Strands::Reverse => "reverse",
            Strands::Both => "both",
        }
    }

    /// What reading in reverse needs on the disk: `None` for nothing, else the most bytes, where
    /// the files tell.
    pub(crate) fn scratch(&self, inputs: &InputPlan) -> Option<Option<u64>> {
        if self.strands == Strands::Forward || matches!(inputs, InputPlan::Table { .. }) {
            return None;
        }
        let mut need = None;
        for path in inputs.paths() {
            let Some(path) = path else { return Some(None) };
            if find_index(&path).is_ok_and(|index| index.is_some()) {
                continue;
            }
            // A record is no longer than its file, unless that is compressed.
            let ending = path.extension().unwrap_or_default();
            let packed = ["gz", "bgz", "bgzf"].iter().any(|e| ending.eq_ignore_ascii_case(e));
            match std::fs::metadata(&path) {
                Ok(data) if !packed => need = need.max(Some(PackedScratch::bytes_needed(data.len()))),
                _ => return Some(None),
            }
        }
        need.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use mseq_core::Layer;

    use super::*;

    fn config(pool: Pool, windows: [Windows; 2], intervals: &[(u64, u64)]) -> EngineConfig {
        let regions = Regions::new(intervals.iter().map(|&(start, end)| ("x", start, end, "name")));
        EngineConfig {
            pool,
            layer: Layer::Last,
            fasta_windows: windows[0],
            fastq_windows: windows[1],
            chunk: 1,
            context: None,
            regions: (!intervals.is_empty()).then(|| Arc::new(regions)),
            parts: None,
            grid: 1,
            audio: None,
        }
    }

    /// A row must not wait for more than a window, else all rows of a chromosome do.
    #[test]
    fn rows_wait_for_the_longest_window_that_there_is() {
        let both = Reading { strands: Strands::Both, bed: None };
        let longest = |pool, windows, intervals| {
            both.arrange(&config(pool, windows, intervals), false).map(|how| how.longest)
        };
        let (tiled, record) = (|n| Windows::tiled(n, n).unwrap(), Windows::record());
        // The windows of a run without options.
        let default = [tiled(1000), record];
        assert_eq!(longest(Pool::Mean, default, &[]), Some(1000));
        assert_eq!(longest(Pool::Mean, [record; 2], &[]), Some(0));
        assert_eq!(longest(Pool::None, default, &[]), Some(1));
        let intervals = &[(5, 400), (7, 9)];
        assert_eq!(longest(Pool::Mean, default, intervals), Some(395));
        assert_eq!(longest(Pool::Max, [tiled(90); 2], intervals), Some(90));
        assert_eq!(longest(Pool::Last, [record; 2], intervals), Some(395));
        assert!(Reading::default().arrange(&config(Pool::Mean, default, &[]), false).is_none());
    }
}
