//! Running other programs from the root of the workspace.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::{Error, Result};

/// The folder of the workspace's Cargo.toml.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it for `cargo xtask` and for tests; the binary alone runs where it was built.
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = PathBuf::from(here);
    here.ancestors().nth(2).unwrap_or(&here).to_path_buf()
}

/// Where Cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    let dir = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    root().join(dir)
}

/// The Cargo that runs this task.
pub(crate) fn cargo() -> Command {
    program(Path::new(&env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))))
}

/// `$MSEQ_PYTHON`, if set.
pub(crate) fn chosen_python() -> Option<PathBuf> {
    env::var_os("MSEQ_PYTHON").filter(|python| !python.is_empty()).map(PathBuf::from)
}

/// A program, to be run in the root.
pub(crate) fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// Runs to the end; the user sees what it prints.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|source| cannot_start(command, source))?;
    if status.success() { Ok(()) } else { Err(Error::Status { command: text(command), status }) }
}

/// Runs to the end; the user sees what it prints, and the lines on stderr that begin so are counted.
pub(crate) fn run_and_count(command: &mut Command, begin: &str) -> Result<usize> {
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|source| cannot_start(command, source))?;
    let mut count = 0;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            count += usize::from(line.starts_with(begin));
            eprintln!("{line}");
        }
    }
    let status = child.wait().map_err(|source| cannot_start(command, source))?;
    if status.success() { Ok(count) } else { Err(Error::Status { command: text(command), status }) }
}

/// Runs to the end; what it prints on stdout is the answer.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.stderr(Stdio::inherit()).output().map_err(|source| cannot_start(command, source))?;
    if out.status.success() {
        Ok(out.stdout)
    } else {
        Err(Error::Status { command: text(command), status: out.status })
    }
}

/// Whether it starts and succeeds; nothing is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn text(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_missing_program_and_a_failing_one_are_named() {
        let missing = run(&mut program(Path::new("no-such-program-here"))).unwrap_err();
        assert!(missing.to_string().starts_with("cannot start no-such-program-here: "), "{missing}");
        let failing = output(program(Path::new("sh")).args(["-c", "exit 3"])).unwrap_err();
        assert!(failing.to_string().starts_with("sh -c exit 3: "), "{failing}");
        let mut three = program(Path::new("sh"));
        three.args(["-c", "printf 'skipped a\\nnot skipped\\nskipped b' >&2"]);
        assert_eq!(run_and_count(&mut three, "skipped").unwrap(), 2);
        assert!(!succeeds(cargo().arg("--no-such-option")));
        assert!(succeeds(cargo().arg("--version")));
    }
}
