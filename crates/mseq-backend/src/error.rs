use mseq_core::DType;

/// What an op refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer is shorter than its shape.
    #[error("{op}: {what} holds {found} values, its shape needs {needed}")]
    TooShort {
        /// Name of the op.
        op: &'static str,
        /// Name of the argument.
        what: &'static str,
        /// Values there.
        found: usize,
        /// Values needed.
        needed: usize,
    },
    /// A number is outside what the op can do.
    #[error("{op}: {what} is {found}, {wanted}")]
    OutOfRange {
        /// Name of the op.
        op: &'static str,
        /// Name of the argument.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What it should be.
        wanted: &'static str,
    },
    /// Lanes overlap, leave the batch or continue without a slot.
    #[error("{op}: lane {lane} {why}")]
    Lane {
        /// Name of the op.
        op: &'static str,
        /// Which lane of the batch.
        lane: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The device has no room; a smaller step may fit.
    #[error("{device}: out of memory, {bytes} bytes asked for; use a smaller --chunk")]
    OutOfMemory {
        /// Which device.
        device: String,
        /// Bytes that it could not give.
        bytes: usize,
    },
    /// A buffer has an element type that the op can't take there.
    #[error("{op}: {what} is {found}, {wanted}")]
    Type {
        /// Name of the op.
        op: &'static str,
        /// Name of the argument.
        what: &'static str,
        /// Its element type.
        found: DType,
        /// What it should be.
        wanted: &'static str,
    },
    /// The device failed.
    #[error("{device}: {message}")]
    Device {
        /// Which device.
        device: String,
        /// What it said.
        message: String,
    },
}

/// Result of an op.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Fails unless `found >= needed`.
pub(crate) fn at_least(op: &'static str, what: &'static str, found: usize, needed: usize) -> Result<()> {
    if found < needed { Err(Error::TooShort { op, what, found, needed }) } else { Ok(()) }
}
