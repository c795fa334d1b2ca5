//! Bytes that nobody honest sends: nothing panics, nothing cut short is accepted, nothing reaches beyond
//! the frame (tcp-and-robustness, group C: truncation anywhere, lying lengths, padding, absurd options).

mod common;

use common::*;
use proptest::prelude::*;
use sluice_wire::{
    ArpPacket, ChecksumPolicy, DropReason, Icmpv4Packet, Icmpv6Packet, LinkHeader,
    MAX_PARSED_HEADERS, Packet, ParseConfig, parse,
};

const VLAN: ParseConfig = ParseConfig { vlan: true };

/// What must hold of any result, whatever the bytes.
fn check(head: &[u8], frame_len: usize) {
    match parse(head, frame_len, &VLAN) {
        Ok(Packet::Tcp(packet)) => {
            assert!(packet.tcp_offset + 20 <= packet.payload_offset);
            assert!(
                packet.payload_offset <= head.len(),
                "headers are in the head"
            );
            assert!(packet.payload().end <= frame_len, "payload is in the frame");
            assert!(packet.payload_offset <= MAX_PARSED_HEADERS);
            let _ = packet.segment_len();
            for policy in [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial] {
                let _ = packet.verify_checksum(head.chunks(7), policy);
            }
        }
        Ok(Packet::Arp(packet)) => assert_eq!(round_trip_arp(&packet), packet),
        Ok(Packet::Icmpv4(packet)) => check_icmpv4(&packet),
        Ok(Packet::Icmpv6(packet)) => check_icmpv6(&packet),
        Err(reason) => assert_eq!(DropReason::ALL[reason.index()], reason),
    }
}

fn round_trip_arp(packet: &ArpPacket) -> ArpPacket {
    let mut buf = [0; 64];
    let len = packet.emit(&mut buf).expect("fits");
    match parse(&buf[..len], len, &VLAN) {
        Ok(Packet::Arp(read)) => read,
        other => panic!("{other:?}"),
    }
}

fn check_icmpv4(packet: &Icmpv4Packet<'_>) {
    let mut buf = vec![0; 70_000];
    let len = packet
        .emit(&mut buf)
        .expect("what was received can be written");
    assert_eq!(parse(&buf[..len], len, &VLAN), Ok(Packet::Icmpv4(*packet)));
    if let Some(reply) = packet.reply() {
        assert_eq!(reply.emit(&mut buf), Ok(len));
    }
}

fn check_icmpv6(packet: &Icmpv6Packet<'_>) {
    let mut buf = vec![0; 70_000];
    let len = packet
        .emit(&mut buf)
        .expect("what was received can be written");
    assert_eq!(parse(&buf[..len], len, &VLAN), Ok(Packet::Icmpv6(*packet)));
    if let Some(reply) = packet.reply(MAC_B) {
        reply
            .emit(&mut buf)
            .expect("what was received can be answered");
    }
}

#[test]
fn every_kind_is_accepted_whole() {
    for (name, frame) in every_kind() {
        assert!(parse(&frame, frame.len(), &VLAN).is_ok(), "{name}");
    }
}

#[test]
fn every_kind_cut_at_every_byte_is_refused() {
    for (name, frame) in every_kind() {
        for len in 0..frame.len() {
            let cut = parse(&frame[..len], len, &VLAN);
            assert!(cut.is_err(), "{name} cut to {len}: {cut:?}");
            assert_ne!(
                cut,
                Err(DropReason::HeadersNotLinear),
                "{name} cut to {len}"
            );
        }
    }
}

#[test]
fn every_kind_with_a_head_cut_at_every_byte_is_not_linear_or_the_same() {
    for (name, frame) in every_kind() {
        let whole = parse(&frame, frame.len(), &VLAN);
        for len in 0..frame.len() {
            let cut = parse(&frame[..len], frame.len(), &VLAN);
            let same = matches!(whole, Ok(Packet::Tcp(_))) && cut == whole;
            assert!(
                same || cut == Err(DropReason::HeadersNotLinear),
                "{name} head {len}: {cut:?}"
            );
        }
    }
}

#[test]
fn every_kind_with_padding_is_the_same_packet() {
    for (name, frame) in every_kind() {
        let padded = [&frame[..], &[0xa5; 50]].concat();
        assert_eq!(
            parse(&padded, padded.len(), &VLAN),
            parse(&frame, frame.len(), &VLAN),
            "{name}"
        );
    }
}

#[test]
fn every_kind_with_every_byte_set_to_every_value_holds_the_invariants() {
    for (_, frame) in every_kind() {
        let mut damaged = frame.clone();
        for place in 0..frame.len() {
            for value in 0..=u8::MAX {
                damaged[place] = value;
                check(&damaged, damaged.len());
            }
            damaged[place] = frame[place];
        }
    }
}

#[test]
fn a_frame_length_that_lies_either_way_holds_the_invariants() {
    for (_, frame) in every_kind() {
        for frame_len in (0..2 * frame.len()).chain([65_535, 70_000, usize::MAX]) {
            check(&frame, frame_len);
        }
    }
}

/// A link header of random stations and an EtherType we look into, so that random bytes get past it.
fn open_link() -> impl Strategy<Value = Vec<u8>> {
    let ether_type = prop_oneof![
        Just(0x0800_u16),
        Just(0x86dd),
        Just(0x0806),
        Just(0x8100),
        Just(0x88a8)
    ];
    (link(), ether_type).prop_map(|(link, ether_type): (LinkHeader, u16)| {
        [&link.dst.0[..], &link.src.0, &ether_type.to_be_bytes()].concat()
    })
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn any_bytes_hold_the_invariants(bytes in proptest::collection::vec(any::<u8>(), 0..400), more in 0..2000_usize) {
        check(&bytes, bytes.len() + more);
        check(&bytes, bytes.len().saturating_sub(more));
    }

    #[test]
    fn any_bytes_behind_a_link_header_hold_the_invariants(
        link in open_link(),
        version in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        more in 0..2000_usize,
    ) {
        let frame = [&link[..], &[version], &bytes].concat();
        check(&frame, frame.len() + more);
    }

    #[test]
    fn any_extension_chain_holds_the_invariants(
        first in prop_oneof![Just(0_u8), Just(43), Just(60)],
        chain in proptest::collection::vec(
            (prop_oneof![Just(0_u8), Just(43), Just(44), Just(60), Just(6), Just(58)], 0..4_u8, any::<[u8; 6]>()),
            0..40,
        ),
    ) {
        let mut frame = Segment::plain(V6_A.into(), V6_B.into(), b"").to_frame();
        frame.truncate(54);
        frame[20] = first;
        for (next, len, bytes) in chain {
            frame.extend([next, len]);
            frame.extend(bytes);
        }
        let payload_len = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
        check(&frame, frame.len());
    }

    #[test]
    fn any_option_field_holds_the_invariants(
        options in proptest::collection::vec(prop_oneof![0..11_u8, any::<u8>()], 0..=40),
    ) {
        let mut frame = Segment::plain(V6_A.into(), V6_B.into(), b"").to_frame();
        frame.truncate(74);
        frame.extend(&options);
        frame.resize(74 + 40, 0);
        frame[54 + 12] = 0xf0;
        let payload_len = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
        check(&frame, frame.len());
    }
}
