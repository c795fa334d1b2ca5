//! A peer without a kernel: frames of any kind from the client end, and everything that comes back.
//!
//! The peer has addresses that the client's kernel does not own, so nobody answers for it. A [`Wire`] sends and
//! receives whole frames; a [`Flow`] is one side of a TCP conversation that does exactly what it is told.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use sluice_wire::{
    Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader, TcpOptions,
    VlanTags, checksum,
};

use crate::daemon::PORT;
use crate::lab::{Lab, Side};
use crate::port::{Look, Port};

pub const ACK: TcpFlags = TcpFlags::ACK;
pub const SYN: TcpFlags = TcpFlags::SYN;
pub const RST: TcpFlags = TcpFlags::RST;
pub const FIN: TcpFlags = TcpFlags::FIN;
pub const PSH_ACK: TcpFlags = TcpFlags::PSH.union(TcpFlags::ACK);
pub const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);

/// Addresses of the peer, in the networks of the lab and owned by nobody.
pub const STRANGER_V4: &str = "192.0.2.77";
pub const STRANGER_V6: &str = "2001:db8::77";

/// Frames without a pause: a quarter of the smallest ring on their way.
const BURST: u64 = 128;

/// An answer of the daemon takes less, on a machine that does other things too.
pub const ANSWER: Duration = Duration::from_secs(3);
/// Silence is what has lasted so long: answers take less than a millisecond.
pub const SILENCE: Duration = Duration::from_millis(150);

/// A segment that will be sent.
#[derive(Clone, Debug)]
pub struct Sketch {
    pub link: LinkHeader,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub header: TcpHeader,
    pub payload: Vec<u8>,
}

impl Sketch {
    /// The frame, with all its sums right.
    pub fn frame(&self) -> Vec<u8> {
        self.sealed(true)
    }

    /// The frame with the sum of the pseudo header alone, as a virtual device leaves it to the next one.
    pub fn partial_frame(&self) -> Vec<u8> {
        self.sealed(false)
    }

    fn sealed(&self, whole: bool) -> Vec<u8> {
        let mut frame = vec![0; TcpEmit::MAX_HEADERS + self.payload.len()];
        let emit = TcpEmit {
            link: &self.link,
            src: self.from.ip(),
            dst: self.to.ip(),
            ecn: Ecn::NotEct,
            header: &self.header,
            payload_len: self.payload.len(),
        };
        let unsealed = emit.emit(&mut frame).expect("headers fit");
        let end = unsealed.headers_len() + self.payload.len();
        frame[unsealed.headers_len()..end].copy_from_slice(&self.payload);
        if whole {
            unsealed.seal_full(&mut frame, checksum::sum(&self.payload));
        } else {
            let _ = unsealed.seal_partial(&mut frame);
        }
        frame.truncate(end);
        frame
    }
}

/// A segment that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub link: LinkHeader,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub header: TcpHeader,
    pub payload: Vec<u8>,
    /// Of the frame, which is at least 60 on a wire.
    pub wire_len: usize,
}

impl Seen {
    pub fn has(&self, flags: TcpFlags) -> bool {
        self.header.flags.contains(flags)
    }
}

/// The client's end of the link as frames.
pub struct Wire {
    port: RefCell<Port>,
    client: Vec<IpAddr>,
    pub server_v4: SocketAddr,
    pub server_v6: SocketAddr,
    /// From the peer to the server.
    pub link: LinkHeader,
    sent: Cell<u64>,
    backlog: RefCell<VecDeque<Seen>>,
    /// Frames for the peer that are no TCP: ICMP, or what nobody should send.
    others: RefCell<Vec<Vec<u8>>>,
}

impl Wire {
    pub fn open(lab: &Lab) -> Wire {
        let port = lab.client.inside(|| Port::open(&lab.client.link));
        Wire {
            port: RefCell::new(port.expect("root may open a packet socket")),
            client: vec![lab.client.ipv4, lab.client.ipv6],
            server_v4: SocketAddr::new(lab.server.ipv4, PORT),
            server_v6: SocketAddr::new(lab.server.ipv6, PORT),
            link: LinkHeader {
                dst: mac(&lab.server),
                src: mac(&lab.client),
                vlan: VlanTags::NONE,
            },
            sent: Cell::new(0),
            backlog: RefCell::default(),
            others: RefCell::default(),
        }
    }

