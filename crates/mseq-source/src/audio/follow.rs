//! Streams that are followed on their way to a decoder, which passes over what it does not know.

use std::io::{self, Read, Seek, SeekFrom};

/// Follows the units of a format, and knows where something is missing.
pub(super) trait Follow {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// What a decoder would pass over.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// The stream has ended.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    fn finish(&mut self) -> Result<(), String>;
}

/// Reads a file once, from its start.
pub(super) fn find_fault<F: Read + Seek>(
    file: &mut F,
    mut follow: impl Follow,
) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut block = vec![0; 1 << 16];
    loop {
        let found = match file.read(&mut block) {
            Ok(0) => return Ok(follow.finish().err()),
            Ok(n) => follow.feed(&block[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if let Err(fault) = found {
            return Ok(Some(fault));
        }
    }
}

/// A stream whose reads fail where something would be passed over.
pub(super) struct Followed<R, F> {
    pub(super) inner: R,
    pub(super) follow: F,
}

impl<R: Read, F: Follow> Read for Followed<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let ends = n == 0 && !buffer.is_empty();
        let found = if ends { self.follow.finish() } else { self.follow.feed(&buffer[..n]) };
        found.map_err(io::Error::other)?;
        Ok(n)
    }
}

/// What a file gives, and the same bytes through a pipe in small pieces.
#[cfg(test)]
pub(super) fn fault_of<F: Follow>(bytes: &[u8], new: impl Fn() -> F) -> Option<String> {
    let whole = find_fault(&mut io::Cursor::new(bytes), new()).unwrap();
    let mut followed = Followed { inner: bytes, follow: new() };
    let mut piece = [0; 97];
    let piped = loop {
        match followed.read(&mut piece) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(e) => break Some(e.to_string()),
        }
    };
    assert_eq!(whole, piped);
    whole
}
