//! Compares what Cargo says with the table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::table::{IN_TESTS, Outside, Row, TESTS_USE_ANYTHING};
use crate::error::{Error, Result};

/// A crate of the workspace and what its manifest asks for.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) edges: Vec<Edge>,
}

/// One dependency. Optional ones, and those of other platforms, count like all others.
#[derive(Debug)]
pub(super) struct Edge {
    /// The package's own name, also where the manifest renames it.
    to: String,
    /// In this tree, rather than from a registry.
    inner: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Dev,
}

/// Reads the answer of `cargo metadata --no-deps`.
pub(super) fn packages(metadata: &[u8]) -> Result<Vec<Package>> {
    let strange = |what: &str| Error::Failed(format!("cargo metadata: {what}"));
    let root: Value = serde_json::from_slice(metadata).map_err(|cause| strange(&cause.to_string()))?;
    let packages = root["packages"].as_array().ok_or_else(|| strange("no packages"))?;
    packages
        .iter()
        .map(|package| package_of(package).ok_or_else(|| strange("a package of unknown form")))
        .collect()
}

fn package_of(package: &Value) -> Option<Package> {
    let edges = package["dependencies"].as_array()?.iter().map(edge_of).collect::<Option<_>>()?;
    Some(Package { name: package["name"].as_str()?.to_owned(), edges })
}

fn edge_of(dependency: &Value) -> Option<Edge> {
    let kind = match &dependency["kind"] {
        Value::Null => Kind::Normal,
        Value::String(kind) if kind == "build" => Kind::Build,
        Value::String(kind) if kind == "dev" => Kind::Dev,
        _ => return None,
    };
    Some(Edge { to: dependency["name"].as_str()?.to_owned(), inner: dependency["path"].is_string(), kind })
}

/// Each thing against the table, as a sentence.
pub(super) fn faults(packages: &[Package], rows: &[Row], outside: &[Outside]) -> Vec<String> {
    let rows: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.name, row)).collect();
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut faults = Vec::new();

    for name in rows.keys().filter(|name| !members.contains(*name)) {
        faults.push(format!("the table has a row for {name}, which is not in the workspace"));
    }
    for package in packages {
        let name = package.name.as_str();
        let Some(row) = rows.get(name) else {
            faults.push(format!("{name} is not in the table: give it a row, with the reason"));
            continue;
        };
        for edge in &package.edges {
            if edge.inner && !members.contains(edge.to.as_str()) {
                faults.push(format!("{name} uses {}, which lies outside the workspace", edge.to));
            } else if edge.inner {
                inner_fault(row, edge).into_iter().for_each(|fault| faults.push(fault));
            } else {
                outer_faults(name, edge, outside).for_each(|fault| faults.push(fault));
            }
        }
    }
    faults
}

fn inner_fault(row: &Row, edge: &Edge) -> Option<String> {
    let to = edge.to.as_str();
    if row.may_use.contains(&to) || to == row.name {
        return None;
    }
    if edge.kind == Kind::Dev {
        let fine = IN_TESTS.contains(&to) || TESTS_USE_ANYTHING.contains(&row.name);
        return (!fine).then(|| format!("tests of {} may not use {to} ({})", row.name, row.why));
    }
    Some(format!("{} may not use {to} ({})", row.name, row.why))
}

fn outer_faults(name: &str, edge: &Edge, outside: &[Outside]) -> impl Iterator<Item = String> {
    outside.iter().filter(|rule| rule.covers(&edge.to) && !rule.allows(name, edge.kind)).map(move |rule| {
        format!("{name} may not use {}: only {} may ({})", edge.to, rule.used_by.join(", "), rule.why)
    })
}

impl Outside {
    fn covers(&self, package: &str) -> bool {
        match package.strip_prefix(self.family) {
            Some(rest) => rest.is_empty() || rest.starts_with(['-', '_']),
            None => false,
        }
    }

