//! Where CUDA's optional libraries lie, and loading them so that cudarc finds them.
//!
//! cuBLASLt and NVRTC are no part of the driver: they come with the toolkit, with conda or inside
//! Python packages, often in folders that the loader does not search. A library that is loaded
//! already is found by its soname, whatever its folder, so one opened here by path serves cudarc.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs};

use crate::probe::Unavailable;

/// A library beside the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// Matrix products. Without it our own kernel runs.
    CublasLt,
    /// The compiler, for kernels from source. Not needed for the built-in kernels.
    Nvrtc,
}

/// Where a library was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file, as far as the system tells.
    pub path: PathBuf,
    /// `the loader's path`, or the kind of place that was searched.
    pub via: &'static str,
}

impl Library {
    /// As cudarc calls it.
    fn name(self) -> &'static str {
        match self {
            Self::CublasLt => "cublasLt",
            Self::Nvrtc => "nvrtc",
        }
    }

    /// File name without version.
    pub fn file(self) -> &'static str {
        match self {
            Self::CublasLt => "libcublasLt.so",
            Self::Nvrtc => "libnvrtc.so",
        }
    }

    /// Loads the library, the first time.
    ///
    /// Gives `None` when no place has one that loads.
    pub fn load(self) -> Option<&'static Found> {
        static FOUND: [OnceLock<Option<Found>>; 2] = [OnceLock::new(), OnceLock::new()];
        let cell = match self {
            Self::CublasLt => &FOUND[0],
            Self::Nvrtc => &FOUND[1],
        };
        cell.get_or_init(|| self.search()).as_ref()
    }

    fn search(self) -> Option<Found> {
        if self.is_present() {
            // Kept open, so that the process's map tells where it is.
            let names = cudarc::get_lib_name_candidates(self.name());
            let name = names.into_iter().find(|name| keep_open(Path::new(name)));
            let path = mapped(self.file()).or(name.map(PathBuf::from));
            let path = path.unwrap_or_else(|| PathBuf::from(self.file()));
            return Some(Found { path, via: "the loader's path" });
        }
        for (folder, via) in folders() {
            for path in versions(&folder, self.file()) {
                if self == Self::Nvrtc {
                    // NVRTC opens this one by name when it compiles.
                    versions(&folder, "libnvrtc-builtins.so").iter().for_each(|path| {
                        keep_open(path);
                    });
                }
                if keep_open(&path) && self.is_present() {
                    return Some(Found { path, via });
                }
            }
        }
        None
    }

    /// Whether cudarc would find it now.
    #[expect(unsafe_code, reason = "loading a library runs its constructors")]
    fn is_present(self) -> bool {
        // SAFETY: NVIDIA's libraries may be loaded and unloaded at any time.
        unsafe {
            match self {
                Self::CublasLt => cudarc::cublaslt::sys::is_culib_present(),
                Self::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
            }
        }
    }
}

/// Checks that the driver library is there and has these functions.
#[expect(unsafe_code, reason = "loading a library runs its constructors")]
pub(crate) fn driver_has(symbols: &[&'static str]) -> Result<(), Unavailable> {
    // The order in which cudarc tries its names, so that this looks into the same library.
    let names =
        cudarc::get_lib_name_candidates("cuda").into_iter().chain(cudarc::get_lib_name_candidates("nvcuda"));
    // SAFETY: a library of the driver's name is the driver or a stub of it, which may be loaded.
    let opened = names.into_iter().find_map(|name| unsafe { libloading::Library::new(name) }.ok());
    let library = opened.ok_or(Unavailable::NoDriver)?;
    for &symbol in symbols {
        // SAFETY: the address is only looked up, neither called nor kept.
        if unsafe { library.get::<*const ()>(symbol.as_bytes()) }.is_err() {
            return Err(Unavailable::BadDriver { symbol });
        }
    }
    // Never closed: the driver does not like to be loaded twice.
    std::mem::forget(library);
    Ok(())
}

/// Opens a library for the whole process, for good.
#[cfg(unix)]
#[expect(unsafe_code, reason = "loading a library runs its constructors")]
fn keep_open(path: &Path) -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the file has the name of one of NVIDIA's libraries in a folder made for them; like any
    // program's loader, this trusts the search path of its user.
    match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(_) => false,
    }
}

