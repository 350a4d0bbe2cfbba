//! What the program makes of a CUDA driver's answers, on a machine without a GPU: `fake_driver.c` is compiled and put before
//! any real driver. Its kernels do nothing, so rows are no embeddings here: backend suites tell about these, on a device.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::{TempDir, tempdir};

use crate::common::{golden_model, letters, metadata, rows};

/// A folder with the fake driver, the only CUDA library that the program finds.
struct Fake {
    folder: TempDir,
}

/// Exit code and standard error, without blank ends.
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Fake {
    /// `None`, said aloud, without a C compiler.
    fn new() -> Option<Self> {
        let fake = Self { folder: tempdir().unwrap() };
        fake.compile("fake_driver.c", "libcuda.so").then_some(fake)
    }

    /// With the fake compiler beside it.
    fn with_nvrtc() -> Option<Self> {
        let fake = Self::new()?;
        fake.compile("fake_nvrtc.c", "libnvrtc.so").then_some(fake)
    }

    /// `false`, said aloud, without a C compiler.
    #[allow(clippy::print_stderr, reason = "skips are said aloud")]
    fn compile(&self, source: &str, library: &str) -> bool {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(source);
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-w", "-O1", "-o"]).arg(self.path().join(library)).arg(source);
        match cc.output() {
            Ok(out) if out.status.success() => true,
            Ok(out) => panic!("{}", String::from_utf8_lossy(&out.stderr)),
            Err(_) => {
                mseq_testkit::aloud("skipped: the fake driver needs a C compiler");
                false
            }
        }
    }

    /// Runs a command, and gives its answer and the compilations of that run, a line each.
    fn compiles(&self, settings: &[(&str, &str)], args: &[&str]) -> (Answer, Vec<String>) {
        let log = self.path().join("compilations");
        let cache = self.path().join("cache");
        let own = [("FAKE_NVRTC_LOG", log.to_str().unwrap()), ("MSEQ_CACHE_DIR", cache.to_str().unwrap())];
        let answer = self.run(&[settings, &own].concat(), args);
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(log);
        (answer, lines.lines().map(str::to_owned).collect())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, settings: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mamba-seq"));
        command.args(args).current_dir(self.path()).env("LD_LIBRARY_PATH", self.path());
        // Libraries of a toolkit would be given the fake's addresses.
        command.env("MSEQ_NO_CUBLAS", "1").env("PATH", self.path()).env("HOME", self.path());
        command.envs(settings.iter().copied());
        command
    }

    fn run(&self, settings: &[(&str, &str)], args: &[&str]) -> Answer {
        let out = self.command(settings, args).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Answer { code: out.status.code(), out: text(&out.stdout), err: text(&out.stderr) }
    }

    /// A long record, then many short ones.
    fn fasta(&self, long: usize, short: usize) {
        let mut text = format!(">long\n{}\n", letters(1, long));
        (0..short).for_each(|i| text += &format!(">s{i}\n{}\n", letters(i as u32, 50)));
        std::fs::write(self.path().join("x.fa"), text).unwrap();
    }

    /// Runs `embed` of `x.fa` on the device with a small model.
    fn embed(&self, settings: &[(&str, &str)], more: &[&str]) -> Answer {
        let model = golden_model("d29-n4-k2-e1");
        let args = ["embed", "x.fa", "-o", "o.parquet", "--model", &model];
        self.run(settings, &[&args[..], more].concat())
    }

    /// Whether nothing is under the final name.
    fn no_output(&self) -> bool {
        !self.path().join("o.parquet").exists()
    }
}

impl Answer {
    /// One clear line with these words, and an exit code.
    #[track_caller]
    fn fails(&self, code: i32, words: &[&str]) {
        let errors: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((self.code, errors.len()), (Some(code), 1), "{}", self.err);
        for word in words {
            assert!(errors[0].contains(word), "'{word}' is not in: {}", errors[0]);
        }
        assert!(!self.err.contains("panic"), "{}", self.err);
    }
}

const ON: [&str; 3] = ["--device", "cuda", "-q"];

