//! The receiving half: which bytes of a segment are new, what to acknowledge and when.
//!
//! Positions are stream offsets (`u64`, no wrap); offset 0 is IRS + 1 and the peer's FIN counts one. Payload
//! stays with the driver, which learns the new ranges as [`Pieces`]. Invariant: `consumed <= rcv_nxt <=
//! right_edge`, and everything held lies above `rcv_nxt` and at or below `right_edge`.
//!
//! RFC 9293 sections 3.10.7.4 (acceptability) and 3.8.6.2.2 (silly windows), RFC 5681 section 4.2 (when to
//! acknowledge), RFC 2018 and 2883 (SACK and DSACK), RFC 7323 section 2.4 (windows and rounding).

use core::ops::Range;

use sluice_wire::{SackBlock, SackBlocks};

use crate::held::{HELD_FEW, Held, HeldPool};
use crate::ranges::Pieces;
use crate::seq::SeqNumber;

mod rest;

pub(crate) use rest::RestingReceiver;

/// A segment of this length counts as full (RFC 9293 section 3.7.1, the default MSS of IPv4).
const SMALLEST_FULL_SEGMENT: u32 = 536;

/// Stream ranges of a segment that were new.
pub type NewBytes = Pieces<HELD_FEW>;

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
    /// The driver says what room it has: [`Self::on_consumed_with_room`].
    is_driven: bool,
    /// The widest window that the peer was ever promised.
    widest: u32,
    scale: u8,
    /// The MSS we advertised: nothing longer is one segment.
    mss: u16,
    unacknowledged: u32,
    ack: AckWanted,
    fin_at: Option<u64>,
    held: Held,
    /// Starts of the held ranges that changed last, newest first (RFC 2018 section 4).
    recent: [u64; SackBlocks::MAX],
    duplicate: Option<Range<u64>>,
}

