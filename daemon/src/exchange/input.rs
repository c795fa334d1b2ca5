//! The request bytes of one connection, placed by stream offset.
//!
//! A transport may place bytes out of order; only what it calls delivered is ever shown to the parser, and
//! delivered bytes are never written again, so a peer that retransmits other bytes cannot change a request
//! under the parser. The buffer is linear, because the parser wants one slice: consumed room at its front
//! is taken back by one move when the back is reached, not at every request.
//!
//! Most heads are short, and a peer that sends one byte of a head shall not cost the room of the longest: the first
//! bytes go into the input itself, and only more of them take a buffer, from a pool that is bounded.
//!
//! It also remembers when bytes were delivered, for the latency of pipelined requests that wait their turn.

use crate::services::pool::Buffers;
use sluice_tcp::clock::Instant;

/// Request bytes a connection can hold unless configured otherwise: the receive window it offers, and the longest
/// request head.
pub const INPUT_BYTES: usize = 16 * 1024;

/// Bytes of a head that need no buffer: what most clients send.
const SMALL_BYTES: usize = 512;

/// Deliveries that are told apart in time. More than that waiting at once share the time of the newest, which
/// happens to clients that pipeline deeply in tiny pieces.
const ARRIVALS: usize = 8;

/// The bytes of the stream from [`Self::consumed`] on.
#[derive(Debug)]
pub(crate) struct Input {
    small: [u8; SMALL_BYTES],
    /// Instead of `small`, once that was too small.
    large: Option<Box<[u8]>>,
    capacity: usize,
    /// Where in the buffer the byte at `consumed` is.
    front: usize,
    consumed: u64,
    delivered: u64,
    /// End of the placed byte with the highest offset.
    placed: u64,
    /// Up to where a parser has looked without finding a whole request.
    searched: u64,
    arrivals: [Arrival; ARRIVALS],
    arrivals_len: usize,
}

/// Bytes below `until` had been delivered at `at`.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    until: u64,
    at: Instant,
}

impl Input {
    /// For `capacity` bytes beyond `consumed`.
    pub(crate) fn new(capacity: usize) -> Input {
        let never = Arrival {
            until: 0,
            at: Instant::ZERO,
        };
        Input {
            small: [0; SMALL_BYTES],
            large: None,
            capacity,
            front: 0,
            consumed: 0,
            delivered: 0,
            placed: 0,
            searched: 0,
            arrivals: [never; ARRIVALS],
            arrivals_len: 0,
        }
    }

    /// Gives the buffer back; the input is empty.
    pub(crate) fn shrink(&mut self, buffers: &mut Buffers) {
        debug_assert!(self.is_empty());
        self.front = 0;
        if let Some(large) = self.large.take() {
            buffers.give_back(large);
        }
    }

    /// Empties the buffer; the stream goes on at `offset`.
    pub(crate) fn restart(&mut self, offset: u64) {
        self.front = 0;
        self.consumed = offset;
        self.delivered = offset;
        self.placed = offset;
        self.searched = offset;
        self.arrivals_len = 0;
    }

    /// Stores `bytes` at `offset`, less what was delivered before. False if they reach beyond the window of
    /// [`Self::capacity`] from `consumed`, or if there is no buffer for so many; nothing is stored then.
    pub(crate) fn place(&mut self, offset: u64, bytes: &[u8], buffers: &mut Buffers) -> bool {
        let Some(end) = offset.checked_add(len_u64(bytes)) else {
            return false;
        };
        let Some(reach) = self.in_buffer(end.saturating_sub(self.consumed)) else {
            return false;
        };
        if end <= self.delivered {
            return true;
        }
        if self.front + reach > self.buffer().len() {
            self.move_to_front();
            if reach > self.buffer().len() && !self.grow(reach, buffers) {
                return false;
            }
        }
        let from = offset.max(self.delivered);
        let known = usize::try_from(from - offset).unwrap_or(bytes.len());
        let new = &bytes[known.min(bytes.len())..];
        let target = self.front + reach - new.len();
        self.buffer_mut()[target..target + new.len()].copy_from_slice(new);
        self.placed = self.placed.max(end);
        true
    }

    /// Everything below `until` is in order now. Never beyond what was placed.
    pub(crate) fn deliver(&mut self, until: u64) {
        debug_assert!(until <= self.placed, "delivered bytes were placed before");
        self.delivered = self.delivered.max(until.min(self.placed));
    }

    /// Notes that what was delivered since the last stamp had arrived at `now`.
    pub(crate) fn stamp(&mut self, now: Instant) {
        let newest = self.arrivals[..self.arrivals_len].last();
        if newest.map_or(self.consumed, |arrival| arrival.until) >= self.delivered {
            return;
        }
        let at = self.arrivals_len.min(ARRIVALS - 1);
        self.arrivals[at] = Arrival {
            until: self.delivered,
            at: now,
        };
        self.arrivals_len = at + 1;
    }

