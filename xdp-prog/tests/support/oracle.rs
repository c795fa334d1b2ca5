//! The program's rules a second time, in slow and plain Rust: what random frames are compared with.

use sluice_xdp_prog::{Reason, SteerConfig};

use super::frames::{
    DESTINATION_OPTIONS, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT, HOP_BY_HOP, ICMP,
    ICMPV6, ROUTING, TCP, TPID_8021AD, TPID_8021Q,
};

/// The verdict on `frame` while the service is up with a socket in every slot. Frames are linear.
pub fn reason(config: &SteerConfig, frame: &[u8]) -> Reason {
    let (ethertype, link_len) = match link(frame) {
        Some(found) => found,
        None => return Reason::NotIp,
    };
    let oracle = Oracle {
        config,
        tagged: link_len > 14,
    };
    let packet = &frame[link_len..];
    match ethertype {
        ETHERTYPE_IPV4 => oracle.ipv4(packet),
        ETHERTYPE_IPV6 => oracle.ipv6(packet),
        ETHERTYPE_ARP => oracle.arp(packet),
        _ => Reason::NotIp,
    }
}

/// The EtherType behind at most two tags, and where its packet starts; `None` where a tag is cut off.
fn link(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    for _ in 0..2 {
        if !matches!(be16(frame, at)?, TPID_8021Q | TPID_8021AD) {
            break;
        }
        at += 4;
    }
    Some((be16(frame, at)?, at + 2))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

struct Oracle<'c> {
    config: &'c SteerConfig,
    tagged: bool,
}

/// What the IP header says about the TCP segment in it.
struct Claim<'p> {
    address: &'p [u8],
    segment: &'p [u8],
    segment_len: usize,
    flaw: Option<Reason>,
}

impl Oracle<'_> {
    fn serves(&self, address: &[u8], port: Option<u16>) -> bool {
        self.config.endpoints.iter().any(|endpoint| {
            octets(endpoint.address) == address && port.is_none_or(|port| port == endpoint.port)
        })
    }

    fn owns(&self, address: &[u8]) -> bool {
        (!self.tagged || self.config.vlan)
            && self
                .config
                .owned
                .iter()
                .any(|&owned| octets(owned) == address)
    }

    /// An error that came to `address` quotes a segment from `source` and `port`.
    fn quotes(&self, address: &[u8], source: &[u8], port: Option<u16>) -> bool {
        let tag_refused = self.tagged && !self.config.vlan;
        address == source && !tag_refused && port != Some(0) && self.serves(address, port)
    }

    fn unparsable(&self, address: &[u8], reason: Reason) -> Reason {
        if self.serves(address, None) {
            reason
        } else {
            Reason::NotLocal
        }
    }

    fn arp(&self, packet: &[u8]) -> Reason {
        let ours =
            packet.len() >= 28 && packet[..6] == [0, 1, 8, 0, 6, 4] && self.owns(&packet[24..28]);
        if ours { Reason::Owned } else { Reason::NotIp }
    }

    fn ipv4(&self, packet: &[u8]) -> Reason {
        if packet.len() < 20 {
            return Reason::Unreadable;
        }
        let address = &packet[16..20];
        match packet[9] {
            ICMP if self.owns(address) => return Reason::Owned,
            ICMP => {
                let plain = packet[0] == 0x45 && be16(packet, 6).unwrap() & 0x3fff == 0;
                let quotes = |icmp: &[u8]| {
                    icmp.len() >= 32
                        && icmp[0] == 3
                        && icmp[8] == 0x45
                        && icmp[17] == TCP
                        && self.quotes(address, &icmp[20..24], be16(icmp, 28))
                };
                return if plain && quotes(&packet[20..]) {
                    Reason::Icmp
                } else {
                    Reason::NotTcp
                };
            }
            TCP => {}
            _ => return Reason::NotTcp,
        }
        let fragment = be16(packet, 6).unwrap();
        if fragment & 0x1fff != 0 {
            return Reason::LaterFragment;
        }
        let header = usize::from(packet[0] & 15) * 4;
        if packet[0] >> 4 != 4 || header < 20 {
            return self.unparsable(address, Reason::IpHeader);
        }
        let total = usize::from(be16(packet, 2).unwrap());
        let flaw = if total < header + 20 || total > packet.len() {
            Some(Reason::IpLength)
        } else if fragment & 0x2000 != 0 {
            Some(Reason::Fragment)
        } else {
            (header > 20).then_some(Reason::IpOptions)
        };
        let segment = packet.get(header..).unwrap_or_default();
        self.tcp(&Claim {
            address,
            segment,
            segment_len: total.saturating_sub(header),
            flaw,
        })
    }

    fn ipv6(&self, packet: &[u8]) -> Reason {
        if packet.len() < 40 {
            return Reason::Unreadable;
        }
        let address = &packet[24..40];
        if packet[0] >> 4 != 6 {
            return self.unparsable(address, Reason::IpHeader);
        }
        let (mut next, mut at, mut headers) = (packet[6], 40, 0);
        let (mut fragment, mut routing) = (false, false);
        while matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            if headers == 8 {
                return self.unparsable(address, Reason::ExtensionHeaders);
            }
            let Some(header) = packet.get(at..at + 8) else {
                return self.unparsable(address, Reason::Truncated);
            };
            at += 8;
            if next == FRAGMENT {
                if be16(header, 2).unwrap() & 0xfff8 != 0 {
                    return Reason::LaterFragment;
                }
                fragment = true;
            } else {
                at += usize::from(header[1]) * 8;
                routing |= next == ROUTING && (header[2] == 0 || header[3] != 0);
            }
            if at > 40 + 256 {
                return self.unparsable(address, Reason::ExtensionHeaders);
            }
            next = header[0];
            headers += 1;
        }
        let body = packet.get(at..).unwrap_or_default();
        if next == ICMPV6 {
            let asks_for_owned = body.len() >= 24 && body[0] == 135 && self.owns(&body[8..24]);
            let quotes = body.len() >= 52
                && matches!(body[0], 1 | 2)
                && body[8] >> 4 == 6
                && body[14] == TCP
                && self.quotes(address, &body[16..32], be16(body, 48));
            return if self.owns(address) || asks_for_owned {
                Reason::Owned
            } else if quotes && !fragment && !routing {
                Reason::Icmp
            } else {
                Reason::NotTcp
            };
        }
        if next != TCP {
            return Reason::NotTcp;
        }
        let end = 40 + usize::from(be16(packet, 4).unwrap());
        let flaw = if end < at + 20 || end > packet.len() {
            Some(Reason::IpLength)
        } else if fragment {
            Some(Reason::Fragment)
        } else {
            routing.then_some(Reason::RoutingHeader)
        };
        self.tcp(&Claim {
            address,
            segment: body,
            segment_len: end.saturating_sub(at),
            flaw,
        })
    }

    fn tcp(&self, claim: &Claim<'_>) -> Reason {
        if claim.segment.len() < 4 {
            return self.unparsable(claim.address, Reason::Truncated);
        }
        if !self.serves(claim.address, be16(claim.segment, 2)) {
            return Reason::NotLocal;
        }
        if let Some(flaw) = claim.flaw {
            return flaw;
        }
        if self.tagged && !self.config.vlan {
            return Reason::VlanTag;
        }
        let header = usize::from(claim.segment[12] >> 4) * 4;
        if header < 20 || header > claim.segment_len {
            Reason::TcpHeader
        } else {
            Reason::Tcp
        }
    }
}

fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
