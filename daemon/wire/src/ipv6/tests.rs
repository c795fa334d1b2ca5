//! Extension header chains as bytes.

use std::vec;
use std::vec::Vec;

use super::*;

const TCP: u8 = 6;

fn header(next_header: u8, payload_len: usize) -> Vec<u8> {
    let fields = Fields {
        src: "2001:db8::1".parse().unwrap(),
        dst: "2001:db8::2".parse().unwrap(),
        next_header,
        ecn: Ecn::Ce,
        hop_limit: 64,
        payload_len: u16::try_from(payload_len).unwrap(),
    };
    let mut header = [0xee; HEADER_LEN];
    fields.emit(&mut header);
    header.to_vec()
}

/// A datagram: fixed header, the given extension bytes, then `after` as the upper layer.
fn datagram(first: u8, extensions: &[u8], after: &[u8]) -> Vec<u8> {
    [
        &header(first, extensions.len() + after.len())[..],
        extensions,
        after,
    ]
    .concat()
}

/// An extension header of `len` bytes, filled with Pad1 options.
fn padding(next_header: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[0] = next_header;
    bytes[1] = u8::try_from(len / 8 - 1).unwrap();
    bytes
}

fn parse_all(bytes: &[u8]) -> Result<Datagram<Ipv6Addr>, DropReason> {
    parse(&Frame::new(bytes, bytes.len()), 0)
}

#[test]
fn a_plain_header_is_read() {
    let datagram = parse_all(&datagram(TCP, &[], &[1, 2, 3])).unwrap();
    assert_eq!(
        (datagram.src, datagram.dst),
        (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap()
        )
    );
    assert_eq!(
        (datagram.protocol, datagram.hop_limit, datagram.ecn),
        (TCP, 64, Ecn::Ce)
    );
    assert_eq!((datagram.payload, datagram.end), (40, 43));
}

#[test]
fn a_plain_header_is_written_byte_for_byte() {
    let mut expected = [0; 40];
    expected[..8].copy_from_slice(&[0x60, 0x30, 0, 0, 0, 5, 6, 64]);
    expected[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    expected[23] = 1;
    expected[24..28].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    expected[39] = 2;
    assert_eq!(header(TCP, 5), expected);
}

#[test]
fn each_broken_field_has_its_reason() {
    let mut version = datagram(TCP, &[], &[]);
    version[0] = 0x45;
    assert_eq!(parse_all(&version), Err(DropReason::Ipv6BadVersion));

    let mut hop_limit = datagram(TCP, &[], &[]);
    hop_limit[7] = 0;
    assert_eq!(parse_all(&hop_limit), Err(DropReason::Ipv6ZeroHopLimit));

    let mut length = datagram(TCP, &[], &[1, 2]);
    length[5] = 3;
    assert_eq!(parse_all(&length), Err(DropReason::Ipv6BadPayloadLength));

    assert_eq!(
        parse_all(&header(TCP, 0)[..39]),
        Err(DropReason::Ipv6Truncated)
    );
}

#[test]
fn options_and_spent_routing_headers_are_walked_over() {
    let spent_segment_routing = [DESTINATION, 0, 4, 0, 0, 0, 0, 0];
    let pad_n_and_router_alert = [TCP, 0, 5, 2, 0, 0, 1, 0];
    let extensions = [
        &padding(ROUTING, 16)[..],
        &spent_segment_routing,
        &pad_n_and_router_alert,
    ]
    .concat();
    let datagram = parse_all(&datagram(HOP_BY_HOP, &extensions, &[9; 4])).unwrap();
    assert_eq!(
        (datagram.protocol, datagram.payload, datagram.end),
        (TCP, 72, 76)
    );
}

#[test]
fn eight_headers_pass_and_nine_do_not() {
    for (count, expected) in [(8, Ok(TCP)), (9, Err(DropReason::Ipv6TooManyExtensions))] {
        let mut chain = padding(DESTINATION, 8).repeat(count - 1);
        chain.extend(padding(TCP, 8));
        assert_eq!(
            parse_all(&datagram(DESTINATION, &chain, &[])).map(|d| d.protocol),
            expected,
            "{count}"
        );
    }
}

#[test]
fn two_hundred_fifty_six_bytes_pass_and_more_do_not() {
    let passes = [padding(DESTINATION, 128), padding(TCP, 128)].concat();
    assert!(parse_all(&datagram(DESTINATION, &passes, &[])).is_ok());
    let fails = [padding(DESTINATION, 128), padding(TCP, 136)].concat();
    assert_eq!(
        parse_all(&datagram(DESTINATION, &fails, &[])),
        Err(DropReason::Ipv6TooManyExtensions)
    );
}

#[test]
fn each_hostile_extension_has_its_reason() {
    let cases: [(&str, u8, &[u8], DropReason); 13] = [
        (
            "fragment",
            FRAGMENT,
            &[TCP, 0, 0, 8, 0, 0, 0, 1],
            DropReason::Ipv6Fragment,
        ),
        (
            "atomic fragment",
            FRAGMENT,
            &[TCP, 0, 0, 0, 0, 0, 0, 1],
            DropReason::Ipv6Fragment,
        ),
        (
            "routing type 0, spent",
            ROUTING,
            &[TCP, 0, 0, 0, 0, 0, 0, 0],
            DropReason::Ipv6SourceRoute,
        ),
        (
            "segments left",
            ROUTING,
            &[TCP, 0, 4, 1, 0, 0, 0, 0],
            DropReason::Ipv6SourceRoute,
        ),
        (
            "jumbo option",
            HOP_BY_HOP,
            &[TCP, 0, 0xc2, 4, 0, 1, 0, 0],
            DropReason::Ipv6Jumbogram,
        ),
        (
            "unknown option, drop",
            DESTINATION,
            &[TCP, 0, 0x41, 0, 1, 2, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
        (
            "unknown option, drop and report",
            DESTINATION,
            &[TCP, 0, 0x81, 0, 1, 2, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
        (
            "home address option",
            DESTINATION,
            &[TCP, 0, 0xc9, 4, 0, 0, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
        (
            "option past the end",
            DESTINATION,
            &[TCP, 0, 1, 5, 0, 0, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
        (
            "option without length",
            DESTINATION,
            &[TCP, 0, 0, 0, 0, 0, 0, 1],
            DropReason::Ipv6BadExtension,
        ),
        (
            "header past the end",
            DESTINATION,
            &[TCP, 1, 0, 0, 0, 0, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
        (
            "header cut",
            DESTINATION,
            &[TCP, 0, 0, 0, 0, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
        (
            "hop-by-hop second",
            DESTINATION,
            &[HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 0, TCP, 0, 0, 0, 0, 0, 0, 0],
            DropReason::Ipv6BadExtension,
        ),
    ];
    for (what, first, extension, reason) in cases {
        assert_eq!(
            parse_all(&datagram(first, extension, &[])),
            Err(reason),
            "{what}"
        );
    }
}

#[test]
fn a_jumbogram_announces_itself_by_length_zero() {
    let mut bytes = datagram(HOP_BY_HOP, &[TCP, 0, 0xc2, 4, 0, 1, 0, 0], &[]);
    bytes[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(parse_all(&bytes), Err(DropReason::Ipv6Jumbogram));
}

#[test]
fn a_chain_in_a_later_piece_is_not_linear() {
    let bytes = datagram(DESTINATION, &padding(TCP, 64), &[0; 20]);
    let parsed = parse(&Frame::new(&bytes[..80], bytes.len()), 0);
    assert_eq!(parsed, Err(DropReason::HeadersNotLinear));
}
