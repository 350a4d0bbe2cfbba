/// Columns `offset..offset + width` of every row of a (rows, `stride`) buffer, to read.
///
/// The width is the op's: a view says only where a row starts. It spares the copies that split
/// the output of `in_proj` into x and z, and of `x_proj` into dt, B and C.
#[derive(Debug)]
pub struct Rows<'a, B> {
    /// The buffer.
    pub buf: &'a B,
    /// First column.
    pub offset: usize,
    /// Values from one row to the next.
    pub stride: usize,
}

impl<B> Clone for Rows<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Rows<'_, B> {}

impl<'a, B> Rows<'a, B> {
    /// Whole rows of `stride` values.
    pub fn whole(buf: &'a B, stride: usize) -> Self {
        Self { buf, offset: 0, stride }
    }

    /// Columns from `offset` on, of rows of `stride` values.
    pub fn columns(buf: &'a B, offset: usize, stride: usize) -> Self {
        Self { buf, offset, stride }
    }

    /// Values that the buffer must hold for `rows` rows of `width`.
    pub fn needed(&self, rows: usize, width: usize) -> usize {
        if rows == 0 { 0 } else { (rows - 1) * self.stride + self.offset + width }
    }
}

/// Whole rows of `stride` values, to write.
#[derive(Debug)]
pub struct RowsMut<'a, B> {
    /// The buffer.
    pub buf: &'a mut B,
    /// Values from one row to the next.
    pub stride: usize,
}
