use std::collections::HashSet;

use crate::bytes_at::BytesAt;
use crate::error::IndexError;
use crate::fai::{FaiIndex, FaiRecord};
use crate::fai_build::{BOM, name};
use crate::lines::MAX_DEFINITION_BYTES;
use crate::{Error, Result};

/// Bytes looked at behind the last record, at a time.
const TAIL_BYTES: u64 = 64 * 1024;

/// Where a definition line starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Offset of its `>` in the decompressed file.
    pub(crate) offset: u64,
    /// Its 1-based line.
    pub(crate) line: u64,
}

/// What [`check`] found.
pub(crate) enum Checked {
    /// The index lists every record; where each starts.
    Whole(Vec<Start>),
    /// The index is right, but a second record of some name is not in it.
    LacksDoubles,
}

pub(crate) fn mismatch(index: &str, path: &str, record: &str, why: &'static str) -> Error {
    IndexError::Mismatch { index: index.into(), path: path.into(), record: record.into(), why }.into()
}

/// What stands between two records.
enum Gap {
    /// Blank lines and one definition line, that many bytes and lines in.
    Definition {
        at: usize,
        lines: u64,
    },
    Double,
    Wrong(&'static str),
}

/// Compares the index called `label` with the file: what lies between the bases of two records
/// must be the definition line of the second. Reads no base.
pub(crate) fn check(bytes: &mut BytesAt, index: &FaiIndex, label: &str) -> Result<Checked> {
    let path = bytes.label().to_owned();
    let wrong = |record: &FaiRecord, why| mismatch(label, &path, &record.name, why);
    let names: HashSet<&str> = index.records.iter().map(|r| &*r.name).collect();
    if let Some([_, record]) = index.records.array_windows().find(|[a, b]| b.offset < a.end()) {
        return Err(wrong(record, "starts before the one before it ends"));
    }
    let (mut starts, mut text) = (Vec::with_capacity(index.records.len()), Vec::new());
    let (mut from, mut line, mut in_line) = (0, 1, false);
    for record in &index.records {
        let gap = record.offset - from;
        text.clear();
        let limit = MAX_DEFINITION_BYTES as u64 + 4096;
        bytes.read(from, gap.min(limit), &mut text)?;
        if (text.len() as u64) < gap.min(limit) {
            return Err(wrong(record, "starts behind the end of the file"));
        }
        match look(&text, in_line, gap > limit, record, &names, from == 0) {
            Gap::Definition { at, lines } => {
                starts.push(Start { offset: from + at as u64, line: line + lines });
            }
            Gap::Double => return Ok(Checked::LacksDoubles),
            Gap::Wrong(why) => return Err(wrong(record, why)),
        }
        line += text.iter().filter(|&&b| b == b'\n').count() as u64;
        line += record.bases.saturating_sub(1).checked_div(record.line_bases).unwrap_or(0);
        from = record.end();
        in_line = record.bases > 0;
    }
    if let Some(last) = index.records.last().filter(|r| r.bases > 0) {
        text.clear();
        bytes.read(last.end() - 1, 1, &mut text)?;
        // A blank is a letter like any other here: reading the record names it.
        if matches!(text[..], [] | [b'\n' | b'\r']) {
            return Err(wrong(last, "is shorter in the file"));
        }
    }
    tail(bytes, index, label, &names, from, in_line).map(|double| match double {
        true => Checked::LacksDoubles,
        false => Checked::Whole(starts),
    })
}

fn look(
    text: &[u8],
    in_line: bool,
    cut: bool,
    record: &FaiRecord,
    names: &HashSet<&str>,
    first: bool,
) -> Gap {
    let bom = if first && text.starts_with(BOM) { BOM.len() } else { 0 };
    let (mut at, mut double) = (bom, false);
    for (lines, piece) in text[bom..].split_inclusive(|&b| b == b'\n').enumerate() {
        let (start, next) = (at, at + piece.len());
        at = next;
        let at_line_start = lines > 0 || !in_line;
        let id = (piece[0] == b'>' && at_line_start).then(|| name(piece)).flatten();
        let whole = piece.ends_with(b"\n") || record.bases == 0;
        match id {
            Some(id) if next == text.len() && !cut => {
                return match () {
                    () if !whole => Gap::Wrong("does not start at a line's start"),
                    () if id != record.name => Gap::Wrong("is preceded by another name"),
                    () if double => Gap::Double,
                    () => Gap::Definition { at: start, lines: lines as u64 },
                };
            }
            Some(id) if names.contains(&*id) => double = true,
            Some(_) => return Gap::Wrong("is preceded by a record that is not in the index"),
            None if double || (piece.trim_ascii().is_empty() && next < text.len()) => {}
            None => return Gap::Wrong("does not follow its definition line"),
        }
    }
    if double && cut { Gap::Double } else { Gap::Wrong("does not follow its definition line") }
}

/// Looks behind the last record for more; `true` when that is one of a known name.
fn tail(
    bytes: &mut BytesAt,
    index: &FaiIndex,
    label: &str,
    names: &HashSet<&str>,
    mut from: u64,
    in_line: bool,
) -> Result<bool> {
    let last = index.records.last().map_or("", |r| &*r.name);
    let (mut text, mut at_line_start) = (Vec::new(), !in_line);
    loop {
        text.clear();
        bytes.read(from, TAIL_BYTES, &mut text)?;
        if text.is_empty() {
            return Ok(false);
        }
        let Some(at) = text.iter().position(|b| !b.is_ascii_whitespace()) else {
            at_line_start = text.ends_with(b"\n");
            from += text.len() as u64;
            continue;
        };
        at_line_start = if at > 0 { text[at - 1] == b'\n' } else { at_line_start };
        let definition = text[at..].split(|&b| b == b'\n').next().unwrap_or_default();
        return match name(definition).filter(|_| at_line_start && definition[0] == b'>') {
            Some(id) if names.contains(&*id) => Ok(true),
            Some(_) => {
                Err(mismatch(label, bytes.label(), last, "is followed by one that is not in the index"))
            }
            None => Err(mismatch(label, bytes.label(), last, "is longer in the file")),
        };
    }
}
