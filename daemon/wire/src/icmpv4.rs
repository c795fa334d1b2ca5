//! ICMP for IPv4 (RFC 792): echo, and the errors a TCP connection can learn from.
//!
//! Everything else is counted and dropped: redirects, source quench (RFC 6633), timestamps, and the errors
//! that say nothing a sender of TCP could act on.

use core::net::{IpAddr, Ipv4Addr};

use crate::checksum::Sum;
use crate::emit::EmitError;
use crate::ethernet::LinkHeader;
use crate::frame::Frame;
use crate::icmp::{self, Echo, IcmpError, IcmpErrorKind, Message, QUOTED_TCP_LEN, QuotedSegment};
use crate::ip::{self, Datagram, Envelope};
use crate::{DropReason, Ecn, be, ipv4};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
/// Code of [`UNREACHABLE`]: fragmentation needed and DF set (RFC 1191 4).
const FRAGMENTATION_NEEDED: u8 = 4;

/// Bytes quoted by the errors we write: a header and the start of TCP, the minimum of RFC 792.
const QUOTE_LEN: usize = ipv4::HEADER_LEN + QUOTED_TCP_LEN;

/// An ICMPv4 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv4Packet<'a> {
    /// Link header.
    pub link: LinkHeader,
    /// Source address; of an error, any router on the path.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// The message.
    pub message: Icmpv4Message<'a>,
}

/// An ICMPv4 message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmpv4Message<'a> {
    /// A ping.
    EchoRequest(Echo<'a>),
    /// Its answer.
    EchoReply(Echo<'a>),
    /// An error about one of our segments.
    Error(IcmpError),
}

impl<'a> Icmpv4Packet<'a> {
    /// The answer to an echo request (RFC 1122 3.2.2.6), as long as the request; `None` for other messages.
    #[must_use]
    pub fn reply(&self) -> Option<Icmpv4Packet<'a>> {
        let Icmpv4Message::EchoRequest(echo) = self.message else {
            return None;
        };
        let message = Icmpv4Message::EchoReply(echo);
        Some(Icmpv4Packet {
            link: self.link.reply(),
            src: self.dst,
            dst: self.src,
            message,
        })
    }

    /// Writes the frame and returns its length in bytes. An error quotes the minimum; an MTU beyond 16 bits
    /// is written as 65535.
    ///
    /// # Errors
    /// [`EmitError`]; `buf` may then be partly written.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize, EmitError> {
        let envelope = Envelope {
            link: &self.link,
            src: self.src.into(),
            dst: self.dst.into(),
            protocol: ip::PROTOCOL_ICMP,
            ecn: Ecn::NotEct,
            hop_limit: ip::DEFAULT_HOP_LIMIT,
        };
        let quote;
        let message = match &self.message {
            Icmpv4Message::EchoRequest(echo) => Message::echo(ECHO_REQUEST, echo),
            Icmpv4Message::EchoReply(echo) => Message::echo(ECHO_REPLY, echo),
            Icmpv4Message::Error(error) => {
                quote = self::quote(&error.quoted)?;
                let mut rest = [0; 4];
                let code = match error.kind {
                    IcmpErrorKind::Unreachable { code } => code,
                    IcmpErrorKind::PacketTooBig { mtu } => {
                        be::put(
                            &mut rest,
                            2,
                            u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes(),
                        );
                        FRAGMENTATION_NEEDED
                    }
                };
                Message {
                    kind: UNREACHABLE,
                    code,
                    rest,
                    body: &quote,
                }
            }
        };
        message.emit(&envelope, Sum::default(), buf)
    }
}

/// What a router would quote of the segment: its IP header and the first bytes of TCP.
fn quote(quoted: &QuotedSegment) -> Result<[u8; QUOTE_LEN], EmitError> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (quoted.src, quoted.dst) else {
        return Err(EmitError::MixedFamilies);
    };
    // The length of the shortest segment there is: 40 bytes.
    let fields = ipv4::Fields {
        src,
        dst,
        protocol: ip::PROTOCOL_TCP,
        ecn: Ecn::NotEct,
        ttl: ip::DEFAULT_HOP_LIMIT,
        total_len: 40,
    };
    let mut quote = [0; QUOTE_LEN];
    let mut header = [0; ipv4::HEADER_LEN];
    fields.emit(&mut header);
    be::put(&mut quote, 0, header);
    be::put(&mut quote, ipv4::HEADER_LEN, quoted.tcp_bytes());
    Ok(quote)
}

/// Reads the message of a datagram between unicast addresses; `frame` ends where the datagram ends.
pub(crate) fn parse<'a>(
    frame: &Frame<'a>,
    link: LinkHeader,
    ip: &Datagram<Ipv4Addr>,
) -> Result<Icmpv4Packet<'a>, DropReason> {
    let (header, body) = icmp::open(frame, ip.payload, Sum::default())?;
    let message = match (header[0], header[1]) {
        (ECHO_REQUEST, 0) => Icmpv4Message::EchoRequest(icmp::parse_echo(header, body)),
        (ECHO_REPLY, 0) => Icmpv4Message::EchoReply(icmp::parse_echo(header, body)),
        (UNREACHABLE, FRAGMENTATION_NEEDED) => {
            let mtu = u32::from(be::u16_at(header, 6));
            let kind = IcmpErrorKind::PacketTooBig { mtu };
            Icmpv4Message::Error(parse_error(kind, ip.dst, body)?)
        }
        (UNREACHABLE, code) => {
            let kind = IcmpErrorKind::Unreachable { code };
            Icmpv4Message::Error(parse_error(kind, ip.dst, body)?)
        }
        _ => return Err(DropReason::IcmpUnsupported),
    };
    Ok(Icmpv4Packet {
        link,
        src: ip.src,
        dst: ip.dst,
        message,
    })
}

fn parse_error(kind: IcmpErrorKind, us: Ipv4Addr, quote: &[u8]) -> Result<IcmpError, DropReason> {
    let (src, dst, protocol, header_len) =
        ipv4::parse_quoted(quote).ok_or(DropReason::IcmpBadQuote)?;
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
