use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use toml::{Table, Value};

use crate::Failure;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// TOML file: command, input, and the command's long options as keys; [[job]] for each of several
    #[arg(value_name = "PIPELINE.toml")]
    pipeline: PathBuf,

    /// Options and inputs added to the file's, which they override; of a list, each job takes the options that
    /// its command has
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    more: Vec<String>,
}

/// A pipeline: one command line, or several.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pipeline {
    /// Each begins with the name of the program.
    pub(crate) jobs: Vec<Vec<OsString>>,
    /// Whether it is a list, of which a summary is given.
    pub(crate) is_list: bool,
    /// Whether the jobs after one that failed still run.
    pub(crate) goes_on: bool,
}

impl RunArgs {
    /// The file, for messages.
    pub(crate) fn file(&self) -> String {
        self.pipeline.display().to_string()
    }

    /// The command lines that the file stands for.
    ///
    /// # Errors
    /// Exit 1 when there is no such file, exit 2 when it is no pipeline.
    pub(crate) fn pipeline(&self) -> Result<Pipeline, Failure> {
        let path = self.file();
        let text = fs::read_to_string(&self.pipeline).map_err(|e| Failure::Run(format!("{path}: {e}")))?;
        let (jobs, is_list, goes_on) =
            parse(&text).map_err(|message| Failure::Usage(format!("{path}: {message}")))?;
        let more = groups(&self.more);
        let knows: Vec<Vec<bool>> =
            jobs.iter().map(|job| more.iter().map(|group| takes(job, group)).collect()).collect();
        // What no job takes is left to all, to be refused by name.
        let wanted = |job: usize, group: usize| knows[job][group] || !knows.iter().any(|job| job[group]);
        let line = |(i, words): (usize, Vec<String>)| {
            let mine = more.iter().enumerate().filter(|(g, _)| wanted(i, *g)).flat_map(|(_, group)| *group);
            let words = words.into_iter().chain(mine.cloned());
            std::iter::once("mamba-seq".to_owned()).chain(words).map(OsString::from).collect()
        };
        Ok(Pipeline { jobs: jobs.into_iter().enumerate().map(line).collect(), is_list, goes_on })
    }
}

/// Added words, each option with its values; inputs by themselves.
fn groups(words: &[String]) -> Vec<&[String]> {
    let is_option = |word: &String| word.len() > 1 && word.starts_with('-') && word.parse::<f64>().is_err();
    words.chunk_by(|_, next| !is_option(next)).collect()
}

/// Whether the command of a job has the option that a group begins with.
fn takes(job: &[String], group: &[String]) -> bool {
    let Some(option) = group.first().and_then(|word| word.strip_prefix('-')) else { return true };
    let program = super::Cli::command();
    let command = job.iter().try_fold(&program, |command, word| match command.has_subcommands() {
        true => command.find_subcommand(word).ok_or(Some(command)),
        false => Err(Some(command)),
    });
    let (Ok(command) | Err(Some(command))) = command else { return true };
    let fits = |arg: &clap::Arg| match option.strip_prefix('-') {
        Some(long) => arg.get_long() == long.split('=').next(),
        None => arg.get_short().is_some_and(|short| option.starts_with(short)),
    };
    command.get_arguments().chain(program.get_arguments()).any(fits)
}

/// Commands that a file may name.
const COMMANDS: [&str; 9] =
    ["embed", "score", "classify", "variants", "generate", "enhance", "head fit", "head eval", "merge"];

