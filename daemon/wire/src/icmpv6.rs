//! ICMP for IPv6 (RFC 4443): echo, neighbor discovery, and the errors a TCP connection can learn from.
//!
//! Everything else is counted and dropped: router advertisements and redirects belong to the kernel, group
//! membership has no business here, and the other errors say nothing a sender of TCP could act on.

use core::net::{IpAddr, Ipv6Addr};

use crate::checksum;
use crate::emit::EmitError;
use crate::ethernet::{LinkHeader, MacAddr};
use crate::frame::Frame;
use crate::icmp::{self, Echo, IcmpError, IcmpErrorKind, Message, QUOTED_TCP_LEN, QuotedSegment};
use crate::ip::{self, Datagram, Envelope, PROTOCOL_ICMPV6};
use crate::ndp::{self, NeighborAdvertisement, NeighborSolicitation};
use crate::{DropReason, Ecn, address, be, ipv6};

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// Bytes quoted by the errors we write: a header and the start of TCP.
const QUOTE_LEN: usize = ipv6::HEADER_LEN + QUOTED_TCP_LEN;

/// An ICMPv6 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv6Packet<'a> {
    /// Link header.
    pub link: LinkHeader,
    /// Source address; of an error, any router on the path; unspecified in a duplicate address probe.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// The message.
    pub message: Icmpv6Message<'a>,
}

/// An ICMPv6 message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmpv6Message<'a> {
    /// A ping.
    EchoRequest(Echo<'a>),
    /// Its answer.
    EchoReply(Echo<'a>),
    /// Who has an address?
    NeighborSolicitation(NeighborSolicitation),
    /// Who has it.
    NeighborAdvertisement(NeighborAdvertisement),
    /// An error about one of our segments.
    Error(IcmpError),
}

impl<'a> Icmpv6Packet<'a> {
    /// The answer to an echo request (RFC 4443 4.2) or, saying that `mac` has the target, to a neighbor
    /// solicitation (RFC 4861 7.2.4); `None` for other messages. It goes to the station the question came
    /// from, not to one that the question names.
    #[must_use]
    pub fn reply(&self, mac: MacAddr) -> Option<Icmpv6Packet<'a>> {
        let link = LinkHeader {
            dst: self.link.src,
            src: mac,
            vlan: self.link.vlan,
        };
        match self.message {
            Icmpv6Message::EchoRequest(echo) => {
                let message = Icmpv6Message::EchoReply(echo);
                Some(Icmpv6Packet {
                    link,
                    src: self.dst,
                    dst: self.src,
                    message,
                })
            }
            Icmpv6Message::NeighborSolicitation(solicitation) => {
                // Who probes for duplicates has no address yet: everybody is told.
                let probe = self.src.is_unspecified();
                let (dst, link) = if probe {
                    let all_nodes = ndp::ALL_NODES;
                    (
                        all_nodes,
                        LinkHeader {
                            dst: MacAddr::ipv6_multicast(all_nodes),
                            ..link
                        },
                    )
                } else {
                    (self.src, link)
                };
                let message = Icmpv6Message::NeighborAdvertisement(NeighborAdvertisement {
                    target: solicitation.target,
                    router: false,
                    solicited: !probe,
                    override_: true,
                    target_mac: Some(mac),
                });
                Some(Icmpv6Packet {
                    link,
                    src: solicitation.target,
                    dst,
                    message,
                })
            }
            _ => None,
        }
    }

    /// Writes the frame and returns its length in bytes. Neighbor discovery gets hop limit 255; an error
    /// quotes only what names the segment.
    ///
    /// # Errors
    /// [`EmitError`]; `buf` may then be partly written.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize, EmitError> {
        let quote;
        let neighbor;
        let mut hop_limit = ip::DEFAULT_HOP_LIMIT;
        let message = match &self.message {
            Icmpv6Message::EchoRequest(echo) => Message::echo(ECHO_REQUEST, echo),
            Icmpv6Message::EchoReply(echo) => Message::echo(ECHO_REPLY, echo),
            Icmpv6Message::NeighborSolicitation(solicitation) => {
                hop_limit = ndp::HOP_LIMIT;
                neighbor = solicitation.body();
                neighbor.message(ndp::SOLICITATION)
            }
            Icmpv6Message::NeighborAdvertisement(advertisement) => {
                hop_limit = ndp::HOP_LIMIT;
                neighbor = advertisement.body();
                neighbor.message(ndp::ADVERTISEMENT)
            }
            Icmpv6Message::Error(error) => {
                quote = self::quote(&error.quoted)?;
                let (kind, code, rest) = match error.kind {
                    IcmpErrorKind::Unreachable { code } => (UNREACHABLE, code, [0; 4]),
                    IcmpErrorKind::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
                };
                Message {
                    kind,
                    code,
                    rest,
                    body: &quote,
                }
            }
        };
        let (src, dst) = (self.src.into(), self.dst.into());
        let len = u32::try_from(message.encoded_len()).map_err(|_| EmitError::TooLong)?;
        let pseudo_header = checksum::pseudo_header(src, dst, PROTOCOL_ICMPV6, len);
        let envelope = Envelope {
            link: &self.link,
            src,
            dst,
            protocol: PROTOCOL_ICMPV6,
            ecn: Ecn::NotEct,
            hop_limit,
        };
        message.emit(&envelope, pseudo_header, buf)
    }
}

