use std::num::NonZeroU32;

use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{
    Async, Fft, FixedAsync, FixedSync, SincInterpolationParameters, SincInterpolationType, WindowFunction,
};

/// Length of the filter, in samples of the lower rate, at least.
const TAPS: usize = 640;
/// Most samples of a block of a transform. Rates whose ratio needs longer ones are rare (44,099 Hz, whose
/// terms are large, or 100 Hz, a small part of the other); they go through a table of sincs, which takes over
/// ten times as long.
const LONGEST: usize = 1 << 15;

/// Samples that the table takes at a time.
const TABLE_CHUNK: usize = 1024;
/// Length of its filter, in samples of the lower rate.
const TABLE_TAPS: f64 = 320.0;
/// Where it cuts, as a share of the lower half rate: so that it is closed at 1.
const TABLE_CUTOFF: f32 = 0.965;

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One channel from the rate of a file to that of a model, by a windowed sinc.
///
/// N samples become ceil(N * to / from), the first of both at the same time.
pub(crate) struct Resampler {
    /// `None`: the rates are equal.
    filter: Option<Box<dyn rubato::Resampler<f32>>>,
    /// Samples that the filter takes at a time, whatever comes: so blocks can't show in the output.
    chunk: usize,
    from: NonZeroU32,
    to: NonZeroU32,
    /// Input, then output, of one call.
    input: [Vec<f32>; 1],
    output: [Vec<f32>; 1],
    /// Output that comes before the first sample.
    skip: usize,
    /// Zeros that go before the first sample.
    zeros: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// # Errors
    /// When no filter can be made for these rates.
    pub(crate) fn new(from: NonZeroU32, to: NonZeroU32) -> Result<Self, String> {
        let (input, output) = ([Vec::new()], [Vec::new()]);
        let (filter, chunk, skip, zeros, taken, given) = (None, 0, 0, 0, 0, 0);
        let mut new = Self { filter, chunk, from, to, input, output, skip, zeros, taken, given };
        if from == to {
            return Ok(new);
        }
        let by = gcd(from.get(), to.get());
        let (step_in, step_out) = ((from.get() / by) as usize, (to.get() / by) as usize);
        // An even number of steps: then the middle of the filter is a sample of both rates.
        let steps = TAPS.div_ceil(step_in.min(step_out)).next_multiple_of(2);
        let filter: Box<dyn rubato::Resampler<f32>> = if steps * step_in.max(step_out) <= LONGEST {
            let (rate_in, rate_out) = (from.get() as usize, to.get() as usize);
            new.chunk = steps * step_in;
            new.skip = steps * step_out / 2;
            // The filter is as long as a block.
            let filter = Fft::new_custom(
                rate_in,
                rate_out,
                new.chunk,
                1,
                1,
                WindowFunction::BlackmanHarris2,
                FixedSync::Both,
            );
            Box::new(filter.map_err(|e| e.to_string())?)
        } else {
            // As long in time at any ratio: counted in samples of the lower rate.
            let longer = (f64::from(from.get()) / f64::from(to.get())).max(1.0);
            let taps = ((TABLE_TAPS * longer).ceil() as usize).next_multiple_of(8);
            let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris)
                .f_cutoff(TABLE_CUTOFF)
                .oversampling_factor(512)
                .interpolation(SincInterpolationType::Cubic);
            let ratio = f64::from(to.get()) / f64::from(from.get());
            // The first sample comes out taps / 2 later, which is between two samples of the output,
            // unless zeros before it make that a whole number of both.
            let delay = (taps / 2).next_multiple_of(step_in);
            new.chunk = TABLE_CHUNK;
            new.skip = delay / step_in * step_out - 1;
            new.zeros = delay - taps / 2;
            let filter = Async::new_sinc(ratio, 1.0, &parameters, TABLE_CHUNK, 1, FixedAsync::Input);
            Box::new(filter.map_err(|e| e.to_string())?)
        };
        new.input[0].reserve_exact(new.chunk);
        new.output[0] = vec![0.0; filter.output_frames_max()];
        new.filter = Some(filter);
        Ok(new)
    }

    /// Takes samples and appends those that they complete.
    ///
    /// # Errors
    /// When the filter fails.
    pub(crate) fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        self.taken += samples.len() as u64;
        if self.filter.is_none() {
            self.given += samples.len() as u64;
            out.extend_from_slice(samples);
            return Ok(());
        }
        while self.zeros > 0 {
            let n = self.zeros.min(self.chunk - self.input[0].len());
            self.input[0].resize(self.input[0].len() + n, 0.0);
            self.zeros -= n;
            self.run_full(out)?;
        }
        while !samples.is_empty() {
            let n = samples.len().min(self.chunk - self.input[0].len());
            let (now, later) = samples.split_at(n);
            self.input[0].extend_from_slice(now);
            samples = later;
            self.run_full(out)?;
        }
        Ok(())
    }

    fn run_full(&mut self, out: &mut Vec<f32>) -> Result<(), String> {
        if self.input[0].len() == self.chunk { self.run(u64::MAX, out) } else { Ok(()) }
    }

    /// Appends the rest, after the last sample.
    ///
    /// # Errors
    /// When the filter fails.
    pub(crate) fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), String> {
        let total = u128::from(self.taken) * u128::from(self.to.get());
        let total = u64::try_from(total.div_ceil(u128::from(self.from.get()))).unwrap_or(u64::MAX);
        while self.filter.is_some() && self.given < total {
            self.input[0].resize(self.chunk, 0.0);
            self.run(total, out)?;
        }
        Ok(())
    }

    /// Runs a full chunk, and gives no more than `total` samples in all.
    fn run(&mut self, total: u64, out: &mut Vec<f32>) -> Result<(), String> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        let room = self.output[0].len();
        let input = SequentialSliceOfVecs::new(&self.input[..], 1, self.chunk).map_err(|e| e.to_string())?;
        let mut output =
            SequentialSliceOfVecs::new_mut(&mut self.output[..], 1, room).map_err(|e| e.to_string())?;
        let (_, made) = filter.process_into_buffer(&input, &mut output, None).map_err(|e| e.to_string())?;
        self.input[0].clear();
        let skip = self.skip.min(made);
        self.skip -= skip;
        let left = usize::try_from(total - self.given).unwrap_or(usize::MAX);
        let new = &self.output[0][skip..made];
        let new = &new[..new.len().min(left)];
        self.given += new.len() as u64;
        out.extend_from_slice(new);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn resample(samples: &[f32], from: u32, to: u32, blocks: &[usize]) -> Vec<f32> {
        let mut resampler = Resampler::new(rate(from), rate(to)).unwrap();
        let (mut out, mut at) = (Vec::new(), 0);
        for &block in blocks.iter().cycle() {
            if at == samples.len() {
                break;
            }
            let end = (at + block).min(samples.len());
            resampler.push(&samples[at..end], &mut out).unwrap();
            at = end;
        }
        resampler.finish(&mut out).unwrap();
        out
    }

    fn tone(hz: f64, rate: u32, n: usize) -> Vec<f32> {
        (0..n).map(|t| (std::f64::consts::TAU * hz * t as f64 / f64::from(rate)).sin() as f32).collect()
    }

    fn decibels(x: &[f32]) -> f64 {
        let power = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64;
        10.0 * (2.0 * power).log10()
    }

    #[test]
    fn blocks_do_not_show_and_lengths_are_exact() {
        for (from, to) in [
            (44_100, 16_000),
            (48_000, 16_000),
            (8000, 16_000),
            (16_000, 16_000),
            (11_025, 8000),
            (44_099, 16_000),
        ] {
            for n in [0, 1, 2, 1023, 1024, 1025, 1919, 1920, 1921, 5000] {
                let x = tone(440.0, from, n);
                let whole = resample(&x, from, to, &[n.max(1)]);
                assert_eq!(whole.len() as u64, (n as u64 * u64::from(to)).div_ceil(u64::from(from)));
                for blocks in [&[1][..], &[7, 1024, 3], &[1000]] {
                    assert_eq!(resample(&x, from, to, blocks), whole);
                }
            }
        }
    }

    /// Largest ripple in decibels and largest difference of tones, each up to 0.9 of the lower half rate, from
    /// the same tones at the other rate: gain, time, and images alike.
    fn passband(rates: &[(u32, u32)]) -> (f64, f64) {
        let (mut worst, mut error) = (0.0f64, 0.0f64);
        for &(from, to) in rates {
            let half = f64::from(from.min(to)) / 2.0;
            for share in [0.005, 0.1, 0.3, 0.5, 0.7, 0.85, 0.9] {
                let out = resample(&tone(share * half, from, from as usize), from, to, &[4096]);
                let want = tone(share * half, to, out.len());
                let (a, b) = (out.len() / 4, out.len() * 3 / 4);
                let ripple = (decibels(&out[a..b]) - decibels(&want[a..b])).abs();
                worst = worst.max(ripple);
                let far = out[a..b].iter().zip(&want[a..b]).map(|(x, y)| f64::from((x - y).abs()));
                error = error.max(far.fold(0.0, f64::max));
            }
        }
        println!("passband to 0.9 of the lower half rate: ripple {worst:.5} dB, largest error {error:.2e}");
        (worst, error)
    }

    /// In the middle, a tone comes out as it is; the first sample of both is at time 0.
    #[test]
    fn passband_is_flat_and_in_time() {
        let usual = [
            (44_100, 16_000),
            (48_000, 16_000),
            (8000, 16_000),
            (32_000, 16_000),
            (11_025, 16_000),
            (96_000, 16_000),
            (22_255, 16_000),
        ];
        let (ripple, error) = passband(&usual);
        assert!(ripple <= 1e-3 && error < 1e-5, "{ripple} {error}");
        // The table has 512 places between two samples, and lies half of one late: at 0.9 of the half
        // rate that is 2 pi * 0.45 / 1024 = 2.8e-3 of a tone.
        let (ripple, error) = passband(&[(44_099, 16_000)]);
        assert!(ripple <= 0.1 && error < 6e-3, "{ripple} {error}");
    }

    /// The first and the last samples are as those in the middle: among zeros a sound comes out the same.
    #[test]
    fn edges_are_as_the_middle() {
        for (from, to) in [(44_100, 16_000), (48_000, 16_000), (8000, 16_000), (22_050, 16_000)] {
            let by = gcd(from, to);
            let (zeros, before) = (1000 * (from / by) as usize, 1000 * (to / by) as usize);
            for n in [1, 2, 500, 4001] {
                let x: Vec<f32> = (0..n).map(|i| ((i * 7919 + 3) % 101) as f32 / 50.0 - 1.0).collect();
                let alone = resample(&x, from, to, &[n]);
                let mut among = vec![0.0; zeros];
                among.extend(&x);
                among.resize(2 * zeros + n, 0.0);
                let among = resample(&among, from, to, &[1000]);
                for (i, (a, b)) in alone.iter().zip(&among[before..]).enumerate() {
                    assert!((a - b).abs() < 2e-6, "{from}, {n} samples, sample {i}: {a} {b}");
                }
            }
        }
    }

    /// What would fold back is gone.
    #[test]
    fn aliases_are_rejected() {
        for (from, to, most) in [
            (44_100, 16_000, -120.0),
            (48_000, 16_000, -120.0),
            (32_000, 16_000, -120.0),
            (44_099, 16_000, -100.0),
        ] {
            let mut worst = f64::NEG_INFINITY;
            for hz in [8010.0, 8050.0, 8200.0, 9000.0, 11_000.0, 13_000.0, 15_500.0] {
                let out = resample(&tone(hz, from, from as usize), from, to, &[4096]);
                worst = worst.max(decibels(&out[out.len() / 4..out.len() * 3 / 4]));
            }
            println!("{from} to {to}: aliases of tones from 1.001 of the half rate: {worst:.1} dB");
            assert!(worst <= most, "{worst}");
        }
    }
}
