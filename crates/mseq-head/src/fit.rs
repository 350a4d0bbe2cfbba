use std::sync::{Mutex, PoisonError};

use argmin::core::{CostFunction, Executor, Gradient, State, TerminationReason};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use rayon::prelude::*;

use crate::split::folds;
use crate::{Error, Examples, Result, Targets, ridge};

/// How strongly weights are pulled to zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strength {
    /// Half of it times the sum of squared weights is added to the summed loss: 1 / C of
    /// scikit-learn, its alpha of ridge regression.
    Fixed(f64),
    /// The power of ten from 1e-3 to 1e4 that does best on rows that were held out.
    CrossValidated {
        /// Parts that the rows are cut in, at least 2.
        folds: usize,
    },
}

/// Strengths that cross-validation tries.
pub(crate) const GRID: [f64; 8] = [1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3];

/// How much the rows of a class count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClassWeight {
    /// All rows the same.
    #[default]
    None,
    /// Every class as much as any other in all: rows / (classes * rows of the class).
    Balanced,
}

/// How to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// See there.
    pub strength: Strength,
    /// Of classes only.
    pub class_weight: ClassWeight,
    /// For the folds.
    pub seed: u64,
}

/// A linear layer on standardised rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Mean of each channel over the rows.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel; 1 where it is zero.
    pub scale: Vec<f64>,
    /// (outputs, dim): one a class, or one number.
    pub weight: Vec<f64>,
    /// (outputs).
    pub bias: Vec<f64>,
    /// The strength that was used.
    pub strength: f64,
    /// Loss on held-out rows of each strength that was tried: mean log loss, or mean squared error.
    pub tried: Vec<(f64, f64)>,
}

/// Fits a multinomial logistic regression with an L2 penalty on classes, a ridge regression on
/// numbers, both on standardised rows; the bias is free.
///
/// Of two classes the first has no weights, as usual (and in scikit-learn); of more, all have.
///
/// # Errors
/// When there are fewer rows of a class than folds, or the solver gives up.
pub fn fit(examples: &Examples, options: &FitOptions) -> Result<Fitted> {
    let (mean, scale) = moments(&examples.rows, examples.dim);
    let mut x = examples.rows.clone();
    for row in x.chunks_exact_mut(examples.dim) {
        for ((v, m), s) in row.iter_mut().zip(&mean).zip(&scale) {
            *v = (*v - m) / s;
        }
    }
    let (strength, tried) = match options.strength {
        Strength::Fixed(strength) => (strength, Vec::new()),
        Strength::CrossValidated { folds } => validate(&x, examples, folds, options)?,
    };
    let (weight, bias) = match &examples.targets {
        Targets::Numbers(y) => ridge::solve(&x, y, examples.dim, strength)?,
        Targets::Classes(names, of) => {
            let data = Logistic::new(&x, of, names.len(), examples.dim, strength, options.class_weight);
            data.solve(None, 1e-9)?.1
        }
    };
    Ok(Fitted { mean, scale, weight, bias, strength, tried })
}

/// Mean and standard deviation of each channel.
fn moments(rows: &[f64], dim: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (rows.len() / dim) as f64;
    let (mut mean, mut square) = (vec![0.0; dim], vec![0.0; dim]);
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v);
    }
    mean.iter_mut().for_each(|m| *m /= n);
    for row in rows.chunks_exact(dim) {
        square.iter_mut().zip(row).zip(&mean).for_each(|((s, v), m)| *s += (v - m) * (v - m));
    }
    // What is left of a constant channel is rounding.
    let scale = square.iter().zip(&mean).map(|(s, m)| {
        let std = (s / n).sqrt();
        if std > 1e-12 * m.abs().max(1e-300) { std } else { 1.0 }
    });
    let scale = scale.collect();
    (mean, scale)
}

