use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Pending, Result};

/// Letters of a line of FASTA.
const LINE: usize = 80;

/// A file of bytes that appears under its name when it is complete.
pub struct WholeFile {
    out: BufWriter<File>,
    pending: Pending,
}

impl WholeFile {
    /// Opens a temporary file beside `path`; a device or a pipe is written to directly.
    ///
    /// # Errors
    /// As for [`check_output`](crate::check_output), and when the folder is not writable.
    pub fn create(path: &Path) -> Result<Self> {
        let (pending, file) = Pending::create(path)?;
        Ok(Self { out: BufWriter::with_capacity(256 << 10, file), pending })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::write(self.pending.path(), e))
    }

    /// From now on the file will get another name, in the same folder.
    ///
    /// # Errors
    /// As for [`WholeFile::create`].
    pub fn rename(&mut self, path: &Path) -> Result<()> {
        self.pending.rename(path)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(self) -> Result<()> {
        let Self { out, pending } = self;
        let file = out.into_inner().map_err(|e| Error::write(pending.path(), e.into_error()))?;
        pending.publish(&file)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A BGZF file of bytes that appears under its name when it is complete, with its end block.
pub struct BgzfFile {
    out: noodles_bgzf::io::Writer<WholeFile>,
    path: PathBuf,
}

impl BgzfFile {
    /// As [`WholeFile::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(path: &Path) -> Result<Self> {
        let out = noodles_bgzf::io::Writer::new(WholeFile::create(path)?);
        Ok(Self { out, path: path.to_owned() })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::write(&self.path, e))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(self) -> Result<()> {
        self.out.finish().map_err(|e| Error::write(&self.path, e))?.finish()
    }
}

/// Where letters go: a file that appears when it is complete, or a stream.
enum Target {
    File(WholeFile),
    Stream(Box<dyn Write + Send>),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(out) => out.write_all(bytes).map_err(streamed),
        }
    }
}

fn streamed(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::BrokenPipe => Error::BrokenPipe,
        _ => Error::write(Path::new("-"), e),
    }
}

/// Sequences that grow side by side, written one after the other as FASTA.
///
/// One sequence is written as it comes. Of several, the letters wait in a file without a name, of one
/// byte a letter: memory does not grow with their length.
pub struct FastaSink {
    target: Target,
    group: Option<Group>,
    /// Letters in the last line of a sequence that is written as it comes.
    column: usize,
    /// Width of a line.
    letters: u64,
}

/// Sequences that run at once.
struct Group {
    heads: Vec<String>,
    /// Letters that each will have, and has.
    length: u64,
    written: u64,
    scratch: Option<File>,
}

impl FastaSink {
    /// Writes to a file.
    ///
    /// # Errors
    /// As for [`WholeFile::create`].
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self::to(Target::File(WholeFile::create(path)?)))
    }

    /// Writes to a stream.
    pub fn stream(out: Box<dyn Write + Send>) -> Self {
        Self::to(Target::Stream(out))
    }

    fn to(target: Target) -> Self {
        Self { target, group: None, column: 0, letters: 0 }
    }

    /// Begins sequences of `length` letters, by their definition lines without `>`.
    ///
    /// # Errors
    /// When the sequences before are not complete, or nothing can be written.
    pub fn begin(&mut self, heads: Vec<String>, length: u64, scratch: &Path) -> Result<()> {
        if self.group.is_some() {
            return Err(Error::Failed);
        }
        let file = match &heads[..] {
            [one] => {
                self.target.write(format!(">{one}\n").as_bytes())?;
                None
            }
            _ => {
                let made = tempfile::tempfile_in(scratch);
                Some(made.map_err(|cause| Error::Create { path: scratch.to_owned(), cause })?)
            }
        };
        self.column = 0;
        self.group = Some(Group { heads, length, written: 0, scratch: file });
        Ok(())
    }

    /// The next letters of every sequence: (steps, sequences).
    ///
    /// # Errors
    /// When they can't be written, or are more than were announced.
    pub fn push(&mut self, letters: &[u8]) -> Result<()> {
        let Some(group) = &mut self.group else { return Err(Error::Failed) };
        let (lanes, steps) = (group.heads.len(), letters.len() / group.heads.len().max(1));
        if group.written + steps as u64 > group.length || steps * lanes != letters.len() {
            return Err(Error::Failed);
        }
        match &mut group.scratch {
            None => {
                for piece in Lines::new(letters, &mut self.column) {
                    self.target.write(piece)?;
                }
            }
            Some(file) => {
                let scratch = |e| Error::write(Path::new("the scratch file"), e);
                for lane in 0..lanes {
                    let own: Vec<u8> = letters.iter().skip(lane).step_by(lanes).copied().collect();
                    let at = lane as u64 * group.length + group.written;
                    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&own)).map_err(scratch)?;
                }
            }
        }
        group.written += steps as u64;
        self.letters += letters.len() as u64;
        Ok(())
    }

    /// Ends the sequences that were begun.
    ///
    /// # Errors
    /// When they are not complete or can't be written.
    pub fn end(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Err(Error::Failed) };
        if group.written != group.length {
            return Err(Error::Failed);
        }
        let Some(mut file) = group.scratch else {
            return if self.column > 0 { self.target.write(b"\n") } else { Ok(()) };
        };
        let scratch = |e| Error::write(Path::new("the scratch file"), e);
        file.rewind().map_err(scratch)?;
        let mut buffer = vec![0; 1 << 20];
        for head in &group.heads {
            self.target.write(format!(">{head}\n").as_bytes())?;
            let (mut left, mut column) = (group.length, 0);
            while left > 0 {
                let part = &mut buffer[..left.min(1 << 20) as usize];
                io::Read::read_exact(&mut file, part).map_err(scratch)?;
                for piece in Lines::new(part, &mut column) {
                    self.target.write(piece)?;
                }
                left -= part.len() as u64;
            }
            if column > 0 {
                self.target.write(b"\n")?;
            }
        }
        Ok(())
    }

    /// The file will get another name, in the same folder; a stream has none.
    ///
    /// # Errors
    /// As for [`FastaSink::create`].
    pub fn rename(&mut self, path: &Path) -> Result<()> {
        match &mut self.target {
            Target::File(file) => file.rename(path),
            Target::Stream(_) => Ok(()),
        }
    }

    /// Ends the sequences that were begun where they are; how many letters each has.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn cut(&mut self) -> Result<u64> {
        let Some(group) = &mut self.group else { return Err(Error::Failed) };
        if let (Some(file), true) = (&mut group.scratch, group.written < group.length) {
            // Each sequence had room for all of its letters.
            let scratch = |e| Error::write(Path::new("the scratch file"), e);
            let mut buffer = vec![0; 1 << 20];
            for lane in 1..group.heads.len() as u64 {
                let mut done = 0;
                while done < group.written {
                    let part = &mut buffer[..(group.written - done).min(1 << 20) as usize];
                    let moved = file
                        .seek(SeekFrom::Start(lane * group.length + done))
                        .and_then(|_| io::Read::read_exact(file, part))
                        .and_then(|()| file.seek(SeekFrom::Start(lane * group.written + done)))
                        .and_then(|_| file.write_all(part));
                    moved.map_err(scratch)?;
                    done += part.len() as u64;
                }
            }
        }
        group.length = group.written;
        let written = group.written;
        self.end()?;
        Ok(written)
    }

    /// Gives the file its name; how many letters were written.
    ///
    /// # Errors
    /// When sequences are not complete or the rest can't be written.
    pub fn finish(self) -> Result<u64> {
        if self.group.is_some() {
            return Err(Error::Failed);
        }
        match self.target {
            Target::File(file) => file.finish()?,
            Target::Stream(mut out) => out.flush().map_err(streamed)?,
        }
        Ok(self.letters)
    }
}

