use std::io::{self, BufRead};
use std::path::Path;

use crate::audio::{self, HEAD};
use crate::format::Content;
use crate::{Error, Input, InputSet, Result};

/// What an input holds, as far as its beginning tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Letters: sequences, a table, or what is no recording.
    Letters,
    /// Sound.
    Sound,
}

/// Endings of recordings.
const ENDINGS: [&str; 8] = ["wav", "flac", "mp3", "ogg", "oga", "m4a", "aac", "mp4"];

/// What the inputs hold, so that a model can be chosen; `None` when nothing is known of any: a pipe, or
/// a name that does not exist, which is an error later. Standard input is looked at, not read.
///
/// # Errors
/// When some hold letters and some sound: one model reads one of them.
pub fn holds(args: &[String], recursive: bool) -> Result<Option<Holds>> {
    let mut found: Option<(Holds, String)> = None;
    for arg in args {
        let Some(here) = of_argument(arg, recursive)? else { continue };
        match &found {
            Some((before, name)) if *before != here => {
                let (sound, letters) = if here == Holds::Sound { (arg, name) } else { (name, arg) };
                return Err(Error::Mixed { sound: sound.clone(), letters: letters.clone() });
            }
            Some(_) => {}
            None => found = Some((here, arg.clone())),
        }
    }
    Ok(found.map(|(holds, _)| holds))
}

fn of_argument(arg: &str, recursive: bool) -> Result<Option<Holds>> {
    if arg == "-" {
        // Looked at, and left in the buffer that all of the program reads from.
        return Ok(io::stdin().lock().fill_buf().ok().map(|head| of_head(head, None)));
    }
    let path = Path::new(arg);
    if path.is_dir() {
        return of_directory(path, recursive).map(Some);
    }
    if !path.exists() {
        // Those of a glob are alike, or the run fails at the first that is not.
        let first = InputSet::glob(arg).ok().and_then(|paths| paths.into_iter().next());
        return Ok(match first {
            Some(first) if first.is_file() => Some(of_file(&first)),
            _ => None,
        });
    }
    Ok(path.is_file().then(|| of_file(path)))
}

/// A file that can't be read counts as letters: what reads it tells.
fn of_file(path: &Path) -> Holds {
    match audio::head(path) {
        Ok(head) => of_head(&head, path.extension().and_then(|ending| ending.to_str())),
        Err(_) => Holds::Letters,
    }
}

fn of_head(head: &[u8], ending: Option<&str>) -> Holds {
    let head = &head[..head.len().min(HEAD)];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if matches!(text, [b'>' | b'@', ..]) {
        return Holds::Letters;
    }
    let named = ending.is_some_and(|e| ENDINGS.iter().any(|own| e.eq_ignore_ascii_case(own)));
    if audio::kind(head).is_some() || named { Holds::Sound } else { Holds::Letters }
}

/// A directory is its recordings, or its sequence files; others are passed over.
fn of_directory(path: &Path, recursive: bool) -> Result<Holds> {
    let (mut sound, mut letters) = (None, None);
    for file in InputSet::files(path, recursive)? {
        let input = Input::file(file);
        if audio::check(&input).is_ok() {
            sound.get_or_insert(input);
        } else if letters.is_none() && matches!(input.content(), Ok(Content::Sequence(_))) {
            letters = Some(input);
        }
        if let (Some(sound), Some(letters)) = (&sound, &letters) {
            return Err(Error::Mixed { sound: sound.to_string(), letters: letters.to_string() });
        }
    }
    Ok(if sound.is_some() { Holds::Sound } else { Holds::Letters })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tests::gzip;

    const WAV: &[u8] = b"RIFF\x24\0\0\0WAVEfmt ";

    #[test]
    fn the_beginning_of_an_input_tells_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("a.fa", b"\n>abcftyp\nACGT\n");
        write("q.fq", b"@1234567WAVE\nA\n+\nI\n");
        write("z.fa.gz", &gzip(b">a\nACGT\n"));
        write("t.csv", b"sequence\nACGT\n");
        write("note.txt", b"hello\n");
        write("x.wav", WAV);
        write("x", b"fLaC\0");
        write("film.mp4", b"\0\0\0\x20ftypisom");
        write("text.WAV", b"hello\n");
        write("empty.flac", b"");
        write("sounds/a.wav", WAV);
        write("sounds/list.csv", b"sequence\nACGT\n");
        write("genomes/a.fa.gz", &gzip(b">a\nACGT\n"));
        write("both/a.fa", b">a\nACGT\n");
        write("both/b.wav", WAV);
        write("deep/notes", b"hello\n");
        write("deep/in/b.wav", WAV);
        let at = |names: &[&str], recursive: bool| {
            let names: Vec<String> =
                names.iter().map(|name| format!("{}/{name}", folder.path().display())).collect();
            holds(&names, recursive).map_err(|e| e.to_string())
        };
        for name in ["a.fa", "q.fq", "z.fa.gz", "t.csv", "note.txt", "genomes", "deep", "z.*"] {
            assert_eq!(at(&[name], false), Ok(Some(Holds::Letters)), "{name}");
        }
        for name in ["x.wav", "x", "film.mp4", "text.WAV", "empty.flac", "sounds", "*.wav"] {
            assert_eq!(at(&[name], false), Ok(Some(Holds::Sound)), "{name}");
        }
        assert_eq!(at(&["deep"], true), Ok(Some(Holds::Sound)));
        assert_eq!(at(&["gone.wav", "no*.fa"], false), Ok(None));
        assert_eq!(at(&["gone.wav", "x.wav", "sounds"], false), Ok(Some(Holds::Sound)));
        for names in [&["both"][..], &["x.wav", "a.fa"], &["a.fa", "sounds"], &["t.csv", "x"]] {
            let e = at(names, false).unwrap_err();
            assert!(e.contains("one after the other") && e.contains("is audio"), "{e}");
        }
    }
}
