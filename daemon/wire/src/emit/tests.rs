//! Headers as bytes, and both ways to seal them.

use core::net::Ipv4Addr;

use super::*;
use crate::checksum::sum;
use crate::vlan::VlanTag;
use crate::{ChecksumPolicy, MacAddr, Packet, ParseConfig, TcpFlags, TcpOptions, TcpPacket, parse};

const LINK: LinkHeader = LinkHeader {
    dst: MacAddr([2, 0, 0, 0, 0, 2]),
    src: MacAddr([2, 0, 0, 0, 0, 1]),
    vlan: VlanTags::NONE,
};
const V4: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
);
const PAYLOAD: &[u8] = b"hello";

fn v6() -> (IpAddr, IpAddr) {
    (
        "2001:db8::1".parse().unwrap(),
        "2001:db8::2".parse().unwrap(),
    )
}

fn header() -> TcpHeader {
    TcpHeader {
        src_port: 80,
        dst_port: 40_000,
        seq: 0x0102_0304,
        ack: 0x0506_0708,
        flags: TcpFlags::ACK,
        window: 0xffff,
        ..TcpHeader::default()
    }
}

/// Emits with `PAYLOAD`, seals and parses again.
fn round_trip(
    link: &LinkHeader,
    (src, dst): (IpAddr, IpAddr),
    seal: impl FnOnce(Unsealed, &mut [u8]),
    policy: ChecksumPolicy,
) -> (TcpPacket, Result<(), crate::DropReason>) {
    let header = header();
    let emit = TcpEmit {
        link,
        src,
        dst,
        ecn: Ecn::Ect0,
        header: &header,
        payload_len: PAYLOAD.len(),
    };
    let mut buf = [0; 200];
    let unsealed = emit.emit(&mut buf).unwrap();
    let end = unsealed.headers_len() + PAYLOAD.len();
    buf[unsealed.headers_len()..end].copy_from_slice(PAYLOAD);
    seal(unsealed, &mut buf);
    let parsed = parse(&buf[..end], end, &ParseConfig { vlan: true });
    let Ok(Packet::Tcp(packet)) = parsed else {
        panic!("{parsed:?}")
    };
    (packet, packet.verify_checksum([&buf[..end]], policy))
}

#[test]
fn an_ipv4_segment_is_written_byte_for_byte() {
    let header = header();
    let emit = TcpEmit {
        link: &LINK,
        src: V4.0,
        dst: V4.1,
        ecn: Ecn::Ect0,
        header: &header,
        payload_len: 2,
    };
    let mut buf = [0xee; 60];
    let unsealed = emit.emit(&mut buf).unwrap();
    assert_eq!((unsealed.tcp_offset(), unsealed.headers_len()), (34, 54));
    unsealed.seal_full(&mut buf, sum(b"hi"));
    let expected = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
        0x45, 0x02, 0, 42, 0, 0, 0x40, 0, 64, 6, 0xb6, 0xc8, 192, 0, 2, 1, 192, 0, 2,
        2, // IPv4
        0, 80, 0x9c, 0x40, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 0xff, 0xff, 0x16, 0xc1, 0,
        0, // TCP
    ];
    assert_eq!(buf[..54], expected);
    assert_eq!(buf[54..], [0xee; 6]);
}

#[test]
fn a_fully_sealed_segment_verifies() {
    for addresses in [V4, v6()] {
        let seal = |unsealed: Unsealed, buf: &mut [u8]| unsealed.seal_full(buf, sum(PAYLOAD));
        let (packet, verified) = round_trip(&LINK, addresses, seal, ChecksumPolicy::Verify);
        assert_eq!(verified, Ok(()));
        assert_eq!((packet.src, packet.dst), addresses);
        assert_eq!((packet.link, packet.header), (LINK, header()));
        assert_eq!((packet.ecn, packet.payload_len), (Ecn::Ect0, PAYLOAD.len()));
    }
}

