//! Why a frame was refused: one name per reason, counted by the caller.
//!
//! The numbers index counter tables and appear in metrics, so a number is never reused and a new reason is
//! appended. Several reasons may hold for one frame; [`crate::parse`] reports the first it meets on its way
//! from the link to the transport.

use core::fmt;

macro_rules! drop_reasons {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $index:literal $name:literal, )+) => {
        /// Why a frame was refused. See the variants for the rule and its source.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $( $(#[doc = $doc])+ $variant = $index, )+
        }

        impl DropReason {
            /// Every reason, ordered so that `ALL[r.index()] == r`.
            pub const ALL: &'static [DropReason] = &[$( DropReason::$variant, )+];

            /// The name used in metrics and logs, in snake case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( DropReason::$variant => $name, )+
                }
            }
        }
    };
}

drop_reasons! {
    /// The frame ends inside the Ethernet header.
    EthernetTruncated = 0 "ethernet_truncated",
    /// The source MAC address has the group bit set (IEEE 802.3 3.2.3): an answer would be a broadcast.
    EthernetGroupSource = 1 "ethernet_group_source",
    /// A unicast IP packet in a broadcast or multicast frame (RFC 1122 3.3.6).
    EthernetGroupDestination = 2 "ethernet_group_destination",
    /// The EtherType is none of IPv4, IPv6 and ARP.
    EtherTypeUnsupported = 3 "ether_type_unsupported",
    /// The frame ends inside a VLAN tag.
    VlanTruncated = 4 "vlan_truncated",
    /// A tagged frame where the configuration accepts none.
    VlanNotAccepted = 5 "vlan_not_accepted",
    /// More than two VLAN tags.
    VlanTooManyTags = 6 "vlan_too_many_tags",
    /// The headers go on beyond the first piece of a multi-buffer frame.
    HeadersNotLinear = 7 "headers_not_linear",
    /// The frame ends inside the ARP packet.
    ArpTruncated = 8 "arp_truncated",
    /// ARP for other than IPv4 over Ethernet, or neither request nor reply (RFC 826).
    ArpUnsupported = 9 "arp_unsupported",
    /// An ARP address that no host can have: group hardware, multicast, broadcast or loopback protocol address.
    ArpBadAddress = 10 "arp_bad_address",
    /// The frame ends inside the IPv4 header.
    Ipv4Truncated = 11 "ipv4_truncated",
    /// The version field under EtherType IPv4 is not 4.
    Ipv4BadVersion = 12 "ipv4_bad_version",
    /// The IPv4 header length is below 20 bytes.
    Ipv4BadHeaderLength = 13 "ipv4_bad_header_length",
    /// The IPv4 total length is below its header or beyond the frame.
    Ipv4BadTotalLength = 14 "ipv4_bad_total_length",
    /// The IPv4 header carries options; source routes are among them (RFC 7126).
    Ipv4Options = 15 "ipv4_options",
    /// The IPv4 header checksum is wrong.
    Ipv4BadChecksum = 16 "ipv4_bad_checksum",
    /// The IPv4 time to live is 0: no host may send and no router forward it (RFC 1122 3.2.1.7).
    Ipv4ZeroTtl = 17 "ipv4_zero_ttl",
    /// An IPv4 fragment: an offset, or more to come. Nothing is reassembled.
    Ipv4Fragment = 18 "ipv4_fragment",
    /// The frame ends inside the IPv6 header.
    Ipv6Truncated = 19 "ipv6_truncated",
    /// The version field under EtherType IPv6 is not 6.
    Ipv6BadVersion = 20 "ipv6_bad_version",
    /// The IPv6 payload length reaches beyond the frame.
    Ipv6BadPayloadLength = 21 "ipv6_bad_payload_length",
    /// The IPv6 hop limit is 0: likewise (RFC 8200 3).
    Ipv6ZeroHopLimit = 22 "ipv6_zero_hop_limit",
    /// An IPv6 jumbogram (RFC 2675).
    Ipv6Jumbogram = 23 "ipv6_jumbogram",
    /// An IPv6 fragment header, atomic fragments included (RFC 6946, 8021).
    Ipv6Fragment = 24 "ipv6_fragment",
    /// An IPv6 routing header of type 0, or any with segments left (RFC 5095, RFC 8200 4.4).
    Ipv6SourceRoute = 25 "ipv6_source_route",
    /// More than 8 IPv6 extension headers, or more than 256 bytes of them (RFC 8504 5.3).
    Ipv6TooManyExtensions = 26 "ipv6_too_many_extensions",
    /// An IPv6 extension header cut short, out of place, or with an option that demands to be dropped
    /// (RFC 8200 4.1, 4.2).
    Ipv6BadExtension = 27 "ipv6_bad_extension",
    /// A source that no unicast host has: multicast, broadcast, unspecified, loopback, IPv4-mapped
    /// (RFC 9293 MUST-63).
    IpBadSource = 28 "ip_bad_source",
    /// A destination of the same kinds (RFC 9293 MUST-57).
    IpBadDestination = 29 "ip_bad_destination",
    /// Source and destination address are the same ("LAND").
    IpSourceIsDestination = 30 "ip_source_is_destination",
    /// A protocol other than TCP and ICMP.
    IpProtocolUnsupported = 31 "ip_protocol_unsupported",
    /// The IP payload ends inside the TCP header.
    TcpTruncated = 32 "tcp_truncated",
    /// The TCP data offset is below 20 bytes or beyond the IP payload.
    TcpBadDataOffset = 33 "tcp_bad_data_offset",
    /// A TCP option with length 0, 1 or past the end (RFC 9293 MUST-7).
    TcpBadOption = 34 "tcp_bad_option",
    /// The TCP checksum is wrong (RFC 9293 MUST-3).
    TcpBadChecksum = 35 "tcp_bad_checksum",
    /// The pieces given to the checksum hold fewer bytes than the IP length promises.
    TcpPiecesMissing = 36 "tcp_pieces_missing",
    /// The IP payload ends inside the ICMP message.
    IcmpTruncated = 37 "icmp_truncated",
    /// The ICMP checksum is wrong.
    IcmpBadChecksum = 38 "icmp_bad_checksum",
    /// An ICMP type we neither answer nor obey; redirects and source quench (RFC 6633) are among them.
    IcmpUnsupported = 39 "icmp_unsupported",
    /// An ICMP error that does not quote the start of a TCP segment sent from the address it came to.
    IcmpBadQuote = 40 "icmp_bad_quote",
    /// Neighbor discovery with a hop limit other than 255: it came over a router (RFC 4861 7.1).
    NdpBadHopLimit = 41 "ndp_bad_hop_limit",
    /// Neighbor discovery that breaks another rule of RFC 4861 7.1.
    NdpMalformed = 42 "ndp_malformed",
}

impl DropReason {
    /// The place of this reason in [`DropReason::ALL`] and in counter tables.
    #[must_use]
    pub const fn index(self) -> usize {
        // `usize::from` is not const; the enum is repr(u8), so nothing is lost.
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn index_is_the_place_in_all() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
        }
    }

    #[test]
    fn names_are_unique_and_snake_case() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        for name in names {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn names_are_the_variants_in_snake_case() {
        for reason in DropReason::ALL {
            let variant = std::format!("{reason:?}").to_lowercase();
            assert_eq!(reason.name().replace('_', ""), variant);
        }
    }
}