impl Receiver {
    /// `irs` is the sequence number of the peer's SYN; `capacity` in bytes, scaled by `scale` on the wire;
    /// `mss` is the one we advertise.
    pub(crate) fn new(irs: SeqNumber, capacity: u32, scale: u8, mss: u16) -> Self {
        Receiver {
            origin: irs.add(1),
            rcv_nxt: 0,
            right_edge: u64::from(capacity.min(u32::from(u16::MAX))),
            consumed: 0,
            capacity,
            is_driven: false,
            widest: capacity.min(u32::from(u16::MAX)),
            scale,
            mss,
            unacknowledged: 0,
            ack: AckWanted::No,
            fin_at: None,
            held: Held::new(),
            recent: [u64::MAX; SackBlocks::MAX],
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

    /// Stream offset below which the driver has freed everything.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Stream offset up to which the peer may send.
    pub(crate) fn right_edge(&self) -> u64 {
        self.right_edge
    }

    /// Bytes of buffer that were promised to the peer or hold what it sent; only those once its FIN is in order.
    pub(crate) fn promised(&self) -> u64 {
        let end = if self.is_finished() {
            self.delivered()
        } else {
            self.right_edge
        };
        end.saturating_sub(self.consumed)
    }

    /// The peer's FIN is in order: no byte will follow.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin_at.is_some_and(|fin| self.rcv_nxt > fin)
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

    /// No peer has more in flight than the widest window it was promised, so what it sends again begins no further below
    /// RCV.NXT than this, whatever the window is now: it shrinks with the driver's room, with the peer's pauses and
    /// with what was not read.
    pub(crate) fn reach_of_repeats(&self) -> u32 {
        self.widest
    }

    /// Whether the capacity is what the driver said last, and follows nothing else.
    pub(crate) fn is_driven(&self) -> bool {
        self.is_driven
    }

    /// The largest window that the field can say.
    pub(crate) fn largest_window(&self) -> u32 {
        u32::from(u16::MAX) << self.scale
    }

    /// Whether bytes are here that the driver has not consumed.
    pub(crate) fn has_unread(&self) -> bool {
        self.consumed < self.delivered() || self.held.first().is_some()
    }

    pub(crate) fn ack_wanted(&self) -> AckWanted {
        self.ack
    }

    pub(crate) fn want_ack_now(&mut self) {
        self.ack = AckWanted::Now;
    }

    /// RFC 9293 section 3.10.7.4, first check, on a segment with `len` sequence numbers: any part of it lies in
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

    /// Where `seq` lies relative to RCV.NXT (0 is RCV.NXT itself).
    pub(crate) fn distance_to_next(&self, seq: SeqNumber) -> i64 {
        self.offset_of(seq) - self.signed_nxt()
    }

    /// Whether a RST at `seq` lies in the window (RFC 5961 section 3.2).
    pub(crate) fn in_window(&self, seq: SeqNumber) -> bool {
        let at = self.distance_to_next(seq);
        at == 0 || (0..self.signed_window()).contains(&at)
    }

    /// Stream offset of a sequence number; negative for what precedes the stream.
    pub(crate) fn offset_of(&self, seq: SeqNumber) -> i64 {
        self.signed_nxt() + i64::from(seq.distance(self.ack_number()))
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

    /// A segment that lies wholly below RCV.NXT came again: the peer has not seen our acknowledgement.
    pub(crate) fn on_repeat(&mut self, seq: SeqNumber, len: u32) {
        let start = self.offset_of(seq);
        if let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(start + i64::from(len)))
        {
            self.note_duplicate(start, end.min(self.delivered()));
        }
        self.ack = AckWanted::Now;
    }

    /// The driver has freed everything below `offset`. Asks for a window update if it is worth a segment: the
    /// window can grow by half the buffer, or the peer has no room for a whole segment and now gets it.
    pub(crate) fn on_consumed(&mut self, offset: u64) {
        self.consumed = self.consumed.max(offset.min(self.delivered()));
        self.ask_for_update();
    }

    /// The same of a driver without a buffer of fixed size: it has room for `room` bytes from `offset` on. What was
    /// promised before stays promised.
    pub(crate) fn on_consumed_with_room(&mut self, offset: u64, room: u32) {
        self.consumed = self.consumed.max(offset.min(self.delivered()));
        let end = offset.saturating_add(room.into());
        let capacity = end.saturating_sub(self.consumed);
        self.capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        self.is_driven = true;
        self.ask_for_update();
    }

    /// From now on the room is `capacity` bytes from what is consumed, as at the beginning.
    pub(crate) fn end_driving(&mut self, capacity: u32) {
        self.capacity = capacity;
        self.is_driven = false;
    }

    fn ask_for_update(&mut self) {
        if self.fin_at.is_some() {
            return;
        }
        let growth = self.limit().saturating_sub(self.right_edge);
        let starved = self.right_edge.saturating_sub(self.rcv_nxt) < u64::from(self.mss);
        let half = u64::from(self.capacity / 2).max(1);
        // What a SYN-ACK could not promise of the first buffer is not news: any acknowledgement says it.
        let known = match self.is_driven {
            true => self.right_edge,
            false => self.right_edge.max(self.capacity.into()),
        };
        let freed = self.limit() - known.min(self.limit());
        if freed >= half || (starved && growth >= self.least_growth()) {
            self.ack = AckWanted::Now;
        }
    }

    /// Window field and acknowledgement for a segment that leaves now; everything wanted is then said.
    pub(crate) fn advertise(&mut self) -> (SeqNumber, u16) {
        let field = self.window_field();
        let window = u32::from(field) << self.scale;
        self.widest = self.widest.max(window);
        self.right_edge = self.right_edge.max(self.rcv_nxt + u64::from(window));
        self.ack = AckWanted::No;
        self.unacknowledged = 0;
        (self.ack_number(), field)
    }

    /// The same for a SYN-ACK, whose window is never scaled (RFC 7323 section 2.2): what it does not promise is not
    /// acceptable.
    pub(crate) fn advertise_unscaled(&mut self) -> (SeqNumber, u16) {
        self.ack = AckWanted::No;
        (self.ack_number(), self.unscaled_window())
    }

    /// Window field of a segment that leaves now.
    pub(crate) fn window_field(&self) -> u16 {
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

    /// Everything below may be stored.
    fn limit(&self) -> u64 {
        self.consumed + u64::from(self.capacity)
    }

    /// By less than this the right edge does not move.
    fn least_growth(&self) -> u64 {
        let useful = u64::from(self.capacity / 2).min(u64::from(self.mss)).max(1);
        useful.max(1 << self.scale)
    }

    /// Window field of a SYN-ACK, which is never scaled (RFC 7323 section 2.2).
    pub(crate) fn unscaled_window(&self) -> u16 {
        u16::try_from(self.capacity).unwrap_or(u16::MAX)
    }

    /// Whether the next acknowledgement has SACK blocks to carry.
    pub(crate) fn has_sack_blocks(&self) -> bool {
        self.duplicate.is_some() || !self.held.is_empty()
    }

    /// SACK blocks for the next acknowledgement: the duplicate first (RFC 2883 section 4), then the range with
    /// the newest segment, then the most recent others (RFC 2018 section 4). At most `room` blocks.
    pub(crate) fn sack_blocks(&mut self, room: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let duplicate = self.duplicate.take();
        if let Some(range) = &duplicate {
            blocks.push(self.block(range));
        }
        // Duplicates inside held data: the enclosing range follows, even if it is the same, because that is
        // how the peer tells a DSACK from an ordinary block.
        let enclosing = duplicate.and_then(|range| self.held.enclosing(range.start));
        let recent = self.recent.iter().filter_map(|at| self.held.enclosing(*at));
        let mut reported = [const { 0..0 }; SackBlocks::MAX];
        let mut count = 0;
        for range in enclosing.into_iter().chain(recent).chain(self.held.iter()) {
            if blocks.len() >= room || count == reported.len() {
                break;
            }
            if !reported[..count].contains(&range) {
                blocks.push(self.block(&range));
                reported[count] = range;
                count += 1;
            }
        }
        blocks
    }

    fn block(&self, range: &Range<u64>) -> SackBlock {
        SackBlock {
            start: self.to_seq(range.start).raw(),
            end: self.to_seq(range.end).raw(),
        }
    }

    fn note_fin(&mut self, at: i64) {
        // A FIN beyond the window is not acceptable. One below bytes that we hold, or a second one elsewhere, is
        // a peer's mistake: what came first stays.
        if let Ok(at) = u64::try_from(at)
            && self.fin_at.is_none()
            && at >= self.rcv_nxt
            && at <= self.right_edge
            && self.held.last().is_none_or(|held| held.end <= at)
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
        // What continues the stream and touches nothing that is held needs no entry of the bounded set: it is
        // taken even when that is full, or the hole could never be filled.
        let before_held = self.held.first().is_none_or(|held| fresh.end < held.start);
        if fresh.start == self.rcv_nxt && before_held {
            arrival.advanced = true;
            self.count_in_order(fresh.end - fresh.start);
            self.rcv_nxt = fresh.end;
            arrival.pieces = Pieces::whole(fresh);
            return;
        }
        self.take_around_holes(&fresh, arrival);
    }

    fn take_around_holes(&mut self, fresh: &Range<u64>, arrival: &mut Arrival) {
        // At once for data out of order and for a filled gap (RFC 5681 section 4.2).
        self.ack = AckWanted::Now;
        let fresh = &self.held.tellable(fresh.clone());
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
            self.recent.rotate_right(1);
            self.recent[0] = start;
        }
    }

    /// Delayed ACK (RFC 5681 section 4.2): every second full segment at once, and at once while a gap remains.
    ///
    /// Full is taken as the smallest default MSS (536), so that a peer with a small MSS is not kept waiting.
    /// What is longer than our MSS was merged on its way and counts as several.
    fn count_in_order(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
        let several = bytes < self.unacknowledged || bytes > u32::from(self.mss);
        let now = (several && self.unacknowledged >= 2 * SMALLEST_FULL_SEGMENT)
            || self.unacknowledged >= self.capacity / 4
            || !self.held.is_empty();
        if now {
            self.ack = AckWanted::Now;
        } else if self.ack == AckWanted::No {
            self.ack = AckWanted::Delayed;
        }
    }

    fn signed_window(&self) -> i64 {
        i64::try_from(self.right_edge.saturating_sub(self.rcv_nxt)).unwrap_or(i64::MAX)
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
        Receiver::new(SeqNumber::new(IRS), 4000, 0, 1000)
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
    fn zero_window_accepts_only_what_begins_at_rcv_nxt() {
        // RFC 9293 section 3.10.7.4: the table, and MUST-66 for the ACK of a segment with payload.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 4000, false);
        assert!(receiver.is_acceptable(seq(4000), 0));
        assert!(receiver.is_acceptable(seq(4000), 1));
        assert!(!receiver.is_acceptable(seq(4001), 0));
        assert!(!receiver.is_acceptable(seq(4001), 1));
        assert!(pieces(&receiver.on_payload(seq(4000), 1, false)).is_empty());
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
    }

    #[test]
    fn a_segment_that_covers_the_whole_window_and_more_is_acceptable() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 3990, false);
        assert!(receiver.is_acceptable(seq(3900), 200));
        assert_eq!(
            pieces(&receiver.on_payload(seq(3900), 200, false)),
            vec![3990..4000]
        );
    }

    #[test]
    fn an_empty_segment_at_the_right_edge_is_acceptable() {
        let receiver = receiver();
        assert!(receiver.is_acceptable(seq(4000), 0));
        assert!(!receiver.is_acceptable(seq(4001), 0));
        assert!(!receiver.is_acceptable(seq(4000), 1));
        assert!(!receiver.in_window(seq(4000)), "a RST is judged strictly");
    }

    #[test]
    fn the_window_never_shrinks_and_opens_by_half_a_buffer() {
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
    fn the_room_of_a_driver_is_the_window_and_is_news_when_it_comes() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 4000, false);
        receiver.on_consumed_with_room(4000, 0);
        assert_eq!(receiver.advertise(), (seq(4000), 0));
        receiver.on_consumed_with_room(4000, 65_000);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
        assert_eq!(receiver.advertise(), (seq(4000), 65_000));
        assert!(
            receiver.rest().is_none(),
            "its room is known to nobody else"
        );
    }

