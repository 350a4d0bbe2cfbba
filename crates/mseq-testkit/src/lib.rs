//! Checks of a backend: every op on random ragged shapes against plain loops in f64.
//!
//! Tests run them through [`backend_suite!`], and `mamba-seq doctor --verify` runs the same ones on a
//! user's device. Inputs are first rounded to the backend's type, so that the loops see what the
//! device sees; outputs are NaN before each op, so that a value that was never written shows.

pub mod audio;
mod check;
pub mod model;
pub mod ops;
mod random;

pub use check::{Check, Close, tolerance};
pub use random::Random;

use std::io::Write;

use mseq_backend::{Backend, Decode, Result};

/// A check of one op: a backend and a seed to what was compared.
pub type OpCheck<B> = fn(&B, u64) -> Result<Vec<Check>>;

/// All checks, by the name of their op.
pub fn all<B: Decode>() -> Vec<(&'static str, OpCheck<B>)> {
    vec![
        ("embed_tokens", ops::embed_tokens::<B>),
        ("norm_fwd", ops::norm_fwd::<B>),
        ("linear_fwd", ops::linear_fwd::<B>),
        ("causal_conv1d_fwd", ops::causal_conv1d_fwd::<B>),
        ("causal_conv1d_update", ops::causal_conv1d_update::<B>),
        ("selective_scan_fwd", ops::selective_scan_fwd::<B>),
        ("selective_state_update", ops::selective_state_update::<B>),
        ("strided_conv1d_fwd", ops::strided_conv1d_fwd::<B>),
        ("transposed_conv1d_fwd", ops::transposed_conv1d_fwd::<B>),
        ("glu_fwd", ops::glu_fwd::<B>),
        ("pool_fwd", ops::pool_fwd::<B>),
        ("nll_fwd", ops::nll_fwd::<B>),
        ("mixer_update", ops::mixer_update::<B>),
        ("sample_tokens", ops::sample_tokens::<B>),
        ("buffers", ops::buffers::<B>),
    ]
}

/// Runs one check and gives the lines of what failed.
///
/// # Errors
/// What the backend refuses.
pub fn failures<B: Backend>(check: OpCheck<B>, backend: &B, seed: u64) -> Result<Vec<String>> {
    Ok(check(backend, seed)?.iter().filter(|check| !check.holds()).map(Check::to_string).collect())
}

/// A line on standard error that the test harness does not swallow: what is skipped is said.
pub fn aloud(line: &str) {
    // A test has nothing better to do when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A test for each op. The argument is a function that makes the backend, or `None` where its device
/// is missing: then every test says that it was skipped.
///
/// ```no_run
/// # struct B;
/// mod suite {
///     // mseq_testkit::backend_suite!(|| Some(MyBackend::new()));
/// }
/// ```
#[macro_export]
macro_rules! backend_suite {
    ($make:expr) => {
        $crate::backend_suite!(@each $make;
            embed_tokens, norm_fwd, linear_fwd, causal_conv1d_fwd, causal_conv1d_update,
            selective_scan_fwd, selective_state_update, strided_conv1d_fwd, transposed_conv1d_fwd, glu_fwd,
            pool_fwd, nll_fwd, mixer_update, sample_tokens, buffers
        );
    };
    (@each $make:expr; $($op:ident),*) => {
        $(
            #[test]
            fn $op() {
                let Some(backend) = ($make)() else {
                    $crate::aloud(concat!("skipped: ", module_path!(), "::", stringify!($op)));
                    return;
                };
                for seed in 1..=3 {
                    let failures = $crate::failures($crate::ops::$op, &backend, seed).unwrap();
                    assert!(failures.is_empty(), "seed {seed}:\n{}", failures.join("\n"));
                }
            }
        )*
    };
}
