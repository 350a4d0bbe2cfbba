//! Which records a run takes: `--shard` and `--on-bad-record skip`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use mseq_core::{Item, RecordHead};
use mseq_source::{DnaTokenizer, Keep, RecordFilter, Strands};
use sha2::{Digest, Sha256};

use crate::args::{EmbedArgs, EmbedPlan, OnBadRecord, Reading, Shard};
use crate::{Failure, say};

/// Bad records listed one by one.
const LISTED: usize = 10;

/// A choice of records, made in a pass before the run.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Indices of the records to take; `None` takes all.
    wanted: Option<BTreeSet<u64>>,
    /// Records left out for an illegal byte.
    pub(super) bad: u64,
    /// SHA-256 of the lengths of all records, as hex: the shards of one input have it in common.
    pub(super) input: Option<String>,
}

impl Selection {
    /// Reads the input once when an option asks for it.
    ///
    /// # Errors
    /// What reading finds, unless bad records are skipped.
    pub(super) fn new(
        args: &EmbedArgs,
        plan: &EmbedPlan,
        tokenizer: &DnaTokenizer,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let skip = args.on_bad_record == OnBadRecord::Skip;
        if args.shard.is_none() && !skip {
            return Ok(Self::default());
        }
        // With intervals the pass also says how much of each record is read.
        let lengths = if skip || plan.reading.bed.is_some() {
            good_records(plan, tokenizer, quiet, skip)?
        } else {
            let counts = plan.inputs.count()?;
            (counts.lengths.into_iter().map(Some).collect(), 0)
        };
        let (lengths, bad) = lengths;
        let wanted = share(&lengths, args.shard.unwrap_or(Shard { index: 1, of: 1 }));
        let mut digest = Sha256::new();
        lengths.iter().for_each(|len| digest.update(len.map_or(u64::MAX, |l| l).to_le_bytes()));
        let input = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { wanted: Some(wanted), bad, input: Some(input) })
    }

    /// Leaves the records out that are not wanted.
    pub(super) fn filter(&self) -> Option<RecordFilter> {
        self.wanted.clone().map(RecordFilter::indices)
    }
}

/// Length of each record as far as it is read, `None` for one that is not: without an interval, or
/// with an illegal byte, which is named and counted.
fn good_records(
    plan: &EmbedPlan,
    tokenizer: &DnaTokenizer,
    quiet: bool,
    skip: bool,
) -> Result<(Vec<Option<u64>>, u64), Failure> {
    let (filter, reading) = match &plan.reading.bed {
        // The reverse strand reads a record to its end, but only one that has an interval.
        Some(bed) if plan.reading.strands != Strands::Forward => {
            let set = Arc::clone(&bed.set);
            let keep =
                move |head: &RecordHead| if set.of(&head.id).is_empty() { Keep::Skip } else { Keep::All };
            (Some(RecordFilter::new(keep)), Reading::default())
        }
        _ => (None, plan.reading.forward()),
    };
    let mut source = plan.inputs.open(tokenizer.clone(), 1 << 16, filter, &reading)?;
    let mut lengths: Vec<Option<u64>> = Vec::new();
    let mut bad = 0u64;
    loop {
        match source.next() {
            Ok(None) => break,
            Ok(Some(Item::Begin(head))) => lengths.resize(head.index as usize + 1, None),
            Ok(Some(Item::End(tail))) => {
                if let Some(last) = lengths.last_mut() {
                    *last = Some(tail.bases);
                }
            }
            Ok(Some(Item::Tokens(_))) => {}
            Err(e) if skip && e.is_bad_record() => {
                bad += 1;
                if bad <= LISTED as u64 && !quiet {
                    say::line(&format!("skipped: {e}"));
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    if bad > LISTED as u64 && !quiet {
        say::line(&format!("skipped: {} more records", bad - LISTED as u64));
    }
    Ok((lengths, bad))
}

/// The records of one shard: longest first, each to the shard with the fewest bases so far, so
/// that the longest shard is at most 4/3 of the best possible (Graham 1969).
fn share(lengths: &[Option<u64>], shard: Shard) -> BTreeSet<u64> {
    let mut records: Vec<(Reverse<u64>, u64)> =
        lengths.iter().zip(0u64..).filter_map(|(len, i)| len.map(|len| (Reverse(len), i))).collect();
    records.sort_unstable();
    let mut shards: BinaryHeap<Reverse<(u64, u64, u32)>> =
        (1..=shard.of).map(|i| Reverse((0, 0, i))).collect();
    let mut mine = BTreeSet::new();
    for (Reverse(len), record) in records {
        // As many shards as the heap was made with, at least one.
        let Some(Reverse((load, count, i))) = shards.pop() else { break };
        if i == shard.index {
            mine.insert(record);
        }
        shards.push(Reverse((load + len, count + 1, i)));
    }
    mine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_part_the_records_and_balance_them() {
        let lengths: Vec<Option<u64>> =
            (0..57u64).map(|i| (i % 9 != 4).then_some((i * 7919) % 1000 * (1 + i % 5))).collect();
        for of in [1, 2, 3, 10, 80] {
            let shards: Vec<BTreeSet<u64>> =
                (1..=of).map(|index| share(&lengths, Shard { index, of })).collect();
            let mut all: Vec<u64> = shards.iter().flatten().copied().collect();
            all.sort_unstable();
            let good: Vec<u64> = (0..57).filter(|i| lengths[*i as usize].is_some()).collect();
            assert_eq!(all, good, "{of}");
            let load = |s: &BTreeSet<u64>| s.iter().filter_map(|i| lengths[*i as usize]).sum::<u64>();
            let total: u64 = lengths.iter().flatten().sum();
            let longest = lengths.iter().flatten().max().unwrap();
            let worst = shards.iter().map(load).max().unwrap();
            assert!(worst <= (total / u64::from(of) + longest), "{of}: {worst}");
        }
    }
}
