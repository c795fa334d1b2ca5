//! Any frame: a view that lies inside it and reads the same when written again, or a reason.
//!
//! The first four bytes of the input steer: options, how much of the frame is in its first piece, and which
//! bit to flip. On request the checksums are made right first, or the fuzzer would never get past them.

use core::net::IpAddr;

use sluice_wire::checksum::sum;
use sluice_wire::{
    ArpPacket, ChecksumPolicy, DropReason, Icmpv4Packet, Icmpv6Packet, MAX_PARSED_HEADERS, MacAddr,
    Packet, ParseConfig, TcpEmit, TcpHeader, TcpPacket, parse,
};

use crate::bytes::{naive_sum, u16_at};

const VLAN: u8 = 1;
const REPAIR: u8 = 2;
const SEVERAL_PIECES: u8 = 4;

/// Larger than any frame: what was read fits when it is written again.
const BUFFER: usize = 70_000;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Runs the wire parser on a frame.
pub fn packet(data: &[u8]) {
    let Some((&[options, cut, flip_high, flip_low], frame)) = data.split_first_chunk() else {
        return;
    };
    let mut frame = frame.to_vec();
    if options & REPAIR != 0 {
        repair(&mut frame);
    }
    let config = ParseConfig {
        vlan: options & VLAN != 0,
    };
    let whole = parse(&frame, frame.len(), &config);
    if options & SEVERAL_PIECES != 0 {
        check_pieces(&frame, usize::from(cut), &config, &whole);
    }
    match whole {
        Ok(packet) => {
            check_padding(&frame, &config, &packet);
            check_packet(&frame, &packet, usize::from(cut));
            if let Packet::Tcp(tcp) = packet {
                let flip = usize::from(u16::from_be_bytes([flip_high, flip_low]));
                check_flipped_bit(frame, &tcp, flip);
            }
        }
        Err(reason) => assert_eq!(DropReason::ALL[reason.index()], reason),
    }
}

/// Where the frame is cut into pieces decides about nothing but `HeadersNotLinear`.
fn check_pieces(
    frame: &[u8],
    head_len: usize,
    config: &ParseConfig,
    whole: &Result<Packet<'_>, DropReason>,
) {
    let head = &frame[..head_len.min(frame.len())];
    let cut = parse(head, frame.len(), config);
    if cut != Err(DropReason::HeadersNotLinear) {
        assert_eq!(&cut, whole);
    } else if matches!(whole, Ok(Packet::Tcp(_))) {
        assert!(head.len() < MAX_PARSED_HEADERS);
    }
}

/// What follows the IP packet is not looked at.
fn check_padding(frame: &[u8], config: &ParseConfig, packet: &Packet<'_>) {
    let mut padded = frame.to_vec();
    padded.extend([0xa5; 7]);
    assert_eq!(parse(&padded, padded.len(), config).as_ref(), Ok(packet));
}

fn check_packet(frame: &[u8], packet: &Packet<'_>, cut: usize) {
    let upper = locate(frame);
    match packet {
        Packet::Tcp(tcp) => {
            let upper = upper.expect("a segment is in an IP packet");
            assert_eq!((upper.protocol, upper.start), (TCP, tcp.tcp_offset));
            assert_eq!(upper.end, tcp.payload().end);
            check_tcp(frame, tcp, &upper, cut);
        }
        Packet::Arp(arp) => check_arp(arp),
        Packet::Icmpv4(icmp) => {
            let upper = upper.expect("a message is in an IP packet");
            assert_eq!(upper.protocol, ICMP);
            assert_eq!(naive_sum(&[&frame[upper.start..upper.end]]), 0xffff);
            check_icmpv4(icmp);
        }
        Packet::Icmpv6(icmp) => {
            let upper = upper.expect("a message is in an IP packet");
            assert_eq!(upper.protocol, ICMPV6);
            assert_eq!(upper.sum(frame), 0xffff);
            check_icmpv6(icmp);
        }
    }
}