/// The strength of the grid with the least loss on held-out rows.
fn validate(
    x: &[f64],
    examples: &Examples,
    k: usize,
    options: &FitOptions,
) -> Result<(f64, Vec<(f64, f64)>)> {
    let (dim, n) = (examples.dim, examples.len());
    let zeros = vec![0; n];
    let of = match &examples.targets {
        Targets::Classes(names, of) => {
            for (class, name) in names.iter().enumerate() {
                let rows = of.iter().filter(|&&c| c == class).count();
                if rows < k {
                    return Err(Error::Labels(format!(
                        "class '{name}' has {rows} rows, fewer than the {k} folds of cross-validation; use --strength X or fewer --folds"
                    )));
                }
            }
            of
        }
        Targets::Numbers(_) if n < k => {
            return Err(Error::Labels(format!("{n} rows are fewer than the {k} folds of cross-validation")));
        }
        Targets::Numbers(_) => &zeros,
    };
    let fold = folds(of, &examples.records, k, options.seed);
    let mut losses = vec![0.0; GRID.len()];
    for f in 0..k {
        let part = |held: bool| -> Vec<usize> { (0..n).filter(|&i| (fold[i] == f) == held).collect() };
        let (train, test) = (part(false), part(true));
        let rows = |of: &[usize]| -> Vec<f64> {
            of.iter().flat_map(|&i| x[i * dim..(i + 1) * dim].iter().copied()).collect()
        };
        let (train_x, test_x) = (rows(&train), rows(&test));
        // From the strongest down, each from where the last ended.
        let mut start = None;
        for (loss, &strength) in losses.iter_mut().zip(&GRID) {
            match &examples.targets {
                Targets::Numbers(y) => {
                    let pick = |of: &[usize]| -> Vec<f64> { of.iter().map(|&i| y[i]).collect() };
                    let (weight, bias) = ridge::solve(&train_x, &pick(&train), dim, strength)?;
                    let off = test_x.chunks_exact(dim).zip(pick(&test)).map(|(row, y)| {
                        let found: f64 = bias[0] + row.iter().zip(&weight).map(|(a, b)| a * b).sum::<f64>();
                        (found - y).powi(2)
                    });
                    *loss += off.sum::<f64>();
                }
                Targets::Classes(names, of) => {
                    let pick = |rows: &[usize]| -> Vec<usize> { rows.iter().map(|&i| of[i]).collect() };
                    let (train_of, test_of) = (pick(&train), pick(&test));
                    let weighting = options.class_weight;
                    let data = Logistic::new(&train_x, &train_of, names.len(), dim, strength, weighting);
                    let at = match data.solve(start.take(), 1e-5) {
                        Ok((at, _)) => at,
                        // Too weak for these rows: it can't be the best.
                        Err(Error::Solver(_)) => {
                            *loss = f64::INFINITY;
                            continue;
                        }
                        Err(e) => return Err(e),
                    };
                    let held = Logistic::new(&test_x, &test_of, names.len(), dim, 0.0, ClassWeight::None);
                    *loss += held.value(&at).0 * test.len() as f64;
                    start = Some(at);
                }
            }
        }
    }
    let means = losses.iter().map(|loss| loss / n as f64);
    let tried: Vec<(f64, f64)> =
        GRID.iter().copied().zip(means).filter(|(_, loss)| loss.is_finite()).collect();
    if tried.is_empty() {
        return Err(Error::Solver("no strength of the penalty has a minimum; look at the embeddings".into()));
    }
    // Of equal ones the strongest.
    let best = tried.iter().fold(tried[0], |best, next| if next.1 < best.1 { *next } else { best });
    Ok((best.0, tried))
}

/// Of a fit that settles, several times what it takes. With 2000, and 10 of [`MEMORY`], channels that nearly
/// depend on each other did not settle at the weakest penalty of the grid.
const STEPS: u64 = 20_000;

/// Steps that the solver remembers.
const MEMORY: usize = 30;

/// Weights and bias of a linear layer.
type Layer = (Vec<f64>, Vec<f64>);

/// A point, the value there, and the gradient.
type Seen = (Vec<f64>, f64, Vec<f64>);

/// The loss of a multinomial logistic regression and its gradient.
struct Logistic<'a> {
    x: &'a [f64],
    of: &'a [usize],
    weights: Vec<f64>,
    classes: usize,
    /// Classes with weights of their own: one of two, all of more.
    free: usize,
    dim: usize,
    strength: f64,
    /// Most steps of the solver.
    steps: u64,
    /// The last point and what was found there: value and gradient are asked for one after the other.
    last: Mutex<Option<Seen>>,
}

/// Rows that are summed before their sum is added to the others: fixed, whatever the threads.
const BLOCK: usize = 512;

impl<'a> Logistic<'a> {
    fn new(
        x: &'a [f64],
        of: &'a [usize],
        classes: usize,
        dim: usize,
        strength: f64,
        weighting: ClassWeight,
    ) -> Self {
        let mut counts = vec![0usize; classes];
        of.iter().for_each(|&c| counts[c] += 1);
        let weight = |c: usize| match weighting {
            ClassWeight::None => 1.0,
            ClassWeight::Balanced => of.len() as f64 / (classes * counts[c].max(1)) as f64,
        };
        let weights = of.iter().map(|&c| weight(c)).collect();
        let free = if classes == 2 { 1 } else { classes };
        Self { x, of, weights, classes, free, dim, strength, steps: STEPS, last: Mutex::new(None) }
    }

