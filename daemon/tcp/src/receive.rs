//! The receiving half: which bytes of a segment are new, what to acknowledge and when.
//!
//! Positions are stream offsets (`u64`, no wrap); offset 0 is IRS + 1 and the peer's FIN counts one. Payload
//! stays with the driver, which learns the new ranges as [`Pieces`]. Invariant: `consumed <= rcv_nxt <=
//! right_edge`, and everything held lies above `rcv_nxt` and at or below `right_edge`.
//!
//! RFC 9293 section 3.10.7.4 (acceptability), RFC 5681 section 4.2 (when to acknowledge), RFC 2018 and 2883
//! (SACK and DSACK), RFC 7323 section 2.4 (a rounded window never moves the right edge back).

use core::ops::Range;

use sluice_wire::{SackBlock, SackBlocks};

use crate::ranges::{Pieces, RangeSet};
use crate::seq::SeqNumber;

/// Out-of-order ranges held at once. More holes than this in one receive window means the sender loses every
/// other segment; the newest range is then refused and comes again.
pub(crate) const HELD_MAX: usize = 8;

/// Stream ranges of a segment that were new.
pub type NewBytes = Pieces<HELD_MAX>;

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

/// Receive sequence space of one connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    origin: SeqNumber,
    rcv_nxt: u64,
    right_edge: u64,
    consumed: u64,
    capacity: u32,
    scale: u8,
    unacknowledged: u32,
    ack: AckWanted,
    fin_at: Option<u64>,
    held: RangeSet<HELD_MAX>,
    /// Starts of the held ranges that changed last, newest first (RFC 2018 section 4).
    recent: [u64; 3],
    duplicate: Option<Range<u64>>,
}

impl Receiver {
    /// `irs` is the sequence number of the peer's SYN; `capacity` in bytes, scaled by `scale` on the wire.
    pub(crate) fn new(irs: SeqNumber, capacity: u32, scale: u8) -> Self {
        Receiver {
            origin: irs.add(1),
            rcv_nxt: 0,
            right_edge: u64::from(capacity.min(u32::from(u16::MAX))),
            consumed: 0,
            capacity,
            scale,
            unacknowledged: 0,
            ack: AckWanted::No,
            fin_at: None,
            held: RangeSet::new(),
            recent: [u64::MAX; 3],
            duplicate: None,
        }
    }

    /// RCV.NXT on the wire.
    pub(crate) fn ack_number(&self) -> SeqNumber {
        self.to_seq(self.rcv_nxt)
    }

    /// Bytes delivered in order, without the FIN.
    pub(crate) fn delivered(&self) -> u64 {
        match self.fin_at {
            Some(fin) if self.rcv_nxt > fin => fin,
            _ => self.rcv_nxt,
        }
    }

    pub(crate) fn ack_wanted(&self) -> AckWanted {
        self.ack
    }

    pub(crate) fn want_ack_now(&mut self) {
        self.ack = AckWanted::Now;
    }

    /// RFC 9293 section 3.10.7.4, first check, on a segment with `len` sequence numbers.
    pub(crate) fn is_acceptable(&self, seq: SeqNumber, len: u32) -> bool {
        let window = self.right_edge - self.rcv_nxt;
        let first = self.offset_of(seq) - self.signed_nxt();
        let last = first + i64::from(len) - 1;
        let inside = |at: i64| at >= 0 && at.unsigned_abs() < window;
        match (len, window) {
            (0, 0) => first == 0,
            (0, _) => inside(first),
            (_, 0) => false,
            _ => inside(first) || inside(last),
        }
    }

    /// Where `seq` lies relative to RCV.NXT (0 is RCV.NXT itself).
    pub(crate) fn distance_to_next(&self, seq: SeqNumber) -> i64 {
        self.offset_of(seq) - self.signed_nxt()
    }

    /// Whether a RST at `seq` lies in the window (RFC 5961 section 3.2).
    pub(crate) fn in_window(&self, seq: SeqNumber) -> bool {
        let at = self.distance_to_next(seq);
        at == 0 || (at > 0 && at.unsigned_abs() < self.right_edge - self.rcv_nxt)
    }

