use std::collections::HashMap;
use std::sync::Arc;

use crate::table::Key;
use crate::{Error, Labels, Result, Table};

/// What a head learns to say of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One of some classes: their names, and the number of that of each row.
    Classes(Vec<String>, Vec<usize>),
    /// A number.
    Numbers(Vec<f64>),
}

/// Rows and what they are.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Width of a row.
    pub dim: usize,
    /// (rows, dim).
    pub rows: Vec<f64>,
    /// The number of the record of each row: rows of one record are not independent.
    pub records: Vec<usize>,
    /// One a row.
    pub targets: Targets,
}

impl Examples {
    /// Joins embeddings with labels: those of the table's own column, or of a file.
    ///
    /// With `classes` these are the classes, and any other label is an error; without, they are
    /// those that occur, by number where all are whole numbers, else by name. With `numeric` labels
    /// are numbers.
    ///
    /// # Errors
    /// When a label is missing or no number, and when there is one class only.
    pub fn new(
        table: &Table,
        file: Option<&Labels>,
        numeric: bool,
        classes: Option<&[String]>,
    ) -> Result<Self> {
        let mut labels = match file {
            Some(file) => file.of(table)?,
            None => own(table)?,
        };
        // Blanks around a label are nobody's class.
        for label in &mut labels {
            let trimmed = label.trim();
            if trimmed.len() < label.len() {
                *label = trimmed.to_owned();
            }
        }
        let rows = table.values.iter().map(|&v| f64::from(v)).collect();
        let missing = |label: &String| {
            label.is_empty() || ["nan", "na", "null", "none"].contains(&label.to_ascii_lowercase().as_str())
        };
        if let Some(i) = labels.iter().position(missing) {
            return Err(Error::Labels(format!(
                "the label of record '{}' is '{}'; leave such records out",
                table.keys[i].record, labels[i]
            )));
        }
        let targets = if numeric { numbers(table, &labels)? } else { named(table, &labels, classes)? };
        let mut numbers = HashMap::new();
        let number = |key: &Key| {
            let next = numbers.len();
            *numbers.entry(Arc::clone(&key.record)).or_insert(next)
        };
        let records = table.keys.iter().map(number).collect();
        Ok(Self { dim: table.dim, rows, records, targets })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dim.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn own(table: &Table) -> Result<Vec<String>> {
    let each = table.labels.iter().zip(&table.keys).map(|(label, key)| {
        label.clone().ok_or_else(|| {
            Error::Labels(format!("record '{}' has no label (null); leave such records out", key.record))
        })
    });
    each.collect()
}

fn numbers(table: &Table, labels: &[String]) -> Result<Targets> {
    let each = labels.iter().zip(&table.keys).map(|(label, key)| match label.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(Error::Labels(format!(
            "the label of record '{}' is '{label}', no finite number; leave --numeric out to tell classes apart",
            key.record
        ))),
    });
    let numbers: Vec<f64> = each.collect::<Result<_>>()?;
    if numbers.iter().all(|n| *n == numbers[0]) {
        return Err(Error::Labels(format!("all labels are {}; there is nothing to learn", numbers[0])));
    }
    Ok(Targets::Numbers(numbers))
}

fn named(table: &Table, labels: &[String], classes: Option<&[String]>) -> Result<Targets> {
    let classes: Vec<String> = match classes {
        Some(classes) => classes.to_vec(),
        None => {
            let mut all: Vec<&String> = labels.iter().collect();
            all.sort_unstable();
            all.dedup();
            if all.len() > 1000 {
                return Err(Error::Labels(format!(
                    "{} different labels are too many for classes; use --numeric where they are numbers",
                    all.len()
                )));
            }
            if let [only] = all[..] {
                return Err(Error::Labels(format!("all labels are '{only}': one class is nothing to learn")));
            }
            let whole: Option<Vec<i64>> = all.iter().map(|label| label.parse().ok()).collect();
            match whole {
                Some(numbers) => {
                    let mut both: Vec<(i64, &String)> = numbers.into_iter().zip(all).collect();
                    both.sort_unstable();
                    both.into_iter().map(|(_, label)| label.clone()).collect()
                }
                None => all.into_iter().cloned().collect(),
            }
        }
    };
    let of = labels.iter().zip(&table.keys).map(|(label, key)| {
        classes.iter().position(|class| class == label).ok_or_else(|| {
            Error::Labels(format!(
                "the label of record '{}' is '{label}', which is no class of the head: it knows {}",
                key.record,
                classes.join(", ")
            ))
        })
    });
    let of = of.collect::<Result<_>>()?;
    Ok(Targets::Classes(classes, of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn table(labels: &[Option<&str>]) -> Table {
        let n = labels.len();
        Table {
            paths: Vec::new(),
            dim: 1,
            values: vec![0.5; n],
            keys: (0..n).map(|i| Key { record: format!("r{i}").into(), start: 0 }).collect(),
            labels: labels.iter().map(|l| l.map(str::to_owned)).collect(),
            metadata: std::collections::BTreeMap::new(),
        }
    }

    fn message(labels: &[Option<&str>], numeric: bool, classes: Option<&[String]>) -> String {
        Examples::new(&table(labels), None, numeric, classes).unwrap_err().to_string()
    }

    #[test]
    fn classes_are_sorted_by_number_or_name() {
        let classes =
            |labels: &[Option<&str>]| match Examples::new(&table(labels), None, false, None).unwrap().targets
            {
                Targets::Classes(names, of) => (names, of),
                Targets::Numbers(_) => panic!(),
            };
        let (names, of) = classes(&[Some("10"), Some("9"), Some("10")]);
        assert_eq!((names, of), (vec!["9".to_owned(), "10".to_owned()], vec![1, 0, 1]));
        assert_eq!(classes(&[Some("b"), Some("9"), Some("a")]).0, ["9", "a", "b"]);
    }

    #[test]
    fn bad_labels_are_named() {
        for (labels, numeric, part) in [
            (&[Some("a"), None][..], false, "record 'r1' has no label"),
            (&[Some("a"), Some("NaN")], false, "record 'r1' is 'NaN'"),
            (&[Some("1"), Some("x")], true, "record 'r1' is 'x', no finite number"),
            (&[Some("1"), Some("inf")], true, "no finite number"),
            (&[Some("a"), Some("a")], false, "one class is nothing to learn"),
            (&[Some("2"), Some("2")], true, "nothing to learn"),
        ] {
            let e = message(labels, numeric, None);
            assert!(e.contains(part), "{e}");
        }
        let known = ["a".to_owned()];
        assert!(message(&[Some("b")], false, Some(&known)).contains("'b', which is no class of the head"));
    }
}
