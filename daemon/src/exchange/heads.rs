//! The response heads of one connection: a byte ring that several queued responses share.
//!
//! Positions count all bytes ever pushed, so a head keeps its position while others come and go, and a
//! slice ends where the ring wraps: the reader asks again for the rest.

use sluice_http::RESPONSE_HEAD_BYTES;

/// Room for the heads of a full queue of responses.
pub(crate) const HEAD_RING_BYTES: usize = super::RESPONSES_MAX * RESPONSE_HEAD_BYTES;

/// A ring of head bytes.
#[derive(Debug)]
pub(crate) struct HeadRing {
    bytes: Box<[u8]>,
    /// Position of the oldest byte kept.
    start: u64,
    /// Position of the next byte.
    end: u64,
}

impl HeadRing {
    pub(crate) fn new() -> HeadRing {
        HeadRing {
            bytes: vec![0; HEAD_RING_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Bytes that can be pushed.
    pub(crate) fn free(&self) -> usize {
        let held = usize::try_from(self.end - self.start).unwrap_or(usize::MAX);
        self.bytes.len().saturating_sub(held)
    }

    /// Appends `head` and returns its position. The caller has looked at [`Self::free`].
    pub(crate) fn push(&mut self, head: &[u8]) -> u64 {
        debug_assert!(head.len() <= self.free());
        let position = self.end;
        let at = self.index(position);
        let (first, rest) = head.split_at(head.len().min(self.bytes.len() - at));
        self.bytes[at..at + first.len()].copy_from_slice(first);
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.end += u64::try_from(head.len()).unwrap_or(0);
        position
    }

    /// At most `max` bytes from `position` on, fewer at the end and at the wrap.
    pub(crate) fn get(&self, position: u64, max: usize) -> &[u8] {
        let at = self.index(position);
        let held = usize::try_from(self.end.saturating_sub(position)).unwrap_or(0);
        let len = max.min(held).min(self.bytes.len() - at);
        &self.bytes[at..at + len]
    }

    /// Forgets everything below `position`.
    pub(crate) fn release(&mut self, position: u64) {
        self.start = self.start.max(position.min(self.end));
    }

    fn index(&self, position: u64) -> usize {
        let capacity = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        usize::try_from(position % capacity).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ring: &HeadRing, mut position: u64, mut len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while len > 0 {
            let piece = ring.get(position, len);
            assert!(!piece.is_empty(), "the ring holds what was pushed");
            out.extend_from_slice(piece);
            position += u64::try_from(piece.len()).expect("small");
            len -= piece.len();
        }
        out
    }

    #[test]
    fn heads_survive_many_wraps_of_the_ring() {
        let mut ring = HeadRing::new();
        for round in 0..100u8 {
            let first = vec![round; 3000];
            let second = vec![round ^ 0xff; 5000];
            let (a, b) = (ring.push(&first), ring.push(&second));
            assert_eq!(read(&ring, a, 3000), first);
            assert_eq!(read(&ring, b, 5000), second);
            assert_eq!(ring.free(), HEAD_RING_BYTES - 8000);
            ring.release(b);
            assert_eq!(read(&ring, b, 5000), second);
            ring.release(b + 5000);
            assert_eq!(ring.free(), HEAD_RING_BYTES);
        }
    }

    #[test]
    fn a_slice_never_reaches_beyond_what_was_pushed() {
        let mut ring = HeadRing::new();
        let position = ring.push(b"head");
        assert_eq!(ring.get(position + 2, 100), b"ad");
        assert!(ring.get(position + 4, 100).is_empty());
    }
}
