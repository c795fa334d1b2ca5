//! What ICMPv4 and ICMPv6 have in common: echo messages, and errors that quote one of our segments.
//!
//! An error is a claim by anybody on the path. What is kept of it is what the connection needs to judge
//! the claim (RFC 5927 4): the 4-tuple to find it, and the sequence number that must be in flight.

use core::net::IpAddr;

use crate::checksum::Sum;
use crate::emit::EmitError;
use crate::frame::Frame;
use crate::ip::{Envelope, PROTOCOL_TCP};
use crate::{DropReason, be};

/// Bytes of every ICMP header: type, code, checksum, and four that depend on the type.
pub(crate) const HEADER_LEN: usize = 8;
/// Bytes of TCP every error quotes (RFC 792): ports and sequence number.
pub(crate) const QUOTED_TCP_LEN: usize = 8;

/// An echo request or reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo<'a> {
    /// Identifier, returned unchanged.
    pub identifier: u16,
    /// Sequence number, returned unchanged.
    pub sequence: u16,
    /// Data, returned unchanged.
    pub data: &'a [u8],
}

/// The start of a segment as an ICMP error quotes it: seen from its sender, so `src` is our side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotedSegment {
    /// Source address of the segment: the address the error came to.
    pub src: IpAddr,
    /// Destination address of the segment.
    pub dst: IpAddr,
    /// Source port of the segment.
    pub src_port: u16,
    /// Destination port of the segment.
    pub dst_port: u16,
    /// SEG.SEQ of the segment.
    pub seq: u32,
}

impl QuotedSegment {
    /// From the quoted addresses and what follows the quoted IP header.
    pub(crate) fn parse(
        src: IpAddr,
        dst: IpAddr,
        protocol: u8,
        after_ip: &[u8],
    ) -> Option<QuotedSegment> {
        if protocol != PROTOCOL_TCP {
            return None;
        }
        let tcp: &[u8; QUOTED_TCP_LEN] = after_ip.first_chunk()?;
        Some(QuotedSegment {
            src,
            dst,
            src_port: be::u16_at(tcp, 0),
            dst_port: be::u16_at(tcp, 2),
            seq: be::u32_at(tcp, 4),
        })
    }

    /// Ports and sequence number as quoted.
    pub(crate) fn tcp_bytes(&self) -> [u8; QUOTED_TCP_LEN] {
        let mut tcp = [0; QUOTED_TCP_LEN];
        be::put(&mut tcp, 0, self.src_port.to_be_bytes());
        be::put(&mut tcp, 2, self.dst_port.to_be_bytes());
        be::put(&mut tcp, 4, self.seq.to_be_bytes());
        tcp
    }
}

/// What an ICMP error reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpErrorKind {
    /// The destination cannot be reached. The code is that of RFC 792 or RFC 4443 3.1; all are soft errors
    /// in synchronized states (RFC 1122 4.2.3.9, RFC 5927).
    Unreachable {
        /// ICMP code, whose meaning depends on the IP version.
        code: u8,
    },
    /// The segment is too big for the next hop: "fragmentation needed" (RFC 1191) or "packet too big"
    /// (RFC 4443 3.2).
    PacketTooBig {
        /// MTU of the next hop in bytes, as sent: 0 from routers older than RFC 1191, or any lie.
        mtu: u32,
    },
}

/// An ICMP error about one of our segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// What is reported.
    pub kind: IcmpErrorKind,
    /// About which segment.
    pub quoted: QuotedSegment,
}

/// A message to be sent, of either version.
pub(crate) struct Message<'a> {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The four bytes after the checksum.
    pub(crate) rest: [u8; 4],
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn echo(kind: u8, echo: &Echo<'a>) -> Message<'a> {
        let mut rest = [0; 4];
        be::put(&mut rest, 0, echo.identifier.to_be_bytes());
        be::put(&mut rest, 2, echo.sequence.to_be_bytes());
        Message {
            kind,
            code: 0,
            rest,
            body: echo.data,
        }
    }

    /// Bytes on the wire.
    pub(crate) fn encoded_len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// Writes the whole frame and returns its length. `pseudo_header` is zero for ICMPv4.
    pub(crate) fn emit(
        &self,
        envelope: &Envelope<'_>,
        pseudo_header: Sum,
        buf: &mut [u8],
    ) -> Result<usize, EmitError> {
        let offset = envelope.emit(self.encoded_len(), buf)?;
        let end = offset + self.encoded_len();
        let message = buf.get_mut(offset..end).ok_or(EmitError::BufferTooSmall)?;
        message[..4].copy_from_slice(&[self.kind, self.code, 0, 0]);
        message[4..HEADER_LEN].copy_from_slice(&self.rest);
        message[HEADER_LEN..].copy_from_slice(self.body);
        let mut total = pseudo_header;
        total.add_bytes(message);
        message[2..4].copy_from_slice(&total.finish().to_be_bytes());
        Ok(end)
    }
}

/// A received message whose checksum is right: its header and what follows. `frame` ends where the IP
/// payload ends and `pseudo_header` is zero for ICMPv4.
pub(crate) fn open<'a>(
    frame: &Frame<'a>,
    offset: usize,
    pseudo_header: Sum,
) -> Result<(&'a [u8; HEADER_LEN], &'a [u8]), DropReason> {
    let message = frame.bytes(
        offset,
        frame.len().saturating_sub(offset),
        DropReason::IcmpTruncated,
    )?;
    let (header, body) = message
        .split_first_chunk()
        .ok_or(DropReason::IcmpTruncated)?;
    let mut total = pseudo_header;
    total.add_bytes(message);
    if total.fold() != 0xffff {
        return Err(DropReason::IcmpBadChecksum);
    }
    Ok((header, body))
}

/// An echo message from its header and what follows.
pub(crate) fn parse_echo<'a>(header: &[u8; HEADER_LEN], data: &'a [u8]) -> Echo<'a> {
    Echo {
        identifier: be::u16_at(header, 4),
        sequence: be::u16_at(header, 6),
        data,
    }
}
