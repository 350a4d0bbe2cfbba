use std::fmt::Write;

use mseq_core::DType;
use mseq_cpu::CpuBackend;
use mseq_cuda::{CudaBackend, CudaConfig, DeviceInfo, Library, Unavailable};
use mseq_model::Checkpoint;

use super::model_files;
use crate::{Failure, say};

/// `mamba-seq doctor`: exit 0 also without a GPU.
pub(crate) fn run() -> Result<(), Failure> {
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
    for (key, value) in cuda() {
        row(key, value);
    }
    for builtin in mseq_data::builtins() {
        let checkpoint = Checkpoint::open(model_files(builtin.name)?)?;
        let sha = checkpoint.files().sha256()?;
        row("model", format!("{} (built in, sha256 {}...)", builtin.name, &sha[..12]));
    }
    say::out(&text)
}

/// Devices, libraries and where they are, and what would mend what is missing.
fn cuda() -> Vec<(&'static str, String)> {
    let driver = match mseq_cuda::probe() {
        Ok(driver) => driver,
        Err(why) => {
            let mend = match why {
                Unavailable::NoDriver => {
                    "without a GPU that is as it should be; else install the NVIDIA driver, \
                    such as `apt install nvidia-driver-580`, and reboot"
                }
                Unavailable::NoDevice => {
                    "see whether `nvidia-smi` shows one, and what CUDA_VISIBLE_DEVICES is"
                }
                _ => "see what `nvidia-smi` says; a container needs `--gpus all`",
            };
            return vec![("cuda", format!("{why}: models run on the CPU; {mend}"))];
        }
    };
    let (major, minor) = driver.cuda;
    let mut rows = vec![("cuda", format!("driver{} for CUDA {major}.{minor}", driver_version()))];
    for device in &driver.devices {
        rows.push(("", device_text(device)));
    }
    rows.push(match Library::CublasLt.load() {
        Some(found) => ("cublaslt", format!("{} ({})", found.path.display(), found.via)),
        None => (
            "cublaslt",
            format!(
                "not found: matrix products take mamba-seq's own kernel, which is slower; \
                 `pip install nvidia-cublas{}` brings it",
                if major < 13 { "-cu12" } else { "" }
            ),
        ),
    });
    rows.push(match Library::Nvrtc.load() {
        Some(found) => ("nvrtc", format!("{} ({})", found.path.display(), found.via)),
        None => (
            "nvrtc",
            "not found: needed only to compile kernels for shapes other than d_state 16, d_conv 4, and from source; \
             `pip install nvidia-cuda-nvrtc-cu12` brings it"
                .to_owned(),
        ),
    });
    rows.push(("compiled", compiled()));
    rows
}

/// Which kernels were compiled here for shapes of their own, and where they are.
fn compiled() -> String {
    let off = match std::env::var("MSEQ_NO_SPECIALIZE").is_ok_and(|v| v == "1") {
        true => " (none is made: MSEQ_NO_SPECIALIZE=1)",
        false => "",
    };
    match mseq_cuda::compiled_kernels() {
        None => format!("kept nowhere: there is no home folder, and MSEQ_CACHE_DIR is not set{off}"),
        Some((folder, names)) if names.is_empty() => format!("none yet in {}{off}", folder.display()),
        Some((folder, names)) => format!("in {}: {}{off}", folder.display(), names.join(", ")),
    }
}

/// A device, how much of its memory is free, and which kernels it takes.
fn device_text(device: &DeviceInfo) -> String {
    let config = CudaConfig {
        index: device.index,
        dtype: DType::F32,
        d_inner: 64,
        chunk: 256,
        sizes: None,
        kernels_from: None,
    };
    let state = match CudaBackend::new(&config) {
        Ok(backend) => {
            let free = backend.memory().map_or("unknown".to_owned(), |(free, _)| say::bytes(free as u64));
            format!("{free} free, kernels {}", backend.kernel_source())
        }
        Err(why) => why.to_string(),
    };
    format!("{}, {}: {state}", device.label(), say::bytes(device.memory))
}

/// ` 580.159`, where the kernel module tells.
pub(super) fn driver_version() -> String {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let number = |w: &&str| w.contains('.') && w.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.split_whitespace().find(number).map_or(String::new(), |version| format!(" {version}"))
}

pub(super) fn cpu_model() -> Option<String> {
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