    /// When the byte before `offset` had arrived; `now` if that was never stamped.
    pub(crate) fn arrived(&self, offset: u64, now: Instant) -> Instant {
        self.arrivals[..self.arrivals_len]
            .iter()
            .find(|arrival| arrival.until >= offset)
            .map_or(now, |arrival| arrival.at)
    }

    /// The delivered bytes that no request has taken yet.
    pub(crate) fn pending(&self) -> &[u8] {
        let len = self.in_buffer(self.delivered - self.consumed).unwrap_or(0);
        &self.buffer()[self.front..self.front + len]
    }

    /// Whether a parser may find more than at its last look: no head ends without a line feed. Keeps the cost of
    /// a peer that drips single bytes linear.
    pub(crate) fn worth_parsing(&self) -> bool {
        if self.delivered == self.searched {
            return false;
        }
        if self.searched == self.consumed {
            return true;
        }
        let searched = self.in_buffer(self.searched - self.consumed).unwrap_or(0);
        let new = self.pending().get(searched..).unwrap_or_default();
        self.is_full() || new.contains(&b'\n')
    }

    /// Notes that the pending bytes hold no whole request.
    pub(crate) fn searched(&mut self) {
        self.searched = self.delivered;
    }

    /// True if the window is full, so that a head that is not whole by now never will be.
    pub(crate) fn is_full(&self) -> bool {
        self.pending().len() == self.capacity
    }

    /// Frees the first `len` pending bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        let len = len.min(self.pending().len());
        self.front += len;
        self.consumed += u64::try_from(len).unwrap_or(0);
        self.searched = self.consumed;
        self.forget_arrivals();
    }

    /// Those of bytes that were consumed.
    fn forget_arrivals(&mut self) {
        let gone = self.arrivals[..self.arrivals_len]
            .iter()
            .take_while(|arrival| arrival.until <= self.consumed)
            .count();
        self.arrivals.copy_within(gone..self.arrivals_len, 0);
        self.arrivals_len -= gone;
    }

    /// Everything from [`Self::consumed`] on, up to [`Self::placed`]: with holes behind what was delivered.
    pub(crate) fn held(&self) -> &[u8] {
        let len = self.in_buffer(self.placed - self.consumed).unwrap_or(0);
        &self.buffer()[self.front..self.front + len]
    }

    /// End of the placed byte with the highest offset.
    pub(crate) fn placed(&self) -> u64 {
        self.placed
    }

    /// The stream goes on at `offset`, not below [`Self::consumed`]: what lies before it, delivered or not, has its place
    /// elsewhere.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        let len = self.in_buffer(offset.min(self.placed).saturating_sub(self.consumed));
        self.front += len.unwrap_or(0);
        self.consumed = self.consumed.max(offset);
        self.delivered = self.delivered.max(offset);
        self.placed = self.placed.max(offset);
        self.searched = self.consumed;
        if self.is_empty() {
            self.front = 0;
        }
        self.forget_arrivals();
    }

    /// Bytes that can be held.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Stream offset below which everything is freed.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Stream offset below which everything is in order.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// True if nothing is held, in order or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.placed <= self.consumed
    }

    fn move_to_front(&mut self) {
        let held = self.in_buffer(self.placed - self.consumed).unwrap_or(0);
        let from = self.front;
        self.buffer_mut().copy_within(from..from + held, 0);
        self.front = 0;
    }

    /// Moves everything into a buffer of at least `bytes`. What is held begins at the front.
    fn grow(&mut self, bytes: usize, buffers: &mut Buffers) -> bool {
        let Some(mut larger) = buffers.take(bytes) else {
            return false;
        };
        let held = self.in_buffer(self.placed - self.consumed).unwrap_or(0);
        larger[..held].copy_from_slice(&self.buffer()[..held]);
        if let Some(before) = self.large.replace(larger) {
            buffers.give_back(before);
        }
        true
    }

    fn buffer(&self) -> &[u8] {
        self.large.as_deref().unwrap_or(&self.small)
    }

    fn buffer_mut(&mut self) -> &mut [u8] {
        self.large.as_deref_mut().unwrap_or(&mut self.small)
    }

    /// A distance from `consumed` as an index, if it lies in the window.
    fn in_buffer(&self, distance: u64) -> Option<usize> {
        usize::try_from(distance)
            .ok()
            .filter(|&distance| distance <= self.capacity)
    }
}

