use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mseq_engine::RecordSummary;
use mseq_sink::Report;
use serde::{Deserialize, Serialize};

/// What a job has done so far, for a progress display to read at its own pace.
#[derive(Debug, Default)]
pub struct Counters {
    bases: AtomicU64,
    rows: AtomicU64,
    records: AtomicU64,
    bytes_read: AtomicU64,
    bases_read: AtomicU64,
    all_read: AtomicBool,
    resumed_from: AtomicU64,
    started: AtomicBool,
    record: Mutex<Option<Arc<str>>>,
    /// Of the parts of a job that run side by side; what is above is then not used.
    parts: Vec<Arc<Counters>>,
    /// Bases of the whole input, where a pass before the run counted them.
    total: Option<u64>,
}

impl Counters {
    /// The sum of the parts of a job, over an input of `total` bases.
    pub fn of_parts(parts: Vec<Arc<Counters>>, total: u64) -> Self {
        Self { parts, total: Some(total), ..Self::default() }
    }

    fn sum(&self, own: &AtomicU64, of: fn(&Counters) -> u64) -> u64 {
        own.load(Ordering::Relaxed) + self.parts.iter().map(|part| of(part)).sum::<u64>()
    }

    /// Bases that went through the model.
    pub fn bases(&self) -> u64 {
        self.sum(&self.bases, Self::bases)
    }

    /// Bases that an earlier run had done.
    pub fn resumed_from(&self) -> u64 {
        self.sum(&self.resumed_from, Self::resumed_from)
    }

    /// Whether the job knows where it starts.
    pub fn started(&self) -> bool {
        match &self.parts[..] {
            [] => self.started.load(Ordering::Acquire),
            parts => parts.iter().all(|part| part.started()),
        }
    }

    /// For work on one record that is no job of rows.
    pub fn of_one(record: &Arc<str>) -> Self {
        let counters = Self::default();
        counters.set_record(record);
        counters.start(0, 0);
        counters
    }

    /// So many bases or samples there will be, where that is known.
    pub fn expect(&self, total: Option<u64>) {
        if let Some(total) = total {
            self.set_total(total);
        }
    }

    /// So many more of them are done.
    pub fn advance(&self, bases: u64) {
        self.add(bases, 0, 0);
    }

    pub(crate) fn start(&self, resumed_from: u64, records: u64) {
        self.resumed_from.store(resumed_from, Ordering::Relaxed);
        self.add(resumed_from, 0, records);
        self.started.store(true, Ordering::Release);
    }

    /// Rows made.
    pub fn rows(&self) -> u64 {
        self.sum(&self.rows, Self::rows)
    }

    /// Records finished.
    pub fn records(&self) -> u64 {
        self.sum(&self.records, Self::records)
    }

    /// Bases of the whole input: exact once it is read, before that scaled up from the share of
    /// its `bytes_total` that is read. `None` for standard input.
    pub fn bases_total(&self, bytes_total: Option<u64>) -> Option<u64> {
        if self.total.is_some() {
            return self.total;
        }
        let (bytes, bases) =
            (self.bytes_read.load(Ordering::Relaxed), self.bases_read.load(Ordering::Relaxed));
        if self.all_read.load(Ordering::Relaxed) {
            return Some(bases);
        }
        let total = bytes_total.filter(|_| bytes > 0)?;
        Some((bases as f64 * (total as f64 / bytes as f64).max(1.0)) as u64)
    }

    /// The record that is being read.
    pub fn record(&self) -> Option<Arc<str>> {
        let own = self.record.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.or_else(|| self.parts.iter().find_map(|part| part.record()))
    }

    pub(crate) fn add(&self, bases: u64, rows: u64, records: u64) {
        self.bases.fetch_add(bases, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn set_read(&self, bytes: u64, bases: u64) {
        self.bytes_read.store(bytes, Ordering::Relaxed);
        self.bases_read.store(bases, Ordering::Relaxed);
    }

    /// The tokens of the whole job are known.
    pub(crate) fn set_total(&self, tokens: u64) {
        self.set_read(0, tokens);
        self.set_all_read();
    }

    pub(crate) fn set_all_read(&self) {
        self.all_read.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_record(&self, id: &Arc<str>) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(id));
    }
}

/// Unknown letters of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownIn {
    /// Record id.
    pub record: String,
    /// Its position in the input.
    pub record_index: u64,
    /// Letters that became the unknown token.
    pub unknown: u64,
    /// Letters in all.
    pub bases: u64,
}

/// What was counted over the records that are complete.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Records read.
    pub records: u64,
    /// Records without a letter, which gave no row.
    pub empty: u64,
    /// Letters read.
    pub bases: u64,
    /// Tokens that went through the model: letters, twice where both strands are read.
    pub tokens: u64,
    /// Windows of recordings in which no token begins.
    #[serde(default)]
    pub skipped_windows: u64,
    /// Nanoseconds of sound in recordings.
    #[serde(default)]
    pub nanos: u64,
    /// Samples beyond full scale.
    #[serde(default)]
    pub beyond: u64,
    /// Letters that became the unknown token.
    pub unknown: u64,
    /// Lower-case letters.
    pub soft_masked: u64,
    /// The first records with unknown letters, at most [`Tally::LISTED`].
    pub unknown_in: Vec<UnknownIn>,
    /// Records with unknown letters.
    pub unknown_records: u64,
    /// Index of the last record.
    pub last: Option<u64>,
}

impl Tally {
    /// Records listed one by one; the rest are only counted, so that memory stays bounded.
    pub const LISTED: usize = 1000;

    pub(crate) fn add(&mut self, record: &RecordSummary) {
        let tail = record.tail;
        self.tokens += record.tokens;
        self.skipped_windows += record.skipped_windows;
        if self.last.replace(record.head.index) == Some(record.head.index) {
            // Its other strand: the same letters.
            return;
        }
        self.records += 1;
        self.empty += u64::from(tail.bases == 0);
        self.bases += tail.bases;
        self.unknown += tail.unknown;
        self.soft_masked += tail.soft_masked;
        self.beyond += tail.beyond;
        if let Some(signal) = record.head.signal {
            let nanos = u128::from(tail.bases) * 1_000_000_000 / u128::from(signal.rate.get());
            self.nanos = self.nanos.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        if tail.unknown > 0 {
            self.unknown_records += 1;
            if self.unknown_in.len() < Self::LISTED {
                self.unknown_in.push(UnknownIn {
                    record: record.head.id.to_string(),
                    record_index: record.head.index,
                    unknown: tail.unknown,
                    bases: tail.bases,
                });
            }
        }
    }
}

impl Tally {
    /// Adds what another part of the job counted, over other records.
    pub(crate) fn join(&mut self, other: Tally) {
        self.records += other.records;
        self.empty += other.empty;
        self.bases += other.bases;
        self.tokens += other.tokens;
        self.skipped_windows += other.skipped_windows;
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.beyond += other.beyond;
        self.unknown += other.unknown;
        self.soft_masked += other.soft_masked;
        self.unknown_records += other.unknown_records;
        self.unknown_in.extend(other.unknown_in);
        self.unknown_in.sort_by_key(|unknown| unknown.record_index);
        self.unknown_in.truncate(Self::LISTED);
        self.last = self.last.max(other.last);
    }
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// Over the whole input, parts done before a resume included.
    pub tally: Tally,
    /// Letters that this run passed over because an earlier one had done them.
    pub resumed_from: u64,
    /// What was written.
    pub report: Report,
    /// Wall time of the run.
    pub elapsed: Duration,
}