#[test]
fn a_driver_without_a_device() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(500, 0);
    let none = [("FAKE_DEVICES", "0")];
    fake.embed(&none, &ON).fails(1, &["device cuda", "shows no device", "mamba-seq doctor", "--device cpu"]);
    assert!(fake.no_output());
    // Left to the program, the CPU runs.
    let auto = fake.embed(&none, &[]);
    assert_eq!(auto.code, Some(0), "{}", auto.err);
    assert!(auto.err.contains("running on cpu") && auto.err.contains("shows no device"), "{}", auto.err);
    assert_eq!(metadata(&fake.path().join("o.parquet"))["dtype"], "f32");
    let doctor = fake.run(&none, &["doctor"]);
    assert!(doctor.code == Some(0) && doctor.out.contains("CUDA_VISIBLE_DEVICES"), "{}", doctor.out);
}

#[test]
fn a_device_that_does_not_exist() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(500, 0);
    let two = [("FAKE_DEVICES", "2")];
    for device in ["cuda:2", "cuda:0,2"] {
        fake.embed(&two, &["--device", device, "-q"]).fails(1, &["there is no cuda:2: this machine has 2"]);
    }
    fake.run(&two, &["models", "verify", "mamba-dna-1m", "--device", "cuda:7"]).fails(1, &["no cuda:7"]);
    assert!(fake.no_output());
}

#[test]
fn a_driver_that_is_older_than_the_kernels() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(500, 0);
    for (code, name) in
        [("209", "NO_BINARY_FOR_GPU"), ("222", "UNSUPPORTED_PTX_VERSION"), ("200", "INVALID_IMAGE")]
    {
        let old = [("FAKE_LOAD", code)];
        let words = [
            "does not take the built-in kernels",
            name,
            "update the driver",
            "--device cpu",
            "NVRTC was not found",
        ];
        fake.embed(&old, &ON).fails(1, &words);
        assert!(fake.no_output());
        let doctor = fake.run(&old, &["doctor"]);
        assert!(doctor.code == Some(0) && doctor.out.contains("update the driver"), "{}", doctor.out);
    }
}

#[test]
fn nothing_but_the_driver() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(500, 0);
    let ran = fake.embed(&[], &["--device", "cuda"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("running on cuda:0 (Fake, sm_90), bf16"), "{}", ran.err);
    let doctor = fake.run(&[], &["doctor"]);
    for part in
        ["cuda:0 (Fake, sm_90)", "kernels built in (sm_90)", "pip install nvidia-cublas-cu12", "nvrtc"]
    {
        assert!(doctor.out.contains(part), "{part}: {}", doctor.out);
    }
    // PTX, as a card that is newer than the kernels takes it.
    let ptx = fake.run(&[("MSEQ_NO_CUBIN", "1")], &["doctor"]);
    assert!(ptx.out.contains("kernels built in (compute_80)"), "{}", ptx.out);
    // Kernels that do nothing do not pass for kernels.
    for args in [
        &["doctor", "--verify", "--device", "cuda"][..],
        &["models", "verify", "mamba-dna-1m", "--device", "cuda"],
    ] {
        let verify = fake.run(&[], args);
        assert_eq!(verify.code, Some(1), "{args:?} {}", verify.err);
        assert!(verify.out.contains("bf16") && verify.out.contains("FAILED"), "{}", verify.out);
    }
}

