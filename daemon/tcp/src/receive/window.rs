//! The receive sequence space: what is here, what the peer may send, and how that is said (RFC 9293 section 3.3.1).
//!
//! Positions are stream offsets (`u64`, no wrap); offset 0 is IRS + 1. Invariant: `consumed <= rcv_nxt <= right_edge`,
//! and the right edge never moves back, whatever becomes of the room behind it.
//!
//! RFC 9293 sections 3.10.7.4 (acceptability) and 3.8.6.2.2 (silly windows), RFC 7323 sections 2.2 to 2.4 (scale and
//! rounding). When an acknowledgement leaves is decided elsewhere: here only whether the window is worth one.

use crate::seq::SeqNumber;

mod rest;

pub(crate) use rest::RestingWindow;

/// Receive window of one connection.
#[derive(Debug)]
pub(crate) struct Window {
    origin: SeqNumber,
    rcv_nxt: u64,
    right_edge: u64,
    consumed: u64,
    capacity: u32,
    /// The driver says what room it has: [`Self::follow_driver`].
    is_driven: bool,
    /// The widest window that the peer was ever promised.
    widest: u32,
    scale: u8,
    mss: u16,
}

impl Window {
    /// `irs` is the sequence number of the peer's SYN; `capacity` in bytes, scaled by `scale` on the wire;
    /// `mss` is the one we advertise.
    pub(super) fn new(irs: SeqNumber, capacity: u32, scale: u8, mss: u16) -> Self {
        Window {
            origin: irs.add(1),
            rcv_nxt: 0,
            right_edge: u64::from(capacity.min(u32::from(u16::MAX))),
            consumed: 0,
            capacity,
            is_driven: false,
            widest: capacity.min(u32::from(u16::MAX)),
            scale,
            mss,
        }
    }

    /// RCV.NXT on the wire.
    pub(crate) fn ack_number(&self) -> SeqNumber {
        self.to_seq(self.rcv_nxt)
    }

    /// RCV.NXT as a stream offset; the peer's FIN counts one.
    pub(super) fn rcv_nxt(&self) -> u64 {
        self.rcv_nxt
    }

    /// Stream offset up to which the peer may send.
    pub(crate) fn right_edge(&self) -> u64 {
        self.right_edge
    }

    /// Stream offset below which the driver has freed everything.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes from what is consumed to where the window may reach.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The window follows with the next acknowledgement if it grows, and if it shrinks when the peer has used up what
    /// it was promised (RFC 9293 section 3.8.6).
    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// The MSS that we advertise: nothing longer is one segment.
    pub(super) fn mss(&self) -> u16 {
        self.mss
    }

    /// No peer has more in flight than the widest window it was promised, so what it sends again begins no further below
    /// RCV.NXT than this, whatever the window is now: it shrinks with the driver's room, with the peer's pauses and
    /// with what was not read.
    pub(crate) fn reach_of_repeats(&self) -> u32 {
        self.widest
    }

    /// The largest window that the field can say.
    pub(crate) fn largest(&self) -> u32 {
        u32::from(u16::MAX) << self.scale
    }

    /// First check of RFC 9293 section 3.10.7.4 on a segment with `len` sequence numbers: any part of it lies in
    /// the window.
    ///
    /// Two allowances, both without effect on what is stored. With the window closed a segment that begins at
    /// RCV.NXT passes, so that its ACK is processed (MUST-66); none of its payload is taken. An empty segment
    /// passes at the right edge: a peer that has filled our window sends its acknowledgements from there.
    pub(crate) fn is_acceptable(&self, seq: SeqNumber, len: u32) -> bool {
        let window = self.signed_window();
        let first = self.distance_to_next(seq);
        if len == 0 {
            return (0..=window).contains(&first);
        }
        first < window.max(1) && first + i64::from(len) > 0
    }

    /// Whether a RST at `seq` lies in the window (RFC 5961 section 3.2).
    pub(crate) fn contains(&self, seq: SeqNumber) -> bool {
        let at = self.distance_to_next(seq);
        at == 0 || (0..self.signed_window()).contains(&at)
    }

    /// Where `seq` lies relative to RCV.NXT (0 is RCV.NXT itself).
    pub(crate) fn distance_to_next(&self, seq: SeqNumber) -> i64 {
        self.offset_of(seq) - self.signed_nxt()
    }

    /// Stream offset of a sequence number; negative for what precedes the stream.
    pub(crate) fn offset_of(&self, seq: SeqNumber) -> i64 {
        self.signed_nxt() + i64::from(seq.distance(self.ack_number()))
    }