#[cfg(not(unix))]
fn keep_open(_: &Path) -> bool {
    false
}

/// The file behind a loaded library, from the process's own map.
fn mapped(file: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find(|line| line.contains(file))?;
    Some(PathBuf::from(&path[path.find('/')?..]))
}

/// Files of a folder that are `file` or a version of it, the newest first; CUDA 13, 12 and 11.
fn versions(folder: &Path, file: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(file)?.strip_prefix('.')?;
            // `.so.13` and `.so.13.0`, not the debugging twin `.alt.so.13`.
            let major: u32 = version.split('.').next()?.parse().ok()?;
            (11..=13).contains(&major).then(|| (major, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Where CUDA's libraries use to lie, beside the loader's path.
fn folders() -> Vec<(PathBuf, &'static str)> {
    let mut all: Vec<(PathBuf, &'static str)> = Vec::new();
    let toolkit = "a CUDA toolkit";
    let mut roots: Vec<PathBuf> =
        ["CUDA_PATH", "CUDA_HOME", "CUDA_ROOT"].iter().filter_map(env::var_os).map(PathBuf::from).collect();
    roots.push("/usr/local/cuda".into());
    // `/usr/local/cuda-13.0` and the like, the newest first.
    let mut named: Vec<PathBuf> = children(Path::new("/usr/local"), "cuda-");
    named.sort_by(|a, b| b.cmp(a));
    roots.extend(named);
    roots.push("/opt/cuda".into());
    for root in roots {
        for below in ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"] {
            all.push((root.join(below), toolkit));
        }
    }
    if let Some(prefix) = env::var_os("CONDA_PREFIX") {
        let prefix = PathBuf::from(prefix);
        all.push((prefix.join("lib"), "conda"));
        all.push((prefix.join("targets/x86_64-linux/lib"), "conda"));
    }
    for packages in python_packages() {
        // nvidia/cublas/lib, nvidia/cuda_nvrtc/lib of CUDA 12; nvidia/cu13/lib of CUDA 13.
        let mut below = children(&packages.join("nvidia"), "");
        below.sort();
        all.extend(below.into_iter().map(|folder| (folder.join("lib"), "a Python package")));
    }
    let mut seen = BTreeSet::new();
    all.retain(|(folder, _)| folder.is_dir() && seen.insert(folder.clone()));
    all
}

/// Folders in `folder` whose name starts with `prefix`.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let starts = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(prefix));
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|e| starts(&e.file_name())).map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// `site-packages` of the Pythons that a user of this shell would run. Nothing is started for it.
fn python_packages() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(env::var_os).map(PathBuf::from).collect();
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        if folder.join("python3").exists()
            && let Some(prefix) = folder.parent()
        {
            prefixes.push(prefix.to_owned());
        }
    }
    if let Some(home) = env::var_os("HOME") {
        prefixes.push(Path::new(&home).join(".local"));
    }
    prefixes.extend(["/usr/local".into(), "/usr".into()]);
    let mut found = Vec::new();
    for prefix in prefixes {
        for lib in ["lib", "lib64"] {
            for python in children(&prefix.join(lib), "python3") {
                found.extend(["site-packages", "dist-packages"].map(|packages| python.join(packages)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let folder = env::temp_dir().join(format!("mseq-libs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in
            ["libnvrtc.so.12", "libnvrtc.so.13.0.88", "libnvrtc.alt.so.13", "libnvrtc.so", "libnvrtc.so.9"]
        {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = versions(&folder, "libnvrtc.so");
        fs::remove_dir_all(&folder).unwrap();
        let names: Vec<_> = found.iter().filter_map(|p| p.file_name()?.to_str()).collect();
        assert_eq!(names, ["libnvrtc.so.13.0.88", "libnvrtc.so.12"]);
    }

    #[test]
    fn searching_is_harmless_where_nothing_is() {
        for library in [Library::CublasLt, Library::Nvrtc] {
            assert_eq!(library.load(), library.load());
        }
    }
}
