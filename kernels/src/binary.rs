use std::collections::BTreeMap;

use crate::manifest::{Storage, module};
use crate::source::Target;

/// What is wrong with a committed binary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that the manifest does not have.
    #[error("there is no kernel source '{name}'")]
    NoModule {
        /// The name.
        name: String,
    },
    /// No binary runs on this card.
    #[error(
        "no kernels for compute capability {major}.{minor} with {storage} activations: 7.5 (f32, f16) or 8.0 and later are needed"
    )]
    NoTarget {
        /// Major compute capability.
        major: u32,
        /// Minor compute capability.
        minor: u32,
        /// Number type.
        storage: Storage,
    },
    /// An archive that is not what `pack` writes.
    #[error("the kernel archive for {target} is damaged ({why}); run `cargo xtask kernels build`")]
    Damaged {
        /// Its target.
        target: Target,
        /// What is wrong.
        why: String,
    },
}

/// Result of a look-up.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a binary is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryKind {
    /// Machine code (an ELF file).
    Cubin,
    /// PTX text with a zero byte at its end, as `cuModuleLoadData` wants it.
    Ptx,
}

/// Compiled code of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// How it is loaded.
    pub kind: BinaryKind,
    /// What it was compiled for.
    pub target: Target,
    /// To be handed to `cuModuleLoadData`.
    pub bytes: Vec<u8>,
}

/// One archive a target: the sources of a target have much in common, and compress well together.
const ARCHIVES: &[(Target, &[u8])] = &[
    (Target::Sm(75), include_bytes!("../bin/sm_75.zst")),
    (Target::Sm(80), include_bytes!("../bin/sm_80.zst")),
    (Target::Sm(86), include_bytes!("../bin/sm_86.zst")),
    (Target::Sm(89), include_bytes!("../bin/sm_89.zst")),
    (Target::Sm(90), include_bytes!("../bin/sm_90.zst")),
    (Target::Sm(100), include_bytes!("../bin/sm_100.zst")),
    (Target::Sm(120), include_bytes!("../bin/sm_120.zst")),
    (Target::Ptx(80), include_bytes!("../bin/compute_80.zst")),
];

/// What the committed binaries were made from, as `digest` gives it, a line each.
const DIGESTS: &str = include_str!("../bin/digests.txt");

/// The compiled code of a source for a card: machine code of its own compute capability or the nearest lower minor
/// one, else PTX.
///
/// # Errors
/// When no source has this name, no binary runs on the card, or the archive is damaged.
///
/// ```
/// use mseq_kernels::{BinaryKind, Storage, Target, find};
/// let hopper = find("selective_scan_fwd", Storage::Bf16, (9, 0))?;
/// assert_eq!((hopper.kind, hopper.target), (BinaryKind::Cubin, Target::Sm(90)));
/// assert!(find("selective_scan_fwd", Storage::Bf16, (7, 5)).is_err());
/// # Ok::<(), mseq_kernels::Error>(())
/// ```
pub fn find(name: &str, storage: Storage, (major, minor): (u32, u32)) -> Result<Binary> {
    let Some(module) = module(name) else { return Err(Error::NoModule { name: name.to_owned() }) };
    let storage = module.built_as(storage);
    let nothing = Error::NoTarget { major, minor, storage };
    let Some(target) = target_for(major, minor).filter(|target| target.has(storage)) else {
        return Err(nothing);
    };
    if ARCHIVES.iter().all(|(of, _)| *of != target) {
        return Err(nothing);
    }
    of_target(name, storage, target)
}

/// The intermediate code of a module and a storage type: the driver makes machine code of it, on any
/// card of a compute capability that has it or a later one.
///
/// # Errors
/// As [`find`].
pub fn find_ptx(name: &str, storage: Storage, (major, minor): (u32, u32)) -> Result<Binary> {
    let Some(module) = module(name) else { return Err(Error::NoModule { name: name.to_owned() }) };
    let storage = module.built_as(storage);
    let fits = |target: &Target| matches!(target, Target::Ptx(of) if *of <= 10 * major + minor);
    match Target::ALL.into_iter().filter(|target| fits(target) && target.has(storage)).max() {
        Some(target) => of_target(name, storage, target),
        None => Err(Error::NoTarget { major, minor, storage }),
    }
}

fn of_target(name: &str, storage: Storage, target: Target) -> Result<Binary> {
    let name = file_name(name, storage);
    let Some((_, archive)) = ARCHIVES.iter().find(|(of, _)| *of == target) else {
        return Err(Error::Damaged { target, why: "it is missing".to_owned() });
    };
    let Some(bytes) = unpack(target, archive)?.remove(&name) else {
        return Err(Error::Damaged { target, why: format!("{name} is missing") });
    };
    let kind = if matches!(target, Target::Ptx(_)) { BinaryKind::Ptx } else { BinaryKind::Cubin };
    Ok(Binary { kind, target, bytes })
}

/// Machine code runs on its own major compute capability from its minor one on, PTX on all that are later.
fn target_for(major: u32, minor: u32) -> Option<Target> {
    let own = Target::ALL.into_iter().filter_map(|target| match target {
        Target::Sm(of) if of / 10 == major && of % 10 <= minor => Some(of),
        _ => None,
    });
    match own.max() {
        Some(best) => Some(Target::Sm(best)),
        None => Target::ALL
            .into_iter()
            .filter(|target| matches!(target, Target::Ptx(of) if *of <= 10 * major + minor))
            .max(),
    }
}

fn file_name(module: &str, storage: Storage) -> String {
    format!("{module}.{storage}")
}

