//! Remakes the golden fixtures, or compares them with a fresh make.

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    shell,
};

const NEEDS: &str = "import torch, transformers, numpy, safetensors";

pub(crate) fn run(check: bool) -> Result<()> {
    let mut maker = shell::program(&find_python()?);
    maker.arg("data/golden/make.py");
    if check {
        maker.arg("--check");
    }
    println!("{}", shell::text(&maker));
    shell::run(&mut maker)
}

fn find_python() -> Result<PathBuf> {
    let can = |python: &Path| shell::succeeds(shell::program(python).args(["-c", NEEDS]));
    let remedy = "pip install torch 'transformers==5.24.*' numpy safetensors";
    match shell::chosen_python() {
        Some(python) if can(&python) => Ok(python),
        Some(python) => Err(Error::Failed(format!(
            "MSEQ_PYTHON={} cannot '{NEEDS}'; in that Python: {remedy}",
            python.display()
        ))),
        None => {
            ["python3", "python"].map(PathBuf::from).into_iter().find(|python| can(python)).ok_or_else(|| {
                Error::Failed(format!(
                    "no Python here can '{NEEDS}'; make one and set MSEQ_PYTHON to it: {remedy}"
                ))
            })
        }
    }
}
