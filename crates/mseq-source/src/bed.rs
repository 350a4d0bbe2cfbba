use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use crate::decompress::decompress;
use crate::error::BedError;
use crate::fai_build::BOM;
use crate::fault::place;
use crate::{Error, Keep, Result};

/// Longest line that is read: a BED12 line of many blocks is far below.
const MAX_LINE_BYTES: usize = 1 << 20;

/// One line of a BED file. Never empty: `start < end`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Record id.
    pub contig: Arc<str>,
    /// First base, 0-based.
    pub start: u64,
    /// Behind the last base.
    pub end: u64,
    /// The fourth column; `None` when there is none, or it is `.`.
    pub name: Option<Arc<str>>,
}

/// The intervals of a BED file, by contig: at most about 100 bytes an interval.
///
/// ```
/// use mseq_source::RegionSet;
/// let text = &b"track name=x\nchr1\t5\t9\tb\nchr1\t2\t3\nchr2\t0\t4\n"[..];
/// let regions = RegionSet::read("x.bed", text)?;
/// let starts: Vec<_> = regions.of("chr1").iter().map(|i| i.start).collect();
/// assert_eq!((starts, regions.last_end("chr1")), (vec![2, 5], Some(9)));
/// assert!(regions.of("chr3").is_empty());
/// # Ok::<(), mseq_source::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegionSet {
    /// By contig in the order they occur, then start, then end, then input order.
    intervals: Vec<Interval>,
    contigs: Vec<Arc<str>>,
    by_contig: HashMap<Arc<str>, Group>,
}

/// The intervals of one contig.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    from: usize,
    to: usize,
    last_end: u64,
}

impl RegionSet {
    /// Groups intervals by contig, and sorts those of a contig by start, then end, then order
    /// given.
    pub fn new(mut intervals: Vec<Interval>) -> Self {
        let mut rank: HashMap<Arc<str>, usize> = HashMap::new();
        let mut contigs = Vec::new();
        for interval in &intervals {
            if !rank.contains_key(&interval.contig) {
                rank.insert(interval.contig.clone(), contigs.len());
                contigs.push(interval.contig.clone());
            }
        }
        intervals.sort_by(|a, b| (rank[&a.contig], a.start, a.end).cmp(&(rank[&b.contig], b.start, b.end)));
        let (mut by_contig, mut from) = (HashMap::new(), 0);
        for group in intervals.chunk_by(|a, b| a.contig == b.contig) {
            let to = from + group.len();
            let last_end = group.iter().map(|i| i.end).max().unwrap_or(0);
            by_contig.insert(group[0].contig.clone(), Group { from, to, last_end });
            from = to;
        }
        Self { intervals, contigs, by_contig }
    }

    /// Reads the BED file at `path`, plain or gzip.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a line that is wrong, or no interval at all.
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.to_string_lossy();
        let file = File::open(path).map_err(|cause| Error::Io { path: label.to_string(), cause })?;
        Self::read(&label, file)
    }

    /// Reads a BED stream, plain or gzip, called `path` in messages.
    ///
    /// # Errors
    ///
    /// A stream that cannot be read, a line that is wrong, or no interval at all.
    pub fn read(path: &str, reader: impl Read + Send + 'static) -> Result<Self> {
        let intervals = read_bed(path, reader)?.collect::<Result<Vec<_>>>()?;
        if intervals.is_empty() {
            return Err(BedError::NoInterval { path: path.to_owned() }.into());
        }
        Ok(Self::new(intervals))
    }

    /// The intervals of a contig, sorted; none for one that does not occur.
    pub fn of(&self, contig: &str) -> &[Interval] {
        self.by_contig.get(contig).map_or(&[], |group| &self.intervals[group.from..group.to])
    }

    /// The largest end on a contig, where reading forward may stop.
    pub fn last_end(&self, contig: &str) -> Option<u64> {
        self.by_contig.get(contig).map(|group| group.last_end)
    }

    /// What has to be read of a record: nothing, or forward up to the last end, in reverse down to
    /// the first start.
    pub fn keep(&self, contig: &str) -> Keep {
        match (self.of(contig).first(), self.last_end(contig)) {
            (Some(first), Some(end)) => Keep::Between { start: first.start, end },
            _ => Keep::Skip,
        }
    }

    /// Contigs, in the order they occur.
    pub fn contigs(&self) -> &[Arc<str>] {
        &self.contigs
    }

    /// All intervals, by contig, start, end and input order.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }
}

