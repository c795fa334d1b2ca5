//! What one connection has said and heard, and what follows from it for the next segment.
//!
//! Everything here is derived from the outside: segments that went in, receipts and segments that came out.

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::{ConnId, Disposition, Receipt, Segment, SegmentDrop, SendView, State};
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader,
    TcpOptions, VlanTags, checksum,
};

/// Floor that the stack gives to a peer's MSS (CVE-2019-11479).
const MSS_FLOOR: u16 = 216;

/// Timestamps further apart than 2^31 ms have no order (RFC 7323 section 5.5).
const STAMPS_COMPARE: Duration = Duration::from_secs(24 * 86_400);

/// One connection or handshake seen from its peer and its driver.
#[derive(Clone)]
pub(super) struct Shadow {
    /// `None` of a cookie.
    pub id: Option<ConnId>,
    /// The final ACK has not come.
    pub is_handshake: bool,
    pub key: FlowKey,
    mtu: u16,
    receive_buffer: u32,
    syn: TcpOptions,
    irs: u32,
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

    pub supplied: u64,
    pub closed: bool,
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
}

impl Shadow {
    /// A handshake that the stack remembers.
    pub(super) fn new(id: ConnId, segment: &Segment<'_>, mtu: u16, receive_buffer: u32) -> Shadow {
        Shadow::handshake(Some(id), segment, mtu, receive_buffer)
    }

    fn handshake(
        id: Option<ConnId>,
        segment: &Segment<'_>,
        mtu: u16,
        receive_buffer: u32,
    ) -> Shadow {
        let header = segment.header;
        Shadow {
            id,
            is_handshake: true,
            key: segment.key,
            mtu,
            receive_buffer,
            syn: header.options,
            irs: header.seq,
            iss: None,
            scale: 0,
            taken: Vec::new(),
            consumed: 0,
            edge: u64::from(receive_buffer.min(65_535)),
            acked_out: 0,
            finished_at: None,
            supplied: 0,
            closed: false,
            sent_end: 0,
            acked_in: 0,
            acknowledged: 0,
            window_max: u32::from(header.window),
            stamps: header
                .options
                .timestamps
                .map(|ts| ts.value)
                .into_iter()
                .collect(),
            last_stamp_out: None,
            state: State::SynReceived,
            reset: false,
        }
    }

    /// The handshake that a cookie holds for a peer: without timestamps it has room for the MSS alone.
    pub(super) fn of_cookie(segment: &Segment<'_>, mtu: u16, receive_buffer: u32) -> Shadow {
        let mut shadow = Shadow::handshake(None, segment, mtu, receive_buffer);
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

    /// Bytes of the peer's stream that are there without a gap.
    pub(super) fn in_order(&self) -> u64 {
        match self.taken.first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        }
    }

