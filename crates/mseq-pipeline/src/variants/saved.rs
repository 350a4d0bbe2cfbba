//! The checkpoint of an unfinished run of `variants`.

use std::path::Path;

use mseq_engine::{OpenVariant, Scored, Sums, VariantState};
use mseq_sink::Saved;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::checkpoint::{Digest, Tensor, check_digest, cut, open_file, path_of, read_file, write_file};

/// Of the file's layout: a reader refuses any other.
const VERSION: u32 = 1;
/// Key of the metadata.
const HEADER: &str = "mamba_seq_variants_checkpoint";

/// Where a run stands: in which contig and strand, and with which state there.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Progress {
    /// Contigs and strands that are done.
    pub(crate) units: u64,
    /// Tokens that ran.
    pub(crate) tokens: u64,
    /// In the one that is not done; `None` at its start.
    pub(crate) state: Option<VariantState>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    digest: Digest,
    units: u64,
    tokens: u64,
    log_bytes: u64,
    log_crc32: u32,
    /// Position and counts of the state.
    state: Option<(u64, [usize; 3])>,
}

/// Replaces the checkpoint of `output`.
pub(crate) fn write(output: &Path, digest: &Digest, progress: &Progress, saved: &Saved) -> Result<()> {
    let header = Header {
        version: VERSION,
        digest: digest.clone(),
        units: progress.units,
        tokens: progress.tokens,
        log_bytes: saved.bytes,
        log_crc32: saved.crc32,
        state: progress.state.as_ref().map(|state| (state.pos, state.counts)),
    };
    let header =
        serde_json::to_string(&header).map_err(|e| crate::Error::Internal(format!("the checkpoint: {e}")))?;
    let (mut sums, mut open) = (Vec::new(), Vec::new());
    let mut tensors = Vec::new();
    if let Some(state) = &progress.state {
        for (i, (conv, ssm)) in state.layers.iter().enumerate() {
            tensors.push((format!("layers.{i}.conv_state"), Tensor::f32s(conv)));
            tensors.push((format!("layers.{i}.ssm_state"), Tensor::f32s(ssm)));
        }
        tensors.push(("head_state".into(), Tensor::f32s(&state.head)));
        sums.push(state.sums.nll);
        sums.extend_from_slice(&state.sums.hidden);
        let width = state.sums.hidden.len();
        open.extend(state.open.iter().flat_map(|open| row_of(open, width)));
        tensors.push(("sums".into(), Tensor::f64s(&sums)));
        tensors.push(("open".into(), Tensor::f64s(&open)));
    }
    write_file(&path_of(output), HEADER, header, &tensors)
}

/// The checkpoint of `output`, which must be of the same job; `None` when there is none.
pub(crate) fn read(output: &Path, digest: &Digest) -> Result<Option<(Progress, Saved)>> {
    let Some((was, progress, saved)) = read_file(&path_of(output), parse)? else { return Ok(None) };
    check_digest(output, &was, digest)?;
    Ok(Some((progress, saved)))
}

fn parse(bytes: &[u8]) -> std::result::Result<(Digest, Progress, Saved), String> {
    let (value, file) = open_file(bytes, HEADER, VERSION)?;
    let header: Header = serde_json::from_value(value).map_err(|e| cut(&e))?;
    let state = match header.state {
        None => None,
        Some((pos, counts)) => Some(state_of(&file, pos, counts).ok_or_else(|| cut(&"its state"))?),
    };
    let saved = Saved { bytes: header.log_bytes, crc32: header.log_crc32, kept: None };
    Ok((header.digest, Progress { units: header.units, tokens: header.tokens, state }, saved))
}

fn state_of(file: &SafeTensors<'_>, pos: u64, counts: [usize; 3]) -> Option<VariantState> {
    let f32s = |name: &str| -> Option<Vec<f32>> {
        let tensor = file.tensor(name).ok().filter(|t| t.dtype() == Dtype::F32)?;
        Some(tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let f64s = |name: &str| -> Option<Vec<f64>> {
        let tensor = file.tensor(name).ok().filter(|t| t.dtype() == Dtype::F64)?;
        Some(tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
    };
    let layers = (0..)
        .map_while(|i| {
            Some((f32s(&format!("layers.{i}.conv_state"))?, f32s(&format!("layers.{i}.ssm_state"))?))
        })
        .collect();
    let sums = f64s("sums")?;
    let (&nll, hidden) = sums.split_first()?;
    let rows = f64s("open")?;
    let open = rows.chunks_exact(row_len(hidden.len())).map(|row| open_of(row, hidden.len())).collect();
    let sums = Sums { nll, hidden: hidden.to_vec() };
    Some(VariantState { pos, counts, sums, layers, head: f32s("head_state")?, open })
}

/// Numbers of an open variant: index; whether it has a start, sums there; whether it has its other
/// allele, and what is known of that.
fn row_len(width: usize) -> usize {
    5 + 2 * width + 1
}

fn row_of(open: &OpenVariant, width: usize) -> Vec<f64> {
    let mut row = vec![open.index as f64];
    let start = open.start.clone().unwrap_or(Sums { nll: 0.0, hidden: vec![0.0; width] });
    row.extend([f64::from(u8::from(open.start.is_some())), start.nll]);
    row.extend(start.hidden);
    let alt = open.alt.clone().unwrap_or(Scored { nll: 0.0, bases: 0, mean: vec![0.0; width] });
    row.extend([f64::from(u8::from(open.alt.is_some())), alt.nll, alt.bases as f64]);
    row.extend(alt.mean);
    row
}

fn open_of(row: &[f64], width: usize) -> OpenVariant {
    let (start, alt) = row[1..].split_at(2 + width);
    OpenVariant {
        index: row[0] as usize,
        start: (start[0] != 0.0).then(|| Sums { nll: start[1], hidden: start[2..].to_vec() }),
        alt: (alt[0] != 0.0).then(|| Scored { nll: alt[1], bases: alt[2] as u64, mean: alt[3..].to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.vcf");
        let digest: Digest = [("window".to_owned(), "1000".to_owned())].into();
        assert_eq!(read(&output, &digest).unwrap(), None);
        let sums = |nll| Sums { nll, hidden: vec![0.25, 1e300] };
        let state = VariantState {
            pos: 99,
            counts: [4, 3, 1],
            sums: sums(17.5),
            layers: vec![(vec![1.5, -0.0], vec![f32::MIN_POSITIVE])],
            head: vec![3.0],
            open: vec![
                OpenVariant { index: 1, start: Some(sums(2.0)), alt: None },
                OpenVariant {
                    index: 2,
                    start: Some(sums(0.0)),
                    alt: Some(Scored { nll: 0.0, bases: 9, mean: vec![0.1, 0.2] }),
                },
                OpenVariant {
                    index: 3,
                    start: None,
                    alt: Some(Scored { nll: -1.0, bases: 1, mean: vec![0.0, 0.0] }),
                },
            ],
        };
        let saved = Saved { bytes: 360, crc32: 7, kept: None };
        for state in [Some(state), None] {
            let progress = Progress { units: 2, tokens: 12_345, state };
            write(&output, &digest, &progress, &saved).unwrap();
            assert_eq!(read(&output, &digest).unwrap(), Some((progress, saved.clone())));
        }
        let other: Digest = [("window".to_owned(), "9".to_owned())].into();
        let e = read(&output, &other).unwrap_err().to_string();
        assert!(e.contains("window was '1000' and is '9'"), "{e}");
        let path = path_of(&output);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(read(&output, &digest).is_err(), "{at}");
        }
    }
}