    /// Sequence number of a stream offset.
    pub(super) fn to_seq(&self, offset: u64) -> SeqNumber {
        // Sequence numbers are offsets modulo 2^32.
        #[allow(clippy::cast_possible_truncation)]
        let low = offset as u32;
        self.origin.add(low)
    }

    /// Everything below `end`, which was inside the window, is here.
    pub(super) fn advance_to(&mut self, end: u64) {
        self.rcv_nxt = end;
    }

    /// The peer's FIN stands at RCV.NXT. It needs no room.
    pub(super) fn advance_over_fin(&mut self) {
        self.rcv_nxt += 1;
        self.right_edge = self.right_edge.max(self.rcv_nxt);
    }

    /// The driver has freed everything below `offset`, all of which was delivered.
    pub(super) fn free(&mut self, offset: u64) {
        self.consumed = self.consumed.max(offset);
    }

    /// Of a driver without a buffer of fixed size: it has room up to `end`, and says so until
    /// [`Self::end_driving`]. What was promised before stays promised.
    pub(super) fn follow_driver(&mut self, end: u64) {
        let capacity = end.saturating_sub(self.consumed);
        self.capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        self.is_driven = true;
    }

    /// Whether the capacity is what the driver said last, and follows nothing else.
    pub(crate) fn is_driven(&self) -> bool {
        self.is_driven
    }

    /// From now on the room is `capacity` bytes from what is consumed, as at the beginning.
    pub(crate) fn end_driving(&mut self, capacity: u32) {
        self.capacity = capacity;
        self.is_driven = false;
    }

    /// Whether it is worth a segment to say the window: it can grow by half the buffer, or the peer has no room for a
    /// whole segment and now gets it.
    pub(super) fn is_news(&self) -> bool {
        let growth = self.limit().saturating_sub(self.right_edge);
        let starved = self.right_edge.saturating_sub(self.rcv_nxt) < u64::from(self.mss);
        let half = u64::from(self.capacity / 2).max(1);
        // What a SYN-ACK could not promise of the first buffer is not news: any acknowledgement says it.
        let known = match self.is_driven {
            true => self.right_edge,
            false => self.right_edge.max(self.capacity.into()),
        };
        let freed = self.limit() - known.min(self.limit());
        freed >= half || (starved && growth >= self.least_growth())
    }

    /// Window field of a segment that leaves now: what it says is promised.
    pub(super) fn promise(&mut self) -> u16 {
        let field = self.field();
        let window = u32::from(field) << self.scale;
        self.widest = self.widest.max(window);
        self.right_edge = self.right_edge.max(self.rcv_nxt + u64::from(window));
        field
    }

    /// The same without promising it.
    pub(crate) fn field(&self) -> u16 {
        let limit = self.limit().max(self.right_edge);
        // Receiver's silly window avoidance (RFC 9293 section 3.8.6.2.2, MUST-39): the edge stays until it can
        // move by something useful.
        let target = if limit - self.right_edge >= self.least_growth() {
            limit
        } else {
            self.right_edge
        };
        let window = target.saturating_sub(self.rcv_nxt);
        let unit = 1u64 << self.scale;
        // Shifts in place of divisions, because every segment says its window.
        // Rounding down takes back less than a unit of what was promised; rounding up again and again would
        // promise more than the buffer holds. So: up while the buffer has the room (RFC 7323 section 2.4).
        let up = (window + unit - 1) >> self.scale;
        let units = if self.rcv_nxt + up * unit <= limit {
            up
        } else {
            window >> self.scale
        };
        u16::try_from(units).unwrap_or(u16::MAX)
    }

    /// Window field of a SYN-ACK, which is never scaled (RFC 7323 section 2.2): what it does not promise is not
    /// acceptable.
    pub(crate) fn unscaled(&self) -> u16 {
        u16::try_from(self.capacity).unwrap_or(u16::MAX)
    }

    /// Everything below may be stored.
    fn limit(&self) -> u64 {
        self.consumed + u64::from(self.capacity)
    }

    /// By less than this the right edge does not move.
    fn least_growth(&self) -> u64 {
        let useful = u64::from(self.capacity / 2).min(u64::from(self.mss)).max(1);
        useful.max(1 << self.scale)
    }

    fn signed_window(&self) -> i64 {
        i64::try_from(self.right_edge.saturating_sub(self.rcv_nxt)).unwrap_or(i64::MAX)
    }