    /// The peer at this port, over IPv4.
    pub fn stranger(&self, port: u16) -> SocketAddr {
        SocketAddr::new(STRANGER_V4.parse().expect("an address"), port)
    }

    /// The peer at this port, over IPv6.
    pub fn stranger_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(STRANGER_V6.parse().expect("an address"), port)
    }

    /// The peer at this port, over both.
    pub fn strangers(&self, port: u16) -> [SocketAddr; 2] {
        [self.stranger(port), self.stranger_v6(port)]
    }

    /// A segment to the service, without options and payload.
    pub fn sketch(&self, from: SocketAddr, flags: TcpFlags, seq: u32, ack: u32) -> Sketch {
        let to = if from.is_ipv4() {
            self.server_v4
        } else {
            self.server_v6
        };
        Sketch {
            link: self.link,
            from,
            to,
            header: TcpHeader {
                src_port: from.port(),
                dst_port: to.port(),
                seq,
                ack,
                flags,
                window: 65_535,
                urgent: 0,
                options: TcpOptions::default(),
            },
            payload: Vec::new(),
        }
    }

    /// Sends a frame, and waits where the device has no room for it. A pause after some frames lets the daemon empty
    /// its ring: a test counts what it sent.
    pub fn send(&self, frame: &[u8]) {
        self.sent.set(self.sent.get() + 1);
        if self.sent.get().is_multiple_of(BURST) {
            thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        while !self
            .port
            .borrow()
            .send(frame)
            .unwrap_or_else(|error| panic!("{} bytes: {error}", frame.len()))
        {
            assert!(begun.elapsed() < ANSWER, "the link takes no frame");
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// Sends a frame that the link may refuse for its length.
    pub fn try_send(&self, frame: &[u8]) {
        let sent = self.port.borrow().send(frame);
        sent.expect("refused, but not for a fault of the socket");
    }

    pub fn send_all(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        for frame in frames {
            self.send(&frame);
        }
    }

    /// The next segment to the peer that `wanted` takes; the others stay for later.
    pub fn find(&self, patience: Duration, wanted: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let end = Instant::now() + patience;
        let known = self.backlog.borrow().iter().position(&wanted);
        if let Some(at) = known {
            return self.backlog.borrow_mut().remove(at);
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.look(&mut buffer) {
                Some(Some(seen)) if wanted(&seen) => return Some(seen),
                Some(Some(seen)) => self.backlog.borrow_mut().push_back(seen),
                Some(None) => {}
                None if Instant::now() >= end => return None,
                None => thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Everything for the peer that came and comes within `patience`.
    pub fn collect(&self, patience: Duration) -> Vec<Seen> {
        let nothing = self.find(patience, |_| false);
        assert!(nothing.is_none());
        self.backlog.borrow_mut().drain(..).collect()
    }

    /// Lets go of everything that has come so far.
    pub fn forget(&self) {
        self.collect(Duration::ZERO);
        self.others.borrow_mut().clear();
    }

    /// Asserts that nothing comes for the peer.
    pub fn assert_silent(&self, why: &str) {
        let seen = self.collect(SILENCE);
        assert!(seen.is_empty(), "{why}: {seen:?}");
    }

    /// Frames for the peer that were no TCP, so far.
    pub fn others(&self) -> Vec<Vec<u8>> {
        self.others.borrow().clone()
    }

    /// `None` if nothing is there, `Some(None)` if it is not for the peer.
    fn look(&self, buffer: &mut [u8]) -> Option<Option<Seen>> {
        let look = self.port.borrow_mut().receive(buffer);
        let received = match look.expect("the link is up") {
            Look::Empty => return None,
            Look::Skip => return Some(None),
            Look::Frame(received) => received,
        };
        let frame = &buffer[..received.len.min(buffer.len())];
        match sluice_wire::parse(frame, frame.len(), &ParseConfig { vlan: true }) {
            Ok(Packet::Tcp(packet)) if !self.client.contains(&packet.dst) => Some(Some(Seen {
                link: packet.link,
                from: SocketAddr::new(packet.src, packet.header.src_port),
                to: SocketAddr::new(packet.dst, packet.header.dst_port),
                header: packet.header,
                payload: frame[packet.payload()].to_vec(),
                wire_len: frame.len().max(60),
            })),
            Ok(Packet::Icmpv4(packet)) if !self.client.contains(&packet.dst.into()) => {
                self.others.borrow_mut().push(frame.to_vec());
                Some(None)
            }
            Ok(Packet::Icmpv6(_)) if is_error_v6(frame) => {
                self.others.borrow_mut().push(frame.to_vec());
                Some(None)
            }
            _ => Some(None),
        }
    }
}

/// An ICMPv6 error, by its type below 128 behind a plain header.
fn is_error_v6(frame: &[u8]) -> bool {
    frame.get(20) == Some(&58) && frame.get(54).is_some_and(|kind| *kind < 128)
}

fn mac(side: &Side) -> MacAddr {
    let path = format!("/sys/class/net/{}/address", side.link);
    let text = side.run("cat", &[&path]);
    let mut bytes = [0; 6];
    for (byte, digits) in bytes.iter_mut().zip(text.trim().split(':')) {
        *byte = u8::from_str_radix(digits, 16).expect("a MAC address");
    }
    MacAddr(bytes)
}

/// One conversation with the service, seen from the peer.
pub struct Flow<'a> {
    pub wire: &'a Wire,
    pub me: SocketAddr,
    pub snd_nxt: u32,
    pub rcv_nxt: u32,
    pub window: u16,
    /// The last timestamp of the server, if both use them.
    pub timestamp: Option<u32>,
    pub my_clock: u32,
    pub syn_ack: Seen,
    /// The server's FIN is acknowledged.
    pub has_ended: bool,
}

impl<'a> Flow<'a> {
    /// Connects with an MSS of 1460 and nothing else.
    pub fn open(wire: &'a Wire, me: SocketAddr) -> Flow<'a> {
        let options = TcpOptions {
            mss: Some(1460),
            ..TcpOptions::default()
        };
        Flow::offering(wire, me, options)
    }

    /// Connects with these options.
    pub fn offering(wire: &'a Wire, me: SocketAddr, options: TcpOptions) -> Flow<'a> {
        let mut flow = Flow::half_open(wire, me, options);
        flow.send(ACK, b"");
        flow
    }

    /// Sends the SYN and waits for the SYN-ACK.
    pub fn half_open(wire: &'a Wire, me: SocketAddr, options: TcpOptions) -> Flow<'a> {
        // Close below the wrap, so that every test crosses it.
        Flow::half_open_at(wire, me, u32::MAX - 20, options)
    }

    /// The same from this sequence number.
    pub fn half_open_at(wire: &'a Wire, me: SocketAddr, iss: u32, options: TcpOptions) -> Flow<'a> {
        let mut syn = wire.sketch(me, SYN, iss, 0);
        syn.header.options = options;
        wire.send(&syn.frame());
        let syn_ack = wire.find(ANSWER, |seen| seen.to == me && seen.has(SYN_ACK));
        let syn_ack = syn_ack.expect("a SYN is answered");
        assert_eq!(syn_ack.header.ack, iss.wrapping_add(1));
        Flow::answered(wire, options, syn_ack)
    }

    /// Whose SYN with these options got this answer.
    pub fn answered(wire: &'a Wire, options: TcpOptions, syn_ack: Seen) -> Flow<'a> {
        Flow {
            wire,
            me: syn_ack.to,
            snd_nxt: syn_ack.header.ack,
            rcv_nxt: syn_ack.header.seq.wrapping_add(1),
            window: 65_535,
            timestamp: syn_ack.header.options.timestamps.map(|stamp| stamp.value),
            my_clock: options.timestamps.map_or(0, |stamp| stamp.value),
            syn_ack,
            has_ended: false,
        }
    }

    /// A segment as it would be right now.
    pub fn sketch(&self, flags: TcpFlags, payload: &[u8]) -> Sketch {
        let mut sketch = self.wire.sketch(self.me, flags, self.snd_nxt, self.rcv_nxt);
        sketch.header.window = self.window;
        sketch.header.options.timestamps = self.timestamp.map(|echo| sluice_wire::Timestamps {
            value: self.my_clock,
            echo,
        });
        sketch.payload = payload.to_vec();
        sketch
    }

    /// Sends a segment and moves on behind it.
    pub fn send(&mut self, flags: TcpFlags, payload: &[u8]) {
        self.wire.send(&self.sketch(flags, payload).frame());
        let len = u32::try_from(payload.len()).expect("short") + u32::from(flags.contains(FIN));
        self.snd_nxt = self.snd_nxt.wrapping_add(len);
    }

    /// Sends a segment that differs from the one that is due.
    pub fn forge(&self, flags: TcpFlags, change: impl FnOnce(&mut Sketch)) {
        let mut sketch = self.sketch(flags, b"");
        change(&mut sketch);
        self.wire.send(&sketch.frame());
    }

    pub fn ask(&mut self, path: &str) {
        self.send(PSH_ACK, request(path).as_bytes());
    }

    /// The next segment of this conversation.
    pub fn next(&self, patience: Duration) -> Option<Seen> {
        self.wire.find(patience, |seen| seen.to == self.me)
    }

    /// Everything that comes in this time.
    pub fn all(&self, time: Duration) -> Vec<Seen> {
        let end = Instant::now() + time;
        let mut all = Vec::new();
        while let Some(seen) = self.next(end.saturating_duration_since(Instant::now())) {
            all.push(seen);
        }
        all
    }

    /// Reads in order, acknowledging everything, until `enough` has what it wants. Segments that do not follow are
    /// answered by an ACK and come again.
    pub fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !enough(&bytes) {
            self.read_segment(&mut bytes);
        }
        bytes
    }

    /// The same until the server has ended its side.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.has_ended {
            self.read_segment(&mut bytes);
        }
        bytes
    }

    fn read_segment(&mut self, bytes: &mut Vec<u8>) {
        let seen = self.next(ANSWER);
        let seen = seen.unwrap_or_else(|| panic!("no more after {} bytes", bytes.len()));
        assert!(!seen.has(RST), "reset after {} bytes", bytes.len());
        if seen.header.seq == self.rcv_nxt {
            bytes.extend(&seen.payload);
            let len = u32::try_from(seen.payload.len()).expect("short");
            self.rcv_nxt = self.rcv_nxt.wrapping_add(len);
            if let (Some(echo), Some(stamp)) =
                (self.timestamp.as_mut(), seen.header.options.timestamps)
            {
                *echo = stamp.value;
            }
            if seen.has(FIN) {
                self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
                self.has_ended = true;
            }
        }
        if !seen.payload.is_empty() || seen.has(FIN) {
            self.my_clock = self.my_clock.wrapping_add(1);
            self.send(ACK, b"");
        }
    }

    /// Reads a whole response and compares its body.
    pub fn read_file(&mut self, file: &std::path::Path) {
        let body = fs::read(file).expect("the file is served");
        let all =
            self.read_until(|bytes| split(bytes).is_some_and(|(_, rest)| rest.len() >= body.len()));
        let (head, rest) = split(&all).expect("a head");
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{head:?}");
        assert!(rest == body, "the content differs");
    }

    /// Ends it at once, so that the daemon has nothing left of it.
    pub fn reset(self) {
        self.forge(RST, |_| {});
    }
}

/// A request for a path.
pub fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")
}

/// A request after whose response the server closes.
pub fn last_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
}

/// Head and rest of a response.
pub fn split(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((&response[..end], &response[end + 4..]))
}

/// SplitMix64: what a test sends at random follows from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).expect("32 bits")
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).expect("small")).expect("small")
    }
}
