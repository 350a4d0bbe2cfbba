use mseq_backend::ops::GluFwd;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::CpuBackend;
use crate::math::{glu_simd, load, store};

/// Rows a task.
const BLOCK: usize = 256;

/// Gates blocks of rows side by side.
pub(crate) fn glu_fwd(backend: &CpuBackend, op: GluFwd<'_, CpuBackend>) {
    let width = op.width;
    if width == 0 {
        return;
    }
    let x = &op.x.0[..2 * op.rows * width];
    let out = &mut op.out.0[..op.rows * width];
    out.par_chunks_mut(BLOCK * width).zip(x.par_chunks(2 * BLOCK * width)).for_each(|(out, x)| {
        backend.arch.dispatch(Block { x, width, out });
    });
}

struct Block<'a> {
    x: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let width = self.width;
        let whole = width - width % S::F32_LANES;
        for (x, out) in self.x.chunks_exact(2 * width).zip(self.out.chunks_exact_mut(width)) {
            let (a, b) = x.split_at(width);
            let mut c = 0;
            while c < whole {
                let end = c + S::F32_LANES;
                let v = glu_simd(s, load::<S>(&a[c..end]), load::<S>(&b[c..end]));
                store::<S>(&mut out[c..end], v);
                c = end;
            }
            if whole < width {
                let v = glu_simd(s, s.partial_load_f32s(&a[whole..]), s.partial_load_f32s(&b[whole..]));
                s.partial_store_f32s(&mut out[whole..], v);
            }
        }
    }
}