    /// RCV.NXT as the peer knows it.
    pub(super) fn rcv_nxt(&self) -> u32 {
        self.irs
            .wrapping_add(1)
            .wrapping_add(low(self.acked_out.max(self.in_order())))
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
        if header.flags.contains(TcpFlags::ACK) {
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
            self.reset |= receipt.disposition == end;
            return;
        }
        assert!(receipt.trusted, "accepted and not trusted");
        assert!(!header.flags.contains(TcpFlags::RST));
        let is_syn = header.flags.contains(TcpFlags::SYN);
        let shift = if is_syn { 0 } else { self.peer_scale() };
        self.window_max = self.window_max.max(u32::from(header.window) << shift);
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
            let room = self.consumed + u64::from(self.receive_buffer);
            assert!(piece.end <= room.max(self.edge), "beyond the buffer");
            assert!(self.finished_at.is_none(), "after the end of the stream");
            at = piece.end;
            self.take(piece);
        }
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
        assert_eq!(delivered, self.in_order());
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
        assert!(view.sent <= self.sent_end, "nothing was sent");
        self.check_transition(state);
    }

    fn check_transition(&mut self, next: State) {
        use State::{
            CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
        };
        let allowed = match self.state {
            SynSent | SynReceived => next != SynSent,
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
        self.finished_at = Some(self.in_order());
    }

    /// A segment of the stack: well-formed, within every limit that was named, and not going back.
    pub(super) fn check_outgoing(
        &mut self,
        key: &FlowKey,
        header: &TcpHeader,
        payload: &Range<u64>,
        now: Instant,
    ) {
        assert_eq!(*key, self.key);
        assert!(!self.reset, "an answer to a RST");
        check_well_formed(key, header, payload);
        assert!(header.flags.contains(TcpFlags::ACK));
        self.check_stamp(header, now);
        if header.flags.contains(TcpFlags::SYN) {
            self.check_syn_ack(header, payload);
            return;
        }
        let options = &header.options;
        assert!(options.mss.is_none() && options.window_scale.is_none() && !options.sack_permitted);
        self.check_acknowledgement(header);
        self.check_blocks(header);
        if !payload.is_empty() || header.flags.contains(TcpFlags::FIN) {
            self.check_payload(header, payload);
        }
    }

    fn check_syn_ack(&mut self, header: &TcpHeader, payload: &Range<u64>) {
        assert_eq!(header.flags.with_ace(0), TcpFlags::SYN | TcpFlags::ACK);
        // None, classic ECN, or AccECN with the codepoint of the SYN (RFC 9768 table 2).
        assert!([0, 1, 2, 3, 4, 6].contains(&header.flags.ace()));
        assert!(payload.is_empty());
        assert_eq!(header.ack, self.irs.wrapping_add(1));
        assert_eq!(*self.iss.get_or_insert(header.seq), header.seq);
        let options = &header.options;
        assert!(options.mss.is_some_and(|mss| mss <= self.mtu));
        assert_eq!(
            options.window_scale.is_some(),
            self.syn.window_scale.is_some()
        );
        assert_eq!(options.sack_permitted, self.syn.sack_permitted);
        assert!(options.sack.is_empty());
        self.scale = options.window_scale.unwrap_or(0);
        assert!(self.scale <= 14);
        assert!(u32::from(header.window) <= self.receive_buffer);
        self.edge = self.edge.max(u64::from(header.window));
    }

    fn check_stamp(&mut self, header: &TcpHeader, now: Instant) {
        let Some(timestamps) = header.options.timestamps else {
            let is_reset = header.flags.contains(TcpFlags::RST);
            assert!(
                is_reset || !self.has_timestamps(),
                "a segment without timestamps"
            );
            return;
        };
        assert!(self.has_timestamps(), "timestamps that were not negotiated");
        if let Some((last, at)) = self.last_stamp_out
            && now.saturating_since(at) < STAMPS_COMPARE
        {
            let ahead = timestamps.value.wrapping_sub(last).cast_signed();
            assert!(ahead >= 0, "TSval goes back");
        }
        self.last_stamp_out = Some((timestamps.value, now));
        assert!(self.stamps.contains(&timestamps.echo), "an echo of nothing");
    }

    fn check_acknowledgement(&mut self, header: &TcpHeader) {
        let ahead = header
            .ack
            .wrapping_sub(self.irs.wrapping_add(1).wrapping_add(low(self.acked_out)));
        let ack = self.acked_out + u64::from(ahead);
        let in_order = self.in_order();
        // One more with the FIN.
        assert!(ack <= in_order + 1, "acknowledges what did not come");
        assert!(ack >= in_order, "does not acknowledge what came");
        self.acked_out = ack;
        if header.flags.contains(TcpFlags::RST) {
            // Its window means nothing to anybody.
            return;
        }
        let unit = 1_u64 << self.scale;
        let edge = ack + (u64::from(header.window) << self.scale);
        assert!(
            edge + unit > self.edge,
            "the window shrinks: {edge} after {}",
            self.edge
        );
        let most = self.consumed + u64::from(self.receive_buffer);
        assert!(
            edge <= most + unit,
            "promises more than there is: {edge} of {most}"
        );
        self.edge = self.edge.max(edge);
    }

    fn check_blocks(&self, header: &TcpHeader) {
        let blocks = header.options.sack.as_slice();
        assert!(blocks.is_empty() || self.syn.sack_permitted);
        let start = self.stream_start();
        // Positions relative to RCV.NXT, which no block is 2^31 away from.
        let nxt = i128::from(self.acked_out);
        let position = |seq: u32| {
            let from_nxt = seq.wrapping_sub(start.wrapping_add(low(self.acked_out)));
            nxt + i128::from(from_nxt.cast_signed())
        };
        for (index, block) in blocks.iter().enumerate() {
            let (from, to) = (position(block.start), position(block.end));
            assert!(0 <= from && from < to, "{from}..{to} is no block");
            assert!(
                index == 0 || from > nxt,
                "only the first can be a duplicate"
            );
            let held = self
                .taken
                .iter()
                .any(|held| i128::from(held.start) <= from && to <= i128::from(held.end));
            assert!(held, "{from}..{to} never came: {:?}", self.taken);
        }
    }

    fn check_payload(&mut self, header: &TcpHeader, payload: &Range<u64>) {
        assert!(!header.flags.contains(TcpFlags::RST));
        assert!(
            self.state.is_synchronized(),
            "data before the handshake is complete"
        );
        assert_eq!(header.seq, self.seq_out(payload.start));
        assert!(
            payload.end <= self.supplied,
            "bytes that the driver does not have"
        );
        // The driver has given back what is acknowledged.
        assert!(payload.is_empty() || payload.start >= self.acknowledged);
        let fin = header.flags.contains(TcpFlags::FIN);
        assert!(!fin || (self.closed && payload.end == self.supplied));
        if payload.end > self.sent_end {
            // One byte may probe a closed window.
            let edge = self.acknowledged + u64::from(self.window_max.max(1));
            assert!(
                payload.end <= edge,
                "{} is beyond the window {edge}",
                payload.end
            );
        }
        self.sent_end = self.sent_end.max(payload.end + u64::from(fin));
        let len = payload.end - payload.start;
        let options = header.encoded_len() - 20;
        let mss = self
            .syn
            .mss
            .filter(|mss| *mss > 0)
            .unwrap_or(if self.key.local().is_ipv4() {
                536
            } else {
                1220
            });
        let mss = u64::from(mss.max(MSS_FLOOR));
        assert!(
            len + options as u64 <= mss,
            "longer than the MSS of the peer"
        );
        let ip = if self.key.local().is_ipv4() { 20 } else { 40 };
        assert!(len + (ip + header.encoded_len()) as u64 <= u64::from(self.mtu));
    }

    fn peer_scale(&self) -> u8 {
        self.syn.window_scale.map_or(0, |scale| scale.min(14))
    }
}

