//! From the bytes of a frame to a packet, or to the reason why not: the order of the layers.
//!
//! Everything is checked here again that the XDP program has checked: the filter is an optimisation, never
//! a guard. A TCP packet comes out with its checksum not yet verified, because the payload may lie in
//! further pieces of the frame; [`TcpPacket::verify_checksum`] takes them. ARP and ICMP come out verified.

use core::net::IpAddr;
use core::ops::Range;

use crate::arp::{self, ArpPacket};
use crate::checksum;
use crate::ethernet::{self, ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, LinkHeader};
use crate::frame::Frame;
use crate::icmpv4::{self, Icmpv4Packet};
use crate::icmpv6::{self, Icmpv6Packet};
use crate::ip::{Datagram, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP};
use crate::tcp::{self, TcpFlags, TcpHeader};
use crate::vlan::{TAG_LEN, VlanTags};
use crate::{DropReason, Ecn, address, ipv4, ipv6};

/// The most bytes of headers that [`parse`] ever reads of a TCP packet. A first piece of at least this
/// size never yields [`DropReason::HeadersNotLinear`] for one.
pub const MAX_PARSED_HEADERS: usize = ethernet::HEADER_LEN
    + VlanTags::MAX * TAG_LEN
    + ipv6::HEADER_LEN
    + ipv6::MAX_EXTENSION_BYTES
    + tcp::MAX_LEN;

/// What [`parse`] accepts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ParseConfig {
    /// Accept frames with one or two VLAN tags. Which identifiers are ours is for the caller to check.
    pub vlan: bool,
}

/// A frame that was understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// A TCP segment, its checksum not yet verified.
    Tcp(TcpPacket),
    /// An ARP request or reply.
    Arp(ArpPacket),
    /// ICMP echo or an error about one of our segments.
    Icmpv4(Icmpv4Packet<'a>),
    /// The same for IPv6, and neighbor discovery.
    Icmpv6(Icmpv6Packet<'a>),
}

/// A TCP segment in a frame: headers by value, payload by place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpPacket {
    /// Link header.
    pub link: LinkHeader,
    /// Source address: a unicast address, other than `dst` and of the same version.
    pub src: IpAddr,
    /// Destination address: a unicast address, not necessarily ours.
    pub dst: IpAddr,
    /// ECN codepoint.
    pub ecn: Ecn,
    /// TCP header.
    pub header: TcpHeader,
    /// The checksum field.
    pub checksum: u16,
    /// Offset of the TCP header in the frame, in bytes.
    pub tcp_offset: usize,
    /// Offset of the payload in the frame, in bytes; it may lie in a later piece.
    pub payload_offset: usize,
    /// Bytes of payload by the IP length, which the frame is known to hold over all its pieces.
    pub payload_len: usize,
}

/// Which checksum fields are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumPolicy {
    /// The checksum of RFC 9293 3.1 and nothing else: physical interfaces, always.
    Verify,
    /// Also a field that holds only the pseudo-header sum, not complemented: what a virtual peer with TX
    /// checksum offload leaves (`CHECKSUM_PARTIAL`), and what GRO writes into the segments it merged. It
    /// says nothing about the payload, so it is for interfaces that are memory copies on one host.
    AcceptPartial,
}

/// Reads a frame.
///
/// `head` is the first piece of the frame and must hold all headers (for ARP and ICMP the whole packet);
/// `frame_len` is the length over all pieces, in bytes. The payload of the result may reach beyond `head`,
/// never beyond `frame_len`. Padding after the IP packet is ignored.
///
/// # Errors
/// The [`DropReason`] to count. The frame has no further use then.
pub fn parse<'a>(
    head: &'a [u8],
    frame_len: usize,
    config: &ParseConfig,
) -> Result<Packet<'a>, DropReason> {
    let frame = Frame::new(head, frame_len);
    let (link, ether_type) = ethernet::parse(&frame, config.vlan)?;
    match ether_type {
        ETHER_TYPE_IPV4 => parse_ipv4(&frame, link),
        ETHER_TYPE_IPV6 => parse_ipv6(&frame, link),
        ETHER_TYPE_ARP => Ok(Packet::Arp(arp::parse(&frame, link)?)),
        _ => Err(DropReason::EtherTypeUnsupported),
    }
}

