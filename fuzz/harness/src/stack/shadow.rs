//! What one connection has said and heard, and what follows from it for the next segment.
//!
//! Everything here is derived from the outside: segments that went in, receipts and segments that came out.

mod outgoing;

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::{
    CloseReason, ConnId, Disposition, Receipt, Segment, SegmentDrop, SendView, StackConfig, State,
};
use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

pub(super) use outgoing::check_well_formed;

/// A path MTU that was lowered stays for so long (RFC 8899 section 5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// What a configuration allows each connection.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    mtu: u16,
    receive_buffer: u32,
    /// With autotuning.
    receive_max: u32,
    has_user_timeout: bool,
    has_keep_alive: bool,
    tests_optimists: bool,
}

impl Limits {
    pub(super) fn new(config: &StackConfig) -> Limits {
        let tuned = config.autotune.map_or(0, |autotune| autotune.receive_max);
        Limits {
            mtu: config.mtu,
            receive_buffer: config.receive_buffer,
            receive_max: tuned.max(config.receive_buffer),
            has_user_timeout: config.user_timeout.is_some(),
            has_keep_alive: config.keep_alive.is_some(),
            tests_optimists: config.skip.is_some(),
        }
    }
}

/// One connection or handshake seen from its peer and its driver.
#[derive(Clone)]
pub(super) struct Shadow {
    /// `None` of a cookie.
    pub id: Option<ConnId>,
    /// The final ACK has not come.
    pub is_handshake: bool,
    pub key: FlowKey,
    limits: Limits,
    /// Opened by the stack.
    is_active: bool,
    /// The peer's SYN was taken: what is below is known.
    is_agreed: bool,
    syn: TcpOptions,
    irs: u32,
    /// Some SYN of the peer had a flag of ECN.
    has_ecn: bool,
    /// Of the stack, once it was seen.
    pub iss: Option<u32>,
    /// Our shift, once offered.
    scale: u8,

    /// Ranges of the peer's stream that were taken, ascending, disjoint, not touching.
    taken: Vec<Range<u64>>,
    pub consumed: u64,
    /// Highest right edge that was advertised, as a stream offset.
    edge: u64,
    /// Highest acknowledgement that was sent, as a stream offset.
    acked_out: u64,
    /// Where the peer's stream ends, once an event said so.
    finished_at: Option<u64>,
    /// RCV.NXT without the FIN, as the stack told it last.
    delivered: u64,
    /// What the driver said that it stores from what it consumed on, since it last said that it reads.
    pub room: Option<u32>,
    pub was_driven: bool,
    /// Nothing is read any more: `taken` is then what may have been taken.
    pub receive_closed: bool,

    pub supplied: u64,
    pub closed: bool,
    pub aborted: bool,
    /// Whether it was ever without a user timeout, and with one: its end may be told later than it was decided.
    user_timeouts: [bool; 2],
    is_established: bool,
    /// An ICMP error ended the open.
    pub refused: bool,
    /// What a router said of the path, and until when nothing longer may leave.
    path: Option<(u16, Instant)>,
    /// End of what was sent, in sequence space.
    pub sent_end: u64,
    /// Highest acknowledgement of the peer.
    acked_in: u64,
    acknowledged: u64,
    /// Largest window of the peer in any segment that was accepted.
    window_max: u32,

    /// TSval sent by the peer, for its echo, and the last one of the stack.
    stamps: Vec<u32>,
    last_stamp_out: Option<(u32, Instant)>,
    state: State,
    /// An acceptable RST came: nothing is said any more.
    reset: bool,
    /// One left: that was the last word.
    has_reset: bool,
}

impl Shadow {
    /// A handshake that the stack remembers.
    pub(super) fn new(id: ConnId, segment: &Segment<'_>, limits: Limits) -> Shadow {
        Shadow::handshake(Some(id), segment, limits)
    }

    fn handshake(id: Option<ConnId>, segment: &Segment<'_>, limits: Limits) -> Shadow {
        let mut shadow = Shadow {
            id,
            is_handshake: true,
            state: State::SynReceived,
            ..Shadow::unheard(segment.key, limits)
        };
        shadow.agree(segment.header);
        shadow
    }

    /// An active open.
    pub(super) fn active(id: ConnId, key: FlowKey, limits: Limits) -> Shadow {
        Shadow {
            id: Some(id),
            is_active: true,
            ..Shadow::unheard(key, limits)
        }
    }

