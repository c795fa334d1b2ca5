//! ICMPv6 messages and neighbor discovery as bytes, and back.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::{Packet, ParseConfig, VlanTags, parse, solicited_node};

const US: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

const LINK: LinkHeader = LinkHeader {
    dst: OUR_MAC,
    src: PEER_MAC,
    vlan: VlanTags::NONE,
};

/// A frame around `message`, whose checksum is made right.
fn frame_between(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let link = if dst.is_multicast() {
        LinkHeader {
            dst: MacAddr::ipv6_multicast(dst),
            ..LINK
        }
    } else {
        LINK
    };
    let envelope = Envelope {
        link: &link,
        src: src.into(),
        dst: dst.into(),
        protocol: PROTOCOL_ICMPV6,
        ecn: Ecn::NotEct,
        hop_limit,
    };
    let mut frame = vec![0; 54];
    envelope.emit(message.len(), &mut frame).unwrap();
    frame.extend_from_slice(message);
    frame[56..58].fill(0);
    let len = u32::try_from(message.len()).unwrap();
    let mut total = checksum::pseudo_header(src.into(), dst.into(), PROTOCOL_ICMPV6, len);
    total.add_bytes(&frame[54..]);
    frame[56..58].copy_from_slice(&total.finish().to_be_bytes());
    frame
}

fn frame(message: &[u8]) -> Vec<u8> {
    frame_between(PEER, US, 64, message)
}

fn parse_frame(frame: &[u8]) -> Result<Icmpv6Packet<'_>, DropReason> {
    match parse(frame, frame.len(), &ParseConfig::default())? {
        Packet::Icmpv6(packet) => Ok(packet),
        other => panic!("{other:?}"),
    }
}

/// A solicitation for `US` with the source's link-layer address.
fn solicitation() -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(US.octets());
    message.extend([1, 1, 2, 0, 0, 0, 0, 9]);
    message
}

/// A solicited advertisement of `PEER` with override.
fn advertisement() -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(PEER.octets());
    message.extend([2, 1, 2, 0, 0, 0, 0, 9]);
    message
}

/// "Packet too big, 1400" about US:443 -> CLIENT:50000, SEQ 0x01020304.
fn packet_too_big() -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x78];
    message.extend([0x60, 0, 0, 0, 0x05, 0xb4, 6, 57]);
    message.extend(US.octets());
    message.extend(CLIENT.octets());
    message.extend([0x01, 0xbb, 0xc3, 0x50, 1, 2, 3, 4]);
    message
}

fn quoted() -> QuotedSegment {
    QuotedSegment {
        src: US.into(),
        dst: CLIENT.into(),
        src_port: 443,
        dst_port: 50_000,
        seq: 0x0102_0304,
    }
}

