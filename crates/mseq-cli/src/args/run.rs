use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use toml::{Table, Value};

use crate::Failure;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// TOML file: command, input, and the command's long options as keys
    #[arg(value_name = "PIPELINE.toml")]
    pipeline: PathBuf,

    /// Options and inputs added to the file's, which they override
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    more: Vec<String>,
}

impl RunArgs {
    /// The command line that the file stands for.
    ///
    /// # Errors
    /// Exit 1 when there is no such file, exit 2 when it is no pipeline.
    pub(crate) fn command_line(&self) -> Result<Vec<OsString>, Failure> {
        let path = self.pipeline.display();
        let text = fs::read_to_string(&self.pipeline).map_err(|e| Failure::Run(format!("{path}: {e}")))?;
        let mut words = words(&text).map_err(|message| Failure::Usage(format!("{path}: {message}")))?;
        words.extend(self.more.iter().cloned());
        Ok(std::iter::once("mamba-seq".to_owned()).chain(words).map(OsString::from).collect())
    }
}

/// The words of the command line, options first.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut table: Table = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(0, |s| text[..s.start].matches('\n').count() + 1);
        format!("line {line}: {}", e.message())
    })?;
    let command = match table.remove("command") {
        Some(Value::String(command)) if command == "embed" => command,
        Some(Value::String(command)) => {
            return Err(format!("command '{command}' can't be run from a file; use \"embed\""));
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
    let mut words = vec![command];
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
        assert_eq!(words(text).unwrap(), expected);
    }

    #[test]
    fn what_is_no_pipeline() {
        for (text, word) in [
            ("window = 5", "no key command"),
            ("command = \"shell\"", "'shell'"),
            ("command = \"embed\"\n[window]\nx = 1", "window"),
            ("command = \"embed\"\nwindow = ", "line 2"),
        ] {
            let e = words(text).unwrap_err();
            assert!(e.contains(word), "{e}");
        }
    }
}
