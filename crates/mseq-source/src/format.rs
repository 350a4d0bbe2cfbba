use std::io;

use mseq_core::SequenceFormat;

use crate::Error;
use crate::error::AudioError;
use crate::lines::Lines;

/// Bytes looked at.
const HEAD_BYTES: usize = 512;
/// Bytes shown of what is not known.
const SHOWN_BYTES: usize = 24;

const MEND: &str = "this version reads FASTA and FASTQ";
/// Marks what is sound, which has an error of its own.
const MEND_AUDIO: &str = "sound";
const MEND_BAM: &str = "use: samtools fasta FILE | mamba-seq embed -";

/// Offset, bytes there, name, and what to do instead.
const MAGICS: [(usize, &[u8], &str, &str); 17] = [
    (0, b"fLaC", "FLAC audio", MEND_AUDIO),
    (0, b"ID3", "MP3 audio", MEND_AUDIO),
    (0, b"\xff\xfb", "MP3 audio", MEND_AUDIO),
    (0, b"\xff\xf3", "MP3 audio", MEND_AUDIO),
    (0, b"OggS", "Ogg audio", MEND_AUDIO),
    (4, b"ftyp", "M4A audio", MEND_AUDIO),
    (8, b"WAVE", "WAV audio", MEND_AUDIO),
    (0, b"RIFF", "RIFF (WAV audio)", MEND_AUDIO),
    (0, b"PAR1", "Parquet", MEND),
    (0, b"BAM\x01", "BAM", MEND_BAM),
    (0, b"CRAM", "CRAM", MEND_BAM),
    (0, b"BCF", "BCF", MEND),
    (0, b"##fileformat=VCF", "VCF", MEND),
    (0, b"##gff-version", "GFF", MEND),
    (0, b"\x43\x27\x41\x1a", "UCSC 2bit", "use: twoBitToFa FILE stdout | mamba-seq embed -"),
    (0, b"\xff\xfe", "UTF-16 text", "use: iconv -f UTF-16 -t UTF-8 FILE | mamba-seq embed -"),
    (0, b"\xfe\xff", "UTF-16 text", "use: iconv -f UTF-16 -t UTF-8 FILE | mamba-seq embed -"),
];

/// How a SAM header may start. FASTQ looks much like it: `@SQ` alone is a fine read name.
const SAM: [&[u8]; 4] = [b"@HD\tVN:", b"@SQ\tSN:", b"@RG\tID:", b"@PG\tID:"];

/// Names for files whose content does not tell.
const EXTENSIONS: [(&str, &str, &str); 10] = [
    ("csv", "CSV table", MEND),
    ("tsv", "TSV table", MEND),
    ("parquet", "Parquet", MEND),
    ("wav", "named as WAV audio", MEND_AUDIO),
    ("flac", "named as FLAC audio", MEND_AUDIO),
    ("mp3", "named as MP3 audio", MEND_AUDIO),
    ("ogg", "named as Ogg audio", MEND_AUDIO),
    ("m4a", "named as M4A audio", MEND_AUDIO),
    ("bam", "BAM", MEND),
    ("vcf", "VCF", MEND),
];

/// What a decompressed stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Records; the reader stands at the first `>` or `@`.
    Sequence(SequenceFormat),
    /// No byte but line ends.
    Nothing,
    /// A known format that is not read.
    Known { what: &'static str, mend: &'static str },
    /// Something else, with its first bytes escaped.
    Other(String),
}

impl Content {
    /// The format, or the error of an input that has none.
    pub(crate) fn sequence(self, path: &str) -> Result<SequenceFormat, Error> {
        let path = path.to_owned();
        match self {
            Content::Sequence(format) => Ok(format),
            Content::Nothing => Err(Error::NoRecord { path }),
            Content::Known { what, mend: MEND_AUDIO } => Err(AudioError::IsSound { path, what }.into()),
            Content::Known { what, mend } => Err(Error::NotBuilt { path, what, mend }),
            Content::Other(start) => Err(Error::NotSequence { path, start }),
        }
    }
}

/// Finds the format of `lines`, named `name`, and passes over a byte order mark and empty lines.
pub(crate) fn detect(lines: &mut Lines, name: &str) -> io::Result<Content> {
    lines.skip_bom()?;
    lines.skip_empty_lines()?;
    let head = lines.peek(HEAD_BYTES)?;
    let head = &head[..head.len().min(HEAD_BYTES)];
    Ok(match head {
        [] => Content::Nothing,
        [b'>', ..] => Content::Sequence(SequenceFormat::Fasta),
        [b'@', ..] if SAM.iter().any(|start| head.starts_with(start)) => {
            Content::Known { what: "SAM", mend: MEND_BAM }
        }
        [b'@', ..] => Content::Sequence(SequenceFormat::Fastq),
        _ => match by_magic(head).or_else(|| by_extension(name)).or_else(|| Some((by_column(head)?, MEND))) {
            Some((what, mend)) => Content::Known { what, mend },
            None => Content::Other(head[..head.len().min(SHOWN_BYTES)].escape_ascii().to_string()),
        },
    })
}

