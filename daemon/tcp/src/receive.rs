//! The receiving half: which bytes of a segment are new.
//!
//! Payload stays with the driver, which learns the new ranges as [`Pieces`], in stream offsets. Three parts answer what
//! follows from them: [`Window`] what the peer may send, [`DelayedAck`] when to acknowledge, [`SackReport`] what an
//! acknowledgement says beyond that. Invariant: everything held lies above RCV.NXT and at or below the right edge of the
//! window. What came first stays, whatever comes again.
//!
//! RFC 9293 section 3.10.7.4, seventh and eighth check; RFC 5681 section 4.2 (what is acknowledged at once).

use core::ops::Range;

use sluice_wire::SackBlocks;

use crate::held::{HELD_FEW, Held, HeldPool};
use crate::ranges::Pieces;
use crate::seq::SeqNumber;

mod delayed_ack;
mod sack;
mod window;

use delayed_ack::DelayedAck;
use sack::{SackReport, first_repeated};

pub(crate) use delayed_ack::AckWanted;
pub(crate) use window::{RestingWindow, Window};

/// Stream ranges of a segment that were new.
pub type NewBytes = Pieces<HELD_FEW>;

/// What the payload of a segment turned out to be.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// Sub-ranges that were not there yet.
    pub pieces: NewBytes,
    /// RCV.NXT moved.
    pub advanced: bool,
    /// The peer's FIN is now in order.
    pub finished: bool,
    /// The out-of-order store had no room for it.
    pub refused: bool,
}

/// Receiving half of one connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub window: Window,
    ack: DelayedAck,
    fin_at: Option<u64>,
    held: Held,
    report: SackReport,
}

impl Receiver {
    /// `irs` is the sequence number of the peer's SYN; `capacity` in bytes, scaled by `scale` on the wire;
    /// `mss` is the one we advertise.
    pub(crate) fn new(irs: SeqNumber, capacity: u32, scale: u8, mss: u16) -> Self {
        Receiver::with(Window::new(irs, capacity, scale, mss))
    }

    /// Nothing is held, and nothing is to be acknowledged.
    pub(crate) fn with(window: Window) -> Self {
        Receiver {
            window,
            ack: DelayedAck::new(),
            fin_at: None,
            held: Held::new(),
            report: SackReport::new(),
        }
    }

    /// What is left at rest; `None` while there is more to know than the window.
    pub(crate) fn rest(&self) -> Option<RestingWindow> {
        let is_quiet = self.ack.is_quiet() && self.fin_at.is_none() && !self.has_sack_blocks();
        is_quiet.then(|| self.window.rest()).flatten()
    }

    /// Bytes delivered in order, without the FIN.
    pub(crate) fn delivered(&self) -> u64 {
        match self.fin_at {
            Some(fin) if self.window.rcv_nxt() > fin => fin,
            _ => self.window.rcv_nxt(),
        }
    }

    /// Bytes of buffer that were promised to the peer or hold what it sent; only those once its FIN is in order.
    pub(crate) fn promised(&self) -> u64 {
        let end = if self.is_finished() {
            self.delivered()
        } else {
            self.window.right_edge()
        };
        end.saturating_sub(self.window.consumed())
    }