/// What holds of every segment of a stack, whatever it is about: it can be written, and reads as the same.
pub(super) fn check_well_formed(key: &FlowKey, header: &TcpHeader, payload: &Range<u64>) {
    assert_eq!(
        (header.src_port, header.dst_port),
        (key.local_port(), key.remote_port())
    );
    let has = |flag| header.flags.contains(flag);
    assert!(!has(TcpFlags::URG) && header.urgent == 0);
    let exclusive = [TcpFlags::SYN, TcpFlags::FIN, TcpFlags::RST];
    assert!(exclusive.into_iter().filter(|flag| has(*flag)).count() <= 1);
    assert!(payload.start <= payload.end);
    let payload_len = usize::try_from(payload.end - payload.start).expect("a segment");
    let emit = TcpEmit {
        link: &LinkHeader {
            dst: MacAddr([2, 0, 0, 0, 0, 1]),
            src: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan: VlanTags::NONE,
        },
        src: key.local(),
        dst: key.remote(),
        ecn: Ecn::NotEct,
        header,
        payload_len,
    };
    let mut head = [0; TcpEmit::MAX_HEADERS];
    let unsealed = emit.emit(&mut head).expect("a packet can hold it");
    let len = unsealed.headers_len();
    unsealed.seal_full(&mut head, checksum::Sum::default());
    let read = sluice_wire::parse(&head[..len], len + payload_len, &ParseConfig::default());
    let Ok(Packet::Tcp(read)) = read else {
        panic!("{read:?}");
    };
    assert_eq!((read.header, read.payload_len), (*header, payload_len));
    if payload_len == 0 {
        let verdict = read.verify_checksum([&head[..len]], ChecksumPolicy::Verify);
        assert_eq!(verdict, Ok(()));
    }
}

/// Sequence numbers are offsets modulo 2^32.
fn low(offset: u64) -> u32 {
    u32::try_from(offset & 0xffff_ffff).expect("masked")
}

fn low_signed(offset: i64) -> u32 {
    low(offset.cast_unsigned())
}
