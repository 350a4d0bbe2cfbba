use std::ops::Range;

use mseq_core::DType;

use crate::Result;
use crate::ops::{
    CausalConv1dFwd, CausalConv1dUpdate, EmbedTokens, GluFwd, LinearFwd, NllFwd, NormFwd, PoolFwd, PoolOut,
    SelectiveScanFwd, SelectiveStateUpdate, StridedConv1dFwd, TransposedConv1dFwd,
};

/// A device that holds buffers and runs the ops of a Mamba model on them.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Activations, states and small weights. What crosses to the host is f32; on the device a
    /// buffer of [`Backend::activations`] may be narrower.
    type Buffer: Send + Sync;
    /// A weight matrix (out_features, in_features), laid out for this device's matrix product.
    type Linear: Send + Sync;
    /// Running sums of open windows: (slots, width), f64.
    type Sums: Send + Sync;

    /// A name for messages and metadata, such as `cpu (avx512)`.
    fn name(&self) -> String;

    /// Element type of [`Backend::activations`] and of linear weights.
    fn dtype(&self) -> DType;

    /// The same device once more, in f32: for the parts of a model whose input must not be rounded. Its
    /// buffers are as good as those of `self`, and work on either is done in the order of the calls.
    ///
    /// # Errors
    /// When the device has no room, or nothing in f32.
    fn wide(&self) -> Result<Self>;

    /// A buffer of `len` zeros, f32.
    ///
    /// # Errors
    /// When the device has no room.
    fn zeros(&self, len: usize) -> Result<Self::Buffer>;

    /// A buffer of `len` zeros in the type of [`Backend::dtype`]: what matrix products read, the
    /// convolution and the scan read and write. On the CPU the same as [`Backend::zeros`].
    ///
    /// # Errors
    /// When the device has no room.
    fn activations(&self, len: usize) -> Result<Self::Buffer>;

    /// Copies `values` to the device, as f32.
    ///
    /// # Errors
    /// When the device has no room.
    fn upload(&self, values: &[f32]) -> Result<Self::Buffer>;

    /// Lays out `weight`, (out_features, in_features) row-major, for [`Backend::linear_fwd`].
    ///
    /// # Errors
    /// When `weight` has another length, or the device has no room.
    fn linear(&self, weight: &[f32], out_features: usize, in_features: usize) -> Result<Self::Linear>;

    /// Values that a buffer holds.
    fn len(&self, buf: &Self::Buffer) -> usize;

    /// Copies `range` of a buffer to the host.
    ///
    /// # Errors
    /// When the range leaves the buffer, or the device fails.
    fn download(&self, buf: &Self::Buffer, range: Range<usize>) -> Result<Vec<f32>>;

    /// Overwrites a buffer from `at` on.
    ///
    /// # Errors
    /// When the values leave the buffer, or the device fails.
    fn write(&self, buf: &mut Self::Buffer, at: usize, values: &[f32]) -> Result<()>;

    /// `slots` rows of `width` sums.
    ///
    /// # Errors
    /// When the device has no room.
    fn sums(&self, slots: usize, width: usize) -> Result<Self::Sums>;

    /// Copies the sums of `slot` to the host.
    ///
    /// # Errors
    /// When the slot does not exist, or the device fails.
    fn read_sums(&self, sums: &Self::Sums, slot: usize) -> Result<Vec<f64>>;

    /// Overwrites the sums of `slot`.
    ///
    /// # Errors
    /// When the slot does not exist, or the device fails.
    fn write_sums(&self, sums: &mut Self::Sums, slot: usize, values: &[f64]) -> Result<()>;

    /// Looks token ids up in the embedding table.
    ///
    /// # Errors
    /// When shapes disagree or an id is outside the table.
    fn embed_tokens(&self, op: EmbedTokens<'_, Self>) -> Result<()>;

    /// RMSNorm or LayerNorm of every row.
    ///
    /// # Errors
    /// When shapes disagree.
    fn norm_fwd(&self, op: NormFwd<'_, Self>) -> Result<()>;

    /// `y = x W^T + bias`, or added to what `y` holds.
    ///
    /// # Errors
    /// When shapes disagree.
    fn linear_fwd(&self, op: LinearFwd<'_, Self>) -> Result<()>;

    /// Depthwise causal convolution and SiLU, continued from `conv_state`.
    ///
    /// # Errors
    /// When shapes disagree.
    fn causal_conv1d_fwd(&self, op: CausalConv1dFwd<'_, Self>) -> Result<()>;

    /// The selective scan, continued from `ssm_state`.
    ///
    /// # Errors
    /// When shapes disagree.
    fn selective_scan_fwd(&self, op: SelectiveScanFwd<'_, Self>) -> Result<()>;

    /// One more step of the convolution for each of several sequences.
    ///
    /// # Errors
    /// When shapes disagree.
    fn causal_conv1d_update(&self, op: CausalConv1dUpdate<'_, Self>) -> Result<()>;

    /// One more step of the recurrence for each of several sequences.
    ///
    /// # Errors
    /// When shapes disagree.
    fn selective_state_update(&self, op: SelectiveStateUpdate<'_, Self>) -> Result<()>;

    /// Negative log-likelihood of every row's token, given the row before it; keeps the last row of
    /// each lane that goes on.
    ///
    /// # Errors
    /// When shapes disagree or an id is outside the head.
    fn nll_fwd(&self, op: NllFwd<'_, Self>) -> Result<Vec<f32>>;

    /// A convolution of stride s over rows, all channels mixed.
    ///
    /// # Errors
    /// When shapes disagree.
    fn strided_conv1d_fwd(&self, op: StridedConv1dFwd<'_, Self>) -> Result<()>;

    /// Its transpose, which makes s rows of one.
    ///
    /// # Errors
    /// When shapes disagree.
    fn transposed_conv1d_fwd(&self, op: TransposedConv1dFwd<'_, Self>) -> Result<()>;

    /// The first half of every row, gated by the second.
    ///
    /// # Errors
    /// When shapes disagree.
    fn glu_fwd(&self, op: GluFwd<'_, Self>) -> Result<()>;

    /// Adds rows to the sums of their windows and gives back the windows that close.
    ///
    /// # Errors
    /// When shapes disagree.
    fn pool_fwd(&self, op: PoolFwd<'_, Self>) -> Result<PoolOut>;
}
