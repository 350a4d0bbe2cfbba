//! Kernels from source: for development (`--kernels-from`), and for cards newer than the built-in code.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use cudarc::nvrtc::{result, sys};
use mseq_kernels::{Module, PRELUDE, Storage, Target, compile_options};
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
}

/// Machine code of a source for a card; from the cache when it was compiled before.
pub(crate) fn compile(
    module: &'static Module,
    storage: Storage,
    (major, minor): (u32, u32),
    from: Option<&Path>,
) -> Result<Vec<u8>, Error> {
    Library::Nvrtc.load().ok_or(Error::NoNvrtc)?;
    let source = match from {
        None => module.source(),
        Some(folder) => from_folder(module.name, folder)?,
    };
    let options = compile_options(module.built_as(storage), Target::Sm(10 * major + minor));
    let version = version()?;
    let key = key(&source, &options, &version);
    let cached = cache().map(|folder| folder.join(format!("{}-{key}.cubin", module.name)));
    if let Some(cubin) = cached.as_deref().and_then(read_cached) {
        return Ok(cubin);
    }
    let cubin = probe::quietly(|| run(module.name, &source, &options)).map_err(Error::Nvrtc)??;
    if let Some(path) = cached {
        // A cache that can't be written only costs time.
        let _ = write_cached(&path, &cubin);
    }
    Ok(cubin)
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
    let temporary = path.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&temporary, [&Sha256::digest(cubin)[..], cubin].concat())?;
    fs::rename(&temporary, path)
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