    /// Nothing came from the peer.
    fn unheard(key: FlowKey, limits: Limits) -> Shadow {
        Shadow {
            id: None,
            is_handshake: false,
            key,
            limits,
            is_active: false,
            is_agreed: false,
            syn: TcpOptions::default(),
            irs: 0,
            has_ecn: false,
            iss: None,
            scale: 0,
            taken: Vec::new(),
            consumed: 0,
            edge: u64::from(limits.receive_buffer.min(65_535)),
            acked_out: 0,
            finished_at: None,
            delivered: 0,
            room: None,
            was_driven: false,
            receive_closed: false,
            supplied: 0,
            closed: false,
            aborted: false,
            user_timeouts: [!limits.has_user_timeout, limits.has_user_timeout],
            is_established: false,
            refused: false,
            path: None,
            sent_end: 0,
            acked_in: 0,
            acknowledged: 0,
            window_max: 0,
            stamps: Vec::new(),
            last_stamp_out: None,
            state: State::SynSent,
            reset: false,
            has_reset: false,
        }
    }

    /// The peer's SYN, and with it what both will use.
    fn agree(&mut self, header: &TcpHeader) {
        self.is_agreed = true;
        // Nothing but the SYN was out.
        self.acked_in = 0;
        self.syn = header.options;
        self.irs = header.seq;
        self.has_ecn |= header.flags.ace() != 0;
        // The window in a SYN is never scaled (RFC 7323 section 2.2).
        self.window_max = u32::from(header.window);
        self.stamps = self.syn.timestamps.iter().map(|ts| ts.value).collect();
        if self.syn.window_scale.is_none() {
            self.scale = 0;
        }
    }

    /// The handshake that a cookie holds for a peer: without timestamps it has room for the MSS alone.
    pub(super) fn of_cookie(segment: &Segment<'_>, limits: Limits) -> Shadow {
        let mut shadow = Shadow::handshake(None, segment, limits);
        if !shadow.has_timestamps() {
            shadow.syn.window_scale = None;
            shadow.syn.sack_permitted = false;
        }
        shadow
    }

    /// Whether a segment acknowledges the SYN-ACK of this handshake.
    pub(super) fn is_completed_by(&self, header: &TcpHeader) -> bool {
        self.is_handshake
            && header.flags.contains(TcpFlags::ACK)
            && self.iss.is_some()
            && header.ack == self.seq_out(0)
    }

    /// The final ACK came.
    pub(super) fn on_open(&mut self, id: ConnId) {
        self.id = Some(id);
        self.is_handshake = false;
    }

    pub(super) fn on_established(&mut self) {
        assert!(!self.is_established, "established twice");
        self.is_established = true;
    }

    pub(super) fn limit_time(&mut self, is_limited: bool) {
        self.user_timeouts[usize::from(is_limited)] = true;
    }

    /// The driver reads a part of what is there: all for 255.
    pub(super) fn consume(&mut self, part: u8) {
        let unread = self.delivered() - self.consumed;
        self.consumed += unread * u64::from(part) / 255;
    }

    /// Bytes of the peer's stream that were delivered, without its FIN.
    fn delivered(&self) -> u64 {
        if self.receive_closed {
            self.delivered
        } else {
            self.in_order()
        }
    }

    /// Everything below may be stored.
    fn limit(&self) -> u64 {
        self.consumed + u64::from(self.room.unwrap_or(self.limits.receive_max))
    }

    /// Bytes that the window promises beyond what every connection may have.
    pub(super) fn promised_beyond(&self) -> u64 {
        if self.was_driven || self.finished_at.is_some() {
            return 0;
        }
        let least = self.consumed + u64::from(self.limits.receive_buffer);
        self.edge.saturating_sub(least)
    }

