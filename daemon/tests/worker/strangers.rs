//! Frames that belong to no connection: segments of unknown flows, questions to the host, and noise.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sluice_wire::{
    ArpOperation, ArpPacket, ChecksumPolicy, DropReason, Echo, Icmpv4Message, Icmpv4Packet,
    Icmpv6Message, Icmpv6Packet, LinkHeader, MacAddr, NeighborAdvertisement, NeighborSolicitation,
    Packet, ParseConfig, TcpFlags, TcpHeader, VlanTags, solicited_node,
};

use crate::bed::{Bed, Setup, get};
use crate::client::Client;
use crate::frames::{
    self, CLIENT_IP, CLIENT_IP6, CLIENT_MAC, SERVER, SERVER_IP, SERVER_IP6, SERVER_MAC, SERVER6,
    Seal,
};
use crate::site::{KIB, Random, Site};

const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(CLIENT_IP), 1234);
const STRANGER6: SocketAddr = SocketAddr::new(IpAddr::V6(CLIENT_IP6), 1234);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);

pub fn segment(flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    frames::segment(
        STRANGER,
        SERVER,
        &header(STRANGER, SERVER, flags),
        payload,
        Seal::Full,
    )
}

fn header(from: SocketAddr, to: SocketAddr, flags: TcpFlags) -> TcpHeader {
    TcpHeader {
        src_port: from.port(),
        dst_port: to.port(),
        seq: 1000,
        ack: 2000,
        flags,
        window: 5000,
        ..TcpHeader::default()
    }
}

/// Lets a frame arrive and returns what the worker says to it.
fn answers(bed: &mut Bed, frame: &[u8]) -> Vec<Vec<u8>> {
    assert!(bed.nic.inject(frame));
    bed.turn()
}

/// The one answer, which must parse.
fn answer(bed: &mut Bed, frame: &[u8]) -> Vec<u8> {
    let mut answers = answers(bed, frame);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn parse(frame: &[u8]) -> Packet<'_> {
    sluice_wire::parse(frame, frame.len(), &ParseConfig::default()).expect("a frame of ours parses")
}

/// A worker that answers for the addresses of the service itself.
fn owner(site: &Site) -> Bed {
    let setup = Setup {
        owned: vec![IpAddr::V4(SERVER_IP), IpAddr::V6(SERVER_IP6)],
        ..Setup::default()
    };
    Bed::with(site, &setup)
}

#[test]
fn a_segment_for_no_connection_gets_the_reset_of_the_rules_or_silence() {
    // RFC 9293 section 3.10.7.1 for what has an ACK, section 3.10.7.2 for what a listener drops.
    const ACK: TcpFlags = TcpFlags::ACK;
    const RST: TcpFlags = TcpFlags::RST;
    const SYN: TcpFlags = TcpFlags::SYN;
    const FIN: TcpFlags = TcpFlags::FIN;
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let cases: [(&str, TcpFlags, &[u8], bool); 10] = [
        ("ACK", ACK, b"", true),
        ("data", ACK | TcpFlags::PSH, b"hello", true),
        ("FIN", FIN | ACK, b"", true),
        ("SYN-ACK", SYN | ACK, b"", true),
        ("RST", RST, b"", false),
        ("RST with ACK", RST | ACK, b"", false),
        ("no flag", TcpFlags::default(), b"data", false),
        ("FIN alone", FIN, b"", false),
        ("SYN and FIN", SYN | FIN, b"", false),
        ("SYN and RST", SYN | RST, b"", false),
    ];
    for (name, flags, payload, refused) in cases {
        let answers = answers(&mut bed, &segment(flags, payload));
        assert_eq!(answers.len(), usize::from(refused), "{name}");
        for frame in answers {
            let (packet, payload) = frames::read(&frame);
            assert_eq!(
                (packet.dst, packet.header.dst_port),
                (CLIENT_IP.into(), 1234)
            );
            assert_eq!((packet.src, packet.header.src_port), (SERVER_IP.into(), 80));
            // What was acknowledged is where the peer expects us; nothing of it is acknowledged in turn.
            assert_eq!(packet.header.flags, RST, "{name}");
            assert_eq!((packet.header.seq, payload), (2000, &b""[..]), "{name}");
        }
    }
    assert_eq!(bed.report().tcp.refused, 4);
    bed.assert_at_rest();
}

