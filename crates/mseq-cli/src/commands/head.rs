use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use mseq_core::{Layer, Pool};
use mseq_head::{
    ClassReport, ClassWeight, Examples, FitOptions, Head, Interval, Labels, NumberReport, Origin, Predictor,
    Table, Targets, class_report, fit, number_report,
};
use mseq_model::{Checkpoint, RowHead};

use super::embed::command_text;
use crate::args::{EvalArgs, FitArgs, HeadCommand, Labelled, keep_apart};
use crate::{Failure, say};

/// `mamba-seq head`.
pub(crate) fn run(command: &HeadCommand, quiet: bool, line: &[OsString]) -> Result<(), Failure> {
    match command {
        HeadCommand::Fit(args) => run_fit(args, quiet, line),
        HeadCommand::Eval(args) => run_eval(args),
    }
}

/// Embeddings, and labels that are in a file of their own.
fn read(data: &Labelled) -> Result<(Table, Option<Labels>), Failure> {
    data.check()?;
    let table = Table::open(&data.embeddings, data.label.as_deref())?;
    Ok((table, data.labels.as_deref().map(Labels::open).transpose()?))
}

fn run_fit(args: &FitArgs, quiet: bool, line: &[OsString]) -> Result<(), Failure> {
    if args.numeric && matches!(args.class_weight(), ClassWeight::Balanced) {
        return Err(Failure::Usage(
            "--class-weight has no meaning with --numeric, which has no classes".into(),
        ));
    }
    let options =
        FitOptions { strength: args.strength()?, class_weight: args.class_weight(), seed: args.seed };
    keep_apart("-o", &args.output, args.data.files())?;
    mseq_sink::check_output(&args.output)?;
    let (table, labels) = read(&args.data)?;
    let examples = Examples::new(&table, labels.as_ref(), args.numeric, None)?;
    let fitted = fit(&examples, &options)?;
    let head = Head::new(&table, &examples, fitted, &command_text(line));
    head.write(&args.output)?;
    if quiet {
        return Ok(());
    }
    for (strength, loss) in &head.fitted.tried {
        let mark = if *strength == head.fitted.strength { ", the best" } else { "" };
        say::line(&format!("strength {strength:e}: held-out loss {loss:.5}{mark}"));
    }
    let what = match &head.says {
        Predictor::Classes(names) => {
            format!("{} ({})", say::count(names.len() as u64, "class"), names.join(", "))
        }
        Predictor::Number => "numbers".to_owned(),
    };
    say::line(&format!(
        "{}: {what} from {} of {} values, strength {:e}; model {}, layer {}, pool {}",
        args.output.display(),
        say::count(head.rows, "row"),
        table.dim,
        head.fitted.strength,
        head.origin.model,
        head.origin.layer,
        head.origin.pool,
    ));
    Ok(())
}

fn run_eval(args: &EvalArgs) -> Result<(), Failure> {
    if let Some(json) = &args.json {
        keep_apart("--json", json, args.data.files().chain([&*args.head]))?;
        mseq_sink::check_output(json)?;
    }
    let head = Head::read(&args.head)?;
    let (table, labels) = read(&args.data)?;
    head.origin.check(&args.head, &Origin::of(&table))?;
    if table.dim != head.dim() {
        return Err(Failure::Run(format!(
            "{}: takes rows of {} values, the embeddings have {}",
            args.head.display(),
            head.dim(),
            table.dim
        )));
    }
    let classes = match &head.says {
        Predictor::Classes(names) => Some(&names[..]),
        Predictor::Number => None,
    };
    let examples = Examples::new(&table, labels.as_ref(), classes.is_none(), classes)?;
    let (text, json) = match (&examples.targets, head.class_head()) {
        (Targets::Classes(names, of), Some(head)) => {
            let p: Vec<f32> =
                table.values.chunks_exact(table.dim).flat_map(|row| head.probabilities(row)).collect();
            let report = class_report(names, &p, of, args.seed);
            (class_text(&report), serde_json::to_string_pretty(&report))
        }
        (Targets::Numbers(truth), _) => {
            let report = number_report(&head.numbers(&examples.rows), truth, args.seed);
            (number_text(&report), serde_json::to_string_pretty(&report))
        }
        (Targets::Classes(..), None) => return Err(Failure::Run("internal: classes without a head".into())),
    };
    if let Some(path) = &args.json {
        let json = json.map_err(|e| Failure::Run(format!("{}: {e}", path.display())))?;
        std::fs::write(path, json + "\n").map_err(|e| Failure::Run(format!("{}: {e}", path.display())))?;
    }
    say::out(&text)
}

