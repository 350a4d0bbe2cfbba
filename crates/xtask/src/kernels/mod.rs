//! Makes the committed machine code of mseq-kernels, and looks whether it is what its sources would give.

mod nvrtc;

use std::{env, fs, path::PathBuf, time::Instant};

use mseq_kernels::{
    MODULES, MixerSizes, Module, Storage, Target, check_ptx, digest, pack, recorded, specials, unpack,
};

use crate::{
    error::{Error, Result},
    shell,
};
use nvrtc::Nvrtc;

pub(crate) fn run(args: &[&str]) -> Result<()> {
    match args {
        ["build"] => build(None),
        ["build", "--nvrtc", path] => build(Some(path)),
        ["check"] => check(None),
        ["check", "--nvrtc", path] => check(Some(path)),
        _ => Err(Error::Usage(format!("'kernels {}' is not build or check [--nvrtc PATH]", args.join(" ")))),
    }
}

fn bin() -> PathBuf {
    shell::root().join("kernels/bin")
}

fn archive(target: Target) -> PathBuf {
    bin().join(format!("{target}.zst"))
}

/// What is built for a target.
fn binaries(target: Target) -> impl Iterator<Item = (&'static Module, Storage)> {
    let each = |module: &'static Module| module.storages().iter().map(move |&storage| (module, storage));
    MODULES.iter().flat_map(each).filter(move |(_, storage)| target.has(*storage))
}

fn build(path: Option<&str>) -> Result<()> {
    let mut nvrtc = Nvrtc::open(path)?;
    let (mut digests, mut total) = (String::new(), 0);
    for target in Target::ALL {
        let start = Instant::now();
        // What its source did not change for is kept.
        let mut old =
            fs::read(archive(target)).ok().and_then(|bytes| unpack(target, &bytes).ok()).unwrap_or_default();
        let (mut files, mut anew) = (Vec::new(), 0);
        for (module, storage) in binaries(target) {
            let now = digest(module, storage, target);
            let kept = old.remove(&format!("{}.{storage}", module.name));
            let code = match kept.filter(|_| recorded(module.name, storage, target) == Some(&now[..])) {
                Some(code) => code,
                None => {
                    anew += 1;
                    compile(&mut nvrtc, module, storage, target)?
                }
            };
            files.push((module.name, storage, code));
            digests += &format!("{now}  {}.{storage}.{target}\n", module.name);
        }
        let packed = pack(target, &files).map_err(failed)?;
        let (all, bytes) = (files.len(), packed.len());
        println!("{target}: {all} binaries, {anew} of them anew, {bytes} bytes, {:.0?}", start.elapsed());
        total += packed.len();
        write(archive(target), &packed)?;
    }
    println!("in all {total} bytes");
    write(bin().join("digests.txt"), digests.as_bytes())
}

/// First what needs no compiler, then, where there is one, each binary made anew.
fn check(path: Option<&str>) -> Result<()> {
    let mut stale = Vec::new();
    for target in Target::ALL {
        for (module, storage) in binaries(target) {
            if recorded(module.name, storage, target) != Some(&digest(module, storage, target)[..]) {
                stale.push(format!("{}.{storage}.{target}", module.name));
            }
        }
    }
    if !stale.is_empty() {
        return Err(Error::Failed(format!(
            "not made from the sources as they are: {}; run `cargo xtask kernels build`",
            stale.join(", ")
        )));
    }
    println!("kernels: digests agree with the sources");
    let mut nvrtc = match Nvrtc::open(path) {
        Ok(nvrtc) => nvrtc,
        Err(cause) if path.is_some() || env::var_os("MSEQ_REQUIRE_NVRTC").is_some_and(|v| v == "1") => {
            return Err(cause);
        }
        Err(cause) => {
            println!("kernels: SKIPPED compiling them anew, there is no NVRTC here ({cause})");
            return Ok(());
        }
    };
    for target in Target::ALL {
        let path = archive(target);
        let committed = fs::read(&path)
            .map_err(|cause| Error::Failed(format!("cannot read {}: {cause}", path.display())))
            .and_then(|bytes| unpack(target, &bytes).map_err(failed))?;
        let mut count = 0;
        for (module, storage) in binaries(target) {
            let code = compile(&mut nvrtc, module, storage, target)?;
            let name = format!("{}.{storage}", module.name);
            if committed.get(&name) != Some(&code) {
                return Err(Error::Failed(format!(
                    "{name}.{target} is not what its source compiles to; run `cargo xtask kernels build`"
                )));
            }
            count += 1;
        }
        println!("kernels: {target}: {count} binaries are what their sources compile to");
    }
    check_specials(&mut nvrtc)
}

/// Shapes that run as kernels of their own, compiled where they are used: whole and broken eights of states, more than a
/// thread keeps, one; every way to have taps.
const ODD: [MixerSizes; 5] = [
    MixerSizes { d_inner: 512, d_state: 24, d_conv: 3 },
    MixerSizes { d_inner: 512, d_state: 40, d_conv: 1 },
    MixerSizes { d_inner: 128, d_state: 10, d_conv: 8 },
    MixerSizes { d_inner: 36, d_state: 256, d_conv: 4 },
    MixerSizes { d_inner: 29, d_state: 1, d_conv: 2 },
];

/// Sources that are told their sizes compile, and keep their parameters.
fn check_specials(nvrtc: &mut Nvrtc) -> Result<()> {
    let mut count = 0;
    for special in ODD.into_iter().flat_map(specials) {
        for &storage in special.module.storages() {
            let options = special.options(storage, Target::Ptx(80));
            let what = format!("{}.{storage}", special.name());
            let code = nvrtc.compile_with(&what, &special.module.source(), &options, true)?;
            let text = String::from_utf8_lossy(&code);
            check_ptx(special.module, &text).map_err(|why| Error::Failed(format!("{what}: {why}")))?;
            count += 1;
        }
    }
    println!("kernels: {count} for odd shapes compile, with the parameters of the others");
    Ok(())
}

/// Compiles; PTX must have the manifest's parameters.
fn compile(nvrtc: &mut Nvrtc, module: &Module, storage: Storage, target: Target) -> Result<Vec<u8>> {
    let code = nvrtc.compile(module, storage, target)?;
    if let Target::Ptx(_) = target {
        let text = String::from_utf8_lossy(&code);
        check_ptx(module, &text).map_err(|why| Error::Failed(format!("{}.{storage}: {why}", module.name)))?;
    }
    Ok(code)
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<()> {
    fs::write(&path, bytes).map_err(|source| Error::Write { path, source })
}

fn failed(cause: mseq_kernels::Error) -> Error {
    Error::Failed(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turing_gets_no_bf16() {
        assert!(binaries(Target::Sm(75)).all(|(_, storage)| storage != Storage::Bf16));
        assert!(binaries(Target::Sm(80)).any(|(_, storage)| storage == Storage::Bf16));
    }

    #[test]
    fn other_words_are_a_usage_error() {
        for args in [&[][..], &["shine"], &["check", "--nvrtc"], &["build", "--all"]] {
            assert!(matches!(run(args), Err(Error::Usage(_))));
        }
    }
}
