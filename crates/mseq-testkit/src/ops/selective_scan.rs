use mseq_backend::ops::{ScanShape, SelectiveScanFwd, SelectiveStateUpdate};
use mseq_backend::{Backend, LaneSpan, Result, Rows};

use super::{silu, softplus};
use crate::random::{SLOTS, poison, single, stored, whole};
use crate::{Check, Close, Random, tolerance};

/// What a scan needs, on the device and as the loop sees it.
struct Setup<B: Backend> {
    rows: usize,
    d_inner: usize,
    d_state: usize,
    /// Columns before B in rows of (dt, B, C).
    rank: usize,
    u: (B::Buffer, Vec<f64>),
    dt: (B::Buffer, Vec<f64>),
    /// (rows, 2 d_inner): x, z.
    xz: (B::Buffer, Vec<f64>),
    /// (rows, rank + 2 d_state).
    dbc: (B::Buffer, Vec<f64>),
    a2: (B::Buffer, Vec<f64>),
    d: (B::Buffer, Vec<f64>),
    dt_bias: (B::Buffer, Vec<f64>),
    state: Vec<f32>,
}

impl<B: Backend> Setup<B> {
    /// Values on the scale of a trained model: steps from 1e-3 to 1, some far above 20; decay rates
    /// from 1 to `d_state`, shaken. So the state remembers from one row to thousands.
    fn new(
        backend: &B,
        random: &mut Random,
        rows: usize,
        (d_inner, d_state, rank): (usize, usize, usize),
        slots: usize,
    ) -> Result<Self> {
        let mut normal =
            |len: usize, std: f64| -> Vec<f32> { (0..len).map(|_| (std * random.normal()) as f32).collect() };
        let (u, xz) = (normal(rows * d_inner, 1.0), normal(rows * 2 * d_inner, 1.0));
        let dbc = normal(rows * (rank + 2 * d_state), 1.0);
        let dt = normal(rows * d_inner, 0.7);
        let a2 = normal(d_inner * d_state, 0.3);
        let a2: Vec<f32> = a2
            .iter()
            .enumerate()
            .map(|(i, v)| -((i % d_state + 1) as f32) * v.exp() * std::f32::consts::LOG2_E)
            .collect();
        let d = normal(d_inner, 0.5);
        let state = normal(slots * d_inner * d_state, 1.0);
        // Inverse softplus of steps between 1e-3 and 1; every seventh channel leaps.
        let dt_bias: Vec<f32> = (0..d_inner)
            .map(|c| {
                let step = 1e-3f64 * 1000f64.powf(random.uniform());
                if c % 7 == 6 { 22.0 } else { (step + (-(-step).exp_m1()).ln()) as f32 }
            })
            .collect();
        Ok(Self {
            rows,
            d_inner,
            d_state,
            rank,
            u: stored(backend, &u)?,
            dt: single(backend, &dt)?,
            xz: stored(backend, &xz)?,
            dbc: stored(backend, &dbc)?,
            a2: single(backend, &a2)?,
            d: single(backend, &d)?,
            dt_bias: single(backend, &dt_bias)?,
            state,
        })
    }

    fn width(&self) -> usize {
        self.rank + 2 * self.d_state
    }

    fn z(&self) -> Rows<'_, B::Buffer> {
        Rows::columns(&self.xz.0, self.d_inner, 2 * self.d_inner)
    }

    fn b(&self) -> Rows<'_, B::Buffer> {
        Rows::columns(&self.dbc.0, self.rank, self.width())
    }

    fn c(&self) -> Rows<'_, B::Buffer> {
        Rows::columns(&self.dbc.0, self.rank + self.d_state, self.width())
    }

    /// Output rows and the states afterwards, by the recurrence.
    fn truth(&self, lanes: &[LaneSpan]) -> (Vec<f64>, Vec<f64>) {
        let (d_inner, d_state, width) = (self.d_inner, self.d_state, self.width());
        let mut y = vec![0.0; self.rows * d_inner];
        let mut end: Vec<f64> = self.state.iter().map(|&v| f64::from(v)).collect();
        for lane in lanes {
            for ch in 0..d_inner {
                let mut h: Vec<f64> = (0..d_state)
                    .map(|n| match (lane.fresh, lane.slot) {
                        (false, Some(s)) => f64::from(self.state[(s * d_inner + ch) * d_state + n]),
                        _ => 0.0,
                    })
                    .collect();
                for r in lane.rows.clone() {
                    let (b, c) = (
                        &self.dbc.1[r * width + self.rank..][..d_state],
                        &self.dbc.1[r * width + self.rank + d_state..][..d_state],
                    );
                    let u = self.u.1[r * d_inner + ch];
                    let delta = softplus(self.dt.1[r * d_inner + ch] + self.dt_bias.1[ch]);
                    let mut sum = self.d.1[ch] * u;
                    for (n, h) in h.iter_mut().enumerate() {
                        *h = (delta * self.a2.1[ch * d_state + n]).exp2() * *h + delta * b[n] * u;
                        sum += c[n] * *h;
                    }
                    y[r * d_inner + ch] = sum * silu(self.xz.1[r * 2 * d_inner + d_inner + ch]);
                }
                if let Some(s) = lane.slot {
                    end[(s * d_inner + ch) * d_state..][..d_state].copy_from_slice(&h);
                }
            }
        }
        (y, end)
    }

    fn compare(
        &self,
        dtype: mseq_core::DType,
        what: &str,
        (y, state): (&[f32], &[f32]),
        truth: &(Vec<f64>, Vec<f64>),
    ) -> [Check; 2] {
        let recurrent = tolerance(dtype, Close::Recurrent);
        [
            Check::new(what, y, &truth.0, tolerance(dtype, Close::Stored).max(recurrent)),
            Check::new(format!("{what}, ssm_state"), state, &truth.1, recurrent),
        ]
    }
}