    fn signed_nxt(&self) -> i64 {
        // 2^63 bytes take 29 years at 80 Gbit/s: the cast cannot lose anything.
        i64::try_from(self.rcv_nxt).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IRS: u32 = u32::MAX - 50;

    /// A window of 4,000 bytes, of which so many have come.
    fn after(received: u64) -> Window {
        let mut window = Window::new(SeqNumber::new(IRS), 4000, 0, 1000);
        window.advance_to(received);
        window
    }

    fn seq(offset: u32) -> SeqNumber {
        SeqNumber::new(IRS).add(1).add(offset)
    }

    #[test]
    fn a_closed_window_accepts_only_what_begins_at_rcv_nxt() {
        // RFC 9293 section 3.10.7.4: the table, and MUST-66 for the ACK of a segment with payload.
        let window = after(4000);
        assert!(window.is_acceptable(seq(4000), 0));
        assert!(window.is_acceptable(seq(4000), 1));
        assert!(!window.is_acceptable(seq(4001), 0));
        assert!(!window.is_acceptable(seq(4001), 1));
    }

    #[test]
    fn a_segment_that_covers_the_whole_window_and_more_is_acceptable() {
        assert!(after(3990).is_acceptable(seq(3900), 200));
    }

    #[test]
    fn an_empty_segment_at_the_right_edge_is_acceptable() {
        let window = after(0);
        assert!(window.is_acceptable(seq(4000), 0));
        assert!(!window.is_acceptable(seq(4001), 0));
        assert!(!window.is_acceptable(seq(4000), 1));
        assert!(!window.contains(seq(4000)), "a RST is judged strictly");
    }

    #[test]
    fn the_window_never_shrinks_and_opens_by_half_a_buffer() {
        let mut window = after(2000);
        assert_eq!(window.promise(), 2000);
        window.free(1000);
        assert!(!window.is_news());
        window.free(2000);
        assert!(window.is_news());
        assert_eq!(window.promise(), 4000);
    }

    #[test]
    fn the_room_of_a_driver_is_the_window_and_is_news_when_it_comes() {
        let mut window = after(4000);
        window.free(4000);
        window.follow_driver(4000);
        assert_eq!(window.promise(), 0);
        window.follow_driver(69_000);
        assert!(window.is_news());
        assert_eq!(window.promise(), 65_000);
        assert!(window.rest().is_none(), "its room is known to nobody else");
    }

    #[test]
    fn a_driven_window_ends_without_taking_back_its_promise() {
        let mut window = after(1000);
        window.free(1000);
        window.follow_driver(31_000);
        assert_eq!(window.promise(), 30_000);
        window.end_driving(4000);
        assert_eq!(window.promise(), 30_000);
        assert!(window.is_acceptable(seq(30_000), 1000));
        assert_eq!(window.right_edge(), 31_000);
    }

    #[test]
    fn repeats_reach_as_far_back_as_any_window_did() {
        let mut window = after(1000);
        assert_eq!(window.reach_of_repeats(), 4000);
        window.free(1000);
        window.follow_driver(31_000);
        let _ = window.promise();
        window.advance_to(31_000);
        window.end_driving(4000);
        window.free(31_000);
        let _ = window.promise();
        assert_eq!(window.reach_of_repeats(), 30_000);
        // Of a connection that has rested a little further.
        let rested = window.rest().expect("nobody drives it").wake(4000);
        assert_eq!(rested.reach_of_repeats(), 1 << 15);
        let again = rested.rest().expect("nobody drives it").wake(4000);
        assert_eq!(again.reach_of_repeats(), 1 << 15);
    }

    #[test]
    fn the_window_does_not_open_by_slivers() {
        // RFC 9293 section 3.8.6.2.2, MUST-39.
        let mut window = after(3500);
        assert_eq!(window.promise(), 500);
        window.free(900);
        assert_eq!(window.promise(), 500);
        window.free(1000);
        assert!(window.is_news(), "a segment fits again");
        assert_eq!(window.promise(), 1500);
    }

    #[test]
    fn a_rounded_window_never_promises_more_than_the_buffer() {
        // RFC 7323 section 2.4: rounding up for ever would let the edge creep away from the buffer.
        let (capacity, scale) = (1 << 20, 5);
        let mut window = Window::new(SeqNumber::new(IRS), capacity, scale, 1460);
        let capacity = u64::from(capacity);
        let mut edge = 0;
        for sent in 1..=capacity.div_ceil(33) {
            window.advance_to((33 * sent).min(window.right_edge()));
            let promised = window.rcv_nxt() + (u64::from(window.promise()) << scale);
            assert!(promised <= capacity);
            assert!(
                promised + (1 << scale) > edge,
                "less than a unit is taken back"
            );
            edge = edge.max(promised);
        }
        assert_eq!(window.promise(), 0);
    }
}