    #[test]
    fn a_driven_window_ends_without_taking_back_its_promise() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 1000, false);
        receiver.on_consumed_with_room(1000, 30_000);
        assert_eq!(receiver.advertise(), (seq(1000), 30_000));
        receiver.end_driving(4000);
        receiver.on_consumed(1000);
        assert_eq!(receiver.advertise(), (seq(1000), 30_000));
        let arrival = receiver.on_payload(seq(30_000), 1000, false);
        assert_eq!(pieces(&arrival), vec![30_000..31_000]);
    }

    #[test]
    fn repeats_reach_as_far_back_as_any_window_did() {
        let mut receiver = receiver();
        assert_eq!(receiver.reach_of_repeats(), 4000);
        let _ = receiver.on_payload(seq(0), 1000, false);
        receiver.on_consumed_with_room(1000, 30_000);
        let _ = receiver.advertise();
        let _ = receiver.on_payload(seq(1000), 30_000, false);
        receiver.end_driving(4000);
        receiver.on_consumed(31_000);
        let _ = receiver.advertise();
        assert_eq!(receiver.reach_of_repeats(), 30_000);
        // Of a connection that has rested a little further.
        let rested = receiver.rest().expect("nothing is under way").wake(4000);
        assert_eq!(rested.reach_of_repeats(), 1 << 15);
        let again = rested.rest().expect("nothing is under way").wake(4000);
        assert_eq!(again.reach_of_repeats(), 1 << 15);
    }

    #[test]
    fn the_window_does_not_open_by_slivers() {
        // RFC 9293 section 3.8.6.2.2, MUST-39.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(0), 3500, false);
        assert_eq!(receiver.advertise(), (seq(3500), 500));
        receiver.on_consumed(900);
        assert_eq!(receiver.advertise(), (seq(3500), 500));
        receiver.on_consumed(1000);
        assert_eq!(
            receiver.ack_wanted(),
            AckWanted::Now,
            "a segment fits again"
        );
        assert_eq!(receiver.advertise(), (seq(3500), 1500));
    }

    #[test]
    fn a_rounded_window_never_promises_more_than_the_buffer() {
        // RFC 7323 section 2.4: rounding up for ever would let the edge creep away from the buffer.
        let (capacity, scale) = (1 << 20, 5);
        let mut receiver = Receiver::new(SeqNumber::new(IRS), capacity, scale, 1460);
        let mut at = 0;
        let mut edge = 0;
        while at < capacity {
            let _ = receiver.on_payload(seq(at), 33, false);
            at += 33;
            let (_, field) = receiver.advertise();
            let promised = u64::from(at) + (u64::from(field) << scale);
            assert!(promised <= u64::from(capacity) || at >= capacity);
            assert!(
                promised + (1 << scale) > edge,
                "less than a unit is taken back"
            );
            edge = edge.max(promised);
        }
        assert_eq!(receiver.advertise().1, 0);
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
    fn a_fin_below_held_bytes_is_not_believed() {
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        let _ = receiver.on_payload(seq(50), 10, true);
        assert!(!receiver.on_payload(seq(0), 100, false).finished);
        assert_eq!(receiver.delivered(), 200);
        assert!(receiver.on_payload(seq(200), 0, true).finished);
    }

    #[test]
    fn a_duplicate_of_a_whole_held_range_is_named_twice() {
        // RFC 2883 section 4: the second block is the "(possibly larger)" block, or it is no DSACK.
        let mut receiver = receiver();
        let _ = receiver.on_payload(seq(100), 100, false);
        let _ = receiver.sack_blocks(3);
        let _ = receiver.on_payload(seq(100), 100, false);
        assert_eq!(blocks(&mut receiver), vec![(100, 200), (100, 200)]);
        assert_eq!(blocks(&mut receiver), vec![(100, 200)]);
    }

    #[test]
    fn merged_segments_count_as_several() {
        // RFC 5681 section 4.2: a packet longer than our MSS is at least two full segments.
        let mut receiver = Receiver::new(SeqNumber::new(IRS), 1 << 20, 5, 1460);
        let _ = receiver.on_payload(seq(0), 2896, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
    }

    #[test]
    fn second_full_segment_is_acknowledged_at_once() {
        let mut receiver = Receiver::new(SeqNumber::new(IRS), 65535, 0, 1460);
        let _ = receiver.on_payload(seq(0), 1448, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Delayed);
        let _ = receiver.on_payload(seq(1448), 1448, false);
        assert_eq!(receiver.ack_wanted(), AckWanted::Now);
    }
}
