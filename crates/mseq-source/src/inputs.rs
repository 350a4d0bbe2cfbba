use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decompress::{Bytes, decompress};
use crate::fault::place;
use crate::format::{Content, detect};
use crate::lines::Lines;
use crate::{AudioError, Error, Result};

/// What standard input is called in messages.
pub(crate) const STDIN_LABEL: &str = "stdin";

/// One thing to read: a file, or standard input. Displays as the user named it; a file found in a
/// directory as `directory/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    name: Arc<str>,
    /// `None` is standard input.
    path: Option<PathBuf>,
}

impl Input {
    fn stdin() -> Self {
        Self { name: "-".into(), path: None }
    }

    pub(crate) fn file(path: PathBuf) -> Self {
        Self { name: path.to_string_lossy().into(), path: Some(path) }
    }

    /// The name as the user gave it, `-` for standard input.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The file, `None` for standard input.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Size of the file as stored, in bytes; `None` for what is not a regular file.
    pub fn bytes(&self) -> Option<u64> {
        let data = fs::metadata(self.path.as_deref()?).ok()?;
        data.is_file().then_some(data.len())
    }

    /// What the input is called in messages.
    pub(crate) fn label(&self) -> Arc<str> {
        if self.path.is_some() { self.name.clone() } else { STDIN_LABEL.into() }
    }

    pub(crate) fn open(&self) -> io::Result<Bytes> {
        Ok(match &self.path {
            Some(path) => Box::new(File::open(path)?),
            None => Box::new(io::stdin()),
        })
    }

