//! Generators and frames shared by the integration tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sluice_wire::checksum::sum;
use sluice_wire::{
    ArpOperation, ArpPacket, Echo, Ecn, IcmpError, IcmpErrorKind, Icmpv4Message, Icmpv4Packet,
    Icmpv6Message, Icmpv6Packet, LinkHeader, MacAddr, NeighborAdvertisement, NeighborSolicitation,
    QuotedSegment, SackBlock, TcpEmit, TcpFlags, TcpHeader, TcpOptions, Timestamps, VlanTag,
    VlanTags,
};

pub const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
pub const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
pub const LINK: LinkHeader = LinkHeader {
    dst: MAC_B,
    src: MAC_A,
    vlan: VlanTags::NONE,
};

/// Failing seeds are printed and kept beside the test that found them.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

pub fn station() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(|mut octets| {
        octets[0] &= !1;
        MacAddr(octets)
    })
}

fn tag() -> impl Strategy<Value = VlanTag> {
    (prop_oneof![Just(0x8100), Just(0x88a8)], any::<u16>())
        .prop_map(|(tpid, tci)| VlanTag { tpid, tci })
}

pub fn link() -> impl Strategy<Value = LinkHeader> {
    let tags = proptest::collection::vec(tag(), 0..=2);
    (station(), station(), tags).prop_map(|(dst, src, tags)| {
        let mut vlan = VlanTags::NONE;
        for tag in tags {
            assert!(vlan.push(tag));
        }
        LinkHeader { dst, src, vlan }
    })
}

/// Two different unicast addresses of one version.
pub fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    // 1.0.0.0 to 126.255.255.255, and 2000::/3.
    let v4 =
        || (0x0100_0000..0x7f00_0000_u32).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 =
        || any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits((bits >> 3) | 1 << 125)));
    prop_oneof![(v4(), v4()), (v6(), v6())].prop_filter("different", |(src, dst)| src != dst)
}

pub fn ecn() -> impl Strategy<Value = Ecn> {
    any::<u8>().prop_map(Ecn::from_tos)
}

pub fn options() -> impl Strategy<Value = TcpOptions> {
    let timestamps = any::<(u32, u32)>().prop_map(|(value, echo)| Timestamps { value, echo });
    let block = any::<(u32, u32)>().prop_map(|(start, end)| SackBlock { start, end });
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        proptest::option::of(timestamps),
        proptest::collection::vec(block, 0..=2),
    )
        .prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| {
            let mut options = TcpOptions {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                ..TcpOptions::default()
            };
            for block in blocks {
                assert!(options.sack.push(block));
            }
            options
        })
}

pub fn header() -> impl Strategy<Value = TcpHeader> {
    (
        any::<(u16, u16, u32, u32)>(),
        any::<(u16, u16, u16)>(),
        options(),
    )
        .prop_map(|(numbers, rest, options)| TcpHeader {
            src_port: numbers.0,
            dst_port: numbers.1,
            seq: numbers.2,
            ack: numbers.3,
            flags: TcpFlags::from_bits(rest.0),
            window: rest.1,
            urgent: rest.2,
            options,
        })
}

/// Everything that makes a segment.
#[derive(Clone, Debug)]
pub struct Segment {
    pub link: LinkHeader,
    pub addresses: (IpAddr, IpAddr),
    pub ecn: Ecn,
    pub header: TcpHeader,
    pub payload: Vec<u8>,
}

pub fn segment() -> impl Strategy<Value = Segment> {
    let payload = proptest::collection::vec(any::<u8>(), 0..300);
    (link(), addresses(), ecn(), header(), payload).prop_map(
        |(link, addresses, ecn, header, payload)| Segment {
            link,
            addresses,
            ecn,
            header,
            payload,
        },
    )
}