/// Reads BED line by line, plain or gzip, called `path` in messages: at least three columns
/// between tabs, or between blanks in lines without a tab. Comments, `track` and `browser` lines
/// and blank lines are passed over. Contigs share their memory.
///
/// # Errors
///
/// A stream that does not start; the iterator then gives an error for the first line that is wrong,
/// and nothing behind it.
pub fn read_bed<R: Read + Send + 'static>(
    path: &str,
    reader: R,
) -> Result<impl Iterator<Item = Result<Interval>> + use<R>> {
    let mut reader =
        BufReader::with_capacity(1 << 16, decompress(Box::new(reader)).map_err(|e| place(e, path, 1))?);
    let (mut line, mut text, mut done) = (0, Vec::new(), false);
    let (mut names, path) = (HashSet::new(), path.to_owned());
    Ok(std::iter::from_fn(move || {
        while !done {
            line += 1;
            let step = next_line(&mut reader, &mut text).map_err(|e| place(e, &path, line));
            let parsed = step.and_then(|more| {
                done = !more;
                if text.len() > MAX_LINE_BYTES {
                    return Err(BedError::LongLine { path: path.clone(), line, limit: MAX_LINE_BYTES }.into());
                }
                let bytes = text.trim_ascii_end();
                let bytes = if line == 1 { bytes.strip_prefix(BOM).unwrap_or(bytes) } else { bytes };
                parse(&path, line, bytes, &mut names)
            });
            done |= parsed.is_err();
            if let Some(found) = parsed.transpose() {
                return Some(found);
            }
        }
        None
    }))
}