fn check_tcp(frame: &[u8], tcp: &TcpPacket, upper: &Upper, cut: usize) {
    assert!(tcp.tcp_offset + 20 <= tcp.payload_offset);
    assert!(tcp.payload_offset <= frame.len().min(MAX_PARSED_HEADERS));
    assert!(tcp.payload().end <= frame.len());
    assert_eq!(tcp.src.is_ipv4(), tcp.dst.is_ipv4());
    assert_ne!(tcp.src, tcp.dst);
    assert!(tcp.segment_len() as usize >= tcp.payload_len);

    let pieces = || frame.chunks(1 + cut % 61);
    let right = upper.sum(frame) == 0xffff;
    let verdict = tcp.verify_checksum(pieces(), ChecksumPolicy::Verify);
    let expected = if right {
        Ok(())
    } else {
        Err(DropReason::TcpBadChecksum)
    };
    assert_eq!(verdict, expected);
    let lenient = tcp.verify_checksum(pieces(), ChecksumPolicy::AcceptPartial);
    assert_eq!(lenient.is_ok(), right || upper.pseudo_sum() == tcp.checksum);
    let missing = tcp.payload().end.saturating_sub(1);
    assert_eq!(
        tcp.verify_checksum([&frame[..missing]], ChecksumPolicy::Verify),
        Err(DropReason::TcpPiecesMissing)
    );
    check_written_again(frame, tcp);
}

/// The same header, written by us, is read as the same again, and its checksum is right.
fn check_written_again(frame: &[u8], tcp: &TcpPacket) {
    let payload = &frame[tcp.payload()];
    let emit = TcpEmit {
        link: &tcp.link,
        src: tcp.src,
        dst: tcp.dst,
        ecn: tcp.ecn,
        header: &tcp.header,
        payload_len: payload.len(),
    };
    let mut written = vec![0; TcpEmit::MAX_HEADERS];
    let Ok(unsealed) = emit.emit(&mut written) else {
        // Padding of the options may make the packet longer than it was, by a few words.
        assert!(payload.len() + tcp.header.encoded_len() + 20 > 0xffff);
        return;
    };
    written.truncate(unsealed.headers_len());
    assert_eq!(
        unsealed.headers_len() - unsealed.tcp_offset(),
        tcp.header.encoded_len()
    );
    unsealed.seal_full(&mut written, sum(payload));
    written.extend_from_slice(payload);
    let read = match parse(&written, written.len(), &ParseConfig { vlan: true }) {
        Ok(Packet::Tcp(read)) => read,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (read.link, read.src, read.dst, read.ecn),
        (tcp.link, tcp.src, tcp.dst, tcp.ecn)
    );
    assert_eq!(read.payload_len, tcp.payload_len);
    check_header_again(&tcp.header, &read.header);
    let whole = [&written[..]];
    assert_eq!(read.verify_checksum(whole, ChecksumPolicy::Verify), Ok(()));
}

/// All of a header but the SACK blocks that alignment leaves no room for.
pub(crate) fn check_header_again(before: &TcpHeader, after: &TcpHeader) {
    let (kept, had) = (
        after.options.sack.as_slice(),
        before.options.sack.as_slice(),
    );
    assert_eq!(Some(kept), had.get(..kept.len()));
    if kept.len() < had.len() {
        assert!(before.encoded_len() + 8 + 4 > 60, "room for another block");
    }
    let mut expected = *before;
    expected.options.sack = after.options.sack;
    assert_eq!(*after, expected);
}