#[test]
fn a_partially_sealed_segment_is_accepted_only_as_such() {
    for (policy, expected) in [
        (ChecksumPolicy::AcceptPartial, Ok(())),
        (
            ChecksumPolicy::Verify,
            Err(crate::DropReason::TcpBadChecksum),
        ),
    ] {
        for addresses in [V4, v6()] {
            let seal = |unsealed: Unsealed, buf: &mut [u8]| {
                unsealed.seal_partial(buf);
            };
            assert_eq!(round_trip(&LINK, addresses, seal, policy).1, expected);
        }
    }
}

#[test]
fn a_device_completes_a_partial_checksum_to_the_full_one() {
    for addresses in [V4, v6()] {
        let seal = |unsealed: Unsealed, buf: &mut [u8]| {
            let end = unsealed.headers_len() + PAYLOAD.len();
            let offload = unsealed.seal_partial(buf);
            // What the device does: sum from `start` to the end, complement, store at `start + offset`.
            let start = usize::from(offload.start);
            let at = start + usize::from(offload.offset);
            let checksum = sum(&buf[start..end]).finish();
            buf[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        };
        assert_eq!(
            round_trip(&LINK, addresses, seal, ChecksumPolicy::Verify).1,
            Ok(())
        );
    }
}

#[test]
fn tags_move_everything_behind_them() {
    let mut link = LINK;
    for expected in [38, 42] {
        assert!(link.vlan.push(VlanTag {
            tpid: 0x8100,
            tci: 5
        }));
        let seal = |unsealed: Unsealed, buf: &mut [u8]| {
            assert_eq!(unsealed.tcp_offset(), expected);
            unsealed.seal_full(buf, sum(PAYLOAD));
        };
        let (packet, verified) = round_trip(&link, V4, seal, ChecksumPolicy::Verify);
        assert_eq!((packet.link, verified), (link, Ok(())));
    }
}

#[test]
fn the_longest_headers_fit_the_constant() {
    let mut link = LINK;
    while link.vlan.push(VlanTag {
        tpid: 0x88a8,
        tci: 5,
    }) {}
    let mut header = header();
    header.options = TcpOptions {
        timestamps: Some(crate::Timestamps::default()),
        ..TcpOptions::default()
    };
    for _ in 0..3 {
        header.options.sack.push(crate::SackBlock::default());
    }
    let (src, dst) = v6();
    let emit = TcpEmit {
        link: &link,
        src,
        dst,
        ecn: Ecn::NotEct,
        header: &header,
        payload_len: 0,
    };
    let unsealed = emit.emit(&mut [0; TcpEmit::MAX_HEADERS]).unwrap();
    assert_eq!(unsealed.headers_len(), TcpEmit::MAX_HEADERS);
}

#[test]
fn a_buffer_short_of_the_headers_is_refused_at_every_length() {
    let header = header();
    for ((src, dst), headers_len) in [(V4, 54), (v6(), 74)] {
        let emit = TcpEmit {
            link: &LINK,
            src,
            dst,
            ecn: Ecn::NotEct,
            header: &header,
            payload_len: 9000,
        };
        let mut buf = [0; 100];
        for len in 0..headers_len {
            let result = emit.emit(&mut buf[..len]);
            assert_eq!(result.err(), Some(EmitError::BufferTooSmall), "{len}");
        }
        assert!(emit.emit(&mut buf[..headers_len]).is_ok());
    }
}

#[test]
fn a_payload_beyond_the_length_field_is_refused() {
    let header = header();
    for ((src, dst), most) in [(V4, 65_535 - 40), (v6(), 65_535 - 20)] {
        let emit = |payload_len| {
            let emit = TcpEmit {
                link: &LINK,
                src,
                dst,
                ecn: Ecn::NotEct,
                header: &header,
                payload_len,
            };
            emit.emit(&mut [0; 100]).err()
        };
        assert_eq!(emit(most), None);
        for too_long in [most + 1, usize::MAX - 20, usize::MAX] {
            assert_eq!(emit(too_long), Some(EmitError::TooLong));
        }
    }
}

#[test]
fn mixed_families_are_refused() {
    let header = header();
    let emit = TcpEmit {
        link: &LINK,
        src: V4.0,
        dst: v6().1,
        ecn: Ecn::NotEct,
        header: &header,
        payload_len: 0,
    };
    assert_eq!(
        emit.emit(&mut [0; 200]).err(),
        Some(EmitError::MixedFamilies)
    );
}
