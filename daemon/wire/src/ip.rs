//! What IPv4 and IPv6 have in common: a datagram as read, and an envelope to be written.
//!
//! Everything we send has DF, identification 0 (RFC 6864 4.1: an atomic datagram needs none), DSCP 0 and
//! flow label 0. A route that balances by flow label alone sees one path per host pair.

use core::net::IpAddr;

use crate::emit::EmitError;
use crate::ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, LinkHeader};
use crate::{Ecn, ipv4, ipv6};

pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;

/// TTL and hop limit of what we send (RFC 1700).
pub(crate) const DEFAULT_HOP_LIMIT: u8 = 64;

/// A datagram as read: bounds checked, addresses not yet judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Datagram<A> {
    pub(crate) src: A,
    pub(crate) dst: A,
    /// The protocol after all extension headers.
    pub(crate) protocol: u8,
    pub(crate) ecn: Ecn,
    pub(crate) hop_limit: u8,
    /// Offset of the payload in the frame.
    pub(crate) payload: usize,
    /// Offset in the frame where the datagram ends, by its own length field.
    pub(crate) end: usize,
}

/// Link and IP header around a payload to be sent.
pub(crate) struct Envelope<'a> {
    pub(crate) link: &'a LinkHeader,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ecn: Ecn,
    pub(crate) hop_limit: u8,
}

impl Envelope<'_> {
    /// Writes both headers for `payload_len` bytes of payload; returns the offset of the payload. Only the
    /// headers have to fit into `buf`.
    pub(crate) fn emit(&self, payload_len: usize, buf: &mut [u8]) -> Result<usize, EmitError> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total_len = payload_len
                    .checked_add(ipv4::HEADER_LEN)
                    .ok_or(EmitError::TooLong)?;
                let total_len = u16::try_from(total_len).map_err(|_| EmitError::TooLong)?;
                let offset = self.link.emit(ETHER_TYPE_IPV4, buf)?;
                let header = buf[offset..]
                    .first_chunk_mut()
                    .ok_or(EmitError::BufferTooSmall)?;
                let fields = ipv4::Fields {
                    src,
                    dst,
                    protocol: self.protocol,
                    ecn: self.ecn,
                    ttl: self.hop_limit,
                    total_len,
                };
                fields.emit(header);
                Ok(offset + ipv4::HEADER_LEN)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let payload_len = u16::try_from(payload_len).map_err(|_| EmitError::TooLong)?;
                let offset = self.link.emit(ETHER_TYPE_IPV6, buf)?;
                let header = buf[offset..]
                    .first_chunk_mut()
                    .ok_or(EmitError::BufferTooSmall)?;
                let fields = ipv6::Fields {
                    src,
                    dst,
                    next_header: self.protocol,
                    ecn: self.ecn,
                    hop_limit: self.hop_limit,
                    payload_len,
                };
                fields.emit(header);
                Ok(offset + ipv6::HEADER_LEN)
            }
            _ => Err(EmitError::MixedFamilies),
        }
    }
}
