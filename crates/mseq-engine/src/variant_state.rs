//! How the run of a contig is followed, stopped and gone on with.

use crate::variants::Effect;

/// What a run of a contig should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Go,
    /// Save the state, then go on.
    Save,
    /// Save the state, then stop.
    Stop,
}

/// Follows the run of a contig.
pub trait WatchVariants {
    /// `tokens` ran since the last call, and these effects, by index of the variant, are new.
    fn step(&mut self, tokens: u64, effects: &[(usize, Effect)]) -> Next;

    /// A state from which the rest can be run; all effects that are not in it were given.
    fn save(&mut self, state: VariantState);
}

/// Sums over the first tokens of a sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sums {
    /// Of negative log-likelihoods.
    pub nll: f64,
    /// Of hidden states, (d_model).
    pub hidden: Vec<f64>,
}

/// What is known of one allele, over it and the window behind it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// Summed negative log-likelihood.
    pub nll: f64,
    /// Bases.
    pub bases: u64,
    /// Mean hidden state, (d_model).
    pub mean: Vec<f64>,
}

/// A variant whose window is not complete.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpenVariant {
    /// Which.
    pub index: usize,
    /// Sums at its place, once the pass has been there.
    pub start: Option<Sums>,
    /// The alternative allele, once its tail was run.
    pub alt: Option<Scored>,
}

/// Where the run of a contig stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VariantState {
    /// Bases that the pass has run.
    pub pos: u64,
    /// Variants whose tail was run, whose place the pass has reached, and windows that have ended.
    pub counts: [usize; 3],
    /// Up to `pos`.
    pub sums: Sums,
    /// Of each block: `conv_state`, `ssm_state`.
    pub layers: Vec<(Vec<f32>, Vec<f32>)>,
    /// The last hidden state.
    pub head: Vec<f32>,
    /// Variants that are not complete, by index.
    pub open: Vec<OpenVariant>,
}
