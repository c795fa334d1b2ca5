//! A span of time in five bytes.

/// Up to 18 minutes to the nanosecond. `u64::MAX`, which stands for "none", stays what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ShortNanos([u8; 5]);

const NONE: [u8; 5] = [u8::MAX; 5];

impl ShortNanos {
    /// `None` if it does not fit.
    pub(crate) fn new(nanos: u64) -> Option<Self> {
        if nanos == u64::MAX {
            return Some(ShortNanos(NONE));
        }
        let [low @ .., 0, 0, 0] = nanos.to_le_bytes() else {
            return None;
        };
        (low != NONE).then_some(ShortNanos(low))
    }

    pub(crate) fn get(self) -> u64 {
        if self.0 == NONE {
            return u64::MAX;
        }
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_comes_back_as_it_was() {
        for nanos in [0, 1, 20_957_032, (1 << 40) - 2, u64::MAX] {
            assert_eq!(ShortNanos::new(nanos).map(ShortNanos::get), Some(nanos));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for nanos in [(1 << 40) - 1, 1 << 40, u64::MAX - 1] {
            assert_eq!(ShortNanos::new(nanos), None);
        }
    }
}
