//! Each op against plain loops in f64, on shapes that fit no vector, and on every SIMD level.

use mseq_backend::ops::{
    CausalConv1dFwd, CausalConv1dUpdate, GluFwd, LinearFwd, Norm, NormFwd, ScanShape, SelectiveScanFwd,
    SelectiveStateUpdate, StridedConv1dFwd, TransposedConv1dFwd,
};
use mseq_backend::{Backend, LaneSpan, Rows, RowsMut};
use proptest::prelude::*;
use pulp::Arch;

use crate::{CpuBackend, CpuBuffer};

/// One backend for each level that this machine has; scalar is always there.
fn levels() -> Vec<CpuBackend> {
    let best = CpuBackend::new(2).unwrap();
    let mut archs = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        archs.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    archs.push(best.arch);
    archs.into_iter().map(|arch| CpuBackend { arch, ..best.clone() }).collect()
}

/// Values in a range, without a pattern.
struct Random(u64);

impl Random {
    fn values(&mut self, len: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..len)
            .map(|_| {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                lo + (hi - lo) * (self.0 >> 40) as f32 / (1u64 << 24) as f32
            })
            .collect()
    }
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|x| f64::from(*x)).collect()
}

/// Norm of the difference over norm of the truth.
fn off(found: &[f32], truth: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(truth).map(|(a, b)| f64::from(*a) - b))
        / norm(&mut truth.iter().copied()).max(1e-30)
}

