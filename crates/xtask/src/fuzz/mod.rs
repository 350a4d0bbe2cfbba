//! Reads many damaged files of every kind in this process. None may panic, hang or take memory by
//! the word of a file; an error is what most of them should give.

mod bed;
mod case;
mod jobs;
mod models;
mod mutate;
mod pack;
mod recordings;
mod sequences;
mod shards;
mod tables;
mod watch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use case::{Case, Kind, Outcome};
use watch::{HANGS, Quiet, SLOW};

use crate::{
    error::{Error, Result},
    random::Random,
    shell,
};

/// Inputs that are kept of each fault.
const KEPT: u64 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    cases: u64,
    seconds: Option<u64>,
    seed: u64,
    kind: Option<String>,
    /// This one alone.
    case: Option<u64>,
}

pub(crate) fn run(args: &[&str]) -> Result<()> {
    let options = parse(args)?;
    let folder = shell::target_dir().join("fuzz");
    std::fs::remove_dir_all(&folder).ok();
    let kinds = kinds(&folder)?;
    let chosen: Vec<&dyn Kind> = kinds
        .iter()
        .map(|kind| &**kind)
        .filter(|kind| options.kind.as_deref().is_none_or(|wanted| wanted == kind.name()))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        return Err(Error::Usage(format!("fuzz: --kind is one of {}", names.join(", "))));
    }
    let start = Instant::now();
    let _quiet = Quiet::new();
    println!("{:<11} {:>7} {:>7} {:>7} {:>7} {:>7}", "kind", "cases", "read", "refused", "faults", "seconds");
    let (mut cases, mut faults) = (0, 0);
    for (i, kind) in chosen.iter().enumerate() {
        // What earlier kinds left of their share goes to the later ones.
        let until = options.seconds.map(|s| {
            let left = Duration::from_secs(s).saturating_sub(start.elapsed());
            Instant::now() + left / (chosen.len() - i) as u32
        });
        let counts = fuzz(*kind, &options, until, &folder)?;
        cases += counts.cases;
        faults += counts.faults.values().sum::<u64>();
    }
    let seconds = start.elapsed().as_secs();
    match faults {
        0 => {
            std::fs::remove_dir_all(&folder).ok();
            println!("fuzz: {cases} cases, no fault, seed {}, {seconds} s", options.seed);
            Ok(())
        }
        n => Err(Error::Failed(format!(
            "fuzz: {n} faults in {cases} cases, seed {}; see {}",
            options.seed,
            folder.display()
        ))),
    }
}

fn parse(args: &[&str]) -> Result<Options> {
    let mut options = Options { cases: 10_000, seconds: None, seed: 1, kind: None, case: None };
    let mut words = args.iter();
    while let Some(&option) = words.next() {
        let value = words.next().ok_or_else(|| Error::Usage(format!("fuzz: {option} needs a value")))?;
        let number =
            || value.parse().map_err(|_| Error::Usage(format!("fuzz: {option} needs a whole number")));
        match option {
            "--cases" => options.cases = number()?,
            "--seconds" => options.seconds = Some(number()?),
            "--seed" => options.seed = number()?,
            "--case" => options.case = Some(number()?),
            "--kind" => options.kind = Some((*value).to_owned()),
            other => return Err(Error::Usage(format!("fuzz: what is '{other}'?"))),
        }
    }
    if options.case.is_some() && options.kind.is_none() {
        return Err(Error::Usage("fuzz: --case needs --kind".to_owned()));
    }
    Ok(options)
}

/// All kinds; what they need is made in `folder`.
fn kinds(folder: &Path) -> Result<Vec<Box<dyn Kind>>> {
    let jobs = Arc::new(jobs::Jobs::new(&folder.join("jobs"))?);
    Ok(vec![
        Box::new(sequences::Fasta),
        Box::new(sequences::Fastq),
        Box::new(bed::Bed),
        Box::new(recordings::Recordings),
        Box::new(tables::Text),
        Box::new(tables::Parquet),
        Box::new(models::Models::new()?),
        Box::new(jobs::JobCheckpoint(jobs.clone())),
        Box::new(jobs::JobLog(jobs)),
        Box::new(shards::Merge::new(&folder.join("shards"))?),
    ])
}

/// What became of the cases of one kind.
#[derive(Debug, Default)]
struct Counts {
    cases: u64,
    read: u64,
    refused: u64,
    /// How often each happened.
    faults: BTreeMap<String, u64>,
}

/// The case that is being read, and since when.
type Now = Mutex<Option<(u64, Instant)>>;