    /// Mean loss with the penalty, and its gradient, at (free, dim + 1) parameters, the bias last.
    fn value(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let (dim, free, n) = (self.dim, self.free, self.of.len() as f64);
        let width = dim + 1;
        let blocks: Vec<(f64, Vec<f64>)> = self
            .of
            .par_chunks(BLOCK)
            .enumerate()
            .map(|(b, of)| {
                let (mut loss, mut gradient) = (0.0, vec![0.0; free * width]);
                let mut logits = vec![0.0; self.classes];
                // Where the first of two classes has no weights its logit is zero.
                let offset = self.classes - free;
                for (i, &class) in of.iter().enumerate() {
                    let row_number = b * BLOCK + i;
                    let row = &self.x[row_number * dim..(row_number + 1) * dim];
                    for (logit, w) in logits[offset..].iter_mut().zip(at.chunks_exact(width)) {
                        *logit = dot(row, w) + w[dim];
                    }
                    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = logits.iter().map(|l| (l - most).exp()).sum();
                    let weight = self.weights[row_number];
                    loss += weight * (sum.ln() + most - logits[class]);
                    for (k, g) in gradient.chunks_exact_mut(width).enumerate() {
                        let p = (logits[offset + k] - most).exp() / sum;
                        let slope = weight * (p - f64::from(u8::from(offset + k == class)));
                        g.iter_mut().zip(row).for_each(|(g, v)| *g += slope * v);
                        g[dim] += slope;
                    }
                }
                (loss, gradient)
            })
            .collect();
        let (mut loss, mut gradient) = (0.0, vec![0.0; free * width]);
        for (part, slope) in blocks {
            loss += part;
            gradient.iter_mut().zip(slope).for_each(|(g, s)| *g += s);
        }
        for (g, w) in gradient.chunks_exact_mut(width).zip(at.chunks_exact(width)) {
            for (g, w) in g[..dim].iter_mut().zip(w) {
                loss += 0.5 * self.strength * w * w;
                *g += self.strength * w;
            }
        }
        gradient.iter_mut().for_each(|g| *g /= n);
        (loss / n, gradient)
    }

    fn cached(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((point, value, gradient)) = &*last
            && point == at
        {
            return (*value, gradient.clone());
        }
        let (value, gradient) = self.value(at);
        *last = Some((at.to_vec(), value, gradient.clone()));
        (value, gradient)
    }

    /// The least point, as parameters and as a layer with a row for each class.
    fn solve(&self, start: Option<Vec<f64>>, tolerance: f64) -> Result<(Vec<f64>, Layer)> {
        let width = self.dim + 1;
        let start = start.unwrap_or_else(|| vec![0.0; self.free * width]);
        let failed = |e: argmin::core::Error| Error::Solver(e.to_string());
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
            .with_tolerance_grad(tolerance)
            .and_then(|solver| solver.with_tolerance_cost(tolerance * 1e-6))
            .map_err(failed)?;
        let (_, slope) = self.value(&start);
        let at = if slope.iter().map(|g| g * g).sum::<f64>().sqrt() <= tolerance {
            // A line search can't go on from where nothing is to be won.
            start
        } else {
            let run = Executor::new(self, solver)
                .configure(|state| state.param(start.clone()).max_iters(self.steps));
            let done = run.run().map_err(failed)?;
            if matches!(done.state().get_termination_reason(), Some(TerminationReason::MaxItersReached)) {
                return Err(Error::Solver(format!(
                    "no minimum within {} steps at strength {}",
                    self.steps, self.strength
                )));
            }
            done.state().get_best_param().cloned().unwrap_or(start)
        };
        if at.iter().any(|v| !v.is_finite()) {
            return Err(Error::Solver("weights are not finite".into()));
        }
        let (mut weight, mut bias) = (vec![0.0; self.classes * self.dim], vec![0.0; self.classes]);
        let offset = self.classes - self.free;
        for (k, w) in at.chunks_exact(width).enumerate() {
            weight[(offset + k) * self.dim..][..self.dim].copy_from_slice(&w[..self.dim]);
            bias[offset + k] = w[self.dim];
        }
        Ok((at, (weight, bias)))
    }
}

/// In eight sums, joined in order: one chain would be four times as slow.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (x, rest) = a.as_chunks::<8>();
    let (y, _) = b.as_chunks::<8>();
    for (x, y) in x.iter().zip(y) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    let done = a.len() - rest.len();
    let rest: f64 = rest.iter().zip(&b[done..]).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

impl CostFunction for &Logistic<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, at: &Vec<f64>) -> std::result::Result<f64, argmin::core::Error> {
        Ok(self.cached(at).0)
    }
}

