//! Kernels from source: for shapes that the built-in code has no form of its own for, for cards newer than it is,
//! and for development (`--kernels-from`). What was compiled is kept on disk.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io};

use cudarc::nvrtc::{result, sys};
use mseq_kernels::{PRELUDE, Special, Storage, Target};
use sha2::{Digest, Sha256};

use crate::libs::Library;
use crate::probe;

/// Why a kernel could not be compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("NVRTC was not found; install it with `pip install nvidia-cuda-nvrtc-cu12` or the CUDA toolkit")]
    NoNvrtc,
    #[error("cannot read {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("{name}.cu: {log}")]
    Compile { name: &'static str, log: String },
    #[error("NVRTC: {0}")]
    Nvrtc(String),
    #[error("{name}.cu does not ask for the sizes that it would be told")]
    OtherSource { name: &'static str },
}

/// Machine code.
pub(crate) struct Made {
    pub(crate) cubin: Vec<u8>,
    /// Whether it was compiled before.
    pub(crate) cached: bool,
}

/// Two engines that want the same code wait for each other: the second finds it in the cache.
static COMPILING: Mutex<()> = Mutex::new(());

/// Machine code of a source for a card; from the cache when it was compiled before.
pub(crate) fn compile(
    special: &Special,
    storage: Storage,
    (major, minor): (u32, u32),
    from: Option<&Path>,
) -> Result<Made, Error> {
    let name = special.module.name;
    let from = from.filter(|folder| folder.join(format!("{name}.cu")).exists());
    let source = match from {
        None => special.module.source(),
        Some(folder) => from_folder(name, folder)?,
    };
    if !special.suits(&source) {
        return Err(Error::OtherSource { name });
    }
    Library::Nvrtc.load().ok_or(Error::NoNvrtc)?;
    let target = Target::Sm(10 * major + minor);
    let options = special.options(storage, target);
    let key = key(&source, &options, &version()?);
    let file = format!("{}.{storage}.{target}-{key}.cubin", special.name());
    through(cache().map(|folder| folder.join(file)).as_deref(), || {
        probe::quietly(|| run(name, &source, &options)).map_err(Error::Nvrtc)?
    })
}

/// What the file holds, or what `make` gives, which the file then holds.
fn through(file: Option<&Path>, make: impl FnOnce() -> Result<Vec<u8>, Error>) -> Result<Made, Error> {
    let _one = COMPILING.lock();
    if let Some(cubin) = file.and_then(read_cached) {
        return Ok(Made { cubin, cached: true });
    }
    let cubin = make()?;
    if let Some(path) = file {
        // A cache that can't be written only costs time.
        let _ = write_cached(path, &cubin);
    }
    Ok(Made { cubin, cached: false })
}

/// The folder of compiled kernels, and the names of those in it, such as
/// `selective_scan_fwd.d_state24.bf16.sm_90`; `None` without a home.
pub fn compiled_kernels() -> Option<(PathBuf, Vec<String>)> {
    let folder = cache()?;
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(".cubin")?.rsplit_once('-')?.0.to_owned())
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    names.dedup();
    Some((folder, names))
}

/// The text of a kernel in a folder: prelude, `NAME.cu`, and what lies beside it as `NAME_*.cuh` (without
/// the `_fwd` of the name), in name order. A folder may leave the prelude to the built-in one.
fn from_folder(name: &str, folder: &Path) -> Result<String, Error> {
    let failed = |path: &Path, cause| Error::Read { path: path.to_owned(), cause };
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|cause| failed(&path, cause));
    let prelude = folder.join("prelude.cuh");
    let mut text = if prelude.exists() { read(prelude)? } else { PRELUDE.to_owned() };
    let file = format!("{name}.cu");
    text += &format!("\n#line 1 \"{file}\"\n");
    text += &read(folder.join(&file))?;
    let stem = format!("{}_", name.trim_end_matches("_fwd"));
    let mut beside: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|cause| failed(folder, cause))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&stem) && name.ends_with(".cuh"))
        })
        .collect();
    beside.sort();
    for path in beside {
        text += "\n";
        text += &read(path)?;
    }
    Ok(text)
}

fn key(source: &str, options: &[String], version: &str) -> String {
    let mut hash = Sha256::new();
    for part in [source, version].into_iter().chain(options.iter().map(String::as_str)) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// `$MSEQ_CACHE_DIR`, else `mamba-seq` in the user's cache.
fn cache() -> Option<PathBuf> {
    let dir = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    dir("MSEQ_CACHE_DIR").or_else(|| {
        Some(dir("XDG_CACHE_HOME").or_else(|| Some(dir("HOME")?.join(".cache")))?.join("mamba-seq"))
    })
}

/// An entry is its digest and its bytes: one that a crash cut off is made anew.
fn read_cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (digest, cubin) = bytes.split_at_checked(32)?;
    (Sha256::digest(cubin)[..] == *digest).then(|| cubin.to_vec())
}

