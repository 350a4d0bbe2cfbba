//! Counting the bases of a plain FASTA file in stretches, several at a time.
//!
//! Only what is beyond doubt is counted so: one line end, no blank where it would matter, no byte that is
//! no base. Any other file is left to the reader, whose word on it counts.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::lines::line_len;
use crate::tokenize::check;

/// Bytes of a stretch: small enough for eight threads to share a bacterium.
const STRETCH: u64 = 1 << 20;

/// More threads than this wait for memory.
const MOST_THREADS: usize = 8;

/// Longest definition line that is beyond doubt.
const MOST_DEFINITION: usize = 1 << 16;

/// Bases of each record of a file; `None` when the file can't be counted so.
pub(crate) fn count_side_by_side(path: &Path) -> Option<Vec<u64>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    if threads == 1 {
        return None;
    }
    stretches(path, STRETCH, threads)
}

/// With stretches of a given size.
fn stretches(path: &Path, stretch: u64, threads: usize) -> Option<Vec<u64>> {
    let len = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
    let (next, count) = (AtomicU64::new(0), len.div_ceil(stretch));
    if count < 2 {
        return None;
    }
    let work = || -> Option<Vec<(u64, Stretch)>> {
        let mut file = File::open(path).ok()?;
        let (mut mine, mut bytes) = (Vec::new(), Vec::new());
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return Some(mine);
            }
            let counted = read(&mut file, i * stretch, stretch, &mut bytes)
                .and_then(|before| Stretch::count(before, &bytes, stretch as usize));
            let Some(counted) = counted else {
                // Nobody else need go on.
                next.store(count, Ordering::Relaxed);
                return None;
            };
            mine.push((i, counted));
        }
    };
    let mut all = thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let parts = started.into_iter().map(|thread| thread.join().ok().flatten());
        parts.collect::<Option<Vec<_>>>()
    })?
    .concat();
    all.sort_unstable_by_key(|(i, _)| *i);
    join(all.into_iter().map(|(_, stretch)| stretch))
}

/// Reads a stretch and one byte more, and gives the byte before it; a line end stands before the first.
fn read(file: &mut File, from: u64, len: u64, bytes: &mut Vec<u8>) -> Option<u8> {
    file.seek(SeekFrom::Start(from.saturating_sub(1))).ok()?;
    let mut before = [b'\n'];
    if from > 0 {
        file.read_exact(&mut before).ok()?;
    }
    bytes.clear();
    file.take(len + 1).read_to_end(bytes).ok()?;
    Some(before[0])
}

/// What is in a stretch of a file.
#[derive(Debug, Clone, Default)]
struct Stretch {
    /// Bytes that end a line which began before, and whether all are bases.
    rest: usize,
    rest_is_bases: bool,
    rest_has_cr: bool,
    /// Whether nothing follows these: the line goes on after the stretch too.
    only_rest: bool,
    /// Bases after that line and before the first record that begins here.
    before: u64,
    /// Bases of each record that begins here.
    records: Vec<u64>,
    /// Whether its last line is a definition that goes on after it.
    in_definition: bool,
}

impl Stretch {
    /// Counts the first `len` bytes, of which those after `before` are the first.
    fn count(before: u8, bytes: &[u8], len: usize) -> Option<Self> {
        let (text, after) = bytes.split_at(len.min(bytes.len()));
        let mut found = Self { rest_is_bases: true, ..Self::default() };
        let mut rest = text;
        if before != b'\n' {
            found.rest = line_len(rest);
            found.rest_is_bases = check(&rest[..found.rest]).is_ok();
            found.rest_has_cr = rest[..found.rest].contains(&b'\r');
            found.only_rest = found.rest == rest.len();
            rest = rest.get(found.rest + 1..).unwrap_or_default();
        }
        while let Some(first) = rest.first() {
            let line = &rest[..line_len(rest)];
            if *first == b'>' {
                let id = line.get(1).or(if line.len() == rest.len() { after.first() } else { None });
                if !id.is_some_and(u8::is_ascii_graphic)
                    || line.len() > MOST_DEFINITION
                    || line.contains(&b'\r')
                {
                    return None;
                }
                found.records.push(0);
                found.in_definition = line.len() == rest.len();
            } else {
                check(line).ok()?;
                *found.records.last_mut().unwrap_or(&mut found.before) += line.len() as u64;
            }
            rest = rest.get(line.len() + 1..).unwrap_or_default();
        }
        Some(found)
    }
}

/// Records of stretches that follow each other.
fn join(stretches: impl Iterator<Item = Stretch>) -> Option<Vec<u64>> {
    let mut records: Vec<u64> = Vec::new();
    let mut in_definition = false;
    for stretch in stretches {
        if in_definition {
            if stretch.rest > MOST_DEFINITION || stretch.rest_has_cr {
                return None;
            }
        } else if stretch.rest > 0 {
            let bases = Some(stretch.rest as u64).filter(|_| stretch.rest_is_bases)?;
            *records.last_mut()? += bases;
        }
        if stretch.before > 0 {
            *records.last_mut()? += stretch.before;
        }
        records.extend(stretch.records);
        in_definition = stretch.in_definition || (in_definition && stretch.only_rest);
    }
    Some(records).filter(|records| !records.is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::tests::records;

    /// Lines as files have them, and some that no file should have.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "[ACGTNacgtn]{0,30}\n",
            2 => ">[a-z]{1,12}( [ -~]{0,20})?\n",
            1 => Just("\n".to_owned()),
            1 => prop_oneof![
                Just("AC\r\n".to_owned()), Just(">\n".to_owned()), Just("> a\n".to_owned()),
                Just("AC>GT\n".to_owned()), Just("A C\n".to_owned()), Just(">a\rb\n".to_owned()),
                Just("ACGT".to_owned()), Just(">b".to_owned()), Just("!\n".to_owned()),
            ],
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_counted_is_what_the_reader_reads(
            lines in prop::collection::vec(line(), 0..14), stretch in 1u64..50, threads in 1usize..4,
        ) {
            let text = format!(">r\n{}", lines.concat());
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let found = stretches(file.path(), stretch, threads);
            let want = records("x.fa", text.as_bytes(), 1 << 20, 1 << 20);
            let want = want.map(|all| all.iter().map(|(_, bases)| bases.len() as u64).collect::<Vec<_>>());
            match (&found, &want) {
                (Some(found), Ok(want)) => prop_assert_eq!(found, want),
                (Some(_), Err(e)) => prop_assert!(false, "counted where the reader says: {}", e),
                // The reader is asked then.
                (None, _) => {}
            }
            // Of a plain file nothing is in doubt.
            let plain = lines.iter().all(|l| l.ends_with('\n') && !l.contains(['\r', '!']))
                && !text.contains("AC>GT") && !text.contains("A C\n") && !text.contains(">\n") && !text.contains("> ");
            if plain && text.len() as u64 > stretch {
                prop_assert!(found.is_some(), "{}", text);
            }
        }
    }
}
