//! Kills jobs at random moments and resumes them: each must end in the file of an uninterrupted one.

mod model;
mod mount;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use model::write_model;
use mount::Mount;

use crate::{
    error::{Error, Result},
    random::Random,
    shell, synth,
};

/// Each of the two signals is tried so often.
const STOPS: u64 = 3;
/// Within which a signalled job must be gone.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// A resumed job that takes longer than so many reference times hangs.
const HANGS: u32 = 20;

struct Options {
    kills: u64,
    bases: u64,
    records: u64,
    seed: u64,
    fill: bool,
}

pub(crate) fn run(args: &[&str]) -> Result<()> {
    let options = parse(args)?;
    let start = Instant::now();
    let mut soak = Soak::new(&options)?;
    let result = match options.fill {
        true => soak.fill(),
        false => soak.reference(&[]).and_then(|reference| {
            soak.kill(&reference, options.kills)?;
            soak.stop(&reference)
        }),
    };
    match result {
        Ok(()) => {
            fs::remove_dir_all(&soak.folder).ok();
            println!("soak passed in {:.0} s", start.elapsed().as_secs_f64());
            Ok(())
        }
        Err(error) => Err(Error::Failed(format!("{error}; everything is in {}", soak.folder.display()))),
    }
}

fn parse(args: &[&str]) -> Result<Options> {
    let mut options = Options { kills: 200, bases: 4_600_000, records: 3, seed: 1, fill: false };
    let mut words = args.iter();
    while let Some(&option) = words.next() {
        let mut value = || match words.next().map(|text| text.parse::<u64>()) {
            Some(Ok(value)) => Ok(value),
            _ => Err(Error::Usage(format!("soak: {option} needs a whole number"))),
        };
        match option {
            "--kills" => options.kills = value()?,
            "--bases" => options.bases = value()?,
            "--records" => options.records = value()?,
            "--seed" => options.seed = value()?,
            "--fill" => options.fill = true,
            other => return Err(Error::Usage(format!("soak: what is '{other}'?"))),
        }
    }
    Ok(options)
}

/// A program, a model, an input, and what they give when nobody interrupts them.
struct Soak {
    folder: PathBuf,
    random: Random,
    bases: u64,
    jobs: u64,
}

/// An uninterrupted run.
struct Reference {
    bytes: Vec<u8>,
    time: Duration,
}

/// A folder with one job in it.
struct Job<'a> {
    soak: &'a Soak,
    folder: PathBuf,
    options: &'static [&'static str],
}

/// What was seen of one killed job, or of all.
#[derive(Default)]
struct Killed {
    kills: u64,
    /// Killed once more while resumed.
    again: u64,
    /// Before there was a checkpoint.
    early: u64,
    /// When the final file was there already.
    renamed: u64,
    equal: u64,
    leftovers: u64,
    /// Seconds of work that had to be done again, the most of all.
    lost: f64,
}

impl Killed {
    fn add(&mut self, one: &Self) {
        self.kills += one.kills;
        self.again += one.again;
        self.early += one.early;
        self.renamed += one.renamed;
        self.equal += one.equal;
        self.leftovers += one.leftovers;
        self.lost = self.lost.max(one.lost);
    }
}

/// How a job that was waited for ended.
struct Ended {
    status: ExitStatus,
    time: Duration,
    /// The lines that it wrote on stderr.
    said: String,
}

impl Soak {
    fn new(options: &Options) -> Result<Self> {
        let mut build = shell::cargo();
        shell::run(build.args(["build", "--release", "--quiet", "--package", "mamba-seq"]))?;
        let folder = shell::target_dir().join(format!("soak-{}", std::process::id()));
        make_folder(&folder)?;
        // A copy, because somebody may build again before the end.
        let built = shell::target_dir().join("release/mamba-seq");
        let program = folder.join("mamba-seq");
        fs::copy(&built, &program).map_err(|source| Error::Write { path: program, source })?;
        let mut random = Random(options.seed);
        write_model(&folder.join("model"), &mut random)?;
        let fasta = folder.join("x.fa").display().to_string();
        let number = |n: u64| n.to_string();
        let (bases, records, seed) = (number(options.bases), number(options.records), number(options.seed));
        synth::run(&["--bases", &bases, "--records", &records, "--seed", &seed, "-o", &fasta])?;
        Ok(Self { folder, random, bases: options.bases, jobs: 0 })
    }