impl Segment {
    /// A plain segment with timestamps and `payload`.
    pub fn plain(src: IpAddr, dst: IpAddr, payload: &[u8]) -> Segment {
        let header = TcpHeader {
            src_port: 80,
            dst_port: 40_000,
            flags: TcpFlags::ACK,
            options: TcpOptions {
                timestamps: Some(Timestamps::default()),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        };
        Segment {
            link: LINK,
            addresses: (src, dst),
            ecn: Ecn::NotEct,
            header,
            payload: payload.to_vec(),
        }
    }

    /// The frame, with a complete checksum.
    pub fn to_frame(&self) -> Vec<u8> {
        let emit = TcpEmit {
            link: &self.link,
            src: self.addresses.0,
            dst: self.addresses.1,
            ecn: self.ecn,
            header: &self.header,
            payload_len: self.payload.len(),
        };
        let mut frame = vec![0; TcpEmit::MAX_HEADERS];
        let unsealed = emit.emit(&mut frame).expect("headers fit");
        frame.truncate(unsealed.headers_len());
        unsealed.seal_full(&mut frame, sum(&self.payload));
        frame.extend_from_slice(&self.payload);
        frame
    }
}

pub const V4_A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const V4_B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const V6_A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const V6_B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// One frame of every kind that is accepted, by name.
pub fn every_kind() -> Vec<(&'static str, Vec<u8>)> {
    let mut kinds = vec![
        (
            "tcp over ipv4",
            Segment::plain(V4_A.into(), V4_B.into(), b"payload").to_frame(),
        ),
        (
            "tcp over ipv6",
            Segment::plain(V6_A.into(), V6_B.into(), b"payload").to_frame(),
        ),
        ("tcp in two vlan tags", tagged_segment()),
        ("tcp behind extension headers", segment_behind_extensions()),
    ];
    let mut add = |name, emit: &dyn Fn(&mut [u8]) -> usize| {
        let mut frame = vec![0; 200];
        let len = emit(&mut frame);
        frame.truncate(len);
        kinds.push((name, frame));
    };
    add("arp request", &|buf| arp_request().emit(buf).expect("fits"));
    let echo = Echo {
        identifier: 1,
        sequence: 2,
        data: b"data",
    };
    let quoted = |src, dst| QuotedSegment {
        src,
        dst,
        src_port: 80,
        dst_port: 40_000,
        seq: 7,
    };
    let kind = IcmpErrorKind::PacketTooBig { mtu: 1400 };
    let error = IcmpError {
        kind,
        quoted: quoted(V4_B.into(), V4_A.into()),
    };
    for (name, message) in [
        ("icmpv4 echo", Icmpv4Message::EchoRequest(echo)),
        ("icmpv4 error", Icmpv4Message::Error(error)),
    ] {
        add(name, &|buf| icmpv4(message).emit(buf).expect("fits"));
    }
    let error = IcmpError {
        kind,
        quoted: quoted(V6_B.into(), V6_A.into()),
    };
    for (name, message) in [
        ("icmpv6 echo", Icmpv6Message::EchoRequest(echo)),
        ("icmpv6 error", Icmpv6Message::Error(error)),
        (
            "neighbor solicitation",
            Icmpv6Message::NeighborSolicitation(solicitation()),
        ),
        (
            "neighbor advertisement",
            Icmpv6Message::NeighborAdvertisement(advertisement()),
        ),
    ] {
        add(name, &|buf| icmpv6(message).emit(buf).expect("fits"));
    }
    kinds
}

pub fn arp_request() -> ArpPacket {
    ArpPacket {
        link: LinkHeader {
            dst: MacAddr::BROADCAST,
            ..LINK
        },
        operation: ArpOperation::Request,
        sender_mac: MAC_A,
        sender_ip: V4_A,
        target_mac: MacAddr::default(),
        target_ip: V4_B,
    }
}

pub fn icmpv4(message: Icmpv4Message<'_>) -> Icmpv4Packet<'_> {
    Icmpv4Packet {
        link: LINK,
        src: V4_A,
        dst: V4_B,
        message,
    }
}

pub fn icmpv6(message: Icmpv6Message<'_>) -> Icmpv6Packet<'_> {
    Icmpv6Packet {
        link: LINK,
        src: V6_A,
        dst: V6_B,
        message,
    }
}

pub fn solicitation() -> NeighborSolicitation {
    NeighborSolicitation {
        target: V6_B,
        source_mac: Some(MAC_A),
    }
}

pub fn advertisement() -> NeighborAdvertisement {
    NeighborAdvertisement {
        target: V6_A,
        router: true,
        solicited: true,
        override_: false,
        target_mac: Some(MAC_A),
    }
}

fn tagged_segment() -> Vec<u8> {
    let mut segment = Segment::plain(V4_A.into(), V4_B.into(), b"payload");
    for (tpid, tci) in [(0x88a8, 5), (0x8100, 7)] {
        assert!(segment.link.vlan.push(VlanTag { tpid, tci }));
    }
    segment.to_frame()
}

/// Hop-by-hop options of 8 bytes and destination options of 16, all padding.
fn segment_behind_extensions() -> Vec<u8> {
    let mut frame = Segment::plain(V6_A.into(), V6_B.into(), b"payload").to_frame();
    let extensions = [&[60, 0][..], &[0; 6], &[6, 1], &[0; 14]].concat();
    // The next header of the fixed header, and its payload length: all below 256 here.
    frame[20] = 0;
    frame[19] += 24;
    frame.splice(54..54, extensions);
    frame
}
