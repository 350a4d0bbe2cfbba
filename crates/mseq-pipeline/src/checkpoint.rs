use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Crc;
use mseq_engine::{Position, Snapshot};
use mseq_sink::{KeptMark, Saved};
use safetensors::{Dtype, SafeTensors, tensor::View};
use serde::{Deserialize, Serialize};

use crate::stats::Tally;
use crate::{Error, Result};

/// Of the file's layout: a reader refuses any other.
const VERSION: u32 = 2;
/// Keys of the metadata.
const HEADER: &str = "mamba_seq_checkpoint";
const CRC32: &str = "crc32";

/// A job's identity: whatever changes a row, by name. Not device, threads, chunk or progress.
pub type Digest = BTreeMap<String, String>;

/// Everything that an unfinished job needs to go on, in `OUT.partial.checkpoint`.
///
/// The file is safetensors: the state as tensors `layers.I.conv_state`, `layers.I.ssm_state`
/// (f32, all slots), `window_sums` (f64) and, of scores, `head_state` (f32), and in the metadata one JSON text and the CRC-32 of it
/// and the tensors: a state with a flipped bit looks like any other, and would give other rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) digest: Digest,
    pub(crate) position: Position,
    pub(crate) snapshot: Snapshot,
    pub(crate) tally: Tally,
    /// What of `OUT.partial` belongs to the position.
    pub(crate) saved: Saved,
}

/// The JSON part.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    digest: Digest,
    records: u64,
    pos: u64,
    ended: bool,
    rows: u64,
    slot: Option<usize>,
    input_sha256: String,
    tally: Tally,
    log_bytes: u64,
    /// Record and SHA-256 of a [`KeptMark`].
    #[serde(default)]
    kept: Option<(u64, String)>,
    log_crc32: u32,
}

/// `OUT.partial.checkpoint`.
pub(crate) fn path_of(output: &Path) -> PathBuf {
    let mut name = mseq_sink::RowLog::path_of(output).into_os_string();
    name.push(".checkpoint");
    name.into()
}

impl Checkpoint {
    /// Replaces the checkpoint of `output`: written beside it, synced, renamed.
    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        let p = &self.position;
        let header = Header {
            version: VERSION,
            digest: self.digest.clone(),
            records: p.records,
            pos: p.pos,
            ended: p.ended,
            rows: p.rows,
            slot: p.slot,
            input_sha256: p.digest.clone(),
            tally: self.tally.clone(),
            log_bytes: self.saved.bytes,
            log_crc32: self.saved.crc32,
            kept: self.saved.kept.as_ref().map(|mark| (mark.record, mark.sha256.clone())),
        };
        let header = serde_json::to_string(&header).map_err(|e| internal(&e))?;
        let mut tensors = Vec::new();
        for (i, (conv, ssm)) in self.snapshot.layers.iter().enumerate() {
            for (name, values) in [("conv_state", conv), ("ssm_state", ssm)] {
                tensors.push((format!("layers.{i}.{name}"), Tensor::f32s(values)));
            }
        }
        tensors.push(("window_sums".into(), Tensor::f64s(&self.snapshot.sums)));
        if !self.snapshot.head.is_empty() {
            tensors.push(("head_state".into(), Tensor::f32s(&self.snapshot.head)));
        }
        write_file(&path_of(output), HEADER, header, &tensors)
    }

    /// The checkpoint of `output`; `None` when there is none.
    pub(crate) fn read(output: &Path) -> Result<Option<Self>> {
        read_file(&path_of(output), Self::parse)
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let (value, file) = open_file(bytes, HEADER, VERSION)?;
        let header: Header = serde_json::from_value(value).map_err(|e| cut(&e))?;
        let f32s = |name: &str| -> Option<Vec<f32>> {
            let t = file.tensor(name).ok().filter(|t| t.dtype() == Dtype::F32)?;
            Some(t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let layers = (0..)
            .map_while(|i| {
                Some((f32s(&format!("layers.{i}.conv_state"))?, f32s(&format!("layers.{i}.ssm_state"))?))
            })
            .collect();
        let sums = file.tensor("window_sums").map_err(|e| cut(&e))?;
        let sums = sums.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        let head = f32s("head_state").unwrap_or_default();
        let position = Position {
            records: header.records,
            pos: header.pos,
            ended: header.ended,
            rows: header.rows,
            slot: header.slot,
            digest: header.input_sha256,
        };
        let (digest, tally) = (header.digest, header.tally);
        let kept = header.kept.map(|(record, sha256)| KeptMark { record, sha256 });
        // They are added to: no input has so many.
        let counts = [header.records, header.pos, header.rows, tally.records, tally.bases, tally.unknown];
        if counts
            .into_iter()
            .chain([tally.empty, tally.soft_masked, tally.unknown_records, tally.tokens])
            .any(|n| n >> 62 > 0)
        {
            return Err(cut(&"a count is beyond any input"));
        }
        let saved = Saved { bytes: header.log_bytes, crc32: header.log_crc32, kept };
        Ok(Self { digest, position, snapshot: Snapshot { layers, sums, head }, tally, saved })
    }

    /// Fails unless the job is the one that wrote the checkpoint; names what differs.
    pub(crate) fn check(&self, output: &Path, digest: &Digest) -> Result<()> {
        check_digest(output, &self.digest, digest)
    }
}

/// Fails unless two jobs of one output are the same; names what differs.
pub(crate) fn check_digest(output: &Path, was: &Digest, is: &Digest) -> Result<()> {
    let keys: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let say = |d: &Digest, key: &String| d.get(key).map_or("not there".to_owned(), |v| format!("'{v}'"));
    let differ: Vec<String> = keys
        .into_iter()
        .filter(|key| was.get(*key) != is.get(*key))
        .map(|key| format!("{key} was {} and is {}", say(was, key), say(is, key)))
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Error::OtherJob { path: mseq_sink::RowLog::path_of(output), differences: differ.join(", ") })
}

