//! Every entry point with its parameters, in the order in which a launch passes them.
//!
//! `cargo xtask kernels check` compares this list with the `.param` lists of the compiled PTX, so a
//! launch that is coded against it can't disagree with the kernel.

use std::fmt;

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

const fn p(name: &'static str, ty: ParamType) -> Param {
    Param { name, ty }
}

use Elem::{F32, F64, Stored, U32};
use ParamType::{F32 as Float, I32, I64, In, MaybeIn, Out};

const EMBED_TOKENS: &[Entry] = &[Entry {
    name: "embed_tokens",
    params: &[p("ids", In(U32)), p("table", In(F32)), p("out", Out(F32)), p("rows", I64), p("d_model", I32)],
}];

const RMS_NORM: &[Param] = &[
    p("x", In(F32)),
    p("weight", In(F32)),
    p("out", Out(Stored)),
    p("rows", I64),
    p("width", I32),
    p("eps", Float),
];
const RMS_NORM_F32: &[Param] = &[
    p("x", In(F32)),
    p("weight", In(F32)),
    p("out", Out(F32)),
    p("rows", I64),
    p("width", I32),
    p("eps", Float),
];
const LAYER_NORM: &[Param] = &[
    p("x", In(F32)),
    p("weight", In(F32)),
    p("bias", In(F32)),
    p("out", Out(Stored)),
    p("rows", I64),
    p("width", I32),
    p("eps", Float),
];
const LAYER_NORM_F32: &[Param] = &[
    p("x", In(F32)),
    p("weight", In(F32)),
    p("bias", In(F32)),
    p("out", Out(F32)),
    p("rows", I64),
    p("width", I32),
    p("eps", Float),
];
const NORM: &[Entry] = &[
    Entry { name: "rms_norm_fwd", params: RMS_NORM },
    Entry { name: "rms_norm_fwd_f32out", params: RMS_NORM_F32 },
    Entry { name: "layer_norm_fwd", params: LAYER_NORM },
    Entry { name: "layer_norm_fwd_f32out", params: LAYER_NORM_F32 },
];

const CONV: &[Entry] = &[
    Entry {
        name: "causal_conv1d_fwd",
        params: &[
            p("x", In(Stored)),
            p("weight", In(F32)),
            p("bias", MaybeIn(F32)),
            p("conv_state", In(F32)),
            p("out", Out(Stored)),
            p("tile_table", In(Elem::Tile)),
            p("tiles", I32),
            p("pieces", I32),
            p("d_inner", I32),
            p("x_stride", I32),
            p("d_conv", I32),
        ],
    },
    Entry {
        name: "causal_conv1d_state",
        params: &[
            p("x", In(Stored)),
            p("conv_state", Out(F32)),
            p("lane_table", In(Elem::LaneEntry)),
            p("lanes", I32),
            p("d_inner", I32),
            p("x_stride", I32),
            p("d_conv", I32),
        ],
    },
    Entry {
        name: "causal_conv1d_update",
        params: &[
            p("x", In(Stored)),
            p("weight", In(F32)),
            p("bias", MaybeIn(F32)),
            p("conv_state", Out(F32)),
            p("slots", In(Elem::I32)),
            p("out", Out(Stored)),
            p("lanes", I32),
            p("d_inner", I32),
            p("x_stride", I32),
            p("d_conv", I32),
        ],
    },
];

const SCAN: &[Entry] = &[
    Entry {
        name: "scan_tile_ends",
        params: &[
            p("u", In(Stored)),
            p("dt", In(F32)),
            p("b", In(Stored)),
            p("a2", In(F32)),
            p("dt_bias", In(F32)),
            p("ends", Out(F32)),
            p("sums", Out(F32)),
            p("tile_table", In(Elem::Tile)),
            p("tiles", I32),
            p("d_inner", I32),
            p("bc_stride", I32),
        ],
    },
    Entry {
        name: "scan_tile_ends_generic",
        params: &[
            p("u", In(Stored)),
            p("dt", In(F32)),
            p("b", In(Stored)),
            p("a2", In(F32)),
            p("dt_bias", In(F32)),
            p("ends", Out(F32)),
            p("sums", Out(F32)),
            p("tile_table", In(Elem::Tile)),
            p("tiles", I32),
            p("d_inner", I32),
            p("bc_stride", I32),
            p("d_state", I32),
        ],
    },
    Entry {
        name: "scan_carry",
        params: &[
            p("a2", In(F32)),
            p("ends", Out(F32)),
            p("sums", In(F32)),
            p("ssm_state", In(F32)),
            p("lane_table", In(Elem::LaneEntry)),
            p("lanes", I32),
            p("d_inner", I32),
            p("d_state", I32),
        ],
    },
    Entry {
        name: "scan_apply",
        params: &[
            p("u", In(Stored)),
            p("dt", In(F32)),
            p("b", In(Stored)),
            p("c", In(Stored)),
            p("z", In(Stored)),
            p("a2", In(F32)),
            p("d", In(F32)),
            p("dt_bias", In(F32)),
            p("starts", In(F32)),
            p("ssm_state", Out(F32)),
            p("y", Out(Stored)),
            p("tile_table", In(Elem::Tile)),
            p("tiles", I32),
            p("d_inner", I32),
            p("bc_stride", I32),
            p("z_stride", I32),
        ],
    },
    Entry {
        name: "scan_apply_generic",
        params: &[
            p("u", In(Stored)),
            p("dt", In(F32)),
            p("b", In(Stored)),
            p("c", In(Stored)),
            p("z", In(Stored)),
            p("a2", In(F32)),
            p("d", In(F32)),
            p("dt_bias", In(F32)),
            p("starts", In(F32)),
            p("ssm_state", Out(F32)),
            p("y", Out(Stored)),
            p("tile_table", In(Elem::Tile)),
            p("tiles", I32),
            p("d_inner", I32),
            p("bc_stride", I32),
            p("z_stride", I32),
            p("d_state", I32),
        ],
    },
];