#[test]
fn steps_are_halved_until_they_fit() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(500, 0);
    let shared = [("FAKE_MEMORY", "1000000000"), ("FAKE_OTHERS", "950000000")];
    let ran = fake.embed(&shared, &["--device", "cuda"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let note =
        ran.err.lines().find(|line| line.contains("the device has not the memory")).unwrap_or_default();
    let chunk: usize = metadata(&fake.path().join("o.parquet"))["chunk"].parse().unwrap();
    assert!((4096..1 << 18).contains(&chunk) && chunk.is_power_of_two(), "{chunk}");
    assert!(note.ends_with(&format!("steps of {chunk} tokens")), "{}", ran.err);
    std::fs::remove_file(fake.path().join("o.parquet")).unwrap();
    // Too little for anything.
    fake.embed(&[("FAKE_MEMORY", "1000000000"), ("FAKE_OTHERS", "999900000")], &ON)
        .fails(1, &["out of memory", "--chunk"]);
    assert!(fake.no_output());
}

/// A run that fails after its first checkpoint: launches take long enough for one to come.
fn broken(fake: &Fake, how: &str, dtype: &str) -> Answer {
    let settings = [(how, "600"), ("FAKE_LAUNCH_US", "3000")];
    fake.embed(&settings, &[&ON[..], &["--dtype", dtype, "--window", "100", "--chunk", "1024"]].concat())
}

#[test]
fn memory_that_ends_in_the_middle() {
    let Some(fake) = Fake::new() else { return };
    // Many records in a step close more windows than the long one did: there is more to allocate.
    fake.fasta(60_000, 400);
    let ran = broken(&fake, "FAKE_OOM_AFTER", "f32");
    ran.fails(
        1,
        &["out of memory", "smaller --chunk", "the work so far is in o.parquet.partial", "--resume"],
    );
    assert!(fake.no_output());
    let resumed = fake
        .embed(&[], &["--device", "cuda", "--dtype", "f32", "--window", "100", "--chunk", "512", "--resume"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.err);
    assert_eq!(rows(&fake.path().join("o.parquet")).len(), 600 + 400);
    assert_eq!(std::fs::read_dir(fake.path()).unwrap().filter(|e| partial(e.as_ref().unwrap())).count(), 0);
}

fn partial(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().contains("partial")
}

#[test]
fn a_device_that_fails_in_the_middle() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(60_000, 0);
    for (how, word) in
        [("FAKE_FAIL_AFTER", "CUDA_ERROR_LAUNCH_FAILED"), ("MSEQ_FAULT_AFTER", "fault after 600")]
    {
        let ran = broken(&fake, how, "f32");
        ran.fails(1, &["cuda:0", word, "the work so far is in o.parquet.partial", "--resume"]);
        assert!(fake.no_output());
        // The CPU has f32 too.
        let resumed = fake.embed(&[], &["--device", "cpu", "--window", "100", "--resume"]);
        assert_eq!(resumed.code, Some(0), "{}", resumed.err);
        assert_eq!(rows(&fake.path().join("o.parquet")).len(), 600);
        std::fs::remove_file(fake.path().join("o.parquet")).unwrap();
    }
}

#[test]
fn a_narrow_job_does_not_go_on_where_its_type_is_not() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(60_000, 0);
    broken(&fake, "FAKE_FAIL_AFTER", "bf16").fails(1, &["o.parquet.partial", "--resume"]);
    let kept = std::fs::read(fake.path().join("o.parquet.partial")).unwrap();
    let window = ["--window", "100", "--resume", "-q"];
    fake.embed(&[], &[&["--device", "cpu"][..], &window].concat())
        .fails(1, &["another job", "dtype", "bf16"]);
    fake.embed(&[], &[&["--device", "cpu", "--dtype", "bf16"][..], &window].concat())
        .fails(2, &["--dtype bf16", "f32 only"]);
    fake.embed(&[], &[&["--device", "cuda", "--dtype", "f16"][..], &window].concat())
        .fails(1, &["dtype", "bf16"]);
    // Nothing of it is lost by that.
    assert_eq!(std::fs::read(fake.path().join("o.parquet.partial")).unwrap(), kept);
    let resumed = fake.embed(&[], &[&["--device", "cuda"][..], &window].concat());
    assert_eq!(resumed.code, Some(0), "{}", resumed.err);
}

#[test]
fn records_over_several_devices_and_two_engines_on_one() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(3000, 40);
    for (devices, names) in [
        ("cuda:all", "cuda:0 (Fake, sm_90), cuda:1 (Fake, sm_90)"),
        ("cuda:1,1", "cuda:1 (Fake, sm_90), cuda:1 (Fake, sm_90)"),
    ] {
        let ran = fake.embed(&[("FAKE_DEVICES", "2")], &["--device", devices, "--window", "100", "-q"]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let file = fake.path().join("o.parquet");
        assert_eq!(metadata(&file)["device"], names);
        let places: Vec<(u64, u64)> = rows(&file).iter().map(|row| (row.record_index, row.start)).collect();
        let want = (0..30).map(|i| (0, 100 * i)).chain((1..=40).map(|record| (record, 0)));
        assert_eq!(places, want.collect::<Vec<_>>());
        std::fs::remove_file(file).unwrap();
    }
}

