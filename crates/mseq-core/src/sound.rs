use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use crate::{ParseWindowError, WindowLength, Windows};

/// A length in a recording: samples of the file, or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Samples of the file.
    Samples(NonZeroU64),
    /// Nanoseconds.
    Nanos(NonZeroU64),
    /// The whole record.
    Record,
}

const NANOS: u64 = 1_000_000_000;

impl FromStr for Extent {
    type Err = ParseWindowError;

    /// ```
    /// use mseq_core::Extent;
    /// let nanos = |text: &str| match text.parse() {
    ///     Ok(Extent::Nanos(n)) => n.get(),
    ///     other => panic!("{other:?}"),
    /// };
    /// assert_eq!([nanos("500ms"), nanos("1s"), nanos("0.25s")], [500_000_000, 1_000_000_000, 250_000_000]);
    /// assert!("0s".parse::<Extent>().is_err() && "1 h".parse::<Extent>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        if let Ok(length) = text.parse::<WindowLength>() {
            return Ok(match length {
                WindowLength::Bases(n) => Self::Samples(n),
                WindowLength::Record => Self::Record,
            });
        }
        let wanted =
            "a window: use a number from 1 (bases or samples), a time such as 500ms or 1.5s, or record";
        let bad = || ParseWindowError::new(text, wanted);
        let units = [("ms", 1_000_000), ("us", 1000), ("s", NANOS)];
        let (number, unit) = units
            .iter()
            .find_map(|(ending, unit)| Some((text.strip_suffix(ending)?, *unit)))
            .ok_or_else(bad)?;
        // Decimal digits, not a float: 0.1 s is exactly 100 ms.
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) || part.len() > 9 {
            return Err(bad());
        }
        let read = |t: &str| if t.is_empty() { Ok(0) } else { t.parse::<u64>().map_err(|_| bad()) };
        let whole = read(whole)?.checked_mul(unit).ok_or_else(bad)?;
        let part = read(part)?.checked_mul(unit).ok_or_else(bad)? / 10u64.pow(part.len() as u32);
        let nanos = whole.checked_add(part).and_then(NonZeroU64::new).ok_or_else(bad)?;
        Ok(Self::Nanos(nanos))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Samples(n) => write!(f, "{n}"),
            Self::Record => f.write_str("record"),
            Self::Nanos(n) if n.get() % NANOS == 0 => write!(f, "{}s", n.get() / NANOS),
            Self::Nanos(n) if n.get() % 1_000_000 == 0 => write!(f, "{}ms", n.get() / 1_000_000),
            Self::Nanos(n) => write!(f, "{}us", n.get() as f64 / 1000.0),
        }
    }
}

/// Windows of recordings whose rates may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SoundWindows {
    length: Extent,
    stride: Extent,
}

impl SoundWindows {
    /// From what the user asked for; the stride defaults to the window. `None` when one is in samples
    /// and the other a time, which has no bound on the windows that overlap.
    pub fn new(length: Extent, stride: Option<Extent>) -> Option<Self> {
        let stride = stride.unwrap_or(length);
        (std::mem::discriminant(&length) == std::mem::discriminant(&stride))
            .then_some(Self { length, stride })
    }

    /// Windows of a file of that many samples a second. A window is no longer than asked for and a
    /// stride no shorter, so that no rate has more windows that overlap than [`Self::max_open`].
    pub fn at(&self, rate: NonZeroU32) -> Windows {
        let rate = u128::from(rate.get());
        let samples = |extent: Extent, up: u128| match extent {
            Extent::Samples(n) => n.get(),
            Extent::Nanos(n) => {
                let samples = (u128::from(n.get()) * rate + up) / u128::from(NANOS);
                u64::try_from(samples).unwrap_or(u64::MAX).max(1)
            }
            Extent::Record => 0,
        };
        let length = samples(self.length, 0);
        let stride =
            if self.stride == self.length { length } else { samples(self.stride, u128::from(NANOS - 1)) };
        Windows::tiled(length, stride).unwrap_or(Windows::record())
    }

    /// Whether a recording has more than one.
    pub fn is_tiled(&self) -> bool {
        self.length != Extent::Record
    }

    /// Most windows that can be open at one sample, at any rate.
    pub fn max_open(&self) -> u64 {
        match (self.length, self.stride) {
            (Extent::Samples(l), Extent::Samples(s)) | (Extent::Nanos(l), Extent::Nanos(s)) => {
                l.get().div_ceil(s.get())
            }
            _ => 1,
        }
    }

    /// Length and stride, as the user wrote them.
    pub fn text(&self) -> (String, String) {
        (self.length.to_string(), self.stride.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rate_has_more_open_windows() {
        let nanos = |n| Extent::Nanos(NonZeroU64::new(n).unwrap());
        for (l, s) in
            [(NANOS, NANOS), (NANOS, NANOS / 3), (25_000_000, 10_000_000), (1, NANOS), (7_000, 1_000)]
        {
            let windows = SoundWindows::new(nanos(l), Some(nanos(s))).unwrap();
            for rate in 1..5000 {
                let at = windows.at(NonZeroU32::new(rate).unwrap());
                assert!(at.max_open() <= windows.max_open(), "{l} {s} {rate}");
            }
        }
        let one = SoundWindows::new("1s".parse().unwrap(), None).unwrap();
        assert_eq!(one.at(NonZeroU32::new(44_100).unwrap()), Windows::tiled(44_100, 44_100).unwrap());
        assert!(SoundWindows::new("1s".parse().unwrap(), Some("100".parse().unwrap())).is_none());
    }

    #[test]
    fn text_comes_back() {
        for text in ["1s", "500ms", "16000", "record", "12.5us"] {
            assert_eq!(text.parse::<Extent>().unwrap().to_string(), text);
        }
        for text in ["", "s", ".s", "-1s", "1e3s", "0ms", "0", "1m", "99999999999999999999s"] {
            assert!(text.parse::<Extent>().is_err(), "{text}");
        }
    }
}
