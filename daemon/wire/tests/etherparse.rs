//! Against etherparse as the oracle: what we write it reads, what it writes we read, and where we accept
//! a damaged frame it sees the same packet.

mod common;

use common::*;
use core::net::IpAddr;

use etherparse::{
    LinkExtSlice, NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice,
};
use proptest::prelude::*;
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, Packet, ParseConfig, SackBlock, TcpFlags, TcpHeader,
    TcpOptions, TcpPacket, Timestamps, VlanTag, parse,
};

const VLAN: ParseConfig = ParseConfig { vlan: true };

fn our_tcp(frame: &[u8]) -> TcpPacket {
    match parse(frame, frame.len(), &VLAN) {
        Ok(Packet::Tcp(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn their_tcp<'a>(packet: &'a SlicedPacket<'_>) -> &'a TcpSlice<'a> {
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp,
        other => panic!("{other:?}"),
    }
}

/// Flags, options and all other fields as etherparse sees them.
fn their_header(tcp: &TcpSlice<'_>) -> TcpHeader {
    let mut flags = TcpFlags::EMPTY;
    for (set, flag) in [
        (tcp.fin(), TcpFlags::FIN),
        (tcp.syn(), TcpFlags::SYN),
        (tcp.rst(), TcpFlags::RST),
        (tcp.psh(), TcpFlags::PSH),
        (tcp.ack(), TcpFlags::ACK),
        (tcp.urg(), TcpFlags::URG),
        (tcp.ece(), TcpFlags::ECE),
        (tcp.cwr(), TcpFlags::CWR),
        // By its old name.
        (tcp.ns(), TcpFlags::AE),
    ] {
        if set {
            flags = flags | flag;
        }
    }
    TcpHeader {
        src_port: tcp.source_port(),
        dst_port: tcp.destination_port(),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        flags,
        window: tcp.window_size(),
        urgent: tcp.urgent_pointer(),
        options: their_options(tcp),
    }
}

fn their_options(tcp: &TcpSlice<'_>) -> TcpOptions {
    let mut options = TcpOptions::default();
    for element in tcp.options_iterator() {
        match element.expect("options are well formed") {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(mss) => options.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::Timestamp(value, echo) => {
                options.timestamps = Some(Timestamps { value, echo })
            }
            TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                for (start, end) in [Some(first)].into_iter().chain(rest).flatten() {
                    assert!(options.sack.push(SackBlock { start, end }));
                }
            }
        }
    }
    options
}

fn their_network(packet: &SlicedPacket<'_>) -> (IpAddr, IpAddr, Ecn) {
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let ecn = Ecn::from_tos(header.ecn().value());
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ecn,
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let ecn = Ecn::from_tos(header.traffic_class());
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ecn,
            )
        }
        other => panic!("{other:?}"),
    }
}

/// The tag control words, without the TPIDs, which etherparse does not keep.
fn their_tags(packet: &SlicedPacket<'_>) -> Vec<u16> {
    let tci = |ext: &LinkExtSlice<'_>| match ext {
        LinkExtSlice::Vlan(vlan) => {
            let [a, b, ..] = vlan.to_header().to_bytes();
            u16::from_be_bytes([a, b])
        }
        LinkExtSlice::Macsec(_) => panic!("MACsec"),
    };
    packet.link_exts.iter().map(tci).collect()
}

fn their_checksum(packet: &SlicedPacket<'_>) -> u16 {
    let tcp = their_tcp(packet);
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            tcp.calc_checksum_ipv4(header.source(), header.destination())
                .expect("length fits")
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            tcp.calc_checksum_ipv6(header.source(), header.destination())
                .expect("length fits")
        }
        other => panic!("{other:?}"),
    }
}

fn tags_of(link: &LinkHeader) -> Vec<u16> {
    link.vlan.as_slice().iter().map(|tag| tag.tci).collect()
}

