use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::fault::Fault;

/// A byte stream of any origin.
pub(crate) type Bytes = Box<dyn Read + Send>;

/// Enough for a gzip header with the extra field of BGZF.
pub(crate) const HEAD_BYTES: usize = 512;
const BUFFER_BYTES: usize = 64 * 1024;

/// The empty block that ends every whole BGZF file (SAM specification, section 4.1.2).
pub(crate) const BGZF_EOF: [u8; 28] =
    *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0";

/// Other compressions, and the program that undoes each.
const OTHERS: [(&[u8], &str, &str); 6] = [
    (b"BZh", "bzip2", "bzcat"),
    (b"\xfd7zXZ\0", "xz", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4cat"),
    (b"\x1f\x9d", "compress (.Z)", "zcat"),
    (b"PK\x03\x04", "zip", "unzip -p"),
];

/// The plain bytes of `inner`, which may be gzip or BGZF, found by content.
pub(crate) fn decompress(mut inner: Bytes) -> io::Result<Bytes> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    inner.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    if let Some((_, what, cat)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(Fault::Compression { what, cat }.into());
    }
    let gzip = head.starts_with(b"\x1f\x8b");
    let bgzf = gzip && is_bgzf(&head);
    let whole = Cursor::new(head).chain(inner);
    if !gzip {
        return Ok(Box::new(whole));
    }
    let tail = Tail { inner: whole, last: [0; 28] };
    Ok(Box::new(Gunzip { inner: MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, tail)), bgzf }))
}

/// Whether the extra field of a gzip header (RFC 1952) has the subfield `BC`.
pub(crate) fn is_bgzf(head: &[u8]) -> bool {
    const FEXTRA: u8 = 4;
    let [_, _, _, flags, _, _, _, _, _, _, low, high, extra @ ..] = head else { return false };
    if flags & FEXTRA == 0 {
        return false;
    }
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(extra.len());
    let mut rest = &extra[..len];
    while let [a, b, low, high, after @ ..] = rest {
        if [*a, *b] == *b"BC" {
            return true;
        }
        let skip = usize::from(u16::from_le_bytes([*low, *high]));
        rest = after.get(skip..).unwrap_or_default();
    }
    false
}

/// Remembers the last bytes that went through, so that the end of a pipe can be judged too.
struct Tail {
    inner: Chain<Cursor<Vec<u8>>, Bytes>,
    last: [u8; 28],
}

impl Read for Tail {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        let new = &out[n.saturating_sub(self.last.len())..n];
        self.last.rotate_left(new.len());
        let keep = self.last.len() - new.len();
        self.last[keep..].copy_from_slice(new);
        Ok(n)
    }
}

struct Gunzip {
    inner: MultiGzDecoder<BufReader<Tail>>,
    bgzf: bool,
}

impl Read for Gunzip {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(out) {
            // A BGZF file cut between two blocks is valid gzip: only the end block is missing.
            Ok(0) if !out.is_empty() && self.bgzf && self.inner.get_ref().get_ref().last != BGZF_EOF => {
                Err(Fault::TruncatedGzip.into())
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::TruncatedGzip.into()),
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                Err(Fault::CorruptGzip(e.to_string()).into())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::fault_of;
    use crate::tests::{Dribble, bgzf, gzip};

    fn read(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(Box::new(Dribble::new(bytes, step)))?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn fault(bytes: &[u8]) -> Fault {
        fault_of(&read(bytes, 7).unwrap_err()).unwrap().clone()
    }

    /// Bytes that do not compress to almost nothing.
    fn noise(n: u32) -> Vec<u8> {
        (0..n).map(|i| b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 29) as usize % 4]).collect()
    }

    #[test]
    fn plain_gzip_bgzf_and_several_members() {
        let text = noise(5000);
        let two = [gzip(&text[..700]), gzip(b""), gzip(&text[700..])].concat();
        for packed in [text.clone(), gzip(&text), two, bgzf(&text, 900)] {
            for step in [1, 3, 1000, 1 << 20] {
                assert_eq!(read(&packed, step).unwrap(), text);
            }
        }
        assert_eq!(read(&gzip(b""), 4).unwrap(), b"");
        assert_eq!(read(&BGZF_EOF, 4).unwrap(), b"");
        assert_eq!(read(b"", 4).unwrap(), b"");
        assert_eq!(read(b"\x1f", 4).unwrap(), b"\x1f");
    }

    #[test]
    fn every_cut_is_truncation() {
        let text = noise(400);
        let packed = gzip(&text);
        for cut in 2..packed.len() {
            assert_eq!(fault(&packed[..cut]), Fault::TruncatedGzip, "{cut} of {}", packed.len());
        }
        let packed = bgzf(&text, 100);
        for cut in 16..packed.len() {
            assert_eq!(fault(&packed[..cut]), Fault::TruncatedGzip, "{cut} of {}", packed.len());
        }
    }

    #[test]
    fn damage_is_named() {
        let mut packed = gzip(&noise(4000));
        let middle = packed.len() / 2;
        packed[middle] ^= 0xff;
        packed[middle + 1] ^= 0xff;
        assert!(matches!(fault(&packed), Fault::CorruptGzip(_)));
        let mut packed = gzip(b"ACGT");
        let crc = packed.len() - 8;
        packed[crc] ^= 1;
        assert!(matches!(fault(&packed), Fault::CorruptGzip(_)));
        assert!(matches!(
            fault(&[gzip(b"ACGT"), b"more than ten bytes".to_vec()].concat()),
            Fault::CorruptGzip(_)
        ));
    }

    #[test]
    fn other_compressions_are_named() {
        for (magic, name) in
            [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")]
        {
            assert!(matches!(fault(magic), Fault::Compression { what, .. } if what == name));
        }
    }

    #[test]
    fn the_bgzf_mark_is_found_behind_other_subfields() {
        let header = |extra: &[u8]| {
            let mut h = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff".to_vec();
            h.extend((extra.len() as u16).to_le_bytes());
            h.extend(extra);
            h
        };
        assert!(is_bgzf(&header(b"BC\x02\0\0\0")));
        assert!(is_bgzf(&header(b"XX\x01\0zBC\x02\0\0\0")));
        assert!(!is_bgzf(&header(b"XX\x06\0BC\x02\0\0\0")));
        assert!(!is_bgzf(&header(b"XX\xff\xffzBC")));
        assert!(!is_bgzf(&gzip(b"BC")));
    }
}
