//! The ideal client: many connections, a handshake with everything a modern peer offers, an acknowledgement for every
//! second segment, a receive window that is always empty again, no loss.
//!
//! It checks that every connection gets its bytes in order, once, and, while told to, that they are the right bytes
//! with a right checksum. It is the same for every server and none of its time is measured, so it is simple.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader,
    TcpOptions, Timestamps, checksum, parse,
};

use super::nic::Small;
use super::pattern::Pattern;

/// Address of the server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Address of the client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Port of the server.
pub const PORT: u16 = 80;
/// Payload of a full segment: MTU 1500 with timestamps.
pub const MSS: u32 = 1448;
/// The Ethernet header of frames to the client.
pub const LINK_TO_CLIENT: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
/// The same for `sluice-wire`.
pub const LINK_TO_SERVER: LinkHeader = LinkHeader {
    dst: MacAddr([2, 0, 0, 0, 0, 1]),
    src: MacAddr([2, 0, 0, 0, 0, 2]),
    vlan: sluice_wire::VlanTags::NONE,
};

const FIRST_PORT: u16 = 1024;
/// Initial sequence number of every connection: close enough to the end to wrap on the way.
const ISS: u32 = u32::MAX - 1;

/// One connection.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    established: bool,
    /// Initial sequence number of the server, plus one: where its stream begins.
    irs: u32,
    rcv_nxt: u32,
    snd_nxt: u32,
    /// TSval of the segment acknowledged next.
    ts_recent: u32,
    unacknowledged: u32,
    /// Payload bytes received, in order.
    received: u64,
}

/// What went wrong: a server that does this is not to be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames that could not be parsed, or of no connection.
    pub strange: u64,
    /// Segments that were not the next ones.
    pub out_of_order: u64,
    /// Segments shorter than a full one.
    pub short: u64,
    /// Checksums that were wrong.
    pub checksum: u64,
    /// Payload that was not the pattern.
    pub content: u64,
    /// Connections that the server reset.
    pub reset: u64,
}

/// All connections.
pub struct Client {
    connections: Vec<Connection>,
    /// Window field: the client asks for no scaling.
    window: u16,
    /// What is to be acknowledged at the next turn: connection, acknowledgement number, TSecr.
    due: Vec<(u16, u32, u32)>,
    /// Connections with an odd segment.
    odd: Vec<u16>,
    segments: u64,
    payload_bytes: u64,
    /// Checks payload and checksums too.
    pub thorough: Option<Pattern>,
    faults: Faults,
    opened: bool,
}

impl Client {
    /// `connections` that open at the first turn, each with a window of `segments` full segments.
    pub fn new(connections: u16, segments: u16) -> Client {
        let window = u32::from(segments) * MSS;
        Client {
            connections: vec![Connection::default(); usize::from(connections)],
            window: u16::try_from(window).unwrap_or(u16::MAX),
            due: Vec::new(),
            odd: Vec::new(),
            segments: 0,
            payload_bytes: 0,
            thorough: None,
            faults: Faults::default(),
            opened: false,
        }
    }

    /// Whether every handshake is complete.
    pub fn is_established(&self) -> bool {
        self.connections
            .iter()
            .all(|connection| connection.established)
    }

