//! smoltcp and our stack on two ends of a path, with real bytes: packets are built and read by both, checksums
//! included. Either may be the one that opens; what is sent by whom does not depend on it. The names below are those of
//! the usual case, in which smoltcp is the client.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{CloseReason, ConnId, Disposition, Segment, Stack, StackConfig};
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpHeader, VlanTags,
    checksum,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::chance::Chance;
use crate::link::{Conditions, Link};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SERVER_PORT: u16 = 80;
const CLIENT_PORT: u16 = 50_000;
const ETHERNET: usize = 14;
const MTU: usize = 1500;
const READ_AHEAD: u64 = 64 << 10;
/// Nothing takes longer.
const END: Duration = Duration::from_secs(1800);

/// What is transferred, by whom, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub seed: u64,
    pub path: Conditions,
    pub request: u64,
    pub response: u64,
    pub client_buffer: usize,
    pub receive_buffer: u32,
    pub timestamps: bool,
    /// Our stack opens and smoltcp listens.
    pub we_open: bool,
    /// The client sends FIN right after its request.
    pub half_close: bool,
    /// The response does not wait for the request.
    pub both_at_once: bool,
    /// The client does not read before this.
    pub deaf_for: Duration,
    /// The client aborts when it has read this much.
    pub abort_at: Option<u64>,
    pub congestion: Algorithm,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            seed: 1,
            path: Conditions {
                delay: Duration::from_millis(5),
                ..Conditions::default()
            },
            request: 100,
            response: 100,
            client_buffer: 65_535,
            receive_buffer: 65_535,
            timestamps: true,
            we_open: false,
            half_close: false,
            both_at_once: false,
            deaf_for: Duration::ZERO,
            abort_at: None,
            congestion: Algorithm::Cubic,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub closed: Option<CloseReason>,
    pub took: Duration,
    pub sent_again: u64,
    pub window_probes: u64,
}