fn write_cached(path: &Path, cubin: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Neither another process nor another thread writes to this one.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.partial", std::process::id()));
    let written = fs::write(&temporary, [&Sha256::digest(cubin)[..], cubin].concat())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[expect(unsafe_code, reason = "NVRTC is a C library")]
fn version() -> Result<String, Error> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC is loaded, and writes two ints.
    probe::quietly(|| unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result())
        .map_err(Error::Nvrtc)?
        .map_err(|e| Error::Nvrtc(e.to_string()))?;
    Ok(format!("{major}.{minor}"))
}

#[expect(unsafe_code, reason = "NVRTC is a C library")]
fn run(name: &'static str, source: &str, options: &[String]) -> Result<Vec<u8>, Error> {
    let other = |e: result::NvrtcError| Error::Nvrtc(e.to_string());
    let text = CString::new(source).map_err(|_| Error::Nvrtc("a source holds a zero byte".into()))?;
    let program = result::create_program(&text, None).map_err(other)?;
    // SAFETY: `program` lives until it is destroyed below, and `text` outlives it.
    let compiled = unsafe { result::compile_program(program, options) };
    let outcome = match compiled {
        Ok(()) => {
            let mut len = 0;
            // SAFETY: the program is compiled; NVRTC writes the length, then as many bytes.
            unsafe { sys::nvrtcGetCUBINSize(program, &mut len) }.result().map_err(other).and_then(|()| {
                let mut cubin = vec![0u8; len];
                // SAFETY: as above.
                unsafe { sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()) }.result().map_err(other)?;
                Ok(cubin)
            })
        }
        Err(_) => {
            // SAFETY: the program lives.
            let log = unsafe { result::get_program_log(program) }.map_err(other);
            log.and_then(|log| {
                let log: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
                Err(Error::Compile { name, log: String::from_utf8_lossy(&log).trim().to_owned() })
            })
        }
    };
    // SAFETY: destroyed once, and not used again.
    let _ = unsafe { result::destroy_program(program) };
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_gives_back_what_it_got_and_nothing_damaged() {
        let folder = env::temp_dir().join(format!("mseq-nvrtc-{}", std::process::id()));
        let path = folder.join("x.cubin");
        write_cached(&path, b"machine code").unwrap();
        assert_eq!(read_cached(&path).unwrap(), b"machine code");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read_cached(&path), None);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read_cached(&path), None);
    }

    #[test]
    fn a_hit_is_not_made_again_and_a_damaged_entry_is() {
        let folder = env::temp_dir().join(format!("mseq-through-{}", std::process::id()));
        let path = folder.join("deeper/x.cubin");
        let run = |code: &str| through(Some(&path), || Ok(code.as_bytes().to_vec())).unwrap();
        let first = run("one");
        assert!(first.cubin == b"one" && !first.cached);
        let second = run("never made");
        assert!(second.cubin == b"one" && second.cached);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        for damaged in [&bytes[..], &bytes[..20], b""] {
            fs::write(&path, damaged).unwrap();
            let again = run("two");
            assert!(again.cubin == b"two" && !again.cached);
            assert!(run("never made").cached);
        }
        // What fails leaves nothing, and a cache that can't be written is none.
        fs::remove_file(&path).unwrap();
        assert!(through(Some(&path), || Err(Error::NoNvrtc)).is_err());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
        fs::write(&path, "").unwrap();
        assert!(!through(Some(&path.join("y.cubin")), || Ok(vec![1])).unwrap().cached);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_ignores_the_sizes_is_not_told_them() {
        let folder = env::temp_dir().join(format!("mseq-ignores-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("causal_conv1d_fwd.cu"), "#define TAPS 4").unwrap();
        let sizes = mseq_kernels::MixerSizes { d_inner: 64, d_state: 16, d_conv: 3 };
        let special = &mseq_kernels::specials(sizes)[0];
        let made = compile(special, Storage::F32, (9, 0), Some(&folder));
        assert!(matches!(made, Err(Error::OtherSource { name: "causal_conv1d_fwd" })));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_of_kernels_is_read_whole() {
        let folder = env::temp_dir().join(format!("mseq-kernels-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("scan_fwd.cu", "scan"), ("scan_generic.cuh", "any"), ("other.cuh", "other")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let text = from_folder("scan_fwd", &folder).unwrap();
        assert!(text.starts_with(PRELUDE) && text.ends_with("#line 1 \"scan_fwd.cu\"\nscan\nany"), "{text}");
        assert!(matches!(from_folder("norm_fwd", &folder), Err(Error::Read { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_key_tells_its_parts_apart() {
        let key = |source: &str, option: &str| key(source, &[option.to_owned()], "12.9");
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(key("ab", ""), key("a", "b"));
    }
}
