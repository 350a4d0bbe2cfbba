use mseq_backend::{Backend, Result};

use crate::random::{whole, wide};
use crate::{Check, Close, Random, tolerance};

/// Copies to the device and back, whole and in parts; what leaves a buffer is refused.
///
/// # Errors
/// What the backend refuses.
pub fn buffers<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    let len = random.between(1, 5000);
    let values = random.values(len, -4.0, 4.0);
    let buf = backend.upload(&values)?;
    checks.push(Check::new("f32 there and back", &whole(backend, &buf)?, &wide(&values), 0.0));
    let mut narrow = backend.activations(len)?;
    let zeros = whole(backend, &narrow)?;
    checks.push(Check::new("a new buffer", &zeros, &vec![0.0; len], 0.0));
    let at = random.between(0, len - 1);
    backend.write(&mut narrow, at, &values[at..])?;
    let mut truth = vec![0.0; at];
    truth.extend(wide(&values[at..]));
    let limit = tolerance(backend.dtype(), Close::Stored);
    checks.push(Check::new("stored there and back", &whole(backend, &narrow)?, &truth, limit));
    let part = backend.download(&buf, at..len)?;
    checks.push(Check::new("a part", &part, &wide(&values[at..]), 0.0));
    let refused = [
        backend.download(&buf, 0..len + 1).is_err(),
        backend.write(&mut narrow, 1, &values).is_err(),
        backend.linear(&values, len, 2).is_err(),
    ];
    let passed = refused.iter().filter(|refused| !**refused).count();
    checks.push(Check { what: "copies past an end that passed".into(), error: passed as f64, limit: 0.0 });
    let mut sums = backend.sums(2, 3)?;
    backend.write_sums(&mut sums, 1, &[1.0, 1e300, -2.0])?;
    let found =
        backend.read_sums(&sums, 1)? == [1.0, 1e300, -2.0] && backend.read_sums(&sums, 0)? == [0.0; 3];
    checks.push(Check {
        what: "f64 sums that changed".into(),
        error: f64::from(u8::from(!found)),
        limit: 0.0,
    });
    Ok(checks)
}
