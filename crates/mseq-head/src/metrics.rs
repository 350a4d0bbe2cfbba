use crate::split::Random;

/// A figure and its 95 % interval: of a share Wilson's, of others what resampled test sets give.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// On all rows.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How a head of classes does.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ClassReport {
    /// Rows.
    pub rows: usize,
    /// Names, in the order of the matrix.
    pub classes: Vec<String>,
    /// Share of rows whose most likely class is right.
    pub accuracy: Interval,
    /// Matthews' correlation, of many classes Gorodkin's (2004).
    pub mcc: Interval,
    /// Area under the ROC curve: of the second of two classes; of more the mean over classes, each
    /// against the rest. `None` where a class is missing among the rows.
    pub auroc: Option<Interval>,
    /// Mean over classes of the harmonic mean of precision and recall.
    pub f1_macro: Interval,
    /// F1 of each class.
    pub f1: Vec<f64>,
    /// Mean of the negative logarithm of the right class's probability.
    pub log_loss: f64,
    /// (classes, classes): rows of a class, by what was said.
    pub confusion: Vec<Vec<u64>>,
}

/// How a head of numbers does.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NumberReport {
    /// Rows.
    pub rows: usize,
    /// Share of the variance that is explained.
    pub r2: Interval,
    /// Pearson's correlation.
    pub pearson: Interval,
    /// Mean absolute error.
    pub mae: Interval,
    /// Root of the mean squared error.
    pub rmse: Interval,
}

/// Resamples of the rows, with replacement, for intervals.
const RESAMPLES: usize = 1000;

/// A figure with its interval over the resamples.
fn interval(samples: &[Vec<usize>], all: &[usize], figure: impl Fn(&[usize]) -> f64 + Sync) -> Interval {
    use rayon::prelude::*;
    let mut values: Vec<f64> =
        samples.par_iter().map(|rows| figure(rows)).filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let value = figure(all);
    let at = |share: f64| match values.len() {
        0 => value,
        n => values[((n - 1) as f64 * share).round() as usize],
    };
    Interval { value, low: at(0.025), high: at(0.975) }
}

/// A share with Wilson's interval (1927). Unlike resamples it also has a width where all rows are right.
fn share(right: u64, rows: u64) -> Interval {
    // 97.5 % of a normal distribution are below.
    const Z: f64 = 1.959_963_984_540_054;
    let (n, value) = (rows as f64, right as f64 / rows as f64);
    let under = 1.0 + Z * Z / n;
    let middle = (value + Z * Z / (2.0 * n)) / under;
    let half = Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt() / under;
    Interval { value, low: (middle - half).clamp(0.0, value), high: (middle + half).clamp(value, 1.0) }
}

fn resamples(n: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Random::new(seed);
    (0..RESAMPLES).map(|_| (0..n).map(|_| random.below(n)).collect()).collect()
}

/// Compares probabilities, (rows, classes), with what the rows are.
pub fn classes(names: &[String], probabilities: &[f32], of: &[usize], seed: u64) -> ClassReport {
    let (k, n) = (names.len(), of.len());
    let row = |i: usize| &probabilities[i * k..(i + 1) * k];
    let said: Vec<usize> = (0..n)
        .map(|i| row(i).iter().enumerate().fold(0, |best, (c, p)| if *p > row(i)[best] { c } else { best }))
        .collect();
    let all: Vec<usize> = (0..n).collect();
    let samples = resamples(n, seed);
    let matrix = |rows: &[usize]| {
        let mut matrix = vec![vec![0u64; k]; k];
        rows.iter().for_each(|&i| matrix[of[i]][said[i]] += 1);
        matrix
    };
    let mut counts = vec![0usize; k];
    of.iter().for_each(|&c| counts[c] += 1);
    let area = |rows: &[usize]| {
        let classes: Vec<usize> = if k == 2 { vec![1] } else { (0..k).collect() };
        let areas = classes.iter().map(|&c| auroc(rows.iter().map(|&i| (row(i)[c], of[i] == c))));
        areas.sum::<f64>() / classes.len() as f64
    };
    let loss = (0..n).map(|i| -f64::from(row(i)[of[i]].max(f32::MIN_POSITIVE)).ln()).sum::<f64>();
    ClassReport {
        rows: n,
        classes: names.to_vec(),
        accuracy: share((0..n).filter(|&i| said[i] == of[i]).count() as u64, n as u64),
        mcc: interval(&samples, &all, |rows| mcc(&matrix(rows))),
        auroc: (!counts.contains(&0)).then(|| interval(&samples, &all, area)),
        f1_macro: interval(&samples, &all, |rows| {
            let each = f1(&matrix(rows));
            each.iter().sum::<f64>() / k as f64
        }),
        f1: f1(&matrix(&all)),
        log_loss: loss / n as f64,
        confusion: matrix(&all),
    }
}

