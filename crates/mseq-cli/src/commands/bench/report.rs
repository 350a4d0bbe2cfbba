//! What `bench` found, as a table and as JSON.

use std::fmt::Write;

use mseq_cpu::CpuBackend;
use mseq_cuda::{CudaBackend, Library};
use mseq_engine::Place;
use mseq_model::MambaShape;
use serde_json::{Value, json};

use super::machine::{Floor, Rates, products};
use super::timed::Stage;
use super::{Memory, Stages, WINDOW};
use crate::commands::doctor;
use crate::say;

/// The device, in words and in JSON.
pub(super) struct Device {
    line: String,
    json: Value,
    /// What computes matrix products, for people.
    gemm: String,
    /// `cublaslt` or `own`, and why.
    gemm_json: Value,
}

impl Device {
    pub(super) fn of_cpu(cpu: &CpuBackend) -> Self {
        let name = doctor::cpu_model().unwrap_or_else(|| "unknown model".into());
        Self {
            line: format!("cpu, {name}, {}, {}", cpu.simd(), say::count(cpu.threads() as u64, "thread")),
            json: json!({
                "kind": "cpu", "name": name, "simd": cpu.simd(), "threads": cpu.threads(),
            }),
            gemm: "mamba-seq's own".into(),
            gemm_json: json!({"path": "own"}),
        }
    }

    pub(super) fn of_cuda(cuda: &CudaBackend, version: (u32, u32), place: &Place) -> Self {
        let info = cuda.info();
        let driver = doctor::driver_version();
        let version = format!("{}.{}", version.0, version.1);
        let kernels = cuda.kernel_source().to_string();
        let library = Library::CublasLt.load().map(|found| found.path.display().to_string());
        let (path, why) = match (cuda.has_cublas(), &library) {
            (true, _) => ("cublaslt", None),
            (false, _) if std::env::var("MSEQ_NO_CUBLAS").is_ok_and(|v| v == "1") => {
                ("own", Some("MSEQ_NO_CUBLAS=1"))
            }
            (false, None) => ("own", Some("cuBLASLt was not found")),
            (false, Some(_)) => ("own", Some("cuBLASLt does not start")),
        };
        let library = library.filter(|_| cuda.has_cublas());
        Self {
            line: format!(
                "{}, {}, {} multiprocessors, driver{driver}, CUDA {version}, kernels {kernels}",
                info.label(),
                say::bytes(info.memory),
                info.multiprocessors
            ),
            json: json!({
                "kind": "cuda",
                "name": info.name,
                "index": info.index,
                "capability": format!("{}.{}", info.capability.0, info.capability.1),
                "multiprocessors": info.multiprocessors,
                "memory_bytes": info.memory,
                "driver": driver.trim(),
                "cuda": version,
                "kernels": kernels,
            }),
            gemm: match (&library, why) {
                (Some(library), _) => format!("cuBLASLt, {library}"),
                (None, why) => {
                    format!("mamba-seq's own kernel ({}), {}", why.unwrap_or("as asked"), place.dtype)
                }
            },
            gemm_json: json!({"path": path, "library": library, "why": why}),
        }
    }
}

/// Everything that is printed.
pub(super) struct Report<'a> {
    pub(super) model: String,
    pub(super) shape: MambaShape,
    pub(super) device: Device,
    pub(super) place: &'a Place,
    /// Variables that are set and matter.
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) tokens: u64,
    pub(super) lanes: u64,
    pub(super) chunk: usize,
    pub(super) grid: usize,
    pub(super) tile: Option<usize>,
    /// Of one repeat.
    pub(super) rows: u64,
    /// Tokens of a second of audio, for a model of it.
    pub(super) real_time: Option<f64>,
    /// Of each repeat, in order.
    pub(super) seconds: Vec<f64>,
    pub(super) stages: Stages,
    pub(super) rates: Rates,
    pub(super) memory: Memory,
}

/// Seconds of the fastest, the middle and the slowest repeat.
fn spread(seconds: &[f64]) -> [f64; 3] {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let last = sorted.len().saturating_sub(1);
    [at(0), 0.5 * (at(last / 2) + at(sorted.len() / 2)), at(last)]
}

