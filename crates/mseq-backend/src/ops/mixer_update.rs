use crate::error::at_least;
use crate::{Backend, Error, Result};

/// One step of a mixer for many sequences, from what `in_proj` gave to what `out_proj` takes: the
/// convolution and SiLU, `x_proj`, `dt_proj`, the recurrence and the gate. Row i is the next position
/// of the sequence in slot i.
///
/// The same values as the single ops, up to the rounding of what lies between them: that stays in
/// registers where a device can keep it there.
pub struct MixerUpdate<'a, B: Backend> {
    /// Sequences, which are rows and slots.
    pub rows: usize,
    /// Channels.
    pub d_inner: usize,
    /// States a channel.
    pub d_state: usize,
    /// Taps, at least 1.
    pub d_conv: usize,
    /// Width of dt before `dt_proj`.
    pub dt_rank: usize,
    /// (rows, 2 d_inner): x, then the gate z.
    pub xz: &'a B::Buffer,
    /// (d_conv, d_inner), tap 0 the oldest.
    pub conv1d: &'a B::Buffer,
    /// (d_inner).
    pub conv1d_bias: Option<&'a B::Buffer>,
    /// (dt_rank + 2 d_state, d_inner).
    pub x_proj: &'a B::Linear,
    /// (d_inner, dt_rank).
    pub dt_proj: &'a B::Linear,
    /// (d_inner).
    pub dt_proj_bias: &'a B::Buffer,
    /// (d_inner, d_state): A * log2(e).
    pub a2: &'a B::Buffer,
    /// (d_inner).
    pub d: &'a B::Buffer,
    /// (rows, d_inner, d_conv - 1): read, then written.
    pub conv_state: &'a mut B::Buffer,
    /// (rows, d_inner, d_state): read, then written.
    pub ssm_state: &'a mut B::Buffer,
    /// Room in between.
    pub room: &'a mut MixerRoom<B>,
    /// (rows, d_inner).
    pub y: &'a mut B::Buffer,
}

/// Channels whose part of `x_proj` a device may sum apart from the rest.
pub const MIXER_SLICE: usize = 64;

/// Buffers between the ops of a [`MixerUpdate`].
pub struct MixerRoom<B: Backend> {
    /// (rows, d_inner).
    pub u: B::Buffer,
    /// (rows, dt_rank + 2 d_state).
    pub dbc: B::Buffer,
    /// (rows, d_inner), f32.
    pub dt: B::Buffer,
    /// (d_inner / MIXER_SLICE rounded up, rows, dt_rank + 2 d_state), f32.
    pub partials: B::Buffer,
}

impl<B: Backend> MixerRoom<B> {
    /// Room for `rows` sequences.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(backend: &B, rows: usize, d_inner: usize, d_dbc: usize) -> Result<Self> {
        Ok(Self {
            u: backend.activations(rows * d_inner)?,
            dbc: backend.activations(rows * d_dbc)?,
            dt: backend.zeros(rows * d_inner)?,
            partials: backend.zeros(d_inner.div_ceil(MIXER_SLICE) * rows * d_dbc)?,
        })
    }
}

impl<B: Backend> MixerUpdate<'_, B> {
    /// # Errors
    /// When a buffer is too short or there is no tap.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "mixer_update";
        if self.d_conv == 0 {
            return Err(Error::OutOfRange { op: OP, what: "d_conv", found: 0, wanted: "must be at least 1" });
        }
        let (rows, inner, states) = (self.rows, self.d_inner, self.d_state);
        let d_dbc = self.dt_rank + 2 * states;
        for (what, buf, needed) in [
            ("xz", self.xz, rows * 2 * inner),
            ("conv1d", self.conv1d, self.d_conv * inner),
            ("dt_proj_bias", self.dt_proj_bias, inner),
            ("a2", self.a2, inner * states),
            ("d", self.d, inner),
            ("conv_state", &*self.conv_state, rows * inner * (self.d_conv - 1)),
            ("ssm_state", &*self.ssm_state, rows * inner * states),
            ("u", &self.room.u, rows * inner),
            ("dbc", &self.room.dbc, rows * d_dbc),
            ("dt", &self.room.dt, rows * inner),
            ("partials", &self.room.partials, inner.div_ceil(MIXER_SLICE) * rows * d_dbc),
            ("y", &*self.y, rows * inner),
        ] {
            at_least(OP, what, backend.len(buf), needed)?;
        }
        match self.conv1d_bias {
            Some(bias) => at_least(OP, "conv1d_bias", backend.len(bias), inner),
            None => Ok(()),
        }
    }
}
