//! Opens a Parquet or bigWig file with other people's readers, in a Python environment of our own.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    shell,
};

const SCRIPT: &str = "crates/xtask/src/readers.py";
/// The last one is what `head fit` is compared with in the tests.
const PACKAGES: [&str; 5] = ["pyarrow", "polars", "duckdb", "pyBigWig", "scikit-learn"];
const NEEDS: &str = "import pyarrow.parquet, polars, duckdb, pyBigWig, sklearn";

/// Makes the environment, which the tests find too.
pub(crate) fn prepare() -> Result<()> {
    python().map(|python| println!("{}", python.display()))
}

pub(crate) fn run(file: &str) -> Result<()> {
    // The script runs in the root; the file is named from where the user is.
    let file =
        std::fs::canonicalize(file).map_err(|cause| Error::Failed(format!("cannot read {file}: {cause}")))?;
    shell::run(shell::program(&python()?).arg(SCRIPT).arg(file))
}

/// The environment's Python, made and filled at its first use.
fn python() -> Result<PathBuf> {
    let venv = match env::var_os("MSEQ_READERS_VENV") {
        Some(dir) if !dir.is_empty() => env::current_dir().unwrap_or_default().join(dir),
        _ => shell::target_dir().join("readers-venv"),
    };
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if shell::succeeds(shell::program(&python).args(["-c", NEEDS])) {
        return Ok(python);
    }
    if !shell::succeeds(shell::program(&python).args(["-m", "pip", "--version"])) {
        println!("making {}", venv.display());
        let maker = shell::chosen_python().unwrap_or_else(|| PathBuf::from("python3"));
        make(&maker, &venv)?;
    }
    let mut pip = shell::program(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    println!("{}", shell::text(&pip));
    shell::run(&mut pip)?;
    Ok(python)
}

fn make(python: &Path, venv: &Path) -> Result<()> {
    shell::run(shell::program(python).args(["-m", "venv"]).arg(venv)).map_err(|cause| {
        Error::Failed(format!(
            "{cause}; a Python with its venv module is needed (on Debian: the package python3-venv), \
             or set MSEQ_READERS_VENV to an environment that has {}",
            PACKAGES.join(", ")
        ))
    })
}