impl Report<'_> {
    /// Tokens of a repeat.
    fn total(&self) -> f64 {
        self.tokens as f64 * self.lanes as f64
    }

    /// What a stage does a token, and in which unit: operations, or powers of two.
    fn work(&self, stage: Stage) -> Option<(&'static str, f64)> {
        if stage == Stage::Scan {
            return Some(("exp2", Floor::new(&self.shape, self.place.dtype).exps));
        }
        let product = products(&self.shape).into_iter().find(|(name, _)| *name == stage.name());
        product.map(|(_, flop)| ("flop", flop))
    }

    pub(super) fn json(&self) -> String {
        let s = self.shape;
        let total = self.total();
        let [fastest, median, slowest] = spread(&self.seconds);
        let floor = Floor::new(&s, self.place.dtype);
        let (bound, least) = floor.worst(&self.rates);
        let times = &self.stages.times;
        let sum: f64 = times.seconds.iter().sum();
        let stages: Vec<Value> = Stage::ALL
            .iter()
            .map(|&stage| {
                let seconds = times.seconds[stage as usize];
                let mut value = json!({
                    "stage": stage.name(),
                    "seconds": seconds,
                    "share": seconds / sum,
                    "ns_per_token": 1e9 * seconds / total,
                    "calls": times.calls[stage as usize],
                });
                if let Some((unit, work)) = self.work(stage) {
                    value[format!("{unit}_per_s")] = json!(work * total / seconds);
                }
                value
            })
            .collect();
        let parts = floor.parts(&self.rates).map(|(name, seconds)| (name.to_owned(), json!(1e9 * seconds)));
        let environment = self.environment.iter().map(|(k, v)| ((*k).to_owned(), json!(v)));
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "model": {
                "name": self.model,
                "parameters": s.parameters(),
                "n_layer": s.n_layer,
                "d_model": s.d_model,
                "d_inner": s.d_inner,
                "d_state": s.d_state,
                "d_conv": s.d_conv,
                "dt_rank": s.dt_rank,
            },
            "device": self.device.json,
            "dtype": self.place.dtype.to_string(),
            "gemm": self.device.gemm_json,
            "environment": environment.collect::<serde_json::Map<_, _>>(),
            "tokens": self.tokens,
            "lanes": self.lanes,
            "chunk": self.chunk,
            "grid": self.grid,
            "tile": self.tile,
            "window": if self.real_time.is_some() { json!("1s") } else { json!(WINDOW) },
            "rows": self.rows,
            "times_real_time": self.real_time.map(|a_second| total / median / a_second),
            "tokens_per_s": total / median,
            "seconds": {"median": median, "fastest": fastest, "slowest": slowest, "all": self.seconds},
            "stages": stages,
            "stages_seconds": self.stages.seconds,
            "stages_sum_seconds": sum,
            "rates": {
                "copy_bytes_per_s": self.rates.copy,
                "gemm_flop_per_s": self.rates.gemm,
                "gemm_size": self.rates.gemm_size,
                "exp2_per_s": self.rates.exp2,
            },
            "floor": {
                "exps_per_token": floor.exps,
                "flop_per_token": floor.flop,
                "bytes_per_token": floor.bytes,
                "ns_per_token": parts.into_iter().collect::<serde_json::Map<_, _>>(),
                "bound": bound,
                "tokens_per_s": 1.0 / least,
                "percent": 100.0 * least * total / median,
            },
            "memory": {
                "device_free_before_bytes": self.memory.device.map(|(before, _)| before),
                "device_least_free_bytes": self.memory.device.map(|(_, least)| least),
                "device_peak_bytes": self.memory.device.map(|(before, least)| before - least),
                "host_resident_bytes": self.memory.host,
            },
        });
        format!("{value:#}\n")
    }

    pub(super) fn table(&self) -> String {
        let s = self.shape;
        let total = self.total();
        let rates = &self.rates;
        let [fastest, median, slowest] = spread(&self.seconds);
        let rate = |seconds: f64| say::grouped((total / seconds) as u64);
        let mut text = String::new();
        let mut row = |key: &str, value: String| {
            let _ = writeln!(text, "{key:<10} {value}");
        };
        row("mamba-seq", env!("CARGO_PKG_VERSION").into());
        row(
            "model",
            format!(
                "{} ({} parameters, {} layers, d_model {}, d_state {})",
                self.model,
                say::grouped(s.parameters() as u64),
                s.n_layer,
                s.d_model,
                s.d_state
            ),
        );
        row("device", self.device.line.clone());
        row("dtype", self.place.dtype.to_string());
        row("gemm", self.device.gemm.clone());
        for (name, value) in &self.environment {
            row("set", format!("{name}={value}"));
        }
        let tile = self.tile.map_or(String::new(), |tile| format!(", tiles of {tile}"));
        row(
            "load",
            format!(
                "{} of {}, steps of up to {}{tile}, cut on a grid of {}, a row a window of {}",
                say::count(self.lanes, "sequence"),
                say::count(self.tokens, "token"),
                say::grouped(self.chunk as u64),
                self.grid,
                if self.real_time.is_some() { "1 s".to_owned() } else { WINDOW.to_string() },
            ),
        );
        if let Some(a_second) = self.real_time {
            row(
                "audio",
                format!("{:.0} x real time ({a_second} tokens a second)", total / median / a_second),
            );
        }
        row(
            "speed",
            format!(
                "{} tokens/s (median of {}; {} to {}), {:.1} ns a token",
                rate(median),
                self.seconds.len(),
                rate(slowest),
                rate(fastest),
                1e9 * median / total
            ),
        );
        let floor = Floor::new(&s, self.place.dtype);
        let (bound, least) = floor.worst(rates);
        row(
            "floor",
            format!(
                "{} tokens/s ({bound}); this is {:.1} % of it",
                say::grouped((1.0 / least) as u64),
                100.0 * least * total / median
            ),
        );
        let host = self.memory.host.map_or("unknown".into(), say::bytes);
        row(
            "memory",
            match self.memory.device {
                None => host,
                Some((before, least)) => format!(
                    "{} of the device ({} free before, {} at least), {host} of the host",
                    say::bytes(before - least),
                    say::bytes(before),
                    say::bytes(least)
                ),
            },
        );
        self.stage_table(&mut text);
        self.rate_table(&floor, &mut text);
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn stage_table(&self, text: &mut String) {
        let (total, times) = (self.total(), &self.stages.times);
        let sum: f64 = times.seconds.iter().sum();
        let _ = writeln!(text, "\n{:<10} {:>10} {:>7} {:>16}", "stage", "ns/token", "share", "rate");
        for stage in Stage::ALL {
            let seconds = times.seconds[stage as usize];
            let rate = self.work(stage).map_or(String::new(), |(unit, work)| {
                let name = if unit == "flop" { "FLOP/s" } else { "exp2/s" };
                scaled(work * total / seconds, name)
            });
            let _ = writeln!(
                text,
                "{:<10} {:>10.2} {:>5.1} % {rate:>16}",
                stage.name(),
                1e9 * seconds / total,
                100.0 * seconds / sum
            );
        }
        let rest = self.stages.seconds - sum;
        let _ = writeln!(text, "{:<10} {:>10.2}", "host", 1e9 * rest / total);
        let _ = writeln!(
            text,
            "{:<10} {:>10.2}   (in a pass of its own, which waits after each op)",
            "together",
            1e9 * self.stages.seconds / total
        );
    }

    fn rate_table(&self, floor: &Floor, text: &mut String) {
        let rates = &self.rates;
        let [exp2, gemm, bytes] = floor.parts(rates).map(|(_, seconds)| 1e9 * seconds);
        let _ = writeln!(
            text,
            "\n{:<10} {:>16} {:>16} {:>12}",
            "machine", "can do", "a token needs", "ns at least"
        );
        let size = rates.gemm_size;
        for (name, can, needs, ns) in [
            ("exp2", scaled(rates.exp2, "exp2/s"), scaled(floor.exps, "exp2"), exp2),
            ("gemm", scaled(rates.gemm, "FLOP/s"), scaled(floor.flop, "FLOP"), gemm),
            ("bytes", scaled(rates.copy, "B/s"), scaled(floor.bytes, "B"), bytes),
        ] {
            let _ = writeln!(text, "{name:<10} {can:>16} {needs:>16} {ns:>12.2}");
        }
        let _ = writeln!(text, "gemm at {size} x {size} x {size}; bytes: a copy, read and written");
    }
}

/// `1.23 T` and the unit.
fn scaled(value: f64, unit: &str) -> String {
    let steps = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match steps.into_iter().find(|(size, _)| value >= *size) {
        Some((size, name)) => format!("{:.2} {name}{unit}", value / size),
        None => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0]), [1.0, 2.5, 4.0]);
        assert_eq!(scaled(4.13e12, "FLOP/s"), "4.13 TFLOP/s");
        assert_eq!(scaled(12.0, "B"), "12 B");
    }
}