    /// Stream offset of a sequence number; negative for what precedes the stream.
    pub(crate) fn offset_of(&self, seq: SeqNumber) -> i64 {
        self.signed_nxt() + i64::from(seq.distance(self.ack_number()))
    }

    /// Takes payload and FIN of an acceptable segment.
    pub(crate) fn on_payload(&mut self, seq: SeqNumber, len: u32, fin: bool) -> Arrival {
        let start = self.offset_of(seq);
        let end = start + i64::from(len);
        if fin {
            self.note_fin(end);
        }
        let mut arrival = Arrival::default();
        if len > 0 {
            self.take_bytes(start, end, &mut arrival);
        }
        if let Some(at) = self.fin_at
            && self.rcv_nxt == at
        {
            self.rcv_nxt += 1;
            self.right_edge = self.right_edge.max(self.rcv_nxt);
            arrival.finished = true;
            self.ack = AckWanted::Now;
        } else if fin {
            // A FIN out of order or again: tell the peer where we are.
            self.ack = AckWanted::Now;
        }
        arrival
    }

    /// The driver has freed everything below `offset`. Says whether a window update is worth a segment:
    /// the window grew by half the buffer (RFC 9293 section 3.8.6.2.2, MUST-39).
    pub(crate) fn on_consumed(&mut self, offset: u64) {
        self.consumed = self.consumed.max(offset.min(self.rcv_nxt));
        let offered = self.right_edge.saturating_sub(self.consumed);
        let possible = u64::from(self.capacity);
        if possible.saturating_sub(offered) >= u64::from(self.capacity / 2).max(1)
            && self.fin_at.is_none()
        {
            self.ack = AckWanted::Now;
        }
    }

    /// Window field and acknowledgement for a segment that leaves now; everything wanted is then said.
    pub(crate) fn advertise(&mut self) -> (SeqNumber, u16) {
        let limit = self.consumed + u64::from(self.capacity);
        let unit_mask = (1u64 << self.scale) - 1;
        let wanted = limit.max(self.right_edge);
        // Round up to a whole unit only as far as an edge already promised; else down.
        let window = wanted.saturating_sub(self.rcv_nxt);
        let scaled = if wanted == self.right_edge {
            (window + unit_mask) >> self.scale
        } else {
            window >> self.scale
        };
        let field = u16::try_from(scaled).unwrap_or(u16::MAX);
        let edge = self.rcv_nxt + (u64::from(field) << self.scale);
        self.right_edge = self.right_edge.max(edge);
        self.ack = AckWanted::No;
        self.unacknowledged = 0;
        (self.ack_number(), field)
    }

    /// Window field of a SYN-ACK, which is never scaled (RFC 7323 section 2.2).
    pub(crate) fn unscaled_window(&self) -> u16 {
        u16::try_from(self.capacity).unwrap_or(u16::MAX)
    }

    /// SACK blocks for the next acknowledgement: the duplicate first (RFC 2883 section 4), then the range with
    /// the newest segment, then the most recent others (RFC 2018 section 4). At most `room` blocks.
    pub(crate) fn sack_blocks(&mut self, room: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let duplicate = self.duplicate.take();
        if let Some(range) = &duplicate {
            self.push_block(&mut blocks, range, room);
        }
        if self.held.is_empty() {
            return blocks;
        }
        if let Some(range) = &duplicate
            && let Some(enclosing) = self.held_around(range.start)
            && enclosing != *range
        {
            self.push_block(&mut blocks, &enclosing, room);
        }
        for start in self.recent {
            if let Some(range) = self.held_around(start) {
                self.push_block(&mut blocks, &range, room);
            }
        }
        for range in self.held.iter() {
            self.push_block(&mut blocks, &range, room);
        }
        blocks
    }

    fn push_block(&self, blocks: &mut SackBlocks, range: &Range<u64>, room: usize) {
        let block = SackBlock {
            start: self.to_seq(range.start).raw(),
            end: self.to_seq(range.end).raw(),
        };
        if blocks.len() < room && !blocks.iter().any(|known| *known == block) {
            blocks.push(block);
        }
    }

    fn held_around(&self, offset: u64) -> Option<Range<u64>> {
        self.held.enclosing(offset)
    }