fn len_u64(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input() -> (Input, Buffers) {
        (
            Input::new(INPUT_BYTES),
            Buffers::new(INPUT_BYTES, INPUT_BYTES),
        )
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn bytes_placed_out_of_order_are_seen_once_delivered() {
        let (mut input, mut buffers) = input();
        assert!(input.place(3, b"def", &mut buffers));
        assert!(input.pending().is_empty());
        assert!(!input.is_empty());
        assert!(input.place(0, b"abc", &mut buffers));
        input.deliver(6);
        assert_eq!(input.pending(), b"abcdef");
    }

    #[test]
    fn delivered_bytes_are_not_overwritten() {
        let (mut input, mut buffers) = input();
        assert!(input.place(0, b"abc", &mut buffers));
        input.deliver(3);
        assert!(input.place(1, b"XYZ", &mut buffers));
        input.deliver(4);
        assert_eq!(input.pending(), b"abcZ");
    }

    #[test]
    fn bytes_beyond_the_window_are_refused_whole() {
        let (mut input, mut buffers) = input();
        assert!(!input.place(1, &[b'x'; INPUT_BYTES], &mut buffers));
        assert!(input.is_empty());
        assert!(!input.place(u64::MAX, b"x", &mut buffers));
        assert!(input.place(0, &[b'x'; INPUT_BYTES], &mut buffers));
        input.deliver(u64::try_from(INPUT_BYTES).expect("small"));
        assert!(input.is_full());
    }

    #[test]
    fn consuming_opens_the_window_and_keeps_what_follows() {
        let (mut input, mut buffers) = input();
        assert!(input.place(0, &[b'a'; INPUT_BYTES], &mut buffers));
        input.deliver(16 * 1024);
        input.consume(1000);
        assert_eq!(input.consumed(), 1000);
        assert!(input.place(16 * 1024, &[b'b'; 1000], &mut buffers));
        input.deliver(16 * 1024 + 1000);
        assert_eq!(input.pending().len(), INPUT_BYTES);
        assert!(input.pending().ends_with(&[b'b'; 1000]));
    }

    #[test]
    fn parsing_waits_for_a_line_feed_after_the_first_look() {
        let (mut input, mut buffers) = input();
        assert!(!input.worth_parsing());
        assert!(input.place(0, b"GET ", &mut buffers));
        input.deliver(4);
        assert!(input.worth_parsing());
        input.searched();
        assert!(input.place(4, b"/ HTTP/1.1\r", &mut buffers));
        input.deliver(15);
        assert!(!input.worth_parsing());
        assert!(input.place(15, b"\n", &mut buffers));
        input.deliver(16);
        assert!(input.worth_parsing());
    }

    #[test]
    fn each_request_has_the_arrival_time_of_its_own_last_byte() {
        let (mut input, mut buffers) = input();
        assert!(input.place(0, b"one", &mut buffers));
        input.deliver(3);
        input.stamp(at(1));
        assert!(input.place(3, b"two", &mut buffers));
        input.deliver(6);
        input.stamp(at(2));
        assert_eq!(input.arrived(3, at(9)), at(1));
        assert_eq!(input.arrived(4, at(9)), at(2));
        input.consume(3);
        assert_eq!(input.arrived(6, at(9)), at(2));
    }

    #[test]
    fn deliveries_beyond_the_table_share_the_newest_time() {
        let (mut input, mut buffers) = input();
        for second in 0..20 {
            assert!(input.place(second, b"x", &mut buffers));
            input.deliver(second + 1);
            input.stamp(at(second));
        }
        assert_eq!(input.arrived(1, at(99)), at(0));
        assert_eq!(input.arrived(20, at(99)), at(19));
    }

    proptest! {
        /// Pieces of a stream in any order, delivered and consumed at any moment, read back as the stream.
        #[test]
        fn any_order_of_pieces_reads_back_as_the_stream(
            steps in proptest::collection::vec((0usize..3000, 1usize..3000, 0usize..4000), 1..200)
        ) {
            let stream: Vec<u8> = (0..1_000_000u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let (mut input, mut buffers) = input();
            let mut placed = vec![false; stream.len()];
            let mut delivered = 0;
            for (ahead, len, consume) in steps {
                let from = (delivered + ahead).min(stream.len());
                let to = (from + len).min(stream.len());
                if input.place(u64::try_from(from).expect("small"), &stream[from..to], &mut buffers) {
                    placed[from..to].fill(true);
                }
                // Then the hole before it, so that the stream moves.
                if ahead % 2 == 0 && input.place(u64::try_from(delivered).expect("small"), &stream[delivered..from], &mut buffers) {
                    placed[delivered..from].fill(true);
                }
                while placed.get(delivered) == Some(&true) {
                    delivered += 1;
                }
                input.deliver(u64::try_from(delivered).expect("small"));
                let consumed = usize::try_from(input.consumed()).expect("small");
                prop_assert_eq!(input.pending(), &stream[consumed..delivered]);
                input.consume(consume);
            }
        }
    }
}
