//! The frames of the verdict tests by name, each with the reason it must be counted under.
//!
//! A row is a line, so rustfmt stays out of the tables.

use sluice_xdp_prog::Reason;

use super::frames::{
    AUTHENTICATION, DESTINATION_OPTIONS, DONT_FRAGMENT, ESP, ETHERTYPE_ARP, ETHERTYPE_IPV4,
    ETHERTYPE_IPV6, HOP_BY_HOP, ICMP, ICMPV6, Ipv4, Ipv6, MORE_FRAGMENTS, NO_NEXT_HEADER,
    TPID_8021AD, TPID_8021Q, UDP, arp, ethernet, fragment, icmp, icmp_error, neighbor, options,
    routing, solicited_node, tcp, udp,
};
use super::{OWNED_V4, OWNED_V6, PORT, PORT_V4_ONLY, SERVED_V4, SERVED_V6};

/// What it is, its bytes, and how it is counted.
pub type Case = (&'static str, Vec<u8>, Reason);

const OTHER_V4: [u8; 4] = [192, 0, 2, 2];
const OTHER_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// The good IPv4 segment with a change.
pub fn v4(change: impl FnOnce(&mut Ipv4)) -> Vec<u8> {
    let mut packet = Ipv4::default();
    change(&mut packet);
    packet.frame()
}

/// The good IPv6 segment with a change.
pub fn v6(change: impl FnOnce(&mut Ipv6)) -> Vec<u8> {
    let mut packet = Ipv6::default();
    change(&mut packet);
    packet.frame()
}

/// The first bytes of a frame.
pub fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

fn mapped(address: [u8; 4]) -> [u8; 16] {
    let mut mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    mapped[12..].copy_from_slice(&address);
    mapped
}

fn in_front(address: [u8; 4]) -> [u8; 16] {
    let mut front = [0; 16];
    front[..4].copy_from_slice(&address);
    front
}

/// Segments that our TCP must get.
#[rustfmt::skip]
pub fn good_segments() -> Vec<Case> {
    vec![
        ("IPv4", v4(|_| ()), Reason::Tcp),
        ("IPv4, second port", v4(|p| p.body = tcp(PORT_V4_ONLY, 5, 8)), Reason::Tcp),
        ("IPv4, no payload", v4(|p| p.body = tcp(PORT, 5, 0)), Reason::Tcp),
        ("IPv4, 40 bytes of TCP options", v4(|p| p.body = tcp(PORT, 15, 40)), Reason::Tcp),
        ("IPv4, Ethernet padding behind the packet", v4(|p| p.total_len = Some(40)), Reason::Tcp),
        ("IPv4 without DF", v4(|p| p.fragment = 0), Reason::Tcp),
        ("IPv4, full 1,500 bytes", v4(|p| p.body = tcp(PORT, 5, 1_460)), Reason::Tcp),
        ("IPv4, 9,000 bytes in pieces", v4(|p| p.body = tcp(PORT, 5, 8_960)), Reason::Tcp),
        ("IPv6", v6(|_| ()), Reason::Tcp),
        ("IPv6, no payload", v6(|p| p.body = tcp(PORT, 5, 0)), Reason::Tcp),
        ("IPv6, 9,000 bytes in pieces", v6(|p| p.body = tcp(PORT, 5, 8_940)), Reason::Tcp),
        ("IPv6, hop-by-hop options", v6(|p| p.extensions = vec![options(HOP_BY_HOP, 0)]), Reason::Tcp),
        ("IPv6, destination options", v6(|p| p.extensions = vec![options(DESTINATION_OPTIONS, 3)]), Reason::Tcp),
        ("IPv6, routing header of type 4, done", v6(|p| p.extensions = vec![routing(4, 0)]), Reason::Tcp),
        ("IPv6, hop-by-hop, routing and destination options", v6(|p| p.extensions = vec![options(HOP_BY_HOP, 1), routing(2, 0), options(DESTINATION_OPTIONS, 0)]), Reason::Tcp),
        ("IPv6, 8 extension headers", v6(|p| p.extensions = vec![options(DESTINATION_OPTIONS, 0); 8]), Reason::Tcp),
        ("IPv6, 256 bytes of extensions", v6(|p| p.extensions = vec![options(HOP_BY_HOP, 31)]), Reason::Tcp),
    ]
}

/// Everything that is not for an endpoint.
#[rustfmt::skip]
pub fn foreign_traffic() -> Vec<Case> {
    vec![
        ("IPv4, other port", v4(|p| p.body = tcp(22, 5, 8)), Reason::NotLocal),
        ("IPv4, port 0", v4(|p| p.body = tcp(0, 5, 8)), Reason::NotLocal),
        ("IPv4, our port as source only", v4(|p| p.body[..4].copy_from_slice(&[0, 80, 0, 22])), Reason::NotLocal),
        ("IPv4, other address", v4(|p| p.dst = OTHER_V4), Reason::NotLocal),
        ("IPv4, owned address that serves nothing", v4(|p| p.dst = OWNED_V4), Reason::NotLocal),
        ("IPv4, other port, options", v4(|p| (p.options, p.body) = (vec![1; 4], tcp(22, 5, 8))), Reason::NotLocal),
        ("IPv4, other port, first fragment", v4(|p| (p.fragment, p.body) = (MORE_FRAGMENTS, tcp(22, 5, 8))), Reason::NotLocal),
        ("IPv4, other port, bad data offset", v4(|p| p.body = tcp(22, 1, 8)), Reason::NotLocal),
        ("IPv4, other address, bad header length", v4(|p| (p.dst, p.header_words) = (OTHER_V4, Some(3))), Reason::NotLocal),
        ("IPv4, other address, cut before the ports", cut(v4(|p| p.dst = OTHER_V4), 34), Reason::NotLocal),
        ("IPv6, other port", v6(|p| p.body = tcp(22, 5, 8)), Reason::NotLocal),
        ("IPv6, port served over IPv4 only", v6(|p| p.body = tcp(PORT_V4_ONLY, 5, 8)), Reason::NotLocal),
        ("IPv6, other address", v6(|p| p.dst = OTHER_V6), Reason::NotLocal),
        ("IPv6, our IPv4 address mapped", v6(|p| p.dst = mapped(SERVED_V4)), Reason::NotLocal),
        ("IPv6, our IPv4 address in front", v6(|p| p.dst = in_front(SERVED_V4)), Reason::NotLocal),
        ("IPv6, other address, 9 extension headers", v6(|p| (p.dst, p.extensions) = (OTHER_V6, vec![options(DESTINATION_OPTIONS, 0); 9])), Reason::NotLocal),
        ("IPv6, other address, bad version", v6(|p| (p.dst, p.version) = (OTHER_V6, 4)), Reason::NotLocal),
        ("UDP over IPv4", v4(|p| (p.protocol, p.body) = (UDP, udp(PORT))), Reason::NotTcp),
        ("UDP over IPv6", v6(|p| (p.protocol, p.body) = (UDP, udp(PORT))), Reason::NotTcp),
        ("UDP fragment", v4(|p| (p.protocol, p.fragment) = (UDP, MORE_FRAGMENTS)), Reason::NotTcp),
        ("UDP behind hop-by-hop options", v6(|p| (p.protocol, p.extensions) = (UDP, vec![options(HOP_BY_HOP, 0)])), Reason::NotTcp),
        ("ICMP echo request", v4(|p| (p.protocol, p.body) = (ICMP, icmp(8))), Reason::NotTcp),
        ("ICMP fragmentation needed", v4(|p| (p.protocol, p.body) = (ICMP, icmp(3))), Reason::NotTcp),
        ("ICMPv6 echo request", v6(|p| (p.protocol, p.body) = (ICMPV6, icmp(128))), Reason::NotTcp),
        ("ICMPv6 neighbour solicitation for a served address", v6(|p| (p.protocol, p.dst, p.body) = (ICMPV6, solicited_node(SERVED_V6), neighbor(135, SERVED_V6))), Reason::NotTcp),
        ("IPv4 ESP", v4(|p| p.protocol = ESP), Reason::NotTcp),
        ("IPv6 ESP", v6(|p| p.protocol = ESP), Reason::NotTcp),
        ("IPv6 AH", v6(|p| p.protocol = AUTHENTICATION), Reason::NotTcp),
        ("IPv6 without next header", v6(|p| p.protocol = NO_NEXT_HEADER), Reason::NotTcp),
        ("ARP request for a served address", ethernet(&[], ETHERTYPE_ARP, &arp(1, SERVED_V4)), Reason::NotIp),
        ("LLDP", ethernet(&[], 0x88cc, &[0; 46]), Reason::NotIp),
        ("802.3 length instead of a type", ethernet(&[], 46, &[0; 46]), Reason::NotIp),
        ("MPLS", ethernet(&[], 0x8847, &v4(|_| ())[14..]), Reason::NotIp),
        ("PPPoE", ethernet(&[], 0x8864, &v4(|_| ())[14..]), Reason::NotIp),
        ("Ethernet header alone", ethernet(&[], ETHERTYPE_IPV4, &[]), Reason::Unreadable),
        ("IPv4 header cut by a byte", cut(v4(|_| ()), 33), Reason::Unreadable),
        ("IPv6 header cut by a byte", cut(v6(|_| ()), 53), Reason::Unreadable),
        ("IPv6 type and no header", ethernet(&[], ETHERTYPE_IPV6, &[]), Reason::Unreadable),
    ]
}

/// Frames for an endpoint, or for its address, that our TCP cannot use; fragments without a port pass.
#[rustfmt::skip]
pub fn ours_but_unfit() -> Vec<Case> {
    vec![
        ("IPv4 header and nothing else", cut(v4(|_| ()), 34), Reason::Truncated),
        ("IPv4, ports cut by a byte", cut(v4(|_| ()), 37), Reason::Truncated),
        ("IPv4, ports and nothing else", cut(v4(|_| ()), 38), Reason::IpLength),
        ("IPv4, TCP header cut by a byte", cut(v4(|_| ()), 53), Reason::IpLength),
        ("IPv4, payload cut by a byte", cut(v4(|_| ()), 61), Reason::IpLength),
        ("IPv4, options cut by a byte", cut(v4(|p| p.options = vec![1; 8]), 41), Reason::Truncated),
        ("IPv4, header of 15 words and 34 bytes of packet", cut(v4(|p| p.header_words = Some(15)), 48), Reason::Truncated),
        ("IPv4, version 5", v4(|p| p.version = 5), Reason::IpHeader),
        ("IPv4, version 6", v4(|p| p.version = 6), Reason::IpHeader),
        ("IPv4, header length 16", v4(|p| p.header_words = Some(4)), Reason::IpHeader),
        ("IPv4, header length 0", v4(|p| p.header_words = Some(0)), Reason::IpHeader),
        ("IPv4, total length 0", v4(|p| p.total_len = Some(0)), Reason::IpLength),
        ("IPv4, total length a byte short of TCP", v4(|p| p.total_len = Some(39)), Reason::IpLength),
        ("IPv4, total length a byte beyond the frame", v4(|p| p.total_len = Some(49)), Reason::IpLength),
        ("IPv4, total length 65535", v4(|p| p.total_len = Some(u16::MAX)), Reason::IpLength),
        ("IPv4, 9,000 bytes of which one is missing", cut(v4(|p| p.body = tcp(PORT, 5, 8_960)), 9_013), Reason::IpLength),
        ("IPv4, no-operation options", v4(|p| p.options = vec![1; 4]), Reason::IpOptions),
        ("IPv4, 40 bytes of options", v4(|p| p.options = vec![1; 40]), Reason::IpOptions),
        ("IPv4, loose source route", v4(|p| p.options = vec![0x83, 7, 4, 192, 0, 2, 9, 0]), Reason::IpOptions),
        ("IPv4, first fragment", v4(|p| p.fragment = MORE_FRAGMENTS), Reason::Fragment),
        ("IPv4, first fragment with DF", v4(|p| p.fragment = MORE_FRAGMENTS | DONT_FRAGMENT), Reason::Fragment),
        ("IPv4, first fragment with options", v4(|p| (p.fragment, p.options) = (MORE_FRAGMENTS, vec![1; 4])), Reason::Fragment),
        ("IPv4, middle fragment", v4(|p| p.fragment = MORE_FRAGMENTS | 1), Reason::LaterFragment),
        ("IPv4, last fragment", v4(|p| p.fragment = 185), Reason::LaterFragment),
        ("IPv4, data offset 0", v4(|p| p.body = tcp(PORT, 0, 8)), Reason::TcpHeader),
        ("IPv4, data offset 16", v4(|p| p.body = tcp(PORT, 4, 8)), Reason::TcpHeader),
        ("IPv4, data offset beyond the packet", v4(|p| p.body = tcp(PORT, 8, 8)), Reason::TcpHeader),
        ("IPv4, data offset in the padding", v4(|p| (p.total_len, p.body) = (Some(40), tcp(PORT, 6, 8))), Reason::TcpHeader),
        ("IPv6 header and nothing else", cut(v6(|_| ()), 54), Reason::Truncated),
        ("IPv6, ports cut by a byte", cut(v6(|_| ()), 57), Reason::Truncated),
        ("IPv6, ports and nothing else", cut(v6(|_| ()), 58), Reason::IpLength),
        ("IPv6, TCP header cut by a byte", cut(v6(|_| ()), 73), Reason::IpLength),
        ("IPv6, payload cut by a byte", cut(v6(|_| ()), 81), Reason::IpLength),
        ("IPv6, extension cut by a byte", cut(v6(|p| p.extensions = vec![options(HOP_BY_HOP, 0)]), 61), Reason::Truncated),
        ("IPv6, extension longer than the frame", cut(v6(|p| p.extensions = vec![options(HOP_BY_HOP, 9)]), 90), Reason::Truncated),
        ("IPv6, version 4", v6(|p| p.version = 4), Reason::IpHeader),
        ("IPv6, payload length 0, as in a jumbogram", v6(|p| p.payload_len = Some(0)), Reason::IpLength),
        ("IPv6, payload length a byte short of TCP", v6(|p| p.payload_len = Some(19)), Reason::IpLength),
        ("IPv6, payload length a byte beyond the frame", v6(|p| p.payload_len = Some(29)), Reason::IpLength),
        ("IPv6, payload length that ends in an extension", v6(|p| (p.payload_len, p.extensions) = (Some(27), vec![options(HOP_BY_HOP, 0)])), Reason::IpLength),
        ("IPv6, first fragment", v6(|p| p.extensions = vec![fragment(0, true)]), Reason::Fragment),
        ("IPv6, atomic fragment", v6(|p| p.extensions = vec![fragment(0, false)]), Reason::Fragment),
        ("IPv6, fragment behind hop-by-hop options", v6(|p| p.extensions = vec![options(HOP_BY_HOP, 0), fragment(0, true)]), Reason::Fragment),
        ("IPv6, later fragment", v6(|p| p.extensions = vec![fragment(1, true)]), Reason::LaterFragment),
        ("IPv6, last fragment", v6(|p| p.extensions = vec![fragment(8191, false)]), Reason::LaterFragment),
        ("IPv6, 9 extension headers", v6(|p| p.extensions = vec![options(DESTINATION_OPTIONS, 0); 9]), Reason::ExtensionHeaders),
        ("IPv6, 264 bytes of extensions", v6(|p| p.extensions = vec![options(HOP_BY_HOP, 32)]), Reason::ExtensionHeaders),
        ("IPv6, 2,048 bytes claimed in one extension", v6(|p| p.extensions = vec![(HOP_BY_HOP, vec![0, 255, 1, 4, 0, 0, 0, 0])]), Reason::ExtensionHeaders),
        ("IPv6, routing header of type 0", v6(|p| p.extensions = vec![routing(0, 0)]), Reason::RoutingHeader),
        ("IPv6, segments left", v6(|p| p.extensions = vec![routing(4, 1)]), Reason::RoutingHeader),
        ("IPv6, data offset 16", v6(|p| p.body = tcp(PORT, 4, 8)), Reason::TcpHeader),
    ]
}

/// Frames with tags, and what becomes of them without and with VLAN in the configuration.
#[rustfmt::skip]
pub fn tagged() -> Vec<(&'static str, Vec<u8>, Reason, Reason)> {
    let tag = (TPID_8021Q, 100);
    let priority = (TPID_8021Q, 0xe000);
    let qinq = vec![(TPID_8021AD, 7), (TPID_8021Q, 100)];
    vec![
        ("IPv4, VLAN", v4(|p| p.tags = vec![tag]), Reason::VlanTag, Reason::Tcp),
        ("IPv4, priority tag", v4(|p| p.tags = vec![priority]), Reason::VlanTag, Reason::Tcp),
        ("IPv4, service tag", v4(|p| p.tags = vec![(TPID_8021AD, 7)]), Reason::VlanTag, Reason::Tcp),
        ("IPv4, QinQ", v4(|p| p.tags = qinq.clone()), Reason::VlanTag, Reason::Tcp),
        ("IPv6, VLAN", v6(|p| p.tags = vec![tag]), Reason::VlanTag, Reason::Tcp),
        ("IPv6, QinQ", v6(|p| p.tags = qinq.clone()), Reason::VlanTag, Reason::Tcp),
        ("IPv4, three tags", v4(|p| p.tags = vec![tag; 3]), Reason::NotIp, Reason::NotIp),
        ("VLAN, other port", v4(|p| (p.tags, p.body) = (vec![tag], tcp(22, 5, 8))), Reason::NotLocal, Reason::NotLocal),
        ("VLAN, UDP", v4(|p| (p.tags, p.protocol) = (vec![tag], UDP)), Reason::NotTcp, Reason::NotTcp),
        ("VLAN, fragment", v4(|p| (p.tags, p.fragment) = (vec![tag], MORE_FRAGMENTS)), Reason::Fragment, Reason::Fragment),
        ("VLAN, a byte missing", cut(v4(|p| p.tags = vec![tag]), 65), Reason::IpLength, Reason::IpLength),
        ("QinQ, a byte missing", cut(v4(|p| p.tags = qinq.clone()), 69), Reason::IpLength, Reason::IpLength),
        ("tag cut by a byte", cut(v4(|p| p.tags = vec![tag]), 17), Reason::NotIp, Reason::NotIp),
        ("second tag cut by a byte", cut(v4(|p| p.tags = qinq.clone()), 21), Reason::NotIp, Reason::NotIp),
        ("tag and nothing else", cut(v4(|p| p.tags = vec![tag]), 18), Reason::Unreadable, Reason::Unreadable),
        ("VLAN, ARP", ethernet(&[tag], ETHERTYPE_ARP, &arp(1, SERVED_V4)), Reason::NotIp, Reason::NotIp),
    ]
}

/// What an owned address wants, and what only looks like it.
#[rustfmt::skip]
pub fn owned() -> Vec<Case> {
    let solicit =
        |dst, target| v6(|p| (p.protocol, p.dst, p.body) = (ICMPV6, dst, neighbor(135, target)));
    vec![
        ("ARP request", ethernet(&[], ETHERTYPE_ARP, &arp(1, OWNED_V4)), Reason::Owned),
        ("ARP reply", ethernet(&[], ETHERTYPE_ARP, &arp(2, OWNED_V4)), Reason::Owned),
        ("ARP, Ethernet padding", ethernet(&[], ETHERTYPE_ARP, &[arp(1, OWNED_V4), vec![0; 18]].concat()), Reason::Owned),
        ("ARP request for a served address", ethernet(&[], ETHERTYPE_ARP, &arp(1, SERVED_V4)), Reason::NotIp),
        ("ARP cut by a byte", cut(ethernet(&[], ETHERTYPE_ARP, &arp(1, OWNED_V4)), 41), Reason::NotIp),
        ("ARP of other hardware", ethernet(&[], ETHERTYPE_ARP, &[&[0, 6], &arp(1, OWNED_V4)[2..]].concat()), Reason::NotIp),
        ("echo request", v4(|p| (p.protocol, p.dst, p.body) = (ICMP, OWNED_V4, icmp(8))), Reason::Owned),
        ("fragmentation needed", v4(|p| (p.protocol, p.dst, p.body) = (ICMP, OWNED_V4, icmp(3))), Reason::Owned),
        ("echo request for a served address", v4(|p| (p.protocol, p.body) = (ICMP, icmp(8))), Reason::NotTcp),
        ("UDP", v4(|p| (p.protocol, p.dst, p.body) = (UDP, OWNED_V4, udp(53))), Reason::NotTcp),
        ("TCP on no endpoint", v4(|p| p.dst = OWNED_V4), Reason::NotLocal),
        ("neighbour solicitation to the group", solicit(solicited_node(OWNED_V6), OWNED_V6), Reason::Owned),
        ("neighbour solicitation to the address", solicit(OWNED_V6, OWNED_V6), Reason::Owned),
        ("neighbour solicitation for a served address", solicit(solicited_node(SERVED_V6), SERVED_V6), Reason::NotTcp),
        ("neighbour solicitation cut by a byte", cut(solicit(solicited_node(OWNED_V6), OWNED_V6), 77), Reason::NotTcp),
        ("neighbour advertisement to the address", v6(|p| (p.protocol, p.dst, p.body) = (ICMPV6, OWNED_V6, neighbor(136, OTHER_V6))), Reason::Owned),
        ("neighbour advertisement to all nodes", v6(|p| (p.protocol, p.dst, p.body) = (ICMPV6, solicited_node(OWNED_V6), neighbor(136, OWNED_V6))), Reason::NotTcp),
        ("ICMPv6 echo request", v6(|p| (p.protocol, p.dst, p.body) = (ICMPV6, OWNED_V6, icmp(128))), Reason::Owned),
        ("VLAN, ARP request", ethernet(&[(TPID_8021Q, 1)], ETHERTYPE_ARP, &arp(1, OWNED_V4)), Reason::NotIp),
    ]
}

/// ICMP errors that quote segments of ours, and those that only look like it.
#[rustfmt::skip]
pub fn icmp_errors() -> Vec<Case> {
    let about_v4 = |kind, code, port| v4(|p| (p.protocol, p.body) = (ICMP, icmp_error(kind, code, &SERVED_V4, port)));
    let about_v6 = |kind, code, port| v6(|p| (p.protocol, p.body) = (ICMPV6, icmp_error(kind, code, &SERVED_V6, port)));
    let quoting_v4 = |at: usize, byte| v4(|p| (p.protocol, p.body) = (ICMP, changed(icmp_error(3, 4, &SERVED_V4, PORT), at, byte)));
    let quoting_v6 = |at: usize, byte| v6(|p| (p.protocol, p.body) = (ICMPV6, changed(icmp_error(2, 0, &SERVED_V6, PORT), at, byte)));
    vec![
        ("fragmentation needed", about_v4(3, 4, PORT), Reason::Icmp),
        ("fragmentation needed, second port", about_v4(3, 4, PORT_V4_ONLY), Reason::Icmp),
        ("port unreachable", about_v4(3, 3, PORT), Reason::Icmp),
        ("host unreachable", about_v4(3, 1, PORT), Reason::Icmp),
        ("packet too big", about_v6(2, 0, PORT), Reason::Icmp),
        ("IPv6 port unreachable", about_v6(1, 4, PORT), Reason::Icmp),
        ("packet too big behind hop-by-hop options", v6(|p| (p.protocol, p.extensions, p.body) = (ICMPV6, vec![options(HOP_BY_HOP, 0)], icmp_error(2, 0, &SERVED_V6, PORT))), Reason::Icmp),
        ("fragmentation needed, the whole segment quoted", v4(|p| (p.protocol, p.body) = (ICMP, [icmp_error(3, 4, &SERVED_V4, PORT), vec![0; 500]].concat())), Reason::Icmp),
        ("about another port", about_v4(3, 4, 22), Reason::NotTcp),
        ("about port 0", about_v4(3, 4, 0), Reason::NotTcp),
        ("IPv6, about another port", about_v6(2, 0, 22), Reason::NotTcp),
        ("IPv6, about a port served over IPv4 only", about_v6(2, 0, PORT_V4_ONLY), Reason::NotTcp),
        ("time exceeded", about_v4(11, 0, PORT), Reason::NotTcp),
        ("source quench", about_v4(4, 0, PORT), Reason::NotTcp),
        ("redirect", about_v4(5, 1, PORT), Reason::NotTcp),
        ("IPv6 time exceeded", about_v6(3, 0, PORT), Reason::NotTcp),
        ("IPv6 parameter problem", about_v6(4, 1, PORT), Reason::NotTcp),
        ("quoting another address", v4(|p| (p.protocol, p.body) = (ICMP, icmp_error(3, 4, &OTHER_V4, PORT))), Reason::NotTcp),
        ("to another address, quoting ours", v4(|p| (p.dst, p.protocol, p.body) = (OTHER_V4, ICMP, icmp_error(3, 4, &SERVED_V4, PORT))), Reason::NotTcp),
        ("IPv6, quoting another address", v6(|p| (p.protocol, p.body) = (ICMPV6, icmp_error(2, 0, &OTHER_V6, PORT))), Reason::NotTcp),
        ("quoting UDP", quoting_v4(17, UDP), Reason::NotTcp),
        ("quoting options", quoting_v4(8, 0x46), Reason::NotTcp),
        ("quoting version 6", quoting_v4(8, 0x65), Reason::NotTcp),
        ("IPv6, quoting UDP", quoting_v6(14, UDP), Reason::NotTcp),
        ("IPv6, quoting version 4", quoting_v6(8, 0x45), Reason::NotTcp),
        ("cut in the quoted ports", cut(about_v4(3, 4, PORT), 14 + 20 + 8 + 20 + 3), Reason::NotTcp),
        ("IPv6, cut in the quoted ports", cut(about_v6(2, 0, PORT), 14 + 40 + 8 + 40 + 3), Reason::NotTcp),
        ("with options", v4(|p| (p.protocol, p.options, p.body) = (ICMP, vec![1; 4], icmp_error(3, 4, &SERVED_V4, PORT))), Reason::NotTcp),
        ("a first fragment", v4(|p| (p.protocol, p.fragment, p.body) = (ICMP, MORE_FRAGMENTS, icmp_error(3, 4, &SERVED_V4, PORT))), Reason::NotTcp),
        ("IPv6, an atomic fragment", v6(|p| (p.protocol, p.extensions, p.body) = (ICMPV6, vec![fragment(0, false)], icmp_error(2, 0, &SERVED_V6, PORT))), Reason::NotTcp),
        ("tagged", v4(|p| (p.tags, p.protocol, p.body) = (vec![(TPID_8021Q, 100)], ICMP, icmp_error(3, 4, &SERVED_V4, PORT))), Reason::NotTcp),
    ]
}

fn changed(mut message: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    message[at] = byte;
    message
}