#[test]
fn a_solicitation_is_read() {
    let frame = frame_between(PEER, solicited_node(US), 255, &solicitation());
    assert_eq!(&frame[..6], &[0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    let expected = NeighborSolicitation {
        target: US,
        source_mac: Some(PEER_MAC),
    };
    assert_eq!(
        parse_frame(&frame).unwrap().message,
        Icmpv6Message::NeighborSolicitation(expected)
    );
}

#[test]
fn the_answer_to_a_solicitation_is_written_byte_for_byte() {
    let frame = frame_between(PEER, solicited_node(US), 255, &solicitation());
    let reply = parse_frame(&frame).unwrap().reply(OUR_MAC).unwrap();
    let mut out = [0; 100];
    let len = reply.emit(&mut out).unwrap();
    assert_eq!(len, 14 + 40 + 32);
    assert_eq!(out[..14], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
    assert_eq!(out[14..22], [0x60, 0, 0, 0, 0, 32, 58, 255]);
    assert_eq!(out[22..38], US.octets());
    assert_eq!(out[38..54], PEER.octets());
    assert_eq!(out[54..56], [136, 0]);
    assert_eq!(out[58..62], [0x60, 0, 0, 0], "solicited and override");
    assert_eq!(out[62..78], US.octets());
    assert_eq!(out[78..86], [2, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(parse_frame(&out[..len]), Ok(reply));
}

#[test]
fn a_duplicate_address_probe_is_answered_to_all_nodes() {
    let message = &solicitation()[..24];
    let frame = frame_between(Ipv6Addr::UNSPECIFIED, solicited_node(US), 255, message);
    let reply = parse_frame(&frame).unwrap().reply(OUR_MAC).unwrap();
    assert_eq!(reply.dst, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    assert_eq!(reply.link.dst, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    let Icmpv6Message::NeighborAdvertisement(advertisement) = reply.message else {
        panic!()
    };
    assert!(!advertisement.solicited && advertisement.override_);
    let mut out = [0; 86];
    assert_eq!(reply.emit(&mut out), Ok(86));
    assert_eq!(parse_frame(&out), Ok(reply));
}

#[test]
fn an_advertisement_is_read() {
    let frame = frame_between(PEER, US, 255, &advertisement());
    let expected = NeighborAdvertisement {
        target: PEER,
        router: false,
        solicited: true,
        override_: true,
        target_mac: Some(PEER_MAC),
    };
    let packet = parse_frame(&frame).unwrap();
    assert_eq!(
        packet.message,
        Icmpv6Message::NeighborAdvertisement(expected)
    );
    assert_eq!(packet.reply(OUR_MAC), None);
}

#[test]
fn neighbor_discovery_over_a_router_is_refused() {
    for message in [solicitation(), advertisement()] {
        for hop_limit in [1, 64, 254] {
            let frame = frame_between(PEER, US, hop_limit, &message);
            assert_eq!(parse_frame(&frame), Err(DropReason::NdpBadHopLimit));
        }
    }
}

#[test]
fn each_broken_solicitation_has_its_reason() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = solicitation();
        change(&mut message);
        message
    };
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let cases: [(&str, Ipv6Addr, Ipv6Addr, Vec<u8>, DropReason); 11] = [
        (
            "code",
            PEER,
            US,
            with(&|m| m[1] = 1),
            DropReason::NdpMalformed,
        ),
        (
            "multicast target",
            PEER,
            US,
            with(&|m| m[8] = 0xff),
            DropReason::NdpMalformed,
        ),
        (
            "target cut",
            PEER,
            US,
            with(&|m| m.truncate(23)),
            DropReason::IcmpTruncated,
        ),
        (
            "option of length 0",
            PEER,
            US,
            with(&|m| m[25] = 0),
            DropReason::NdpMalformed,
        ),
        (
            "option past the end",
            PEER,
            US,
            with(&|m| m[25] = 2),
            DropReason::NdpMalformed,
        ),
        (
            "half an option",
            PEER,
            US,
            with(&|m| m.truncate(25)),
            DropReason::NdpMalformed,
        ),
        (
            "length 0 behind",
            PEER,
            US,
            with(&|m| m.extend([200, 0, 0, 0, 0, 0, 0, 0])),
            DropReason::NdpMalformed,
        ),
        (
            "group MAC",
            PEER,
            US,
            with(&|m| m[26] = 3),
            DropReason::NdpMalformed,
        ),
        (
            "probe with a MAC",
            unspecified,
            solicited_node(US),
            solicitation(),
            DropReason::NdpMalformed,
        ),
        (
            "probe by unicast",
            unspecified,
            US,
            with(&|m| m.truncate(24)),
            DropReason::NdpMalformed,
        ),
        (
            "multicast source",
            "ff02::1".parse().unwrap(),
            US,
            solicitation(),
            DropReason::IpBadSource,
        ),
    ];
    for (what, src, dst, message, reason) in cases {
        let frame = frame_between(src, dst, 255, &message);
        assert_eq!(parse_frame(&frame), Err(reason), "{what}");
    }
}

#[test]
fn each_broken_advertisement_has_its_reason() {
    let all_nodes = "ff02::1".parse().unwrap();
    let solicited_to_all = frame_between(PEER, all_nodes, 255, &advertisement());
    assert_eq!(
        parse_frame(&solicited_to_all),
        Err(DropReason::NdpMalformed)
    );
    let unspecified = frame_between(Ipv6Addr::UNSPECIFIED, US, 255, &advertisement());
    assert_eq!(parse_frame(&unspecified), Err(DropReason::IpBadSource));
    let to_loopback = frame_between(PEER, Ipv6Addr::LOCALHOST, 255, &advertisement());
    assert_eq!(parse_frame(&to_loopback), Err(DropReason::IpBadDestination));
}

#[test]
fn unknown_options_are_skipped() {
    let mut message = solicitation();
    message.splice(24..24, [14, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let frame = frame_between(PEER, US, 255, &message);
    let Icmpv6Message::NeighborSolicitation(read) = parse_frame(&frame).unwrap().message else {
        panic!()
    };
    assert_eq!(read.source_mac, Some(PEER_MAC));
}

#[test]
fn packet_too_big_names_the_mtu_and_the_segment() {
    let expected = IcmpError {
        kind: IcmpErrorKind::PacketTooBig { mtu: 1400 },
        quoted: quoted(),
    };
    assert_eq!(
        parse_frame(&frame(&packet_too_big())).unwrap().message,
        Icmpv6Message::Error(expected)
    );
}

#[test]
fn unreachable_codes_are_kept() {
    for code in [0, 1, 3, 4, 6] {
        let mut message = packet_too_big();
        message[..2].copy_from_slice(&[1, code]);
        let expected = IcmpError {
            kind: IcmpErrorKind::Unreachable { code },
            quoted: quoted(),
        };
        assert_eq!(
            parse_frame(&frame(&message)).unwrap().message,
            Icmpv6Message::Error(expected)
        );
    }
}

#[test]
fn quotes_that_name_no_segment_of_ours_are_refused() {
    let changes: [(&str, usize, u8); 4] = [
        ("version 4", 8, 0x45),
        ("UDP", 14, 17),
        ("a fragment header", 14, 44),
        ("another sender", 31, 77),
    ];
    for (what, at, value) in changes {
        let mut message = packet_too_big();
        message[at] = value;
        assert_eq!(
            parse_frame(&frame(&message)),
            Err(DropReason::IcmpBadQuote),
            "{what}"
        );
    }
}

#[test]
fn a_quote_cut_anywhere_is_refused() {
    let message = packet_too_big();
    for len in icmp::HEADER_LEN..message.len() {
        assert_eq!(
            parse_frame(&frame(&message[..len])),
            Err(DropReason::IcmpBadQuote),
            "{len}"
        );
    }
}

#[test]
fn an_echo_request_is_answered_with_its_own_data() {
    let request = frame(&[128, 0, 0, 0, 0x12, 0x34, 0, 7, b'a', b'b', b'c']);
    let reply = parse_frame(&request).unwrap().reply(OUR_MAC).unwrap();
    let echo = Echo {
        identifier: 0x1234,
        sequence: 7,
        data: b"abc",
    };
    assert_eq!(reply.message, Icmpv6Message::EchoReply(echo));
    assert_eq!((reply.src, reply.dst), (US, PEER));
    let mut out = [0; 100];
    let len = reply.emit(&mut out).unwrap();
    assert_eq!(len, request.len(), "never more out than in");
    assert_eq!(parse_frame(&out[..len]), Ok(reply));
}

#[test]
fn an_echo_request_to_a_group_is_not_answered() {
    let all_nodes = "ff02::1".parse().unwrap();
    let request = frame_between(PEER, all_nodes, 64, &[128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(parse_frame(&request), Err(DropReason::IpBadDestination));
}

#[test]
fn router_advertisements_redirects_and_the_rest_are_unsupported() {
    for kind in [3, 4, 130, 133, 134, 137, 143] {
        let mut message = packet_too_big();
        message[0] = kind;
        assert_eq!(
            parse_frame(&frame(&message)),
            Err(DropReason::IcmpUnsupported),
            "{kind}"
        );
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut frame = frame(&packet_too_big());
    frame[100] ^= 0x80;
    assert_eq!(parse_frame(&frame), Err(DropReason::IcmpBadChecksum));
}

#[test]
fn errors_that_were_written_are_read_back() {
    for kind in [
        IcmpErrorKind::Unreachable { code: 4 },
        IcmpErrorKind::PacketTooBig { mtu: 100_000 },
    ] {
        let error = IcmpError {
            kind,
            quoted: quoted(),
        };
        let packet = Icmpv6Packet {
            link: LINK,
            src: PEER,
            dst: US,
            message: Icmpv6Message::Error(error),
        };
        let mut out = [0; 110];
        let len = packet.emit(&mut out).unwrap();
        assert_eq!(parse_frame(&out[..len]), Ok(packet));
        assert_eq!(
            packet.emit(&mut out[..len - 1]),
            Err(EmitError::BufferTooSmall)
        );
    }
}
