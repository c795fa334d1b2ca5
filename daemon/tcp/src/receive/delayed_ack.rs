//! When to acknowledge (RFC 9293 section 3.8.6.3, RFC 5681 section 4.2).
//!
//! Every second full segment at once, one alone within [`crate::config::DELAYED_ACK`]; at once too while a gap remains,
//! since the peer's loss recovery lives from it, and when a quarter of the buffer has come. The timer is the
//! connection's. Any segment that leaves says everything that was wanted.

use super::window::Window;

/// A segment of this length counts as full (RFC 9293 section 3.7.1, the default MSS of IPv4).
const SMALLEST_FULL_SEGMENT: u32 = 536;

/// How urgently an acknowledgement is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckWanted {
    /// Nothing to acknowledge.
    No,
    /// Within [`crate::config::DELAYED_ACK`].
    Delayed,
    /// With the next turn of the loop.
    Now,
}

/// What has come since the last acknowledgement, and how urgent the next one is.
#[derive(Debug)]
pub(super) struct DelayedAck {
    wanted: AckWanted,
    /// Bytes in order.
    unacknowledged: u32,
}

impl DelayedAck {
    /// Nothing has come.
    pub(super) fn new() -> Self {
        DelayedAck {
            wanted: AckWanted::No,
            unacknowledged: 0,
        }
    }

    pub(super) fn wanted(&self) -> AckWanted {
        self.wanted
    }

    pub(super) fn want_now(&mut self) {
        self.wanted = AckWanted::Now;
    }

    /// Whether everything that has come is acknowledged.
    pub(super) fn is_quiet(&self) -> bool {
        self.wanted == AckWanted::No && self.unacknowledged == 0
    }

    /// `bytes` came in order, in one segment; `has_gap` while others are held out of order.
    ///
    /// Full is taken as the smallest default MSS (536), so that a peer with a small MSS is not kept waiting.
    /// What is longer than our MSS was merged on its way and counts as several.
    pub(super) fn on_bytes(&mut self, bytes: u64, window: &Window, has_gap: bool) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
        let several = bytes < self.unacknowledged || bytes > u32::from(window.mss());
        let now = (several && self.unacknowledged >= 2 * SMALLEST_FULL_SEGMENT)
            || self.unacknowledged >= window.capacity() / 4
            || has_gap;
        if now {
            self.wanted = AckWanted::Now;
        } else if self.wanted == AckWanted::No {
            self.wanted = AckWanted::Delayed;
        }
    }

    /// A segment leaves, and every segment acknowledges.
    pub(super) fn on_said(&mut self) {
        *self = DelayedAck::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seq::SeqNumber;

    fn window() -> Window {
        Window::new(SeqNumber::new(0), 1 << 20, 5, 1460)
    }

    #[test]
    fn second_full_segment_is_acknowledged_at_once() {
        let mut ack = DelayedAck::new();
        ack.on_bytes(1448, &window(), false);
        assert_eq!(ack.wanted(), AckWanted::Delayed);
        ack.on_bytes(1448, &window(), false);
        assert_eq!(ack.wanted(), AckWanted::Now);
        ack.on_said();
        assert!(ack.is_quiet());
    }

    #[test]
    fn merged_segments_count_as_several() {
        // RFC 5681 section 4.2: a packet longer than our MSS is at least two full segments.
        let mut ack = DelayedAck::new();
        ack.on_bytes(2896, &window(), false);
        assert_eq!(ack.wanted(), AckWanted::Now);
    }

    #[test]
    fn nothing_is_delayed_while_a_gap_remains() {
        let mut ack = DelayedAck::new();
        ack.on_bytes(100, &window(), true);
        assert_eq!(ack.wanted(), AckWanted::Now);
    }
}
