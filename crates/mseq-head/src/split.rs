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

/// The fold of each row. Rows of one class are dealt out in turn, so that every fold has its share
/// of each; `of` has the class of each row, all zero where there are none.
pub(crate) fn folds(of: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let classes = of.iter().max().map_or(0, |most| most + 1);
    let mut fold = vec![0; of.len()];
    let mut next = 0;
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..of.len()).filter(|&i| of[i] == class).collect();
        random.shuffle(&mut rows);
        for row in rows {
            fold[row] = next % folds;
            next += 1;
        }
    }
    fold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_its_share_of_each_class() {
        let of: Vec<usize> = (0..103).map(|i| usize::from(i % 10 == 0)).collect();
        let fold = folds(&of, 5, 7);
        for f in 0..5 {
            let has = |class| (0..103).filter(|&i| fold[i] == f && of[i] == class).count();
            assert!((18..=19).contains(&has(0)) && (2..=3).contains(&has(1)), "{} {}", has(0), has(1));
        }
        assert_ne!(fold, folds(&of, 5, 8));
        assert_eq!(fold, folds(&of, 5, 7));
    }
}