/// Runs `op` on every level, checks that all gave the same bits, and gives them.
fn same_on_all(op: impl Fn(&CpuBackend) -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let bits = |v: &[Vec<f32>]| -> Vec<Vec<u32>> {
        v.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let all: Vec<Vec<Vec<f32>>> = levels().iter().map(&op).collect();
    for other in &all[1..] {
        assert_eq!(bits(&all[0]), bits(other), "SIMD levels differ");
    }
    all[0].clone()
}

/// Lanes of these lengths: the first goes on from slot 1, the last is kept in slot 0, and those
/// between start and end here.
fn lanes(lengths: &[usize]) -> Vec<LaneSpan> {
    let mut row = 0;
    let last = lengths.len() - 1;
    (0..lengths.len())
        .map(|i| {
            let rows = row..row + lengths[i];
            row = rows.end;
            match i {
                0 => LaneSpan { rows, fresh: false, slot: Some(1) },
                i if i == last => LaneSpan { rows, fresh: true, slot: Some(0) },
                _ => LaneSpan { rows, fresh: true, slot: None },
            }
        })
        .collect()
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1usize..4, 60usize..70, 1usize..20], 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Their truth is checked in mseq-testkit; here that no SIMD level shows.
    #[test]
    fn convolutions_and_gates((rows, c, n) in (1usize..60, 1usize..40, 1usize..50), relu: bool, seed: u64) {
        let mut random = Random(seed);
        let (taps, stride) = (4, 2);
        let (x, gated) = (random.values((2 * rows + 2) * c, -1.0, 1.0), random.values(2 * rows * n, -9.0, 9.0));
        let (w, b) = (random.values(2 * n * taps * c, -1.0, 1.0), random.values(2 * n, -1.0, 1.0));
        same_on_all(|backend| {
            let (x, bias, gated) = (CpuBuffer(x.clone()), CpuBuffer(b.clone()), CpuBuffer(gated.clone()));
            let weight = backend.linear(&w[..n * taps * c], n, taps * c).unwrap();
            let mut down = CpuBuffer(vec![f32::NAN; rows * n]);
            backend.strided_conv1d_fwd(StridedConv1dFwd {
                rows, in_channels: c, out_channels: n, taps, stride, x: &x, weight: &weight, bias: &bias, relu,
                y: &mut down,
            }).unwrap();
            let weight = backend.linear(&w[..2 * n * 2 * c], 2 * n, 2 * c).unwrap();
            let mut up = CpuBuffer(vec![f32::NAN; (2 * rows + 2) * n]);
            backend.transposed_conv1d_fwd(TransposedConv1dFwd {
                rows, in_channels: c, out_channels: n, taps, stride, x: &x, weight: &weight, bias: &bias, relu,
                add: None, y: &mut up,
            }).unwrap();
            let mut out = CpuBuffer(vec![f32::NAN; rows * n]);
            backend.glu_fwd(GluFwd { rows, width: n, x: &gated, out: &mut out }).unwrap();
            assert!([&down, &up, &out].iter().all(|buf| buf.0.iter().all(|v| v.is_finite())));
            vec![down.0, up.0, out.0]
        });
    }

    #[test]
    fn linear((rows, k, n) in (1usize..40, 1usize..70, 1usize..80), bias: bool, accumulate: bool, seed: u64) {
        let mut random = Random(seed);
        // x and y are columns of wider rows.
        let (x, w, b) = (random.values(rows * (k + 3), -1.0, 1.0), random.values(n * k, -1.0, 1.0), random.values(n, -1.0, 1.0));
        let y = random.values(rows * (n + 2), -1.0, 1.0);
        let found = same_on_all(|backend| {
            let (x, weight, b) = (CpuBuffer(x.clone()), backend.linear(&w, n, k).unwrap(), CpuBuffer(b.clone()));
            let mut y = CpuBuffer(y.clone());
            backend.linear_fwd(LinearFwd {
                rows, in_features: k, out_features: n,
                x: Rows::columns(&x, 2, k + 3),
                weight: &weight,
                bias: bias.then_some(&b),
                accumulate,
                y: RowsMut { buf: &mut y, stride: n + 2 },
            }).unwrap();
            vec![y.0]
        });
        let (xf, wf) = (wide(&x), wide(&w));
        let mut truth = wide(&y);
        for r in 0..rows {
            for j in 0..n {
                let sum: f64 = (0..k).map(|i| xf[r * (k + 3) + 2 + i] * wf[j * k + i]).sum();
                let was = if accumulate { truth[r * (n + 2) + j] } else { 0.0 };
                truth[r * (n + 2) + j] = was + sum + if bias { f64::from(b[j]) } else { 0.0 };
            }
        }
        prop_assert!(off(&found[0], &truth) < 3e-7);
    }

    #[test]
    fn norms((rows, width) in (1usize..20, 1usize..80), seed: u64) {
        let mut random = Random(seed);
        let (x, w, b) = (random.values(rows * width, -3.0, 3.0), random.values(width, 0.5, 1.5), random.values(width, -1.0, 1.0));
        let found = same_on_all(|backend| {
            let (x, weight, bias) = (CpuBuffer(x.clone()), &CpuBuffer(w.clone()), &CpuBuffer(b.clone()));
            let run = |norm| {
                let mut out = CpuBuffer(vec![f32::NAN; rows * width]);
                backend.norm_fwd(NormFwd { rows, width, norm, eps: 1e-5, x: &x, out: &mut out }).unwrap();
                out.0
            };
            vec![run(Norm::Rms { weight }), run(Norm::Layer { weight, bias })]
        });
        let (mut rms, mut layer) = (Vec::new(), Vec::new());
        for row in wide(&x).chunks(width) {
            let n = width as f64;
            let mean = row.iter().sum::<f64>() / n;
            let square = row.iter().map(|v| v * v).sum::<f64>() / n;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            for (c, v) in row.iter().enumerate() {
                let (w, b) = (f64::from(w[c]), f64::from(b[c]));
                rms.push(v / (square + 1e-5).sqrt() * w);
                layer.push((v - mean) / (variance + 1e-5).sqrt() * w + b);
            }
        }
        prop_assert!(off(&found[0], &rms) < 4e-7);
        // A row of nearly equal values loses what its mean takes away.
        prop_assert!(off(&found[1], &layer) < 4e-5);
    }

    #[test]
    fn conv(lengths in lengths(), d_inner in 1usize..40, d_conv in 1usize..6, bias: bool, seed: u64) {
        let mut random = Random(seed);
        let rows: usize = lengths.iter().sum();
        let keep = d_conv - 1;
        let (x, w, b) = (
            random.values(rows * 2 * d_inner, -1.0, 1.0),
            random.values(d_conv * d_inner, -1.0, 1.0),
            random.values(d_inner, -1.0, 1.0),
        );
        let state = random.values(2 * d_inner * keep, -1.0, 1.0);
        let lanes = lanes(&lengths);
        let found = same_on_all(|backend| {
            let (x, weight, bias_buf) = (CpuBuffer(x.clone()), CpuBuffer(w.clone()), CpuBuffer(b.clone()));
            let (mut conv_state, mut out) = (CpuBuffer(state.clone()), CpuBuffer(vec![f32::NAN; rows * d_inner]));
            backend.causal_conv1d_fwd(CausalConv1dFwd {
                rows, d_inner, d_conv, slots: 2, lanes: &lanes,
                x: Rows::columns(&x, 0, 2 * d_inner),
                weight: &weight,
                bias: bias.then_some(&bias_buf),
                conv_state: &mut conv_state,
                out: &mut out,
            }).unwrap();
            vec![out.0, conv_state.0]
        });
        let (mut truth, mut end) = (Vec::new(), wide(&state));
        for lane in &lanes {
            // The sequence with what lies before it, oldest first.
            let mut past: Vec<Vec<f64>> = (0..keep)
                .map(|j| (0..d_inner).map(|c| match (lane.fresh, lane.slot) {
                    (false, Some(s)) => f64::from(state[(s * d_inner + c) * keep + j]),
                    _ => 0.0,
                }).collect())
                .collect();
            past.extend(lane.rows.clone().map(|r| wide(&x[r * 2 * d_inner..][..d_inner])));
            for t in 0..lane.rows.len() {
                for c in 0..d_inner {
                    let sum: f64 = (0..d_conv).map(|k| f64::from(w[k * d_inner + c]) * past[t + k][c]).sum();
                    let v = sum + if bias { f64::from(b[c]) } else { 0.0 };
                    truth.push(v / (1.0 + (-v).exp()));
                }
            }
            if let Some(s) = lane.slot {
                for (j, column) in past[past.len() - keep..].iter().enumerate() {
                    for c in 0..d_inner {
                        end[(s * d_inner + c) * keep + j] = column[c];
                    }
                }
            }
        }
        prop_assert!(off(&found[0], &truth) < 4e-7);
        prop_assert_eq!(wide(&found[1]), end);
    }

    #[test]
    fn scan(lengths in lengths(), d_inner in 1usize..40, d_state in 1usize..20, seed: u64) {
        let mut random = Random(seed);
        let rows: usize = lengths.iter().sum();
        let mut values = |len, lo, hi| random.values(len, lo, hi);
        let (u, dt, z) = (values(rows * d_inner, -1.0, 1.0), values(rows * d_inner, -4.0, 3.0), values(rows * d_inner, -3.0, 3.0));
        let (b, c) = (values(rows * d_state, -1.0, 1.0), values(rows * d_state, -1.0, 1.0));
        let (a2, d, dt_bias) = (values(d_inner * d_state, -20.0, -0.01), values(d_inner, -1.0, 1.0), values(d_inner, -2.0, 30.0));
        let state = values(2 * d_inner * d_state, -1.0, 1.0);
        let lanes = lanes(&lengths);
        let found = same_on_all(|backend| {
            let buf = |v: &[f32]| CpuBuffer(v.to_vec());
            let (mut ssm_state, mut y) = (buf(&state), CpuBuffer(vec![f32::NAN; rows * d_inner]));
            backend.selective_scan_fwd(SelectiveScanFwd {
                shape: ScanShape { rows, d_inner, d_state, slots: 2 },
                lanes: &lanes,
                u: Rows::whole(&buf(&u), d_inner),
                dt: Rows::whole(&buf(&dt), d_inner),
                b: Rows::whole(&buf(&b), d_state),
                c: Rows::whole(&buf(&c), d_state),
                a2: &buf(&a2),
                d: &buf(&d),
                dt_bias: &buf(&dt_bias),
                z: Rows::whole(&buf(&z), d_inner),
                ssm_state: &mut ssm_state,
                y: &mut y,
            }).unwrap();
            vec![y.0, ssm_state.0]
        });
        let (mut truth, mut end) = (vec![0.0; rows * d_inner], wide(&state));
        let f = |v: &[f32], i: usize| f64::from(v[i]);
        for lane in &lanes {
            for ch in 0..d_inner {
                let mut h: Vec<f64> = (0..d_state)
                    .map(|n| match (lane.fresh, lane.slot) {
                        (false, Some(s)) => f(&state, (s * d_inner + ch) * d_state + n),
                        _ => 0.0,
                    })
                    .collect();
                for r in lane.rows.clone() {
                    let at = r * d_inner + ch;
                    let pre = f(&dt, at) + f(&dt_bias, ch);
                    let delta = if pre > 20.0 { pre } else { pre.exp().ln_1p() };
                    let mut y = f(&d, ch) * f(&u, at);
                    for (n, h) in h.iter_mut().enumerate() {
                        *h = (delta * f(&a2, ch * d_state + n)).exp2() * *h + delta * f(&b, r * d_state + n) * f(&u, at);
                        y += f(&c, r * d_state + n) * *h;
                    }
                    truth[at] = y * f(&z, at) / (1.0 + (-f(&z, at)).exp());
                }
                if let Some(s) = lane.slot {
                    end[(s * d_inner + ch) * d_state..][..d_state].copy_from_slice(&h);
                }
            }
        }
        prop_assert!(off(&found[0], &truth) < 2e-6, "{}", off(&found[0], &truth));
        prop_assert!(off(&found[1], &end) < 2e-6);
    }

    /// A sequence in one chunk, and the same one a row at a time, in the slots of three sequences.
    #[test]
    fn single_steps_are_the_chunk_ops(len in 1usize..8, d_inner in 1usize..40, d_state in 1usize..20, d_conv in 1usize..6, seed: u64) {
        const SEQUENCES: usize = 3;
        let mut random = Random(seed);
        let mut buf = |len, lo, hi| CpuBuffer(random.values(len, lo, hi));
        let rows = SEQUENCES * len;
        // Row t of sequence q: of the chunk at q * len + t, of step t at q.
        let step = |b: &CpuBuffer, t: usize, width: usize| {
            CpuBuffer((0..SEQUENCES).flat_map(|q| b.0[(q * len + t) * width..][..width].to_vec()).collect())
        };
        let slots = [2, 0, 1];
        let lanes: Vec<LaneSpan> = slots
            .iter()
            .enumerate()
            .map(|(q, &slot)| LaneSpan { rows: q * len..(q + 1) * len, fresh: false, slot: Some(slot) })
            .collect();
        let backend = CpuBackend::new(2).unwrap();
        let (x, weight, bias) = (buf(rows * d_inner, -1.0, 1.0), buf(d_conv * d_inner, -1.0, 1.0), buf(d_inner, -1.0, 1.0));
        let (dt, z) = (buf(rows * d_inner, -4.0, 3.0), buf(rows * d_inner, -3.0, 3.0));
        let (b, c) = (buf(rows * d_state, -1.0, 1.0), buf(rows * d_state, -1.0, 1.0));
        let (a2, d, dt_bias) = (buf(d_inner * d_state, -20.0, -0.01), buf(d_inner, -1.0, 1.0), buf(d_inner, -2.0, 30.0));
        let conv_start = buf(SEQUENCES * d_inner * (d_conv - 1), -1.0, 1.0);
        let ssm_start = buf(SEQUENCES * d_inner * d_state, -1.0, 1.0);

        let (mut conv_state, mut ssm_state) = (conv_start.clone(), ssm_start.clone());
        let (mut u, mut y) = (CpuBuffer(vec![0.0; rows * d_inner]), CpuBuffer(vec![0.0; rows * d_inner]));
        backend.causal_conv1d_fwd(CausalConv1dFwd {
            rows, d_inner, d_conv, slots: SEQUENCES, lanes: &lanes,
            x: Rows::whole(&x, d_inner), weight: &weight, bias: Some(&bias),
            conv_state: &mut conv_state, out: &mut u,
        }).unwrap();
        backend.selective_scan_fwd(SelectiveScanFwd {
            shape: ScanShape { rows, d_inner, d_state, slots: SEQUENCES },
            lanes: &lanes,
            u: Rows::whole(&u, d_inner), dt: Rows::whole(&dt, d_inner),
            b: Rows::whole(&b, d_state), c: Rows::whole(&c, d_state),
            a2: &a2, d: &d, dt_bias: &dt_bias, z: Rows::whole(&z, d_inner),
            ssm_state: &mut ssm_state, y: &mut y,
        }).unwrap();

        let (mut conv_steps, mut ssm_steps) = (conv_start, ssm_start);
        for t in 0..len {
            let (mut u_t, mut y_t) = (CpuBuffer(vec![0.0; SEQUENCES * d_inner]), CpuBuffer(vec![0.0; SEQUENCES * d_inner]));
            backend.causal_conv1d_update(CausalConv1dUpdate {
                d_inner, d_conv, slots: &slots, n_slots: SEQUENCES,
                x: Rows::whole(&step(&x, t, d_inner), d_inner), weight: &weight, bias: Some(&bias),
                conv_state: &mut conv_steps, out: &mut u_t,
            }).unwrap();
            backend.selective_state_update(SelectiveStateUpdate {
                d_inner, d_state, slots: &slots, n_slots: SEQUENCES,
                u: Rows::whole(&u_t, d_inner), dt: Rows::whole(&step(&dt, t, d_inner), d_inner),
                b: Rows::whole(&step(&b, t, d_state), d_state), c: Rows::whole(&step(&c, t, d_state), d_state),
                a2: &a2, d: &d, dt_bias: &dt_bias, z: Rows::whole(&step(&z, t, d_inner), d_inner),
                ssm_state: &mut ssm_steps, y: &mut y_t,
            }).unwrap();
            prop_assert_eq!(&u_t.0, &step(&u, t, d_inner).0);
            prop_assert_eq!(&y_t.0, &step(&y, t, d_inner).0);
        }
        prop_assert_eq!(&conv_steps.0, &conv_state.0);
        prop_assert_eq!(&ssm_steps.0, &ssm_state.0);
        // A slot used twice would race.
        let shared = CausalConv1dUpdate {
            d_inner, d_conv, slots: &[1, 1], n_slots: SEQUENCES,
            x: Rows::whole(&x, d_inner), weight: &weight, bias: None,
            conv_state: &mut conv_steps, out: &mut u,
        };
        prop_assert!(backend.causal_conv1d_update(shared).is_err());
    }
}
