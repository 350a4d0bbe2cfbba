//! Recordings that tests make, and what is special of their rows.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use hound::{SampleFormat, WavSpec, WavWriter};

use super::kept::batches;

/// One channel of 16 bits.
pub(crate) const PCM: WavSpec =
    WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
/// One channel of f32.
pub(crate) const FLOAT: WavSpec = WavSpec { bits_per_sample: 32, sample_format: SampleFormat::Float, ..PCM };

/// A gliding tone over noise, in 16 bits, always the same for a seed.
pub(crate) fn sound(seed: u32, samples: usize) -> Vec<i16> {
    let (mut state, mut phase) = (seed, 0.0f64);
    (0..samples)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            phase += 0.02 + 0.2 * (f64::from(seed) + i as f64 / 9000.0).sin().abs();
            (9000.0 * phase.sin()) as i16 + (state >> 20) as i16 - 2048
        })
        .collect()
}

/// Writes samples, channels interleaved; for floats these are 32,768 times what is written.
pub(crate) fn write_wav(path: &Path, spec: WavSpec, samples: &[i16]) {
    let mut writer = WavWriter::create(path, spec).unwrap();
    for &v in samples {
        match spec.sample_format {
            SampleFormat::Int => writer.write_sample(v).unwrap(),
            SampleFormat::Float => writer.write_sample(f32::from(v) / 32_768.0).unwrap(),
        }
    }
    writer.finalize().unwrap();
}

/// Writes f32 samples as they are.
pub(crate) fn write_floats(path: &Path, rate: u32, samples: &[f32]) {
    let mut writer = WavWriter::create(path, WavSpec { sample_rate: rate, ..FLOAT }).unwrap();
    samples.iter().for_each(|&v| writer.write_sample(v).unwrap());
    writer.finalize().unwrap();
}

/// `start_s` and `end_s` of every row.
pub(crate) fn seconds(path: &Path) -> Vec<(f64, f64)> {
    let mut all = Vec::new();
    for batch in batches(path) {
        let column = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone();
        let (starts, ends) = (column("start_s"), column("end_s"));
        all.extend(starts.values().iter().zip(ends.values()).map(|(a, b)| (*a, *b)));
    }
    all
}
