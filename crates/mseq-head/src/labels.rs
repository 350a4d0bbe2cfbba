use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::{Error, Result, Table};

/// A text, gzip or plain.
fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::read(path)?;
    let mut text = String::new();
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => MultiGzDecoder::new(&*bytes).read_to_string(&mut text)?,
        false => (&*bytes).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// Labels by record id, from a file.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The file, for messages.
    path: String,
    by_record: HashMap<String, String>,
}

impl Labels {
    /// Reads two columns divided by a tab, gzip or plain: record id and label. A first line `record<TAB>label` is a
    /// header; empty lines and those that begin with # are passed over.
    ///
    /// # Errors
    /// When the file can't be read, a line has no tab, or a record has two labels.
    pub fn open(path: &Path) -> Result<Self> {
        let text = read(path).map_err(|e| Error::file(path, e))?;
        // As spreadsheets write it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn gzip_and_a_byte_order_mark_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = "\u{feff}record\tlabel\r\n# a note\na\tx\r\nb\ty\n";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        for (name, bytes) in [("l.tsv", text.as_bytes().to_vec()), ("l.tsv.gz", gzip.finish().unwrap())] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let labels = Labels::open(&path).unwrap();
            let want = [("a", "x"), ("b", "y")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(labels.by_record, want.into(), "{name}");
        }
    }
}
