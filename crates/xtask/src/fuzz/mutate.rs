//! Damage: what disks, editors, other programs and ill will do to files.

use crate::random::Random;

/// No case grows beyond this, so that a slow one is slow for what it says and not for its size.
const MAX_BYTES: usize = 4 << 20;

const NUMBERS: [&str; 20] = [
    "0",
    "1",
    "-1",
    "7",
    "255",
    "65536",
    "16777216",
    "2147483647",
    "2147483648",
    "4294967296",
    "4611686018427387903",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
    "1e308",
    "1e999",
    "-0.5",
    "NaN",
    "",
];

const INTEGERS: [u64; 12] =
    [0, 1, 7, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

/// Pieces that mean something in one format or another, or in none.
const PIECES: [&[u8]; 26] = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n\n",
    b">",
    b"\n>",
    b"@",
    b"+",
    b"\t",
    b",",
    b"\"",
    b"\"\"",
    b"#",
    b" ",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"\x1f\x8b",
    b"\x1b[2J",
    b"null",
    b"[[[[[[[[",
    b"{\"a\":",
    b"track",
    b"../",
    "\u{feff}\u{202e}".as_bytes(),
];

/// Damages `bytes` one to four times. `others` are inputs of the same kind to splice with; `text`
/// adds damage that only makes sense in text.
pub(super) fn damage(bytes: &mut Vec<u8>, others: &[Vec<u8>], text: bool, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        if text && !random.one_in(3) {
            damage_text(bytes, random)
        } else {
            damage_bytes(bytes, others, random)
        }
        bytes.truncate(MAX_BYTES);
    }
}

/// Anywhere, but oftener where headers and footers are.
fn position(len: usize, random: &mut Random) -> usize {
    match random.below(4) {
        0 => random.below(len.min(64)),
        1 => len.saturating_sub(1 + random.below(len.min(1024))),
        _ => random.below(len),
    }
}

/// A piece of up to `most` bytes.
fn range(len: usize, most: usize, random: &mut Random) -> std::ops::Range<usize> {
    let from = position(len, random);
    from..len.min(from + 1 + random.below(most))
}

fn damage_bytes(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let len = bytes.len();
    match random.below(9) {
        0 | 1 if len > 0 => {
            for _ in 0..1 + random.below(4) {
                bytes[position(len, random)] ^= 1 << random.below(8);
            }
        }
        2 if len > 0 => bytes[position(len, random)] = random.next() as u8,
        3 => bytes.truncate(position(len, random)),
        4 if len > 0 => drop(bytes.drain(range(len, 64, random))),
        5 if len > 0 => {
            let piece = bytes[range(len, 200, random)].to_vec();
            let times = if random.one_in(8) { 200 } else { 1 };
            let at = position(len, random);
            bytes.splice(at..at, piece.repeat(times));
        }
        6 => {
            // A length field of any width.
            let value = random.pick(&INTEGERS).wrapping_add(random.below(3) as u64);
            let width = *random.pick(&[1, 2, 4, 8]);
            let at = position(len, random);
            let little = value.to_le_bytes();
            // The same as Thrift writes it, in the footer and the pages of Parquet.
            let varint: Vec<u8> =
                (0..1 + random.below(9)).map(|_| 0xfe).chain([random.next() as u8 & 15]).collect();
            let new = if random.one_in(3) { &varint[..] } else { &little[..width] };
            for (byte, new) in bytes[at..].iter_mut().zip(new) {
                *byte = *new;
            }
        }
        7 if !others.is_empty() => {
            let other = random.pick(others);
            bytes.truncate(position(len, random));
            bytes.extend_from_slice(&other[position(other.len(), random)..]);
        }
        _ => {
            let at = position(len, random);
            bytes.splice(at..at, random.pick(&PIECES).iter().copied());
        }
    }
}

fn damage_text(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(8) {
        0..3 => number(bytes, random),
        3 => lines(bytes, random),
        4 => {
            let crlf = bytes.split(|&b| b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
            *bytes = crlf;
        }
        5 => {
            let at = position(bytes.len(), random);
            bytes.splice(at..at, random.pick(&PIECES).iter().copied());
        }
        6 => word(bytes, random),
        _ => {
            let long = if random.one_in(20) { 1 << 20 } else { 3000 };
            let at = position(bytes.len(), random);
            bytes.splice(at..at, std::iter::repeat_n(*random.pick(b"ACGTN1\" \t"), long));
        }
    }
}

/// Spans of bytes for which `is` holds.
fn spans(bytes: &[u8], is: impl Fn(u8) -> bool) -> Vec<std::ops::Range<usize>> {
    let (mut spans, mut start) = (Vec::new(), None);
    for (i, &byte) in bytes.iter().enumerate() {
        match (is(byte), start) {
            (true, None) => start = Some(i),
            (false, Some(from)) => {
                spans.push(from..i);
                start = None;
            }
            _ => {}
        }
    }
    spans.extend(start.map(|from| from..bytes.len()));
    spans
}

/// Another number in the place of one.
pub(super) fn number(bytes: &mut Vec<u8>, random: &mut Random) {
    let spans = spans(bytes, |b| b.is_ascii_digit());
    if !spans.is_empty() {
        let span = random.pick(&spans).clone();
        bytes.splice(span, random.pick(&NUMBERS).bytes());
    }
}

/// One word becomes another of the same text, so that names collide and types change.
fn word(bytes: &mut Vec<u8>, random: &mut Random) {
    let spans = spans(bytes, |b| b.is_ascii_alphanumeric() || b"_.\"".contains(&b));
    if !spans.is_empty() {
        let (from, to) = (random.pick(&spans).clone(), random.pick(&spans).clone());
        let piece = bytes[from].to_vec();
        bytes.splice(to, piece);
    }
}

/// Lines go missing, come twice, or in another order.
fn lines(bytes: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (a, b) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(4) {
        0 => drop(lines.remove(a)),
        1 => lines.insert(b, lines[a].clone()),
        2 => lines.swap(a, b),
        _ => {
            let len = lines[a].len();
            lines[a].truncate(random.below(len));
        }
    }
    *bytes = lines.concat();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_does_the_same_damage_and_empty_input_is_fine() {
        for seed in 0..3000 {
            let damaged = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                damage(&mut bytes, &[b"12,34\n".to_vec(), Vec::new()], seed % 2 == 0, &mut Random(seed));
                bytes
            };
            assert_eq!(damaged(b"ab\t10\n"), damaged(b"ab\t10\n"));
            damaged(b"");
        }
    }
}