fn row(text: &mut String, name: &str, figure: &Interval) {
    let Interval { value, low, high } = figure;
    let _ = writeln!(text, "{name:<10} {value:.4}   {low:.4} to {high:.4}");
}

fn class_text(report: &ClassReport) -> String {
    let mut text =
        format!("{} rows; 95 % intervals: of accuracy Wilson's, else of 1000 resamples\n", report.rows);
    row(&mut text, "accuracy", &report.accuracy);
    row(&mut text, "MCC", &report.mcc);
    match &report.auroc {
        Some(area) => row(&mut text, "AUROC", area),
        None => text.push_str("AUROC      not defined: a class is missing among the rows\n"),
    }
    row(&mut text, "F1 (macro)", &report.f1_macro);
    let _ = writeln!(text, "log loss   {:.4}\n", report.log_loss);
    let wide = report.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(9);
    let _ = write!(text, "{:<wide$} {:>7}  said:", "class", "F1");
    report.classes.iter().for_each(|name| {
        let _ = write!(text, " {name:>wide$}");
    });
    text.push('\n');
    for ((name, f1), counts) in report.classes.iter().zip(&report.f1).zip(&report.confusion) {
        let _ = write!(text, "{name:<wide$} {f1:>7.4}       ");
        counts.iter().for_each(|n| {
            let _ = write!(text, " {n:>wide$}");
        });
        text.push('\n');
    }
    text
}

fn number_text(report: &NumberReport) -> String {
    let mut text = format!("{} rows; ranges hold 95 % of 1000 resamples\n", report.rows);
    for (name, figure) in
        [("R2", &report.r2), ("Pearson", &report.pearson), ("MAE", &report.mae), ("RMSE", &report.rmse)]
    {
        row(&mut text, name, figure);
    }
    text
}

/// A head for `classify`, and what it wants of the model.
pub(super) struct Chosen {
    pub(super) head: Arc<RowHead>,
    pub(super) pool: Pool,
    pub(super) layer: Layer,
    /// SHA-256 of its file; `None` for the model's own.
    pub(super) sha256: Option<String>,
}

impl Chosen {
    /// The head of a file, which must be of this model, or the model's own.
    ///
    /// # Errors
    /// When there is none, or it is of another model.
    pub(super) fn open(file: Option<&Path>, checkpoint: &Checkpoint) -> Result<Self, Failure> {
        let Some(path) = file else {
            let (head, pool) = checkpoint.class_head()?;
            let head = RowHead::Classes(head);
            return Ok(Self { head: Arc::new(head), pool, layer: Layer::Last, sha256: None });
        };
        let head = Head::read(path)?;
        let own = Origin {
            model: checkpoint.name(),
            model_sha256: checkpoint.files().sha256()?,
            layer: head.origin.layer.clone(),
            pool: head.origin.pool.clone(),
        };
        if own.model_sha256 != head.origin.model_sha256 {
            let digest = |text: &str| text.chars().take(12).collect::<String>();
            return Err(Failure::Run(format!(
                "{}: was fitted on model {} ({}), and this is {} ({}); give --model {}, or fit a head anew",
                path.display(),
                head.origin.model,
                digest(&head.origin.model_sha256),
                own.model,
                digest(&own.model_sha256),
                head.origin.model,
            )));
        }
        let broken = |what: &str| Failure::Run(format!("{}: {what}", path.display()));
        let pool = match head.origin.pool.as_str() {
            "mean" => Pool::Mean,
            "max" => Pool::Max,
            "last" => Pool::Last,
            "none" => Pool::None,
            other => {
                return Err(broken(&format!("was fitted with pool '{other}', which this version has not")));
            }
        };
        let layer = head.origin.layer.parse().map_err(|_| broken("names no layer"))?;
        let Some(row_head) = head.row_head() else {
            return Err(broken("holds a weight that is not a number; fit it anew"));
        };
        if row_head.dim() != checkpoint.shape.d_model {
            return Err(broken("takes rows of another width than the model gives"));
        }
        Ok(Self { head: Arc::new(row_head), pool, layer, sha256: Some(head.sha256) })
    }

    /// Names of the classes; `None` for a head of numbers.
    pub(super) fn classes(&self) -> Option<Arc<[Arc<str>]>> {
        Some(self.head.classes()?.iter().map(|name| Arc::from(name.as_str())).collect())
    }
}