/// What was said of kernels for any shape.
fn slower(answer: &Answer) -> Vec<&str> {
    answer.err.lines().filter(|line| line.contains("which are slower")).collect()
}

#[test]
fn kernels_for_an_odd_shape_are_compiled_once() {
    let Some(fake) = Fake::with_nvrtc() else { return };
    fake.fasta(500, 3);
    let model = golden_model("d29-n4-k2-e1");
    let job = ["embed", "x.fa", "-o", "o.parquet", "--model", &model, "--device", "cuda"];
    let run = |settings: &[(&str, &str)], args: &[&str]| {
        let _ = std::fs::remove_file(fake.path().join("o.parquet"));
        let (answer, lines) = fake.compiles(settings, args);
        assert_eq!(answer.code, Some(0), "{}", answer.err);
        (answer, lines)
    };
    let (first, lines) = run(&[], &job);
    assert!(slower(&first).is_empty(), "{}", first.err);
    assert!((3..=4).contains(&lines.len()), "{lines:?}");
    for line in &lines {
        assert!(line.contains("--gpu-architecture=sm_90 ") && line.contains("-DSTORAGE_BF16"), "{line}");
        assert!(line.contains("-DD_STATE=") || line.contains("-DD_CONV=2"), "{line}");
    }
    assert!(lines.iter().any(|line| line.contains("selective_scan_fwd.cu")), "{lines:?}");
    // A hit, another arithmetic, an entry that a crash cut off.
    assert_eq!(run(&[], &job).1, Vec::<String>::new());
    assert_eq!(run(&[], &[&job[..], &["--dtype", "f32"]].concat()).1.len(), lines.len());
    let cache = fake.path().join("cache");
    let entries = || std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(entries().count(), 2 * lines.len());
    assert!(entries().all(|path| path.extension().is_some_and(|kind| kind == "cubin")));
    let scan = entries().find(|path| path.to_string_lossy().contains("scan_fwd")).unwrap();
    std::fs::write(&scan, &std::fs::read(&scan).unwrap()[..20]).unwrap();
    let again = run(&[], &job).1.len() + run(&[], &[&job[..], &["--dtype", "f32"]].concat()).1.len();
    assert_eq!(again, 1);
    // Generation takes the same ones.
    let text = ["generate", "--prompt-text", "ACGT", "--tokens", "3", "--model", &model, "--device", "cuda"];
    assert_eq!(fake.compiles(&[], &text).1, Vec::<String>::new());

    let (doctor, _) = run(&[], &["doctor"]);
    let line = doctor.out.lines().find(|line| line.starts_with("compiled")).unwrap();
    assert!(line.contains("cache: ") && line.contains("selective_scan_fwd.d_state"), "{line}");
    assert!(line.contains(".bf16.sm_90") && line.contains(".f32.sm_90"), "{line}");

    std::fs::remove_dir_all(&cache).unwrap();
    // The shape of the built-in kernels asks for none, and one may do without.
    let usual = ["embed", "x.fa", "-o", "o.parquet", "--device", "cuda"];
    assert_eq!(run(&[], &usual).1, Vec::<String>::new());
    let (off, lines) = run(&[("MSEQ_NO_SPECIALIZE", "1")], &job);
    assert!(lines.is_empty() && slower(&off).is_empty(), "{}", off.err);
    // What does not compile leaves the kernels for any shape, and one note.
    let (failed, _) = run(&[("FAKE_NVRTC_FAIL", "-DD_")], &job);
    let notes = slower(&failed);
    assert_eq!(notes.len(), 1, "{}", failed.err);
    assert!(notes[0].starts_with("note: ") && notes[0].contains("the fake does not like"), "{}", notes[0]);
    assert!(!cache.exists() || entries().count() == 0);
}

