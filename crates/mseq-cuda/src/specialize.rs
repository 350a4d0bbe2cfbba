//! Kernels for a model's own shape, where the built-in ones have none.

use std::env;
use std::path::Path;

use mseq_kernels::{MixerSizes, specials};

use crate::device::Device;
use crate::module::Kernels;

/// What became of the kernels for a model's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Specialized {
    /// The built-in kernels are made for it, or no shape was named.
    NotNeeded,
    /// `MSEQ_NO_SPECIALIZE=1`.
    Off,
    /// They are there: each kernel with its sizes, and whether it had been compiled before.
    Made(Vec<(String, bool)>),
    /// The generic kernels run.
    Failed {
        /// The shape.
        sizes: MixerSizes,
        /// Why.
        why: String,
    },
}

impl Specialized {
    /// What the user should hear: that a model runs more slowly than it could, and why.
    pub fn note(&self) -> Option<String> {
        let Self::Failed { sizes: MixerSizes { d_state, d_conv, .. }, why } = self else { return None };
        // A compiler's message may have many lines.
        let why = why.lines().next().unwrap_or_default();
        Some(format!(
            "d_state {d_state}, d_conv {d_conv}: kernels for any shape run, which are slower ({why})"
        ))
    }

    pub(crate) fn new(
        kernels: &mut Kernels,
        device: &Device,
        sizes: Option<MixerSizes>,
        from: Option<&Path>,
    ) -> Self {
        let Some(sizes) = sizes else { return Self::NotNeeded };
        let wanted = specials(sizes);
        if wanted.is_empty() {
            return Self::NotNeeded;
        }
        if env::var("MSEQ_NO_SPECIALIZE").is_ok_and(|v| v == "1") {
            return Self::Off;
        }
        match kernels.specialize(device, &wanted, from) {
            Ok(names) => Self::Made(names),
            Err(why) => Self::Failed { sizes, why },
        }
    }
}