    /// A new job. Its command line is that of every other one with the same options, because the
    /// output quotes it.
    fn job(&mut self, options: &'static [&'static str]) -> Result<Job<'_>> {
        self.jobs += 1;
        let folder = self.folder.join(format!("job{}", self.jobs));
        make_folder(&folder)?;
        Ok(Job { soak: self, folder, options })
    }

    fn reference(&mut self, options: &'static [&'static str]) -> Result<Reference> {
        let job = self.job(options)?;
        let ended = job.finish(Duration::from_secs(3600))?;
        let reference = Reference { bytes: read(&job.output())?, time: ended.time };
        println!(
            "uninterrupted: {:.2} s, {} bytes, {:.0} bases/s",
            ended.time.as_secs_f64(),
            reference.bytes.len(),
            job.soak.bases as f64 / ended.time.as_secs_f64(),
        );
        job.remove();
        Ok(reference)
    }

    /// SIGKILL at random moments. A job that ends wrong is kept, and the others go on.
    fn kill(&mut self, reference: &Reference, kills: u64) -> Result<()> {
        let start = Instant::now();
        let (mut killed, mut outran, mut failures) = (0, 0, Vec::new());
        let mut sum = Killed::default();
        while killed < kills {
            // Every tenth resumed run is killed too.
            match self.kill_one(reference, killed % 10 == 9) {
                Ok(None) => {
                    outran += 1;
                    continue;
                }
                Ok(Some(one)) => sum.add(&one),
                Err(error) => {
                    println!("  kill {}: {error}", killed + 1);
                    failures.push(error);
                }
            }
            killed += 1;
            if killed % 10 == 0 {
                println!("  {killed} kills, {} ends with equal files", sum.equal);
            }
        }
        println!(
            "{killed} jobs killed at a random moment ({outran} ended before it and were drawn again), \
             {} of them once more while resumed\n\
             killed before the first checkpoint: {}; after the final file was there, complete: {}\n\
             ends with the uninterrupted run's file, byte for byte: {} of {killed}\n\
             of these with temporary files of the killed run left in the folder: {}\n\
             worst loss: {:.2} s of work, as of progress lines 0.5 s apart\n\
             wall time: {:.0} s",
            sum.again,
            sum.early,
            sum.renamed,
            sum.equal,
            sum.leftovers,
            sum.lost,
            start.elapsed().as_secs_f64(),
        );
        match failures.len() {
            0 => Ok(()),
            n => Err(Error::Failed(format!("{n} of {killed} killed jobs did not end in the right file"))),
        }
    }

    /// One job, killed and resumed; `None` when it ended before the kill.
    fn kill_one(&mut self, reference: &Reference, twice: bool) -> Result<Option<Killed>> {
        let moment = reference.time.mul_f64(self.random.uniform());
        let second = twice.then(|| reference.time.mul_f64(0.7 * self.random.uniform()));
        let bases_a_second = self.bases as f64 / reference.time.as_secs_f64();
        let job = self.job(&[])?;
        let mut one = Killed::default();
        let mut done = 0;
        for moment in [Some(moment), second].into_iter().flatten() {
            let Some(said) = job.killed_after(moment)? else {
                job.same_as(reference, "a run that nobody killed")?;
                break;
            };
            one.kills += 1;
            if job.output().exists() {
                // Killed on its way out: then the file has to be complete.
                job.same_as(reference, "a file under the final name after a kill")?;
                one.renamed = 1;
            } else if one.kills == 1 && !job.checkpoint().exists() {
                one.early = 1;
            }
            // A run that was killed before its first line leaves what the one before it had done.
            done = last_bases(&said).unwrap_or(done);
        }
        if one.kills == 0 {
            job.remove();
            return Ok(None);
        }
        one.again = one.kills - 1;
        let ended = job.finish(reference.time * HANGS)?;
        job.same_as(reference, "the resumed run")?;
        one.equal = 1;
        one.leftovers = u64::from(job.left()?.contains(", "));
        if one.renamed == 0 {
            let resumed = resumed_from(&ended.said).unwrap_or(0);
            one.lost = done.saturating_sub(resumed) as f64 / bases_a_second;
        }
        job.remove();
        Ok(Some(one))
    }

    /// SIGTERM and SIGINT: saved and gone within two seconds.
    fn stop(&mut self, reference: &Reference) -> Result<()> {
        let (mut worst, mut count) = (Duration::ZERO, 0);
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let (mut stopped, mut share) = (0, 0.8);
            while stopped < STOPS {
                let moment = reference.time.mul_f64(share * (0.4 + 0.6 * self.random.uniform()));
                let job = self.job(&[])?;
                let mut child = job.start()?;
                let started = Instant::now();
                sleep(moment);
                let sent = Instant::now();
                shell::run(Command::new("kill").args([signal, &child.id().to_string()]))?;
                let ended = job.wait(&mut child, started, reference.time * HANGS)?;
                let took = sent.elapsed();
                worst = worst.max(took);
                let fail = |what: &str| {
                    Err(Error::Failed(format!("{signal} after {moment:.2?}: {what}\n{}", ended.said)))
                };
                if ended.status.success() && share > 0.2 {
                    // It was faster than the uninterrupted one, and ended before the signal.
                    job.same_as(reference, "a run that nobody stopped")?;
                    job.remove();
                    share *= 0.8;
                    continue;
                }
                if ended.status.code() != Some(code) {
                    return fail(&format!("{} instead of exit {code}", ended.status));
                }
                if took > STOP_LIMIT {
                    return fail(&format!("gone only after {took:.2?}"));
                }
                if job.output().exists() || !job.checkpoint().exists() {
                    return fail("a final file, or no checkpoint");
                }
                let ended = job.finish(reference.time * HANGS)?;
                if resumed_from(&ended.said).unwrap_or(0) == 0 {
                    return fail("the next run began afresh");
                }
                job.same_as(reference, "the resumed run")?;
                job.remove();
                stopped += 1;
                count += 1;
            }
        }
        println!(
            "{count} jobs stopped by SIGTERM and SIGINT: exit 143 and 130, saved in {:.2} s at most, resumed to equal files",
            worst.as_secs_f64()
        );
        Ok(())
    }

    /// A file system that fills up, at several moments of a job.
    fn fill(&mut self) -> Result<()> {
        let id = shell::output(Command::new("id").arg("-u"))?;
        if String::from_utf8_lossy(&id).trim() != "0" {
            println!("skipped: mounting a tmpfs needs root");
            return Ok(());
        }
        // Many rows, and their log, whose size is read while the reference runs.
        const OPTIONS: &[&str] = &["--pool", "mean", "--window", "50"];
        let reference = self.reference(OPTIONS)?;
        let rows_kib = (self.bases / 50 * 200) >> 10;
        let parquet_kib = (reference.bytes.len() as u64) >> 10;
        let bases = self.bases;
        // At once; half way through the log; while the Parquet file is made of a complete log.
        for (kib, when) in
            [(1024, "at once"), (rows_kib / 2, "half way"), (rows_kib + parquet_kib / 2, "at the end")]
        {
            let job = self.job(OPTIONS)?;
            let mount = Mount::new(&job.folder, kib)?;
            let ended = job.run(reference.time * HANGS)?;
            let errors = ended.said.lines().filter(|l| l.starts_with("error: ")).collect::<Vec<_>>();
            let fail =
                |what: &str| Err(Error::Failed(format!("{kib} KiB, full {when}: {what}\n{}", ended.said)));
            if ended.status.code() != Some(1) {
                return fail(&format!("{} instead of exit 1", ended.status));
            }
            let [error] = errors.as_slice() else { return fail("not one error line") };
            if !error.to_lowercase().contains("space") || error.contains("panicked") {
                return fail("the error line does not say what is wrong");
            }
            if job.output().exists() {
                return fail("a file under the final name");
            }
            println!("full {when} ({kib} KiB): {error}");
            println!("  left: {}", job.left()?);
            mount.grow()?;
            let ended = job.finish(reference.time * HANGS)?;
            job.same_as(&reference, "the resumed run")?;
            let from = resumed_from(&ended.said).unwrap_or(0);
            println!("  resumed from base {from} of {bases}, equal file; left: {}", job.left()?);
            drop(mount);
            job.remove();
        }
        Ok(())
    }
}