    pub(crate) fn content(&self) -> Result<Content> {
        let detect = || detect(&mut Lines::new(decompress(self.open()?)?), &self.name);
        detect().map_err(|e| place(e, &self.label(), 1))
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The inputs of a run, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSet {
    /// Files and standard input.
    pub inputs: Vec<Input>,
    /// Files of named directories that were left out: hidden, or neither FASTA nor FASTQ.
    pub skipped: usize,
}

impl InputSet {
    /// Finds what the arguments mean: `-` is stdin, an existing path is itself, a directory is its
    /// sequence files, found by content and sorted bytewise, and else `*?[` make a glob.
    ///
    /// Files named one by one are looked at too, so that a wrong one fails before a long run;
    /// pipes are not. With `recursive`, directories are searched all the way down, without
    /// following links to directories.
    ///
    /// # Errors
    ///
    /// A missing or unreadable file, one that is neither FASTA nor FASTQ, a directory without a
    /// sequence file, a glob without a match, `-` twice, or no argument at all.
    pub fn resolve(args: &[String], recursive: bool) -> Result<Self> {
        Self::find(args, recursive, false)
    }

    /// The same for recordings.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve), with what is no recording in the place of what is no sequence.
    pub fn resolve_audio(args: &[String], recursive: bool) -> Result<Self> {
        Self::find(args, recursive, true)
    }

    fn find(args: &[String], recursive: bool, audio: bool) -> Result<Self> {
        if args.is_empty() {
            return Err(Error::NoInput);
        }
        let mut set = Self { inputs: Vec::new(), skipped: 0 };
        for arg in args {
            if arg == "-" {
                if set.inputs.iter().any(|i| i.path.is_none()) {
                    return Err(Error::StdinTwice);
                }
                set.inputs.push(Input::stdin());
                continue;
            }
            match fs::metadata(arg) {
                Ok(_) => set.add(PathBuf::from(arg), recursive, audio)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if !arg.contains(['*', '?', '[']) {
                        return Err(Error::NotFound { path: arg.clone() });
                    }
                    for path in expand(arg)? {
                        set.add(path, recursive, audio)?;
                    }
                }
                Err(cause) => return Err(Error::Io { path: arg.clone(), cause }),
            }
        }
        Ok(set)
    }

    /// The paths that a glob stands for, sorted.
    pub(crate) fn glob(pattern: &str) -> Result<Vec<PathBuf>> {
        expand(pattern)
    }

    /// Files of a directory that are not hidden, sorted.
    pub(crate) fn files(directory: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
        let (mut files, mut skipped) = (Vec::new(), 0);
        walk(directory, recursive, &mut files, &mut skipped)?;
        sort_bytewise(&mut files);
        Ok(files)
    }

    /// Sum of the file sizes as stored, in bytes; `None` when one is a pipe.
    pub fn bytes(&self) -> Option<u64> {
        self.inputs.iter().map(Input::bytes).sum()
    }

    fn add(&mut self, path: PathBuf, recursive: bool, audio: bool) -> Result<()> {
        let data = fs::metadata(&path).map_err(|cause| io_error(&path, cause))?;
        if data.is_dir() {
            return self.add_directory(&path, recursive, audio);
        }
        let input = Input::file(path);
        // A pipe can be read only once.
        if data.is_file() && audio {
            crate::audio::check(&input)?;
        } else if data.is_file() {
            input.content()?.sequence(&input.name)?;
        }
        self.inputs.push(input);
        Ok(())
    }

    fn add_directory(&mut self, directory: &Path, recursive: bool, audio: bool) -> Result<()> {
        let (mut files, mut skipped) = (Vec::new(), 0);
        walk(directory, recursive, &mut files, &mut skipped)?;
        sort_bytewise(&mut files);
        let before = self.inputs.len();
        // A file for models of the other kind tells more than that none is of this one.
        let mut other = None;
        for path in files {
            let input = Input::file(path);
            if audio {
                match crate::audio::check(&input) {
                    Ok(()) => self.inputs.push(input),
                    Err(Error::Audio(e)) => {
                        skipped += 1;
                        if matches!(e, AudioError::IsDna { .. }) {
                            other.get_or_insert(e);
                        }
                    }
                    Err(e) => return Err(e),
                }
                continue;
            }
            match input.content() {
                Ok(Content::Sequence(_)) => self.inputs.push(input),
                Ok(content @ Content::Known { .. }) => {
                    skipped += 1;
                    if let Err(Error::Audio(e)) = content.sequence(&input.name) {
                        other.get_or_insert(e);
                    }
                }
                Ok(_) | Err(Error::Compression { .. }) => skipped += 1,
                Err(e) => return Err(e),
            }
        }
        if self.inputs.len() == before {
            if let Some(other) = other {
                return Err(other.into());
            }
            let path = directory.to_string_lossy().into_owned();
            if audio {
                return Err(AudioError::NoAudioFile { path, skipped, recursive }.into());
            }
            return Err(Error::NoSequenceFile { path, skipped, recursive });
        }
        self.skipped += skipped;
        Ok(())
    }
}

/// Regular files of a directory that are not hidden; counts the others, but not directories.
fn walk(directory: &Path, recursive: bool, files: &mut Vec<PathBuf>, skipped: &mut usize) -> Result<()> {
    let place = |cause| io_error(directory, cause);
    for entry in fs::read_dir(directory).map_err(place)? {
        let entry = entry.map_err(place)?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_directory = entry.file_type().map_err(place)?.is_dir();
        if is_directory {
            if recursive && !hidden {
                walk(&path, recursive, files, skipped)?;
            }
        } else if hidden {
            *skipped += 1;
        } else {
            let data = fs::metadata(&path).map_err(|cause| io_error(&path, cause))?;
            if data.is_file() {
                files.push(path);
            } else if !data.is_dir() {
                *skipped += 1;
            }
        }
    }
    Ok(())
}

/// The paths that match, as a shell finds them: `*` leaves hidden files out.
fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(pattern, options)
        .map_err(|e| Error::BadGlob { pattern: pattern.to_owned(), cause: e.to_string() })?;
    let mut paths = Vec::new();
    for path in found {
        paths.push(path.map_err(|e| Error::Io { path: e.path().display().to_string(), cause: e.into() })?);
    }
    if paths.is_empty() {
        return Err(Error::NoMatch { pattern: pattern.to_owned() });
    }
    sort_bytewise(&mut paths);
    Ok(paths)
}

/// `Path` itself orders by component: `a/b` before `a.fa`.
fn sort_bytewise(paths: &mut [PathBuf]) {
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
}