    fn note_fin(&mut self, at: i64) {
        // A FIN beyond the window is not acceptable, and a second one elsewhere is a peer's mistake: the
        // first position stays.
        if let Ok(at) = u64::try_from(at)
            && self.fin_at.is_none()
            && at >= self.rcv_nxt
            && at <= self.right_edge
        {
            self.fin_at = Some(at);
        }
    }

    fn take_bytes(&mut self, start: i64, end: i64, arrival: &mut Arrival) {
        let limit = self.fin_at.unwrap_or(u64::MAX).min(self.right_edge);
        let first = u64::try_from(start).unwrap_or(0);
        let last = u64::try_from(end).unwrap_or(0).min(limit);
        if first < self.rcv_nxt || start < 0 {
            self.note_duplicate(first, last.min(self.rcv_nxt));
        }
        let fresh = first.max(self.rcv_nxt)..last;
        if fresh.is_empty() {
            self.ack = AckWanted::Now;
            return;
        }
        if fresh.start == self.rcv_nxt && self.held.is_empty() {
            arrival.pieces = Pieces::whole(fresh.clone());
            arrival.advanced = true;
            self.count_in_order(fresh.end - fresh.start);
            self.rcv_nxt = fresh.end;
            return;
        }
        self.take_around_holes(&fresh, arrival);
    }

    fn take_around_holes(&mut self, fresh: &Range<u64>, arrival: &mut Arrival) {
        // At once for data out of order and for a filled gap (RFC 5681 section 4.2).
        self.ack = AckWanted::Now;
        match self.held.insert(fresh.clone()) {
            Ok(pieces) => arrival.pieces = pieces,
            Err(_) => {
                arrival.refused = true;
                return;
            }
        }
        let new_bytes: u64 = arrival.pieces.bytes();
        if new_bytes < fresh.end - fresh.start {
            self.note_overlap(fresh, arrival);
        }
        if fresh.start == self.rcv_nxt
            && let Some(first) = self.held.first()
        {
            arrival.advanced = true;
            self.rcv_nxt = first.end;
            self.held.remove_below(self.rcv_nxt);
        } else {
            self.remember(fresh.start);
        }
    }

    /// The duplicate part of a segment that overlaps held data, for DSACK.
    fn note_overlap(&mut self, fresh: &Range<u64>, arrival: &Arrival) {
        let mut at = fresh.start;
        for piece in arrival.pieces.clone() {
            if piece.start > at {
                break;
            }
            at = piece.end;
        }
        let end = arrival
            .pieces
            .clone()
            .map(|piece| piece.start)
            .find(|start| *start > at)
            .unwrap_or(fresh.end);
        self.note_duplicate(at, end);
    }

    fn note_duplicate(&mut self, start: u64, end: u64) {
        if start < end {
            self.duplicate = Some(start..end);
            self.ack = AckWanted::Now;
        }
    }

    fn remember(&mut self, start: u64) {
        if self.recent[0] != start {
            self.recent = [start, self.recent[0], self.recent[1]];
        }
    }

    /// Delayed ACK: every second full segment at once. Full is taken as the smallest MSS of the field's
    /// defaults (536), so that a peer with a small MSS is not kept waiting.
    fn count_in_order(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
        let now = self.unacknowledged >= 2 * 536 && bytes < self.unacknowledged
            || self.unacknowledged >= self.capacity / 4;
        if now {
            self.ack = AckWanted::Now;
        } else if self.ack == AckWanted::No {
            self.ack = AckWanted::Delayed;
        }
    }

    fn signed_nxt(&self) -> i64 {
        // 2^63 bytes take 29 years at 80 Gbit/s: the cast cannot lose anything.
        i64::try_from(self.rcv_nxt).unwrap_or(i64::MAX)
    }