const STATE_UPDATE: &[Entry] = &[Entry {
    name: "selective_state_update",
    params: &[
        p("u", In(Stored)),
        p("dt", In(F32)),
        p("b", In(Stored)),
        p("c", In(Stored)),
        p("z", In(Stored)),
        p("a2", In(F32)),
        p("d", In(F32)),
        p("dt_bias", In(F32)),
        p("ssm_state", Out(F32)),
        p("slots", In(Elem::I32)),
        p("y", Out(Stored)),
        p("lanes", I32),
        p("d_inner", I32),
        p("d_state", I32),
        p("bc_stride", I32),
        p("z_stride", I32),
    ],
}];

const LINEAR_PARAMS: &[Param] = &[
    p("x", In(Stored)),
    p("weight", In(Stored)),
    p("bias", MaybeIn(F32)),
    p("y", Out(Stored)),
    p("rows", I64),
    p("in_features", I32),
    p("out_features", I32),
    p("x_stride", I32),
    p("y_stride", I32),
    p("accumulate", I32),
];
const LINEAR_PARAMS_F32: &[Param] = &[
    p("x", In(Stored)),
    p("weight", In(Stored)),
    p("bias", MaybeIn(F32)),
    p("y", Out(F32)),
    p("rows", I64),
    p("in_features", I32),
    p("out_features", I32),
    p("x_stride", I32),
    p("y_stride", I32),
    p("accumulate", I32),
];
const LINEAR: &[Entry] = &[
    Entry { name: "linear_fwd", params: LINEAR_PARAMS },
    Entry { name: "linear_fwd_f32out", params: LINEAR_PARAMS_F32 },
    Entry {
        name: "add_bias",
        params: &[
            p("y", Out(Stored)),
            p("bias", In(F32)),
            p("rows", I64),
            p("out_features", I32),
            p("y_stride", I32),
        ],
    },
    Entry {
        name: "add_bias_f32out",
        params: &[
            p("y", Out(F32)),
            p("bias", In(F32)),
            p("rows", I64),
            p("out_features", I32),
            p("y_stride", I32),
        ],
    },
];

const NLL: &[Entry] = &[
    Entry {
        name: "nll_fwd",
        params: &[
            p("x", In(F32)),
            p("last", In(F32)),
            p("weight", In(Stored)),
            p("ids", In(U32)),
            p("before", In(Elem::I32)),
            p("out", Out(F32)),
            p("rows", I64),
            p("d_model", I32),
            p("vocab", I32),
        ],
    },
    Entry {
        name: "nll_keep",
        params: &[
            p("x", In(F32)),
            p("last", Out(F32)),
            p("kept", In(Elem::I32)),
            p("lanes", I32),
            p("d_model", I32),
        ],
    },
];

const MIXER_UPDATE: &[Entry] = &[
    Entry {
        name: "mixer_conv_x_proj",
        params: &[
            p("xz", In(Stored)),
            p("conv1d", In(F32)),
            p("bias", MaybeIn(F32)),
            p("x_proj", In(Stored)),
            p("conv_state", Out(F32)),
            p("u", Out(Stored)),
            p("partials", Out(F32)),
            p("rows", I32),
            p("d_inner", I32),
            p("d_conv", I32),
            p("d_dbc", I32),
        ],
    },
    Entry {
        name: "mixer_scan_update",
        params: &[
            p("xz", In(Stored)),
            p("u", In(Stored)),
            p("partials", In(F32)),
            p("dt_proj", In(Stored)),
            p("dt_bias", In(F32)),
            p("a2", In(F32)),
            p("d", In(F32)),
            p("ssm_state", Out(F32)),
            p("y", Out(Stored)),
            p("rows", I32),
            p("d_inner", I32),
            p("d_state", I32),
            p("dt_rank", I32),
            p("slices", I32),
        ],
    },
];

