//! Headers as 32-bit words: written front to back, and summed on the way.
//!
//! The alternative, to write fields and read the header back for its checksum, makes the processor wait: a load of
//! eight bytes that were stored in smaller parts is served only when those have left for the cache.

use crate::checksum::Sum;

/// A place for the words of a header.
pub(crate) struct Words<'a> {
    places: core::slice::IterMut<'a, [u8; 4]>,
    /// A header has at most 15 words, so this never overflows.
    total: u64,
}

impl<'a> Words<'a> {
    /// `out` is as long as the header: a multiple of 4 bytes.
    pub(crate) fn new(out: &'a mut [u8]) -> Words<'a> {
        let (places, _) = out.as_chunks_mut();
        Words {
            places: places.iter_mut(),
            total: 0,
        }
    }

    /// Appends the four bytes of a word.
    pub(crate) fn put_bytes(&mut self, bytes: [u8; 4]) {
        self.put(u32::from_be_bytes(bytes));
    }

    /// Appends a big-endian word. Beyond the end it is left out.
    pub(crate) fn put(&mut self, word: u32) {
        if let Some(place) = self.places.next() {
            *place = word.to_be_bytes();
            self.total += u64::from(word);
        }
    }

    /// The sum of what was written.
    pub(crate) fn sum(self) -> Sum {
        Sum::of_words(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;

    #[test]
    fn the_sum_is_that_of_the_bytes_written() {
        let mut out = [0; 12];
        let mut words = Words::new(&mut out);
        words.put(0xffff_fffe);
        words.put_bytes([1, 2, 3, 4]);
        words.put(0x8000_0001);
        let sum = words.sum().fold();
        assert_eq!(out, [255, 255, 255, 254, 1, 2, 3, 4, 128, 0, 0, 1]);
        assert_eq!(sum, checksum::sum(&out).fold());
    }

    #[test]
    fn a_word_without_a_place_is_neither_written_nor_summed() {
        let mut out = [0; 4];
        let mut words = Words::new(&mut out);
        words.put(7);
        words.put(9);
        assert_eq!(words.sum().fold(), 7);
        assert_eq!(out, [0, 0, 0, 7]);
    }
}