impl Job<'_> {
    fn output(&self) -> PathBuf {
        self.folder.join("out.parquet")
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.join("out.parquet.partial.checkpoint")
    }

    /// Outside of the folder, which may be full.
    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn start(&self) -> Result<Child> {
        let log = self.log();
        let write = |source| Error::Write { path: log.clone(), source };
        let log_file =
            OpenOptions::new().create(true).write(true).truncate(true).open(&log).map_err(write)?;
        let mut command = Command::new(self.soak.folder.join("mamba-seq"));
        command
            .args(["embed", "../x.fa", "-o", "out.parquet", "--model", "../model"])
            .args(["--resume", "-q", "--progress", "json"])
            .args(self.options)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file);
        command.spawn().map_err(|source| Error::Start { program: shell::text(&command), source })
    }

    /// Waits for the end; a job that hangs is killed and is an error.
    fn wait(&self, child: &mut Child, started: Instant, limit: Duration) -> Result<Ended> {
        let limit = limit.max(Duration::from_secs(60));
        loop {
            if let Some(status) = child.try_wait().map_err(cannot_wait)? {
                let time = started.elapsed();
                let said = String::from_utf8_lossy(&read(&self.log())?).into_owned();
                return Ok(Ended { status, time, said });
            }
            if started.elapsed() > limit {
                child.kill().map_err(cannot_wait)?;
                child.wait().map_err(cannot_wait)?;
                return Err(Error::Failed(format!("{} hangs", self.folder.display())));
            }
            sleep(Duration::from_millis(2));
        }
    }

    fn run(&self, limit: Duration) -> Result<Ended> {
        let mut child = self.start()?;
        self.wait(&mut child, Instant::now(), limit)
    }

    /// Runs to a successful end.
    fn finish(&self, limit: Duration) -> Result<Ended> {
        let ended = self.run(limit)?;
        if ended.status.success() {
            return Ok(ended);
        }
        let folder = self.folder.display();
        Err(Error::Failed(format!("{folder}: {}\n{}left: {}", ended.status, ended.said, self.left()?)))
    }

    /// Runs for that long and is killed; what it said, or `None` when it was faster.
    fn killed_after(&self, moment: Duration) -> Result<Option<String>> {
        let mut child = self.start()?;
        sleep(moment);
        // SIGKILL on Unix; nothing at all when it has ended.
        child.kill().map_err(cannot_wait)?;
        let status = child.wait().map_err(cannot_wait)?;
        let said = String::from_utf8_lossy(&read(&self.log())?).into_owned();
        match status.code() {
            None => Ok(Some(said)),
            Some(0) => Ok(None),
            Some(_) => {
                Err(Error::Failed(format!("{}: {status} before the kill\n{said}", self.folder.display())))
            }
        }
    }

    fn same_as(&self, reference: &Reference, what: &str) -> Result<()> {
        match read(&self.output())? == reference.bytes {
            true => Ok(()),
            false => Err(Error::Failed(format!(
                "{}: {what} is not the uninterrupted one's",
                self.folder.display()
            ))),
        }
    }

    /// Names and sizes of what is in the folder.
    fn left(&self) -> Result<String> {
        let source = |source| Error::Start { program: self.folder.display().to_string(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(source)? {
            let entry = entry.map_err(source)?;
            let bytes = entry.metadata().map_err(source)?.len();
            names.push(format!("{} ({bytes} bytes)", entry.file_name().to_string_lossy()));
        }
        names.sort();
        Ok(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
    }

    fn remove(self) {
        fs::remove_dir_all(&self.folder).ok();
        fs::remove_file(self.log()).ok();
    }
}

/// `resumed_from` of the first progress line.
fn resumed_from(said: &str) -> Option<u64> {
    progress(said).find_map(|line| line["resumed_from"].as_u64())
}

/// `bases_done` of the last progress line.
fn last_bases(said: &str) -> Option<u64> {
    progress(said).filter_map(|line| line["bases_done"].as_u64()).last()
}

fn progress(said: &str) -> impl Iterator<Item = Value> {
    // The last line may have been cut off by the kill.
    said.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::Failed(format!("cannot read {}: {source}", path.display())))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn cannot_wait(source: std::io::Error) -> Error {
    Error::Failed(format!("cannot wait for a job: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = parse(&["--kills", "7", "--seed", "3", "--fill"]).unwrap();
        assert_eq!((options.kills, options.bases, options.seed, options.fill), (7, 4_600_000, 3, true));
        for args in [&["--kills"][..], &["--kills", "x"], &["--kill", "7"]] {
            assert!(matches!(parse(args), Err(Error::Usage(_))), "{args:?}");
        }
    }

    #[test]
    fn progress_lines_may_be_cut_off() {
        let said = "{\"resumed_from\": 5, \"bases_done\": 6}\nnote: x\n{\"bases_done\": 9}\n{\"bases_do";
        assert_eq!((resumed_from(said), last_bases(said)), (Some(5), Some(9)));
        assert_eq!((resumed_from(""), last_bases("{")), (None, None));
    }
}
