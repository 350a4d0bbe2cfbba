use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::{Error, Result, Table};

/// Labels by record id, from a file.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The file, for messages.
    path: String,
    by_record: HashMap<String, String>,
}

impl Labels {
    /// Reads two columns divided by a tab: record id and label. A first line `record<TAB>label` is a
    /// header; empty lines and those that begin with # are passed over.
    ///
    /// # Errors
    /// When the file can't be read, a line has no tab, or a record has two labels.
    pub fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let mut by_record = HashMap::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((record, rest)) = line.split_once('\t') else {
                return Err(Error::file(path, format!("line {}: no tab; use RECORD<TAB>LABEL", i + 1)));
            };
            let label = rest.split('\t').next().unwrap_or_default();
            if i == 0 && record == "record" && label == "label" {
                continue;
            }
            if let Some(old) = by_record.insert(record.to_owned(), label.to_owned())
                && old != label
            {
                return Err(Error::file(
                    path,
                    format!("line {}: record '{record}' is '{label}' here and '{old}' before", i + 1),
                ));
            }
        }
        Ok(Self { path: path.display().to_string(), by_record })
    }

    /// The label of each row.
    ///
    /// # Errors
    /// When an id is no record of the table, or a record has no label.
    pub fn of(&self, table: &Table) -> Result<Vec<String>> {
        let mut unseen: std::collections::BTreeSet<&str> =
            self.by_record.keys().map(String::as_str).collect();
        let mut labels = Vec::with_capacity(table.len());
        for key in &table.keys {
            unseen.remove(&*key.record);
            match self.by_record.get(&*key.record) {
                Some(label) => labels.push(label.clone()),
                None => {
                    return Err(Error::Labels(format!(
                        "{}: no label for record '{}' of the embeddings; add a line, or embed fewer records",
                        self.path, key.record
                    )));
                }
            }
        }
        match unseen.first() {
            None => Ok(labels),
            Some(first) => Err(Error::Labels(format!(
                "{}: {} unknown: no row of the embeddings is of record '{first}'{}; take {} out, or embed {} too",
                self.path,
                if unseen.len() == 1 { "an id is" } else { "ids are" },
                match unseen.len() {
                    1 => String::new(),
                    n => format!(" and {} more", n - 1),
                },
                if unseen.len() == 1 { "it" } else { "them" },
                if unseen.len() == 1 { "it" } else { "them" },
            ))),
        }
    }
}
