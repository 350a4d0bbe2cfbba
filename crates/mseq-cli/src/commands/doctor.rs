use std::fmt::Write;
use std::path::Path;

use mseq_cpu::CpuBackend;
use mseq_model::Checkpoint;

use super::model_files;
use crate::{Failure, say};

/// `mamba-seq doctor`: exit 0 also without a GPU.
pub(crate) fn run(verify: bool) -> Result<(), Failure> {
    if verify {
        return Err(Failure::not_built("`doctor --verify` (it compares a GPU with the CPU)"));
    }
    let mut text = String::new();
    let mut row = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<10} {value}");
    };
    row("mamba-seq", env!("CARGO_PKG_VERSION").into());
    row("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    let backend = CpuBackend::new(0).map_err(|e| Failure::Run(e.to_string()))?;
    row("cpu", cpu_model().unwrap_or_else(|| "unknown model".into()));
    row("threads", backend.threads().to_string());
    let simd = match backend.simd() {
        "scalar" => "scalar: slow; a CPU with AVX2 or NEON is ten times faster".to_owned(),
        level => level.to_owned(),
    };
    row("simd", simd);
    row("memory", memory().unwrap_or_else(|| "unknown".into()));
    row("cuda", cuda());
    for builtin in mseq_data::builtins() {
        let checkpoint = Checkpoint::open(model_files(builtin.name)?)?;
        let sha = checkpoint.files().sha256()?;
        row("model", format!("{} (built in, sha256 {}...)", builtin.name, &sha[..12]));
    }
    say::out(&text)
}

/// A driver may be there; this build can't use it, and says so.
fn cuda() -> String {
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    let version = driver.as_deref().and_then(|text| {
        text.split_whitespace().find(|w| w.contains('.') && w.chars().all(|c| c.is_ascii_digit() || c == '.'))
    });
    let library =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/usr/lib/aarch64-linux-gnu"]
            .iter()
            .map(|folder| Path::new(folder).join("libcuda.so.1"))
            .find(|path| path.exists());
    let found = match (version, library) {
        (Some(version), _) => format!("NVIDIA driver {version} found"),
        (None, Some(path)) => format!("{} found", path.display()),
        (None, None) => "no NVIDIA driver found".to_owned(),
    };
    format!("{found}; this build has no CUDA engine: models run on the CPU")
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> Option<String> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |key: &str| {
        let line = text.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(format!(
        "{} ({} free)",
        say::bytes(kib("MemTotal:")? << 10),
        say::bytes(kib("MemAvailable:")? << 10)
    ))
}
