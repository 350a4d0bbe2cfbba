//! `variants` as a job: stopped and resumed, compressed, piped, and on files that are not quite VCF.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{
    Ran, golden_model, kill_at_checkpoint, letters, mamba_seq, mamba_seq_with_input, metadata,
};
use crate::variants::{Effect, effects};

const SMALL: &str = "d29-n4-k2-e1";
const HEADER: &str = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

fn run(folder: &Path, more: &[&str]) -> Ran {
    let model = golden_model(SMALL);
    let args = ["variants", "v.vcf", "--reference", "r.fa", "--model", &model, "--device", "cpu"];
    mamba_seq(folder, &[&args[..], more].concat())
}

/// A reference of two contigs, and SNVs and indels on both, out of order within a contig.
fn many(folder: &Path, bases: usize, every: usize) {
    let contigs = [letters(11, bases), letters(12, bases / 2)];
    fs::write(folder.join("r.fa"), format!(">a\n{}\n>b\n{}\n", contigs[0], contigs[1])).unwrap();
    let mut vcf = HEADER.to_owned();
    for (name, contig) in ["a", "b"].into_iter().zip(&contigs) {
        let mut places: Vec<usize> = (0..contig.len() - 3).step_by(every).collect();
        places.reverse();
        for (i, at) in places.into_iter().enumerate() {
            let (len, alt) = [(1, "A"), (1, "T,CAG"), (3, "G"), (1, "<DEL>")][i % 4];
            vcf += &format!("{name}\t{}\t.\t{}\t{alt}\t.\t.\t.\n", at + 1, &contig[at..at + len]);
        }
    }
    fs::write(folder.join("v.vcf"), vcf).unwrap();
}