/// The first step runs; what it launches is recorded, and every other step is the launch of that one graph.
#[test]
fn a_step_of_generation_is_one_launch() {
    let Some(fake) = Fake::new() else { return };
    let counts = fake.path().join("counts");
    let run = |tokens: &str| -> [u64; 3] {
        let args = ["generate", "--prompt-text", "ACGT", "--tokens", tokens, "-o", "o.fa", "-q"];
        let ran = fake
            .run(&[("FAKE_COUNTS", counts.to_str().unwrap())], &[&args[..], &["--device", "cuda"]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let text = std::fs::read_to_string(&counts).unwrap();
        let counts: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        counts.try_into().unwrap()
    };
    let ([kernels, recorded, graphs], longer) = (run("10"), run("2010"));
    assert!(recorded > 20 && kernels >= recorded, "{kernels} {recorded}");
    assert_eq!(graphs, 10 - 1);
    assert_eq!(longer, [kernels, recorded, graphs + 2000]);
}

#[test]
fn without_a_compiler_kernels_for_any_shape_run() {
    let Some(fake) = Fake::new() else { return };
    fake.fasta(500, 0);
    let ran = fake.embed(&[], &["--device", "cuda"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let notes = slower(&ran);
    // A machine may have the library where every program finds it.
    assert!(notes.len() <= 1, "{}", ran.err);
    assert!(notes.iter().all(|note| note.contains("pip install nvidia-cuda-nvrtc")), "{}", ran.err);
}

#[test]
fn every_command_with_a_device_takes_kernels_from_a_folder() {
    let Some(fake) = Fake::with_nvrtc() else { return };
    fake.fasta(500, 3);
    std::fs::create_dir(fake.path().join("mine")).unwrap();
    std::fs::create_dir(fake.path().join("none")).unwrap();
    std::fs::write(fake.path().join("mine/norm_fwd.cu"), "// mine").unwrap();
    let vcf = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    std::fs::write(fake.path().join("v.vcf"), vcf).unwrap();
    let from = ["--device", "cuda", "--dtype", "f32", "--kernels-from", "mine"];
    for args in [
        &["embed", "x.fa", "-o", "1.parquet"][..],
        &["score", "x.fa", "-o", "2.parquet"],
        &["generate", "--prompt-text", "ACGT", "--tokens", "2", "-o", "3.fa"],
        &["variants", "v.vcf", "--reference", "x.fa", "-o", "4.parquet"],
        &["bench", "--shape", "32x1", "--tokens", "1000", "--repeats", "1"],
        &["models", "verify", "mamba-dna-1m", "--tokens", "50"],
    ] {
        let _ = std::fs::remove_dir_all(fake.path().join("cache"));
        let (answer, lines) = fake.compiles(&[], &[args, &from].concat());
        let mine = lines.iter().filter(|line| line.contains("norm_fwd.cu")).count();
        assert!(mine >= 1, "{args:?}: {lines:?} {}", answer.err);
        let others = lines.iter().filter(|line| !line.contains("norm_fwd.cu") && !line.contains("-DD_"));
        assert_eq!(others.count(), 0, "{args:?}: {lines:?}");
    }
    let classify = ["classify", "x.fa", "--help"];
    let enhance = ["enhance", "--help"];
    for args in [&classify[..], &enhance, &["embed", "--help"], &["models", "verify", "--help"]] {
        let help = fake.run(&[], args).out;
        let (_, developer) = help.split_once("Developer options").unwrap_or_default();
        assert!(developer.contains("--kernels-from <DIR>"), "{help}");
    }
    // A folder that is not there, or holds nothing of ours, or a device without kernels.
    fake.embed(&[], &["--device", "cuda", "-q", "--kernels-from", "nowhere"])
        .fails(1, &["--kernels-from nowhere"]);
    fake.embed(&[], &["--device", "cuda", "-q", "--kernels-from", "none"])
        .fails(1, &["holds no kernel", "norm_fwd.cu"]);
    fake.embed(&[], &["--device", "cpu", "-q", "--kernels-from", "mine"])
        .fails(2, &["--kernels-from mine", "only a CUDA device"]);
    fake.run(&[], &["doctor", "--verify", "--device", "cuda", "--kernels-from", "none"])
        .fails(1, &["holds no kernel"]);
    fake.run(&[], &["doctor", "--kernels-from", "mine"]).fails(2, &["needs --verify"]);
    assert!(fake.no_output());
}
