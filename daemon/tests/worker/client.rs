//! A TCP client in memory: small, strict about what it is sent, and obedient to the test.
//!
//! It keeps what it received by stream offset and compares everything that comes again with what it has, so
//! a retransmission with other bytes fails the test at once; data beyond the window it offered, or an
//! acknowledgement of what it never sent, does too. It has no timer: a test that loses frames calls
//! [`Client::resend`]. Frames it wants to send wait in [`Client::out`], where a test may lose, double or
//! reorder them.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use std::collections::BTreeMap;

use sluice_tcp::clock::Instant;
use sluice_wire::{SackBlock, SackBlocks, TcpFlags, TcpHeader, TcpOptions, TcpPacket, Timestamps};

use crate::frames::{self, CLIENT_IP, CLIENT_IP6, SERVER, SERVER6, Seal};

/// What a client says in its SYN.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub mss: u16,
    pub window_scale: Option<u8>,
    pub sack: bool,
    pub timestamps: bool,
}

impl Default for Offer {
    fn default() -> Offer {
        Offer {
            mss: 1460,
            window_scale: Some(7),
            sack: true,
            timestamps: true,
        }
    }
}

#[derive(Debug)]
pub struct Client {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub offer: Offer,
    /// What goes into the checksum field of everything it sends.
    pub seal: Seal,
    /// Frames on their way to the worker.
    pub out: Vec<Vec<u8>>,
    /// Response bytes in order.
    pub received: Vec<u8>,
    /// The server's FIN came in order.
    pub finished: bool,
    /// The server's RST came.
    pub reset: bool,
    /// Payload of its longest packet, if that is not a segment: as of a sender that leaves cutting to the device.
    pub longest_segment: Option<usize>,
    /// Says nothing that it was not told to say: all its ACKs are lost.
    pub mute: bool,
    /// Single bytes for which there was no room.
    pub probes: u32,
    /// Segments with data, and those of them that brought nothing new.
    pub data_segments: u32,
    pub duplicates: u32,
    /// Segments with data that came before what precedes it.
    pub out_of_order: u32,
    /// The longest payload in one segment.
    pub longest_payload: usize,
    window: u32,
    /// Right edge of the largest window offered.
    edge: u64,
    held: BTreeMap<u64, Vec<u8>>,
    fin_at: Option<u64>,
    iss: u32,
    irs: Option<u32>,
    /// Everything written so far.
    stream: Vec<u8>,
    fin: bool,
    snd_una: u64,
    snd_nxt: u64,
    snd_wnd: u32,
    snd_scale: u8,
    snd_mss: u16,
    ts_recent: u32,
    clock_ms: u32,
    /// Response bytes that were taken as responses.
    parsed: usize,
}

impl Client {
    /// A client at `port` whose SYN is on its way.
    pub fn connect(port: u16) -> Client {
        Client::with(port, Offer::default())
    }

    pub fn with(port: u16, offer: Offer) -> Client {
        Client::between(SocketAddr::new(IpAddr::V4(CLIENT_IP), port), SERVER, offer)
    }

    pub fn connect_v6(port: u16) -> Client {
        let offer = Offer {
            mss: 1440,
            ..Offer::default()
        };
        Client::between(
            SocketAddr::new(IpAddr::V6(CLIENT_IP6), port),
            SERVER6,
            offer,
        )
    }

    fn between(local: SocketAddr, remote: SocketAddr, offer: Offer) -> Client {
        let mut client = Client {
            local,
            remote,
            offer,
            seal: Seal::Full,
            out: Vec::new(),
            received: Vec::new(),
            finished: false,
            reset: false,
            longest_segment: None,
            mute: false,
            probes: 0,
            data_segments: 0,
            duplicates: 0,
            out_of_order: 0,
            longest_payload: 0,
            window: 65_535,
            edge: 65_535,
            held: BTreeMap::new(),
            fin_at: None,
            // Near the end of sequence space, so that a short stream wraps.
            iss: u32::MAX - 100 - u32::from(local.port() % 64),
            irs: None,
            stream: Vec::new(),
            fin: false,
            snd_una: 0,
            snd_nxt: 0,
            snd_wnd: 0,
            snd_scale: 0,
            snd_mss: 536,
            ts_recent: 0,
            clock_ms: 77,
            parsed: 0,
        };
        client.send_syn();
        client
    }

    pub fn is_established(&self) -> bool {
        self.irs.is_some()
    }

