//! FASTA with its indexes, and FASTQ.

use std::{collections::BTreeMap, path::Path};

use mseq_core::Item;
use mseq_source::{
    DnaTokenizer, FaiIndex, IndexedFasta, InputSet, Keep, RecordFilter, Result, SequenceSource, Strands,
    count,
};

use super::{
    case::{Case, Files, Kind, Outcome},
    mutate::damage,
    pack::{bgzf, gzip},
};
use crate::random::Random;

/// FASTA: plain, gzip, BGZF, each with or without `.fai` and `.gzi`.
pub(super) struct Fasta;

/// FASTQ: plain and gzip.
pub(super) struct Fastq;

fn letters(n: usize, random: &mut Random) -> String {
    (0..n).map(|_| char::from(*random.pick(b"ACGTACGTACGTacgtNRYKM-*"))).collect()
}

/// A FASTA text of any habit.
pub(super) fn fasta_text(random: &mut Random) -> String {
    let end = if random.one_in(4) { "\r\n" } else { "\n" };
    let width = *random.pick(&[1, 7, 60, 60, 80, 1_000_000]);
    // Now and then records long enough to be sought past.
    let longest = if random.one_in(200) { 1_200_000 } else { 400 };
    let mut text = String::new();
    for i in 0..1 + random.below(5) {
        text +=
            &format!(">r{}{}{end}", if random.one_in(6) { 0 } else { i }, random.pick(&["", " x y", "\tz"]));
        let bases = random.below(longest);
        let record = letters(bases.min(5000), random).repeat(1 + bases / 5000);
        // A short line costs as much as a long one.
        let width = if bases > 5000 { width.max(60) } else { width };
        for line in record.as_bytes().chunks(width) {
            text += &String::from_utf8_lossy(line);
            text += end;
        }
    }
    if random.one_in(3) {
        text.truncate(text.trim_end().len());
    }
    text
}

fn fastq_text(random: &mut Random) -> String {
    let mut text = String::new();
    for i in 0..1 + random.below(6) {
        let n = random.below(150);
        let quality: String = (0..n).map(|_| char::from(*random.pick(b"!+@>IIII~"))).collect();
        text += &format!("@r{i} x\n{}\n+\n{quality}\n", letters(n, random));
    }
    text
}

impl Kind for Fasta {
    fn name(&self) -> &'static str {
        "fasta"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let text = fasta_text(random).into_bytes();
        let others: Vec<_> = (0..2).map(|_| fasta_text(random).into_bytes()).collect();
        let mut files = Files::new();
        let mut changed = text.clone();
        // The index stays that of the text before.
        if damaged && random.one_in(2) {
            damage(&mut changed, &others, true, random);
        }
        let name = match random.below(4) {
            0 | 1 => {
                files.insert("x.fa".into(), changed.clone());
                "x.fa"
            }
            2 => {
                files.insert("x.fa.gz".into(), gzip(&changed));
                "x.fa.gz"
            }
            _ => {
                let (packed, gzi) = bgzf(&changed, 50 + random.below(60_000));
                files.insert("x.fa.gz".into(), packed);
                files.insert("x.fa.gz.gzi".into(), gzi);
                "x.fa.gz"
            }
        };
        if !random.one_in(3) {
            files.insert(format!("{name}.fai"), fai(&text));
        }
        if damaged && (changed == text || random.one_in(2)) {
            let names: Vec<String> = files.keys().cloned().collect();
            let name = random.pick(&names);
            if let Some(bytes) = files.get_mut(name) {
                damage(bytes, &others, !name.ends_with("gz") && !name.ends_with("gzi"), random);
            }
        }
        Case::new(files, random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        read(case, folder)
    }
}

impl Kind for Fastq {
    fn name(&self) -> &'static str {
        "fastq"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let mut text = fastq_text(random).into_bytes();
        let others = [fastq_text(random).into_bytes(), fasta_text(random).into_bytes()];
        let (packed, before) = (random.one_in(4), random.one_in(2));
        if damaged && (!packed || before) {
            damage(&mut text, &others, true, random);
        }
        if packed {
            text = gzip(&text);
            if damaged && !before {
                damage(&mut text, &[], false, random);
            }
        }
        Case::new([("x.fq".to_owned(), text)].into(), random)
    }

    fn read(&self, case: &Case, folder: &Path) -> Outcome {
        read(case, folder)
    }
}

/// The `.fai` of a text with lines of one length; the lines of another are wrong, which is as good.
fn fai(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (String::new(), 0);
    let mut record: Option<(String, usize, usize, usize, usize)> = None;
    let mut finish = |record: Option<(String, usize, usize, usize, usize)>| {
        if let Some((name, bases, offset, line, width)) = record {
            out += &format!("{name}\t{bases}\t{offset}\t{line}\t{width}\n");
        }
    };
    for line in text.split_inclusive(|&b| b == b'\n') {
        at += line.len();
        let bases = line.trim_ascii_end().len();
        match (&mut record, line.first()) {
            (_, Some(b'>')) => {
                let name = String::from_utf8_lossy(&line[1..]);
                let name = name.split_ascii_whitespace().next().unwrap_or_default().to_owned();
                finish(record.replace((name, 0, at, 0, 0)));
            }
            (Some((_, all, _, first, width)), _) => {
                if *all == 0 {
                    (*first, *width) = (bases, line.len());
                }
                *all += bases;
            }
            _ => {}
        }
    }
    finish(record);
    out.into_bytes()
}

