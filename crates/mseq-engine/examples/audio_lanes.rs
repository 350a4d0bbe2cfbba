//! A model of audio over one recording, many times side by side: how far a device is from the CPU, and
//! how many seconds of audio a second it takes.
//!
//!     cargo run --release -p mseq-engine --example audio_lanes -- MODEL.safetensors IN.wav cuda bf16 64
//!
//! The WAV file has one channel of 16 bits at the model's rate. Rows are pooled over each second, as
//! `embed --window 1s` does, so that only these leave the device.

#![expect(clippy::print_stdout, reason = "an example shows its numbers")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use mseq_backend::ops::PoolSegment;
use mseq_core::{DType, DeviceSpec, Layer, Pool, Windows};
use mseq_engine::{BatchOutput, ChunkBatch, EngineConfig, LaneSpan, Place, choose, open};
use mseq_model::{Checkpoint, ModelFiles};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn samples(path: &str) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    let data = bytes.windows(4).position(|w| w == b"data").ok_or("no WAV file")? + 8;
    let values = bytes[data..].as_chunks::<2>().0;
    let mut x: Vec<f32> = values.iter().map(|b| f32::from(i16::from_le_bytes(*b)) / 32768.0).collect();
    let n = x.len() as f64;
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt() + 1e-3;
    x.iter_mut().for_each(|v| *v /= std as f32);
    Ok(x)
}

fn config(pool: Pool, chunk: usize) -> EngineConfig {
    EngineConfig {
        pool,
        layer: Layer::Last,
        fasta_windows: Windows::record(),
        fastq_windows: Windows::record(),
        chunk,
        context: None,
        regions: None,
        parts: None,
        grid: 1,
        audio: None,
    }
}

/// `copies` lanes of frames `from..to` of a recording.
fn batch(
    x: &[f32],
    copies: usize,
    frames: usize,
    checkpoint: &Checkpoint,
    output: BatchOutput,
) -> Result<ChunkBatch> {
    let front = checkpoint.front().ok_or("the model reads token ids")?;
    let len = x.len().min((frames - 1) * front.hop + front.reach);
    Ok(ChunkBatch {
        ids: Vec::new(),
        samples: x[..len].repeat(copies),
        lane_samples: (0..copies).map(|i| i * len..(i + 1) * len).collect(),
        lanes: (0..copies)
            .map(|i| LaneSpan { rows: i * frames..(i + 1) * frames, fresh: true, slot: None })
            .collect(),
        output,
        keys: Vec::new(),
        done: Vec::new(),
    })
}

fn rows(x: &[f32], checkpoint: &Checkpoint, place: &Place) -> Result<Vec<f32>> {
    let front = checkpoint.front().ok_or("the model reads token ids")?;
    let frames = front.frames(x.len() as u64) as usize;
    let mut opened = open(place, 0, checkpoint, &config(Pool::None, frames))?;
    let whole = std::iter::once(0..frames).collect();
    Ok(opened.runner.run(&batch(x, 1, frames, checkpoint, BatchOutput::Rows(whole))?)?.numbers)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, wav, device, dtype, copies] = args.as_slice() else {
        return Err("MODEL IN.wav DEVICE DTYPE COPIES".into());
    };
    let checkpoint = Checkpoint::open(ModelFiles::at(Path::new(model))?)?;
    let dtype = DType::ALL.into_iter().find(|d| d.to_string() == *dtype).ok_or("no such type")?;
    let place = choose(&device.parse::<DeviceSpec>()?, Some(dtype))?;
    let x = samples(wav)?;
    let (cpu, here) =
        (rows(&x, &checkpoint, &choose(&DeviceSpec::Cpu, None)?)?, rows(&x, &checkpoint, &place)?);
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>();
    let apart = square(&mut cpu.iter().zip(&here).map(|(a, b)| f64::from(a - b)));
    println!("{place}: {:.2e} from the CPU", (apart / square(&mut cpu.iter().map(|&v| v.into()))).sqrt());

    let copies: usize = copies.parse()?;
    let front = checkpoint.front().ok_or("the model reads token ids")?;
    let rate = checkpoint.audio.map_or(1, |audio| audio.sample_rate) as usize;
    let frames = front.frames(x.len() as u64) as usize;
    // Lanes that a step of the default length has room for.
    let side = (place.default_chunk(&checkpoint.shape) / frames).clamp(1, copies);
    let segments: Vec<PoolSegment> = (0..side)
        .flat_map(|lane| {
            let second = rate / front.hop;
            (0..frames.div_ceil(second))
                .map(move |s| (lane * frames, s * second, frames.min((s + 1) * second)))
        })
        .map(|(row, from, to)| PoolSegment {
            rows: row + from..row + to,
            from: None,
            keep: None,
            count: (to - from) as u64,
        })
        .collect();
    let mut opened = open(&place, 0, &checkpoint, &config(Pool::Mean, side * frames))?;
    let step = batch(&x, side, frames, &checkpoint, BatchOutput::Pool(segments))?;
    opened.runner.run(&step)?;
    for _ in 0..3 {
        let start = Instant::now();
        let steps = copies.div_ceil(side);
        for _ in 0..steps {
            opened.runner.run(&step)?;
        }
        let took = start.elapsed().as_secs_f64();
        let audio = (steps * side * x.len()) as f64 / rate as f64;
        println!(
            "{place}: {} files in steps of {side}, {audio:.0} s of audio in {took:.3} s, {:.0} x real time",
            steps * side,
            audio / took
        );
    }
    Ok(())
}