#[test]
fn strangers_are_refused_over_ipv6_too() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let stray = header(STRANGER6, SERVER6, TcpFlags::ACK);
    let frame = frames::segment(STRANGER6, SERVER6, &stray, b"", Seal::Full);
    let refusal = answer(&mut bed, &frame);
    let (packet, _) = frames::read(&refusal);
    assert_eq!(packet.dst, IpAddr::V6(CLIENT_IP6));
    assert_eq!(packet.header.flags, TcpFlags::RST);
    bed.assert_at_rest();
}

#[test]
fn segments_to_another_port_or_address_are_counted_and_not_answered() {
    // The XDP program leaves them to the kernel; one that comes here is not ours to refuse.
    let site = Site::new();
    let mut bed = owner(&site);
    let others = [
        SocketAddr::new(SERVER_IP.into(), 81),
        SocketAddr::new(NEIGHBOUR.into(), 80),
    ];
    for to in others {
        for flags in [TcpFlags::SYN, TcpFlags::ACK] {
            let stray = header(STRANGER, to, flags);
            let frame = frames::segment(STRANGER, to, &stray, b"", Seal::Full);
            assert!(answers(&mut bed, &frame).is_empty(), "{to} {flags:?}");
        }
    }
    assert_eq!(bed.report().worker.not_ours, 4);
    assert_eq!(bed.report().tcp.segments_in, 0);
    bed.assert_at_rest();
}

#[test]
fn refusals_for_which_the_ring_has_no_room_are_counted_and_leak_nothing() {
    let site = Site::new();
    let setup = Setup {
        ring: 32,
        frames: 128,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let stray = segment(TcpFlags::ACK, b"");
    bed.nic.stall(true);
    for _ in 0..5 {
        for _ in 0..20 {
            assert!(bed.nic.inject(&stray));
        }
        bed.turn();
    }
    let report = bed.report();
    assert_eq!((report.tcp.refused, report.worker.tx_not_built), (100, 68));
    assert_eq!(report.frames.map(|ledger| ledger.tx_in_flight), Some(32));
    bed.nic.stall(false);
    assert_eq!(bed.turn().len(), 32);
    bed.assert_at_rest();
}

fn link(dst: MacAddr) -> LinkHeader {
    LinkHeader {
        dst,
        src: CLIENT_MAC,
        vlan: VlanTags::NONE,
    }
}

fn arp_request(target_ip: Ipv4Addr) -> Vec<u8> {
    let request = ArpPacket {
        link: link(MacAddr([0xff; 6])),
        operation: ArpOperation::Request,
        sender_mac: CLIENT_MAC,
        sender_ip: CLIENT_IP,
        target_mac: MacAddr::default(),
        target_ip,
    };
    written(|buffer| request.emit(buffer).ok())
}

fn solicitation(src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(target);
    let probe = src.is_unspecified();
    let question = Icmpv6Packet {
        link: link(MacAddr::ipv6_multicast(group)),
        src,
        dst: group,
        message: Icmpv6Message::NeighborSolicitation(NeighborSolicitation {
            target,
            source_mac: (!probe).then_some(CLIENT_MAC),
        }),
    };
    written(|buffer| question.emit(buffer).ok())
}

const PING: Echo<'static> = Echo {
    identifier: 7,
    sequence: 8,
    data: b"is there anybody",
};

fn ping(dst: Ipv4Addr) -> Vec<u8> {
    let request = Icmpv4Packet {
        link: link(SERVER_MAC),
        src: CLIENT_IP,
        dst,
        message: Icmpv4Message::EchoRequest(PING),
    };
    written(|buffer| request.emit(buffer).ok())
}

fn ping6(dst: Ipv6Addr) -> Vec<u8> {
    let request = Icmpv6Packet {
        link: link(SERVER_MAC),
        src: CLIENT_IP6,
        dst,
        message: Icmpv6Message::EchoRequest(PING),
    };
    written(|buffer| request.emit(buffer).ok())
}

fn written(emit: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut frame = vec![0; 256];
    let len = emit(&mut frame).expect("it fits");
    frame.truncate(len);
    frame
}

#[test]
fn a_question_for_an_owned_ipv4_address_is_answered_with_our_mac() {
    // RFC 826.
    let site = Site::new();
    let mut bed = owner(&site);
    let reply = answer(&mut bed, &arp_request(SERVER_IP));
    let Packet::Arp(arp) = parse(&reply) else {
        panic!("not ARP: {reply:?}");
    };
    assert_eq!(arp.operation, ArpOperation::Reply);
    assert_eq!((arp.link.src, arp.link.dst), (SERVER_MAC, CLIENT_MAC));
    assert_eq!((arp.sender_mac, arp.sender_ip), (SERVER_MAC, SERVER_IP));
    assert_eq!((arp.target_mac, arp.target_ip), (CLIENT_MAC, CLIENT_IP));
    bed.assert_at_rest();
}