fn fuzz(kind: &dyn Kind, options: &Options, until: Option<Instant>, folder: &Path) -> Result<Counts> {
    let (start, now) = (Instant::now(), Now::default());
    let counts = thread::scope(|scope| {
        let worker = scope.spawn(|| cases(kind, options, until, folder, &now));
        while !worker.is_finished() {
            thread::sleep(Duration::from_millis(20));
            let case = *now.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((case, _)) = case.filter(|(_, since)| since.elapsed() > HANGS) {
                // A thread cannot be stopped: the process goes, and leaves the input behind.
                eprintln!(
                    "error: fuzz: {} case {case} hangs; it is in {}",
                    kind.name(),
                    now_folder(folder, kind).display()
                );
                std::process::exit(1);
            }
        }
        worker.join().unwrap_or_else(|_| Err(Error::Failed("fuzz: the fuzzer itself panicked".to_owned())))
    })?;
    println!(
        "{:<11} {:>7} {:>7} {:>7} {:>7} {:>7.1}",
        kind.name(),
        counts.cases,
        counts.read,
        counts.refused,
        counts.faults.values().sum::<u64>(),
        start.elapsed().as_secs_f64()
    );
    for (fault, times) in &counts.faults {
        println!("  {times} x {fault}");
    }
    Ok(counts)
}

/// Where the files of the case lie that is being read: they stay when the process dies.
fn now_folder(folder: &Path, kind: &dyn Kind) -> PathBuf {
    folder.join("now").join(kind.name())
}

fn make(kind: &dyn Kind, seed: u64, case: u64) -> Case {
    let name = kind.name().bytes().fold(seed, |n, b| n.wrapping_mul(31).wrapping_add(b.into()));
    // One draw parts the streams of neighbours.
    let seed = Random(name ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next();
    kind.case(true, &mut Random(seed))
}

fn cases(
    kind: &dyn Kind,
    options: &Options,
    until: Option<Instant>,
    folder: &Path,
    now: &Now,
) -> Result<Counts> {
    let mut counts = Counts::default();
    let here = now_folder(folder, kind);
    let range = options.case.map_or(0..options.cases, |case| case..case + 1);
    for case in range {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let input = make(kind, options.seed, case);
        input.write(&here).map_err(|source| Error::Write { path: here.clone(), source })?;
        *now.lock().unwrap_or_else(PoisonError::into_inner) = Some((case, Instant::now()));
        let run = watch::run(kind.memory_kib(), || kind.read(&input, &here));
        *now.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let first = counts.cases == 0;
        counts.cases += 1;
        let mut faults = Vec::new();
        match run.result {
            Ok(Outcome::Read) => counts.read += 1,
            Ok(Outcome::Refused(_)) => counts.refused += 1,
            Ok(Outcome::Wrong(text)) => {
                faults.push(watch::take_panic().unwrap_or(text));
            }
            Err(panic) => faults.push(panic),
        }
        if run.time > SLOW {
            faults.push(format!("takes {:.0} s", run.time.as_secs_f64()));
        }
        if let Some(kib) = run.grew.filter(|_| !first) {
            faults.push(format!("takes {} MiB of memory", kib >> 10));
        }
        for fault in faults {
            let times = counts.faults.entry(fault.clone()).or_default();
            *times += 1;
            if *times <= KEPT {
                keep(&input, kind, case, &fault, folder)?;
            }
        }
    }
    Ok(counts)
}

/// Saves an input with what it did.
fn keep(input: &Case, kind: &dyn Kind, case: u64, fault: &str, folder: &Path) -> Result<()> {
    let kept = folder.join(format!("{}-{case}", kind.name()));
    let why = kept.join("FAULT.txt");
    input
        .write(&kept)
        .and_then(|()| std::fs::write(&why, format!("{fault}\n")))
        .map_err(|source| Error::Write { path: kept.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options =
            parse(&["--cases", "7", "--seconds", "60", "--seed", "3", "--kind", "bed", "--case", "4"]);
        let want =
            Options { cases: 7, seconds: Some(60), seed: 3, kind: Some("bed".to_owned()), case: Some(4) };
        assert_eq!(options.unwrap(), want);
        for bad in [&["--cases"][..], &["--cases", "x"], &["--case", "4"], &["--speed", "4"]] {
            assert!(matches!(parse(bad), Err(Error::Usage(_))), "{bad:?}");
        }
    }

    /// The short form of `cargo xtask fuzz`.
    #[test]
    fn two_hundred_damaged_files_of_each_kind() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { cases: 200, seconds: None, seed: 20, kind: None, case: None };
        for kind in kinds(folder.path()).unwrap() {
            // Valid input is read: else damage would only be looked at from outside.
            for seed in 0..30 {
                let case = kind.case(false, &mut Random(seed));
                let here = now_folder(folder.path(), &*kind);
                case.write(&here).unwrap();
                assert_eq!(kind.read(&case, &here), Outcome::Read, "{} {seed}", kind.name());
            }
            let counts = fuzz(&*kind, &options, None, folder.path()).unwrap();
            assert!(counts.faults.is_empty(), "{}: {:?}", kind.name(), counts.faults);
            assert!(counts.refused > 20, "{}: {counts:?}", kind.name());
        }
    }

    #[test]
    fn a_case_is_the_same_for_the_same_seed() {
        let make = |seed, case| make(&bed::Bed, seed, case).files;
        assert_eq!(make(1, 5), make(1, 5));
        assert_ne!(make(1, 5), make(1, 6));
        assert_ne!(make(1, 5), make(2, 5));
    }
}