    fn allows(&self, name: &str, kind: Kind) -> bool {
        self.used_by.contains(&name) || (kind == Kind::Dev && self.tests_of.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::table::{OUTSIDE, ROWS},
        *,
    };

    /// The faults of a whole workspace in which `name` alone has dependencies.
    fn faults_with(name: &str, dependencies: Value) -> Vec<String> {
        let package = |row: &Row| {
            let own = if row.name == name { dependencies.clone() } else { json!([]) };
            json!({"name": row.name, "dependencies": own})
        };
        faults_of(json!({"packages": ROWS.iter().map(package).collect::<Vec<_>>()}))
    }

    fn faults_of(metadata: Value) -> Vec<String> {
        faults(&packages(metadata.to_string().as_bytes()).unwrap(), ROWS, OUTSIDE)
    }

    fn inner(name: &str, kind: Value) -> Value {
        json!({"name": name, "source": null, "path": format!("/w/{name}"), "kind": kind})
    }

    fn from_registry(name: &str, kind: Value) -> Value {
        json!({"name": name, "source": "registry+x", "kind": kind})
    }

    #[test]
    fn a_workspace_without_edges_is_fine() {
        assert_eq!(faults_with("mseq-core", json!([])), [""; 0]);
    }

    #[test]
    fn edges_of_the_table_are_fine() {
        for row in ROWS {
            let edges: Vec<Value> = row.may_use.iter().map(|to| inner(to, Value::Null)).collect();
            assert_eq!(faults_with(row.name, json!(edges)), [""; 0]);
        }
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_a_fault_also_in_a_build_script() {
        for kind in [Value::Null, json!("build")] {
            let faults = faults_with("mseq-source", json!([inner("mseq-model", kind)]));
            assert_eq!(faults.len(), 1);
            assert!(faults[0].starts_with("mseq-source may not use mseq-model ("), "{}", faults[0]);
        }
    }

    #[test]
    fn every_edge_upwards_is_a_fault() {
        for (at, row) in ROWS.iter().enumerate() {
            for later in &ROWS[at + 1..] {
                assert_eq!(faults_with(row.name, json!([inner(later.name, Value::Null)])).len(), 1);
            }
        }
    }

    #[test]
    fn tests_may_use_the_crates_that_compute() {
        for to in ["mseq-data", "mseq-cpu"] {
            assert_eq!(faults_with("mseq-model", json!([inner(to, json!("dev"))])), [""; 0]);
        }
        let faults = faults_with("mseq-model", json!([inner("mseq-pipeline", json!("dev"))]));
        assert!(faults[0].starts_with("tests of mseq-model may not use mseq-pipeline"), "{faults:?}");
        assert_eq!(faults_with("mamba-seq", json!([inner("mseq-sink", json!("dev"))])), [""; 0]);
    }

    #[test]
    fn tokio_stays_in_the_pipeline_and_the_command_line() {
        assert_eq!(faults_with("mseq-pipeline", json!([from_registry("tokio", Value::Null)])), [""; 0]);
        assert_eq!(faults_with("mseq-cli", json!([from_registry("tokio", Value::Null)])), [""; 0]);
        for kind in [Value::Null, json!("dev"), json!("build")] {
            let faults = faults_with("mseq-sink", json!([from_registry("tokio-util", kind)]));
            assert!(
                faults[0].starts_with("mseq-sink may not use tokio-util: only mseq-pipeline"),
                "{faults:?}"
            );
        }
        assert_eq!(faults_with("mseq-sink", json!([from_registry("tokiox", Value::Null)])), [""; 0]);
    }

    #[test]
    fn arrow_and_parquet_stay_at_the_doors() {
        for name in ["arrow", "arrow-array", "parquet", "parquet_derive"] {
            assert_eq!(faults_with("mseq-sink", json!([from_registry(name, Value::Null)])), [""; 0]);
            assert_eq!(faults_with("mseq-cli", json!([from_registry(name, json!("dev"))])), [""; 0]);
            assert_eq!(faults_with("mseq-cli", json!([from_registry(name, Value::Null)])).len(), 1);
            assert_eq!(faults_with("mseq-engine", json!([from_registry(name, json!("dev"))])).len(), 1);
        }
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_faults() {
        let mut packages: Vec<Value> =
            ROWS.iter().skip(1).map(|row| json!({"name": row.name, "dependencies": []})).collect();
        packages.push(json!({"name": "mseq-new", "dependencies": []}));
        let faults = faults_of(json!({"packages": packages}));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("row for mseq-core"), "{faults:?}");
        assert!(faults[1].starts_with("mseq-new is not in the table"), "{faults:?}");
    }

    #[test]
    fn a_path_that_leaves_the_workspace_is_a_fault() {
        let faults = faults_with("mseq-core", json!([inner("a-neighbour", Value::Null)]));
        assert_eq!(faults, ["mseq-core uses a-neighbour, which lies outside the workspace"]);
    }

    #[test]
    fn metadata_of_another_form_is_an_error_not_a_pass() {
        for text in ["", "{}", r#"{"packages": [{"name": "x"}]}"#] {
            assert!(packages(text.as_bytes()).is_err(), "{text}");
        }
        let unknown = json!({"packages": [{"name": "x", "dependencies": [{"name": "y", "kind": "odd"}]}]});
        assert!(packages(unknown.to_string().as_bytes()).is_err());
    }

    #[test]
    fn the_table_flows_downwards_and_gives_reasons() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(!row.why.is_empty());
            for to in row.may_use {
                assert!(ROWS[..at].iter().any(|above| above.name == *to), "{} uses {to}", row.name);
            }
        }
        let known = |name: &&str| ROWS.iter().any(|row| row.name == *name);
        assert!(IN_TESTS.iter().chain(TESTS_USE_ANYTHING).all(known));
        assert!(OUTSIDE.iter().flat_map(|rule| rule.used_by.iter().chain(rule.tests_of)).all(known));
    }
}