/// What a reading gave, by strand and record: up to the first error that ends it.
#[derive(Default)]
struct Found {
    records: BTreeMap<(bool, u64), Vec<u32>>,
    error: Option<String>,
}

fn drain(mut source: SequenceSource) -> std::result::Result<Found, String> {
    let (mut found, mut open) = (Found::default(), None);
    loop {
        let item = match source.next() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            Err(e) => {
                let text = e.to_string();
                if text.contains('\n') || text.is_empty() {
                    return Err(format!("a message that is not one line: {text:?}"));
                }
                found.error.get_or_insert(text);
                open = None;
                continue;
            }
        };
        match (item, open) {
            (Item::Begin(head), None) => {
                open = Some((head.reversed.is_some(), head.index));
            }
            (Item::Tokens(tokens), Some(key)) if !tokens.is_empty() => {
                found.records.entry(key).or_default().extend(tokens);
            }
            (Item::End(tail), Some(key)) => {
                open = None;
                let n = found.records.entry(key).or_default().len() as u64;
                if tail.bases != n {
                    return Err(format!("record {} has {n} tokens and says {}", key.1, tail.bases));
                }
            }
            (item, _) => return Err(format!("{item:?} comes out of turn")),
        }
    }
    match open {
        Some(_) => Err("the input ends inside a record, without an error".to_owned()),
        None => Ok(found),
    }
}

/// Reads in every way there is, and compares.
fn read(case: &Case, folder: &Path) -> Outcome {
    let Some(name) = case.files.keys().find(|name| !name.ends_with("i")) else { return Outcome::Read };
    let path = folder.join(name);
    match read_all(&path, folder, case.choice) {
        Ok(Ok(None)) => Outcome::Read,
        Ok(Ok(Some(refused))) => Outcome::Refused(refused),
        Ok(Err(e)) => Outcome::refused(&e),
        Err(wrong) => Outcome::Wrong(wrong),
    }
}

type Laws<T> = std::result::Result<T, String>;

fn read_all(path: &Path, folder: &Path, choice: u64) -> Laws<Result<Option<String>>> {
    // An index that can be made must fit.
    if let Ok(Some(index)) = FaiIndex::build(path)
        && let Err(e) = IndexedFasta::with_index(path, index)
    {
        return Err(format!("the index just made does not fit: {e}"));
    }
    let set = match InputSet::resolve(&[path.display().to_string()], false) {
        Ok(set) => set,
        Err(e) => return Ok(Err(e)),
    };
    let block = 1 + choice as usize % 5000;
    let open = || SequenceSource::open(set.clone(), DnaTokenizer::caduceus(), block);
    let (forward, both, part) = match (open(), open(), open()) {
        (Ok(a), Ok(b), Ok(c)) => (a, b, c),
        (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => return Ok(Err(e)),
    };
    let forward = drain(forward)?;
    let counted = count(&set);
    let both = drain(both.with_strands(Strands::Both, folder))?;
    let end = choice / 7 % 300;
    let filter =
        RecordFilter::new(move |head| if head.index % 2 == 0 { Keep::Skip } else { Keep::UpTo(end) });
    let part = drain(part.with_filter(filter))?;
    if forward.error.is_none() {
        let lengths: Vec<u64> = forward.records.values().map(|r| r.len() as u64).collect();
        match counted {
            Ok(counts) if counts.lengths == lengths => {}
            // Counting goes by the index, and reading forward does not look at it.
            Err(mseq_source::Error::Index(_)) => {}
            other => return Err(format!("counted {other:?} where reading found {lengths:?}")),
        }
    }
    if forward.error.is_none() && both.error.is_none() {
        let map = DnaTokenizer::caduceus().complement_ids();
        for (&(_, index), tokens) in &forward.records {
            let reverse: Vec<u32> = tokens.iter().rev().map(|&id| map[id as usize]).collect();
            if both.records.get(&(false, index)) != Some(tokens) {
                return Err(format!("record {index} differs when both strands are read"));
            }
            if both.records.get(&(true, index)) != Some(&reverse) {
                return Err(format!("the reverse of record {index} is not its reverse complement"));
            }
        }
    }
    if forward.error.is_none() && part.error.is_none() {
        for (&(_, index), tokens) in forward.records.iter().filter(|((_, index), _)| index % 2 == 1) {
            let want = &tokens[..tokens.len().min(end as usize)];
            if part.records.get(&(false, index)).map(Vec::as_slice) != Some(want) {
                return Err(format!("record {index} differs when the one before it is skipped"));
            }
        }
    }
    Ok(Ok(forward.error.or(both.error).or(part.error)))
}
