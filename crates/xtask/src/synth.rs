//! Random FASTA that looks a little like a genome, for speed and memory tests.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use crate::error::{Error, Result};

/// Bases made at a time; what the memory depends on.
const BLOCK: usize = 1 << 16;

struct Options {
    bases: u64,
    records: u64,
    seed: u64,
    /// Bases a line; 0 puts a record on one line.
    line: u64,
    output: PathBuf,
}

pub(crate) fn run(args: &[&str]) -> Result<()> {
    let options = parse(args)?;
    let start = Instant::now();
    let written = if options.output == Path::new("-") {
        write(&options, io::stdout().lock())
    } else {
        File::create(&options.output).and_then(|file| write(&options, file))
    };
    match written {
        Ok(()) => {}
        // Whoever read it, `head` perhaps, has seen enough.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(source) => return Err(Error::Write { path: options.output, source }),
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "{} bases in {} records, {seconds:.2} s, {:.0} million bases/s",
        options.bases,
        options.records,
        options.bases as f64 / 1e6 / seconds.max(1e-9)
    );
    Ok(())
}

fn parse(args: &[&str]) -> Result<Options> {
    let (mut bases, mut records, mut seed, mut line, mut output) = (None, 1, 0, 60, None);
    let mut words = args.iter();
    while let Some(&option) = words.next() {
        let mut value = || words.next().ok_or_else(|| Error::Usage(format!("synth: {option} needs a value")));
        match option {
            "--bases" => bases = Some(number(option, value()?)?),
            "--records" => records = number(option, value()?)?,
            "--seed" => seed = number(option, value()?)?,
            "--line" => line = number(option, value()?)?,
            "-o" | "--output" => output = Some(PathBuf::from(value()?)),
            other => return Err(Error::Usage(format!("synth: what is '{other}'?"))),
        }
    }
    let bases = bases.ok_or_else(|| Error::Usage("synth: --bases is missing".to_owned()))?;
    let output = output.ok_or_else(|| Error::Usage("synth: -o is missing".to_owned()))?;
    if records == 0 || records > bases {
        return Err(Error::Usage(format!("synth: {bases} bases do not make {records} records")));
    }
    Ok(Options { bases, records, seed, line, output })
}

/// `1500`, `20k`, `3M` or `3G`: powers of 1000, as bases are counted.
fn number(option: &str, text: &str) -> Result<u64> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(unit));
    value.ok_or_else(|| Error::Usage(format!("synth: {option} takes a number, not '{text}'")))
}

/// The bases of a record depend on the seed and the record's number alone, not on the line length.
fn write(options: &Options, mut out: impl Write) -> io::Result<()> {
    let table = transitions();
    let mut block = vec![0; BLOCK];
    let mut text = Vec::with_capacity(2 * BLOCK);
    for record in 0..options.records {
        let extra = u64::from(record < options.bases % options.records);
        let mut left = options.bases / options.records + extra;
        writeln!(text, ">synth{} length={left} seed={}", record + 1, options.seed)?;
        let mut chain = Chain::new(&table, options.seed, record);
        let mut column = 0;
        while left > 0 {
            let take = left.min(BLOCK as u64) as usize;
            chain.fill(&mut block[..take.next_multiple_of(8)]);
            left -= take as u64;
            column = wrap(&block[..take], options.line, column, &mut text);
            if left > 0 {
                out.write_all(&text)?;
                text.clear();
            }
        }
        if column > 0 {
            text.push(b'\n');
        }
        // Many short records go out together.
        if text.len() > BLOCK {
            out.write_all(&text)?;
            text.clear();
        }
    }
    out.write_all(&text)?;
    out.flush()
}

/// Appends bases in lines of `line`, of which `column` bases are there already; returns the new column.
fn wrap(mut bases: &[u8], line: u64, mut column: u64, text: &mut Vec<u8>) -> u64 {
    if line == 0 {
        text.extend_from_slice(bases);
        return 1;
    }
    while !bases.is_empty() {
        let room = usize::try_from(line - column).unwrap_or(usize::MAX).min(bases.len());
        let (now, later) = bases.split_at(room);
        text.extend_from_slice(now);
        bases = later;
        column += room as u64;
        if column == line {
            text.push(b'\n');
            column = 0;
        }
    }
    column
}

/// A Markov chain of order two: two bases and eight random bits give the next.
struct Chain<'a> {
    table: &'a Transitions,
    /// The last two bases, four bits.
    context: usize,
    random: u64,
}

/// The next base, 0 to 3, under context * 256 + random byte.
type Transitions = [u8; 16 * 256];

