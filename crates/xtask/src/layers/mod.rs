//! The layer rule as a test: a crate uses only what its row in the table names.

mod check;
mod table;

use crate::{
    error::{Error, Result},
    shell,
};

pub(crate) fn run() -> Result<()> {
    let packages = check::packages(&metadata()?)?;
    let faults = check::faults(&packages, table::ROWS, table::OUTSIDE);
    if faults.is_empty() {
        let edges: usize = packages.iter().map(|package| package.edges.len()).sum();
        println!("layers: {} crates, {edges} dependencies, all as the table says", packages.len());
        return Ok(());
    }
    let count = faults.len();
    for fault in faults {
        eprintln!("layers: {fault}");
    }
    Err(Error::Failed(format!(
        "{count} against the layer table: remove the dependency, or change crates/xtask/src/layers/table.rs \
         with the reason"
    )))
}

fn metadata() -> Result<Vec<u8>> {
    shell::output(shell::cargo().args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
        "--locked",
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_keeps_its_layers() {
        let packages = check::packages(&metadata().unwrap()).unwrap();
        let faults = check::faults(&packages, table::ROWS, table::OUTSIDE);
        assert!(faults.is_empty(), "{faults:#?}");
        assert!(packages.len() > 10, "the workspace shrank to {}", packages.len());
    }
}
