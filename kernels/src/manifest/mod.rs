//! Every entry point with its parameters, in the order in which a launch passes them.
//!
//! `cargo xtask kernels check` compares this list with the `.param` lists of the compiled PTX, so a
//! launch that is coded against it can't disagree with the kernel.

mod entries;

use std::fmt;

use self::entries::{
    CONV, CONV1D, EMBED_TOKENS, LINEAR, MIXER_UPDATE, NLL, NORM, POOL, RATES, SAMPLE_TOKENS, SCAN,
    STATE_UPDATE,
};

/// Number type of activations that matrix products read or write, and of their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// IEEE single.
    F32,
    /// bfloat16; from compute capability 8.0.
    Bf16,
    /// IEEE half.
    F16,
}

impl Storage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Name in file names and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The macro that selects it.
    pub fn define(self) -> &'static str {
        match self {
            Self::F32 => "STORAGE_F32",
            Self::Bf16 => "STORAGE_BF16",
            Self::F16 => "STORAGE_F16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a pointer points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem {
    /// Token ids.
    U32,
    /// Slots.
    I32,
    /// Single precision, whatever the storage.
    F32,
    /// Double precision: sums of windows.
    F64,
    /// The storage type.
    Stored,
    /// [`crate::Tile`].
    Tile,
    /// [`crate::LaneEntry`].
    LaneEntry,
    /// [`crate::PoolPart`].
    PoolPart,
    /// [`crate::PoolJoin`].
    PoolJoin,
}

/// Type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamType {
    /// Only read.
    In(Elem),
    /// Only read; may be null.
    MaybeIn(Elem),
    /// Written, perhaps read before.
    Out(Elem),
    /// 32 bits, signed.
    I32,
    /// 64 bits, signed.
    I64,
    /// Single precision.
    F32,
}

impl ParamType {
    /// Bytes in the parameter block, which are also its alignment.
    pub fn bytes(self) -> usize {
        match self {
            Self::In(_) | Self::MaybeIn(_) | Self::Out(_) | Self::I64 => 8,
            Self::I32 | Self::F32 => 4,
        }
    }
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name in the source.
    pub name: &'static str,
    /// Its type.
    pub ty: ParamType,
}

/// An `extern "C"` kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its symbol.
    pub name: &'static str,
    /// In the order of a launch.
    pub params: &'static [Param],
}

/// A source file, compiled for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// Name of its file without `.cu`.
    pub name: &'static str,
    /// Its text, without the prelude.
    pub text: &'static str,
    /// Whether it mentions the storage type; if not, it is built once, as f32.
    pub stored: bool,
    /// Its kernels.
    pub entries: &'static [Entry],
}

impl Module {
    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&'static Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// Stands in front of every source.
pub const PRELUDE: &str = include_str!("../../cuda/prelude.cuh");

/// All sources.
pub const MODULES: &[Module] = &[
    Module {
        name: "embed_tokens",
        text: include_str!("../../cuda/embed_tokens.cu"),
        stored: false,
        entries: EMBED_TOKENS,
    },
    Module { name: "norm_fwd", text: include_str!("../../cuda/norm_fwd.cu"), stored: true, entries: NORM },
    Module {
        name: "causal_conv1d_fwd",
        text: include_str!("../../cuda/causal_conv1d_fwd.cu"),
        stored: true,
        entries: CONV,
    },
    Module {
        name: "selective_scan_fwd",
        // The second file is the part for any shape.
        text: concat!(
            include_str!("../../cuda/selective_scan_fwd.cu"),
            "\n",
            include_str!("../../cuda/selective_scan_generic.cuh")
        ),
        stored: true,
        entries: SCAN,
    },
    Module {
        name: "selective_state_update",
        text: include_str!("../../cuda/selective_state_update.cu"),
        stored: true,
        entries: STATE_UPDATE,
    },
    Module {
        name: "linear_fwd",
        text: include_str!("../../cuda/linear_fwd.cu"),
        stored: true,
        entries: LINEAR,
    },
    Module { name: "nll_fwd", text: include_str!("../../cuda/nll_fwd.cu"), stored: true, entries: NLL },
    Module {
        name: "mixer_update",
        text: include_str!("../../cuda/mixer_update.cu"),
        stored: true,
        entries: MIXER_UPDATE,
    },
    Module {
        name: "sample_tokens",
        text: include_str!("../../cuda/sample_tokens.cu"),
        stored: false,
        entries: SAMPLE_TOKENS,
    },
    Module {
        name: "conv1d_fwd",
        text: include_str!("../../cuda/conv1d_fwd.cu"),
        stored: true,
        entries: CONV1D,
    },
    Module { name: "pool_fwd", text: include_str!("../../cuda/pool_fwd.cu"), stored: false, entries: POOL },
    Module { name: "rates", text: include_str!("../../cuda/rates.cu"), stored: false, entries: RATES },
];

/// The names of all sources.
pub const NAMES: [&str; MODULES.len()] = {
    let (mut names, mut i) = ([""; MODULES.len()], 0);
    while i < names.len() {
        names[i] = MODULES[i].name;
        i += 1;
    }
    names
};

/// The module of this name.
pub fn module(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}