/// The digest recorded for a committed binary.
pub fn recorded(module: &str, storage: Storage, target: Target) -> Option<&'static str> {
    let name = format!("{}.{target}", file_name(module, storage));
    DIGESTS
        .lines()
        .filter_map(|line| line.split_once("  "))
        .find(|(_, of)| *of == name)
        .map(|(digest, _)| digest)
}

/// Joins the binaries of a target, by module and storage, into a compressed archive.
///
/// # Errors
/// When the compressor fails.
pub fn pack(target: Target, files: &[(&str, Storage, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    for (module, storage, bytes) in files {
        plain.extend(format!("{} {}\n", file_name(module, *storage), bytes.len()).bytes());
    }
    plain.push(b'\n');
    files.iter().for_each(|(_, _, bytes)| plain.extend(bytes));
    zstd::encode_all(&plain[..], 19).map_err(|cause| Error::Damaged { target, why: cause.to_string() })
}

/// What [`pack`] joined, by file name (`module.storage`).
///
/// # Errors
/// When the archive is damaged.
pub fn unpack(target: Target, archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let damaged = |why: &str| Error::Damaged { target, why: why.to_owned() };
    let plain = zstd::decode_all(archive).map_err(|cause| damaged(&cause.to_string()))?;
    let head = plain.windows(2).position(|two| two == b"\n\n").ok_or_else(|| damaged("no list of files"))?;
    let list = std::str::from_utf8(&plain[..head]).map_err(|_| damaged("a list that is not text"))?;
    let mut rest = &plain[head + 2..];
    let mut files = BTreeMap::new();
    for line in list.lines() {
        let entry = line.split_once(' ').and_then(|(name, len)| Some((name, len.parse::<usize>().ok()?)));
        let (name, len) = entry.ok_or_else(|| damaged("a line without a length"))?;
        let (bytes, tail) = rest.split_at_checked(len).ok_or_else(|| damaged("cut off"))?;
        files.insert(name.to_owned(), bytes.to_vec());
        rest = tail;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MODULES;
    use crate::source::digest;

    #[test]
    fn every_binary_is_there_and_made_from_its_source() {
        for target in Target::ALL {
            for module in MODULES {
                for &storage in module.storages().iter().filter(|storage| target.has(**storage)) {
                    let made_from = recorded(module.name, storage, target);
                    let now = digest(module, storage, target);
                    assert_eq!(
                        made_from,
                        Some(&now[..]),
                        "{}.{storage}.{target} is stale: run `cargo xtask kernels build`",
                        module.name
                    );
                }
            }
        }
    }

    #[test]
    fn every_archive_holds_what_the_manifest_names() {
        assert_eq!(ARCHIVES.len(), Target::ALL.len());
        for (target, archive) in ARCHIVES {
            let mut files = unpack(*target, archive).unwrap();
            for module in MODULES {
                for &storage in module.storages().iter().filter(|storage| target.has(**storage)) {
                    let bytes = files.remove(&file_name(module.name, storage)).unwrap();
                    match target {
                        Target::Sm(_) => assert_eq!(&bytes[..4], b"\x7fELF"),
                        Target::Ptx(_) => assert_eq!(bytes.last(), Some(&0)),
                    }
                    for entry in module.entries {
                        let name = entry.name.as_bytes();
                        assert!(bytes.windows(name.len()).any(|at| at == name), "{}", entry.name);
                    }
                }
            }
            assert!(files.is_empty(), "{target}: {:?}", files.keys());
        }
    }

    #[test]
    fn each_card_gets_its_nearest_code() {
        let cards = [
            ((7, 5), Some(Target::Sm(75))),
            ((8, 0), Some(Target::Sm(80))),
            ((8, 7), Some(Target::Sm(86))),
            ((8, 9), Some(Target::Sm(89))),
            ((9, 0), Some(Target::Sm(90))),
            ((10, 3), Some(Target::Sm(100))),
            ((11, 0), Some(Target::Ptx(80))),
            ((12, 1), Some(Target::Sm(120))),
            ((13, 0), Some(Target::Ptx(80))),
            ((7, 0), None),
        ];
        for ((major, minor), target) in cards {
            assert_eq!(target_for(major, minor), target, "{major}.{minor}");
        }
        assert!(matches!(find("no_such", Storage::F32, (9, 0)), Err(Error::NoModule { .. })));
        assert!(matches!(find("norm_fwd", Storage::Bf16, (7, 5)), Err(Error::NoTarget { .. })));
        assert!(find("pool_fwd", Storage::Bf16, (9, 0)).is_ok());
        for (card, there) in [((9, 0), true), ((8, 0), true), ((7, 5), false)] {
            let ptx = find_ptx("norm_fwd", Storage::F32, card);
            assert_eq!(ptx.is_ok_and(|binary| binary.kind == BinaryKind::Ptx), there);
        }
    }

    #[test]
    fn a_damaged_archive_is_named() {
        let target = Target::Sm(90);
        let archive = pack(target, &[("a", Storage::F32, vec![1, 2]), ("b", Storage::F16, vec![])]).unwrap();
        let files = unpack(target, &archive).unwrap();
        assert_eq!(files["a.f32"], [1, 2]);
        assert!(files["b.f16"].is_empty());
        for broken in
            [&archive[..archive.len() - 1], b"", &zstd::encode_all(&b"a.f32 9\n\nxy"[..], 1).unwrap()]
        {
            let error = unpack(target, broken).unwrap_err().to_string();
            assert!(error.starts_with("the kernel archive for sm_90 is damaged ("), "{error}");
        }
    }
}