const SAMPLE_TOKENS: &[Entry] = &[Entry {
    name: "sample_tokens",
    params: &[
        p("logits", In(F32)),
        p("bias", MaybeIn(F32)),
        p("ids", Out(U32)),
        p("history", Out(U32)),
        p("state", Out(U32)),
        p("lanes", I32),
        p("vocab", I32),
        p("steps", I32),
        p("greedy", I32),
        p("scale", Float),
        p("top_k", I32),
        p("top_p", Float),
        p("seed", I64),
        p("first_lane", I32),
    ],
}];

const CONV1D_PARAMS: &[Param] = &[
    p("x", In(Stored)),
    p("weight", In(Stored)),
    p("bias", In(F32)),
    p("add", MaybeIn(Stored)),
    p("y", Out(Stored)),
    p("rows", I64),
    p("total", I64),
    p("depth", I32),
    p("cols", I32),
    p("x_stride", I32),
    p("lead", I32),
    p("relu", I32),
];
const CONV1D_PARAMS_F32: &[Param] = &[
    p("x", In(Stored)),
    p("weight", In(Stored)),
    p("bias", In(F32)),
    p("add", MaybeIn(Stored)),
    p("y", Out(F32)),
    p("rows", I64),
    p("total", I64),
    p("depth", I32),
    p("cols", I32),
    p("x_stride", I32),
    p("lead", I32),
    p("relu", I32),
];
const CONV1D: &[Entry] = &[
    Entry { name: "conv1d_fwd", params: CONV1D_PARAMS },
    Entry { name: "conv1d_fwd_f32out", params: CONV1D_PARAMS_F32 },
    Entry {
        name: "glu_fwd",
        params: &[p("x", In(Stored)), p("out", Out(Stored)), p("rows", I64), p("width", I32)],
    },
];

const POOL: &[Entry] = &[
    Entry {
        name: "pool_parts",
        params: &[
            p("x", In(F32)),
            p("sums", In(F64)),
            p("partials", Out(F64)),
            p("out", Out(F32)),
            p("part_table", In(Elem::PoolPart)),
            p("parts", I32),
            p("width", I32),
            p("kind", I32),
        ],
    },
    Entry {
        name: "pool_join",
        params: &[
            p("partials", In(F64)),
            p("sums", Out(F64)),
            p("out", Out(F32)),
            p("join_table", In(Elem::PoolJoin)),
            p("joins", I32),
            p("width", I32),
            p("kind", I32),
        ],
    },
];

const RATES: &[Entry] =
    &[Entry { name: "exp2_rate", params: &[p("out", Out(F32)), p("steps", I32), p("threads", I32)] }];

/// Stands in front of every source.
pub const PRELUDE: &str = include_str!("../cuda/prelude.cuh");

/// All sources.
pub const MODULES: &[Module] = &[
    Module {
        name: "embed_tokens",
        text: include_str!("../cuda/embed_tokens.cu"),
        stored: false,
        entries: EMBED_TOKENS,
    },
    Module { name: "norm_fwd", text: include_str!("../cuda/norm_fwd.cu"), stored: true, entries: NORM },
    Module {
        name: "causal_conv1d_fwd",
        text: include_str!("../cuda/causal_conv1d_fwd.cu"),
        stored: true,
        entries: CONV,
    },
    Module {
        name: "selective_scan_fwd",
        // The second file is the part for any shape.
        text: concat!(
            include_str!("../cuda/selective_scan_fwd.cu"),
            "\n",
            include_str!("../cuda/selective_scan_generic.cuh")
        ),
        stored: true,
        entries: SCAN,
    },
    Module {
        name: "selective_state_update",
        text: include_str!("../cuda/selective_state_update.cu"),
        stored: true,
        entries: STATE_UPDATE,
    },
    Module { name: "linear_fwd", text: include_str!("../cuda/linear_fwd.cu"), stored: true, entries: LINEAR },
    Module { name: "nll_fwd", text: include_str!("../cuda/nll_fwd.cu"), stored: true, entries: NLL },
    Module {
        name: "mixer_update",
        text: include_str!("../cuda/mixer_update.cu"),
        stored: true,
        entries: MIXER_UPDATE,
    },
    Module {
        name: "sample_tokens",
        text: include_str!("../cuda/sample_tokens.cu"),
        stored: false,
        entries: SAMPLE_TOKENS,
    },
    Module { name: "conv1d_fwd", text: include_str!("../cuda/conv1d_fwd.cu"), stored: true, entries: CONV1D },
    Module { name: "pool_fwd", text: include_str!("../cuda/pool_fwd.cu"), stored: false, entries: POOL },
    Module { name: "rates", text: include_str!("../cuda/rates.cu"), stored: false, entries: RATES },
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
