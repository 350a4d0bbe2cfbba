use mseq_core::Front;

/// Widths of one level of an encoder or decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelShape {
    /// Between its two convolutions.
    pub inner: usize,
    /// Of what it gives.
    pub out: usize,
}

/// Sizes of the convolutions around the Mamba blocks of CleanUMamba.
///
/// Level 0 is the samples, level i what i convolutions make of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UNetShape {
    /// Taps of each convolution, a multiple of `stride`.
    pub taps: usize,
    /// Rows of a level for one of the next.
    pub stride: usize,
    /// From the samples down.
    pub encoder: Vec<LevelShape>,
    /// From the frames up; as many.
    pub decoder: Vec<LevelShape>,
}

impl UNetShape {
    /// Samples from one frame to the next.
    pub fn hop(&self) -> usize {
        self.rows_a_frame(0)
    }

    /// Samples that a frame is made of.
    pub fn reach(&self) -> usize {
        self.rows(0, 1)
    }

    /// How samples become frames.
    pub fn front(&self) -> Front {
        Front { hop: self.hop(), reach: self.reach() }
    }

    /// Rows that a level moves on by from one frame to the next.
    pub(crate) fn rows_a_frame(&self, level: usize) -> usize {
        self.stride.pow((self.encoder.len() - level) as u32)
    }

    /// Rows of a level that so many frames are made of.
    pub(crate) fn rows(&self, level: usize, frames: usize) -> usize {
        (level..self.encoder.len()).fold(frames, |rows, _| (rows.max(1) - 1) * self.stride + self.taps)
    }

    /// Frames of rows that each level has to have after the last of a lane, so that no tap of a valid
    /// row leaves the lane.
    pub(crate) fn slack(&self) -> usize {
        (self.reach() - self.hop()).div_ceil(self.hop())
    }

    /// Frames before one that its own samples still hang on.
    pub(crate) fn behind(&self) -> usize {
        let reach = (self.taps / self.stride) as i64 - 1;
        let first = (0..self.encoder.len()).fold(0i64, |row, _| row.div_euclid(self.stride as i64) - reach);
        first.unsigned_abs() as usize
    }

    /// Name and shape of every tensor of the convolutions.
    pub(crate) fn expected(&self, d_model: usize) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        let mut add = |name: String, shape: Vec<usize>, outputs: usize| {
            list.push((format!("{name}.weight"), shape));
            list.push((format!("{name}.bias"), vec![outputs]));
        };
        let mut inputs = 1;
        for (i, level) in self.encoder.iter().enumerate() {
            add(format!("encoder.{i}.0"), vec![level.inner, inputs, self.taps], level.inner);
            add(format!("encoder.{i}.2"), vec![2 * level.out, level.inner, 1], 2 * level.out);
            inputs = level.out;
        }
        add("tsfm_conv1".into(), vec![d_model, inputs, 1], d_model);
        add("tsfm_conv2".into(), vec![inputs, d_model, 1], inputs);
        for (j, level) in self.decoder.iter().enumerate() {
            add(format!("decoder.{j}.0"), vec![2 * level.inner, inputs, 1], 2 * level.inner);
            add(format!("decoder.{j}.2"), vec![level.inner, level.out, self.taps], level.out);
            inputs = level.out;
        }
        list
    }

    /// Values of workspace that a frame takes.
    pub(crate) fn values_a_frame(&self) -> usize {
        let levels = || self.encoder.iter().enumerate();
        let rows = |i: usize| self.rows_a_frame(i + 1);
        let conv = levels().map(|(i, level)| rows(i) * level.inner).max().unwrap_or(0);
        let wide = levels().map(|(i, level)| rows(i) * 2 * level.out).max().unwrap_or(0);
        conv + wide + self.hop() + levels().map(|(i, level)| rows(i) * level.out).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(n: usize) -> UNetShape {
        let level = vec![LevelShape { inner: 1, out: 1 }; n];
        UNetShape { taps: 4, stride: 2, encoder: level.clone(), decoder: level }
    }

    #[test]
    fn eight_levels_are_those_of_the_paper() {
        let s = levels(8);
        assert_eq!((s.hop(), s.reach(), s.slack(), s.behind()), (256, 766, 2, 2));
        // One second at 16 kHz: the frames of the golden values.
        assert_eq!(s.rows(0, 61), 60 * 256 + 766);
        assert_eq!((levels(6).hop(), levels(6).reach()), (64, 190));
        assert_eq!((levels(1).behind(), levels(2).behind(), levels(1).slack()), (1, 2, 1));
    }
}
