//! The frames of the test's link: built and read with `sluice_wire`, every one of them checked.
//!
//! What the worker sends must parse, carry right checksums after the device has done what it was asked for,
//! and end where its IP length says. The device's sum is computed here word by word, not by the code under
//! test.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sluice_afxdp::{GsoCut, TxChecksum};
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader,
    TcpPacket, VlanTags, checksum,
};

pub const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

pub const SERVER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const SERVER_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const CLIENT_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// Where the service listens.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER_IP), 80);
pub const SERVER6: SocketAddr = SocketAddr::new(IpAddr::V6(SERVER_IP6), 80);

/// What a sender writes into the checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The checksum.
    Full,
    /// The pseudo-header sum: what a veth peer with TX checksum offload leaves.
    Partial,
    /// Neither.
    Wrong,
}

/// A frame from client to server.
pub fn segment(
    from: SocketAddr,
    to: SocketAddr,
    header: &TcpHeader,
    payload: &[u8],
    seal: Seal,
) -> Vec<u8> {
    let link = LinkHeader {
        dst: SERVER_MAC,
        src: CLIENT_MAC,
        vlan: VlanTags::NONE,
    };
    let mut frame = vec![0; TcpEmit::MAX_HEADERS];
    let emit = TcpEmit {
        link: &link,
        src: from.ip(),
        dst: to.ip(),
        ecn: Ecn::NotEct,
        header,
        payload_len: payload.len(),
    };
    let unsealed = emit
        .emit(&mut frame)
        .expect("headers of one family fit MAX_HEADERS");
    let tcp_offset = unsealed.tcp_offset();
    frame.truncate(unsealed.headers_len());
    frame.extend_from_slice(payload);
    match seal {
        Seal::Full => unsealed.seal_full(&mut frame, checksum::sum(payload)),
        Seal::Partial => {
            let _ = unsealed.seal_partial(&mut frame);
        }
        Seal::Wrong => {
            unsealed.seal_full(&mut frame, checksum::sum(payload));
            frame[tcp_offset + 16] ^= 0x55;
        }
    }
    frame
}

/// What a closed port says to a segment (RFC 9293 section 3.10.7.1); nothing to a RST.
pub fn refusal(packet: &TcpPacket) -> Option<Vec<u8>> {
    if packet.header.flags.contains(TcpFlags::RST) {
        return None;
    }
    let (from, to) = (
        SocketAddr::new(packet.dst, packet.header.dst_port),
        SocketAddr::new(packet.src, packet.header.src_port),
    );
    let header = TcpHeader {
        src_port: from.port(),
        dst_port: to.port(),
        seq: packet.header.ack,
        flags: TcpFlags::RST,
        ..TcpHeader::default()
    };
    Some(segment(from, to, &header, &[], Seal::Full))
}

/// Reads a segment that the worker sent to a client, and its payload.
pub fn read(frame: &[u8]) -> (TcpPacket, &[u8]) {
    let packet = match sluice_wire::parse(frame, frame.len(), &ParseConfig::default()) {
        Ok(Packet::Tcp(packet)) => packet,
        other => panic!("the worker sent {other:?}"),
    };
    packet
        .verify_checksum([frame], ChecksumPolicy::Verify)
        .unwrap_or_else(|reason| panic!("{reason} in {packet:?}"));
    assert_eq!(packet.link.src, SERVER_MAC);
    assert_eq!(packet.link.dst, CLIENT_MAC);
    assert_eq!(
        packet.payload().end,
        frame.len(),
        "nothing behind the packet"
    );
    (packet, &frame[packet.payload()])
}

/// Does what the device was asked for: completes the checksum (Documentation/networking/xsk-tx-metadata.rst).
pub fn complete(frame: &mut [u8], request: TxChecksum) {
    let start = usize::from(request.start);
    let field = start + usize::from(request.offset);
    let checksum = !ones_complement_sum(&frame[start..]);
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Cuts a super-segment as a device does (Documentation/networking/segmentation-offloads.rst): the headers repeated,
/// lengths, sequence numbers and checksums made right, FIN and PSH on the last packet only.
pub fn cut(whole: &[u8], cut: &GsoCut) -> Vec<Vec<u8>> {
    let (headers, payload) = whole.split_at(cut.headers.into());
    let tcp = usize::from(cut.checksum.start);
    let ip = tcp - if cut.ipv6 { 40 } else { 20 };
    let wrong = ones_complement_sum(&pseudo_header(headers, ip, whole.len() - tcp, cut.ipv6));
    assert_eq!(
        word(headers, tcp + 16),
        wrong,
        "the pseudo-header sum covers the whole"
    );
    assert_eq!(
        usize::from(word(headers, if cut.ipv6 { ip + 4 } else { ip + 2 })),
        whole.len() - if cut.ipv6 { tcp } else { ip },
        "the IP length covers the whole"
    );
    let each = usize::from(cut.payload);
    let packets = payload.len().div_ceil(each);
    let mut frames = Vec::new();
    for (index, piece) in payload.chunks(each).enumerate() {
        let mut frame = headers.to_vec();
        let tcp_len = u16::try_from(headers.len() - tcp + piece.len()).expect("a packet");
        if cut.ipv6 {
            frame[ip + 4..ip + 6].copy_from_slice(&tcp_len.to_be_bytes());
        } else {
            frame[ip + 2..ip + 4].copy_from_slice(&(tcp_len + 20).to_be_bytes());
            frame[ip + 10..ip + 12].fill(0);
            let sum = !ones_complement_sum(&frame[ip..ip + 20]);
            frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        let first = u32::from_be_bytes(headers[tcp + 4..tcp + 8].try_into().expect("4 bytes"));
        let seq = first.wrapping_add(u32::try_from(index * each).expect("64 KiB"));
        frame[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
        if index + 1 < packets {
            frame[tcp + 13] &= !0x09;
        }
        let sum = ones_complement_sum(&pseudo_header(headers, ip, tcp_len.into(), cut.ipv6));
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(piece);
        complete(&mut frame, cut.checksum);
        frames.push(frame);
    }
    frames
}

/// RFC 9293 section 3.1.
fn pseudo_header(headers: &[u8], ip: usize, tcp_len: usize, ipv6: bool) -> Vec<u8> {
    let addresses = if ipv6 {
        ip + 8..ip + 40
    } else {
        ip + 12..ip + 20
    };
    let mut bytes = headers[addresses].to_vec();
    bytes.extend(6u32.to_be_bytes());
    bytes.extend(u32::try_from(tcp_len).expect("64 KiB").to_be_bytes());
    bytes
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// RFC 1071 as it is written there.
fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = bytes
        .chunks(2)
        .map(|word| {
            u64::from(u16::from_be_bytes([
                word[0],
                word.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded to 16 bits")
}
