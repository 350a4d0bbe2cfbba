//! Folds for cross-validation, and the random numbers that draw them.

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// The fold of each row. Records of one class are dealt out in turn, so that every fold has its share of each,
/// and rows of one record stay together: held out beside the rest of their record, they would be half known.
/// `of` has the class of each row, all zero where there are none; a record's is that of its first row. Where
/// a class has fewer records than folds, rows are dealt out.
pub(crate) fn folds(of: &[usize], records: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let firsts = firsts(records);
    let classes = of.iter().max().map_or(0, |most| most + 1);
    let enough = (0..classes).all(|class| firsts.iter().filter(|&&i| of[i] == class).count() >= folds);
    let (items, group): (Vec<usize>, Vec<usize>) = match enough {
        true => (firsts, records.to_vec()),
        false => ((0..of.len()).collect(), (0..of.len()).collect()),
    };
    let mut random = Random::new(seed);
    let mut fold = vec![0; group.iter().max().map_or(0, |most| most + 1)];
    let mut next = 0;
    for class in 0..classes {
        let mut items: Vec<usize> = items.iter().copied().filter(|&i| of[i] == class).collect();
        random.shuffle(&mut items);
        for item in items {
            fold[group[item]] = next % folds;
            next += 1;
        }
    }
    group.iter().map(|&group| fold[group]).collect()
}

/// The first row of each record, whose numbers rise as records first occur.
fn firsts(records: &[usize]) -> Vec<usize> {
    let mut firsts = Vec::new();
    for (i, &record) in records.iter().enumerate() {
        if record == firsts.len() {
            firsts.push(i);
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_its_share_of_each_class() {
        let of: Vec<usize> = (0..103).map(|i| usize::from(i % 10 == 0)).collect();
        let alone: Vec<usize> = (0..103).collect();
        let fold = folds(&of, &alone, 5, 7);
        for f in 0..5 {
            let has = |class| (0..103).filter(|&i| fold[i] == f && of[i] == class).count();
            assert!((18..=19).contains(&has(0)) && (2..=3).contains(&has(1)), "{} {}", has(0), has(1));
        }
        assert_ne!(fold, folds(&of, &alone, 5, 8));
        assert_eq!(fold, folds(&of, &alone, 5, 7));
    }

    #[test]
    fn rows_of_a_record_stay_together() {
        let records: Vec<usize> = (0..90).map(|i| i / 3).collect();
        let of: Vec<usize> = records.iter().map(|record| record % 2).collect();
        let fold = folds(&of, &records, 5, 7);
        assert!((0..90).all(|i| fold[i] == fold[i / 3 * 3]));
        for f in 0..5 {
            assert_eq!(fold.iter().filter(|&&g| g == f).count(), 18);
        }
        // Two records can't fill five folds, but their rows can.
        let records: Vec<usize> = (0..90).map(|i| i / 45).collect();
        let fold = folds(&records, &records, 5, 7);
        assert!((0..5).all(|f| (0..2).all(|r| (0..90).any(|i| fold[i] == f && records[i] == r))));
    }
}