/// Nothing but these is left of a run.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_killed_or_stopped_run_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    many(folder, 40_000, 25);
    let options = ["--strand", "both", "--window", "700"];
    let ran = run(folder, &[&options[..], &["-q", "-o", "whole.parquet"]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let whole = effects(&folder.join("whole.parquet"));
    assert!(whole.len() > 4000, "{}", whole.len());
    let model = golden_model(SMALL);
    let command = |chunk: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mamba-seq"));
        command.args(["variants", "v.vcf", "--reference", "r.fa", "--model", &model, "--device", "cpu"]);
        command.args(["-o", "out.parquet", "--chunk", chunk]).args(options).args(more).current_dir(folder);
        command
    };
    // Killed twice, each time with other steps.
    let checkpoint = folder.join("out.parquet.partial.checkpoint");
    kill_at_checkpoint(&mut command("64", &[]), &checkpoint);
    kill_at_checkpoint(&mut command("50", &["--resume", "--threads", "1"]), &checkpoint);
    assert!(!folder.join("out.parquet").exists() && folder.join("out.parquet.partial").exists());
    // Another job is refused, by name, and does not disturb this one.
    for (more, want) in [
        (&["--window", "9", "--strand", "both"][..], "window was '700' and is '9'"),
        (&["--window", "700"], "strand was 'both' and is 'forward'"),
    ] {
        let ran = run(folder, &[more, &["-q", "--resume", "-o", "out.parquet"]].concat());
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(want), "{}", ran.stderr);
    }
    let vcf = fs::read_to_string(folder.join("v.vcf")).unwrap();
    fs::write(folder.join("v.vcf"), vcf.replace(",CAG", ",CAT")).unwrap();
    let ran = run(folder, &[&options[..], &["-q", "--resume", "-o", "out.parquet"]].concat());
    assert!(ran.code == 1 && ran.stderr.contains("input_crc32 was"), "{}", ran.stderr);
    fs::write(folder.join("v.vcf"), vcf).unwrap();
    // SIGTERM saves and says so.
    #[cfg(unix)]
    {
        let child =
            command("64", &["--resume"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stamp = || fs::metadata(&checkpoint).and_then(|m| m.modified()).ok();
        let (before, start) = (stamp(), std::time::Instant::now());
        while stamp() == before && start.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(143), "{said}");
        let want =
            "error: terminated (SIGTERM); the work so far is in out.parquet.partial: add --resume to go on";
        assert_eq!(said.lines().last().unwrap(), want);
    }
    let ran = run(folder, &[&options[..], &["-q", "--resume", "-o", "out.parquet"]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(effects(&folder.join("out.parquet")), whole);
    assert_eq!(names(folder), ["out.parquet", "r.fa", "v.vcf", "whole.parquet"]);
    let said = metadata(&folder.join("out.parquet"));
    for (key, want) in [
        ("task", "variants"),
        ("model", model.as_str()),
        ("modality", "dna"),
        ("window", "700"),
        ("stride", "none"),
        ("strand", "both"),
        ("pool", "mean"),
        ("layer", "last"),
        ("context", "whole"),
        ("overlap", "0"),
        ("dtype", "f32"),
        ("seed", "none"),
    ] {
        assert_eq!(said[key], want, "{key}");
    }
    for key in ["version", "command", "model_sha256", "device", "chunk"] {
        assert!(said.contains_key(key), "{key}");
    }
}

#[test]
fn compressed_and_piped_files_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    many(folder, 600, 40);
    let ran = run(folder, &["-q", "-o", "plain.vcf"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let plain = fs::read(folder.join("plain.vcf")).unwrap();
    let ran = run(folder, &["-q", "-o", "x.vcf.gz"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    // BGZF: the extra field of its blocks, and the empty one at the end.
    let bytes = fs::read(folder.join("x.vcf.gz")).unwrap();
    assert_eq!((&bytes[..4], &bytes[12..14]), (&b"\x1f\x8b\x08\x04"[..], &b"BC"[..]));
    assert_eq!(bytes[bytes.len() - 28..][..4], bytes[..4]);
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain);
    // The file annotated again has the same values once, not twice.
    fs::rename(folder.join("v.vcf"), folder.join("first.vcf")).unwrap();
    fs::rename(folder.join("x.vcf.gz"), folder.join("v.vcf")).unwrap();
    let ran = run(folder, &["-q", "-o", "again.vcf"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(fs::read(folder.join("again.vcf")).unwrap(), plain);
    // Standard input is read twice all the same.
    let vcf = fs::read(folder.join("first.vcf")).unwrap();
    let model = golden_model(SMALL);
    let args = ["variants", "-", "--reference", "r.fa", "--model", &model, "--device", "cpu", "-q"];
    let ran = mamba_seq_with_input(folder, &[&args[..], &["-o", "piped.vcf"]].concat(), &vcf);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(fs::read(folder.join("piped.vcf")).unwrap(), plain);
    let ran = mamba_seq_with_input(folder, &args, &vcf);
    assert!(ran.code == 2 && ran.stderr.contains("-o PATH"), "{}", ran.stderr);
    // A BGZF file that was cut is no whole VCF, and an input is never its own output.
    fs::write(folder.join("v.vcf"), &bytes[..bytes.len() - 30]).unwrap();
    let ran = run(folder, &["-q", "-o", "cut.vcf"]);
    assert!(ran.code == 1 && ran.stderr.starts_with("error: v.vcf: "), "{}", ran.stderr);
    let ran = run(folder, &["-q", "-o", "v.vcf"]);
    assert!(ran.code == 2 && ran.stderr.contains("is the input"), "{}", ran.stderr);
    assert_eq!(names(folder), ["again.vcf", "first.vcf", "piped.vcf", "plain.vcf", "r.fa", "v.vcf"]);
}

#[test]
fn every_record_that_does_not_fit_is_named_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("r.fa"), ">c1\nACGTNRacgt\n>c2\nACGGT\n").unwrap();
    let lines = [
        "c2\t3\t.\tG\tA\t.\t.\tDP=1",
        "c1\t3\t.\tT\tA\t.\t.\t.",
        "what is this\tline",
        "c2\t1\t.\tA\tC\t.\t.\t.",
        "c1\t9\t.\tGTT\tG\t.\t.\t.",
        "c1\t0\t.\tA\tG\t.\t.\t.",
        "c1\t1\t.\tA\tG,<DUP>\t.\t.\t.",
        "chrUn\t5\t.\tA\tG\t.\t.\t.",
        "c1\t5\t.\tN\tA\t.\t.\t.",
        "c1\t4\t.\tT\tTQ\t.\t.\t.",
    ];
    // No contig in the header, and lines that end as on Windows.
    fs::write(folder.join("v.vcf"), format!("{HEADER}{}\r\n", lines.join("\r\n"))).unwrap();
    let ran = run(folder, &["-q", "-o", "x.vcf"]);
    assert_eq!(ran.code, 1);
    let want = "error: v.vcf: 6 records can't be scored: line 4: REF T at c1:3 where the reference has G; line 5: fewer \
                than the 8 columns of VCF, which are separated by tabs; line 7: c1:9 is past the end of its 10 bases; \
                line 8: POS is not a number from 1 on; line 10: no contig 'chrUn'; line 12: ALT 'TQ' is neither \
                nucleotide codes nor a symbol; mend them, name the reference of this VCF or use --on-bad-record skip\n";
    assert_eq!(ran.stderr, want);
    assert_eq!(names(folder), ["r.fa", "v.vcf"]);
    let ran = run(folder, &["-o", "x.vcf", "--on-bad-record", "skip"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let last = ran.stderr.lines().last().unwrap();
    let want = "x.vcf: 4 rows, 1 symbolic allele skipped, 6 bad records skipped (lines are as they were); ";
    assert!(last.starts_with(want), "{last}");
    let text = fs::read_to_string(folder.join("x.vcf")).unwrap();
    let found: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(found.len(), lines.len());
    for (i, (line, was)) in found.iter().zip(lines).enumerate() {
        if [0, 3, 6, 8].contains(&i) {
            assert!(line.contains("MSEQ_LLR="), "{line}");
        } else {
            assert_eq!(*line, was);
        }
    }
    let ran = run(folder, &["-q", "-o", "x.parquet", "--on-bad-record", "skip"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let index = |e: &Effect| e.key.0;
    assert_eq!(effects(&folder.join("x.parquet")).iter().map(index).collect::<Vec<_>>(), [0, 3, 6, 8]);
    // A letter that is none shows when the contig is run.
    fs::write(folder.join("r.fa"), ">c1\nACGTNRacgt\n>c2\nACGG!\n").unwrap();
    let ran = run(folder, &["-q", "-o", "y.vcf", "--on-bad-record", "skip"]);
    assert!(ran.code == 1 && ran.stderr.contains("record 'c2': byte 0x21 '!'"), "{}", ran.stderr);
    assert!(!folder.join("y.vcf").exists() && !folder.join("y.vcf.partial").exists());
    // No record at all is a file without rows.
    fs::write(folder.join("v.vcf"), HEADER).unwrap();
    for out in ["none.parquet", "none.vcf"] {
        let ran = run(folder, &["-q", "-o", out]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    }
    assert_eq!(effects(&folder.join("none.parquet")), []);
}

#[test]
fn a_dry_run_counts_and_progress_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    many(folder, 5000, 50);
    let ran = run(folder, &["--dry-run", "--strand", "both", "--window", "100"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(said.contains("records  150 on 2 contigs, 0 of them bad\n"), "{said}");
    assert_eq!(names(folder), ["r.fa", "v.vcf"]);
    let tokens = said.lines().find_map(|line| line.strip_prefix("tokens")).unwrap().trim().replace(',', "");
    let rows = said.lines().find_map(|line| line.strip_prefix("rows")).unwrap().trim().to_owned();
    let ran =
        run(folder, &["-q", "--progress", "json", "--strand", "both", "--window", "100", "-o", "x.parquet"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<serde_json::Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (&lines[0], lines.last().unwrap());
    assert_eq!((first["event"].as_str(), first["resumed_from"].as_u64()), (Some("start"), Some(0)));
    assert_eq!((last["event"].as_str(), last["record"].as_str()), (Some("done"), Some("b")));
    // What was counted before is what ran.
    assert_eq!((last["bases_done"].to_string(), last["bases_total"].to_string()), (tokens.clone(), tokens));
    assert_eq!(last["rows"].to_string(), rows.replace(',', ""));
    for option in [&["--shard", "1/2"][..], &["-o", "-"], &["-o", "x.csv"]] {
        let ran = run(folder, option);
        assert!(ran.code == 2 && ran.stderr.starts_with("error: "), "{option:?}: {}", ran.stderr);
    }
    // A pipe with a reader gets the file as it is.
    #[cfg(target_os = "linux")]
    {
        let path = folder.join("fifo.vcf");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        let ran = run(folder, &["-q", "-o", "fifo.vcf"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let ran = run(folder, &["-q", "-o", "file.vcf"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(reader.join().unwrap(), fs::read_to_string(folder.join("file.vcf")).unwrap());
    }
}
