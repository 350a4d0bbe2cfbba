use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DECODES: Cell<bool> = const { Cell::new(false) };
}

/// A decoder gave up on its input by a panic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the decoder stopped at {0:?}")]
pub struct DecoderPanic(String);

/// Runs the decoder of another crate on bytes that a user gave, with a panic of its as an error.
///
/// Decoders of large formats have assertions that damaged files reach. Such a file is bad input and
/// no fault of the program: it must be named like any other. After an error the decoder is not to
/// be used again. A program's panic hook should be silent while [`is_decoding`].
///
/// ```
/// let damaged: &[u8] = &[1, 2];
/// assert_eq!(mseq_core::decode(|| damaged[1]), Ok(2));
/// assert!(mseq_core::decode(|| damaged[7]).is_err());
/// ```
///
/// # Errors
/// What the panic said.
pub fn decode<T>(work: impl FnOnce() -> T) -> Result<T, DecoderPanic> {
    let outer = DECODES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    DECODES.set(outer);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        DecoderPanic(text.lines().next().unwrap_or_default().to_owned())
    })
}

/// Whether this thread is inside [`decode`], so that a panic is an error of the input.
pub fn is_decoding() -> bool {
    DECODES.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_mark_goes() {
        assert_eq!(decode(|| decode(is_decoding)), Ok(Ok(true)));
        let e = decode(|| assert!(!is_decoding(), "offset {}\nout of bounds", 7)).unwrap_err();
        assert_eq!(e.to_string(), "the decoder stopped at \"offset 7\"");
        assert!(!is_decoding());
    }
}
