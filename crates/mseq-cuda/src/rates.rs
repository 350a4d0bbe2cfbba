//! What a device can do at most: what `mamba-seq bench` measures a model against.

use std::time::Instant;

use mseq_backend::Result;
use mseq_kernels::{Elem, launch};

use crate::CudaBackend;
use crate::module::Arg;

/// Rounds, of which the median counts.
const ROUNDS: usize = 5;

impl CudaBackend {
    /// Bytes a second that the device copies inside its memory, what is read and what is written together.
    ///
    /// # Errors
    /// When the device has no room, or fails.
    pub fn copy_rate(&self) -> Result<f64> {
        // Far beyond any cache.
        let bytes = (self.memory()?.0 / 8).clamp(1 << 20, 1 << 30);
        let (from, to) = (self.device.zeros(bytes)?, self.device.zeros(bytes)?);
        let seconds = self.seconds(10, || self.device.copy(&from, &to, bytes))?;
        Ok(2.0 * bytes as f64 / seconds)
    }

    /// Powers of two a second, by the instruction that the scan has its decays from.
    ///
    /// # Errors
    /// When the device fails.
    pub fn exp2_rate(&self) -> Result<f64> {
        const STEPS: usize = 16_384;
        let grid = launch::exp2_rate(self.device.info.multiprocessors as usize);
        let threads = grid.grid.0 as usize * grid.block.0 as usize;
        let out = self.device.zeros(4 * threads)?;
        let args = [Arg::Ptr(Elem::F32, out.ptr()), Arg::I32(STEPS), Arg::I32(threads)];
        let seconds = self.seconds(2, || self.kernels.launch(&self.device, "exp2_rate", grid, &args))?;
        Ok((threads * launch::EXP2_CHAINS * STEPS) as f64 / seconds)
    }

    /// Seconds of a launch: the median of some rounds of `launches` after a warm one.
    fn seconds(&self, launches: u32, launch: impl Fn() -> Result<()>) -> Result<f64> {
        let round = || {
            let start = Instant::now();
            for _ in 0..launches {
                launch()?;
            }
            self.synchronize()?;
            Ok(start.elapsed().as_secs_f64() / f64::from(launches))
        };
        round()?;
        let mut seconds = (0..ROUNDS).map(|_| round()).collect::<Result<Vec<f64>>>()?;
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[ROUNDS / 2])
    }
}
