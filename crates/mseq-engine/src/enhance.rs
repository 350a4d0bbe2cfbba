use mseq_backend::Backend;
use mseq_core::Front;
use mseq_cpu::CpuBackend;
use mseq_model::Checkpoint;
use mseq_model::arch::{Denoiser, DenoiserState};

use crate::Result;
use crate::open::Place;

/// Denoises one recording as its samples come, in memory that does not grow with it.
///
/// On the CPU the output does not depend on where the samples are cut or on the frames of a step.
pub trait Enhancer: Send {
    /// Device, as messages name it.
    fn device(&self) -> String;

    /// Takes the next samples and gives those of the output that are ready.
    ///
    /// # Errors
    /// When the device fails.
    fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>>;

    /// Gives the rest: as many samples in all as came.
    ///
    /// # Errors
    /// When the device fails.
    fn finish(&mut self) -> Result<Vec<f32>>;
}

/// Opens a model that gives audio where [`crate::choose`] said, with steps of `chunk` frames.
///
/// # Errors
/// When the model gives none, can't be loaded, or the device is missing.
pub fn open_enhancer(
    place: &Place,
    threads: usize,
    checkpoint: &Checkpoint,
    chunk: usize,
) -> Result<Box<dyn Enhancer>> {
    let Some(backend) = place.open_cuda(&checkpoint.shape, chunk)? else {
        return Ok(Box::new(ModelEnhancer::new(CpuBackend::new(threads)?, checkpoint, chunk)?));
    };
    // Steps on the grid of tiles, so that equal settings give equal bits.
    let grid = backend.grid();
    Ok(Box::new(ModelEnhancer::new(backend, checkpoint, chunk.next_multiple_of(grid))?))
}

struct ModelEnhancer<B: Backend> {
    backend: B,
    denoiser: Denoiser<B>,
    state: DenoiserState<B>,
    front: Front,
    chunk: usize,
    /// Frames that are done.
    at: u64,
    /// Samples from the first that the next step needs on.
    held: Vec<f32>,
    /// Samples that came.
    total: u64,
}

impl<B: Backend> ModelEnhancer<B> {
    fn new(backend: B, checkpoint: &Checkpoint, chunk: usize) -> Result<Self> {
        let denoiser = Denoiser::load(&backend, checkpoint)?;
        let state = denoiser.state(&backend)?;
        let front = denoiser.shape().front();
        Ok(Self { backend, denoiser, state, front, chunk: chunk.max(1), at: 0, held: Vec::new(), total: 0 })
    }

    /// Samples of `held` that a step of so many frames is made of.
    fn needed(&self, frames: usize) -> usize {
        (self.denoiser.behind(&self.state) + frames - 1) * self.front.hop + self.front.reach
    }

    fn step(&mut self, frames: usize) -> Result<Vec<f32>> {
        let needed = self.needed(frames).min(self.held.len());
        let (before, samples) = (self.denoiser.behind(&self.state), &self.held[..needed]);
        let out = self.denoiser.run(&self.backend, samples, frames, &mut self.state)?;
        let after = self.denoiser.behind(&self.state);
        self.held.drain(..(before + frames - after) * self.front.hop);
        self.at += frames as u64;
        Ok(out)
    }
}

impl<B: Backend> Enhancer for ModelEnhancer<B> {
    fn device(&self) -> String {
        self.backend.name()
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>> {
        self.held.extend_from_slice(samples);
        self.total += samples.len() as u64;
        let mut ready = Vec::new();
        // One frame stays for the end, which gives the samples after its hop as well.
        while self.held.len() > self.needed(self.chunk) {
            let mut out = self.step(self.chunk)?;
            out.truncate(self.chunk * self.front.hop);
            ready.append(&mut out);
        }
        Ok(ready)
    }

    fn finish(&mut self) -> Result<Vec<f32>> {
        let frames = self.front.frames(self.total);
        let mut ready = Vec::new();
        while self.at < frames {
            let step = usize::try_from(frames - self.at).unwrap_or(usize::MAX).min(self.chunk);
            let from = self.at * self.front.hop as u64;
            let mut out = self.step(step)?;
            out.truncate(if self.at == frames {
                usize::try_from(self.total - from).unwrap_or(usize::MAX)
            } else {
                step * self.front.hop
            });
            ready.append(&mut out);
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use mseq_core::DeviceSpec;
    use mseq_model::ModelFiles;
    use mseq_testkit::Random;
    use mseq_testkit::audio::{CleanShape, random_clean};
    use proptest::prelude::*;

    use super::*;
    use crate::choose;

    fn model() -> Checkpoint {
        let levels = &[(5, 4), (6, 3), (4, 7)];
        let files = random_clean(CleanShape { levels, d_model: 9, blocks: &[(11, 3, 2), (8, 5, 1)] }, 3);
        let leak = |bytes: Vec<u8>| -> &'static [u8] { Box::leak(bytes.into_boxed_slice()) };
        let files: Vec<(&'static str, &'static [u8])> =
            files.into_iter().map(|(name, bytes)| (name, leak(bytes))).collect();
        let files = ModelFiles::Builtin { name: "random", files: Box::leak(files.into_boxed_slice()) };
        Checkpoint::open(files).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn blocks_and_steps_do_not_show(
            len in 0..700usize, blocks in prop::collection::vec(0..90usize, 1..9), chunk in 1..40usize,
        ) {
            let (checkpoint, place) = (model(), choose(&DeviceSpec::Cpu, None).unwrap());
            let samples = Random::new(len as u64).values(len, -1.0, 1.0);
            let mut whole = open_enhancer(&place, 1, &checkpoint, 10_000).unwrap();
            let mut want = whole.push(&samples).unwrap();
            want.extend(whole.finish().unwrap());
            prop_assert_eq!(want.len(), len);
            prop_assert!(want.iter().all(|v| v.is_finite()));
            let mut cut = open_enhancer(&place, 1, &checkpoint, chunk).unwrap();
            let (mut found, mut rest) = (Vec::new(), &samples[..]);
            for &block in &blocks {
                let (now, later) = rest.split_at(block.min(rest.len()));
                found.extend(cut.push(now).unwrap());
                rest = later;
            }
            found.extend(cut.push(rest).unwrap());
            found.extend(cut.finish().unwrap());
            let off = found.iter().zip(&want).position(|(a, b)| a != b);
            prop_assert_eq!((found.len(), off.map(|at| (at, found[at], want[at]))), (len, None));
        }
    }

    #[test]
    fn a_model_of_tokens_gives_no_audio() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/d29-n4-k2-e1");
        let checkpoint = Checkpoint::open(ModelFiles::dir(&path).unwrap()).unwrap();
        let place = choose(&DeviceSpec::Cpu, None).unwrap();
        let Err(e) = open_enhancer(&place, 1, &checkpoint, 8) else { panic!("it opened") };
        assert!(e.to_string().contains("no decoder"), "{e}");
    }
}
