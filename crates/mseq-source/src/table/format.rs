use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use crate::decompress::{Bytes, decompress};
use crate::fai_build::BOM;
use crate::fault::place;
use crate::format::by_column;
use crate::{Error, Result};

const HEAD_BYTES: u64 = 4096;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Text, with this byte between fields: a comma or a tab.
    Text(u8),
    /// Parquet.
    Parquet,
    /// Parquet inside gzip, which is unpacked to a scratch file first.
    PackedParquet,
}

/// What kind of table a file is: Parquet by its content, CSV and TSV by the name (`.csv`, `.tsv`,
/// `.txt`, each also with `.gz`) or by a column `sequence` or `seq` in the first line.
///
/// `None` for FASTA, FASTQ and everything else, and for what is not a regular file.
///
/// # Errors
///
/// A file that cannot be read or decompressed.
pub fn table_format(path: &Path) -> Result<Option<TableFormat>> {
    let label = path.to_string_lossy();
    let io = |e| place(e, &label, 1);
    if !path.metadata().map_err(io)?.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(io)?;
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic).map_err(io)?;
    let packed = magic.starts_with(b"\x1f\x8b");
    let whole = Cursor::new(magic).chain(file);
    let (head, _) = head(decompress(Box::new(whole)).map_err(io)?).map_err(io)?;
    Ok(of_head(&head, &label, packed))
}

/// The first bytes, and all of them again, without the byte order mark.
pub(super) fn head(mut text: Bytes) -> std::io::Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::new();
    text.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    if head.starts_with(BOM) {
        head.drain(..BOM.len());
    }
    Ok((head.clone(), Box::new(Cursor::new(head).chain(text))))
}

pub(super) fn of_head(head: &[u8], name: &str, packed: bool) -> Option<TableFormat> {
    if head.starts_with(b"PAR1") {
        return Some(if packed { TableFormat::PackedParquet } else { TableFormat::Parquet });
    }
    let text = head.trim_ascii_start();
    if matches!(text.first(), Some(b'>' | b'@')) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".bgz")).unwrap_or(&name);
    let line = text.split(|&b| b == b'\n').next().unwrap_or_default();
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => Some(TableFormat::Text(b',')),
        Some("tsv") => Some(TableFormat::Text(b'\t')),
        Some("txt") if line.contains(&b'\t') => Some(TableFormat::Text(b'\t')),
        Some("txt") if line.contains(&b',') => Some(TableFormat::Text(b',')),
        _ => match by_column(text)? {
            "TSV table" => Some(TableFormat::Text(b'\t')),
            _ => Some(TableFormat::Text(b',')),
        },
    }
}

/// The file itself, or a scratch copy of what it decompresses to, without a name.
pub(super) fn unpack(path: &Path, folder: &Path) -> Result<File> {
    let label = path.to_string_lossy();
    let file = File::open(path).map_err(|e| place(e, &label, 1))?;
    let mut text = decompress(Box::new(file)).map_err(|e| place(e, &label, 1))?;
    let scratch = |cause| Error::Io { path: format!("{} (unpacking {label})", folder.display()), cause };
    let mut copy = tempfile::tempfile_in(folder).map_err(scratch)?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = text.read(&mut piece).map_err(|e| place(e, &label, 1))?;
        if n == 0 {
            return Ok(copy);
        }
        std::io::Write::write_all(&mut copy, &piece[..n]).map_err(scratch)?;
    }
}
