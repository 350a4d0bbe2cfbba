//! NVRTC behind a Python script: to call a C library takes `unsafe`, which this workspace does without.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use mseq_kernels::{Module, NVRTC_VERSION, Storage, Target, compile_options};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    shell,
};

const SCRIPT: &str = "crates/xtask/src/kernels/nvrtc.py";
/// Its minor versions differ in the code they make.
const PACKAGE: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";
const LIBRARY: &str = "libnvrtc.so.12";

/// A compiler that waits for sources.
pub(super) struct Nvrtc {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Nvrtc {
    /// The library at `path`, or the one of a Python package, in an environment of our own.
    pub(super) fn open(path: Option<&str>) -> Result<Self> {
        let (python, library) = match path {
            Some(path) => {
                let library = std::fs::canonicalize(path)
                    .map_err(|cause| Error::Failed(format!("cannot read {path}: {cause}")))?;
                (shell::chosen_python().unwrap_or_else(|| PathBuf::from("python3")), library)
            }
            None => installed()?,
        };
        let mut command = shell::program(&python);
        command.arg(SCRIPT).arg(&library).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().map_err(|source| Error::Start { program: shell::text(&command), source })?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Failed("the compiler has no input or output".to_owned()));
        };
        let mut nvrtc = Self { child, requests: Some(requests), answers: BufReader::new(answers) };
        let first = nvrtc.answer()?;
        match first["version"].as_str() {
            Some(NVRTC_VERSION) => Ok(nvrtc),
            other => Err(Error::Failed(format!(
                "{} is NVRTC {}, not {NVRTC_VERSION}",
                library.display(),
                other.unwrap_or("of no version")
            ))),
        }
    }

    /// Machine code, or PTX with its zero byte.
    pub(super) fn compile(&mut self, module: &Module, storage: Storage, target: Target) -> Result<Vec<u8>> {
        let what = format!("{}.{storage}.{target}", module.name);
        let options = compile_options(storage, target);
        self.compile_with(&what, &module.source(), &options, matches!(target, Target::Ptx(_)))
    }

    /// The same of any text.
    pub(super) fn compile_with(
        &mut self,
        what: &str,
        source: &str,
        options: &[String],
        ptx: bool,
    ) -> Result<Vec<u8>> {
        let request = json!({ "name": what, "source": source, "options": options, "ptx": ptx });
        let lost = |cause| Error::Failed(format!("the compiler is gone: {cause}"));
        if let Some(requests) = &mut self.requests {
            writeln!(requests, "{request}").and_then(|()| requests.flush()).map_err(lost)?;
        }
        let answer = self.answer()?;
        let log = answer["log"].as_str().unwrap_or_default();
        match answer["code"].as_str().map(bytes) {
            Some(Some(code)) => {
                if !log.is_empty() {
                    println!("{what}:\n{log}");
                }
                Ok(code)
            }
            _ => Err(Error::Failed(format!("{what} does not compile:\n{log}"))),
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        match read.map(|_| serde_json::from_str(&line)) {
            Ok(Ok(value)) => Ok(value),
            _ => Err(Error::Failed("the compiler stopped; its message is above".to_owned())),
        }
    }
}

impl Drop for Nvrtc {
    fn drop(&mut self) {
        // The end of its input is the end of the script.
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// Bytes from hexadecimal digits.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The environment's Python and library, made and filled at their first use.
fn installed() -> Result<(PathBuf, PathBuf)> {
    let venv = match env::var_os("MSEQ_NVRTC_VENV") {
        Some(dir) if !dir.is_empty() => env::current_dir().unwrap_or_default().join(dir),
        _ => shell::target_dir().join("nvrtc-venv"),
    };
    let python = venv.join("bin/python");
    if let Some(library) = library(&python) {
        return Ok((python, library));
    }
    if !shell::succeeds(shell::program(&python).args(["-m", "pip", "--version"])) {
        println!("making {}", venv.display());
        let maker = shell::chosen_python().unwrap_or_else(|| PathBuf::from("python3"));
        shell::run(shell::program(&maker).args(["-m", "venv"]).arg(&venv))?;
    }
    let mut pip = shell::program(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]);
    println!("{}", shell::text(&pip));
    shell::run(&mut pip)?;
    let library = library(&python).ok_or_else(|| Error::Failed(format!("{PACKAGE} has no {LIBRARY}")))?;
    Ok((python, library))
}

/// Where the package keeps the library.
fn library(python: &Path) -> Option<PathBuf> {
    let script = "import nvidia.cuda_nvrtc, sys; sys.stdout.write(list(nvidia.cuda_nvrtc.__path__)[0])";
    let mut command = shell::program(python);
    command.args(["-c", script]).stderr(Stdio::null());
    let folder = command.output().ok().filter(|out| out.status.success())?;
    let library = Path::new(std::str::from_utf8(&folder.stdout).ok()?).join("lib").join(LIBRARY);
    library.exists().then_some(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(bytes("00fF7f"), Some(vec![0, 255, 127]));
        assert_eq!(bytes("0x"), None);
    }
}