fn parse_ipv4<'a>(frame: &Frame<'a>, link: LinkHeader) -> Result<Packet<'a>, DropReason> {
    let ip = ipv4::parse(frame, link.encoded_len())?;
    address::check_unicast_packet(&link, &ip)?;
    let frame = frame.cut(ip.end);
    match ip.protocol {
        PROTOCOL_TCP => Ok(Packet::Tcp(parse_tcp(&frame, link, &ip)?)),
        PROTOCOL_ICMP => Ok(Packet::Icmpv4(icmpv4::parse(&frame, link, &ip)?)),
        _ => Err(DropReason::IpProtocolUnsupported),
    }
}

fn parse_ipv6<'a>(frame: &Frame<'a>, link: LinkHeader) -> Result<Packet<'a>, DropReason> {
    let ip = ipv6::parse(frame, link.encoded_len())?;
    let frame = frame.cut(ip.end);
    match ip.protocol {
        PROTOCOL_TCP => {
            address::check_unicast_packet(&link, &ip)?;
            Ok(Packet::Tcp(parse_tcp(&frame, link, &ip)?))
        }
        PROTOCOL_ICMPV6 => Ok(Packet::Icmpv6(icmpv6::parse(&frame, link, &ip)?)),
        _ => Err(DropReason::IpProtocolUnsupported),
    }
}

/// `frame` ends where the datagram ends.
#[inline(always)]
fn parse_tcp<A: Copy + Into<IpAddr>>(
    frame: &Frame<'_>,
    link: LinkHeader,
    ip: &Datagram<A>,
) -> Result<TcpPacket, DropReason> {
    let tcp::Parsed {
        header,
        header_len,
        checksum,
    } = tcp::parse(frame, ip.payload)?;
    let payload_offset = ip.payload + header_len;
    Ok(TcpPacket {
        link,
        src: ip.src.into(),
        dst: ip.dst.into(),
        ecn: ip.ecn,
        header,
        checksum,
        tcp_offset: ip.payload,
        payload_offset,
        // The header was found within the datagram.
        payload_len: ip.end - payload_offset,
    })
}

impl TcpPacket {
    /// Where the payload lies, in bytes from the start of the frame.
    #[must_use]
    pub fn payload(&self) -> Range<usize> {
        self.payload_offset..self.payload_offset.saturating_add(self.payload_len)
    }

    /// SEG.LEN: bytes of payload, and one each for SYN and FIN (RFC 9293 3.3.1). At most 65,517.
    #[must_use]
    pub fn segment_len(&self) -> u32 {
        let syn = u32::from(self.header.flags.contains(TcpFlags::SYN));
        let fin = u32::from(self.header.flags.contains(TcpFlags::FIN));
        u32::try_from(self.payload_len)
            .unwrap_or(u32::MAX)
            .saturating_add(syn + fin)
    }

    /// Verifies the checksum over header and payload (RFC 9293 MUST-3).
    ///
    /// `pieces` is the whole frame from offset 0, in order, cut anywhere; what comes after the IP packet is
    /// not looked at.
    ///
    /// # Errors
    /// [`DropReason::TcpBadChecksum`], or [`DropReason::TcpPiecesMissing`] if the pieces end too early.
    pub fn verify_checksum<'p>(
        &self,
        pieces: impl IntoIterator<Item = &'p [u8]>,
        policy: ChecksumPolicy,
    ) -> Result<(), DropReason> {
        let segment = self.tcp_offset..self.payload().end;
        let len = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        let mut total = checksum::pseudo_header(self.src, self.dst, PROTOCOL_TCP, len);
        if policy == ChecksumPolicy::AcceptPartial && self.checksum == total.fold() {
            return Ok(());
        }
        let mut skip = segment.start;
        let mut left = segment.len();
        for piece in pieces {
            let part = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let part = &part[..part.len().min(left)];
            total.add_bytes(part);
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            Err(DropReason::TcpPiecesMissing)
        } else if total.fold() != 0xffff {
            Err(DropReason::TcpBadChecksum)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