fn internal(e: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("cannot encode the checkpoint: {e}"))
}

/// Numbers of a checkpoint, whose bytes are made when they are written: a copy of every state at once
/// would be seen in the memory of a small job.
pub(crate) struct Tensor<'a> {
    numbers: Numbers<'a>,
    shape: [usize; 1],
}

enum Numbers<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl<'a> Tensor<'a> {
    pub(crate) fn f32s(numbers: &'a [f32]) -> Self {
        Self { numbers: Numbers::F32(numbers), shape: [numbers.len()] }
    }

    pub(crate) fn f64s(numbers: &'a [f64]) -> Self {
        Self { numbers: Numbers::F64(numbers), shape: [numbers.len()] }
    }

    fn bytes(&self) -> Cow<'a, [u8]> {
        match self.numbers {
            Numbers::F32(f32s) => f32s.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Numbers::F64(f64s) => f64s.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.numbers {
            Numbers::F32(_) => Dtype::F32,
            Numbers::F64(_) => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes()
    }

    fn data_len(&self) -> usize {
        match self.numbers {
            Numbers::F32(f32s) => size_of_val(f32s),
            Numbers::F64(f64s) => size_of_val(f64s),
        }
    }
}

/// Replaces a checkpoint: a JSON text under `key`, tensors, and a checksum of both; written beside it,
/// synced, renamed.
pub(crate) fn write_file(
    path: &Path,
    key: &str,
    header: String,
    tensors: &[(String, Tensor<'_>)],
) -> Result<()> {
    let parts = tensors.iter().map(|(name, tensor)| (name.as_str(), || tensor.bytes()));
    let crc = crc_of(&header, parts).to_string();
    let metadata = [(key.to_owned(), header), (CRC32.to_owned(), crc)].into();
    let views = tensors.iter().map(|(name, tensor)| (name, tensor));
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| internal(&e))?;
    let temporary = path.with_extension("checkpoint.new");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|cause| {
        fs::remove_file(&temporary).ok();
        let message = format!("cannot be written: {cause}; free some space, then use --resume");
        Error::Checkpoint { path: path.to_owned(), message }
    })
}

/// Reads a checkpoint by `parse`; `None` when there is none.
pub(crate) fn read_file<T>(
    path: &Path,
    parse: impl Fn(&[u8]) -> std::result::Result<T, String>,
) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(damaged(path, &format!("cannot be read ({e})"))),
    };
    // A header may claim sizes that no arithmetic of its reader bears.
    let parsed = mseq_core::decode(|| parse(&bytes)).unwrap_or_else(|e| Err(cut(&e)));
    parsed.map(Some).map_err(|what| damaged(path, &what))
}