/// The queues of smoltcp's interface.
#[derive(Default)]
struct Device {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct RxToken(Vec<u8>);
struct TxToken<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl phy::Device for Device {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(RxToken, TxToken<'_>)> {
        let packet = self.received.pop_front()?;
        Some((RxToken(packet), TxToken(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.sent))
    }
}

/// Both ends and what is on its way between them.
struct Bed {
    setup: Setup,
    start: Instant,
    now: Instant,
    order: u64,
    on_the_way: BTreeMap<(Instant, u64), (Way, Vec<u8>)>,
    up: Link,
    down: Link,
    device: Device,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    sent: u64,
    read: u64,
    client_closed: bool,
    stack: Stack,
    conn: Option<ConnId>,
    kept: Vec<Option<u8>>,
    server_closed: bool,
    closed: Option<CloseReason>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Runs a transfer to its end and checks every byte of it.
pub fn transfer(setup: Setup) -> Outcome {
    let mut bed = Bed::new(setup);
    while !bed.is_over() {
        bed.turn();
        let took = bed.now.saturating_since(bed.start);
        assert!(
            took < END,
            "stuck: sent {} read {} {:?} {:?} {setup:?}",
            bed.sent,
            bed.read,
            bed.conn.and_then(|conn| bed.stack.send_view(conn)),
            bed.sockets.get::<tcp::Socket<'static>>(bed.socket).state(),
        );
        bed.now = bed.next_moment();
    }
    let took = bed.now.saturating_since(bed.start);
    if setup.abort_at.is_none() {
        assert_eq!(bed.read, setup.response, "{setup:?}");
        let request = usize::try_from(setup.request).expect("a short request");
        assert!(
            bed.kept.len() == request && bed.kept.iter().all(Option::is_some),
            "{setup:?}"
        );
    }
    bed.now = bed.now + Duration::from_secs(61);
    bed.stack.on_timers(bed.now);
    let left = [
        bed.stack.len(),
        bed.stack.half_open(),
        bed.stack.timers(),
        bed.stack.time_wait(),
    ];
    assert_eq!(left, [0; 4], "{setup:?}");
    let counters = bed.stack.counters();
    Outcome {
        closed: bed.closed,
        took,
        sent_again: counters.retransmitted_fast + counters.retransmitted_timeout,
        window_probes: counters.window_probes,
    }
}

/// The byte at an offset of either stream: no two places near each other look alike.
fn pattern(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

impl Bed {
    fn new(setup: Setup) -> Bed {
        let mut chance = Chance::new(setup.seed);
        let start = Instant::from_nanos(1_000_000_000_000);
        let mut device = Device::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = chance.next();
        let mut interface = Interface::new(config, &mut device, smoltcp_time(start));
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::Ipv4(CLIENT), 24);
            addresses.push(address).expect("room for one");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; setup.client_buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        if setup.timestamps {
            socket.set_tsval_generator(Some(|| 7));
        }
        let server = (IpAddress::Ipv4(SERVER), SERVER_PORT);
        if setup.we_open {
            socket.listen(CLIENT_PORT).expect("a fresh socket");
        } else {
            socket
                .connect(interface.context(), server, CLIENT_PORT)
                .expect("a fresh socket");
        }
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        let config = StackConfig {
            receive_buffer: setup.receive_buffer,
            congestion: setup.congestion,
            ..StackConfig::new(4, [1; 16], Secret::new([2; 32]))
        };
        let mut stack = Stack::new(config, start);
        let conn = setup
            .we_open
            .then(|| stack.connect(key(), start).expect("there is room"));
        Bed {
            setup,
            start,
            now: start,
            order: 0,
            on_the_way: BTreeMap::new(),
            up: Link::new(setup.path, chance.fork()),
            down: Link::new(setup.path, chance.fork()),
            device,
            interface,
            sockets,
            socket,
            sent: 0,
            read: 0,
            client_closed: false,
            stack,
            conn,
            kept: Vec::new(),
            server_closed: false,
            closed: None,
        }
    }

    fn client(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn is_over(&mut self) -> bool {
        let state = self.client().state();
        self.closed.is_some()
            && self.on_the_way.is_empty()
            && matches!(state, tcp::State::Closed | tcp::State::TimeWait)
    }

    fn next_moment(&mut self) -> Instant {
        let arrival = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
        let client = self
            .interface
            .poll_at(smoltcp_time(self.now), &self.sockets)
            .map(|at| sluice_time(at).max(self.now));
        let reading = self.start + self.setup.deaf_for;
        let reading = (reading > self.now).then_some(reading);
        let next = [arrival, client, self.stack.next_deadline(), reading]
            .into_iter()
            .flatten()
            .min();
        // Whole microseconds, because smoltcp counts them.
        let next = next
            .unwrap_or(self.now)
            .max(self.now + Duration::from_micros(1));
        Instant::from_nanos(next.as_nanos().div_ceil(1000) * 1000)
    }

    fn turn(&mut self) {
        while let Some(entry) = self.on_the_way.first_entry()
            && entry.key().0 <= self.now
        {
            let (way, packet) = entry.remove();
            match way {
                Way::Up => self.server_receives(&packet),
                Way::Down => self.device.received.push_back(packet),
            }
        }
        self.client_turn();
        self.server_turn();
    }

    fn client_turn(&mut self) {
        let now = smoltcp_time(self.now);
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
        self.client_application();
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
        for packet in core::mem::take(&mut self.device.sent) {
            self.carry(Way::Up, packet);
        }
    }

    fn client_application(&mut self) {
        let setup = self.setup;
        let deaf = self.now < self.start + setup.deaf_for;
        let (mut sent, mut read) = (self.sent, self.read);
        let socket = self.client();
        while socket.can_send() && sent < setup.request {
            let taken = socket.send(|buffer| {
                let room = u64::try_from(buffer.len()).expect("a buffer");
                let count = room.min(setup.request - sent);
                let count = usize::try_from(count).expect("within the buffer");
                for (byte, offset) in buffer[..count].iter_mut().zip(sent..) {
                    *byte = pattern(offset);
                }
                (count, count)
            });
            sent += u64::try_from(taken.expect("it can send")).expect("a count");
        }
        while !deaf && socket.can_recv() {
            let taken = socket.recv(|buffer| {
                for (byte, offset) in buffer.iter().zip(read..) {
                    assert_eq!(*byte, pattern(offset), "response byte {offset}");
                }
                (buffer.len(), buffer.len())
            });
            read += u64::try_from(taken.expect("it can receive")).expect("a count");
        }
        let finished = sent == setup.request && (setup.half_close || read == setup.response);
        let aborts = setup.abort_at.is_some_and(|at| read >= at);
        if aborts {
            socket.abort();
        } else if finished && socket.may_send() {
            socket.close();
        }
        self.client_closed |= finished || aborts;
        (self.sent, self.read) = (sent, read);
    }

    fn server_receives(&mut self, packet: &[u8]) {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend(packet);
        let read = match sluice_wire::parse(&frame, frame.len(), &ParseConfig::default()) {
            Ok(Packet::Tcp(read)) => read,
            other => panic!("smoltcp sent {other:?}"),
        };
        read.verify_checksum([&frame[..]], ChecksumPolicy::Verify)
            .expect("smoltcp sums right");
        let segment = Segment {
            ecn: Ecn::NotEct,
            key: key(),
            header: &read.header,
            payload_len: u32::try_from(read.payload_len).expect("a segment"),
        };
        let receipt = self.stack.on_segment(self.now, &segment);
        self.conn = self.conn.or(receipt.conn);
        let payload = &frame[read.payload()];
        for piece in receipt.pieces.clone() {
            self.keep(&piece, payload, receipt.payload_start);
        }
        let answer = match receipt.disposition {
            Disposition::Unknown => self.stack.refuse(&segment),
            _ => receipt.reply,
        };
        if let Some(header) = answer {
            self.emit(&header, 0..0);
        }
    }

    fn keep(&mut self, piece: &Range<u64>, payload: &[u8], payload_start: i64) {
        for offset in piece.clone() {
            let place = usize::try_from(offset).expect("a short request");
            let at = i64::try_from(offset).expect("a short request") - payload_start;
            let byte = payload[usize::try_from(at).expect("within the payload")];
            assert_eq!(byte, pattern(offset), "request byte {offset}");
            if self.kept.len() <= place {
                self.kept.resize(place + 1, None);
            }
            assert_eq!(self.kept[place], None, "byte {offset} came twice");
            self.kept[place] = Some(byte);
        }
    }

    fn server_turn(&mut self) {
        self.stack.on_timers(self.now);
        loop {
            let mut quiet = true;
            while let Some(outgoing) = self.stack.poll_transmit(self.now) {
                quiet = false;
                self.emit(&outgoing.header, outgoing.payload);
            }
            while let Some((conn, events)) = self.stack.poll_event() {
                quiet = false;
                self.closed = self.closed.or(events.closed);
                if events.closed.is_none() {
                    self.serve(conn);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn serve(&mut self, conn: ConnId) {
        let setup = self.setup;
        let delivered = self.stack.delivered(conn);
        self.stack.consume(conn, delivered);
        if delivered < setup.request && !setup.both_at_once {
            return;
        }
        let Some(view) = self.stack.send_view(conn) else {
            return;
        };
        let until = setup.response.min(view.acknowledged + READ_AHEAD);
        self.stack.supply(conn, until, until < setup.response);
        if until == setup.response && delivered == setup.request && !self.server_closed {
            self.server_closed = true;
            self.stack.close(conn, self.now);
        }
    }

    fn emit(&mut self, header: &TcpHeader, payload: Range<u64>) {
        let bytes: Vec<u8> = payload.map(pattern).collect();
        let link = LinkHeader {
            dst: MacAddr([2, 0, 0, 0, 0, 2]),
            src: MacAddr([2, 0, 0, 0, 0, 1]),
            vlan: VlanTags::NONE,
        };
        let mut frame = vec![0; TcpEmit::MAX_HEADERS];
        let emit = TcpEmit {
            link: &link,
            src: IpAddr::V4(SERVER),
            dst: IpAddr::V4(CLIENT),
            ecn: Ecn::NotEct,
            header,
            payload_len: bytes.len(),
        };
        let unsealed = emit.emit(&mut frame).expect("headers of one family");
        frame.truncate(unsealed.headers_len());
        frame.extend(&bytes);
        unsealed.seal_full(&mut frame, checksum::sum(&bytes));
        assert!(frame.len() <= MTU + ETHERNET, "longer than the MTU");
        self.carry(Way::Down, frame[ETHERNET..].to_vec());
    }

    fn carry(&mut self, way: Way, packet: Vec<u8>) {
        let link = match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        };
        let len = u64::try_from(packet.len()).expect("a packet");
        for at in link.carry(self.now, len).into_iter().flatten() {
            self.order += 1;
            self.on_the_way
                .insert((at, self.order), (way, packet.clone()));
        }
    }
}

fn key() -> FlowKey {
    FlowKey::new(
        IpAddr::V4(SERVER),
        SERVER_PORT,
        IpAddr::V4(CLIENT),
        CLIENT_PORT,
    )
}

fn smoltcp_time(at: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).expect("a short time"))
}

fn sluice_time(at: smoltcp::time::Instant) -> Instant {
    let micros = u64::try_from(at.total_micros()).expect("after the epoch");
    Instant::from_nanos(micros * 1000)
}
