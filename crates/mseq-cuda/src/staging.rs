//! Small things that go to the device with every step: token ids, tables.

use std::sync::Arc;

use mseq_backend::Result;

use crate::device::{Device, Memory, Pinned};

/// Two page-locked buffers in turn, and one place on the device: while the device still copies from
/// the one, the host fills the other.
pub(crate) struct Staging {
    halves: [Option<Pinned>; 2],
    turn: usize,
    target: Option<Memory>,
}

impl Staging {
    pub(crate) const fn new() -> Self {
        Self { halves: [None, None], turn: 0, target: None }
    }

    /// Sends bytes and gives their address; it holds until the next call.
    pub(crate) fn send(&mut self, device: &Arc<Device>, bytes: &[u8]) -> Result<u64> {
        let target = match self.target.take() {
            Some(memory) if memory.bytes() >= bytes.len() => memory,
            // Growing by halves more keeps a run of ever longer steps from growing each time.
            small => {
                drop(small);
                device.zeros(room(bytes.len()))?
            }
        };
        self.turn = 1 - self.turn;
        let half = &mut self.halves[self.turn];
        if half.as_ref().is_none_or(|half| half.bytes() < bytes.len()) {
            *half = None;
        }
        let half = match half {
            Some(half) => half,
            None => half.insert(Pinned::new(device, room(bytes.len()))?),
        };
        half.send(&target, bytes)?;
        let ptr = target.ptr();
        self.target = Some(target);
        Ok(ptr)
    }
}

/// Bytes to make room for when `bytes` are needed.
fn room(bytes: usize) -> usize {
    (bytes + bytes / 2).max(4096)
}

/// Memory that a launch needs for itself; grows to the largest launch.
pub(crate) struct Scratch(Option<Memory>);

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Room for `bytes`, at least.
    pub(crate) fn room(&mut self, device: &Arc<Device>, bytes: usize) -> Result<u64> {
        if let Some(memory) = &self.0
            && memory.bytes() >= bytes
        {
            return Ok(memory.ptr());
        }
        self.0 = None;
        Ok(self.0.insert(device.zeros(bytes)?).ptr())
    }

    /// The memory that [`Scratch::room`] gave last.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.0.as_ref()
    }
}