/// The JSON text under `key`, which must be of that version, and the tensors; their checksum is right.
pub(crate) fn open_file<'a>(
    bytes: &'a [u8],
    key: &str,
    version: u32,
) -> std::result::Result<(serde_json::Value, SafeTensors<'a>), String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| cut(&e))?;
    let entry = |key: &str| metadata.metadata().as_ref().and_then(|m| m.get(key));
    let text = entry(key).ok_or("is not a checkpoint of this command")?;
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| cut(&e))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(v) if v == u64::from(version) => {}
        v => {
            let v = v.map_or("unknown".to_owned(), |v| v.to_string());
            return Err(format!("has version {v}; this program reads version {version}"));
        }
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| cut(&e))?;
    let names = metadata.offset_keys();
    let parts = names.iter().filter_map(|name| {
        let data = file.tensor(name).ok()?.data();
        Some((name.as_str(), move || Cow::Borrowed(data)))
    });
    if entry(CRC32).is_none_or(|crc| *crc != crc_of(text, parts).to_string()) {
        return Err(cut(&"its checksum differs"));
    }
    Ok((value, file))
}

pub(crate) fn cut(e: &dyn std::fmt::Display) -> String {
    format!("is truncated or damaged ({e})")
}

/// Of the header, and of names and bytes of the tensors by name: the order in the file is that of
/// its writer.
fn crc_of<'a, B>(header: &str, tensors: impl Iterator<Item = (&'a str, B)>) -> u32
where
    B: FnOnce() -> Cow<'a, [u8]>,
{
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by_key(|(name, _)| *name);
    let mut crc = Crc::new();
    crc.update(header.as_bytes());
    for (name, bytes) in tensors {
        crc.update(name.as_bytes());
        crc.update(&bytes());
    }
    crc.sum()
}

fn damaged(path: &Path, what: &str) -> Error {
    let message = format!("{what}; run again without --resume to start afresh");
    Error::Checkpoint { path: path.to_owned(), message }
}

/// Removes the checkpoint of `output`, best effort.
pub(crate) fn remove(output: &Path) {
    fs::remove_file(path_of(output)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            digest: [("window".to_owned(), "1000".to_owned())].into(),
            position: Position {
                records: 3,
                pos: 17,
                ended: false,
                rows: 2,
                slot: Some(1),
                digest: "ab".into(),
            },
            snapshot: Snapshot {
                layers: vec![(vec![1.5, -0.0], vec![f32::MIN_POSITIVE]), (vec![2.0, 3.0], vec![4.0])],
                sums: vec![0.1, 1e300],
                head: vec![0.25, -3.0],
            },
            tally: Tally { records: 2, bases: 99, ..Tally::default() },
            saved: Saved { bytes: 12345, crc32: 99, kept: Some(KeptMark { record: 6, sha256: "cd".into() }) },
        }
    }

    #[test]
    fn a_checkpoint_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        assert_eq!(Checkpoint::read(&output).unwrap(), None);
        checkpoint().write(&output).unwrap();
        assert_eq!(Checkpoint::read(&output).unwrap(), Some(checkpoint()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_of_any_kind_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        checkpoint().write(&output).unwrap();
        let path = path_of(&output);
        let good = fs::read(&path).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(matches!(Checkpoint::read(&output), Err(Error::Checkpoint { .. })), "{len}");
        }
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Blanks that pad the header are the only bytes that may be others.
            if let Ok(read) = Checkpoint::parse(&bad) {
                assert_eq!(read, checkpoint(), "bit {bit}");
            }
        }
        let at = good.windows(12).position(|w| w == br#"version\":2,"#).unwrap();
        let mut other = good.clone();
        other[at + 10] = b'7';
        let e = Checkpoint::parse(&other).unwrap_err();
        assert!(e.contains("has version 7; this program reads version 2"), "{e}");
    }

    #[test]
    fn counts_that_would_overflow_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.parquet");
        let mut bad = checkpoint();
        bad.tally.bases = u64::MAX - 5;
        bad.write(&output).unwrap();
        let e = Checkpoint::read(&output).unwrap_err().to_string();
        assert!(e.contains("a count is beyond any input"), "{e}");
    }

    #[test]
    fn another_job_is_named() {
        let c = checkpoint();
        let output = Path::new("x.parquet");
        assert!(c.check(output, &c.digest).is_ok());
        let other: Digest =
            [("window".to_owned(), "500".to_owned()), ("pool".to_owned(), "max".to_owned())].into();
        let e = c.check(output, &other).unwrap_err().to_string();
        assert!(e.contains("window was '1000' and is '500'") && e.contains("pool was not there"), "{e}");
    }
}
