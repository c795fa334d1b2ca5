//! The bytes that every connection sends: a file block that repeats, from which any range is one slice.

use std::sync::Arc;

/// Bytes until it repeats; prime to the segment size, so that segments differ.
const PERIOD: usize = (1 << 20) + 7;
/// The longest slice.
const LONGEST: usize = 1 << 16;

/// The bytes.
#[derive(Clone)]
pub struct Pattern {
    bytes: Arc<[u8]>,
}

impl Pattern {
    /// The same bytes every time.
    pub fn new() -> Pattern {
        let byte = |at: usize| {
            let [.., byte] = (at % PERIOD)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes();
            byte
        };
        Pattern {
            bytes: (0..PERIOD + LONGEST).map(byte).collect(),
        }
    }

    /// `len` bytes, at most 64 KiB, from a stream offset.
    pub fn at(&self, offset: u64, len: usize) -> &[u8] {
        // The remainder is below 2^21.
        let from = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
        &self.bytes[from..from + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_repeats_without_a_seam() {
        let pattern = Pattern::new();
        let period = PERIOD as u64;
        assert_eq!(pattern.at(5, 100), pattern.at(period + 5, 100));
        assert_eq!(pattern.at(period - 50, 100)[50..], pattern.at(0, 100)[..50]);
        assert_ne!(pattern.at(0, 100), pattern.at(1448, 100));
    }
}