fn by_magic(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let is = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    MAGICS.iter().find(|(at, magic, ..)| is(*at, magic)).map(|&(_, _, what, mend)| (what, mend))
}

fn by_extension(name: &str) -> Option<(&'static str, &'static str)> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".bgz")).unwrap_or(&name);
    let (_, extension) = name.rsplit_once('.')?;
    EXTENSIONS.iter().find(|(e, ..)| *e == extension).map(|&(_, what, mend)| (what, mend))
}

/// A table by its header: a column named `sequence` or `seq`.
pub(crate) fn by_column(head: &[u8]) -> Option<&'static str> {
    let line = head.split(|&b| b == b'\n' || b == b'\r').next()?;
    // R writes its headers in quotes.
    let plain = |name: &[u8]| {
        let name = name.trim_ascii();
        let inner = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        inner.unwrap_or(name).to_vec()
    };
    let has = |separator: u8| {
        let mut columns = line.split(|&b| b == separator).map(plain);
        line.contains(&separator) && columns.any(|c| c == b"sequence" || c == b"seq")
    };
    if has(b',') {
        Some("CSV table")
    } else if has(b'\t') {
        Some("TSV table")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Dribble;

    fn found(text: &[u8], name: &str) -> Content {
        detect(&mut Lines::new(Box::new(Dribble::new(text, 3))), name).unwrap()
    }

    #[test]
    fn sequences_by_content() {
        let fasta = Content::Sequence(SequenceFormat::Fasta);
        for text in [&b">a"[..], b"\xef\xbb\xbf>a", b"\n\r\n\n>a", b"\xef\xbb\xbf\r\n>a"] {
            assert_eq!(found(text, "x.csv"), fasta, "{text:?}");
        }
        assert_eq!(found(&[&[b'\n'; 5000][..], b">a"].concat(), "x"), fasta);
        for text in [&b">abcftyp\nA"[..], b">1234567WAVE\nA", b"\n>abftyp\nA"] {
            assert_eq!(found(text, "x"), fasta, "{text:?}");
        }
        for text in [&b"@a\nA\n+\nI\n"[..], b"@SQ\tx\nA\n+\nI\n", b"@abcftyp\nA\n+\nI\n"] {
            assert_eq!(found(text, "x"), Content::Sequence(SequenceFormat::Fastq));
        }
        for text in [&b""[..], b"\n\r\n", b"\xef\xbb\xbf"] {
            assert_eq!(found(text, "x.csv"), Content::Nothing);
        }
    }

    #[test]
    fn known_formats_are_named() {
        let name = |text: &[u8], name: &str| match found(text, name) {
            Content::Known { what, .. } => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(name(b"RIFF\0\0\0\0WAVEfmt ", "x"), "WAV audio");
        assert_eq!(name(b"fLaC\0", "x"), "FLAC audio");
        assert_eq!(name(b"ID3\x04", "x"), "MP3 audio");
        assert_eq!(name(b"OggS\0", "x"), "Ogg audio");
        assert_eq!(name(b"PAR1\x15", "x"), "Parquet");
        assert_eq!(name(b"BAM\x01", "x"), "BAM");
        assert_eq!(name(b"##fileformat=VCFv4.3\n", "x"), "VCF");
        assert_eq!(name(b"@HD\tVN:1.6\n", "x"), "SAM");
        assert_eq!(name(b"name,label\nx,1\n", "t.CSV.gz"), "CSV table");
        assert_eq!(name(b"name\tlabel\n", "t.tsv"), "TSV table");
        assert_eq!(name(b"label,sequence\r\n1,ACGT\n", "stdin"), "CSV table");
        assert_eq!(name(b"seq\tlabel\n", "stdin"), "TSV table");
        assert_eq!(name(b"\"label\",\"sequence\"\n", "stdin"), "CSV table");
    }

    #[test]
    fn other_text_is_shown() {
        assert_eq!(found(b"ACGT\n>a\n", "x.txt"), Content::Other("ACGT\\n>a\\n".into()));
        assert_eq!(found(b"\0\xff\"", "x"), Content::Other("\\x00\\xff\\\"".into()));
    }
}
