//! `--regions`, `--strand`, `--combine-strands`: what they refuse, and what a dry run says of them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::fasta::{Wrapping, fai};
use crate::common::{Ran, golden_model, mamba_seq, metadata, rows};

const SMALL: &str = "d29-n4-k2-e1";
const FASTA: &str = ">chr1\nACGTACGTAC\nGGCCA\n>chr2\nTTTT\n>chr3\n\n";

/// Runs `embed x.fa` on these intervals.
fn embed(folder: &Path, bed: &str, options: &[&str]) -> Ran {
    std::fs::write(folder.join("x.bed"), bed).unwrap();
    let model = golden_model(SMALL);
    let args = ["embed", "x.fa", "-o", "out.parquet", "--model", &model, "--regions", "x.bed"];
    mamba_seq(folder, &[&args[..], options].concat())
}

/// The one error line of a run.
fn error(ran: &Ran, code: i32) -> String {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    let errors: Vec<&str> = ran.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    errors[0]["error: ".len()..].to_owned()
}

#[test]
fn a_bed_line_that_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), FASTA).unwrap();
    let mend = "mend the line";
    for (bed, want) in [
        (
            "chr1\t5\n",
            "x.bed: line 1: 2 columns where BED has at least 3 (contig, start, end); mend the line".to_owned(),
        ),
        ("# x\nchr1\tone\t5\n", format!("x.bed: line 2: start 'one' is not a number of bases; {mend}")),
        ("chr1\t0\t1e3\n", format!("x.bed: line 1: end '1e3' is not a number of bases; {mend}")),
        ("chr1\t0\t1,000\n", format!("x.bed: line 1: end '1,000' is not a number of bases; {mend}")),
        ("chr1\t-3\t5\n", "x.bed: line 1: start '-3' is negative; BED counts bases from 0".to_owned()),
        ("chr1\t0\t2\nchr1\t9\t5\n", "x.bed: line 2: end 5 is before start 9; swap them".to_owned()),
        (
            "chr1\t5\t5\n",
            "x.bed: line 1: start and end are both 5: the interval is empty (BED ends are exclusive); remove the line or raise the end".to_owned(),
        ),
        (
            "chr1\t0\t2\nchrX\t0\t2\n",
            "x.bed: contig 'chrX' is not in the input; use the ids of the input's records, or remove its intervals".to_owned(),
        ),
        (
            "chrX\t0\t2\nchrY\t0\t2\nchrX\t1\t2\nchr\t0\t1\n",
            "x.bed: contig 'chrX' and 2 more are not in the input; use the ids of the input's records, or remove their intervals".to_owned(),
        ),
        (
            "chr1\t3\t15\nchr1\t3\t16\n",
            "x.bed: interval chr1:3-16 ends beyond the 15 bases of 'chr1'; mend its end".to_owned(),
        ),
        ("chr3\t0\t1\n", "x.bed: interval chr3:0-1 ends beyond the 0 bases of 'chr3'; mend its end".to_owned()),
        (
            "track name=x\n\n# none\n",
            "x.bed: holds no interval; give it one, or leave --regions out for whole records".to_owned(),
        ),
        ("", "x.bed: holds no interval; give it one, or leave --regions out for whole records".to_owned()),
    ] {
        for wrapping in [Wrapping::Plain, Wrapping::PlainIndexed] {
            wrapping.write(folder.path(), FASTA);
            std::fs::rename(folder.path().join("w.fa"), folder.path().join("x.fa")).unwrap();
            std::fs::remove_file(folder.path().join("x.fa.fai")).ok();
            std::fs::rename(folder.path().join("w.fa.fai"), folder.path().join("x.fa.fai")).ok();
            for strand in ["forward", "reverse", "both"] {
                for more in [&[][..], &["--dry-run"], &["--shard", "1/2"]] {
                    let ran = embed(folder.path(), bed, &[&["--strand", strand], more].concat());
                    assert_eq!(error(&ran, 1), want, "{wrapping:?} {strand} {more:?}");
                }
            }
        }
        assert!(!folder.path().join("out.parquet").exists());
        assert!(!folder.path().join("out.parquet.partial").exists());
    }
}