/// The words of each job, options first; whether they are a list; whether it goes on after a failure.
fn parse(text: &str) -> Result<(Vec<Vec<String>>, bool, bool), String> {
    let mut table: Table = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(0, |s| text[..s.start].matches('\n').count() + 1);
        format!("line {line}: {}", e.message())
    })?;
    let goes_on = match table.remove("on_failure") {
        None => true,
        Some(Value::String(s)) if s == "continue" => true,
        Some(Value::String(s)) if s == "stop" => false,
        Some(_) => return Err("on_failure: use \"continue\" or \"stop\"".into()),
    };
    let jobs = match table.remove("job") {
        None => return Ok((vec![words(table)?], false, goes_on)),
        Some(Value::Array(jobs)) => jobs,
        Some(_) => return Err("job is no list; begin each job with [[job]]".into()),
    };
    let mut all = Vec::new();
    for (i, job) in jobs.into_iter().enumerate() {
        let Value::Table(own) = job else { return Err(format!("job {}: begin it with [[job]]", i + 1)) };
        // What stands above the list is for every job that does not say otherwise.
        let mut job = table.clone();
        job.extend(own);
        all.push(words(job).map_err(|e| format!("job {}: {e}", i + 1))?);
    }
    Ok((all, true, goes_on))
}

/// The words of a command line, options first.
fn words(mut table: Table) -> Result<Vec<String>, String> {
    let command = match table.remove("command") {
        Some(Value::String(command)) if COMMANDS.contains(&command.as_str()) => command,
        Some(Value::String(command)) => {
            return Err(format!("command '{command}' can't be run from a file; use {}", COMMANDS.join(", ")));
        }
        _ => return Err("no key command; use command = \"embed\"".into()),
    };
    let scalar = |key: &str, value: &Value| match value {
        Value::String(s) => Ok(s.clone()),
        Value::Integer(n) => Ok(n.to_string()),
        Value::Float(x) => Ok(x.to_string()),
        other => Err(format!("{key} is a {}: use a text, a number, true or false", other.type_str())),
    };
    let list = |key: &str, value: &Value| match value {
        Value::Array(items) => items.iter().map(|v| scalar(key, v)).collect(),
        one => scalar(key, one).map(|one| vec![one]),
    };
    let inputs = table.remove("input").map(|v| list("input", &v)).transpose()?.unwrap_or_default();
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    for (key, value) in &table {
        let option = format!("--{}", key.replace('_', "-"));
        match value {
            Value::Boolean(true) => words.push(option),
            Value::Boolean(false) => {}
            // One word, so that a value may begin with a dash.
            value => words.push(format!("{option}={}", list(key, value)?.join(","))),
        }
    }
    words.extend(inputs);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_options() {
        let text = "command = \"embed\"\ninput = [\"a.fa\", \"b c.fa\"]\nwindow = 500\nlayer = -1\n\
                    list_type = \"variable\"\nresume = true\nrecursive = false\n";
        let expected =
            ["embed", "--layer=-1", "--list-type=variable", "--resume", "--window=500", "a.fa", "b c.fa"];
        assert_eq!(parse(text).unwrap(), (vec![expected.map(str::to_owned).to_vec()], false, true));
    }

    #[test]
    fn jobs_share_what_stands_above_them() {
        let text = "command = \"score\"\nwindow = 10\non_failure = \"stop\"\n[[job]]\ninput = \"a.fa\"\n\
                    [[job]]\ncommand = \"head fit\"\nwindow = false\ninput = \"b.parquet\"\n";
        let (jobs, is_list, goes_on) = parse(text).unwrap();
        assert_eq!(jobs, [vec!["score", "--window=10", "a.fa"], vec!["head", "fit", "b.parquet"]]);
        assert!(is_list && !goes_on);
    }

    #[test]
    fn what_is_no_pipeline() {
        for (text, word) in [
            ("window = 5", "no key command"),
            ("command = \"shell\"", "'shell'"),
            ("command = \"embed\"\n[window]\nx = 1", "window"),
            ("command = \"embed\"\nwindow = ", "line 2"),
            ("command = \"embed\"\njob = 3", "[[job]]"),
            ("command = \"embed\"\n[[job]]\ninput = \"a\"\n[[job]]\ncommand = \"rm\"", "job 2: command 'rm'"),
            ("on_failure = \"pray\"\n[[job]]\ncommand = \"embed\"", "on_failure"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains(word), "{e}");
        }
    }
}