    fn to_seq(&self, offset: u64) -> SeqNumber {
        // Sequence numbers are offsets modulo 2^32.
        #[allow(clippy::cast_possible_truncation)]
        let low = offset as u32;
        self.origin.add(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IRS: u32 = u32::MAX - 50;

    fn receiver() -> Receiver {
        Receiver::new(SeqNumber::new(IRS), 4000, 0)
    }

    fn seq(offset: u32) -> SeqNumber {
        SeqNumber::new(IRS).add(1).add(offset)
    }

    fn pieces(arrival: &Arrival) -> Vec<Range<u64>> {
        arrival.pieces.clone().collect()
    }

    fn blocks(receiver: &mut Receiver) -> Vec<(u32, u32)> {
        receiver
            .sack_blocks(3)
            .iter()
            .map(|block| {
                let offset = |raw: u32| SeqNumber::new(raw).since(seq(0));
                (offset(block.start), offset(block.end))
            })
            .collect()
    }

    #[test]
    fn in_order_bytes_are_delivered_across_the_wrap() {
        let mut receiver = receiver();
        let arrival = receiver.on_payload(seq(0), 100, false);
        assert_eq!(pieces(&arrival), vec![0..100]);
        assert_eq!(receiver.delivered(), 100);
        assert_eq!(receiver.ack_number(), seq(100));
    }

    #[test]
    fn a_gap_is_reported_at_once_and_filled_later() {
        // RFC 5681 section 4.2, RFC 2018 section 4.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
        assert_eq!(blocks(&mut receiver), vec![(100, 200)]);
        let arrival = receiver.on_payload(seq(0), 100, false);
        assert_eq!(pieces(&arrival), vec![0..100]);
        assert_eq!(receiver.delivered(), 200);
        assert_eq!(blocks(&mut receiver), vec![]);
    }

    #[test]
    fn first_sack_block_holds_the_newest_segment() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 50, false);
        let _ = receiver.on_payload(seq(300), 50, false);
        let _ = receiver.on_payload(seq(200), 50, false);
        assert_eq!(
            blocks(&mut receiver),
            vec![(200, 250), (300, 350), (100, 150)]
        );
    }

    #[test]
    fn bytes_that_came_first_stay() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        let arrival = receiver.on_payload(seq(50), 200, false);
        assert_eq!(pieces(&arrival), vec![50..100, 200..250]);
    }

    #[test]
    fn a_duplicate_is_reported_first_and_once() {
        // RFC 2883 section 4.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 100, false);
        let arrival = receiver.on_payload(seq(0), 100, false);
        assert!(pieces(&arrival).is_empty());
        assert_eq!(blocks(&mut receiver), vec![(0, 100)]);
        assert_eq!(blocks(&mut receiver), vec![]);
    }

    #[test]
    fn a_duplicate_inside_held_data_names_the_enclosing_block_second() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 200, false);
        let _ = receiver.sack_blocks(3);
        let _ = receiver.on_payload(seq(150), 50, false);
        assert_eq!(blocks(&mut receiver), vec![(150, 200), (100, 300)]);
    }

    #[test]
    fn bytes_beyond_the_window_are_never_taken() {
        let mut receiver = receiver();
        let arrival = receiver.on_payload(seq(3900), 500, false);
        assert_eq!(pieces(&arrival), vec![3900..4000]);
    }

    #[test]
    fn fin_out_of_order_waits_for_the_gap() {
        let mut receiver = receiver();
        assert!(!receiver.on_payload(seq(100), 10, true).finished);
        assert!(receiver.on_payload(seq(0), 100, false).finished);
        assert_eq!(receiver.delivered(), 110);
        assert_eq!(receiver.ack_number(), seq(111));
    }

    #[test]
    fn zero_window_accepts_only_the_exact_empty_segment() {
        // RFC 9293 section 3.10.7.4, table.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 4000, false);
        assert!(receiver.is_acceptable(seq(4000), 0));
        assert!(!receiver.is_acceptable(seq(4000), 1));
        assert!(!receiver.is_acceptable(seq(4001), 0));
    }

    #[test]
    fn the_window_never_shrinks_and_opens_by_half_a_buffer() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 3000, false);
        assert_eq!(receiver.advertise(), (seq(3000), 1000));
        receiver.on_consumed(1000);
        assert_eq!(receiver.ack_wanted(), AckWanted::No);
        receiver.on_consumed(3000);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
        assert_eq!(receiver.advertise(), (seq(3000), 4000));
    }

    #[test]
    fn second_full_segment_is_acknowledged_at_once() {
        let mut receiver = Receiver::new(SeqNumber::new(IRS), 65535, 0);
        let _ = receiver.on_payload(seq(0), 1448, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Delayed);
        let _ = receiver.on_payload(seq(1448), 1448, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
    }
}
