//! The FASTA that variants were called on, with bases at any place.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use mseq_core::Item;

use crate::{
    BasesAt, DnaTokenizer, FaiIndex, IndexedFasta, IndexedRecord, InputSet, Result, SequenceSource, VcfError,
    VcfRecord,
};

/// A FASTA file whose records have names of their own.
pub struct Reference {
    path: String,
    fasta: IndexedFasta,
    names: Vec<String>,
    bases: Vec<u64>,
    by_name: HashMap<String, usize>,
    letters: Vec<u8>,
    /// The copy behind `fasta`, where the file itself can't be read at any place.
    _copy: Option<tempfile::NamedTempFile>,
}

impl Reference {
    /// Opens the file by its index, or makes one; of a file that is gzip without one, first a plain
    /// copy in the temporary folder, which goes with the value. `stop` ends the copying.
    ///
    /// # Errors
    /// When it can't be read, is no FASTA, or two records have one name.
    pub fn open(path: &Path, stop: &dyn Fn() -> bool) -> Result<Self> {
        let label = path.display().to_string();
        let wrong = |what: String| VcfError::Reference { reference: label.clone(), what };
        let (fasta, copy) = match IndexedFasta::open(path)? {
            Some(fasta) => (fasta, None),
            None => match FaiIndex::build(path)? {
                Some(index) => (IndexedFasta::with_index(path, index)?, None),
                None => {
                    let copy = plain_copy(path, &label, stop)?;
                    let index = FaiIndex::build(copy.path())?;
                    let index = index.ok_or_else(|| wrong("is not FASTA with records".into()))?;
                    (IndexedFasta::with_index(copy.path(), index)?, Some(copy))
                }
            },
        };
        let names: Vec<String> = fasta.records().iter().map(|r| r.name.to_string()).collect();
        let bases = fasta.records().iter().map(|r| r.bases).collect();
        let mut by_name = HashMap::new();
        for (i, name) in names.iter().enumerate() {
            if by_name.insert(name.clone(), i).is_some() {
                let what = format!(
                    "two records are called '{name}': which one a variant means is unclear; rename one"
                );
                return Err(wrong(what).into());
            }
        }
        Ok(Self { path: label, fasta, names, bases, by_name, letters: Vec::new(), _copy: copy })
    }

    /// As the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The record of that name: its number, and its bases.
    pub fn find(&self, name: &str) -> Option<(usize, u64)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.bases[index]))
    }

    /// Name of a record.
    pub fn name(&self, record: usize) -> &str {
        self.names.get(record).map_or("", |name| name)
    }

    /// Makes `out` the `len` letters of a record from base `at` on.
    ///
    /// # Errors
    /// When they can't be read, or are not there.
    pub fn read(&mut self, record: usize, at: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        IndexedRecord::new(&mut self.fasta, record).read_bases(at, len, out)?;
        if out.len() == len {
            return Ok(());
        }
        let what = "the file changed while it was read; start again".to_owned();
        Err(VcfError::Reference { reference: self.path.clone(), what }.into())
    }

    /// Whether a record's REF is what lies there; `vcf` is its file, for messages.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&mut self, vcf: &str, record: &VcfRecord) -> Result<()> {
        let (path, line, contig) = (vcf.to_owned(), record.line, record.chrom.clone());
        let reference = self.path.clone();
        let Some((index, bases)) = self.find(&record.chrom) else {
            let mut has = self.names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if self.names.len() > 5 {
                has += &format!(" and {} more", self.names.len() - 5);
            }
            return Err(VcfError::NoContig { path, line, contig, reference, has }.into());
        };
        let pos = record.pos;
        if pos == 0 || pos - 1 + record.reference.len() as u64 > bases {
            return Err(VcfError::PastEnd { path, line, contig, pos, bases, reference }.into());
        }
        let mut letters = std::mem::take(&mut self.letters);
        let read = self.read(index, pos - 1, record.reference.len(), &mut letters);
        self.letters = letters;
        read?;
        // VCF writes an N, or the first of the bases, where a reference has another IUPAC code.
        let same = |(&have, &said): (&u8, &u8)| {
            let (have, said) = (have.to_ascii_uppercase(), said.to_ascii_uppercase());
            have == said || (!b"ACGTU".contains(&have) && (said == b'N' || Some(said) == first_of(have)))
        };
        if self.letters.iter().zip(record.reference.as_bytes()).all(same) {
            return Ok(());
        }
        let found = shorten(&record.reference);
        let wanted = shorten(&String::from_utf8_lossy(&self.letters));
        Err(VcfError::Mismatch { path, line, contig, pos, found, wanted, reference }.into())
    }
}

/// The first base, in the order of the alphabet, that an IUPAC code stands for.
fn first_of(code: u8) -> Option<u8> {
    match code {
        b'R' | b'W' | b'M' | b'D' | b'H' | b'V' => Some(b'A'),
        b'Y' | b'S' | b'B' => Some(b'C'),
        b'K' => Some(b'G'),
        _ => None,
    }
}

fn shorten(letters: &str) -> String {
    match letters.get(..20) {
        Some(start) if letters.len() > 20 => format!("{start}... ({} bases)", letters.len()),
        _ => letters.to_owned(),
    }
}

/// A plain FASTA of one line a record, in the temporary folder.
fn plain_copy(path: &Path, label: &str, stop: &dyn Fn() -> bool) -> Result<tempfile::NamedTempFile> {
    let full = |e: std::io::Error| {
        let what = format!("a copy in the temporary folder: {e}; set TMPDIR to a folder with space");
        crate::Error::from(VcfError::Reference { reference: label.to_owned(), what })
    };
    let set = InputSet::resolve(&[path.to_string_lossy().into_owned()], false)?;
    // Letters as ids of their own, so that the copy has them as they are.
    let table = b"ACGTUNRYSWKMBDHV-*".iter().map(|&b| (char::from(b), u32::from(b))).collect();
    let mut source = SequenceSource::open(set, DnaTokenizer::new(&table, u32::from(b'N')), 64 << 10)?;
    let mut out = BufWriter::with_capacity(1 << 20, tempfile::NamedTempFile::new().map_err(full)?);
    while let Some(item) = source.next()? {
        if stop() {
            return Err(full(std::io::Error::other("stopped")));
        }
        match item {
            Item::Begin(head) => out.write_all(format!(">{}\n", head.id).as_bytes()).map_err(full)?,
            Item::Tokens(ids) => {
                let letters: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
                out.write_all(&letters).map_err(full)?;
            }
            // The source of letters makes none.
            Item::Samples(_) => {}
            Item::End(_) => out.write_all(b"\n").map_err(full)?,
        }
    }
    out.into_inner().map_err(|e| full(e.into_error()))
}