#[test]
fn what_can_not_be_read_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("x.fa"), FASTA).unwrap();
    std::fs::write(path("x.bed"), "chr1\t0\t5\n").unwrap();
    std::fs::write(path("x.csv"), "sequence\nACGT\n").unwrap();
    let model = golden_model(SMALL);
    let refused = |args: &[&str], code: i32, want: &str| {
        let ran =
            mamba_seq(folder.path(), &[&["embed", "-o", "out.parquet", "--model", &model], args].concat());
        let found = error(&ran, code);
        assert!(found.starts_with(want), "{found}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    };
    refused(&["x.fa", "--regions", "gone.bed"], 1, "gone.bed: No such file or directory");
    refused(&["x.fa", "--regions", "."], 1, ".: ");
    refused(
        &["x.csv", "--regions", "x.bed"],
        2,
        "--regions needs FASTA or FASTQ: the rows of a table are no contigs",
    );
    for strand in [&[][..], &["--strand", "forward"], &["--strand", "reverse"]] {
        refused(
            &[&["x.fa", "--combine-strands", "mean"], strand].concat(),
            2,
            "--combine-strands needs --strand both: there is nothing to combine",
        );
    }
    refused(&["x.fa", "--strand", "sideways"], 2, "invalid value 'sideways'");
    refused(&["x.fa", "--strand", "both", "--combine-strands", "max"], 2, "invalid value 'max'");
}

/// An index that is of another file is named with its file, what is wrong, and how to mend it,
/// whichever option reads by it.
#[test]
fn an_index_of_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), FASTA).unwrap();
    let right = fai(FASTA);
    let first = right.lines().next().unwrap();
    for (index, record) in [
        (right.replacen("chr1", "chr9", 1), "chr9"),
        (right.replacen("\t15\t", "\t14\t", 1), "chr"),
        (right.replacen("\t15\t", "\t25\t", 1), "chr"),
        (format!("{first}\n"), "chr1"),
    ] {
        std::fs::write(folder.path().join("x.fa.fai"), &index).unwrap();
        for strand in ["forward", "both"] {
            let found = error(&embed(folder.path(), "chr1\t0\t5\n", &["--strand", strand]), 1);
            let start = format!("x.fa.fai does not match x.fa (record '{record}");
            assert!(found.starts_with(&start), "{found}");
            assert!(found.ends_with("): remake it with samtools faidx"), "{found}");
        }
    }
    std::fs::write(folder.path().join("x.fa.fai"), "chr1\t15\n").unwrap();
    let found = error(&embed(folder.path(), "chr1\t0\t5\n", &[]), 1);
    assert_eq!(found, "x.fa.fai: line 1: 2 columns where a .fai has 5; remake it with samtools faidx");
    // A .gzi too.
    let input = Wrapping::BgzfIndexed.write(folder.path(), &format!(">chr1\n{}\n", "ACGT".repeat(75_000)));
    let gzi = folder.path().join("w.fa.gz.gzi");
    let mut bytes = std::fs::read(&gzi).unwrap();
    bytes[8..].chunks_mut(16).for_each(|entry| entry[0] ^= 1);
    std::fs::write(gzi, bytes).unwrap();
    let model = golden_model(SMALL);
    let args = ["embed", input, "-o", "out.parquet", "--model", &model, "--strand", "reverse"];
    let found = error(&mamba_seq(folder.path(), &args), 1);
    assert!(found.starts_with("w.fa.gz.gzi does not match w.fa.gz ("), "{found}");
    assert!(found.ends_with("): remake it with bgzip --reindex w.fa.gz"), "{found}");
    // It is of no interest to whoever reads the whole file forward.
    let ran = mamba_seq(folder.path(), &["embed", input, "-o", "out.parquet", "--model", &model]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// Standard input is read in reverse from a copy on the disk; without a folder for it the message
/// names the folder.
#[test]
fn a_scratch_folder_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden_model(SMALL);
    let run = |bases: usize, output: &str, folder_of_copy: &Path| -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mamba-seq"))
            .args(["embed", "-", "-o", output, "--model", &model, "--strand", "reverse"])
            .current_dir(folder.path())
            .env("TMPDIR", folder_of_copy)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = format!(">x\n{}\n", "ACGTTGCA".repeat(bases / 8));
        let writer = std::thread::spawn(move || {
            // The program may fail before it has read everything.
            std::io::Write::write_all(&mut stdin, text.as_bytes()).ok();
        });
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran {
            code: out.status.code().unwrap(),
            stdout: out.stdout,
            stderr: String::from_utf8(out.stderr).unwrap(),
        }
    };
    let gone = folder.path().join("gone");
    // Longer than what stays in memory.
    let ran = run(400_000, "out.parquet", &gone);
    assert!(ran.stderr.contains(&format!("in {}, 1 byte a base", gone.display())), "{}", ran.stderr);
    let found = error(&ran, 1);
    let start = format!("{}: cannot keep a scratch copy of a record", gone.display());
    assert!(found.starts_with(&start), "{found}");
    assert!(found.contains("TMPDIR"), "{found}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{}", ran.stderr);
    // Rows of a stream wait in that folder too, to be put in order.
    let ran = run(8000, "-", &gone);
    let found = error(&ran, 1);
    assert!(found.contains(&gone.display().to_string()) && found.contains("TMPDIR"), "{found}");
    assert!(ran.stdout.is_empty());
    // A short record needs no disk, and a folder that is there is left empty.
    assert_eq!(run(8000, "out.parquet", &gone).code, 0);
    std::fs::create_dir(&gone).unwrap();
    assert_eq!(run(400_000, "out.parquet", &gone).code, 0);
    assert_eq!(run(400_000, "-", &gone).code, 0);
    assert_eq!(std::fs::read_dir(&gone).unwrap().count(), 0);
}

