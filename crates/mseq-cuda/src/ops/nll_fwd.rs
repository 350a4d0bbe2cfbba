use mseq_backend::ops::{Before, NllFwd};
use mseq_backend::{Error, Result};
use mseq_core::DType;
use mseq_kernels::{Elem, launch};

use crate::CudaBackend;
use crate::device::bytes_of;
use crate::module::Arg;

/// Product, softmax and look-up in one kernel; then the last rows go to their slots. What comes back is
/// one number a row.
pub(crate) fn nll_fwd(backend: &CudaBackend, op: NllFwd<'_, CudaBackend>) -> Result<Vec<f32>> {
    const OP: &str = "nll_fwd";
    for (what, found, wanted) in
        [("d_model", op.d_model, op.weight.in_features), ("vocab", op.vocab, op.weight.out_features)]
    {
        if found != wanted {
            return Err(Error::OutOfRange { op: OP, what, found, wanted: "which is not the weight's" });
        }
    }
    for (what, buf) in [("x", op.x), ("last", &*op.last)] {
        if buf.dtype != DType::F32 {
            return Err(Error::Type { op: OP, what, found: buf.dtype, wanted: "and must be f32" });
        }
    }
    if op.rows == 0 {
        return Ok(Vec::new());
    }
    let (device, kernels) = (&backend.device, &backend.kernels);
    // Ids, then where the row before each lies, then rows and slots of the lanes that go on.
    let mut table: Vec<i32> = op.ids[..op.rows].iter().map(|&id| id as i32).collect();
    table.extend(op.before().into_iter().map(|before| match before {
        Before::Nothing => -1,
        Before::Row(row) => row as i32,
        Before::Slot(slot) => -2 - slot as i32,
    }));
    let mut kept = 0;
    for lane in op.lanes.iter().filter(|lane| !lane.rows.is_empty()) {
        if let Some(slot) = lane.slot {
            table.extend([lane.rows.end as i32 - 1, slot as i32]);
            kept += 1;
        }
    }
    let mut scratch = backend.scratch()?;
    let at = scratch.nll.send(device, bytes_of(&table))?;
    let out = scratch.surprise.room(device, 4 * op.rows)?;
    let last = op.last.arg();
    kernels.launch(
        device,
        "nll_fwd",
        launch::nll_fwd(op.rows),
        &[
            op.x.arg(),
            last,
            Arg::Buffer(op.weight.dtype, op.weight.memory.ptr()),
            Arg::Ptr(Elem::U32, at),
            Arg::Ptr(Elem::I32, at + 4 * op.rows as u64),
            Arg::Ptr(Elem::F32, out),
            Arg::I64(op.rows),
            Arg::I32(op.d_model),
            Arg::I32(op.vocab),
        ],
    )?;
    if kept > 0 {
        // A launch of its own: every slot has been read by then.
        kernels.launch(
            device,
            "nll_keep",
            launch::nll_keep(kept),
            &[
                op.x.arg(),
                last,
                Arg::Ptr(Elem::I32, at + 8 * op.rows as u64),
                Arg::I32(kept),
                Arg::I32(op.d_model),
            ],
        )?;
    }
    let mut nll = vec![0f32; op.rows];
    match scratch.surprise.memory() {
        Some(memory) => device.download(memory, 0, &mut nll)?,
        None => device.synchronize(OP)?,
    }
    Ok(nll)
}