/// Compares numbers with what they should be.
pub fn numbers(found: &[f64], truth: &[f64], seed: u64) -> NumberReport {
    let n = truth.len();
    let all: Vec<usize> = (0..n).collect();
    let samples = resamples(n, seed);
    let mean = |rows: &[usize], f: &dyn Fn(usize) -> f64| {
        rows.iter().map(|&i| f(i)).sum::<f64>() / rows.len() as f64
    };
    let squared = |rows: &[usize]| mean(rows, &|i| (found[i] - truth[i]).powi(2));
    let r2 = |rows: &[usize]| {
        let centre = mean(rows, &|i| truth[i]);
        1.0 - squared(rows) / mean(rows, &|i| (truth[i] - centre).powi(2))
    };
    let pearson = |rows: &[usize]| {
        let (a, b) = (mean(rows, &|i| found[i]), mean(rows, &|i| truth[i]));
        let both = mean(rows, &|i| (found[i] - a) * (truth[i] - b));
        let (va, vb) = (mean(rows, &|i| (found[i] - a).powi(2)), mean(rows, &|i| (truth[i] - b).powi(2)));
        both / (va * vb).sqrt()
    };
    NumberReport {
        rows: n,
        r2: interval(&samples, &all, r2),
        pearson: interval(&samples, &all, pearson),
        mae: interval(&samples, &all, |rows| mean(rows, &|i| (found[i] - truth[i]).abs())),
        rmse: interval(&samples, &all, |rows| squared(rows).sqrt()),
    }
}

/// 0 where it is not defined: all rows of one class, or all said to be.
fn mcc(matrix: &[Vec<u64>]) -> f64 {
    let k = matrix.len();
    let total = matrix.iter().flatten().sum::<u64>() as f64;
    let right: f64 = (0..k).map(|i| matrix[i][i] as f64).sum();
    let truth: Vec<f64> = matrix.iter().map(|row| row.iter().sum::<u64>() as f64).collect();
    let said: Vec<f64> = (0..k).map(|j| matrix.iter().map(|row| row[j]).sum::<u64>() as f64).collect();
    let both: f64 = truth.iter().zip(&said).map(|(a, b)| a * b).sum();
    let square = |v: &[f64]| total * total - v.iter().map(|x| x * x).sum::<f64>();
    let under = (square(&truth) * square(&said)).sqrt();
    if under > 0.0 { (right * total - both) / under } else { 0.0 }
}

/// 0 for a class that is neither there nor said.
fn f1(matrix: &[Vec<u64>]) -> Vec<f64> {
    let of = |c: usize| {
        let right = matrix[c][c] as f64;
        let (truth, said) = (matrix[c].iter().sum::<u64>(), matrix.iter().map(|row| row[c]).sum::<u64>());
        let both = (truth + said) as f64;
        if both > 0.0 { 2.0 * right / both } else { 0.0 }
    };
    (0..matrix.len()).map(of).collect()
}

/// Mann and Whitney's U over the number of pairs; pairs of equal value count half. NaN where either
/// side is empty.
fn auroc(values: impl Iterator<Item = (f32, bool)>) -> f64 {
    let mut values: Vec<(f32, bool)> = values.collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for equal in values.chunk_by(|a, b| a.0 == b.0) {
        let yes = equal.iter().filter(|v| v.1).count() as f64;
        let no = equal.len() as f64 - yes;
        wins += yes * (below + 0.5 * no);
        below += no;
    }
    let yes = values.len() as f64 - below;
    wins / (yes * below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        // Six right of ten; two classes.
        let matrix = vec![vec![4, 2], vec![2, 2]];
        // Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (right, rows, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let found = share(right, rows);
            assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
        }
        assert_eq!(share(6, 10).value, 0.6);
        assert!((mcc(&matrix) - (4.0 * 2.0 - 2.0 * 2.0) / (6.0 * 4.0 * 6.0 * 4.0f64).sqrt()).abs() < 1e-12);
        let each = f1(&matrix);
        assert!((each[0] - 8.0 / 12.0).abs() < 1e-12 && (each[1] - 4.0 / 8.0).abs() < 1e-12);
        assert_eq!(mcc(&[vec![5, 0], vec![5, 0]]), 0.0);
        let yes_no = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        assert_eq!(auroc(yes_no.into_iter()), 0.75);
        assert_eq!(auroc([(0.5, false), (0.5, true)].into_iter()), 0.5);
        assert!(auroc([(0.5, true)].into_iter()).is_nan());
    }

    #[test]
    fn a_perfect_head_is_one_and_intervals_hold_the_value() {
        let names = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let of: Vec<usize> = (0..90).map(|i| i % 3).collect();
        let perfect: Vec<f32> =
            of.iter().flat_map(|&c| (0..3).map(move |k| if k == c { 0.9 } else { 0.05 })).collect();
        let report = classes(&names, &perfect, &of, 1);
        assert_eq!((report.accuracy.value, report.mcc.value, report.auroc.unwrap().value), (1.0, 1.0, 1.0));
        let mut some = perfect.clone();
        some[..30].fill(1.0 / 3.0);
        let report = classes(&names, &some, &of, 1);
        let Interval { value, low, high } = report.accuracy;
        assert!(low < value && value < high && high <= 1.0, "{report:?}");
        let exact = numbers(&[1.0, 2.0, 4.0], &[1.0, 2.0, 4.0], 1);
        assert_eq!((exact.r2.value, exact.mae.value), (1.0, 0.0));
    }
}
