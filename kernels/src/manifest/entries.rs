//! Kernels and their parameters, in the order of the sources.

use super::Elem::{F32, F64, Stored, U32};
use super::ParamType::{F32 as Float, I32, I64, In, MaybeIn, Out};
use super::{Elem, Entry, Param, ParamType};

const fn p(name: &'static str, ty: ParamType) -> Param {
    Param { name, ty }
}

pub(super) const EMBED_TOKENS: &[Entry] = &[Entry {
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
pub(super) const NORM: &[Entry] = &[
    Entry { name: "rms_norm_fwd", params: RMS_NORM },
    Entry { name: "rms_norm_fwd_f32out", params: RMS_NORM_F32 },
    Entry { name: "layer_norm_fwd", params: LAYER_NORM },
    Entry { name: "layer_norm_fwd_f32out", params: LAYER_NORM_F32 },
];

pub(super) const CONV: &[Entry] = &[
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

pub(super) const SCAN: &[Entry] = &[
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

pub(super) const STATE_UPDATE: &[Entry] = &[Entry {
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
pub(super) const LINEAR: &[Entry] = &[
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

pub(super) const NLL: &[Entry] = &[
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

pub(super) const MIXER_UPDATE: &[Entry] = &[
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

pub(super) const SAMPLE_TOKENS: &[Entry] = &[Entry {
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
pub(super) const CONV1D: &[Entry] = &[
    Entry { name: "conv1d_fwd", params: CONV1D_PARAMS },
    Entry { name: "conv1d_fwd_f32out", params: CONV1D_PARAMS_F32 },
    Entry {
        name: "glu_fwd",
        params: &[p("x", In(Stored)), p("out", Out(Stored)), p("rows", I64), p("width", I32)],
    },
];

pub(super) const POOL: &[Entry] = &[
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

pub(super) const RATES: &[Entry] =
    &[Entry { name: "exp2_rate", params: &[p("out", Out(F32)), p("steps", I32), p("threads", I32)] }];
