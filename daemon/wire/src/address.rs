//! Addresses that no unicast conversation can have (RFC 9293 MUST-57 and MUST-63, RFC 1122 3.2.1.3).
//!
//! An answer to one of these would reach many hosts, the sender itself or nobody, so such a packet is
//! dropped before anything looks at it. A subnet broadcast cannot be told without the netmask: it is
//! refused later, because no local endpoint has that address.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::DropReason;
use crate::ethernet::LinkHeader;
use crate::ip::Datagram;

/// Whether one host can have this address. All of 0.0.0.0/8 is "this network", not only 0.0.0.0.
/// 240.0.0.0/4 counts as unicast except 255.255.255.255: networks use it, and Linux does the same.
pub(crate) fn is_unicast_v4(address: Ipv4Addr) -> bool {
    let this_network = address.octets()[0] == 0;
    !(this_network || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}

/// Whether one host can have this address. An IPv4-mapped one on the wire is forged: a dual-stack flow
/// table would take it for the IPv4 host.
pub(crate) fn is_unicast_v6(address: Ipv6Addr) -> bool {
    let mapped = address.to_ipv4_mapped().is_some();
    !(mapped || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_unicast_v4(v4),
        IpAddr::V6(v6) => is_unicast_v6(v6),
    }
}

/// Checks both ends of a unicast packet.
pub(crate) fn check_unicast(src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
    if !is_unicast(src) {
        Err(DropReason::IpBadSource)
    } else if !is_unicast(dst) {
        Err(DropReason::IpBadDestination)
    } else if src == dst {
        Err(DropReason::IpSourceIsDestination)
    } else {
        Ok(())
    }
}

/// Checks both ends of a unicast packet and that it did not come in a broadcast or multicast frame.
pub(crate) fn check_unicast_packet<A: Copy + Into<IpAddr>>(
    link: &LinkHeader,
    ip: &Datagram<A>,
) -> Result<(), DropReason> {
    check_unicast(ip.src.into(), ip.dst.into())?;
    if link.dst.is_group() {
        Err(DropReason::EthernetGroupDestination)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOGUS: [&str; 13] = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "ff0e::5",
        "::ffff:192.0.2.1",
        "::ffff:0.0.0.0",
    ];

    #[test]
    fn bogus_addresses_are_refused_at_both_ends() {
        for text in BOGUS {
            let bogus: IpAddr = text.parse().unwrap();
            let good: IpAddr = if bogus.is_ipv4() {
                "192.0.2.1"
            } else {
                "2001:db8::1"
            }
            .parse()
            .unwrap();
            assert_eq!(
                check_unicast(bogus, good),
                Err(DropReason::IpBadSource),
                "{text}"
            );
            assert_eq!(
                check_unicast(good, bogus),
                Err(DropReason::IpBadDestination),
                "{text}"
            );
        }
    }

    #[test]
    fn unicast_addresses_pass() {
        for (src, dst) in [
            ("10.0.0.1", "192.0.2.1"),
            ("240.0.0.1", "1.1.1.1"),
            ("fe80::1", "2001:db8::1"),
        ] {
            assert_eq!(
                check_unicast(src.parse().unwrap(), dst.parse().unwrap()),
                Ok(()),
                "{src}"
            );
        }
    }

    #[test]
    fn a_packet_to_itself_is_refused() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address = text.parse().unwrap();
            assert_eq!(
                check_unicast(address, address),
                Err(DropReason::IpSourceIsDestination)
            );
        }
    }
}
