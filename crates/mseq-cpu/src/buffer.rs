/// Columns of one full panel of a packed weight matrix: two AVX-512 or four AVX2 vectors.
pub(crate) const PANEL: usize = 32;
/// Columns of the narrow last panel, used when no more than these are left.
pub(crate) const HALF_PANEL: usize = 16;

/// f32 values in host memory.
#[derive(Debug, Clone)]
pub struct CpuBuffer(pub(crate) Vec<f32>);

/// f64 sums of open windows: (slots, width).
#[derive(Debug, Clone)]
pub struct CpuSums {
    pub(crate) values: Vec<f64>,
    pub(crate) width: usize,
}

/// A weight matrix cut into panels of output columns, so that the matrix product streams it.
///
/// Panel `p` holds outputs `32 p..32 p + 32` as (in_features, 32), zeros beyond the last output.
/// When at most 16 outputs are left, the last panel is (in_features, 16).
#[derive(Debug, Clone)]
pub struct CpuLinear {
    pub(crate) out_features: usize,
    pub(crate) in_features: usize,
    pub(crate) full: Vec<[f32; PANEL]>,
    pub(crate) half: Vec<[f32; HALF_PANEL]>,
}

impl CpuLinear {
    pub(crate) fn pack(weight: &[f32], out_features: usize, in_features: usize) -> Self {
        let rest = out_features % PANEL;
        let use_half = rest > 0 && rest <= HALF_PANEL;
        let n_full = if use_half { out_features / PANEL } else { out_features.div_ceil(PANEL) };
        let at = |n: usize, k: usize| if n < out_features { weight[n * in_features + k] } else { 0.0 };
        let mut full = Vec::with_capacity(n_full * in_features);
        for p in 0..n_full {
            for k in 0..in_features {
                full.push(std::array::from_fn(|j| at(p * PANEL + j, k)));
            }
        }
        let half = (0..if use_half { in_features } else { 0 })
            .map(|k| std::array::from_fn(|j| at(n_full * PANEL + j, k)))
            .collect();
        Self { out_features, in_features, full, half }
    }
}
