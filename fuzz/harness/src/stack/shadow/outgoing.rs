//! What holds of every segment of a stack, given what its connection has said and heard before.

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader,
    VlanTags, checksum,
};

use super::{Shadow, low};

/// Floor that the stack gives to a peer's MSS (CVE-2019-11479).
const MSS_FLOOR: u16 = 216;

/// Timestamps further apart than 2^31 ms have no order (RFC 7323 section 5.5).
const STAMPS_COMPARE: Duration = Duration::from_secs(24 * 86_400);

impl Shadow {
    /// A segment of the stack: well-formed, within every limit that was named, and not going back.
    pub(in crate::stack) fn check_outgoing(
        &mut self,
        key: &FlowKey,
        header: &TcpHeader,
        payload: &Range<u64>,
        now: Instant,
    ) {
        assert_eq!(*key, self.key);
        assert!(!self.reset, "an answer to a RST");
        assert!(!self.has_reset, "a segment after a RST");
        self.has_reset = header.flags.contains(TcpFlags::RST);
        check_well_formed(key, header, payload);
        if !self.is_agreed {
            self.check_syn(header, payload, now);
            return;
        }
        assert!(header.flags.contains(TcpFlags::ACK));
        let counts = header.options.accecn.is_some();
        assert!(!counts || self.has_ecn, "counters that nobody asked for");
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
            self.check_payload(header, payload, now);
        }
    }

    /// Our SYN (RFC 9293 section 3.10.1): everything is offered, nothing acknowledged.
    fn check_syn(&mut self, header: &TcpHeader, payload: &Range<u64>, now: Instant) {
        assert_eq!(header.flags.with_ace(0), TcpFlags::SYN);
        // Nothing, classic ECN or AccECN (RFC 9768 section 3.1.1).
        assert!([0, 3, 7].contains(&header.flags.ace()));
        assert!(self.is_active && payload.is_empty() && header.ack == 0);
        assert_eq!(*self.iss.get_or_insert(header.seq), header.seq);
        let options = &header.options;
        assert!(options.mss.is_some_and(|mss| mss <= self.limits.mtu));
        assert!(options.sack_permitted && options.sack.is_empty() && options.accecn.is_none());
        assert_eq!(options.timestamps.map(|ts| ts.echo), Some(0));
        self.last_stamp_out = options.timestamps.map(|ts| (ts.value, now));
        self.scale = options.window_scale.expect("offered");
        assert!(self.scale <= 14);
        let buffer = self.limits.receive_buffer;
        assert_eq!(u32::from(header.window), buffer.min(65_535));
    }

    fn check_syn_ack(&mut self, header: &TcpHeader, payload: &Range<u64>) {
        assert_eq!(header.flags.with_ace(0), TcpFlags::SYN | TcpFlags::ACK);
        // None, classic ECN, or AccECN with the codepoint of the SYN (RFC 9768 table 2).
        assert!([0, 1, 2, 3, 4, 6].contains(&header.flags.ace()));
        assert!(payload.is_empty());
        assert_eq!(header.ack, self.irs.wrapping_add(1));
        assert_eq!(*self.iss.get_or_insert(header.seq), header.seq);
        let options = &header.options;
        assert!(options.mss.is_some_and(|mss| mss <= self.limits.mtu));
        assert_eq!(
            options.window_scale.is_some(),
            self.syn.window_scale.is_some()
        );
        assert_eq!(options.sack_permitted, self.syn.sack_permitted);
        assert!(options.sack.is_empty());
        self.scale = options.window_scale.unwrap_or(0);
        assert!(self.scale <= 14);
        assert!(u32::from(header.window) <= self.limits.receive_buffer);
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
        // One more with the FIN.
        let most = self.in_order() + 1;
        assert!(ack <= most, "acknowledges what did not come");
        assert!(ack >= self.delivered(), "does not acknowledge what came");
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
        // What was promised stays so, whatever room the driver has now; the FIN counts one.
        let most = self.limit();
        assert!(
            edge <= most + unit || edge <= self.edge + 1,
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

    fn check_payload(&mut self, header: &TcpHeader, payload: &Range<u64>, now: Instant) {
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
        let packet = len + (ip + header.encoded_len()) as u64;
        assert!(packet <= u64::from(self.limits.mtu));
        if let Some((mtu, until)) = self.path {
            assert!(
                packet <= u64::from(mtu) || now >= until,
                "{packet} bytes for a path of {mtu}"
            );
        }
    }
}

/// What holds of every segment of a stack, whatever it is about: it can be written, and reads as the same.
pub(in crate::stack) fn check_well_formed(key: &FlowKey, header: &TcpHeader, payload: &Range<u64>) {
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