impl<'a> Chain<'a> {
    fn new(table: &'a Transitions, seed: u64, record: u64) -> Self {
        let mut chain = Chain { table, context: 0, random: seed };
        // Hashed once with each, so that neighbours in seed or record have nothing in common.
        chain.random = chain.next_random() ^ record.wrapping_mul(0xd1b5_4a32_d192_ed03);
        chain.random = chain.next_random();
        chain.context = chain.random as usize & 15;
        chain
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `bases` is a multiple of eight long.
    fn fill(&mut self, bases: &mut [u8]) {
        for eight in bases.chunks_exact_mut(8) {
            let random = self.next_random().to_le_bytes();
            for (base, byte) in eight.iter_mut().zip(random) {
                let next = self.table[((self.context & 15) << 8) | usize::from(byte)];
                self.context = (self.context << 2) | usize::from(next);
                *base = b"ACGT"[usize::from(next & 3)];
            }
        }
    }
}

/// Like a vertebrate's: 41 % G and C, few CG, runs and repeats a little more often than by chance.
/// Whole numbers, so that every machine makes the same file.
fn transitions() -> Transitions {
    const BASE: [u32; 4] = [295, 205, 205, 295];
    let mut table = [0; 16 * 256];
    for context in 0..16 {
        let (before, last) = (context >> 2, context & 3);
        let weight = |next: usize| {
            let pair = match (last, next) {
                (1, 2) => 25,           // CG, lost to methylation
                (1, 0) | (3, 2) => 120, // CA and TG, what CG decays to
                (3, 0) => 75,           // TA
                (a, b) if a == b => 115,
                _ => 95,
            };
            let triple = if before == next { 110 } else { 100 };
            BASE[next] * pair * triple
        };
        let total: u32 = (0..4).map(weight).sum();
        let mut sum = 0;
        let mut from = 0;
        for next in 0..4 {
            sum += weight(next);
            let to = (u64::from(sum) * 256 / u64::from(total)) as usize;
            table[context * 256 + from..context * 256 + to].fill(next as u8);
            from = to;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synth(args: &[&str]) -> String {
        let mut out = Vec::new();
        let options = parse(&[args, &["-o", "-"]].concat()).unwrap();
        write(&options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn bases(fasta: &str) -> Vec<String> {
        let records = fasta.split('>').skip(1);
        records.map(|record| record.lines().skip(1).collect()).collect()
    }

    /// Figures in the documentation name a seed: its file must stay what it was.
    #[test]
    fn the_same_options_always_make_the_same_file() {
        assert_eq!(
            synth(&["--bases", "100", "--records", "3", "--seed", "7", "--line", "20"]),
            ">synth1 length=34 seed=7\nCATCCAAGATGTTTTGCCCC\nTAATTACATTTATA\n\
             >synth2 length=33 seed=7\nCTTATGAGCTAATCATCCCC\nCGCTAATAATGTG\n\
             >synth3 length=33 seed=7\nTAGGCATTTTTTGTGTCCTT\nCACTCGGAAAATG\n"
        );
    }

    #[test]
    fn the_line_length_changes_no_base() {
        let long = synth(&["--bases", "200k", "--records", "2", "--line", "0"]);
        assert_eq!(long.lines().count(), 4);
        for line in ["1", "60", "65536", "70000", "1G"] {
            let wrapped = synth(&["--bases", "200k", "--records", "2", "--line", line]);
            assert_eq!(bases(&wrapped), bases(&long), "--line {line}");
            let most = wrapped.lines().filter(|text| !text.starts_with('>')).map(str::len).max().unwrap();
            assert_eq!(most, line.parse().unwrap_or(100_000).min(100_000));
            assert!(wrapped.ends_with('\n') && !wrapped.contains("\n\n"));
        }
    }

    #[test]
    fn lengths_add_up_and_differ_by_one_at_most() {
        for (total, records) in [("1", 1), ("65536", 1), ("65537", 1), ("120", 2), ("1000", 7), ("9", 9)] {
            let lengths: Vec<usize> = bases(&synth(&["--bases", total, "--records", &records.to_string()]))
                .iter()
                .map(String::len)
                .collect();
            assert_eq!(lengths.len(), records);
            assert_eq!(lengths.iter().sum::<usize>().to_string(), total);
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn records_and_seeds_have_nothing_in_common() {
        let one = bases(&synth(&["--bases", "20000", "--records", "2"]));
        let other = bases(&synth(&["--bases", "20000", "--records", "2", "--seed", "1"]));
        let equal = |a: &str, b: &str| a.bytes().zip(b.bytes()).filter(|(a, b)| a == b).count();
        for (a, b) in [(&one[0], &one[1]), (&one[0], &other[0]), (&one[1], &other[0])] {
            assert!((2300..2900).contains(&equal(a, b)), "{} of 10000 bases equal", equal(a, b));
        }
    }

    #[test]
    fn it_is_no_coin_toss() {
        let text = bases(&synth(&["--bases", "1M"])).remove(0);
        let share = |word: &str| {
            text.as_bytes().windows(word.len()).filter(|at| *at == word.as_bytes()).count() as f64 / 1e6
        };
        let gc = share("G") + share("C");
        assert!((0.38..0.44).contains(&gc), "GC {gc}");
        assert!(share("CG") < 0.4 * share("C") * share("G"), "CG {}", share("CG"));
        // Order two: what comes after AA depends on more than the last A.
        let after = |context: &str| share(&format!("{context}C")) / share(context);
        assert!(after("CA") > 1.05 * after("GA"), "{} {}", after("CA"), after("GA"));
    }

    #[test]
    fn numbers_take_units_and_refuse_the_rest() {
        assert_eq!(number("--bases", "20k").unwrap(), 20_000);
        assert_eq!(number("--bases", "3G").unwrap(), 3_000_000_000);
        for text in ["", "k", "-1", "1.5M", "1T", "99999999999G"] {
            assert!(number("--bases", text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_a_usage_error() {
        for args in [
            &["--bases", "10"][..],
            &["-o", "x"],
            &["--bases", "10", "-o"],
            &["--bases", "2", "--records", "3", "-o", "x"],
            &["--bases", "2", "--records", "0", "-o", "x"],
            &["--base", "2", "-o", "x"],
        ] {
            assert!(matches!(parse(args), Err(Error::Usage(_))), "{args:?}");
        }
    }
}
