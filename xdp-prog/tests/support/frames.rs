//! Frames from parts: a good segment, of which a test changes one thing.

use super::{PORT, SERVED_V4, SERVED_V6};

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
pub const TPID_8021Q: u16 = 0x8100;
pub const TPID_8021AD: u16 = 0x88a8;

pub const HOP_BY_HOP: u8 = 0;
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const ESP: u8 = 50;
pub const AUTHENTICATION: u8 = 51;
pub const ICMPV6: u8 = 58;
pub const NO_NEXT_HEADER: u8 = 59;
pub const DESTINATION_OPTIONS: u8 = 60;

pub const MORE_FRAGMENTS: u16 = 0x2000;
pub const DONT_FRAGMENT: u16 = 0x4000;

/// Ethernet with these VLAN tags (TPID, TCI), outermost first, around `payload`.
pub fn ethernet(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    for &(tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A TCP segment without options: data offset in 32-bit words, `payload` bytes behind the header.
pub fn tcp(dst_port: u16, data_offset: u8, payload: usize) -> Vec<u8> {
    let mut segment = vec![0; 20 + payload];
    segment[..2].copy_from_slice(&50_000u16.to_be_bytes());
    segment[2..4].copy_from_slice(&dst_port.to_be_bytes());
    segment[12] = data_offset << 4;
    segment[13] = 0x10;
    segment
}

/// A SYN for this port, without options.
pub fn syn(dst_port: u16) -> Vec<u8> {
    let mut segment = tcp(dst_port, 5, 0);
    segment[13] = 0x02;
    segment
}

/// An IPv4 packet; [`Default`] is a good segment with 8 bytes of payload for the served pair.
#[derive(Clone)]
pub struct Ipv4 {
    pub tags: Vec<(u16, u16)>,
    pub version: u8,
    /// In 32-bit words; `None` is what `options` asks for.
    pub header_words: Option<u8>,
    pub options: Vec<u8>,
    /// `None` is the true length.
    pub total_len: Option<u16>,
    /// Flags and offset.
    pub fragment: u16,
    pub protocol: u8,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub body: Vec<u8>,
}

impl Default for Ipv4 {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            version: 4,
            header_words: None,
            options: Vec::new(),
            total_len: None,
            fragment: DONT_FRAGMENT,
            protocol: TCP,
            src: [198, 51, 100, 9],
            dst: SERVED_V4,
            body: tcp(PORT, 5, 8),
        }
    }
}

impl Ipv4 {
    pub fn frame(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let words = self
            .header_words
            .unwrap_or_else(|| u8::try_from(header / 4).unwrap());
        let total = self
            .total_len
            .unwrap_or_else(|| u16::try_from(header + self.body.len()).unwrap_or(0));
        let mut packet = vec![self.version << 4 | words, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.src);
        packet.extend(self.dst);
        packet.extend(&self.options);
        packet.extend(&self.body);
        ethernet(&self.tags, ETHERTYPE_IPV4, &packet)
    }
}

/// An IPv6 packet; [`Default`] is a good segment with 8 bytes of payload for the served pair.
#[derive(Clone)]
pub struct Ipv6 {
    pub tags: Vec<(u16, u16)>,
    pub version: u8,
    /// `None` is the true length.
    pub payload_len: Option<u16>,
    /// Extension headers in order: protocol number and bytes, whose first is filled in here.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub protocol: u8,
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub body: Vec<u8>,
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            version: 6,
            payload_len: None,
            extensions: Vec::new(),
            protocol: TCP,
            src: [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
            dst: SERVED_V6,
            body: tcp(PORT, 5, 8),
        }
    }
}

impl Ipv6 {
    pub fn frame(&self) -> Vec<u8> {
        let mut following = self
            .extensions
            .iter()
            .map(|(protocol, _)| *protocol)
            .chain([self.protocol]);
        let first = following.next().unwrap();
        let mut payload = Vec::new();
        for (_, bytes) in &self.extensions {
            payload.push(following.next().unwrap());
            payload.extend(&bytes[1..]);
        }
        payload.extend(&self.body);
        let length = self
            .payload_len
            .unwrap_or_else(|| u16::try_from(payload.len()).unwrap_or(0));
        let mut packet = vec![self.version << 4, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([first, 64]);
        packet.extend(self.src);
        packet.extend(self.dst);
        packet.extend(payload);
        ethernet(&self.tags, ETHERTYPE_IPV6, &packet)
    }
}

/// Options of 8 bytes (PadN), or with `more` further units of 8.
pub fn options(protocol: u8, more: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 8 + 8 * usize::from(more)];
    bytes[1] = more;
    bytes[2..4].copy_from_slice(&[1, 4]);
    (protocol, bytes)
}

pub fn routing(kind: u8, segments_left: u8) -> (u8, Vec<u8>) {
    (ROUTING, vec![0, 0, kind, segments_left, 0, 0, 0, 0])
}

/// A fragment header: offset in units of 8 bytes.
pub fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    (FRAGMENT, vec![0, 0, high, low, 0, 0, 0, 1])
}

/// An ARP request or reply for this address.
pub fn arp(operation: u16, target: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend([2, 0, 0, 0, 0, 2, 198, 51, 100, 9]);
    packet.extend([0; 6]);
    packet.extend(target);
    packet
}

/// The group that neighbour solicitations for `target` go to (RFC 4291 section 2.7.1).
pub fn solicited_node(target: [u8; 16]) -> [u8; 16] {
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&target[13..]);
    group
}

/// A neighbour solicitation (135) or advertisement (136) for `target`.
pub fn neighbor(kind: u8, target: [u8; 16]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target);
    message
}

/// 8 bytes of UDP for this port.
pub fn udp(dst_port: u16) -> Vec<u8> {
    let mut datagram = vec![0xc3, 0x50, 0, 0, 0, 8, 0, 0];
    datagram[2..4].copy_from_slice(&dst_port.to_be_bytes());
    datagram
}

/// An ICMP error of this type and code from a router with a smaller MTU, which quotes the start of a segment from this
/// address and port.
pub fn icmp_error(kind: u8, code: u8, quoted_src: &[u8], src_port: u16) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0x78];
    let peer = match quoted_src.len() {
        4 => {
            message.extend([0x45, 0, 5, 0xdc, 0, 0, 0x40, 0, 63, TCP, 0, 0]);
            vec![203, 0, 113, 9]
        }
        _ => {
            message.extend([0x60, 0, 0, 0, 5, 0xb4, TCP, 63]);
            vec![0x20; 16]
        }
    };
    message.extend(quoted_src);
    message.extend(peer);
    message.extend(src_port.to_be_bytes());
    message.extend([0xc3, 0x50, 1, 2, 3, 4]);
    message
}

/// An ICMP or ICMPv6 message of this type.
pub fn icmp(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 1, 0, 1]
}
