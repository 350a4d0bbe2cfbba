use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::{Error, Result};

/// Fails when `path` can never become an output file: its folder is missing or is none, or it is a
/// folder itself. Nothing is created, so it can run before any other work.
///
/// # Errors
///
/// [`Error::NoFolder`], [`Error::NotAFolder`] or [`Error::IsFolder`].
pub fn check_output(path: &Path) -> Result<()> {
    // `new/` means a folder to whoever types it, and must not become a file `new`.
    let named_as_folder = path.to_string_lossy().ends_with(std::path::is_separator);
    if named_as_folder || path.is_dir() || path.file_name().is_none() {
        return Err(Error::IsFolder { path: path.to_owned() });
    }
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::NotAFolder { folder: folder.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::NotAFolder { folder: folder.to_owned() })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NoFolder { folder: folder.to_owned() }),
        Err(cause) => Err(Error::Create { path: path.to_owned(), cause }),
    }
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// An output that appears under its name all at once, or never.
pub struct Pending {
    /// As the caller named it.
    path: PathBuf,
    /// The temporary file and the name it gets; `None` when the output is no regular file.
    temp: Option<(TempPath, PathBuf)>,
}

impl Pending {
    /// Opens a temporary file beside `path`, or `path` itself when it is a device or a pipe, which
    /// no rename can replace.
    ///
    /// # Errors
    /// What [`check_output`] finds; [`Error::Create`] when the folder is not writable.
    pub fn create(path: &Path) -> Result<(Self, File)> {
        check_output(path)?;
        let fail = |cause| Error::Create { path: path.to_owned(), cause };
        if writes_through(path) {
            let file = OpenOptions::new().write(true).open(path).map_err(fail)?;
            return Ok((Self { path: path.to_owned(), temp: None }, file));
        }
        let target = follow_links(path).map_err(fail)?;
        check_output(&target)?;
        let temp = tempfile::Builder::new()
            .prefix(&pending_prefix(&target))
            .suffix(PENDING_SUFFIX)
            // Opened here so that the mode is 0666 & !umask, as for any file a program makes.
            .make_in(folder_of(&target), |p| OpenOptions::new().write(true).create_new(true).open(p))
            .map_err(|e| fail(plain(e)))?;
        let (file, temp) = temp.into_parts();
        Ok((Self { path: path.to_owned(), temp: Some((temp, target)) }, file))
    }

    /// The file will get another name in the same folder; a device or a pipe keeps its own.
    ///
    /// # Errors
    /// What [`check_output`] finds.
    pub fn rename(&mut self, path: &Path) -> Result<()> {
        if let Some((_, target)) = &mut self.temp {
            check_output(path)?;
            *target = path.to_owned();
            self.path = path.to_owned();
        }
        Ok(())
    }

    /// As the caller named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the written `file` its name, once its bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Write`] when they can't be put there.
    pub fn publish(self, file: &File) -> Result<()> {
        let fail = |cause| Error::write(&self.path, cause);
        if let Some((temp, target)) = self.temp {
            file.sync_all().map_err(fail)?;
            temp.persist(&target).map_err(|e| fail(e.error))?;
            // Best effort: the rename is done, and some file systems cannot sync a folder.
            if let Ok(folder) = File::open(folder_of(&target)) {
                folder.sync_all().ok();
            }
        }
        Ok(())
    }
}

const PENDING_SUFFIX: &str = ".partial";

/// How the temporary file of an output begins. A name may be as long as the file system allows: the
/// temporary one must still fit.
fn pending_prefix(target: &Path) -> String {
    let name: String = target.file_name().unwrap_or_default().to_string_lossy().chars().take(48).collect();
    format!(".{name}.")
}

