use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::Span;

/// How the tokens of a window become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pool {
    /// Arithmetic mean over the tokens, summed in f64 in reading order.
    #[default]
    Mean,
    /// Largest value of each channel.
    Max,
    /// The last token in reading direction.
    Last,
    /// No pooling: one row a token.
    None,
    /// Not of hidden states: the negative log-likelihood of the tokens, summed in f64 in reading
    /// order.
    Nll,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pool::Mean => "mean",
            Pool::Max => "max",
            Pool::Last => "last",
            Pool::None => "none",
            Pool::Nll => "nll",
        })
    }
}

/// Which hidden states a row is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layer {
    /// After the final norm.
    #[default]
    Last,
    /// 0: embedding output; `0 < k < n_layer`: residual stream after block `k`, not normalised;
    /// `n_layer`: the same as [`Layer::Last`].
    At(usize),
}

impl Layer {
    /// The number of blocks to run and whether the final norm follows, or `None` when the model
    /// has fewer than that many blocks.
    pub fn resolve(self, n_layer: usize) -> Option<(usize, bool)> {
        match self {
            Layer::Last => Some((n_layer, true)),
            Layer::At(k) if k < n_layer => Some((k, false)),
            Layer::At(k) if k == n_layer => Some((n_layer, true)),
            Layer::At(_) => None,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Last => f.write_str("last"),
            Layer::At(k) => write!(f, "{k}"),
        }
    }
}

/// A text that is no window, stride or layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {wanted}")]
pub struct ParseWindowError {
    text: String,
    wanted: &'static str,
}

impl ParseWindowError {
    pub(crate) fn new(text: &str, wanted: &'static str) -> Self {
        Self { text: text.to_owned(), wanted }
    }
}

impl FromStr for Layer {
    type Err = ParseWindowError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "last" | "-1" => Ok(Layer::Last),
            _ => s.parse().map(Layer::At).map_err(|_| ParseWindowError {
                text: s.to_owned(),
                wanted: "a layer: use 0 to the model's number of layers, or last",
            }),
        }
    }
}

/// Length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowLength {
    /// This many bases.
    Bases(NonZeroU64),
    /// The whole record: one row a record.
    Record,
}

impl FromStr for WindowLength {
    type Err = ParseWindowError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "record" => Ok(WindowLength::Record),
            _ => s.parse().map(WindowLength::Bases).map_err(|_| ParseWindowError {
                text: s.to_owned(),
                wanted: "a window: use a number of bases from 1, or record",
            }),
        }
    }
}

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WindowLength::Bases(n) => write!(f, "{n}"),
            WindowLength::Record => f.write_str("record"),
        }
    }
}

/// Distance between the starts of two windows: a number of bases from 1.
pub type Stride = NonZeroU64;

/// Where the windows of a record lie: at 0, S, 2S, ... and ending with the first that reaches the
/// record's end, clipped there.
///
/// ```
/// use mseq_core::{Span, Windows};
/// let w = Windows::tiled(4, 2).unwrap();
/// let spans: Vec<_> = (0..w.count(7)).map(|k| w.span(k, 7)).collect();
/// assert_eq!(spans, [Span::new(0, 4), Span::new(2, 6), Span::new(4, 7)]);
/// assert_eq!(Windows::record().count(7), 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Window length in bases; `None` is the whole record.
    length: Option<NonZeroU64>,
    stride: NonZeroU64,
}

impl Windows {
    /// One window a record.
    pub fn record() -> Self {
        Self { length: None, stride: NonZeroU64::MIN }
    }

    /// Windows of `length` bases, `stride` apart; `None` when either is 0.
    pub fn tiled(length: u64, stride: u64) -> Option<Self> {
        Some(Self { length: Some(NonZeroU64::new(length)?), stride: NonZeroU64::new(stride)? })
    }

    /// From what the user asked for; the stride defaults to the window.
    pub fn new(length: WindowLength, stride: Option<Stride>) -> Self {
        match length {
            WindowLength::Record => Self::record(),
            WindowLength::Bases(n) => Self { length: Some(n), stride: stride.unwrap_or(n) },
        }
    }

    /// Window length in bases, `None` for the whole record.
    pub fn length(&self) -> Option<u64> {
        self.length.map(NonZeroU64::get)
    }

    /// Stride in bases, `None` for the whole record.
    pub fn stride(&self) -> Option<u64> {
        self.length.map(|_| self.stride.get())
    }

    /// Most windows that can be open at one position: `ceil(length / stride)`, or 1.
    pub fn max_open(&self) -> u64 {
        self.length.map_or(1, |n| n.get().div_ceil(self.stride.get()))
    }

    /// Number of windows of a record of `bases` bases; an empty record has none.
    pub fn count(&self, bases: u64) -> u64 {
        let Some(length) = self.length() else { return u64::from(bases > 0) };
        let stride = self.stride.get();
        match bases {
            0 => 0,
            // Window k exists when it starts inside and no earlier one reached the end.
            b if b <= length => 1,
            b => ((b - length).div_ceil(stride) + 1).min(b.div_ceil(stride)),
        }
    }

    /// Window `k`, clipped at `bases`.
    pub fn span(&self, k: u64, bases: u64) -> Span {
        match self.length() {
            None => Span::new(0, bases),
            Some(length) => {
                let start = k.saturating_mul(self.stride.get());
                Span::new(start, start.saturating_add(length)).clip(bases)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence of the contract, word for word.
    fn by_definition(length: u64, stride: u64, bases: u64) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start < bases {
            spans.push(Span::new(start, (start + length).min(bases)));
            if start + length >= bases {
                break;
            }
            start += stride;
        }
        spans
    }

    #[test]
    fn windows_match_their_definition() {
        for length in 1..9 {
            for stride in 1..12 {
                let w = Windows::tiled(length, stride).unwrap();
                for bases in 0..40 {
                    let spans: Vec<_> = (0..w.count(bases)).map(|k| w.span(k, bases)).collect();
                    assert_eq!(spans, by_definition(length, stride, bases), "{length} {stride} {bases}");
                }
            }
        }
    }

    #[test]
    fn text_forms() {
        assert!("0".parse::<WindowLength>().is_err());
        assert_eq!("record".parse::<WindowLength>().unwrap(), WindowLength::Record);
        assert_eq!("-1".parse::<Layer>().unwrap(), Layer::Last);
        assert_eq!(Layer::At(3).resolve(3), Some((3, true)));
        assert_eq!(Layer::At(0).resolve(3), Some((0, false)));
        assert_eq!(Layer::At(4).resolve(3), None);
    }
}
