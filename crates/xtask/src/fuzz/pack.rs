//! The compressed forms of a text.

use std::io::Write;

use flate2::{Compression, GzBuilder};

/// The empty block that ends a BGZF file.
const BGZF_END: [u8; 28] = *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0";

fn member(builder: GzBuilder, text: &[u8]) -> Vec<u8> {
    let mut encoder = builder.write(Vec::new(), Compression::fast());
    // Writing to a vector does not fail.
    encoder.write_all(text).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// One gzip member.
pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    member(GzBuilder::new(), text)
}

/// BGZF with blocks of `block` bytes, and its `.gzi`.
pub(super) fn bgzf(text: &[u8], block: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut pairs) = (Vec::new(), Vec::new());
    for (i, piece) in text.chunks(block.max(1)).enumerate() {
        if i > 0 {
            pairs.push([out.len() as u64, (i * block) as u64]);
        }
        let mut one = member(GzBuilder::new().extra(&b"BC\x02\0\0\0"[..]), piece);
        let size = (one.len() as u64).saturating_sub(1).to_le_bytes();
        if let Some(field) = one.get_mut(16..18) {
            field.copy_from_slice(&size[..2]);
        }
        out.extend(one);
    }
    out.extend(BGZF_END);
    let mut gzi = (pairs.len() as u64).to_le_bytes().to_vec();
    gzi.extend(pairs.iter().flatten().flat_map(|n| n.to_le_bytes()));
    (out, gzi)
}