    /// Bytes of the peer's stream that are there without a gap.
    fn in_order(&self) -> u64 {
        match self.taken.first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        }
    }

    /// RCV.NXT as the peer knows it.
    pub(super) fn rcv_nxt(&self) -> u32 {
        self.irs
            .wrapping_add(1)
            .wrapping_add(low(self.acked_out.max(self.delivered())))
    }

    pub(super) fn edge_seq(&self) -> u32 {
        self.irs.wrapping_add(1).wrapping_add(low(self.edge))
    }

    pub(super) fn stream_start(&self) -> u32 {
        self.irs.wrapping_add(1)
    }

    /// The stack's sequence number of an offset.
    pub(super) fn seq_out(&self, offset: u64) -> u32 {
        self.iss
            .unwrap_or(0)
            .wrapping_add(1)
            .wrapping_add(low(offset))
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn has_timestamps(&self) -> bool {
        self.syn.timestamps.is_some()
    }

    /// TSval that an honest peer would send now, and what it would echo.
    pub(super) fn stamp(&self) -> (u32, u32) {
        let value = self.stamps.last().map_or(0, |last| last.wrapping_add(1));
        (value, self.last_stamp_out.map_or(0, |last| last.0))
    }

    /// A segment is about to be given to the stack.
    pub(super) fn before_segment(&mut self, header: &TcpHeader) {
        if let Some(timestamps) = header.options.timestamps {
            self.stamps.push(timestamps.value);
        }
        if header.flags.contains(TcpFlags::SYN) {
            self.has_ecn |= header.flags.ace() != 0;
        }
        if header.flags.contains(TcpFlags::ACK) {
            // Of what a cookie has agreed on nothing but the flags of this ACK may tell (RFC 9768 section 5.1).
            self.has_ecn |= self.id.is_none() && header.flags.ace() != 0;
            let distance = header
                .ack
                .wrapping_sub(self.seq_out(self.acked_in))
                .cast_signed();
            if let Ok(ahead) = u64::try_from(distance) {
                self.acked_in += ahead;
            }
        }
    }

    /// A segment was given to the stack.
    pub(super) fn after_segment(&mut self, segment: &Segment<'_>, receipt: &Receipt) {
        let header = segment.header;
        if receipt.disposition != Disposition::Accepted {
            assert!(
                receipt.pieces.is_empty(),
                "bytes of a segment that was dropped"
            );
            let end = Disposition::Dropped(SegmentDrop::ConnectionReset);
            if receipt.disposition == end {
                // Of a SYN it may have been the offer of ECN that was refused (RFC 3168 section 6.1.1.1).
                self.reset |= self.is_agreed;
                self.refused |= !self.is_agreed;
            }
            return;
        }
        assert!(receipt.trusted, "accepted and not trusted");
        assert!(!header.flags.contains(TcpFlags::RST));
        let is_syn = header.flags.contains(TcpFlags::SYN);
        if !self.is_agreed {
            assert!(is_syn && receipt.pieces.is_empty());
            let acknowledges = header.flags.contains(TcpFlags::ACK);
            assert!(!acknowledges || (self.iss.is_some() && header.ack == self.seq_out(0)));
            self.agree(header);
            return;
        }
        let shift = if is_syn { 0 } else { self.peer_scale() };
        self.window_max = self.window_max.max(u32::from(header.window) << shift);
        if self.receive_closed {
            assert!(receipt.pieces.is_empty(), "nobody reads");
            self.throw_away(receipt.payload_start, segment.payload_len);
        }
        if receipt.pieces.is_empty() {
            return;
        }
        assert!(!is_syn, "data on a SYN is not taken");
        // The receipt says the same as the sequence number.
        let start = header.seq.wrapping_sub(self.stream_start());
        let told = low_signed(receipt.payload_start);
        assert_eq!(start, told);
        let end = receipt.payload_start + i64::from(segment.payload_len);
        let end = u64::try_from(end).expect("new bytes end above the start");
        let mut at = u64::try_from(receipt.payload_start).unwrap_or(0);
        for piece in receipt.pieces.clone() {
            assert!(at <= piece.start && piece.start < piece.end && piece.end <= end);
            assert!(piece.end <= self.edge, "beyond the window");
            assert!(self.finished_at.is_none(), "after the end of the stream");
            at = piece.end;
            self.take(piece);
        }
    }

    /// What is not read may have been taken as far as the window reaches, and is not told.
    fn throw_away(&mut self, start: i64, len: u32) {
        let end = u64::try_from(start + i64::from(len)).unwrap_or(0);
        let mut thrown = u64::try_from(start).unwrap_or(0)..end.min(self.edge);
        if thrown.is_empty() {
            return;
        }
        self.taken.retain(|held| {
            let touches = held.start <= thrown.end && thrown.start <= held.end;
            if touches {
                thrown = thrown.start.min(held.start)..thrown.end.max(held.end);
            }
            !touches
        });
        self.take(thrown);
    }

    /// The bytes are new: what came first stays.
    fn take(&mut self, piece: Range<u64>) {
        let overlap = self
            .taken
            .iter()
            .find(|held| held.start < piece.end && piece.start < held.end);
        assert_eq!(overlap, None, "{piece:?} again");
        let at = self.taken.partition_point(|held| held.start < piece.start);
        self.taken.insert(at, piece);
        self.taken.dedup_by(|next, held| {
            let touches = held.end == next.start;
            if touches {
                held.end = next.end;
            }
            touches
        });
    }

    /// After every step: what the stack says of itself agrees with what was seen.
    pub(super) fn check(&mut self, delivered: u64, view: &SendView, state: State) {
        assert!(self.delivered <= delivered && delivered <= self.in_order());
        assert!(self.receive_closed || delivered == self.in_order());
        self.delivered = delivered;
        if self.receive_closed {
            self.consumed = delivered;
        }
        assert!(
            self.acknowledged <= view.acknowledged,
            "acknowledged goes back"
        );
        self.acknowledged = view.acknowledged;
        assert!(
            view.acknowledged <= self.acked_in,
            "nobody acknowledged that"
        );
        assert!(view.acknowledged <= view.sent && view.sent <= self.supplied);
        // Below what was sent only while the peer's window is closed: nothing of it is needed until a probe is due.
        assert!(view.acknowledged <= view.horizon);
        self.check_sent(view);
        assert_eq!(self.is_agreed, state != State::SynSent);
        self.check_transition(state);
    }

    /// What it says it sent was seen, but for a segment that is held back to test the peer.
    pub(super) fn check_sent(&self, view: &SendView) {
        let held = u64::from(self.limits.tests_optimists) * u64::from(self.limits.mtu);
        assert!(view.sent <= self.sent_end + held, "nothing was sent");
    }

    /// Whether a sequence number may be one between SND.UNA and SND.NXT.
    pub(super) fn may_be_in_flight(&self, seq: u32, view: &SendView) -> bool {
        let from = seq.wrapping_sub(self.seq_out(view.acknowledged));
        u64::from(from) < view.sent.max(self.sent_end) - view.acknowledged
    }

    pub(super) fn on_path_lowered(&mut self, mtu: u16, now: Instant) {
        // Zero is of a router that does not say (RFC 1191 section 5).
        if mtu > 0 {
            self.path = Some((mtu, now + RAISE_AFTER));
        }
    }

    /// It ended for a reason that there was.
    pub(super) fn check_end(&self, reason: CloseReason) {
        let is_opening = self.is_active && !self.is_established;
        let known = match reason {
            CloseReason::Finished => self.closed && self.finished_at.is_some(),
            // After crossing SYNs a RST refuses as well (RFC 9293 section 3.10.7.4).
            CloseReason::Refused => is_opening && (self.refused || self.reset),
            CloseReason::Unreachable => is_opening && self.refused,
            CloseReason::PeerReset => self.reset,
            CloseReason::Aborted => self.aborted || (is_opening && self.closed),
            CloseReason::UserTimeout => self.user_timeouts[1],
            CloseReason::DataNotRead => self.closed && self.receive_closed,
            CloseReason::OptimisticAck => self.limits.tests_optimists,
            CloseReason::KeepAliveTimeout => self.limits.has_keep_alive,
            CloseReason::HandshakeTimeout => !self.is_established,
            CloseReason::FinWaitTimeout => self.closed,
            CloseReason::RetransmissionTimeout => self.user_timeouts[0],
            CloseReason::NoProgress => true,
        };
        assert!(known, "{reason:?}");
    }

    fn check_transition(&mut self, next: State) {
        use State::{
            CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
        };
        let allowed = match self.state {
            SynSent => true,
            SynReceived => next != SynSent,
            Established => !matches!(next, SynSent | SynReceived),
            FinWait1 => matches!(next, FinWait1 | FinWait2 | Closing),
            FinWait2 => next == FinWait2,
            CloseWait => matches!(next, CloseWait | LastAck),
            Closing | LastAck => next == self.state,
        };
        assert!(allowed, "{:?} to {next:?}", self.state);
        self.state = next;
        let needs_close = matches!(next, FinWait1 | FinWait2 | Closing | LastAck);
        assert!(!needs_close || self.closed, "{next:?} without a close");
    }

    /// An event said that the peer's stream is at its end.
    pub(super) fn on_peer_finished(&mut self) {
        assert_eq!(self.finished_at, None, "finished twice");
        self.finished_at = Some(self.delivered());
    }

    fn peer_scale(&self) -> u8 {
        self.syn.window_scale.map_or(0, |scale| scale.min(14))
    }
}

/// Sequence numbers are offsets modulo 2^32.
fn low(offset: u64) -> u32 {
    u32::try_from(offset & 0xffff_ffff).expect("masked")
}

fn low_signed(offset: i64) -> u32 {
    low(offset.cast_unsigned())
}
