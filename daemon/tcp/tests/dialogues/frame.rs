//! Patterns to frames: bytes are laid out here one by one, not by the code under test, and read by
//! `sluice_wire`, so that options, lengths and checksums of a dialogue are those of a wire.

use core::net::IpAddr;

use sluice_wire::{
    ChecksumPolicy, Ecn, IcmpError, Icmpv4Message, Icmpv6Message, Packet, ParseConfig, TcpHeader,
};

/// Numbers of a segment with nothing left to be resolved.
#[derive(Debug)]
pub struct Wire<'a> {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u16,
    pub window: u16,
    pub urgent: u16,
    pub options: &'a [u8],
    pub payload_len: usize,
    pub bad_checksum: bool,
    pub ecn: Ecn,
}

const PROTOCOL_TCP: u8 = 6;
const TCP_FIXED: usize = 20;

/// The segment as an Ethernet frame.
pub fn frame(wire: &Wire<'_>) -> Vec<u8> {
    let mut options = wire.options.to_vec();
    while !options.len().is_multiple_of(4) {
        options.push(0);
    }
    let header_len = TCP_FIXED + options.len();
    let mut tcp = Vec::new();
    tcp.extend(wire.src_port.to_be_bytes());
    tcp.extend(wire.dst_port.to_be_bytes());
    tcp.extend(wire.seq.to_be_bytes());
    tcp.extend(wire.ack.to_be_bytes());
    let [ae, flags] = wire.flags.to_be_bytes();
    tcp.push(ae | u8::try_from(header_len * 4).expect("at most 60 bytes of header"));
    tcp.push(flags);
    tcp.extend(wire.window.to_be_bytes());
    tcp.extend([0, 0]);
    tcp.extend(wire.urgent.to_be_bytes());
    tcp.extend(options);
    tcp.resize(header_len + wire.payload_len, 0x5a);
    let len = u32::try_from(tcp.len()).expect("a segment");
    let mut summed = address_bytes(wire.src);
    summed.extend(address_bytes(wire.dst));
    summed.extend(u32::from(PROTOCOL_TCP).to_be_bytes());
    summed.extend(len.to_be_bytes());
    summed.extend(&tcp);
    let checksum = !ones_complement_sum(&summed) ^ u16::from(wire.bad_checksum);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let total = u16::try_from(tcp.len()).expect("a segment fits a packet");
    frame.extend(if wire.src.is_ipv4() {
        [8, 0]
    } else {
        [0x86, 0xdd]
    });
    let ip = ip_header(wire.src, wire.dst, PROTOCOL_TCP, total, wire.ecn);
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// An ICMP error as it comes from a router.
#[derive(Debug)]
pub struct WireError {
    /// The router.
    pub src: IpAddr,
    /// Whose segment is quoted: `dst` of the error, source of the segment.
    pub dst: IpAddr,
    /// Where the segment went.
    pub peer: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub kind: u8,
    pub code: u8,
    pub mtu: u32,
}

/// The error as an Ethernet frame: it quotes the IP header and eight bytes of TCP (RFC 792), or more over IPv6.
pub fn error_frame(error: &WireError) -> Vec<u8> {
    let is_v4 = error.src.is_ipv4();
    let mut icmp = vec![error.kind, error.code, 0, 0];
    icmp.extend(error.mtu.to_be_bytes());
    let quoted = ip_header(error.dst, error.peer, PROTOCOL_TCP, 1480, Ecn::NotEct);
    icmp.extend(quoted);
    icmp.extend(error.src_port.to_be_bytes());
    icmp.extend(error.dst_port.to_be_bytes());
    icmp.extend(error.seq.to_be_bytes());
    let protocol = if is_v4 { 1 } else { 58 };
    let mut summed = Vec::new();
    if !is_v4 {
        summed.extend(address_bytes(error.src));
        summed.extend(address_bytes(error.dst));
        summed.extend(u32::try_from(icmp.len()).expect("short").to_be_bytes());
        summed.extend([0, 0, 0, protocol]);
    }
    summed.extend(&icmp);
    let checksum = !ones_complement_sum(&summed);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(if is_v4 { [8, 0] } else { [0x86, 0xdd] });
    let len = u16::try_from(icmp.len()).expect("short");
    frame.extend(ip_header(error.src, error.dst, protocol, len, Ecn::NotEct));
    frame.extend(icmp);
    frame
}

/// What `sluice_wire` makes of an ICMP error.
pub fn read_error(frame: &[u8]) -> Result<IcmpError, String> {
    match sluice_wire::parse(frame, frame.len(), &ParseConfig::default()) {
        Ok(Packet::Icmpv4(packet)) => match packet.message {
            Icmpv4Message::Error(error) => Ok(error),
            other => Err(format!("{other:?}")),
        },
        Ok(Packet::Icmpv6(packet)) => match packet.message {
            Icmpv6Message::Error(error) => Ok(error),
            other => Err(format!("{other:?}")),
        },
        Ok(other) => Err(format!("{other:?}")),
        Err(reason) => Err(reason.name().to_owned()),
    }
}

fn ip_header(src: IpAddr, dst: IpAddr, protocol: u8, payload_len: u16, ecn: Ecn) -> Vec<u8> {
    let mut ip = Vec::new();
    let ecn = ecn.bits();
    if src.is_ipv4() {
        ip.extend([0x45, ecn]);
        ip.extend((payload_len + 20).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        ip.extend(address_bytes(src));
        ip.extend(address_bytes(dst));
        let checksum = !ones_complement_sum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        ip.extend([0x60, ecn << 4, 0, 0]);
        ip.extend(payload_len.to_be_bytes());
        ip.extend([protocol, 64]);
        ip.extend(address_bytes(src));
        ip.extend(address_bytes(dst));
    }
    ip
}

/// What `sluice_wire` makes of a frame: header, payload length and codepoint, or why not.
pub fn read(frame: &[u8]) -> Result<(TcpHeader, u32, Ecn), String> {
    match sluice_wire::parse(frame, frame.len(), &ParseConfig::default()) {
        Ok(Packet::Tcp(packet)) => {
            packet
                .verify_checksum([frame], ChecksumPolicy::Verify)
                .map_err(|reason| reason.name().to_owned())?;
            let len = u32::try_from(packet.payload_len).expect("a segment");
            Ok((packet.header, len, packet.ecn))
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(reason) => Err(reason.name().to_owned()),
    }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071 as it is written there.
fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded to 16 bits")
}