impl Gradient for &Logistic<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, at: &Vec<f64>) -> std::result::Result<Vec<f64>, argmin::core::Error> {
        Ok(self.cached(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Random;

    fn examples(n: usize, dim: usize, classes: usize) -> Examples {
        let mut random = Random::new(3);
        let mut value = || random.below(2001) as f64 / 1000.0 - 1.0;
        let rows: Vec<f64> = (0..n * dim).map(|_| value()).collect();
        let of = rows.chunks_exact(dim).enumerate().map(|(i, row)| {
            let lean = row[0] + 0.5 * row[1] + 0.2 * (i % 7) as f64 / 7.0;
            (((lean + 2.0) / 4.0 * classes as f64) as usize).min(classes - 1)
        });
        let of = of.collect();
        let names = (0..classes).map(|c| c.to_string()).collect();
        Examples { dim, rows, records: (0..n).collect(), targets: Targets::Classes(names, of) }
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        for classes in [2, 4] {
            let examples = examples(700, 5, classes);
            let Targets::Classes(_, of) = &examples.targets else { panic!() };
            let data = Logistic::new(&examples.rows, of, classes, 5, 0.7, ClassWeight::Balanced);
            let at: Vec<f64> = (0..data.free * 6).map(|i| (i as f64 * 0.37).sin()).collect();
            let (_, gradient) = data.value(&at);
            for (i, g) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut at = at.clone();
                    at[i] += by;
                    data.value(&at).0
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((slope - g).abs() < 1e-8, "{i}: {slope} {g}");
            }
        }
    }

    #[test]
    fn a_fit_ends_where_the_gradient_is_zero_on_any_threads() {
        let examples = examples(1500, 6, 3);
        let options = FitOptions { strength: Strength::Fixed(2.0), class_weight: ClassWeight::None, seed: 1 };
        let fitted = fit(&examples, &options).unwrap();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| fit(&examples, &options).unwrap()), fitted);
        let Targets::Classes(_, of) = &examples.targets else { panic!() };
        let x: Vec<f64> = examples
            .rows
            .chunks_exact(6)
            .flat_map(|row| {
                row.iter()
                    .zip(&fitted.mean)
                    .zip(&fitted.scale)
                    .map(|((v, m), s)| (v - m) / s)
                    .collect::<Vec<_>>()
            })
            .collect();
        let data = Logistic::new(&x, of, 3, 6, 2.0, ClassWeight::None);
        let at: Vec<f64> =
            fitted.weight.chunks_exact(6).zip(&fitted.bias).flat_map(|(w, b)| [w, &[*b]].concat()).collect();
        let slope = data.value(&at).1.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(slope < 1e-7, "{slope}");
    }

    #[test]
    fn a_fit_that_does_not_settle_says_so() {
        let examples = examples(700, 5, 3);
        let Targets::Classes(_, of) = &examples.targets else { panic!() };
        let mut data = Logistic::new(&examples.rows, of, 3, 5, 1e-3, ClassWeight::None);
        assert!(data.solve(None, 1e-9).is_ok());
        data.steps = 2;
        let said = data.solve(None, 1e-9).unwrap_err().to_string();
        assert!(said.contains("no minimum within 2 steps at strength 0.001; use a larger"), "{said}");
    }

    #[test]
    fn cross_validation_holds_whole_records_out() {
        let options = FitOptions {
            strength: Strength::CrossValidated { folds: 4 },
            class_weight: ClassWeight::None,
            seed: 5,
        };
        let mut examples = examples(400, 4, 2);
        let by_row = fit(&examples, &options).unwrap();
        examples.records = (0..400).map(|i| i / 5).collect();
        let by_record = fit(&examples, &options).unwrap();
        assert_ne!(by_row.tried, by_record.tried);
        // What is fitted in the end is fitted on all rows.
        assert_eq!((by_row.mean, by_row.scale), (by_record.mean, by_record.scale));
    }

    #[test]
    fn cross_validation_turns_down_what_is_too_strong() {
        let options = FitOptions {
            strength: Strength::CrossValidated { folds: 4 },
            class_weight: ClassWeight::None,
            seed: 5,
        };
        let fitted = fit(&examples(1200, 4, 2), &options).unwrap();
        assert_eq!(fitted.tried.len(), GRID.len());
        assert!(fitted.strength < 1e3, "{:?}", fitted.tried);
        let few = examples(6, 2, 3);
        let e = fit(&few, &options).unwrap_err().to_string();
        assert!(e.contains("fewer than the 4 folds"), "{e}");
    }
}