    /// Both FINs came and were acknowledged.
    pub fn is_closed(&self) -> bool {
        self.finished && self.fin && self.snd_una == offset(self.stream.len()) + 1
    }

    /// Bytes of its stream that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.snd_una
    }

    /// Everything written was acknowledged.
    pub fn is_heard(&self) -> bool {
        self.snd_una >= offset(self.stream.len())
    }

    /// Offers `bytes` of window from now on, and says so.
    pub fn set_window(&mut self, bytes: u32) {
        self.window = bytes;
        self.acknowledge();
    }

    /// Sends bytes as far as the window of the server goes; the rest follows its ACKs.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.hold_back(bytes);
        self.push();
    }

    /// Puts bytes into the stream without sending them: for [`Self::segment`].
    pub fn hold_back(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(!self.fin, "nothing follows a FIN");
        self.stream.extend_from_slice(bytes.as_ref());
    }

    /// A frame with any range of the stream, whatever the MSS.
    pub fn segment(&mut self, range: Range<usize>) -> Vec<u8> {
        self.snd_nxt = self.snd_nxt.max(offset(range.end));
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        let header = self.header(self.seq(offset(range.start)), flags);
        let payload = self.stream[range].to_vec();
        self.frame(&header, &payload)
    }

    /// FIN after what was written.
    pub fn finish(&mut self) {
        self.fin = true;
        self.push();
    }

    /// RST, exactly at what the server expects next if nothing was lost.
    pub fn abort(&mut self) {
        self.abort_ahead(0);
    }

    /// RST, so far ahead of what the server expects next.
    pub fn abort_ahead(&mut self, ahead: u64) {
        let seq = self.seq(self.snd_nxt + ahead);
        let header = self.header(seq, TcpFlags::RST | TcpFlags::ACK);
        let frame = self.frame(&header, &[]);
        self.out.push(frame);
    }

    /// Everything that is not acknowledged, again: what a retransmission timer would do.
    pub fn resend(&mut self) {
        if self.irs.is_none() {
            self.send_syn();
            return;
        }
        self.snd_nxt = self.snd_una;
        self.push();
    }

    /// An ACK of what was received.
    pub fn acknowledge(&mut self) {
        if self.irs.is_none() || self.mute {
            return;
        }
        self.edge = self.edge.max(self.rcv_nxt() + u64::from(self.window));
        let mut header = self.header(self.seq(self.snd_nxt), TcpFlags::ACK);
        header.options.sack = self.sack_blocks();
        let frame = self.frame(&header, &[]);
        self.out.push(frame);
    }

    /// Takes a segment.
    pub fn hear(&mut self, packet: &TcpPacket, payload: &[u8], now: Instant) {
        let header = &packet.header;
        assert_eq!(
            (packet.src, header.src_port),
            (self.remote.ip(), self.remote.port())
        );
        self.clock_ms = u32::try_from(now.as_millis() & 0xffff_ffff).expect("32 bits");
        if self.reset {
            return;
        }
        if header.flags.contains(TcpFlags::RST) {
            self.reset = true;
            return;
        }
        if header.flags.contains(TcpFlags::SYN) {
            self.hear_syn_ack(header);
            return;
        }
        assert!(
            header.flags.contains(TcpFlags::ACK),
            "every segment acknowledges"
        );
        if self.irs.is_none() {
            return;
        }
        if let Some(timestamps) = header.options.timestamps {
            assert!(self.offer.timestamps, "not negotiated");
            self.ts_recent = timestamps.value;
        }
        self.hear_ack(header);
        let fin = header.flags.contains(TcpFlags::FIN);
        if !payload.is_empty() || fin {
            self.hear_data(header.seq, payload, fin);
            self.acknowledge();
        } else if self.distance_to_rcv_nxt(header.seq) < 0 {
            // A keep-alive probe.
            self.acknowledge();
        }
        self.push();
    }

    /// The next response, once it is whole.
    pub fn take_response(&mut self) -> Option<Response> {
        let (response, end) = parse_response(&self.received[self.parsed..], true)?;
        self.parsed += end;
        Some(response)
    }

    /// The next response, which has no body: an answer to HEAD.
    pub fn take_head(&mut self) -> Option<Response> {
        let (response, end) = parse_response(&self.received[self.parsed..], false)?;
        self.parsed += end;
        Some(response)
    }

    /// Whether [`Self::take_response`] would give one.
    pub fn has_response(&self) -> bool {
        response_len(&self.received[self.parsed..], true).is_some()
    }

    /// Bytes received behind the last response taken.
    pub fn unparsed(&self) -> &[u8] {
        &self.received[self.parsed..]
    }

    fn hear_syn_ack(&mut self, header: &TcpHeader) {
        assert!(header.flags.contains(TcpFlags::ACK));
        assert_eq!(header.ack, self.iss.wrapping_add(1));
        if let Some(irs) = self.irs {
            assert_eq!(header.seq, irs, "a SYN-ACK comes again as it was");
            self.acknowledge();
            return;
        }
        let options = &header.options;
        assert_eq!(options.timestamps.is_some(), self.offer.timestamps);
        assert_eq!(options.sack_permitted, self.offer.sack);
        assert_eq!(
            options.window_scale.is_some(),
            self.offer.window_scale.is_some()
        );
        self.irs = Some(header.seq);
        self.snd_wnd = u32::from(header.window);
        self.snd_scale = options.window_scale.unwrap_or(0);
        self.snd_mss = options.mss.expect("a SYN-ACK names the MSS");
        self.ts_recent = options.timestamps.map_or(0, |timestamps| timestamps.value);
        if self.offer.window_scale.is_some() {
            self.window = 4 << 20;
        }
        self.acknowledge();
        self.push();
    }

    fn hear_ack(&mut self, header: &TcpHeader) {
        let ahead = distance(header.ack, self.seq(self.snd_una));
        let acknowledged = self.snd_una.saturating_add_signed(ahead);
        let sent = offset(self.stream.len()) + u64::from(self.fin);
        assert!(
            acknowledged <= sent.max(self.snd_nxt),
            "acknowledges what was never sent"
        );
        self.snd_una = self.snd_una.max(acknowledged);
        self.snd_nxt = self.snd_nxt.max(self.snd_una);
        self.snd_wnd = u32::from(header.window) << self.snd_scale;
    }

    fn hear_data(&mut self, seq: u32, payload: &[u8], fin: bool) {
        let have = offset(self.received.len());
        let rcv_nxt = self.rcv_nxt();
        let start = rcv_nxt
            .checked_add_signed(self.distance_to_rcv_nxt(seq))
            .expect("data before the stream began");
        let end = start + offset(payload.len());
        if end > rcv_nxt + u64::from(self.window) && !payload.is_empty() {
            assert!(
                end <= self.edge || payload.len() == 1,
                "{start}..{end} is beyond the window {}",
                self.edge
            );
            // No room, whatever was promised before.
            self.probes += u32::from(payload.len() == 1);
            return;
        }
        self.data_segments += u32::from(!payload.is_empty());
        self.longest_payload = self.longest_payload.max(payload.len());
        self.out_of_order += u32::from(start > have && !payload.is_empty());
        self.compare_with_known(start, payload);
        if end <= have && !payload.is_empty() {
            self.duplicates += 1;
        }
        if end > have {
            self.held.insert(start, payload.to_vec());
            self.join_held();
        }
        if fin {
            assert!(
                self.fin_at.is_none_or(|at| at == end),
                "the FIN stays where it was"
            );
            self.fin_at = Some(end);
        }
        self.finished = self.fin_at == Some(offset(self.received.len()));
    }

    /// What comes again must be what came before.
    fn compare_with_known(&self, start: u64, payload: &[u8]) {
        let from = index(start).min(self.received.len());
        let known = &self.received[from..];
        let len = known.len().min(payload.len());
        assert!(
            known[..len] == payload[..len],
            "other bytes at {start} than before"
        );
        if let Some(held) = self.held.get(&start) {
            let len = held.len().min(payload.len());
            assert!(
                held[..len] == payload[..len],
                "other bytes at {start} than before"
            );
        }
    }

    fn join_held(&mut self) {
        while let Some((&start, _)) = self.held.first_key_value() {
            let have = offset(self.received.len());
            if start > have {
                return;
            }
            let bytes = self.held.remove(&start).unwrap_or_default();
            let known = index(have - start);
            self.received
                .extend_from_slice(bytes.get(known..).unwrap_or_default());
        }
    }

    fn push(&mut self) {
        if self.irs.is_none() {
            return;
        }
        let options = if self.offer.timestamps { 12 } else { 0 };
        let payload = u64::from(self.snd_mss.min(self.offer.mss) - options);
        let payload = self.longest_segment.map_or(payload, offset);
        let window_end = self.snd_una + u64::from(self.snd_wnd);
        let len = offset(self.stream.len());
        while self.snd_nxt < len {
            let end = (self.snd_nxt + payload).min(len).min(window_end);
            if end <= self.snd_nxt {
                return;
            }
            let frame = self.segment(index(self.snd_nxt)..index(end));
            self.out.push(frame);
        }
        if self.fin && self.snd_nxt == len {
            let header = self.header(self.seq(len), TcpFlags::FIN | TcpFlags::ACK);
            let frame = self.frame(&header, &[]);
            self.out.push(frame);
            self.snd_nxt = len + 1;
        }
    }

    fn send_syn(&mut self) {
        let options = TcpOptions {
            mss: Some(self.offer.mss),
            window_scale: self.offer.window_scale,
            sack_permitted: self.offer.sack,
            timestamps: self.timestamps(),
            ..TcpOptions::default()
        };
        let header = TcpHeader {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            seq: self.iss,
            flags: TcpFlags::SYN,
            window: 65_535,
            options,
            ..TcpHeader::default()
        };
        let frame = self.frame(&header, &[]);
        self.out.push(frame);
    }

    fn header(&self, seq: u32, flags: TcpFlags) -> TcpHeader {
        let scale = self.offer.window_scale.unwrap_or(0);
        TcpHeader {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            seq,
            ack: self.rcv_seq(),
            flags,
            window: u16::try_from(self.window >> scale).unwrap_or(u16::MAX),
            urgent: 0,
            options: TcpOptions {
                timestamps: self.timestamps(),
                ..TcpOptions::default()
            },
        }
    }

    fn frame(&self, header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
        frames::segment(self.local, self.remote, header, payload, self.seal)
    }

    fn timestamps(&self) -> Option<Timestamps> {
        self.offer.timestamps.then_some(Timestamps {
            value: self.clock_ms,
            echo: self.ts_recent,
        })
    }

    fn sack_blocks(&self) -> SackBlocks {
        let mut blocks = SackBlocks::EMPTY;
        if !self.offer.sack {
            return blocks;
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (&start, bytes) in &self.held {
            let end = start + offset(bytes.len());
            match ranges.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        // The highest ranges are the newest unless the network reorders.
        for range in ranges.iter().rev() {
            blocks.push(SackBlock {
                start: self.rcv_seq_of(range.start),
                end: self.rcv_seq_of(range.end),
            });
        }
        blocks
    }

    /// Next expected position; the FIN counts one.
    fn rcv_nxt(&self) -> u64 {
        offset(self.received.len()) + u64::from(self.finished)
    }

    fn rcv_seq(&self) -> u32 {
        self.rcv_seq_of(self.rcv_nxt())
    }

    fn rcv_seq_of(&self, at: u64) -> u32 {
        self.irs
            .map_or(0, |irs| irs.wrapping_add(1).wrapping_add(low_half(at)))
    }

    fn distance_to_rcv_nxt(&self, seq: u32) -> i64 {
        distance(seq, self.rcv_seq())
    }

    fn seq(&self, at: u64) -> u32 {
        self.iss.wrapping_add(1).wrapping_add(low_half(at))
    }
}

/// A response in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn parse_response(bytes: &[u8], has_body: bool) -> Option<(Response, usize)> {
    let (head_len, len) = response_len(bytes, has_body)?;
    let head = String::from_utf8(bytes[..head_len].to_vec()).expect("a head is ASCII");
    let status = head[9..12].parse().expect("a status code");
    let body = bytes[head_len..len].to_vec();
    Some((Response { status, head, body }, len))
}

/// Bytes of the head and of the whole response, if it is whole.
fn response_len(bytes: &[u8], has_body: bool) -> Option<(usize, usize)> {
    let head_len = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = core::str::from_utf8(&bytes[..head_len]).expect("a head is ASCII");
    assert!(head.starts_with("HTTP/1.1 "), "not a response: {head:?}");
    let body_len = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .filter(|_| has_body)
        .map_or(0, |value| value.parse().expect("a length"));
    (bytes.len() >= head_len + body_len).then_some((head_len, head_len + body_len))
}

/// `a - b` in sequence space.
fn distance(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

fn low_half(at: u64) -> u32 {
    u32::try_from(at & 0xffff_ffff).expect("32 bits")
}

fn offset(len: usize) -> u64 {
    u64::try_from(len).expect("usize has at most 64 bits")
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a stream of the test fits memory")
}
