use mseq_backend::ops::EmbedTokens;
use mseq_backend::{Backend, Result};

use crate::random::{poison, single, whole};
use crate::{Check, Random};

/// Rows are copied, so they are equal; an id outside the table is refused.
///
/// # Errors
/// What the backend refuses.
pub fn embed_tokens<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (rows, d_model) in [(1, 1), (random.between(2, 99), 13), (700, random.between(1, 80)), (513, 256)] {
        let vocab = random.between(1, 20);
        let (table, held) = single(backend, &random.values(vocab * d_model, -1.0, 1.0))?;
        let ids: Vec<u32> = (0..rows).map(|_| random.between(0, vocab - 1) as u32).collect();
        let mut out = backend.zeros(rows * d_model)?;
        poison(backend, &mut out)?;
        backend.embed_tokens(EmbedTokens { ids: &ids, table: &table, vocab, d_model, out: &mut out })?;
        let truth: Vec<f64> =
            ids.iter().flat_map(|&id| held[id as usize * d_model..][..d_model].to_vec()).collect();
        checks.push(Check::new(
            format!("rows {rows}, d_model {d_model}"),
            &whole(backend, &out)?,
            &truth,
            0.0,
        ));
        let outside = EmbedTokens { ids: &[vocab as u32], table: &table, vocab, d_model, out: &mut out };
        let passed = backend.embed_tokens(outside).is_ok();
        checks.push(Check {
            what: "an id outside the table passed".into(),
            error: f64::from(u8::from(passed)),
            limit: 0.0,
        });
    }
    Ok(checks)
}