#[test]
fn a_question_for_an_owned_ipv6_address_is_answered_with_our_mac() {
    // RFC 4861 section 7.2.4.
    let site = Site::new();
    let mut bed = owner(&site);
    let reply = answer(&mut bed, &solicitation(CLIENT_IP6, SERVER_IP6));
    let Packet::Icmpv6(packet) = parse(&reply) else {
        panic!("not ICMPv6: {reply:?}");
    };
    assert_eq!((packet.link.src, packet.link.dst), (SERVER_MAC, CLIENT_MAC));
    assert_eq!((packet.src, packet.dst), (SERVER_IP6, CLIENT_IP6));
    let expected = NeighborAdvertisement {
        target: SERVER_IP6,
        router: false,
        solicited: true,
        override_: true,
        target_mac: Some(SERVER_MAC),
    };
    assert_eq!(
        packet.message,
        Icmpv6Message::NeighborAdvertisement(expected)
    );
    bed.assert_at_rest();
}

#[test]
fn a_probe_for_an_owned_address_is_answered_to_everybody() {
    // RFC 4861 section 7.2.4, RFC 4862 section 5.4: who probes has no address yet.
    let site = Site::new();
    let mut bed = owner(&site);
    let reply = answer(&mut bed, &solicitation(Ipv6Addr::UNSPECIFIED, SERVER_IP6));
    let Packet::Icmpv6(packet) = parse(&reply) else {
        panic!("not ICMPv6: {reply:?}");
    };
    assert_eq!(packet.dst, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    bed.assert_at_rest();
}

#[test]
fn an_owned_address_answers_echo_with_the_same_data() {
    // RFC 1122 section 3.2.2.6, RFC 4443 section 4.2.
    let site = Site::new();
    let mut bed = owner(&site);
    let reply = answer(&mut bed, &ping(SERVER_IP));
    let Packet::Icmpv4(packet) = parse(&reply) else {
        panic!("not ICMP: {reply:?}");
    };
    assert_eq!((packet.src, packet.dst), (SERVER_IP, CLIENT_IP));
    assert_eq!(packet.message, Icmpv4Message::EchoReply(PING));
    let reply = answer(&mut bed, &ping6(SERVER_IP6));
    let Packet::Icmpv6(packet) = parse(&reply) else {
        panic!("not ICMPv6: {reply:?}");
    };
    assert_eq!((packet.src, packet.dst), (SERVER_IP6, CLIENT_IP6));
    assert_eq!(packet.message, Icmpv6Message::EchoReply(PING));
    bed.assert_at_rest();
}

#[test]
fn questions_for_addresses_of_others_are_counted_and_not_answered() {
    // Answering would take a neighbour's traffic, or double what the kernel says for its own address.
    let site = Site::new();
    let (mut owner, mut guest) = (owner(&site), Bed::new(&site));
    let for_others = [
        arp_request(NEIGHBOUR),
        solicitation(CLIENT_IP6, NEIGHBOUR6),
        ping(NEIGHBOUR),
        ping6(NEIGHBOUR6),
    ];
    let for_us = [
        arp_request(SERVER_IP),
        solicitation(CLIENT_IP6, SERVER_IP6),
        ping(SERVER_IP),
        ping6(SERVER_IP6),
    ];
    for (bed, questions) in [(&mut owner, for_others), (&mut guest, for_us)] {
        for (index, question) in questions.iter().enumerate() {
            assert!(answers(bed, question).is_empty(), "question {index}");
        }
        assert_eq!(bed.report().worker.not_ours, 4);
        bed.assert_at_rest();
    }
}

#[test]
fn udp_is_counted_and_not_answered() {
    let site = Site::new();
    let mut bed = owner(&site);
    let mut frame = segment(TcpFlags::SYN, b"");
    // The protocol field, and the header checksum with it (RFC 1624).
    let (tcp, udp) = (6, 17);
    assert_eq!(frame[23], tcp);
    frame[23] = udp;
    let checksum = u16::from_be_bytes([frame[24], frame[25]]) - u16::from(udp - tcp);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    assert!(answers(&mut bed, &frame).is_empty());
    let dropped = bed.report().worker.dropped;
    assert_eq!(dropped[DropReason::IpProtocolUnsupported.index()], 1);
    bed.assert_at_rest();
}

#[test]
fn a_tagged_frame_is_dropped_where_no_tag_is_expected() {
    let site = Site::new();
    let mut bed = owner(&site);
    let mut frame = segment(TcpFlags::SYN, b"");
    frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    assert!(answers(&mut bed, &frame).is_empty());
    let dropped = bed.report().worker.dropped;
    assert_eq!(dropped[DropReason::VlanNotAccepted.index()], 1);
    bed.assert_at_rest();
}

#[test]
fn no_single_wrong_bit_above_the_link_gets_an_answer() {
    // Every bit of the IP and TCP headers and of the payload is under a checksum.
    let site = Site::new();
    let mut bed = owner(&site);
    let frame = segment(TcpFlags::ACK, b"payload");
    assert_eq!(answers(&mut bed, &frame).len(), 1);
    let bits = (14 * 8)..(frame.len() * 8);
    let mut wrong = 0;
    for bit in bits {
        let mut frame = frame.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(answers(&mut bed, &frame).is_empty(), "bit {bit}");
        wrong += 1;
    }
    let dropped: u64 = bed.report().worker.dropped.iter().sum();
    assert_eq!(dropped, wrong);
    bed.assert_at_rest();
}

#[test]
fn noise_of_any_kind_and_length_disturbs_no_transfer_and_every_frame_of_it_is_counted() {
    let site = Site::new();
    let content = site.file("big", 1000 * KIB);
    let mut bed = owner(&site);
    let mut random = Random::new(29);
    let mut client = bed.connect();
    let mut noise: u64 = 0;
    for _ in 0..5 {
        client.write(get("/big"));
        while !client.has_response() {
            for _ in 0..20 {
                let mut frame = vec![0; 1 + random.below(2000)];
                for byte in &mut frame {
                    *byte = random.next().to_le_bytes()[0];
                }
                let plausible = random.below(4);
                dress(&mut frame, plausible);
                assert!(bed.nic.inject(&frame));
                noise += 1;
            }
            bed.round(core::slice::from_mut(&mut client));
        }
        assert!(client.take_response().is_some_and(|r| r.body == content));
    }
    let report = bed.report();
    let dropped: u64 = report.worker.dropped.iter().sum();
    assert_eq!(dropped + report.worker.not_ours, noise);
    assert_eq!((report.tcp.timeouts, report.tcp.retransmitted_fast), (0, 0));
    bed.close(client);
    bed.assert_at_rest();
}

/// Makes noise look right up to some layer, as far as it is long enough: MAC addresses, EtherType, IP version.
fn dress(frame: &mut [u8], layers: usize) {
    let dressing: [(usize, &[u8]); 3] = [
        (0, &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]),
        (12, &[0x08, 0x00]),
        (14, &[0x45]),
    ];
    for (at, bytes) in &dressing[..layers] {
        if let Some(place) = frame.get_mut(*at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

#[test]
fn a_partial_checksum_lets_no_stranger_in_where_only_whole_ones_are_accepted() {
    let site = Site::new();
    for (policy, expected) in [
        (ChecksumPolicy::Verify, 0),
        (ChecksumPolicy::AcceptPartial, 1),
    ] {
        let setup = Setup {
            checksum_rx: policy,
            ..Setup::default()
        };
        let mut bed = Bed::with(&site, &setup);
        let mut caller = Client::connect(bed.take_port());
        caller.seal = Seal::Partial;
        caller.out.clear();
        caller.resend();
        bed.inject_from(&mut caller);
        assert_eq!(bed.turn().len(), expected, "{policy:?}");
    }
}

#[test]
fn a_client_that_got_a_cookie_is_served_like_any_other() {
    // RFC 4987 section 3.6. Forty callers of one address that never answer have more than its share of the table.
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let mut bed = Bed::new(&site);
    let mut callers: Vec<_> = (0..40).map(|_| Client::connect(bed.take_port())).collect();
    for caller in &mut callers {
        caller.mute = true;
    }
    bed.settle(&mut callers);
    assert!(bed.worker.stack().half_open() < 40);
    let mut client = bed.connect();
    assert_eq!(bed.get(&mut client, "/big").body, content);
    let tcp = bed.report().tcp;
    assert_eq!((tcp.syn_cookies_accepted, tcp.accepted), (1, 1));
    bed.close(client);
}