/// `false` at the end.
fn next_line(reader: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    Ok(reader.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', text)? > 0)
}

fn parse(path: &str, line: u64, text: &[u8], names: &mut HashSet<Arc<str>>) -> Result<Option<Interval>> {
    let word = |word: &[u8]| {
        text.strip_prefix(word).is_some_and(|rest| rest.first().is_none_or(|b| b" \t".contains(b)))
    };
    if text.trim_ascii().is_empty() || text.starts_with(b"#") || word(b"track") || word(b"browser") {
        return Ok(None);
    }
    let columns: Vec<&[u8]> = if text.contains(&b'\t') {
        text.split(|&b| b == b'\t').take(4).collect()
    } else {
        text.split(u8::is_ascii_whitespace).filter(|c| !c.is_empty()).take(4).collect()
    };
    let [contig, start, end, rest @ ..] = &columns[..] else {
        return Err(BedError::Columns { path: path.to_owned(), line, columns: columns.len() }.into());
    };
    if contig.is_empty() {
        return Err(BedError::Columns { path: path.to_owned(), line, columns: 2 }.into());
    }
    let (start, end) = (number(path, line, "start", start)?, number(path, line, "end", end)?);
    let path = path.to_owned();
    if end < start {
        return Err(BedError::Reversed { path, line, start, end }.into());
    }
    if end == start {
        return Err(BedError::Empty { path, line, start }.into());
    }
    let contig = String::from_utf8_lossy(contig);
    let contig = names.get(&*contig).cloned().unwrap_or_else(|| {
        let contig: Arc<str> = contig.into();
        names.insert(contig.clone());
        contig
    });
    let name = rest.first().filter(|name| !matches!(name, [] | [b'.']));
    let name = name.map(|name| String::from_utf8_lossy(name).into());
    Ok(Some(Interval { contig, start, end, name }))
}

fn number(path: &str, line: u64, what: &'static str, text: &[u8]) -> Result<u64> {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let (path, value) = (path.to_owned(), String::from_utf8_lossy(text));
    match value.parse::<u64>() {
        Ok(n) if digits(text) => Ok(n),
        _ if text.strip_prefix(b"-").is_some_and(digits) => {
            Err(BedError::Negative { path, line, what, value: value.into_owned() }.into())
        }
        _ => {
            let value: String = value.chars().take(40).collect();
            Err(BedError::Number { path, line, what, value: value.escape_debug().to_string() }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{Dribble, gzip};

    fn read(text: &[u8]) -> Result<Vec<Interval>> {
        let plain: Vec<_> = read_bed("x.bed", Dribble::new(text, 3))?.collect::<Result<_>>()?;
        let packed: Vec<_> = read_bed("x.bed", Dribble::new(&gzip(text), 7))?.collect::<Result<_>>()?;
        assert_eq!(plain, packed);
        Ok(plain)
    }

    fn interval(contig: &str, start: u64, end: u64, name: Option<&str>) -> Interval {
        Interval { contig: contig.into(), start, end, name: name.map(Arc::from) }
    }

    #[test]
    fn lines_of_every_kind() {
        let text = b"\xef\xbb\xbf# comment\nbrowser position chr1\ntrack name=x\r\n\n \t\nchr1\t0\t5\nchr1 2 9 n\r\n\
            tracks\t1\t2\ta b\t0\t+\nchr1\t3\t4\t.\t0\t-\t3\t4\t0\t1\t1\t0\n track\t1\t2\t\nlast\t18446744073709551614\t18446744073709551615";
        let want = [
            interval("chr1", 0, 5, None),
            interval("chr1", 2, 9, Some("n")),
            interval("tracks", 1, 2, Some("a b")),
            interval("chr1", 3, 4, None),
            interval(" track", 1, 2, None),
            interval("last", u64::MAX - 1, u64::MAX, None),
        ];
        assert_eq!(read(text).unwrap(), want);
        let shared = read(b"a\t1\t2\na\t1\t2\n").unwrap();
        assert!(Arc::ptr_eq(&shared[0].contig, &shared[1].contig));
    }

    #[test]
    fn bad_lines_have_a_place() {
        let error = |text: &str| read(format!("# x\n{text}\n").as_bytes()).unwrap_err().to_string();
        for (text, want) in [
            ("chr1\t5", "2 columns where BED has at least 3 (contig, start, end); mend the line"),
            ("chr1", "1 columns where BED has at least 3 (contig, start, end); mend the line"),
            ("\t1\t2", "2 columns where BED has at least 3 (contig, start, end); mend the line"),
            ("chr1\tx\t5", "start 'x' is not a number of bases; mend the line"),
            ("chr1\t1\t1e6", "end '1e6' is not a number of bases; mend the line"),
            ("chr1\t+1\t6", "start '+1' is not a number of bases; mend the line"),
            ("chr1\t1\t\tx", "end '' is not a number of bases; mend the line"),
            (
                "chr1\t1\t18446744073709551616",
                "end '18446744073709551616' is not a number of bases; mend the line",
            ),
            ("chr1\t-1\t5", "start '-1' is negative; BED counts bases from 0"),
            ("chr1\t9\t5", "end 5 is before start 9; swap them"),
            (
                "chr1\t5\t5",
                "start and end are both 5: the interval is empty (BED ends are exclusive); remove the line or raise the end",
            ),
        ] {
            assert_eq!(error(text), format!("x.bed: line 2: {want}"), "{text}");
        }
        let long = [vec![b'a'; MAX_LINE_BYTES], b"\t1\t2\n".to_vec()].concat();
        assert!(read(&long).unwrap_err().to_string().contains("a line of more than 1048576 bytes"));
        assert!(RegionSet::read("x.bed", &b"#\n"[..]).unwrap_err().to_string().contains("holds no interval"));
        let cut = RegionSet::read("x.bed", std::io::Cursor::new(gzip(b"a\t1\t2\n")[..15].to_vec()));
        assert!(matches!(cut, Err(Error::TruncatedGzip { .. })));
    }

    proptest! {
        #[test]
        fn any_order_is_grouped_and_sorted(lines in vec((0..4_u8, 0..50_u64, 1..20_u64), 0..60)) {
            let intervals: Vec<_> = lines.iter().enumerate()
                .map(|(i, (c, start, len))| interval(&format!("c{c}"), *start, start + len, Some(&i.to_string())))
                .collect();
            let set = RegionSet::new(intervals.clone());
            prop_assert_eq!(set.intervals().len(), intervals.len());
            for c in 0..5 {
                let contig = format!("c{c}");
                let mut want: Vec<_> = intervals.iter().filter(|i| *i.contig == contig).cloned().collect();
                want.sort_by_key(|i| (i.start, i.end));
                prop_assert_eq!(set.of(&contig), &want[..]);
                prop_assert_eq!(set.last_end(&contig), want.iter().map(|i| i.end).max());
                prop_assert_eq!(set.keep(&contig) == Keep::Skip, want.is_empty());
            }
        }

        #[test]
        fn any_bytes_give_intervals_or_one_line(text in vec(prop::sample::select(b"c\t\t 10-.\n\r#".to_vec()), 0..60)) {
            match read(&text) {
                Ok(all) => prop_assert!(all.iter().all(|i| i.start < i.end)),
                Err(e) => prop_assert!(!e.to_string().contains('\n')),
            }
        }
    }
}