fn io_error(path: &Path, cause: io::Error) -> Error {
    Error::Io { path: path.to_string_lossy().into_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::gzip;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        fs::create_dir_all(dir.path().join("a")).unwrap();
        fs::create_dir_all(dir.path().join(".hidden")).unwrap();
        fs::create_dir_all(dir.path().join("none")).unwrap();
        write("b.fa", b">b\nA\n");
        write("B.txt", b"\n>B\nA\n");
        write("a.fa.gz", &gzip(b">a\nA\n"));
        write("r.fq", b"@r\nA\n+\nI\n");
        write("notes.md", b"hello\n");
        write("empty.fa", b"");
        write("x.fa.bz2", b"BZh91AY&SY");
        write("t.csv", b"sequence\nACGT\n");
        write(".c.fa", b">c\nA\n");
        write("a/d.fa", b">d\nA\n");
        write(".hidden/e.fa", b">e\nA\n");
        write("none/readme", b"hello\n");
        dir
    }

    /// Arguments below the directory, and the names found, relative to it.
    fn resolve(dir: &Path, args: &[&str], recursive: bool) -> Result<(Vec<String>, usize)> {
        let base = format!("{}/", dir.display());
        let args: Vec<_> =
            args.iter().map(|a| if *a == "-" { "-".into() } else { format!("{base}{a}") }).collect();
        let set = InputSet::resolve(&args, recursive)?;
        let names = set.inputs.iter().map(|i| i.to_string().replace(&base, "")).collect();
        Ok((names, set.skipped))
    }

    #[test]
    fn files_stdin_and_directories() {
        let dir = tree();
        let at = |args: &[&str], recursive| resolve(dir.path(), args, recursive).unwrap();
        assert_eq!(at(&["r.fq", "-", "b.fa", "b.fa"], false).0, ["r.fq", "-", "b.fa", "b.fa"]);
        let flat = ["B.txt", "a.fa.gz", "b.fa", "r.fq"];
        assert_eq!(at(&[""], false), (flat.map(String::from).to_vec(), 5));
        let deep = ["B.txt", "a.fa.gz", "a/d.fa", "b.fa", "r.fq"];
        assert_eq!(at(&[""], true), (deep.map(String::from).to_vec(), 6));
        assert_eq!(at(&["a", "a/"], false).0, ["a/d.fa", "a/d.fa"]);
    }

    #[test]
    fn globs() {
        let dir = tree();
        let at = |args: &[&str]| resolve(dir.path(), args, false);
        assert_eq!(at(&["*.fa*z"]).unwrap().0, ["a.fa.gz"]);
        assert_eq!(at(&["[Bb].*", "?"]).unwrap().0, ["B.txt", "b.fa", "a/d.fa"]);
        fs::write(dir.path().join("x[1].fa"), b">x\nA\n").unwrap();
        assert_eq!(at(&["x[1].fa"]).unwrap().0, ["x[1].fa"]);
        assert!(matches!(at(&["*.nothing"]), Err(Error::NoMatch { .. })));
        assert!(matches!(at(&["a***"]), Err(Error::BadGlob { .. })));
    }

    #[test]
    fn errors() {
        let dir = tree();
        let at = |args: &[&str]| resolve(dir.path(), args, false).unwrap_err();
        let base = dir.path().display();
        assert_eq!(at(&["gone.fa"]).to_string(), format!("no such file: {base}/gone.fa"));
        assert!(matches!(at(&["-", "b.fa", "-"]), Error::StdinTwice));
        assert!(matches!(InputSet::resolve(&[], false), Err(Error::NoInput)));
        assert_eq!(
            at(&["none"]).to_string(),
            format!(
                "{base}/none: none of the 1 files in this directory is FASTA or FASTQ; --recursive looks further down"
            )
        );
        assert!(matches!(at(&["notes.md"]), Error::NotSequence { .. }));
        assert!(matches!(at(&["empty.fa"]), Error::NoRecord { .. }));
        let csv = at(&["t.csv"]);
        assert!(csv.is_usage());
        assert_eq!(
            csv.to_string(),
            format!("{base}/t.csv: CSV table input is not supported yet; this version reads FASTA and FASTQ")
        );
        assert_eq!(
            at(&["x.fa.bz2"]).to_string(),
            format!(
                "{base}/x.fa.bz2: bzip2 compression is not supported yet; use: bzcat {base}/x.fa.bz2 | mamba-seq embed -"
            )
        );
    }

    #[test]
    fn a_truncated_file_in_a_directory_is_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.fa.gz"), &gzip(b">a\nA\n")[..12]).unwrap();
        assert!(matches!(resolve(dir.path(), &[""], false), Err(Error::TruncatedGzip { .. })));
    }

    #[test]
    fn sizes() {
        let dir = tree();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let set = InputSet::resolve(&[path("b.fa"), path("r.fq")], false).unwrap();
        assert_eq!(set.bytes(), Some(14));
        let set = InputSet::resolve(&[path("b.fa"), "-".into()], false).unwrap();
        assert_eq!(set.bytes(), None);
    }
}
