//! Rows per second, size and peak memory of writing rows that look like embeddings: to a Parquet
//! file, or as an Arrow stream where OUT is `-`. With ENCODERS, rows go to a log first, as those of a
//! job do, and what is timed is the making of the file from it.
//!
//! ```text
//! cargo run --release -p mseq-sink --example throughput -- \
//!     OUT [ROWS] [f32|f16] [fixed|variable] [ZSTD_LEVEL] [PAGE_KIB] [GROUP_KIB] [BATCH_KIB] [ENCODERS]
//! ```
#![expect(clippy::print_stderr, reason = "the figures are what it is for")]

use std::error::Error;
use std::time::{Duration, Instant};

use mseq_core::{EmbeddingDType, ListType, RowBlock, RowKey, Strand};
use mseq_sink::{EmbedLayout, IpcSink, Options, ParquetSink, RowLog, Sink};

const DIM: usize = 128;
const BLOCK: u64 = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name an output file")?;
    let rows: u64 = args.next().map_or(Ok(200_000), |n| n.parse())?;
    let dtype = if args.next().as_deref() == Some("f16") { EmbeddingDType::F16 } else { EmbeddingDType::F32 };
    let list = if args.next().as_deref() == Some("variable") { ListType::Variable } else { ListType::Fixed };
    let mut options = Options::default();
    if let Some(level) = args.next() {
        options.zstd_level = level.parse()?;
    }
    for size in [&mut options.page_bytes, &mut options.row_group_bytes, &mut options.batch_bytes] {
        if let Some(kib) = args.next() {
            *size = kib.parse::<usize>()? << 10;
        }
    }

    let encoders = args.next().map(|n| n.parse::<usize>()).transpose()?;

    let layout = EmbedLayout { dim: DIM, dtype, list, region: false, seconds: false };
    let metadata = [("mamba_seq.model".to_owned(), "random walk".to_owned())];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut level = [0.0; DIM];
    let mut blocks = (0..rows)
        .step_by(BLOCK as usize)
        .map(|first| block(first..rows.min(first + BLOCK), &mut level, &mut noise));
    let mut busy = Duration::ZERO;
    let report = if let Some(encoders) = encoders {
        let options = Options { encoders, ..options };
        let mut log = RowLog::create(path.as_ref(), layout, &metadata, options, || {})?;
        blocks.try_for_each(|block| log.write(&block))?;
        let from = Instant::now();
        let report = log.finish(|| {})?;
        busy += from.elapsed();
        report
    } else {
        let mut sink: Box<dyn Sink> = match path.as_str() {
            "-" => Box::new(IpcSink::new(std::io::stdout(), layout, &metadata, &options)?),
            _ => Box::new(ParquetSink::create(path, layout, &metadata, options)?),
        };
        for block in blocks {
            let from = Instant::now();
            sink.write(&block)?;
            busy += from.elapsed();
        }
        let from = Instant::now();
        let report = sink.finish()?;
        busy += from.elapsed();
        report
    };

    let seconds = busy.as_secs_f64();
    eprintln!("{report:?}");
    eprintln!(
        "{:.0} rows/s, {:.1} MB/s in",
        rows as f64 / seconds,
        (rows * 4 * DIM as u64) as f64 / seconds / 1e6
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    eprintln!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown"));
    Ok(())
}

/// Rows of a random walk pulled towards 0, as neighbouring windows of a genome resemble each other;
/// each channel has its own scale.
fn block(rows: std::ops::Range<u64>, level: &mut [f32; DIM], noise: &mut Noise) -> RowBlock {
    let mut block = RowBlock::new(DIM);
    for i in rows {
        block.keys.push(RowKey {
            source: "genome.fa".into(),
            record: "chr1".into(),
            record_index: 0,
            start: i * 1000,
            end: (i + 1) * 1000,
            strand: Strand::Forward,
            region: None,
            rate: None,
        });
        for (channel, x) in level.iter_mut().enumerate() {
            *x = 0.9 * *x + 0.44 * noise.normal();
            block.values.push(*x * (0.2 + channel as f32 / 64.0));
        }
    }
    block
}

/// Splitmix64, so that every run writes the same rows.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Mean 0, variance 1: Box and Muller.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}
