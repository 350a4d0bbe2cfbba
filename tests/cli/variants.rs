//! `variants` against `score` and `embed` on references that were changed by hand, and every kind of
//! record that can't be scored.

use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::common::{data, golden_model, letters, mamba_seq, rows};

const SMALL: &str = "d29-n4-k2-e1";
const HEADER: &str =
    "##fileformat=VCFv4.3\n##contig=<ID=c1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effect {
    /// Record, contig, place, REF, ALT, strand.
    pub(crate) key: (u64, String, u64, String, String, String),
    pub(crate) llr: f64,
    pub(crate) per_base: f64,
    pub(crate) distance: f64,
}

pub(crate) fn effects(path: &Path) -> Vec<Effect> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut all = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(
            names,
            [
                "source",
                "record_index",
                "chrom",
                "pos",
                "ref",
                "alt",
                "strand",
                "llr",
                "llr_per_base",
                "distance"
            ]
        );
        let text = |name: &str, i: usize| batch[name].as_string::<i32>().value(i).to_owned();
        let whole = |name: &str, i: usize| batch[name].as_primitive::<UInt64Type>().value(i);
        let real = |name: &str, i: usize| batch[name].as_primitive::<Float64Type>().value(i);
        for i in 0..batch.num_rows() {
            all.push(Effect {
                key: (
                    whole("record_index", i),
                    text("chrom", i),
                    whole("pos", i),
                    text("ref", i),
                    text("alt", i),
                    text("strand", i),
                ),
                llr: real("llr", i),
                per_base: real("llr_per_base", i),
                distance: real("distance", i),
            });
        }
    }
    all
}