    /// Full segments and their bytes since the last look.
    pub fn take_received(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.segments),
            std::mem::take(&mut self.payload_bytes),
        )
    }

    /// What went wrong so far.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Payload bytes of the connection that got least and of the one that got most.
    pub fn shares(&self) -> (u64, u64) {
        let received = self
            .connections
            .iter()
            .map(|connection| connection.received);
        (
            received.clone().min().unwrap_or(0),
            received.max().unwrap_or(0),
        )
    }

    /// A frame from the server.
    pub fn take(&mut self, frame: &[u8]) {
        let packet = match parse(frame, frame.len(), &ParseConfig::default()) {
            Ok(Packet::Tcp(packet)) => packet,
            _ => {
                self.faults.strange += 1;
                return;
            }
        };
        let number = packet.header.dst_port.wrapping_sub(FIRST_PORT);
        let Some(connection) = self.connections.get_mut(usize::from(number)) else {
            self.faults.strange += 1;
            return;
        };
        let header = &packet.header;
        if header.flags.contains(TcpFlags::RST) {
            self.faults.reset += 1;
            return;
        }
        let ts_value = header
            .options
            .timestamps
            .map_or(0, |timestamps| timestamps.value);
        if header.flags.contains(TcpFlags::SYN) {
            connection.established = true;
            connection.irs = header.seq.wrapping_add(1);
            connection.rcv_nxt = connection.irs;
            connection.ts_recent = ts_value;
            self.due.push((number, connection.rcv_nxt, ts_value));
            return;
        }
        let payload = &frame[packet.payload()];
        let Ok(len @ 1..) = u32::try_from(payload.len()) else {
            return;
        };
        if let Some(pattern) = &self.thorough {
            let offset = connection.received;
            self.faults.content += u64::from(pattern.at(offset, payload.len()) != payload);
            let checksum = packet.verify_checksum([frame], ChecksumPolicy::Verify);
            self.faults.checksum += u64::from(checksum.is_err());
        }
        if header.seq != connection.rcv_nxt {
            self.faults.out_of_order += 1;
            return;
        }
        connection.rcv_nxt = connection.rcv_nxt.wrapping_add(len);
        connection.received += u64::from(len);
        connection.unacknowledged += 1;
        // RFC 7323 section 4.3: the timestamp of the first segment that an acknowledgement covers.
        if connection.unacknowledged == 1 {
            connection.ts_recent = ts_value;
            self.odd.push(number);
        } else {
            connection.unacknowledged = 0;
            self.due
                .push((number, connection.rcv_nxt, connection.ts_recent));
        }
        self.faults.short += u64::from(len != MSS);
        self.segments += 1;
        self.payload_bytes += u64::from(len);
    }

    /// Everything the client has to say at `now`.
    pub fn answers(&mut self, now: Duration, out: &mut Vec<Small>) {
        if !self.opened {
            self.opened = true;
            let count = u16::try_from(self.connections.len()).unwrap_or(u16::MAX);
            out.extend((0..count).map(|number| syn(number, self.window, now)));
            for connection in &mut self.connections {
                connection.snd_nxt = ISS.wrapping_add(1);
            }
        }
        // The delayed acknowledgement, as if its timer were one turn.
        for number in std::mem::take(&mut self.odd) {
            let connection = &mut self.connections[usize::from(number)];
            if connection.unacknowledged > 0 {
                connection.unacknowledged = 0;
                self.due
                    .push((number, connection.rcv_nxt, connection.ts_recent));
            }
        }
        for (number, ack, echo) in self.due.drain(..) {
            let header = TcpHeader {
                seq: self.connections[usize::from(number)].snd_nxt,
                ack,
                flags: TcpFlags::ACK,
                options: TcpOptions {
                    timestamps: timestamps(now, echo),
                    ..TcpOptions::default()
                },
                ..bare(number, self.window)
            };
            out.push(frame(&header));
        }
    }
}

fn bare(number: u16, window: u16) -> TcpHeader {
    TcpHeader {
        src_port: FIRST_PORT + number,
        dst_port: PORT,
        window,
        ..TcpHeader::default()
    }
}

fn syn(number: u16, window: u16, now: Duration) -> Small {
    frame(&TcpHeader {
        seq: ISS,
        flags: TcpFlags::SYN,
        options: TcpOptions {
            mss: Some(1460),
            sack_permitted: true,
            timestamps: timestamps(now, 0),
            ..TcpOptions::default()
        },
        ..bare(number, window)
    })
}

fn timestamps(now: Duration, echo: u32) -> Option<Timestamps> {
    let value = u32::try_from(now.as_millis()).unwrap_or(u32::MAX);
    Some(Timestamps { value, echo })
}

fn frame(header: &TcpHeader) -> Small {
    let mut small = Small {
        bytes: [0; 94],
        len: 0,
    };
    let emit = TcpEmit {
        link: &LINK_TO_SERVER,
        src: IpAddr::V4(CLIENT),
        dst: IpAddr::V4(SERVER),
        ecn: Ecn::NotEct,
        header,
        payload_len: 0,
    };
    let unsealed = emit
        .emit(&mut small.bytes)
        .expect("94 bytes hold every header of IPv4 without tags");
    small.len = unsealed.headers_len();
    unsealed.seal_full(&mut small.bytes, checksum::Sum::default());
    small
}
