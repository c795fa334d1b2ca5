//! The IPv6 header and its extension headers (RFC 8200), bounded.
//!
//! Hop-by-hop and destination options and spent routing headers are walked over; fragments, source routes
//! and jumbograms are refused. The walk stops at 8 headers or 256 bytes (RFC 8504 5.3 allows limits), so a
//! packet costs a bounded number of steps. An option we do not know decides by its own high bits whether
//! it may be skipped (RFC 8200 4.2); no ICMP error is ever sent for one.

use core::net::Ipv6Addr;

use crate::frame::Frame;
use crate::ip::Datagram;
use crate::{DropReason, Ecn, be};

/// Bytes of the fixed header.
pub(crate) const HEADER_LEN: usize = 40;

/// Offset of the payload length in the header.
pub(crate) const PAYLOAD_LEN_AT: usize = 4;
/// The most extension headers walked over.
pub(crate) const MAX_EXTENSIONS: usize = 8;
/// The most bytes of extension headers walked over.
pub(crate) const MAX_EXTENSION_BYTES: usize = 256;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const OPTION_PAD1: u8 = 0;
const OPTION_JUMBO: u8 = 0xc2;
/// The two high bits of an option type: other than 00 means "discard the packet if unknown".
const OPTION_DISCARD: u8 = 0xc0;

/// Reads the header at `offset` and everything before the upper layer, and checks all but the addresses.
pub(crate) fn parse(frame: &Frame<'_>, offset: usize) -> Result<Datagram<Ipv6Addr>, DropReason> {
    let header: &[u8; HEADER_LEN] = frame.array(offset, DropReason::Ipv6Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::Ipv6BadVersion);
    }
    let payload_len = usize::from(be::u16_at(header, PAYLOAD_LEN_AT));
    let next_header = header[6];
    if payload_len == 0 && next_header == HOP_BY_HOP {
        return Err(DropReason::Ipv6Jumbogram);
    }
    let end = offset + HEADER_LEN + payload_len;
    if end > frame.len() {
        return Err(DropReason::Ipv6BadPayloadLength);
    }
    let hop_limit = header[7];
    if hop_limit == 0 {
        return Err(DropReason::Ipv6ZeroHopLimit);
    }
    let (protocol, payload) = skip_extensions(&frame.cut(end), offset + HEADER_LEN, next_header)?;
    Ok(Datagram {
        src: Ipv6Addr::from_octets(be::array_at(header, 8)),
        dst: Ipv6Addr::from_octets(be::array_at(header, 24)),
        protocol,
        // The traffic class straddles the first two octets; its low bits are the high nibble of the second.
        ecn: Ecn::from_tos(header[1] >> 4),
        hop_limit,
        payload,
        end,
    })
}

/// The upper-layer protocol and its offset. `frame` ends where the datagram ends.
fn skip_extensions(frame: &Frame<'_>, start: usize, first: u8) -> Result<(u8, usize), DropReason> {
    let mut next_header = first;
    let mut offset = start;
    let mut count = 0;
    while matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
        if next_header == FRAGMENT {
            return Err(DropReason::Ipv6Fragment);
        }
        let fixed: &[u8; 8] = frame.array(offset, DropReason::Ipv6BadExtension)?;
        let len = (usize::from(fixed[1]) + 1) * 8;
        count += 1;
        if count > MAX_EXTENSIONS || offset + len - start > MAX_EXTENSION_BYTES {
            return Err(DropReason::Ipv6TooManyExtensions);
        }
        let extension = frame.bytes(offset, len, DropReason::Ipv6BadExtension)?;
        match next_header {
            // Hop-by-hop options come first or not at all (RFC 8200 4.1).
            HOP_BY_HOP if count > 1 => return Err(DropReason::Ipv6BadExtension),
            ROUTING => check_routing(fixed)?,
            _ => check_options(&extension[2..])?,
        }
        next_header = fixed[0];
        offset += len;
    }
    Ok((next_header, offset))
}

/// A routing header may be passed over only if it asks nothing of us any more (RFC 8200 4.4); type 0 never
/// (RFC 5095).
fn check_routing(fixed: &[u8; 8]) -> Result<(), DropReason> {
    let (routing_type, segments_left) = (fixed[2], fixed[3]);
    if routing_type == 0 || segments_left != 0 {
        Err(DropReason::Ipv6SourceRoute)
    } else {
        Ok(())
    }
}

/// Walks over the options of a hop-by-hop or destination header; each takes at least a byte of at most 256.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            OPTION_PAD1 => rest,
            OPTION_JUMBO => return Err(DropReason::Ipv6Jumbogram),
            _ if kind & OPTION_DISCARD != 0 => return Err(DropReason::Ipv6BadExtension),
            _ => {
                let (&len, value) = rest.split_first().ok_or(DropReason::Ipv6BadExtension)?;
                value
                    .get(usize::from(len)..)
                    .ok_or(DropReason::Ipv6BadExtension)?
            }
        };
    }
    Ok(())
}

/// The fields of a header that vary.
pub(crate) struct Fields {
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) next_header: u8,
    pub(crate) ecn: Ecn,
    pub(crate) hop_limit: u8,
    pub(crate) payload_len: u16,
}

impl Fields {
    /// Writes the header, in place for the reason of [`crate::words`].
    pub(crate) fn emit(&self, header: &mut [u8; HEADER_LEN]) {
        be::put(header, 0, [0x60, self.ecn.bits() << 4, 0, 0]);
        set_payload_len(header, self.payload_len);
        be::put(header, 6, [self.next_header, self.hop_limit]);
        be::put(header, 8, self.src.octets());
        be::put(header, 24, self.dst.octets());
    }
}

/// The length for a header in place.
pub(crate) fn set_payload_len(header: &mut [u8; HEADER_LEN], payload_len: u16) {
    be::put(header, PAYLOAD_LEN_AT, payload_len.to_be_bytes());
}

/// The addresses, next header and header length of the header quoted by an ICMPv6 error. We send no
/// extension headers, so what is quoted has none either.
pub(crate) fn parse_quoted(quote: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr, u8, usize)> {
    let header: &[u8; HEADER_LEN] = quote.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let src = Ipv6Addr::from_octets(be::array_at(header, 8));
    let dst = Ipv6Addr::from_octets(be::array_at(header, 24));
    Some((src, dst, header[6], HEADER_LEN))
}

#[cfg(test)]
mod tests;