/// Letters cut into lines, with their ends, from a column on.
struct Lines<'a> {
    rest: &'a [u8],
    column: &'a mut usize,
}

impl<'a> Lines<'a> {
    fn new(rest: &'a [u8], column: &'a mut usize) -> Self {
        Self { rest, column }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if *self.column == LINE {
            *self.column = 0;
            return Some(b"\n");
        }
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_at(self.rest.len().min(LINE - *self.column));
        self.rest = rest;
        *self.column += line.len();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn side_by_side_is_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.fa");
        for lanes in [1usize, 3] {
            for length in [1usize, 79, 80, 81, 160, 500] {
                let letter = |lane: usize, at: usize| b"ACGT"[(lane * 7 + at * at) % 4];
                let mut sink = FastaSink::create(&path).unwrap();
                let heads: Vec<String> = (0..lanes).map(|i| format!("s{i} x")).collect();
                sink.begin(heads, length as u64, folder.path()).unwrap();
                let all: Vec<u8> =
                    (0..length).flat_map(|at| (0..lanes).map(move |lane| letter(lane, at))).collect();
                for part in all.chunks(lanes * 37) {
                    sink.push(part).unwrap();
                }
                assert!(sink.push(&vec![b'A'; lanes]).is_err());
                sink.end().unwrap();
                assert_eq!(sink.finish().unwrap() as usize, lanes * length);
                let mut want = String::new();
                for lane in 0..lanes {
                    want += &format!(">s{lane} x\n");
                    let own: Vec<u8> = (0..length).map(|at| letter(lane, at)).collect();
                    for line in own.chunks(80) {
                        want += std::str::from_utf8(line).unwrap();
                        want += "\n";
                    }
                }
                assert_eq!(fs::read_to_string(&path).unwrap(), want, "{lanes} {length}");
            }
        }
    }

    #[test]
    fn sequences_that_are_cut_have_the_letters_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.fa");
        for lanes in [1usize, 2, 5] {
            let mut sink = FastaSink::create(&path).unwrap();
            sink.begin((0..lanes).map(|i| format!("s{i}")).collect(), 1000, folder.path()).unwrap();
            for at in 0..130 {
                sink.push(&(0..lanes).map(|lane| b"ACGT"[(at * 3 + lane) % 4]).collect::<Vec<u8>>()).unwrap();
            }
            assert_eq!(sink.cut().unwrap(), 130);
            assert!(sink.cut().is_err());
            assert_eq!(sink.finish().unwrap() as usize, 130 * lanes);
            let text = fs::read_to_string(&path).unwrap();
            for lane in 0..lanes {
                let all: String = (0..130).map(|at| char::from(b"ACGT"[(at * 3 + lane) % 4])).collect();
                let want = format!(">s{lane}\n{}\n{}\n", &all[..80], &all[80..]);
                assert!(text.contains(&want), "{lanes} {lane}: {text}");
            }
        }
    }

    #[test]
    fn what_is_not_complete_has_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.fa");
        let mut sink = FastaSink::create(&path).unwrap();
        sink.begin(vec!["a".into()], 5, folder.path()).unwrap();
        sink.push(b"ACG").unwrap();
        assert!(sink.end().is_err());
        drop(sink);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
