use crate::{Error, Result};

/// Least squares with an L2 penalty on all but the bias: the normal equations, by Cholesky.
///
/// # Errors
/// When channels depend on each other and the strength is too small to tell them apart.
pub(crate) fn solve(x: &[f64], y: &[f64], dim: usize, strength: f64) -> Result<(Vec<f64>, Vec<f64>)> {
    let n = y.len() as f64;
    let mean_y = y.iter().sum::<f64>() / n;
    // Rows of a fold are not centred, those of the whole are.
    let mut mean = vec![0.0; dim];
    for row in x.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v);
    }
    mean.iter_mut().for_each(|m| *m /= n);
    let (mut a, mut b) = (vec![0.0; dim * dim], vec![0.0; dim]);
    let mut row = vec![0.0; dim];
    for (values, y) in x.chunks_exact(dim).zip(y) {
        row.iter_mut().zip(values).zip(&mean).for_each(|((r, v), m)| *r = v - m);
        for i in 0..dim {
            b[i] += row[i] * (y - mean_y);
            let line = &mut a[i * dim..i * dim + i + 1];
            line.iter_mut().zip(&row).for_each(|(a, v)| *a += row[i] * v);
        }
    }
    (0..dim).for_each(|i| a[i * dim + i] += strength);
    // L L^T in the lower half.
    for i in 0..dim {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i * dim + k] * a[j * dim + k]).sum();
            let rest = a[i * dim + j] - sum;
            if i == j {
                if rest <= 0.0 || !rest.is_finite() {
                    return Err(Error::Solver("channels depend on each other".into()));
                }
                a[i * dim + i] = rest.sqrt();
            } else {
                a[i * dim + j] = rest / a[j * dim + j];
            }
        }
    }
    for i in 0..dim {
        let sum: f64 = (0..i).map(|k| a[i * dim + k] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * dim + i];
    }
    for i in (0..dim).rev() {
        let sum: f64 = (i + 1..dim).map(|k| a[k * dim + i] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * dim + i];
    }
    let bias = mean_y - b.iter().zip(&mean).map(|(w, m)| w * m).sum::<f64>();
    Ok((b, vec![bias]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_pulled_to_zero() {
        let x: Vec<f64> = (0..40).flat_map(|i| [f64::from(i), f64::from(i * i % 7)]).collect();
        let y: Vec<f64> = x.chunks_exact(2).map(|r| 3.0 * r[0] - 0.5 * r[1] + 7.0).collect();
        let (w, b) = solve(&x, &y, 2, 0.0).unwrap();
        assert!(
            (w[0] - 3.0).abs() < 1e-9 && (w[1] + 0.5).abs() < 1e-9 && (b[0] - 7.0).abs() < 1e-7,
            "{w:?} {b:?}"
        );
        let strong = solve(&x, &y, 2, 1e9).unwrap();
        assert!(strong.0[0].abs() < 1e-3);
        let twice: Vec<f64> = (0..20).flat_map(|i| [f64::from(i), f64::from(i)]).collect();
        assert!(solve(&twice, &vec![1.0; 20], 2, 0.0).is_err());
    }
}
