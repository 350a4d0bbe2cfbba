use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// One interval of a record that rows are wanted of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First base, 0-based.
    pub start: u64,
    /// One past the last base; never `start`.
    pub end: u64,
    /// What the rows call it.
    pub name: Arc<str>,
    /// Intervals that share a base have different lanes, counted from 0.
    pub lane: u32,
}

/// The intervals of all records, by record id.
///
/// ```
/// use mseq_core::Regions;
/// let regions = Regions::new([("chr1", 5, 9, "b"), ("chr1", 2, 6, "a"), ("chr1", 6, 7, "c")]);
/// let lanes: Vec<_> = regions.of("chr1").iter().map(|r| (r.start, r.lane)).collect();
/// assert_eq!(lanes, [(2, 0), (5, 1), (6, 0)]);
/// assert_eq!((regions.depth(), regions.longest(), regions.shortest()), (2, 4, 1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Regions {
    by_record: HashMap<Arc<str>, Arc<[Region]>>,
    depth: u32,
    longest: u64,
    shortest: u64,
}

impl Regions {
    /// From record ids with start, end and name, in any order; those of a record are sorted by
    /// start, then end, then the order given. An empty interval is left out.
    pub fn new<'a>(intervals: impl IntoIterator<Item = (&'a str, u64, u64, &'a str)>) -> Self {
        let mut groups: HashMap<Arc<str>, Vec<Region>> = HashMap::new();
        // Names repeat the record's or each other's often enough to be shared.
        let mut names: HashMap<&str, Arc<str>> = HashMap::new();
        for (record, start, end, name) in intervals {
            if start >= end {
                continue;
            }
            let name = names.entry(name).or_insert_with(|| name.into()).clone();
            let region = Region { start, end, name, lane: 0 };
            match groups.get_mut(record) {
                Some(group) => group.push(region),
                None => drop(groups.insert(record.into(), vec![region])),
            }
        }
        let mut all = Self::default();
        for (record, mut group) in groups {
            group.sort_by_key(|r| (r.start, r.end));
            all.depth = all.depth.max(lanes(&mut group));
            for len in group.iter().map(|r| r.end - r.start) {
                all.longest = all.longest.max(len);
                // 0 is none so far.
                all.shortest = if all.shortest == 0 { len } else { all.shortest.min(len) };
            }
            all.by_record.insert(record, group.into());
        }
        all
    }

    /// The intervals of a record; none for one that does not occur.
    pub fn of(&self, record: &str) -> Arc<[Region]> {
        self.by_record.get(record).cloned().unwrap_or_else(|| [].into())
    }

    /// Most intervals that share a base.
    pub fn depth(&self) -> u64 {
        self.depth.into()
    }

    /// Bases of the longest interval.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// Bases of the shortest interval.
    pub fn shortest(&self) -> u64 {
        self.shortest
    }
}

/// Gives each interval the lowest lane that is free at its start; says how many there are.
fn lanes(sorted: &mut [Region]) -> u32 {
    let mut busy: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    let mut free: BinaryHeap<Reverse<u32>> = BinaryHeap::new();
    let mut count = 0;
    for region in sorted {
        while let Some(&Reverse((end, lane))) = busy.peek()
            && end <= region.start
        {
            busy.pop();
            free.push(Reverse(lane));
        }
        region.lane = free.pop().map_or(count, |Reverse(lane)| lane);
        count = count.max(region.lane + 1);
        busy.push(Reverse((region.end, region.lane)));
    }
    count
}
