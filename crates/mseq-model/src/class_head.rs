use mseq_core::Pool;
use serde_json::Value;

use crate::{Checkpoint, Error, Result};

/// A linear layer and a softmax over classes, on the host: a row is a window, and a window is
/// thousands of tokens of the model before it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassHead {
    classes: Vec<String>,
    /// (classes, dim).
    weight: Vec<f64>,
    bias: Vec<f64>,
    dim: usize,
}

/// Names that heads have, in the order in which they are looked for.
const NAMES: [&str; 4] =
    ["score", "classifier", "classification_head", "classification_head.classification_head"];

/// Keys of a config that say how a window's tokens become the row that the head takes.
const POOLING: [&str; 3] = ["pooling_strategy", "classifier_pooling", "pooling"];

impl ClassHead {
    /// A head of `classes.len()` rows of `dim` weights; `None` when the numbers do not fit.
    pub fn new(classes: Vec<String>, weight: Vec<f64>, bias: Vec<f64>, dim: usize) -> Option<Self> {
        let fits = !classes.is_empty() && weight.len() == classes.len() * dim && bias.len() == classes.len();
        let finite = weight.iter().chain(&bias).all(|v| v.is_finite());
        (fits && finite && dim > 0).then_some(Self { classes, weight, bias, dim })
    }

    /// Their names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Width of the rows that it takes.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The probability of each class. Sums run in index order, in f64.
    ///
    /// ```
    /// let classes = vec!["no".to_owned(), "yes".to_owned()];
    /// let head = mseq_model::ClassHead::new(classes, vec![0.0, 0.0, 1.0, 2.0], vec![0.0, -3.0], 2).unwrap();
    /// assert_eq!(head.probabilities(&[1.0, 1.0]), [0.5, 0.5]);
    /// ```
    pub fn probabilities(&self, row: &[f32]) -> Vec<f32> {
        let logit =
            |(w, b): (&[f64], &f64)| w.iter().zip(row).fold(*b, |sum, (w, &x)| sum + w * f64::from(x));
        let mut p: Vec<f64> = self.weight.chunks_exact(self.dim).zip(&self.bias).map(logit).collect();
        let most = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        p.iter_mut().for_each(|v| *v = (*v - most).exp());
        let sum: f64 = p.iter().sum();
        p.into_iter().map(|v| (v / sum) as f32).collect()
    }
}

/// A linear layer that says a number of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberHead {
    weight: Vec<f64>,
    bias: f64,
}

impl NumberHead {
    /// A head of these weights; `None` when there are none, or one is no number.
    pub fn new(weight: Vec<f64>, bias: f64) -> Option<Self> {
        let finite = weight.iter().chain([&bias]).all(|v| v.is_finite());
        (finite && !weight.is_empty()).then_some(Self { weight, bias })
    }

    /// The number. The sum runs in index order, in f64.
    ///
    /// ```
    /// let head = mseq_model::NumberHead::new(vec![2.0, -1.0], 0.5).unwrap();
    /// assert_eq!(head.number(&[3.0, 4.0]), 2.5);
    /// ```
    pub fn number(&self, row: &[f32]) -> f32 {
        self.weight.iter().zip(row).fold(self.bias, |sum, (w, &x)| sum + w * f64::from(x)) as f32
    }
}

/// What is said of a row of hidden states.
#[derive(Debug, Clone, PartialEq)]
pub enum RowHead {
    /// How likely each class is.
    Classes(ClassHead),
    /// A number.
    Number(NumberHead),
}

impl RowHead {
    /// Width of the rows that it takes.
    pub fn dim(&self) -> usize {
        match self {
            Self::Classes(head) => head.dim(),
            Self::Number(head) => head.weight.len(),
        }
    }

    /// How many numbers it says of a row.
    pub fn outputs(&self) -> usize {
        self.classes().map_or(1, <[String]>::len)
    }

    /// Names of the classes; `None` for a number.
    pub fn classes(&self) -> Option<&[String]> {
        match self {
            Self::Classes(head) => Some(head.classes()),
            Self::Number(_) => None,
        }
    }

