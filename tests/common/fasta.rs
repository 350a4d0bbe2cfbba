//! FASTA in each wrapping, with the indexes that samtools and bgzip would make.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use flate2::{Compression, Crc};

/// How a FASTA file lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// Text.
    Plain,
    /// Text with a `.fai`.
    PlainIndexed,
    /// One gzip stream.
    Gzip,
    /// BGZF blocks.
    Bgzf,
    /// BGZF blocks with a `.fai` and a `.gzi`.
    BgzfIndexed,
}

impl Wrapping {
    pub(crate) const ALL: [Self; 5] =
        [Self::Plain, Self::PlainIndexed, Self::Gzip, Self::Bgzf, Self::BgzfIndexed];

    /// Writes `text` into `folder` and gives the file's name.
    pub(crate) fn write(self, folder: &Path, text: &str) -> &'static str {
        let name = if matches!(self, Self::Plain | Self::PlainIndexed) { "w.fa" } else { "w.fa.gz" };
        let path = folder.join(name);
        let (bytes, gzi) = match self {
            Self::Plain | Self::PlainIndexed => (text.as_bytes().to_vec(), Vec::new()),
            Self::Gzip => (gzip(text.as_bytes()), Vec::new()),
            Self::Bgzf | Self::BgzfIndexed => bgzf(text.as_bytes()),
        };
        std::fs::write(&path, bytes).unwrap();
        for ending in ["fai", "gzi"] {
            std::fs::remove_file(folder.join(format!("{name}.{ending}"))).ok();
        }
        if matches!(self, Self::PlainIndexed | Self::BgzfIndexed) {
            std::fs::write(folder.join(format!("{name}.fai")), fai(text)).unwrap();
        }
        if self == Self::BgzfIndexed {
            std::fs::write(folder.join(format!("{name}.gzi")), gzi).unwrap();
        }
        name
    }
}

/// One gzip stream.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// BGZF in blocks far smaller than real ones, and its `.gzi`.
fn bgzf(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut starts) = (Vec::new(), Vec::new());
    for (i, block) in bytes.chunks(700).chain([&[][..]]).enumerate() {
        starts.push((out.len() as u64, (i * 700).min(bytes.len()) as u64));
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(block).unwrap();
        let data = deflate.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(block);
        out.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0]);
        // Header and trailer come to 26 bytes; the field holds the size less one.
        out.extend((data.len() as u16 + 25).to_le_bytes());
        out.extend(data);
        out.extend(crc.sum().to_le_bytes());
        out.extend((block.len() as u32).to_le_bytes());
    }
    // The first block, at 0, is not listed, and the empty one at the end is no block of data.
    let listed = &starts[1..starts.len() - 1];
    let mut gzi = (listed.len() as u64).to_le_bytes().to_vec();
    listed
        .iter()
        .for_each(|(packed, plain)| gzi.extend([packed.to_le_bytes(), plain.to_le_bytes()].concat()));
    (out, gzi)
}

/// The `.fai` of a FASTA text whose lines are of one length in each record but for the last.
pub(crate) fn fai(text: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for record in text.split_inclusive('>').skip(1) {
        // Each piece ends with the next record's mark; the first mark was skipped.
        let record = record.strip_suffix('>').unwrap_or(record);
        let (name, lines) = record.split_once('\n').unwrap();
        let offset = at + 1 + name.len() + 1;
        let line = lines.lines().next().map_or(0, str::len);
        let bases: usize = lines.lines().map(str::len).sum();
        let width = if bases == 0 { 0 } else { line + 1 };
        writeln!(out, "{name}\t{bases}\t{offset}\t{line}\t{width}").unwrap();
        at += 1 + record.len();
    }
    out
}