/// Removes temporary files that killed jobs left beside `path`. Only for who holds its lock.
pub(crate) fn remove_pending(path: &Path) {
    let Ok(target) = follow_links(path) else { return };
    let prefix = pending_prefix(&target);
    for entry in fs::read_dir(folder_of(&target)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let middle = name.to_str().and_then(|n| n.strip_prefix(&prefix)?.strip_suffix(PENDING_SUFFIX));
        // As many random characters as tempfile takes.
        if middle.is_some_and(|m| m.len() == 6 && m.chars().all(|c| c.is_ascii_alphanumeric())) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Whether `path` must be opened as it is: a device, a pipe, or another process's open file.
pub(crate) fn writes_through(path: &Path) -> bool {
    let descriptor = ["/dev/fd", "/dev/stdout", "/dev/stderr", "/proc"].iter().any(|p| path.starts_with(p));
    fs::metadata(path).is_ok_and(|meta| descriptor || !meta.is_file())
}

/// The file that `path` stands for, so that a rename replaces it and not the link to it; it need
/// not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            // Absent, or no link.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Without the temporary name that tempfile puts into the message.
fn plain(e: io::Error) -> io::Error {
    e.raw_os_error().map_or_else(|| io::Error::from(e.kind()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_a_killed_job_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let (pending, _file) = Pending::create(&path).unwrap();
        for other in [".y.parquet.abc123.partial", ".x.parquet.abc.partial", "x.parquet.partial"] {
            fs::write(folder.path().join(other), "").unwrap();
        }
        assert_eq!(names(folder.path()).len(), 4);
        remove_pending(&path);
        assert_eq!(
            names(folder.path()),
            [".x.parquet.abc.partial", ".y.parquet.abc123.partial", "x.parquet.partial"]
        );
        drop(pending);
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn publish(path: &Path, text: &str) -> Result<()> {
        let (pending, mut file) = Pending::create(path)?;
        file.write_all(text.as_bytes()).unwrap();
        pending.publish(&file)
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        let (pending, mut file) = Pending::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        let [name] = &names(folder.path())[..] else { panic!() };
        assert!(name.starts_with(".out.parquet.") && name.ends_with(".partial"), "{name}");
        pending.publish(&file).unwrap();
        assert_eq!(names(folder.path()), ["out.parquet"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn an_older_file_stays_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        fs::write(&path, "old").unwrap();
        drop(Pending::create(&path).unwrap());
        assert_eq!(names(folder.path()), ["out.parquet"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        publish(&path, "new").unwrap();
        assert_eq!(names(folder.path()), ["out.parquet"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn wrong_places_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let in_it = |name: &str| folder.path().join(name);
        fs::write(in_it("file"), "").unwrap();
        assert!(
            matches!(check_output(&in_it("x/y/out")), Err(Error::NoFolder { folder }) if folder == in_it("x/y"))
        );
        assert!(
            matches!(check_output(&in_it("file/out")), Err(Error::NotAFolder { folder }) if folder == in_it("file"))
        );
        assert!(matches!(check_output(&in_it("file/x/out")), Err(Error::NotAFolder { .. })));
        for path in [in_it(""), in_it("new/"), "..".into(), "/".into(), "".into()] {
            assert!(matches!(check_output(&path), Err(Error::IsFolder { .. })), "{path:?}");
        }
        check_output(Path::new("out")).unwrap();
        assert!(matches!(Pending::create(&in_it("x/out")), Err(Error::NoFolder { .. })));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn names_may_be_as_long_as_the_file_system_allows() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x".repeat(255), "é".repeat(127)] {
            publish(&folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    #[cfg(unix)]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        File::create(folder.path().join("plain")).unwrap();
        publish(&folder.path().join("ours"), "").unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }

    #[test]
    #[cfg(unix)]
    fn a_link_stays_a_link() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let in_it = |name: &str| folder.path().join(name);
        fs::create_dir(in_it("data")).unwrap();
        symlink("data/real", in_it("link")).unwrap();
        for text in ["new", "newer"] {
            publish(&in_it("link"), text).unwrap();
            assert!(in_it("link").is_symlink());
            assert_eq!(fs::read_to_string(in_it("data/real")).unwrap(), text);
        }
        symlink("nowhere/real", in_it("dangling")).unwrap();
        assert!(matches!(publish(&in_it("dangling"), ""), Err(Error::NoFolder { .. })));
        symlink("loop", in_it("loop")).unwrap();
        assert!(matches!(publish(&in_it("loop"), ""), Err(Error::Create { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn a_fifo_stays_a_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut text = String::new();
                File::open(path).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        publish(&path, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert_eq!(names(folder.path()), ["fifo"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_folder_that_takes_no_file() {
        let error = publish(Path::new("/proc/out.parquet"), "").unwrap_err();
        assert!(matches!(error, Error::Create { .. }), "{error}");
    }
}
