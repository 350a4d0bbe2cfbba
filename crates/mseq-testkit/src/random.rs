use mseq_backend::{Backend, LaneSpan, Result};

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// What the state grows by with each value: so the value at any place can be had at once.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// Passes over the next `draws` values of [`Random::bits`].
    pub fn skip(&mut self, draws: usize) {
        self.0 = self.0.wrapping_add((draws as u64).wrapping_mul(STEP));
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.bits() % (high - low + 1) as u64) as usize
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `len` standard normals times `std`: those of [`Random::normal`], on all cores where they are many.
    pub fn normals(&mut self, std: f64, len: usize) -> Vec<f64> {
        /// Values that are worth a thread.
        const MANY: usize = 1 << 16;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(len / MANY).max(1);
        let mut values = vec![0f64; len];
        std::thread::scope(|scope| {
            for piece in values.chunks_mut(len.div_ceil(threads).max(1)) {
                let mut random = self.clone();
                self.skip(2 * piece.len());
                let mut fill = move || piece.iter_mut().for_each(|v| *v = std * random.normal());
                if threads == 1 {
                    fill();
                } else {
                    scope.spawn(fill);
                }
            }
        });
        values
    }

    /// `len` values in `low..high`.
    pub fn values(&mut self, len: usize, low: f32, high: f32) -> Vec<f32> {
        (0..len).map(|_| low + (high - low) * self.uniform() as f32).collect()
    }

    /// Lanes of about these lengths one after the other: the first goes on from slot 1, the second is
    /// fresh and kept in slot 2, the last is fresh and kept in slot 0, the others start and end here.
    /// With slots for three.
    pub(crate) fn lanes(&mut self, lengths: &[usize]) -> Vec<LaneSpan> {
        let mut row = 0;
        let last = lengths.len() - 1;
        lengths
            .iter()
            .enumerate()
            .map(|(i, &len)| {
                let rows = row..row + len;
                row = rows.end;
                match i {
                    0 => LaneSpan { rows, fresh: false, slot: Some(1) },
                    i if i == last => LaneSpan { rows, fresh: true, slot: Some(0) },
                    1 => LaneSpan { rows, fresh: true, slot: Some(2) },
                    _ => LaneSpan { rows, fresh: true, slot: None },
                }
            })
            .collect()
    }
}

/// Slots of the states that [`Random::lanes`] names.
pub(crate) const SLOTS: usize = 3;

/// A buffer in the backend's type, and what it holds after rounding.
pub(crate) fn stored<B: Backend>(backend: &B, values: &[f32]) -> Result<(B::Buffer, Vec<f64>)> {
    let mut buf = backend.activations(values.len())?;
    backend.write(&mut buf, 0, values)?;
    let held = backend.download(&buf, 0..values.len())?;
    Ok((buf, wide(&held)))
}

/// A buffer in f32, and what it holds.
pub(crate) fn single<B: Backend>(backend: &B, values: &[f32]) -> Result<(B::Buffer, Vec<f64>)> {
    Ok((backend.upload(values)?, wide(values)))
}

/// Fills a buffer with NaN.
pub(crate) fn poison<B: Backend>(backend: &B, buf: &mut B::Buffer) -> Result<()> {
    backend.write(buf, 0, &vec![f32::NAN; backend.len(buf)])
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The whole of a buffer.
pub(crate) fn whole<B: Backend>(backend: &B, buf: &B::Buffer) -> Result<Vec<f32>> {
    backend.download(buf, 0..backend.len(buf))
}

/// As `weight` of a linear holds values of this backend's type.
pub(crate) fn rounded<B: Backend>(backend: &B, values: &[f32]) -> Result<Vec<f64>> {
    Ok(stored(backend, values)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_normals_are_those_of_one_after_the_other() {
        let (mut one, mut many) = (Random::new(5), Random::new(5));
        for len in [0, 1, 7, 200_001] {
            let want: Vec<f64> = (0..len).map(|_| 0.5 * one.normal()).collect();
            assert_eq!(many.normals(0.5, len), want);
        }
        assert_eq!(one.bits(), many.bits());
    }
}