/// What a router would quote of the segment, cut after the first bytes of TCP.
fn quote(quoted: &QuotedSegment) -> Result<[u8; QUOTE_LEN], EmitError> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (quoted.src, quoted.dst) else {
        return Err(EmitError::MixedFamilies);
    };
    // The length of the shortest segment there is: 20 bytes.
    let fields = ipv6::Fields {
        src,
        dst,
        next_header: ip::PROTOCOL_TCP,
        ecn: Ecn::NotEct,
        hop_limit: ip::DEFAULT_HOP_LIMIT,
        payload_len: 20,
    };
    let mut quote = [0; QUOTE_LEN];
    let mut header = [0; ipv6::HEADER_LEN];
    fields.emit(&mut header);
    be::put(&mut quote, 0, header);
    be::put(&mut quote, ipv6::HEADER_LEN, quoted.tcp_bytes());
    Ok(quote)
}

/// Reads the message of a datagram; `frame` ends where the datagram ends. Unlike elsewhere the addresses
/// are judged here, because neighbor discovery is multicast.
pub(crate) fn parse<'a>(
    frame: &Frame<'a>,
    link: LinkHeader,
    ip: &Datagram<Ipv6Addr>,
) -> Result<Icmpv6Packet<'a>, DropReason> {
    let len = u32::try_from(ip.end - ip.payload).map_err(|_| DropReason::IcmpTruncated)?;
    let pseudo_header = checksum::pseudo_header(ip.src.into(), ip.dst.into(), PROTOCOL_ICMPV6, len);
    let (header, body) = icmp::open(frame, ip.payload, pseudo_header)?;
    let message = match (header[0], header[1]) {
        (ndp::SOLICITATION, _) => {
            Icmpv6Message::NeighborSolicitation(ndp::parse_solicitation(header, body, ip)?)
        }
        (ndp::ADVERTISEMENT, _) => {
            Icmpv6Message::NeighborAdvertisement(ndp::parse_advertisement(header, body, ip)?)
        }
        (ECHO_REQUEST, 0) => Icmpv6Message::EchoRequest(icmp::parse_echo(header, body)),
        (ECHO_REPLY, 0) => Icmpv6Message::EchoReply(icmp::parse_echo(header, body)),
        (PACKET_TOO_BIG, _) => {
            let mtu = be::u32_at(header, 4);
            let kind = IcmpErrorKind::PacketTooBig { mtu };
            Icmpv6Message::Error(parse_error(kind, ip.dst, body)?)
        }
        (UNREACHABLE, code) => {
            let kind = IcmpErrorKind::Unreachable { code };
            Icmpv6Message::Error(parse_error(kind, ip.dst, body)?)
        }
        _ => return Err(DropReason::IcmpUnsupported),
    };
    match message {
        Icmpv6Message::NeighborSolicitation(_) | Icmpv6Message::NeighborAdvertisement(_) => {}
        _ => address::check_unicast_packet(&link, ip)?,
    }
    Ok(Icmpv6Packet {
        link,
        src: ip.src,
        dst: ip.dst,
        message,
    })
}

fn parse_error(kind: IcmpErrorKind, us: Ipv6Addr, quote: &[u8]) -> Result<IcmpError, DropReason> {
    let (src, dst, protocol, header_len) =
        ipv6::parse_quoted(quote).ok_or(DropReason::IcmpBadQuote)?;
    // An error comes to the host that sent what it quotes.
    if src != us {
        return Err(DropReason::IcmpBadQuote);
    }
    let after_ip = quote.get(header_len..).ok_or(DropReason::IcmpBadQuote)?;
    let quoted = QuotedSegment::parse(src.into(), dst.into(), protocol, after_ip)
        .ok_or(DropReason::IcmpBadQuote)?;
    Ok(IcmpError { kind, quoted })
}

#[cfg(test)]
mod tests;
