//! ICMPv4 messages as bytes, and back.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::{MacAddr, Packet, ParseConfig, VlanTags, checksum, parse};

const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

const LINK: LinkHeader = LinkHeader {
    dst: MacAddr([2, 0, 0, 0, 0, 1]),
    src: MacAddr([2, 0, 0, 0, 0, 9]),
    vlan: VlanTags::NONE,
};

/// "Fragmentation needed, next hop 1400" about 192.0.2.1:443 -> 203.0.113.5:50000, SEQ 0x01020304, as a
/// router sends it: TTL of the quote counted down, its total length the one of the segment.
const FRAGMENTATION_NEEDED_MESSAGE: [u8; 36] = [
    3, 4, 0x6c, 0x87, 0, 0, 0x05, 0x78, // type, code, checksum, unused, MTU
    0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 57, 6, 0x00, 0x00, 192, 0, 2, 1, 203, 0, 113,
    5, // IPv4
    0x01, 0xbb, 0xc3, 0x50, 1, 2, 3, 4, // TCP
];

/// A frame from the router to us around `message`, whose checksum is made right.
fn frame(message: &[u8]) -> Vec<u8> {
    let envelope = Envelope {
        link: &LINK,
        src: ROUTER.into(),
        dst: US.into(),
        protocol: ip::PROTOCOL_ICMP,
        ecn: Ecn::NotEct,
        hop_limit: 64,
    };
    let mut frame = vec![0; 34];
    envelope.emit(message.len(), &mut frame).unwrap();
    frame.extend_from_slice(message);
    frame[36..38].fill(0);
    let checksum = checksum::sum(&frame[34..]).finish();
    frame[36..38].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn parse_frame(frame: &[u8]) -> Result<Icmpv4Packet<'_>, DropReason> {
    match parse(frame, frame.len(), &ParseConfig::default())? {
        Packet::Icmpv4(packet) => Ok(packet),
        other => panic!("{other:?}"),
    }
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

/// The message with one change.
fn with(change: impl FnOnce(&mut [u8; 36])) -> [u8; 36] {
    let mut message = FRAGMENTATION_NEEDED_MESSAGE;
    change(&mut message);
    message
}

#[test]
fn fragmentation_needed_names_the_mtu_and_the_segment() {
    let frame = frame(&FRAGMENTATION_NEEDED_MESSAGE);
    assert_eq!(frame[34..], FRAGMENTATION_NEEDED_MESSAGE);
    let packet = parse_frame(&frame).unwrap();
    assert_eq!((packet.src, packet.dst), (ROUTER, US));
    let expected = IcmpError {
        kind: IcmpErrorKind::PacketTooBig { mtu: 1400 },
        quoted: quoted(),
    };
    assert_eq!(packet.message, Icmpv4Message::Error(expected));
}

#[test]
fn other_unreachable_codes_are_kept() {
    for code in [0, 1, 2, 3, 5, 13, 255] {
        let frame = frame(&with(|m| m[1] = code));
        let expected = IcmpError {
            kind: IcmpErrorKind::Unreachable { code },
            quoted: quoted(),
        };
        assert_eq!(
            parse_frame(&frame).unwrap().message,
            Icmpv4Message::Error(expected)
        );
    }
}

#[test]
fn a_quote_with_options_is_read_behind_them() {
    let mut message = FRAGMENTATION_NEEDED_MESSAGE.to_vec();
    message[8] = 0x46;
    message.splice(28..28, [7, 3, 4, 0]);
    let frame = frame(&message);
    let Icmpv4Message::Error(error) = parse_frame(&frame).unwrap().message else {
        panic!()
    };
    assert_eq!(error.quoted, quoted());
}

#[test]
fn quotes_that_name_no_segment_of_ours_are_refused() {
    let cases = [
        ("version 6", with(|m| m[8] = 0x65)),
        ("header of 16 bytes", with(|m| m[8] = 0x44)),
        ("options past the end", with(|m| m[8] = 0x4f)),
        ("a later fragment", with(|m| m[15] = 1)),
        ("UDP", with(|m| m[17] = 17)),
        ("another sender", with(|m| m[23] = 77)),
    ];
    for (what, message) in cases {
        assert_eq!(
            parse_frame(&frame(&message)),
            Err(DropReason::IcmpBadQuote),
            "{what}"
        );
    }
}

#[test]
fn a_quote_cut_anywhere_is_refused() {
    for len in HEADER..FRAGMENTATION_NEEDED_MESSAGE.len() {
        let frame = frame(&FRAGMENTATION_NEEDED_MESSAGE[..len]);
        assert_eq!(parse_frame(&frame), Err(DropReason::IcmpBadQuote), "{len}");
    }
}

const HEADER: usize = icmp::HEADER_LEN;

#[test]
fn redirects_source_quench_and_the_rest_are_unsupported() {
    for kind in [4, 5, 9, 10, 11, 12, 13, 17, 255] {
        let frame = frame(&with(|m| m[..2].copy_from_slice(&[kind, 0])));
        assert_eq!(
            parse_frame(&frame),
            Err(DropReason::IcmpUnsupported),
            "{kind}"
        );
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut frame = frame(&FRAGMENTATION_NEEDED_MESSAGE);
    frame[60] ^= 1;
    assert_eq!(parse_frame(&frame), Err(DropReason::IcmpBadChecksum));
}

#[test]
fn less_than_a_header_is_truncated() {
    for len in 4..HEADER {
        let frame = frame(&FRAGMENTATION_NEEDED_MESSAGE[..len]);
        assert_eq!(parse_frame(&frame), Err(DropReason::IcmpTruncated), "{len}");
    }
}

#[test]
fn an_echo_request_is_answered_with_its_own_data() {
    let request = frame(&[8, 0, 0, 0, 0x12, 0x34, 0, 7, b'a', b'b', b'c']);
    let reply = parse_frame(&request).unwrap().reply().unwrap();
    let echo = Echo {
        identifier: 0x1234,
        sequence: 7,
        data: b"abc",
    };
    assert_eq!(reply.message, Icmpv4Message::EchoReply(echo));
    assert_eq!(
        (reply.src, reply.dst, reply.link),
        (US, ROUTER, LINK.reply())
    );

    let mut out = [0; 100];
    let len = reply.emit(&mut out).unwrap();
    assert_eq!(len, request.len(), "never more out than in");
    assert_eq!(out[34..36], [0, 0]);
    assert_eq!(parse_frame(&out[..len]), Ok(reply));
    assert_eq!(reply.reply(), None, "a reply is not answered");
}

#[test]
fn an_echo_request_to_a_broadcast_is_not_answered() {
    let mut request = frame(&[8, 0, 0, 0, 0, 0, 0, 0]);
    request[..6].fill(0xff);
    assert_eq!(
        parse_frame(&request),
        Err(DropReason::EthernetGroupDestination)
    );
}

#[test]
fn errors_that_were_written_are_read_back() {
    for kind in [
        IcmpErrorKind::Unreachable { code: 3 },
        IcmpErrorKind::PacketTooBig { mtu: 1280 },
    ] {
        let error = IcmpError {
            kind,
            quoted: quoted(),
        };
        let packet = Icmpv4Packet {
            link: LINK,
            src: ROUTER,
            dst: US,
            message: Icmpv4Message::Error(error),
        };
        let mut out = [0; 70];
        let len = packet.emit(&mut out).unwrap();
        assert_eq!(parse_frame(&out[..len]), Ok(packet));
        assert_eq!(
            packet.emit(&mut out[..len - 1]),
            Err(EmitError::BufferTooSmall)
        );
    }
}

#[test]
fn an_error_about_the_other_ip_version_cannot_be_written() {
    let quoted = QuotedSegment {
        src: "2001:db8::1".parse().unwrap(),
        ..quoted()
    };
    let kind = IcmpErrorKind::Unreachable { code: 3 };
    let message = Icmpv4Message::Error(IcmpError { kind, quoted });
    let packet = Icmpv4Packet {
        link: LINK,
        src: ROUTER,
        dst: US,
        message,
    };
    assert_eq!(packet.emit(&mut [0; 100]), Err(EmitError::MixedFamilies));
}