    /// The peer's FIN is in order: no byte will follow.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin_at.is_some_and(|fin| self.window.rcv_nxt() > fin)
    }

    /// Whether bytes are here that the driver has not consumed.
    pub(crate) fn has_unread(&self) -> bool {
        self.window.consumed() < self.delivered() || self.held.first().is_some()
    }

    pub(crate) fn ack_wanted(&self) -> AckWanted {
        self.ack.wanted()
    }

    pub(crate) fn want_ack_now(&mut self) {
        self.ack.want_now();
    }

    /// Before [`Self::on_payload`]: room for what is out of order, if there is any.
    #[inline]
    pub(crate) fn make_room(&mut self, pool: &mut HeldPool) {
        self.held.make_room(pool);
    }

    /// After it: room that is not needed any more goes back.
    #[inline]
    pub(crate) fn tidy(&mut self, pool: &mut HeldPool) {
        self.held.tidy(pool);
    }

    /// The connection is over: what was out of order is forgotten.
    pub(crate) fn release(&mut self, pool: &mut HeldPool) {
        self.held.release(pool);
    }

    /// Takes payload and FIN of an acceptable segment.
    pub(crate) fn on_payload(&mut self, seq: SeqNumber, len: u32, fin: bool) -> Arrival {
        let start = self.window.offset_of(seq);
        let end = start + i64::from(len);
        if fin {
            self.note_fin(end);
        }
        let mut arrival = Arrival::default();
        if len > 0 {
            self.take_bytes(start, end, &mut arrival);
        }
        if let Some(at) = self.fin_at
            && self.window.rcv_nxt() == at
        {
            self.window.advance_over_fin();
            arrival.finished = true;
            self.ack.want_now();
        } else if fin {
            // A FIN out of order or again: tell the peer where we are.
            self.ack.want_now();
        }
        arrival
    }

    /// A segment that lies wholly below RCV.NXT came again: the peer has not seen our acknowledgement.
    pub(crate) fn on_repeat(&mut self, seq: SeqNumber, len: u32) {
        let start = self.window.offset_of(seq);
        if let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(start + i64::from(len)))
        {
            self.note_duplicate(start..end.min(self.delivered()));
        }
        self.ack.want_now();
    }

    /// The driver has freed everything below `offset`. Asks for a window update if it is worth a segment.
    pub(crate) fn on_consumed(&mut self, offset: u64) {
        self.window.free(offset.min(self.delivered()));
        self.ask_for_update();
    }

    /// The same of a driver without a buffer of fixed size: it has room for `room` bytes from `offset` on. What was
    /// promised before stays promised.
    pub(crate) fn on_consumed_with_room(&mut self, offset: u64, room: u32) {
        self.window.free(offset.min(self.delivered()));
        self.window
            .follow_driver(offset.saturating_add(room.into()));
        self.ask_for_update();
    }

    fn ask_for_update(&mut self) {
        if self.fin_at.is_none() && self.window.is_news() {
            self.ack.want_now();
        }
    }

    /// Acknowledgement and window field for a segment that leaves now; everything wanted is then said.
    pub(crate) fn advertise(&mut self) -> (SeqNumber, u16) {
        self.ack.on_said();
        (self.window.ack_number(), self.window.promise())
    }

    /// The same for a SYN-ACK, whose window is never scaled.
    pub(crate) fn advertise_unscaled(&mut self) -> (SeqNumber, u16) {
        self.ack.on_said();
        (self.window.ack_number(), self.window.unscaled())
    }

    /// Whether the next acknowledgement has SACK blocks to carry.
    pub(crate) fn has_sack_blocks(&self) -> bool {
        self.report.has_duplicate() || !self.held.is_empty()
    }

    /// SACK blocks for the next acknowledgement, at most `room`.
    pub(crate) fn sack_blocks(&mut self, room: usize) -> SackBlocks {
        self.report.take_blocks(&self.held, &self.window, room)
    }

    fn note_fin(&mut self, at: i64) {
        // A FIN beyond the window is not acceptable. One below bytes that we hold, or a second one elsewhere, is
        // a peer's mistake: what came first stays.
        if let Ok(at) = u64::try_from(at)
            && self.fin_at.is_none()
            && at >= self.window.rcv_nxt()
            && at <= self.window.right_edge()
            && self.held.last().is_none_or(|held| held.end <= at)
        {
            self.fin_at = Some(at);
        }
    }

    fn take_bytes(&mut self, start: i64, end: i64, arrival: &mut Arrival) {
        let rcv_nxt = self.window.rcv_nxt();
        let limit = self
            .fin_at
            .unwrap_or(u64::MAX)
            .min(self.window.right_edge());
        let first = u64::try_from(start).unwrap_or(0);
        let last = u64::try_from(end).unwrap_or(0).min(limit);
        if first < rcv_nxt || start < 0 {
            self.note_duplicate(first..last.min(rcv_nxt));
        }
        let fresh = first.max(rcv_nxt)..last;
        if fresh.is_empty() {
            self.ack.want_now();
            return;
        }
        // What continues the stream and touches nothing that is held needs no entry of the bounded set: it is
        // taken even when that is full, or the hole could never be filled.
        let before_held = self.held.first().is_none_or(|held| fresh.end < held.start);
        if fresh.start == rcv_nxt && before_held {
            arrival.advanced = true;
            let has_gap = !self.held.is_empty();
            self.ack
                .on_bytes(fresh.end - fresh.start, &self.window, has_gap);
            self.window.advance_to(fresh.end);
            arrival.pieces = Pieces::whole(fresh);
            return;
        }
        self.take_around_holes(fresh, arrival);
    }

    fn take_around_holes(&mut self, fresh: Range<u64>, arrival: &mut Arrival) {
        // At once for data out of order and for a filled gap (RFC 5681 section 4.2).
        self.ack.want_now();
        let fresh = self.held.tellable(fresh);
        match self.held.insert(fresh.clone()) {
            Ok(pieces) => arrival.pieces = pieces,
            Err(_) => {
                arrival.refused = true;
                return;
            }
        }
        if arrival.pieces.bytes() < fresh.end - fresh.start {
            self.note_duplicate(first_repeated(&fresh, &arrival.pieces));
        }
        if fresh.start == self.window.rcv_nxt()
            && let Some(first) = self.held.first()
        {
            arrival.advanced = true;
            self.window.advance_to(first.end);
            self.held.remove_below(first.end);
        } else {
            self.report.note_held(fresh.start);
        }
    }

    /// What came twice is told, and at once.
    fn note_duplicate(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.report.note_duplicate(range);
            self.ack.want_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IRS: u32 = u32::MAX - 50;

    fn receiver() -> Receiver {
        Receiver::new(SeqNumber::new(IRS), 4000, 0, 1000)
    }

    fn seq(offset: u32) -> SeqNumber {
        SeqNumber::new(IRS).add(1).add(offset)
    }

    fn pieces(arrival: &Arrival) -> Vec<Range<u64>> {
        arrival.pieces.clone().collect()
    }

    #[test]
    fn in_order_bytes_are_delivered_across_the_wrap() {
        let mut receiver = receiver();
        let arrival = receiver.on_payload(seq(0), 100, false);
        assert_eq!(pieces(&arrival), vec![0..100]);
        assert_eq!(receiver.delivered(), 100);
        assert_eq!(receiver.window.ack_number(), seq(100));
    }

    #[test]
    fn a_gap_is_acknowledged_at_once_and_filled_later() {
        // RFC 5681 section 4.2.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
        let arrival = receiver.on_payload(seq(0), 100, false);
        assert_eq!(pieces(&arrival), vec![0..100]);
        assert_eq!(receiver.delivered(), 200);
        assert!(!receiver.has_sack_blocks());
    }

    #[test]
    fn bytes_that_came_first_stay() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        let arrival = receiver.on_payload(seq(50), 200, false);
        assert_eq!(pieces(&arrival), vec![50..100, 200..250]);
    }

    #[test]
    fn a_duplicate_brings_nothing() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 100, false);
        let arrival = receiver.on_payload(seq(0), 100, false);
        assert!(pieces(&arrival).is_empty());
    }

    #[test]
    fn bytes_beyond_the_window_are_never_taken() {
        let mut receiver = receiver();
        let arrival = receiver.on_payload(seq(3900), 500, false);
        assert_eq!(pieces(&arrival), vec![3900..4000]);
    }

    #[test]
    fn of_a_segment_that_covers_the_whole_window_and_more_the_window_is_taken() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 3990, false);
        assert_eq!(
            pieces(&receiver.on_payload(seq(3900), 200, false)),
            vec![3990..4000]
        );
    }

    #[test]
    fn a_closed_window_takes_nothing_and_says_so() {
        // RFC 9293 section 3.10.7.4.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 4000, false);
        let _ = receiver.advertise();
        assert!(pieces(&receiver.on_payload(seq(4000), 1, false)).is_empty());
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
    }

    #[test]
    fn a_window_that_opened_is_said_when_it_is_worth_a_segment() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 2000, false);
        assert_eq!(receiver.advertise(), (seq(2000), 2000));
        receiver.on_consumed(1000);
        assert_eq!(receiver.ack_wanted(), AckWanted::No);
        receiver.on_consumed(2000);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
        assert_eq!(receiver.advertise(), (seq(2000), 4000));
    }

    #[test]
    fn the_room_of_a_driver_is_said_when_it_comes() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 4000, false);
        receiver.on_consumed_with_room(4000, 0);
        assert_eq!(receiver.advertise(), (seq(4000), 0));
        receiver.on_consumed_with_room(4000, 65_000);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
        assert_eq!(receiver.advertise(), (seq(4000), 65_000));
        let arrival = receiver.on_payload(seq(68_000), 2000, false);
        assert_eq!(pieces(&arrival), vec![68_000..69_000]);
    }

    #[test]
    fn fin_out_of_order_waits_for_the_gap() {
        let mut receiver = receiver();
        assert!(!receiver.on_payload(seq(100), 10, true).finished);
        assert!(receiver.on_payload(seq(0), 100, false).finished);
        assert_eq!(receiver.delivered(), 110);
        assert_eq!(receiver.window.ack_number(), seq(111));
    }

    #[test]
    fn a_fin_below_held_bytes_is_not_believed() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        let _ = receiver.on_payload(seq(50), 10, true);
        assert!(!receiver.on_payload(seq(0), 100, false).finished);
        assert_eq!(receiver.delivered(), 200);
        assert!(receiver.on_payload(seq(200), 0, true).finished);
    }

    #[test]
    fn a_full_store_still_takes_what_continues_the_stream() {
        let mut receiver = Receiver::new(SeqNumber::new(IRS), 60_000, 0, 1460);
        for hole in 0..8 {
            let _ = receiver.on_payload(seq(3000 + 2000 * hole), 1000, false);
        }
        assert!(receiver.on_payload(seq(30_000), 1000, false).refused);
        let arrival = receiver.on_payload(seq(0), 1000, false);
        assert_eq!(pieces(&arrival), vec![0..1000]);
        assert!(arrival.advanced && !arrival.refused);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now, "a gap remains");
        let arrival = receiver.on_payload(seq(1000), 2500, false);
        assert_eq!(pieces(&arrival), vec![1000..3000]);
        assert_eq!(receiver.delivered(), 4000);
    }

    #[test]
    fn nothing_rests_that_is_more_than_a_window() {
        let mut receiver = receiver();
        assert!(receiver.rest().is_some());
        let _ = receiver.on_payload(seq(0), 100, false);
        assert!(receiver.rest().is_none(), "unacknowledged");
        let _ = receiver.advertise();
        let _ = receiver.on_payload(seq(200), 100, false);
        let _ = receiver.advertise();
        assert!(receiver.rest().is_none(), "a gap");
        let _ = receiver.on_payload(seq(100), 100, false);
        let _ = receiver.advertise();
        assert!(receiver.rest().is_some());
        let _ = receiver.on_payload(seq(300), 0, true);
        let _ = receiver.advertise();
        assert!(receiver.rest().is_none(), "the peer has finished");
    }
}
