//! The order of the layers, payload across pieces, and the checksum policies.

use core::net::Ipv4Addr;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::checksum::sum;
use crate::{MacAddr, TcpEmit, VlanTag};

const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const NO_VLAN: ParseConfig = ParseConfig { vlan: false };

fn link() -> LinkHeader {
    LinkHeader {
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        vlan: VlanTags::NONE,
    }
}

/// A sealed segment with `payload`.
fn segment(link: &LinkHeader, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    let header = TcpHeader {
        src_port: 1,
        dst_port: 2,
        flags: TcpFlags::ACK,
        ..TcpHeader::default()
    };
    let emit = TcpEmit {
        link,
        src,
        dst,
        ecn: Ecn::NotEct,
        header: &header,
        payload_len: payload.len(),
    };
    let mut frame = vec![0; TcpEmit::MAX_HEADERS];
    let unsealed = emit.emit(&mut frame).unwrap();
    frame.truncate(unsealed.headers_len());
    unsealed.seal_full(&mut frame, sum(payload));
    frame.extend_from_slice(payload);
    frame
}

fn plain(payload: &[u8]) -> Vec<u8> {
    segment(&link(), SRC, DST, payload)
}

fn tcp(head: &[u8], frame_len: usize) -> TcpPacket {
    match parse(head, frame_len, &NO_VLAN) {
        Ok(Packet::Tcp(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_ip_length_cuts_off_padding() {
    let mut frame = plain(b"ab");
    frame.resize(60, 0xff);
    let packet = tcp(&frame, frame.len());
    assert_eq!(&frame[packet.payload()], b"ab");
    assert_eq!(
        packet.verify_checksum([&frame[..]], ChecksumPolicy::Verify),
        Ok(())
    );
}

#[test]
fn the_payload_may_lie_beyond_the_first_piece() {
    let payload = vec![7; 60_001];
    let frame = plain(&payload);
    let packet = tcp(&frame[..3840], frame.len());
    assert_eq!(packet.payload(), 54..54 + payload.len());
    assert_eq!(
        packet.verify_checksum(frame.chunks(3841), ChecksumPolicy::Verify),
        Ok(())
    );
}

#[test]
fn pieces_cut_anywhere_verify() {
    let frame = plain(b"some odd payload.");
    let packet = tcp(&frame, frame.len());
    for first in 0..=frame.len() {
        let pieces = [&frame[..first], &[], &frame[first..]];
        assert_eq!(
            packet.verify_checksum(pieces, ChecksumPolicy::Verify),
            Ok(()),
            "cut at {first}"
        );
    }
    for size in 1..frame.len() {
        assert_eq!(
            packet.verify_checksum(frame.chunks(size), ChecksumPolicy::Verify),
            Ok(()),
            "pieces of {size}"
        );
    }
}

#[test]
fn missing_pieces_are_noticed() {
    let frame = plain(b"payload");
    let packet = tcp(&frame, frame.len());
    for len in 0..frame.len() {
        assert_eq!(
            packet.verify_checksum([&frame[..len]], ChecksumPolicy::Verify),
            Err(DropReason::TcpPiecesMissing),
            "{len}"
        );
    }
}

#[test]
fn every_flipped_bit_of_the_segment_is_noticed() {
    let frame = plain(b"payload");
    let packet = tcp(&frame, frame.len());
    for bit in packet.tcp_offset * 8..frame.len() * 8 {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for policy in [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial] {
            assert_eq!(
                packet.verify_checksum([&flipped[..]], policy),
                Err(DropReason::TcpBadChecksum),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn headers_in_a_later_piece_are_not_linear() {
    let frame = plain(b"payload");
    for len in 0..54 {
        let parsed = parse(&frame[..len], frame.len(), &NO_VLAN);
        assert_eq!(parsed, Err(DropReason::HeadersNotLinear), "{len}");
    }
    assert!(parse(&frame[..54], frame.len(), &NO_VLAN).is_ok());
}

#[test]
fn bytes_of_the_head_beyond_the_frame_are_not_seen() {
    let frame = plain(b"payload");
    let parsed = parse(&frame, frame.len() - 1, &NO_VLAN);
    assert_eq!(parsed, Err(DropReason::Ipv4BadTotalLength));
}

#[test]
fn a_unicast_packet_in_a_group_frame_is_refused() {
    for dst in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
        let frame = segment(&LinkHeader { dst, ..link() }, SRC, DST, b"");
        assert_eq!(
            parse(&frame, frame.len(), &NO_VLAN),
            Err(DropReason::EthernetGroupDestination)
        );
    }
}

#[test]
fn bogus_addresses_are_refused_in_both_versions() {
    let v6 = |text: &str| text.parse().unwrap();
    let cases: [(IpAddr, IpAddr, DropReason); 6] = [
        (
            SRC,
            Ipv4Addr::BROADCAST.into(),
            DropReason::IpBadDestination,
        ),
        (Ipv4Addr::LOCALHOST.into(), DST, DropReason::IpBadSource),
        (SRC, SRC, DropReason::IpSourceIsDestination),
        (
            v6("2001:db8::1"),
            v6("ff02::1"),
            DropReason::IpBadDestination,
        ),
        (
            v6("::ffff:192.0.2.1"),
            v6("2001:db8::1"),
            DropReason::IpBadSource,
        ),
        (
            v6("2001:db8::1"),
            v6("2001:db8::1"),
            DropReason::IpSourceIsDestination,
        ),
    ];
    for (src, dst, reason) in cases {
        let frame = segment(&link(), src, dst, b"");
        assert_eq!(
            parse(&frame, frame.len(), &NO_VLAN),
            Err(reason),
            "{src} {dst}"
        );
    }
}

#[test]
fn other_ether_types_and_protocols_are_refused() {
    let mut lldp = plain(b"");
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(
        parse(&lldp, lldp.len(), &NO_VLAN),
        Err(DropReason::EtherTypeUnsupported)
    );

    let mut udp = plain(b"");
    udp[23] = 17;
    udp[24..26].fill(0);
    let checksum = sum(&udp[14..34]).finish();
    udp[24..26].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(
        parse(&udp, udp.len(), &NO_VLAN),
        Err(DropReason::IpProtocolUnsupported)
    );
}

#[test]
fn tags_shift_the_offsets() {
    let mut tagged = link();
    assert!(tagged.vlan.push(VlanTag {
        tpid: 0x8100,
        tci: 7
    }));
    let frame = segment(&tagged, SRC, DST, b"x");
    let parsed = parse(&frame, frame.len(), &ParseConfig { vlan: true });
    let Ok(Packet::Tcp(packet)) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!((packet.tcp_offset, packet.payload()), (38, 58..59));
    assert_eq!(packet.link, tagged);
}

#[test]
fn syn_and_fin_count_one_each_in_the_segment_length() {
    let frame = plain(b"abc");
    let mut packet = tcp(&frame, frame.len());
    for (flags, len) in [
        (TcpFlags::ACK, 3),
        (TcpFlags::SYN, 4),
        (TcpFlags::FIN | TcpFlags::ACK, 4),
        (TcpFlags::SYN | TcpFlags::FIN, 5),
    ] {
        packet.header.flags = flags;
        assert_eq!(packet.segment_len(), len, "{flags:?}");
    }
}
