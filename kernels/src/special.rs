//! Kernels made for one shape at run time: which shapes ask for them, and what the compiler is told.
//!
//! The built-in kernels are fast for 16 states and 4 taps, and take any other shape more slowly. Where NVRTC is installed,
//! the same sources are compiled with a model's own numbers, as `D_STATE` and `D_CONV`.

use crate::launch::{MAX_CONV, MAX_STATES, SCAN_STATES, scan_is_fast};
use crate::manifest::{Module, Storage, module};
use crate::source::{Target, compile_options};

/// Sizes of a mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MixerSizes {
    /// Channels.
    pub d_inner: usize,
    /// States a channel.
    pub d_state: usize,
    /// Taps of the convolution.
    pub d_conv: usize,
}

/// A source to compile for some sizes. Its entry points have the parameters of the built-in ones.
#[derive(Debug, Clone, Copy)]
pub struct Special {
    /// The source.
    pub module: &'static Module,
    /// The one number of states that it then takes; `None`: the source has none.
    pub d_state: Option<usize>,
    /// The one number of taps.
    pub d_conv: Option<usize>,
}

impl Special {
    /// Arguments for NVRTC.
    pub fn options(&self, storage: Storage, target: Target) -> Vec<String> {
        let mut options = compile_options(self.module.built_as(storage), target);
        options.extend(self.d_state.map(|n| format!("-DD_STATE={n}")));
        options.extend(self.d_conv.map(|n| format!("-DD_CONV={n}")));
        options
    }

    /// Source and sizes, such as `selective_scan_fwd.d_state24`.
    pub fn name(&self) -> String {
        let mut name = self.module.name.to_owned();
        for (key, size) in [("d_state", self.d_state), ("d_conv", self.d_conv)] {
            name.extend(size.map(|n| format!(".{key}{n}")));
        }
        name
    }

    /// Whether a text asks for the sizes that this would tell it.
    pub fn suits(&self, source: &str) -> bool {
        (self.d_state.is_none() || source.contains("D_STATE"))
            && (self.d_conv.is_none() || source.contains("D_CONV"))
    }
}

/// The sources that a model of these sizes runs faster with when they are compiled for it; none where the
/// built-in kernels are made for it, or no kernel takes it.
///
/// ```
/// use mseq_kernels::{MixerSizes, specials};
/// let names = |d_state, d_conv| -> Vec<String> {
///     specials(MixerSizes { d_inner: 512, d_state, d_conv }).iter().map(|special| special.name()).collect()
/// };
/// assert!(names(16, 4).is_empty());
/// assert_eq!(names(16, 3), ["causal_conv1d_fwd.d_conv3", "mixer_update.d_state16.d_conv3"]);
/// ```
pub fn specials(sizes: MixerSizes) -> Vec<Special> {
    let MixerSizes { d_inner, d_state, d_conv } = sizes;
    if d_inner == 0 || !(1..=MAX_STATES).contains(&d_state) || !(1..=MAX_CONV).contains(&d_conv) {
        return Vec::new();
    }
    let (other_states, other_taps) = (d_state != SCAN_STATES, d_conv != 4);
    [
        ("selective_scan_fwd", !scan_is_fast(d_inner, d_state), true, false),
        ("selective_state_update", other_states, true, false),
        // Four channels are one access.
        ("causal_conv1d_fwd", other_taps || !d_inner.is_multiple_of(4), false, true),
        ("mixer_update", other_states || other_taps, true, true),
    ]
    .into_iter()
    .filter(|(_, asked, ..)| *asked)
    .filter_map(|(name, _, states, taps)| {
        let module = module(name)?;
        Some(Special { module, d_state: states.then_some(d_state), d_conv: taps.then_some(d_conv) })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(d_inner: usize, d_state: usize, d_conv: usize) -> Vec<String> {
        specials(MixerSizes { d_inner, d_state, d_conv }).iter().map(Special::name).collect()
    }

    #[test]
    fn the_usual_shape_asks_for_nothing_and_odd_ones_for_what_they_need() {
        assert!(names(512, 16, 4).is_empty() && names(1536, 16, 4).is_empty());
        assert_eq!(
            names(512, 24, 4),
            [
                "selective_scan_fwd.d_state24",
                "selective_state_update.d_state24",
                "mixer_update.d_state24.d_conv4"
            ]
        );
        assert_eq!(names(512, 40, 3).len(), 4);
        // Channels that do not fill warps, or accesses.
        assert_eq!(names(36, 16, 4), ["selective_scan_fwd.d_state16"]);
        assert_eq!(names(29, 16, 4), ["selective_scan_fwd.d_state16", "causal_conv1d_fwd.d_conv4"]);
        // What no kernel takes is refused by the op, not here.
        for (d_inner, d_state, d_conv) in [(512, 257, 4), (512, 24, 9), (0, 24, 3), (512, 0, 4), (512, 24, 0)]
        {
            assert!(names(d_inner, d_state, d_conv).is_empty());
        }
    }

    #[test]
    fn sources_ask_for_what_they_are_told() {
        for special in specials(MixerSizes { d_inner: 29, d_state: 24, d_conv: 3 }) {
            assert!(special.suits(&special.module.source()), "{}", special.name());
            assert!(!special.suits("__global__ void scan_apply() {}"));
            let options = special.options(Storage::F16, Target::Sm(121));
            assert_eq!(options[0], "--gpu-architecture=sm_121");
            assert_eq!(options.contains(&"-DD_STATE=24".to_owned()), special.d_state.is_some());
            assert_eq!(options.contains(&"-DD_CONV=3".to_owned()), special.d_conv.is_some());
        }
    }
}