fn dry_run(folder: &Path, options: &[&str]) -> Vec<(String, String)> {
    let model = golden_model(SMALL);
    let args = ["embed", "x.fa", "--model", &model, "--dry-run"];
    let ran = mamba_seq(folder, &[&args[..], options].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let text = String::from_utf8(ran.stdout).unwrap();
    let pair = |line: &str| line.split_once(char::is_whitespace).map(|(k, v)| (k.into(), v.trim().into()));
    text.lines().filter_map(pair).collect()
}

/// The figures of a dry run are those of the run.
#[test]
fn a_dry_run_counts_strands_and_intervals() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(">a\n{}\n>b\n{}\n>c\nACGT\n", "ACGTTGCA".repeat(500), "GGCA".repeat(300));
    std::fs::write(folder.path().join("x.fa"), text).unwrap();
    std::fs::write(folder.path().join("x.bed"), "b\t100\t450\na\t3000\t3100\na\t2500\t3050\n").unwrap();
    let regions = ["--regions", "x.bed"];
    let both = ["--strand", "both"];
    let mean = ["--combine-strands", "mean"];
    for (options, records, tokens, rows_wanted) in [
        (vec!["--window", "100"], "3", "5,204", 40 + 12 + 1),
        ([&["--window", "100"], &both[..]].concat(), "3", "10,408", 106),
        ([&["--window", "100"], &both[..], &mean].concat(), "3", "10,408", 53),
        (vec!["--pool", "none", "--strand", "both"], "3", "10,408", 10_408),
        // Forward each record is read to its last end, in reverse from its end to its first start.
        ([&["--window", "100"], &regions[..]].concat(), "2", "3,550", 4 + 1 + 6),
        ([&["--window", "record"], &regions[..]].concat(), "2", "3,550", 3),
        ([&["--window", "100", "--strand", "reverse"], &regions[..]].concat(), "2", "2,600", 11),
        ([&["--window", "100"], &regions[..], &both].concat(), "2", "6,150", 22),
        ([&["--window", "100"], &regions[..], &both, &mean].concat(), "2", "6,150", 11),
        ([&["--pool", "none"], &regions[..], &both].concat(), "2", "6,150", 2000),
        // A shard: whole records, or a stretch of the longest that begins at a piece of the context.
        (vec!["--window", "100", "--shard", "1/2"], "1", "4,000", 40),
        (vec!["--window", "100", "--shard", "2/2"], "2", "1,204", 13),
        ([&["--window", "100", "--shard", "2/2"], &regions[..]].concat(), "1", "450", 4),
        (vec!["--window", "100", "--context", "500", "--overlap", "100", "--shard", "1/2"], "1", "2,500", 25),
        (vec!["--window", "100", "--context", "500", "--overlap", "100", "--shard", "2/2"], "3", "2,704", 28),
    ] {
        let said = dry_run(folder.path(), &options);
        let said = |key: &str| said.iter().find(|(k, _)| k == key).unwrap().1.clone();
        assert_eq!((said("records").as_str(), said("tokens").as_str()), (records, tokens), "{options:?}");
        assert_eq!(said("rows").replace(',', ""), rows_wanted.to_string(), "{options:?}");
        let reads_back = options.contains(&"both") || options.contains(&"reverse");
        assert_eq!(said("scratch") == "none", !reads_back, "{options:?}: {}", said("scratch"));
        let model = golden_model(SMALL);
        let args = ["embed", "x.fa", "--model", &model, "-o", "out.parquet"];
        let ran = mamba_seq(folder.path(), &[&args[..], &options].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(rows(&folder.path().join("out.parquet")).len(), rows_wanted, "{options:?}");
        if options.contains(&"none") {
            let said = format!("--pool none: {} rows of up to", said("rows"));
            assert!(ran.stderr.contains(&said), "{said}: {}", ran.stderr);
        }
        let count = format!("from {records} record{}, ", if records == "1" { "" } else { "s" });
        assert!(ran.stderr.lines().last().unwrap().contains(&count), "{}", ran.stderr);
    }
    // With an index nothing is copied.
    std::fs::write(
        folder.path().join("x.fa.fai"),
        fai(&std::fs::read_to_string(folder.path().join("x.fa")).unwrap()),
    )
    .unwrap();
    let said = dry_run(folder.path(), &both);
    assert!(said.contains(&("scratch".into(), "none".into())), "{said:?}");
}

#[test]
fn the_file_says_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), FASTA).unwrap();
    let meta = |options: &[&str]| {
        let ran = embed(folder.path(), "chr1\t0\t5\n", options);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        metadata(&folder.path().join("out.parquet"))
    };
    let both = meta(&["--strand", "both", "--combine-strands", "mean"]);
    assert_eq!((both["strand"].as_str(), both["combine_strands"].as_str()), ("both", "mean"));
    assert_eq!((both["regions"].as_str(), both["regions_sha256"].len()), ("x.bed", 64));
    let reverse = meta(&["--strand", "reverse"]);
    assert_eq!(reverse["strand"], "reverse");
    assert!(!reverse.contains_key("combine_strands"));
}

/// What is not read is not checked, in a shard as in the whole.
#[test]
fn a_bad_record_without_an_interval_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.fa"), ">good\nACGTACGT\n>bad\nAC!T\n").unwrap();
    for strand in ["forward", "reverse", "both"] {
        for more in [&[][..], &["--shard", "1/1"], &["--on-bad-record", "skip"]] {
            let ran = embed(folder.path(), "good\t2\t5\n", &[&["--strand", strand], more].concat());
            assert_eq!(ran.code, 0, "{strand} {more:?}: {}", ran.stderr);
            assert!(!ran.stderr.contains("skipped"), "{}", ran.stderr);
        }
        let ran = embed(folder.path(), "bad\t0\t1\ngood\t2\t5\n", &["--strand", strand]);
        if strand == "forward" {
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        } else {
            let found = error(&ran, 1);
            assert!(found.starts_with("x.fa: record 'bad', base 3 (line 4): byte 0x21 '!'"), "{found}");
        }
    }
}
