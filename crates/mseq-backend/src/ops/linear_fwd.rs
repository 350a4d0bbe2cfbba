use crate::error::at_least;
use crate::{Backend, Result, Rows, RowsMut};

/// `y = x W^T + bias`, or `y += x W^T + bias`.
///
/// The sum over in_features runs in index order for every output, whatever the number of rows:
/// a row's result does not depend on the rows beside it.
pub struct LinearFwd<'a, B: Backend> {
    /// Rows of x and y.
    pub rows: usize,
    /// Width of x.
    pub in_features: usize,
    /// Width of y.
    pub out_features: usize,
    /// (rows, in_features), a view.
    pub x: Rows<'a, B::Buffer>,
    /// (out_features, in_features), made by [`Backend::linear`].
    pub weight: &'a B::Linear,
    /// (out_features).
    pub bias: Option<&'a B::Buffer>,
    /// Adds to `y` (the residual stream) and does not overwrite it.
    pub accumulate: bool,
    /// (rows, stride >= out_features).
    pub y: RowsMut<'a, B::Buffer>,
}

impl<B: Backend> LinearFwd<'_, B> {
    /// # Errors
    /// When a buffer is too short.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "linear_fwd";
        at_least(OP, "x", backend.len(self.x.buf), self.x.needed(self.rows, self.in_features))?;
        at_least(OP, "the stride of y", self.y.stride, self.out_features)?;
        at_least(OP, "y", backend.len(self.y.buf), self.rows * self.y.stride)?;
        match self.bias {
            Some(bias) => at_least(OP, "bias", backend.len(bias), self.out_features),
            None => Ok(()),
        }
    }
}