/// One wrong bit anywhere in the segment is seen: the checksum finds every single error.
fn check_flipped_bit(mut frame: Vec<u8>, tcp: &TcpPacket, flip: usize) {
    if tcp
        .verify_checksum([&frame[..]], ChecksumPolicy::Verify)
        .is_err()
    {
        return;
    }
    let bits = (tcp.payload().end - tcp.tcp_offset) * 8;
    let bit = tcp.tcp_offset * 8 + flip % bits;
    frame[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(
        tcp.verify_checksum([&frame[..]], ChecksumPolicy::Verify),
        Err(DropReason::TcpBadChecksum)
    );
}

fn check_arp(arp: &ArpPacket) {
    let mut buf = [0; 64];
    let len = arp.emit(&mut buf).expect("an ARP packet is short");
    let read = parse(&buf[..len], len, &ParseConfig { vlan: true });
    assert_eq!(read, Ok(Packet::Arp(*arp)));
}

fn check_icmpv4(icmp: &Icmpv4Packet<'_>) {
    let mut buf = vec![0; BUFFER];
    let len = icmp.emit(&mut buf).expect("what was received fits");
    let read = parse(&buf[..len], len, &ParseConfig { vlan: true });
    assert_eq!(read, Ok(Packet::Icmpv4(*icmp)));
    if let Some(reply) = icmp.reply() {
        assert_eq!(reply.emit(&mut buf), Ok(len));
    }
}

fn check_icmpv6(icmp: &Icmpv6Packet<'_>) {
    let mut buf = vec![0; BUFFER];
    let len = icmp.emit(&mut buf).expect("what was received fits");
    let read = parse(&buf[..len], len, &ParseConfig { vlan: true });
    assert_eq!(read, Ok(Packet::Icmpv6(*icmp)));
    if let Some(reply) = icmp.reply(MacAddr([2, 0, 0, 0, 0, 9])) {
        reply.emit(&mut buf).expect("what was received is answered");
    }
}

/// The upper layer of an IP packet, found by a walk that trusts every length.
struct Upper {
    protocol: u8,
    start: usize,
    end: usize,
    src: IpAddr,
    dst: IpAddr,
}

impl Upper {
    fn pseudo_header(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for address in [self.src, self.dst] {
            match address {
                IpAddr::V4(v4) => bytes.extend(v4.octets()),
                IpAddr::V6(v6) => bytes.extend(v6.octets()),
            }
        }
        bytes.extend([0, self.protocol]);
        let len = u32::try_from(self.end - self.start).expect("16-bit lengths");
        bytes.extend(len.to_be_bytes());
        bytes
    }

    fn pseudo_sum(&self) -> u16 {
        naive_sum(&[&self.pseudo_header()])
    }

    fn sum(&self, frame: &[u8]) -> u16 {
        naive_sum(&[&self.pseudo_header(), &frame[self.start..self.end]])
    }
}

fn locate(frame: &[u8]) -> Option<Upper> {
    let mut at = 12;
    while matches!(u16_at(frame, at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let ip = at + 2;
    let upper = match u16_at(frame, at)? {
        0x0800 => locate_in_ipv4(frame, ip)?,
        0x86dd => locate_in_ipv6(frame, ip)?,
        _ => return None,
    };
    (upper.start <= upper.end && upper.end <= frame.len()).then_some(upper)
}

fn locate_in_ipv4(frame: &[u8], ip: usize) -> Option<Upper> {
    let address = |at: usize| {
        let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    };
    Some(Upper {
        protocol: *frame.get(ip + 9)?,
        start: ip + 20,
        end: ip + usize::from(u16_at(frame, ip + 2)?),
        src: address(ip + 12)?,
        dst: address(ip + 16)?,
    })
}

fn locate_in_ipv6(frame: &[u8], ip: usize) -> Option<Upper> {
    let address = |at: usize| {
        let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    };
    let mut protocol = *frame.get(ip + 6)?;
    let mut start = ip + 40;
    while matches!(protocol, 0 | 43 | 60) {
        protocol = *frame.get(start)?;
        start += 8 + 8 * usize::from(*frame.get(start + 1)?);
    }
    Some(Upper {
        protocol,
        start,
        end: ip + 40 + usize::from(u16_at(frame, ip + 4)?),
        src: address(ip + 8)?,
        dst: address(ip + 24)?,
    })
}

/// Makes the checksums right, as far as the frame can be understood.
fn repair(frame: &mut [u8]) {
    let Some(upper) = locate(frame) else { return };
    let (is_ipv4, field) = match (upper.src, upper.protocol) {
        (IpAddr::V4(_), TCP) => (true, 16),
        (IpAddr::V6(_), TCP) => (false, 16),
        (IpAddr::V4(_), _) => (true, 2),
        (IpAddr::V6(_), _) => (false, 2),
    };
    if is_ipv4 {
        let ip = upper.start - 20;
        frame[ip + 10..ip + 12].fill(0);
        let checksum = !naive_sum(&[&frame[ip..upper.start]]);
        frame[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    let at = upper.start + field;
    if at + 2 > upper.end {
        return;
    }
    frame[at..at + 2].fill(0);
    let sum = if upper.protocol == ICMP {
        naive_sum(&[&frame[upper.start..upper.end]])
    } else {
        upper.sum(frame)
    };
    frame[at..at + 2].copy_from_slice(&(!sum).to_be_bytes());
}