    /// What it says of a row: as many numbers as it has outputs.
    pub fn say(&self, row: &[f32]) -> Vec<f32> {
        match self {
            Self::Classes(head) => head.probabilities(row),
            Self::Number(head) => vec![head.number(row)],
        }
    }
}

impl Checkpoint {
    /// Tensors of a classification head: the name before `.weight`, `None` when there is none.
    pub(crate) fn class_head_name(&self) -> Option<&'static str> {
        NAMES.into_iter().find(|name| self.weights().get(&format!("{name}.weight")).is_some())
    }

    /// Whether a tensor is part of a classification head of this model.
    pub(crate) fn is_class_head(&self, name: &str, shape: &[usize]) -> bool {
        let of = |head: &str, part: &str| {
            name.strip_prefix(head).and_then(|rest| rest.strip_prefix('.')) == Some(part)
        };
        let d_model = self.shape.d_model;
        NAMES.into_iter().any(|head| match shape {
            [labels, width] => of(head, "weight") && *labels > 0 && *width == d_model,
            [labels] => of(head, "bias") && *labels > 0,
            _ => false,
        })
    }

    /// The classification head in the model's own files, and how it pools.
    ///
    /// # Errors
    /// When there is none, when the config does not say how it pools, or says something else than
    /// mean, max or last, and when it is not a head of exclusive classes.
    pub fn class_head(&self) -> Result<(ClassHead, Pool)> {
        let refuse = |message: String| Err(Error::ClassHead { model: self.name(), message });
        let Some(name) = self.class_head_name() else {
            return refuse(
                "has no classification head (score.*, classifier.*, classification_head.*); fit one with `mamba-seq head fit` and give it with --head".into(),
            );
        };
        let there = |name: &&str| self.weights().get(&format!("{name}.weight")).is_some();
        if let [one, other, ..] = NAMES.into_iter().filter(there).collect::<Vec<_>>()[..] {
            return refuse(format!(
                "has two heads ({one}.weight, {other}.weight), and nothing says which one counts"
            ));
        }
        let config = self.files().json("config.json")?.unwrap_or(Value::Null);
        let kind = config.get("problem_type").and_then(Value::as_str).unwrap_or_default();
        if ["regression", "multi_label_classification"].contains(&kind) {
            return refuse(format!("its head is for {kind} (problem_type), which is no choice of one class"));
        }
        let pool = POOLING.into_iter().find_map(|key| Some((key, config.get(key)?.as_str()?)));
        let pool = match pool {
            Some((_, "mean")) => Pool::Mean,
            Some((_, "max")) => Pool::Max,
            Some((_, "last")) => Pool::Last,
            Some((key, other)) => {
                return refuse(format!(
                    "config.json says {key} '{other}'; its head can take mean, max or last"
                ));
            }
            None => {
                return refuse(format!(
                    "has a head ({name}.weight), but config.json does not say how its rows are pooled; add \"pooling_strategy\": \"mean\", \"max\" or \"last\""
                ));
            }
        };
        let read = |part: &str| match self.weights().get(&format!("{name}.{part}")) {
            Some(tensor) => self.weights().read(tensor).map(Some),
            None => Ok(None),
        };
        let weight = read("weight")?.unwrap_or_default();
        let labels = weight.len() / self.shape.d_model;
        if labels == 1 {
            return refuse(format!(
                "its head ({name}.weight) has one output: a number, and no choice of classes"
            ));
        }
        let bias = read("bias")?.unwrap_or_else(|| vec![0.0; labels]);
        let names = config.get("id2label").and_then(Value::as_object);
        let class = |i: usize| {
            let name = names.and_then(|names| names.get(&i.to_string())?.as_str());
            name.map_or_else(|| i.to_string(), str::to_owned)
        };
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        let classes = (0..labels).map(class).collect();
        match ClassHead::new(classes, wide(weight), wide(bias), self.shape.d_model) {
            Some(head) => Ok((head, pool)),
            None => refuse(format!("{name}.weight and {name}.bias do not have the same number of classes")),
        }
    }
}
