//! What a run may hold in memory beyond the weights, and how that is shared out.

use mseq_core::{Pool, Windows};
use mseq_cpu::CpuBackend;
use mseq_engine::{EngineConfig, Place};
use mseq_model::MambaShape;
use mseq_model::arch::Mamba;

use crate::{Failure, say};

/// What the CPU may take where the user sets no limit.
const CPU_LIMIT: u64 = 128 << 20;
/// The sink: its encoder, one row group, the footer.
const SINK: u64 = 8 << 20;
/// Most bytes that may wait between two stages: more would only fill.
const MAX_QUEUE: u64 = 4 << 20;

/// Sizes that keep a run inside its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Tokens an engine step.
    pub(super) chunk: usize,
    /// Bytes that may wait between two stages.
    pub(super) queue_bytes: usize,
    /// What all buffers together come to.
    pub(super) total: u64,
}

impl Budget {
    /// Shares `limit` out: sums of open windows and the sink first, a sixteenth for each of the two
    /// queues, and the rest for the activations of a step.
    ///
    /// # Errors
    /// When a step of the asked-for `chunk`, or of a single token, does not fit.
    pub(super) fn new(
        limit: Option<u64>,
        chunk: Option<usize>,
        shape: &MambaShape,
        config: &EngineConfig,
        place: &Place,
    ) -> Result<Self, Failure> {
        let limit = limit.unwrap_or_else(|| match &place.cuda {
            None => CPU_LIMIT,
            // Weights are no part of the limit, but of the same memory.
            Some(info) => (info.memory / 5 * 4).saturating_sub(4 * shape.parameters() as u64),
        });
        let queue = (limit / 16).min(MAX_QUEUE);
        // Overlap and windows are what the user typed, and may be any number.
        let overlap = config.context.map_or(0, |c| c.overlap.saturating_mul(4));
        let sums = config.open_windows().saturating_mul(8 * shape.d_model as u64);
        let fixed = (SINK + 2 * queue).saturating_add(overlap).saturating_add(sums);
        let row = (Mamba::<CpuBackend>::workspace_bytes_per_row(shape, place.dtype) as u64)
            .saturating_add(output_bytes_per_token(shape.d_model as u64, config));
        let fits = limit.saturating_sub(fixed) / row;
        let rows = chunk.unwrap_or_else(|| place.default_chunk(shape).min(fits as usize).max(1)) as u64;
        if rows > fits {
            let what = match chunk {
                Some(chunk) => format!("--chunk {chunk}"),
                None => "the smallest step".to_owned(),
            };
            return Err(Failure::Usage(format!(
                "{what} needs {} of buffers, the limit is {}; raise --memory-limit, or use a smaller --chunk or --window, or a larger --stride",
                say::bytes(rows.saturating_mul(row).saturating_add(fixed)),
                say::bytes(limit)
            )));
        }
        Ok(Self { chunk: rows as usize, queue_bytes: queue as usize, total: fixed + rows * row })
    }
}

/// Bytes of the rows that a token of a step closes, where they are most: overlapping intervals may
/// want the same token a thousand times.
fn output_bytes_per_token(d_model: u64, config: &EngineConfig) -> u64 {
    // Numbers and key, in the step, in the queue and in the sink.
    let mut row = 3 * (4 * d_model + 128);
    if config.pool != Pool::None {
        // The sum, and what the step has to know of the window.
        row += 8 * d_model + 400;
    }
    let (depth, shortest) =
        config.regions.as_ref().map_or((1, u64::MAX), |regions| (regions.depth(), regions.shortest()));
    let stride = |windows: Windows| windows.stride().unwrap_or(u64::MAX);
    let apart = match config.pool {
        Pool::None => 1,
        // An interval closes a row at its end too.
        _ => stride(config.fasta_windows).min(stride(config.fastq_windows)).min(shortest),
    };
    row.saturating_mul(depth) / apart.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mseq_core::{DType, Layer, Regions};

    #[test]
    fn shares_never_pass_the_limit() {
        let shape = MambaShape {
            n_layer: 8,
            d_model: 128,
            d_inner: 256,
            d_state: 16,
            d_conv: 4,
            dt_rank: 8,
            vocab: 5,
            front: 0,
        };
        let windows = Windows::tiled(1000, 1).unwrap();
        let config = EngineConfig {
            pool: Pool::Mean,
            layer: Layer::Last,
            fasta_windows: windows,
            fastq_windows: windows,
            chunk: 1,
            context: None,
            regions: None,
            parts: None,
            grid: 1,
            audio: None,
        };
        let cpu = Place { cuda: None, dtype: DType::F32, note: None, kernels_from: None };
        for limit in [12u64 << 20, 20 << 20, 64 << 20, 128 << 20, 1 << 40] {
            let budget = Budget::new(Some(limit), None, &shape, &config, &cpu).unwrap();
            assert!(budget.total <= limit && budget.chunk >= 1, "{limit}: {budget:?}");
        }
        assert!(Budget::new(Some(8 << 20), None, &shape, &config, &cpu).is_err());
        let tokens = u64::MAX;
        let context = Some(mseq_engine::Context { tokens, overlap: tokens - 1 });
        assert!(
            Budget::new(Some(1 << 40), None, &shape, &EngineConfig { context, ..config.clone() }, &cpu)
                .is_err()
        );
        let most = Windows::tiled(u64::MAX, 1).unwrap();
        assert!(
            Budget::new(
                Some(1 << 40),
                None,
                &shape,
                &EngineConfig { fasta_windows: most, ..config.clone() },
                &cpu
            )
            .is_err()
        );
        assert!(Budget::new(None, Some(1 << 20), &shape, &config, &cpu).is_err());
        assert_eq!(Budget::new(None, Some(777), &shape, &config, &cpu).unwrap().chunk, 777);
    }
    #[test]
    fn tokens_of_many_intervals_make_small_steps() {
        let shape = MambaShape {
            n_layer: 2,
            d_model: 32,
            d_inner: 64,
            d_state: 16,
            d_conv: 4,
            dt_rank: 2,
            vocab: 5,
            front: 0,
        };
        let chunk = |pool, n: u64| {
            let regions = Regions::new((0..n).map(|_| ("x", 0, 20_000, "name")));
            let config = EngineConfig {
                pool,
                layer: Layer::Last,
                fasta_windows: Windows::tiled(1000, 1000).unwrap(),
                fastq_windows: Windows::record(),
                chunk: 1,
                context: None,
                regions: Some(std::sync::Arc::new(regions)),
                parts: None,
                grid: 1,
                audio: None,
            };
            let cpu = Place { cuda: None, dtype: DType::F32, note: None, kernels_from: None };
            Budget::new(None, None, &shape, &config, &cpu).unwrap().chunk
        };
        assert_eq!(chunk(Pool::None, 1), mseq_engine::default_chunk(&shape));
        assert_eq!(chunk(Pool::Mean, 100), mseq_engine::default_chunk(&shape));
        // 1000 rows a token, each of 256 bytes at least.
        let few = chunk(Pool::None, 1000) as u64;
        assert!((1..(128 << 20) / 256_000).contains(&few), "{few}");
    }
}