/// Lanes of every awkward length, short ones and some of several tiles; the usual 16 states and any
/// other number.
///
/// # Errors
/// What the backend refuses.
pub fn selective_scan_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    let any = random.between(1, 70);
    let shapes = [
        // (d_inner, d_state, rank, rows of the longest lane)
        (64, 16, 4, 2100),
        (96, 16, 6, 700),
        (512, 16, 16, 300),
        (32, 16, 3, 513),
        (any, 16, 2, 800),
        (24, 8, 2, 600),
        (128, 24, 4, 700),
        (64, 40, 4, 520),
        (64, 10, 3, 530),
        (12, random.between(1, 40), 1, 900),
        (10, 64, 5, 700),
        (3, 256, 1, 520),
        (1, 1, 1, 1000),
    ];
    for (d_inner, d_state, rank, long) in shapes {
        let lengths =
            [random.between(1, 3), 9, long, 0, random.between(1, 30), 8, 257, 1, 256, random.between(1, 600)];
        // A lane that is cut is also one that goes on, and one that is kept.
        for lengths in [&lengths[..], &[long, 0, 5, long / 2 + 7]] {
            let lanes = random.lanes(lengths);
            let rows = lengths.iter().sum();
            let setup = Setup::new(backend, &mut random, rows, (d_inner, d_state, rank), SLOTS)?;
            let run = || -> Result<(Vec<f32>, Vec<f32>)> {
                let mut ssm_state = backend.upload(&setup.state)?;
                let mut y = backend.activations(rows * d_inner)?;
                poison(backend, &mut y)?;
                backend.selective_scan_fwd(SelectiveScanFwd {
                    shape: ScanShape { rows, d_inner, d_state, slots: SLOTS },
                    lanes: &lanes,
                    u: Rows::whole(&setup.u.0, d_inner),
                    dt: Rows::whole(&setup.dt.0, d_inner),
                    b: setup.b(),
                    c: setup.c(),
                    a2: &setup.a2.0,
                    d: &setup.d.0,
                    dt_bias: &setup.dt_bias.0,
                    z: setup.z(),
                    ssm_state: &mut ssm_state,
                    y: &mut y,
                })?;
                Ok((whole(backend, &y)?, whole(backend, &ssm_state)?))
            };
            let (y, state) = run()?;
            let what = format!("lanes {lengths:?}, d_inner {d_inner}, d_state {d_state}");
            checks.extend(setup.compare(backend.dtype(), &what, (&y, &state), &setup.truth(&lanes)));
            let (again, state_again) = run()?;
            checks.push(Check::twice(&what, &y, &again));
            checks.push(Check::twice(format!("{what}, ssm_state"), &state, &state_again));
        }
    }
    Ok(checks)
}

/// One step of several sequences, with states in mixed slots.
///
/// # Errors
/// What the backend refuses.
pub fn selective_state_update<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    let any = (random.between(1, 99), random.between(1, 40));
    for (rows, d_inner, d_state) in
        [(1, 512, 16), (70, 64, 16), (5, any.0, any.1), (4, 64, 24), (2, 40, 40), (3, 10, 256)]
    {
        let n_slots = rows + 3;
        let setup = Setup::new(backend, &mut random, rows, (d_inner, d_state, 3), n_slots)?;
        let slots: Vec<usize> = (0..rows).map(|i| n_slots - 2 - i).collect();
        let lane = |(i, &slot): (usize, &usize)| LaneSpan { rows: i..i + 1, fresh: false, slot: Some(slot) };
        let lanes: Vec<LaneSpan> = slots.iter().enumerate().map(lane).collect();
        let mut ssm_state = backend.upload(&setup.state)?;
        let mut y = backend.activations(rows * d_inner)?;
        poison(backend, &mut y)?;
        backend.selective_state_update(SelectiveStateUpdate {
            d_inner,
            d_state,
            slots: &slots,
            n_slots,
            u: Rows::whole(&setup.u.0, d_inner),
            dt: Rows::whole(&setup.dt.0, d_inner),
            b: setup.b(),
            c: setup.c(),
            a2: &setup.a2.0,
            d: &setup.d.0,
            dt_bias: &setup.dt_bias.0,
            z: setup.z(),
            ssm_state: &mut ssm_state,
            y: &mut y,
        })?;
        let what = format!("{rows} sequences, d_inner {d_inner}, d_state {d_state}");
        let found = (&whole(backend, &y)?[..], &whole(backend, &ssm_state)?[..]);
        checks.extend(setup.compare(backend.dtype(), &what, found, &setup.truth(&lanes)));
    }
    Ok(checks)
}