proptest! {
    #![proptest_config(config(10_000))]

    #[test]
    fn what_we_write_etherparse_reads(segment in segment()) {
        let frame = segment.to_frame();
        let packet = SlicedPacket::from_ethernet(&frame).expect("etherparse reads our frame");
        let tcp = their_tcp(&packet);
        prop_assert_eq!(their_header(tcp), segment.header);
        prop_assert_eq!(tcp.payload(), &segment.payload[..]);
        prop_assert_eq!(tcp.checksum(), their_checksum(&packet));
        prop_assert_eq!(their_network(&packet), (segment.addresses.0, segment.addresses.1, segment.ecn));
        prop_assert_eq!(their_tags(&packet), tags_of(&segment.link));
        if let Some(NetSlice::Ipv4(ip)) = &packet.net {
            let header = ip.header().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert!(header.dont_fragment && header.identification == 0 && header.time_to_live == 64);
        }
    }

    #[test]
    fn what_we_write_we_read(segment in segment()) {
        let frame = segment.to_frame();
        let packet = our_tcp(&frame);
        prop_assert_eq!(packet.link, segment.link);
        prop_assert_eq!((packet.src, packet.dst), segment.addresses);
        prop_assert_eq!((packet.ecn, packet.header), (segment.ecn, segment.header));
        prop_assert_eq!(&frame[packet.payload()], &segment.payload[..]);
        prop_assert_eq!(packet.verify_checksum([&frame[..]], ChecksumPolicy::Verify), Ok(()));
    }

    #[test]
    fn what_etherparse_writes_we_read(segment in segment(), identification: u16, flow in 0..1_u32 << 20) {
        let frame = written_by_etherparse(&segment, identification, flow);
        let packet = our_tcp(&frame);
        prop_assert_eq!((packet.src, packet.dst), segment.addresses);
        prop_assert_eq!((packet.ecn, packet.header), (segment.ecn, segment.header));
        prop_assert_eq!(tags_of(&packet.link), tags_of(&segment.link));
        prop_assert_eq!((packet.link.dst, packet.link.src), (segment.link.dst, segment.link.src));
        prop_assert_eq!(&frame[packet.payload()], &segment.payload[..]);
        prop_assert_eq!(packet.verify_checksum([&frame[..]], ChecksumPolicy::Verify), Ok(()));
    }

    #[test]
    fn a_damaged_frame_that_we_accept_is_the_same_packet_to_etherparse(
        segment in segment(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = segment.to_frame();
        for (place, value) in damage {
            let place = place.index(frame.len());
            frame[place] = value;
        }
        mend_ipv4_checksum(&mut frame, segment.link.encoded_len());
        if let Ok(Packet::Tcp(ours)) = parse(&frame, frame.len(), &VLAN) {
            let packet = SlicedPacket::from_ethernet(&frame).expect("etherparse accepts what we accept");
            let tcp = their_tcp(&packet);
            prop_assert_eq!((ours.src, ours.dst, ours.ecn), their_network(&packet));
            prop_assert_eq!(&frame[ours.payload()], tcp.payload());
            prop_assert_eq!(ours.checksum, tcp.checksum());
            let verified = ours.verify_checksum([&frame[..]], ChecksumPolicy::Verify).is_ok();
            prop_assert_eq!(verified, tcp.checksum() == their_checksum(&packet));
        }
    }
}

/// Damage inside the IPv4 header would never get past its checksum; past it is where it is interesting.
fn mend_ipv4_checksum(frame: &mut [u8], offset: usize) {
    if let Some(header) = frame
        .get_mut(offset..offset + 20)
        .filter(|header| header[0] == 0x45)
    {
        header[10..12].fill(0);
        let checksum = sluice_wire::checksum::sum(header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The same segment from etherparse's builder.
fn written_by_etherparse(segment: &Segment, identification: u16, flow: u32) -> Vec<u8> {
    let ours = &segment.header;
    let mut tcp = etherparse::TcpHeader::new(ours.src_port, ours.dst_port, ours.seq, ours.window);
    tcp.acknowledgment_number = ours.ack;
    tcp.urgent_pointer = ours.urgent;
    tcp.fin = ours.flags.contains(TcpFlags::FIN);
    tcp.syn = ours.flags.contains(TcpFlags::SYN);
    tcp.rst = ours.flags.contains(TcpFlags::RST);
    tcp.psh = ours.flags.contains(TcpFlags::PSH);
    tcp.ack = ours.flags.contains(TcpFlags::ACK);
    tcp.urg = ours.flags.contains(TcpFlags::URG);
    tcp.ece = ours.flags.contains(TcpFlags::ECE);
    tcp.cwr = ours.flags.contains(TcpFlags::CWR);
    tcp.ns = ours.flags.contains(TcpFlags::AE);
    tcp.set_options(&as_elements(&ours.options))
        .expect("options fit");

    let ecn = segment.ecn.bits();
    let ip = match segment.addresses {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let protocol = etherparse::ip_number::TCP;
            let mut header =
                etherparse::Ipv4Header::new(0, 7, protocol, src.octets(), dst.octets())
                    .expect("fits");
            header.ecn = etherparse::IpEcn::try_new(ecn).expect("two bits");
            header.identification = identification;
            etherparse::IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = etherparse::Ipv6Header {
                traffic_class: ecn,
                flow_label: flow.try_into().expect("20 bits"),
                hop_limit: 7,
                source: src.octets(),
                destination: dst.octets(),
                ..Default::default()
            };
            etherparse::IpHeaders::Ipv6(header, Default::default())
        }
        _ => panic!("mixed families"),
    };
    let ethernet = PacketBuilder::ethernet2(segment.link.src.0, segment.link.dst.0);
    let builder = match *segment.link.vlan.as_slice() {
        [] => ethernet.ip(ip),
        [tag] => ethernet
            .vlan(etherparse::VlanHeader::Single(as_vlan(tag)))
            .ip(ip),
        [outer, inner] => {
            let double = etherparse::DoubleVlanHeader {
                outer: as_vlan(outer),
                inner: as_vlan(inner),
            };
            ethernet.vlan(etherparse::VlanHeader::Double(double)).ip(ip)
        }
        _ => panic!("more than two tags"),
    };
    let mut frame = Vec::new();
    builder
        .tcp_header(tcp)
        .write(&mut frame, &segment.payload)
        .expect("writes to a vector");
    frame
}

fn as_vlan(tag: VlanTag) -> etherparse::SingleVlanHeader {
    let [a, b] = tag.tci.to_be_bytes();
    // The builder sets the EtherType.
    etherparse::SingleVlanHeader::from_bytes([a, b, 0, 0])
}

fn as_elements(options: &TcpOptions) -> Vec<TcpOptionElement> {
    let mut elements = Vec::new();
    elements.extend(options.mss.map(TcpOptionElement::MaximumSegmentSize));
    elements.extend(options.window_scale.map(TcpOptionElement::WindowScale));
    if options.sack_permitted {
        elements.push(TcpOptionElement::SelectiveAcknowledgementPermitted);
    }
    elements.extend(
        options
            .timestamps
            .map(|t| TcpOptionElement::Timestamp(t.value, t.echo)),
    );
    let blocks: Vec<_> = options
        .sack
        .iter()
        .map(|block| (block.start, block.end))
        .collect();
    if let Some((&first, rest)) = blocks.split_first() {
        let rest = core::array::from_fn(|n| rest.get(n).copied());
        elements.push(TcpOptionElement::SelectiveAcknowledgement(first, rest));
    }
    elements
}

#[test]
fn etherparse_reads_our_arp() {
    let request = arp_request();
    let mut frame = [0; 42];
    request.emit(&mut frame).unwrap();
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Arp(arp)) = &packet.net else {
        panic!("{packet:?}")
    };
    let arp = arp.to_packet().try_eth_ipv4().unwrap();
    assert_eq!(arp.operation, etherparse::ArpOperation::REQUEST);
    assert_eq!(
        (arp.sender_mac, arp.target_mac),
        (request.sender_mac.0, request.target_mac.0)
    );
    assert_eq!(
        (arp.sender_ipv4_addr(), arp.target_ipv4_addr()),
        (request.sender_ip, request.target_ip)
    );
}

#[test]
fn we_read_the_pings_of_etherparse_and_it_our_answers() {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MAC_A.0, MAC_B.0)
        .ipv4(V4_A.octets(), V4_B.octets(), 3)
        .icmpv4_echo_request(77, 88)
        .write(&mut frame, b"ping data")
        .unwrap();
    let Ok(Packet::Icmpv4(request)) = parse(&frame, frame.len(), &VLAN) else {
        panic!()
    };
    let mut out = [0; 100];
    let len = request.reply().unwrap().emit(&mut out).unwrap();
    let packet = SlicedPacket::from_ethernet(&out[..len]).unwrap();
    let Some(TransportSlice::Icmpv4(reply)) = &packet.transport else {
        panic!("{packet:?}")
    };
    let echo = etherparse::IcmpEchoHeader { id: 77, seq: 88 };
    assert_eq!(reply.icmp_type(), etherparse::Icmpv4Type::EchoReply(echo));
    assert_eq!(reply.payload(), b"ping data");
    assert_eq!(
        reply.checksum(),
        reply.icmp_type().calc_checksum(reply.payload())
    );
}

#[test]
fn we_read_the_ipv6_pings_of_etherparse_and_it_our_answers() {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MAC_A.0, MAC_B.0)
        .ipv6(V6_A.octets(), V6_B.octets(), 3)
        .icmpv6_echo_request(77, 88)
        .write(&mut frame, b"ping data")
        .unwrap();
    let Ok(Packet::Icmpv6(request)) = parse(&frame, frame.len(), &VLAN) else {
        panic!()
    };
    let mut out = [0; 100];
    let len = request.reply(MAC_B).unwrap().emit(&mut out).unwrap();
    let packet = SlicedPacket::from_ethernet(&out[..len]).unwrap();
    let Some(TransportSlice::Icmpv6(reply)) = &packet.transport else {
        panic!("{packet:?}")
    };
    let echo = etherparse::IcmpEchoHeader { id: 77, seq: 88 };
    assert_eq!(reply.icmp_type(), etherparse::Icmpv6Type::EchoReply(echo));
    assert_eq!(reply.payload(), b"ping data");
    assert!(reply.is_checksum_valid(V6_B.octets(), V6_A.octets()));
}

#[test]
fn etherparse_finds_the_checksum_of_every_icmpv6_kind_right() {
    let mut seen = 0;
    for (name, frame) in every_kind() {
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        if let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport {
            assert!(
                icmp.is_checksum_valid(V6_A.octets(), V6_B.octets()),
                "{name}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}