/// Runs it with a small model and a window of 60, and reads what it wrote.
fn variants(folder: &Path, vcf: &str, reference: &str, more: &[&str]) -> Vec<Effect> {
    let model = golden_model(SMALL);
    let args = ["variants", vcf, "--reference", reference, "--model", &model, "--window", "60"];
    let ran = mamba_seq(folder, &[&args[..], &["--device", "cpu", "-q", "-o", "out.parquet"], more].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    effects(&folder.join("out.parquet"))
}

fn complement(text: &str) -> String {
    let pair = |b| match b {
        'A' => 'T',
        'C' => 'G',
        'G' => 'C',
        'T' => 'A',
        b => b,
    };
    text.chars().rev().map(pair).collect()
}

/// Summed likelihood and mean embedding of bases `from..to`, by the commands that are for that.
fn scored(folder: &Path, sequence: &str, from: usize, to: usize) -> (f64, Vec<f64>) {
    fs::write(folder.join("one.fa"), format!(">x\n{sequence}\n")).unwrap();
    fs::write(folder.join("one.bed"), format!("x\t{from}\t{to}\n")).unwrap();
    let model = golden_model(SMALL);
    for (command, out) in [("score", "nll.parquet"), ("embed", "mean.parquet")] {
        let args = [command, "one.fa", "--regions", "one.bed", "--window", "100000", "--model", &model];
        let ran = mamba_seq(folder, &[&args[..], &["--device", "cpu", "-q", "-o", out][..]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(folder.join("nll.parquet")).unwrap());
    let batch = reader.unwrap().build().unwrap().next().unwrap().unwrap();
    let nll = batch["nll"].as_primitive::<Float64Type>().value(0);
    let mean = rows(&folder.join("mean.parquet")).remove(0).embedding;
    (nll, mean.into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect())
}

#[test]
fn effects_are_those_of_score_and_embed_on_a_changed_reference() {
    let folder = tempfile::tempdir().unwrap();
    let contig = letters(3, 900);
    let other = letters(4, 50);
    fs::write(folder.path().join("r.fa"), format!(">c0\n{other}\n>c1 the one\n{contig}\n")).unwrap();
    let at = |pos: usize, len: usize| &contig[pos - 1..pos - 1 + len];
    let list = [
        (7, 1, "ACGT"),
        (100, 1, "G,N,T"),
        (101, 1, "A"),
        (300, 5, "C"),
        (301, 1, "ACGTACGTAC"),
        (880, 2, "TTT,C"),
        (900, 1, "A"),
    ];
    let mut vcf = HEADER.to_owned();
    for (pos, len, alts) in list {
        vcf += &format!("c1\t{pos}\t.\t{}\t{alts}\t.\t.\t.\n", at(pos, len));
    }
    fs::write(folder.path().join("v.vcf"), vcf).unwrap();
    let found = variants(folder.path(), "v.vcf", "r.fa", &["--strand", "both"]);
    assert_eq!(found.len(), 2 * 10);
    let mut found = found.iter();
    for (index, (pos, len, alts)) in list.into_iter().enumerate() {
        for alt in alts.split(',') {
            for strand in ["+", "-"] {
                let row = found.next().unwrap();
                let key =
                    (index as u64, "c1".into(), pos as u64, at(pos, len).into(), alt.into(), strand.into());
                assert_eq!(row.key, key);
                let (mut whole, mut from, mut alt) = (contig.clone(), pos - 1, alt.to_owned());
                if strand == "-" {
                    (whole, from, alt) =
                        (complement(&contig), contig.len() - (pos - 1) - len, complement(&alt));
                }
                let end = (from + len + 60).min(whole.len());
                let changed = format!("{}{alt}{}", &whole[..from], &whole[from + len..]);
                let (ref_nll, ref_mean) = scored(folder.path(), &whole, from, end);
                let alt_end = from + alt.len() + end - from - len;
                let (alt_nll, alt_mean) = scored(folder.path(), &changed, from, alt_end);
                let (llr, bases) = (ref_nll - alt_nll, (end - from) as f64);
                let per_base = ref_nll / bases - alt_nll / (alt_end - from) as f64;
                let squares = ref_mean.iter().zip(&alt_mean).map(|(a, b)| (a - b).powi(2));
                let distance = squares.sum::<f64>().sqrt();
                assert!((row.llr - llr).abs() < 1e-4, "{row:?}: {llr}");
                assert!((row.per_base - per_base).abs() < 1e-5, "{row:?}: {per_base}");
                assert!((row.distance - distance).abs() < 1e-5, "{row:?}: {distance}");
            }
        }
    }
}

/// `data/golden/variants.py`: alleles put into their contigs by another program, and run by transformers
/// and in float64.
#[test]
fn effects_are_those_of_transformers_on_edited_sequences() {
    let from = data("golden/variants");
    let text = std::fs::read_to_string(from.join("expected.tsv")).unwrap();
    let expected: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, into) in [("calls.vcf", "v.vcf"), ("reference.fa", "r.fa")] {
        fs::copy(from.join(name), folder.path().join(into)).unwrap();
    }
    let mut models: Vec<&str> = expected.iter().map(|row| row[0]).collect();
    models.dedup();
    assert_eq!(models.len(), 3);
    for name in models {
        let model = golden_model(name);
        let args = ["variants", "v.vcf", "--reference", "r.fa", "--model", &model, "--window", "60"];
        let more = ["--device", "cpu", "--strand", "both", "-q", "-o", "out.parquet"];
        let ran = mamba_seq(folder.path(), &[&args[..], &more].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let found = effects(&folder.path().join("out.parquet"));
        let rows: Vec<&Vec<&str>> = expected.iter().filter(|row| row[0] == name).collect();
        assert_eq!(found.len(), rows.len());
        let mut worst = [0f64; 6];
        for (found, row) in found.iter().zip(rows) {
            let key = (
                row[1].parse().unwrap(),
                row[2].into(),
                row[3].parse().unwrap(),
                row[4].into(),
                row[5].into(),
                row[6].into(),
            );
            assert_eq!(found.key, key);
            let ours = [found.llr, found.per_base, found.distance];
            for (i, said) in row[7..].iter().enumerate() {
                worst[i] = worst[i].max((ours[i % 3] - said.parse::<f64>().unwrap()).abs());
            }
        }
        eprintln!("{name}: llr, per base, distance off by {worst:?} (transformers, then float64)");
        assert!(worst.iter().all(|&off| off < 1e-4), "{name}: {worst:?}");
    }
}

#[test]
fn neither_chunk_threads_nor_the_kind_of_file_changes_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let contig = letters(8, 1500);
    let lines: String =
        contig.as_bytes().chunks(61).map(|l| format!("{}\n", std::str::from_utf8(l).unwrap())).collect();
    fs::write(folder.path().join("r.fa"), format!(">c1\n{lines}")).unwrap();
    let gzip = |name: &str, text: &str| {
        use std::io::Write;
        let mut out = flate2::write::GzEncoder::new(
            File::create(folder.path().join(name)).unwrap(),
            flate2::Compression::fast(),
        );
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap();
    };
    gzip("r.fa.gz", &format!(">c1\n{lines}"));
    let mut vcf = HEADER.to_owned();
    for pos in (1..1500).step_by(37) {
        vcf += &format!("c1\t{pos}\t.\t{}\tA\t.\t.\t.\n", &contig[pos - 1..pos]);
    }
    fs::write(folder.path().join("v.vcf"), &vcf).unwrap();
    gzip("v.vcf.gz", &vcf);
    let want = variants(folder.path(), "v.vcf", "r.fa", &[]);
    for (vcf, reference, more) in [
        ("v.vcf.gz", "r.fa.gz", &["--threads", "1"][..]),
        ("v.vcf", "r.fa", &["--chunk", "100"]),
        ("v.vcf", "r.fa", &["--chunk", "33", "--strand", "both"]),
    ] {
        let mut found = variants(folder.path(), vcf, reference, more);
        found.retain(|row| row.key.5 == "+");
        assert_eq!(found, want, "{vcf} {more:?}");
    }
}

#[test]
fn an_annotated_vcf_keeps_every_other_byte() {
    let folder = tempfile::tempdir().unwrap();
    let contig = letters(5, 300);
    fs::write(folder.path().join("r.fa"), format!(">c1\n{contig}\n")).unwrap();
    let letter = |pos: usize| &contig[pos - 1..pos];
    let samples = "##fileformat=VCFv4.2\n##source=x\n##INFO=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n\
                   ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"g\">\n\
                   #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n";
    let body = [
        format!("c1\t20\trs1\t{}\tA,<DEL>,*,G\t50.0\tPASS\tDP=3;H2\tGT\t0/1", letter(20)),
        format!("c1\t20\t.\t{}\t.\t.\t.\tDP=1\tGT\t0/0", letter(20)),
        format!("c1\t15\t.\t{}\tT\t7\tq10\t.\tGT\t1|1", letter(15)),
    ];
    fs::write(folder.path().join("v.vcf"), format!("{samples}{}\n", body.join("\n"))).unwrap();
    let model = golden_model(SMALL);
    let args = [
        "variants",
        "v.vcf",
        "--reference",
        "r.fa",
        "--model",
        &model,
        "--device",
        "cpu",
        "--strand",
        "both",
    ];
    let ran = mamba_seq(folder.path(), &[&args[..], &["-o", "out.vcf"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let want = "out.vcf: 6 rows, 1 symbolic allele skipped, 1 spanning deletion (*) skipped, 1 record without ALT skipped; ";
    assert!(ran.stderr.lines().last().unwrap().starts_with(want), "{}", ran.stderr);
    let ran = mamba_seq(folder.path(), &[&args[..], &["-q"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let rows = effects(&folder.path().join("v.variants.parquet"));

    // A public reader takes it, header and values.
    let text = fs::read_to_string(folder.path().join("out.vcf")).unwrap();
    let mut reader = noodles_vcf::io::Reader::new(text.as_bytes());
    let header = reader.read_header().unwrap();
    assert!(header.infos().contains_key("MSEQ_LLR") && header.infos().contains_key("MSEQ_DIST_REV"));
    let mut seen = Vec::new();
    for record in reader.record_bufs(&header) {
        use noodles_vcf::variant::record_buf::info::field::{Value, value::Array};
        let record = record.unwrap();
        for (key, strand) in [("MSEQ_LLR", "+"), ("MSEQ_LLR_REV", "-")] {
            if let Some(Some(Value::Array(Array::Float(values)))) = record.info().get(key) {
                seen.extend(values.iter().flatten().map(|v| (strand, f64::from(*v))));
            }
        }
    }
    seen.sort_by(|a, b| a.0.cmp(b.0));
    let mut want: Vec<_> = rows.iter().map(|row| (row.key.5.as_str(), row.llr)).collect();
    want.sort_by(|a, b| a.0.cmp(b.0));
    assert_eq!(seen.len(), want.len());
    assert!(
        seen.iter().zip(&want).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-5 * b.1.abs().max(1e-3)),
        "{seen:?} {want:?}"
    );
    // But for INFO the lines are as they were.
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    for (line, was) in lines.iter().zip(&body) {
        let (now, was): (Vec<&str>, Vec<&str>) = (line.split('\t').collect(), was.split('\t').collect());
        assert_eq!((&now[..7], &now[8..]), (&was[..7], &was[8..]));
        assert!(was[7] == "." || now[7].starts_with(was[7]), "{line}");
    }
    assert_eq!(lines[1], body[1]);
    assert!(lines[0].contains(";MSEQ_LLR=") && lines[0].split("MSEQ_LLR=").nth(1).unwrap().contains(",.,.,"));
}

#[test]
fn what_does_not_fit_the_reference_is_named_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.fa"), ">c1\nACGTNRacgt\n>c2\nAC\n").unwrap();
    let good = "c1\t1\t.\tA\tG\t.\t.\t.\nc1\t5\t.\tN\tA\t.\t.\t.\nc1\t6\t.\tN\tA\t.\t.\t.\nc1\t6\t.\tA\tG\t.\t.\t.\nc1\t7\t.\ta\tG\t.\t.\t.\n";
    for (bad, want) in [
        (
            "c1\t3\t.\tT\tA\t.\t.\t.",
            "v.vcf: line 9: REF T at c1:3, where r.fa has G; name the reference of this VCF or use --on-bad-record skip",
        ),
        ("c1\t5\t.\tA\tC\t.\t.\t.", "v.vcf: line 9: REF A at c1:5, where r.fa has N"),
        (
            "c1\t10\t.\tTT\tA\t.\t.\t.",
            "v.vcf: line 9: c1:10 is past the end of the contig, which has 10 bases",
        ),
        ("c9\t1\t.\tA\tG\t.\t.\t.", "v.vcf: line 9: contig 'c9' is not in r.fa, which has c1, c2"),
        ("c1\t2\t.\tC\tX\t.\t.\t.", "v.vcf: line 9: ALT 'X'"),
        ("c1\tx\t.\tC\tA\t.\t.\t.", "v.vcf: line 9: POS"),
        ("c1\t2", "v.vcf: line 9: fewer than the 8 columns"),
    ] {
        fs::write(folder.path().join("v.vcf"), format!("{HEADER}{good}{bad}\nc2\t2\t.\tC\tG\t.\t.\t.\n"))
            .unwrap();
        let args = ["variants", "v.vcf", "--reference", "r.fa", "--device", "cpu", "-o", "x.parquet"];
        let ran = mamba_seq(folder.path(), &args);
        assert_eq!(ran.code, 1, "{bad}");
        let last = ran.stderr.lines().last().unwrap();
        assert!(last.contains(want) && last.starts_with("error: "), "{}", ran.stderr);
        assert!(!folder.path().join("x.parquet").exists());
        let ran = mamba_seq(folder.path(), &[&args[..], &["--on-bad-record", "skip"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains("x.parquet: 6 rows, 1 bad record skipped"), "{}", ran.stderr);
        assert_eq!(effects(&folder.path().join("x.parquet")).len(), 6);
        fs::remove_file(folder.path().join("x.parquet")).unwrap();
    }
    let back = format!("{HEADER}c1\t1\t.\tA\tG\t.\t.\t.\nc2\t1\t.\tA\tG\t.\t.\t.\nc1\t2\t.\tC\tG\t.\t.\t.\n");
    fs::write(folder.path().join("v.vcf"), back).unwrap();
    for (args, code, want) in [
        (
            &["v.vcf", "--reference", "r.fa", "-o", "x.parquet"][..],
            1,
            "line 6: contig 'c1' comes again after others; sort the file",
        ),
        (&["r.fa", "--reference", "r.fa", "-o", "x.parquet"], 1, "is this a VCF file?"),
        (&["none.vcf", "--reference", "r.fa"], 1, "none.vcf"),
        (&["v.vcf", "--reference", "none.fa"], 1, "none.fa"),
        (&["v.vcf", "--reference", "r.fa", "-o", "x.txt"], 2, "is none of .parquet, .vcf and .vcf.gz"),
        (&["v.vcf"], 2, "--reference"),
    ] {
        let ran = mamba_seq(folder.path(), &[&["variants", "--device", "cpu"], args].concat());
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(want), "{args:?}: {}", ran.stderr);
    }
}
