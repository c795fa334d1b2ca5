//! Neighbor solicitation and advertisement (RFC 4861 4.3, 4.4, 7.1, 7.2).
//!
//! Used in owned-address mode only. The hop limit of 255 proves that no router forwarded the message, so
//! only stations of the link can lie; whether the target is ours is the caller's question.

use core::net::Ipv6Addr;

use crate::ethernet::MacAddr;
use crate::icmp::{HEADER_LEN, Message};
use crate::ip::Datagram;
use crate::{DropReason, address, be};

/// ICMPv6 type of a neighbor solicitation.
pub(crate) const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbor advertisement.
pub(crate) const ADVERTISEMENT: u8 = 136;
/// The hop limit of every neighbor discovery packet.
pub(crate) const HOP_LIMIT: u8 = 255;
/// The all-nodes group of the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
const OPTION_UNIT: usize = 8;
const TARGET_LEN: usize = 16;

const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// "Who has `target`?"
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborSolicitation {
    /// The address asked for.
    pub target: Ipv6Addr,
    /// Source link-layer address option; never present in a duplicate address probe.
    pub source_mac: Option<MacAddr>,
}

/// "I have `target`."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborAdvertisement {
    /// The address announced.
    pub target: Ipv6Addr,
    /// The sender is a router.
    pub router: bool,
    /// In answer to a solicitation.
    pub solicited: bool,
    /// A cached link-layer address is to be replaced.
    pub override_: bool,
    /// Target link-layer address option.
    pub target_mac: Option<MacAddr>,
}

/// The group that a solicitation for `address` goes to (RFC 4291 2.7.1); with
/// [`MacAddr::ipv6_multicast`] for the link.
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The variable part of either message.
pub(crate) struct Body {
    flags: u8,
    bytes: [u8; TARGET_LEN + OPTION_UNIT],
    len: usize,
}

impl Body {
    fn new(flags: u8, target: Ipv6Addr, option: u8, mac: Option<MacAddr>) -> Body {
        let mut bytes = [0; TARGET_LEN + OPTION_UNIT];
        be::put(&mut bytes, 0, target.octets());
        let Some(mac) = mac else {
            return Body {
                flags,
                bytes,
                len: TARGET_LEN,
            };
        };
        // Option type, and its length in units of 8 bytes.
        be::put(&mut bytes, TARGET_LEN, [option, 1]);
        be::put(&mut bytes, TARGET_LEN + 2, mac.0);
        Body {
            flags,
            bytes,
            len: TARGET_LEN + OPTION_UNIT,
        }
    }

    pub(crate) fn message(&self, kind: u8) -> Message<'_> {
        Message {
            kind,
            code: 0,
            rest: [self.flags, 0, 0, 0],
            body: &self.bytes[..self.len],
        }
    }
}

impl NeighborSolicitation {
    pub(crate) fn body(&self) -> Body {
        Body::new(0, self.target, OPTION_SOURCE_MAC, self.source_mac)
    }
}

impl NeighborAdvertisement {
    pub(crate) fn body(&self) -> Body {
        let mut flags = 0;
        for (set, flag) in [
            (self.router, FLAG_ROUTER),
            (self.solicited, FLAG_SOLICITED),
            (self.override_, FLAG_OVERRIDE),
        ] {
            if set {
                flags |= flag;
            }
        }
        Body::new(flags, self.target, OPTION_TARGET_MAC, self.target_mac)
    }
}

/// Checks of RFC 4861 7.1.1.
pub(crate) fn parse_solicitation(
    header: &[u8; HEADER_LEN],
    body: &[u8],
    ip: &Datagram<Ipv6Addr>,
) -> Result<NeighborSolicitation, DropReason> {
    let (target, options) = parse_common(header, body, ip)?;
    let source_mac = find_mac(options, OPTION_SOURCE_MAC)?;
    if ip.src.is_unspecified() {
        if ip.dst != solicited_node(target) || source_mac.is_some() {
            return Err(DropReason::NdpMalformed);
        }
    } else if !address::is_unicast_v6(ip.src) {
        return Err(DropReason::IpBadSource);
    }
    Ok(NeighborSolicitation { target, source_mac })
}

/// Checks of RFC 4861 7.1.2.
pub(crate) fn parse_advertisement(
    header: &[u8; HEADER_LEN],
    body: &[u8],
    ip: &Datagram<Ipv6Addr>,
) -> Result<NeighborAdvertisement, DropReason> {
    let (target, options) = parse_common(header, body, ip)?;
    let target_mac = find_mac(options, OPTION_TARGET_MAC)?;
    let flags = header[4];
    let solicited = flags & FLAG_SOLICITED != 0;
    if !address::is_unicast_v6(ip.src) {
        return Err(DropReason::IpBadSource);
    }
    if ip.dst.is_multicast() && solicited {
        return Err(DropReason::NdpMalformed);
    }
    Ok(NeighborAdvertisement {
        target,
        router: flags & FLAG_ROUTER != 0,
        solicited,
        override_: flags & FLAG_OVERRIDE != 0,
        target_mac,
    })
}

/// The target and the options, after the checks both messages share.
fn parse_common<'a>(
    header: &[u8; HEADER_LEN],
    body: &'a [u8],
    ip: &Datagram<Ipv6Addr>,
) -> Result<(Ipv6Addr, &'a [u8]), DropReason> {
    if ip.hop_limit != HOP_LIMIT {
        return Err(DropReason::NdpBadHopLimit);
    }
    if !ip.dst.is_multicast() && !address::is_unicast_v6(ip.dst) {
        return Err(DropReason::IpBadDestination);
    }
    let (target, options) = body.split_first_chunk().ok_or(DropReason::IcmpTruncated)?;
    let target = Ipv6Addr::from_octets(*target);
    if header[1] != 0 || !address::is_unicast_v6(target) {
        return Err(DropReason::NdpMalformed);
    }
    Ok((target, options))
}

/// The link-layer address option of type `wanted`. All options are walked, since one of length 0 condemns
/// the packet wherever it is; each takes at least 8 bytes.
fn find_mac(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, DropReason> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, units] = options.first_chunk().ok_or(DropReason::NdpMalformed)?;
        let len = usize::from(units) * OPTION_UNIT;
        let (option, rest) = options
            .split_at_checked(len)
            .ok_or(DropReason::NdpMalformed)?;
        match option {
            [] => return Err(DropReason::NdpMalformed),
            &[_, 1, a, b, c, d, e, f] if kind == wanted => {
                let mac = MacAddr([a, b, c, d, e, f]);
                if mac.is_group() {
                    return Err(DropReason::NdpMalformed);
                }
                found = Some(mac);
            }
            _ => {}
        }
        options = rest;
    }
    Ok(found)
}
