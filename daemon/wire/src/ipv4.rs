//! The IPv4 header (RFC 791), without options and without fragments.
//!
//! Options are refused rather than skipped: they carry source routes, take the slow path of every router
//! and occur in no honest TCP flow. Fragments are refused because path MTU discovery makes them needless
//! and a reassembly queue is an attack surface. Both rules hold in the XDP program too.

use core::net::Ipv4Addr;

use crate::checksum::{self, Sum};
use crate::frame::Frame;
use crate::ip::Datagram;
use crate::words::Words;
use crate::{DropReason, Ecn, be};

/// Bytes of a header without options.
pub(crate) const HEADER_LEN: usize = 20;

/// Offset of the total length in the header.
pub(crate) const TOTAL_LEN_AT: usize = 2;
const CHECKSUM_AT: usize = 10;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the header at `offset` and checks all of it but the addresses.
pub(crate) fn parse(frame: &Frame<'_>, offset: usize) -> Result<Datagram<Ipv4Addr>, DropReason> {
    let header: &[u8; HEADER_LEN] = frame.array(offset, DropReason::Ipv4Truncated)?;
    if header[0] >> 4 != 4 {
        return Err(DropReason::Ipv4BadVersion);
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < HEADER_LEN {
        return Err(DropReason::Ipv4BadHeaderLength);
    }
    let total_len = usize::from(be::u16_at(header, TOTAL_LEN_AT));
    if total_len < header_len || total_len > frame.len() - offset {
        return Err(DropReason::Ipv4BadTotalLength);
    }
    if header_len > HEADER_LEN {
        return Err(DropReason::Ipv4Options);
    }
    if checksum::sum(header).fold() != 0xffff {
        return Err(DropReason::Ipv4BadChecksum);
    }
    let ttl = header[8];
    if ttl == 0 {
        return Err(DropReason::Ipv4ZeroTtl);
    }
    if be::u16_at(header, 6) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
        return Err(DropReason::Ipv4Fragment);
    }
    Ok(Datagram {
        src: Ipv4Addr::from_octets(be::array_at(header, 12)),
        dst: Ipv4Addr::from_octets(be::array_at(header, 16)),
        protocol: header[9],
        ecn: Ecn::from_tos(header[1]),
        hop_limit: ttl,
        payload: offset + HEADER_LEN,
        end: offset + total_len,
    })
}

/// The fields of a header that vary.
pub(crate) struct Fields {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) ecn: Ecn,
    pub(crate) ttl: u8,
    pub(crate) total_len: u16,
}

impl Fields {
    /// Writes the header with its checksum.
    // The words are summed before any is stored, and each is stored once where it belongs: a checksum stored into them
    // afterwards, or a copy of all, would make the processor wait (see `words`).
    pub(crate) fn emit(&self, header: &mut [u8; HEADER_LEN]) {
        let [len_high, len_low] = self.total_len.to_be_bytes();
        let first = u32::from_be_bytes([0x45, self.ecn.bits(), len_high, len_low]);
        let fragment = u32::from(DONT_FRAGMENT);
        let hops = u32::from_be_bytes([self.ttl, self.protocol, 0, 0]);
        let (src, dst) = (self.src.to_bits(), self.dst.to_bits());
        let total: u64 = [first, fragment, hops, src, dst]
            .map(u64::from)
            .iter()
            .sum();
        let checksum = Sum::of_words(total).finish();
        let mut words = Words::new(header);
        for word in [first, fragment, hops | u32::from(checksum), src, dst] {
            words.put(word);
        }
    }
}

/// Another total length for a header in place, and the checksum that follows: RFC 1624, equation 3.
pub(crate) fn set_total_len(header: &mut [u8; HEADER_LEN], total_len: u16) {
    let before = be::u16_at(header, TOTAL_LEN_AT);
    let mut sum = Sum::default();
    sum.add_u16(!be::u16_at(header, CHECKSUM_AT));
    sum.add_u16(!before);
    sum.add_u16(total_len);
    be::put(header, TOTAL_LEN_AT, total_len.to_be_bytes());
    be::put(header, CHECKSUM_AT, sum.finish().to_be_bytes());
}

/// The addresses, protocol and header length of the header quoted by an ICMP error. Routers change TTL,
/// length and checksum of what they quote (RFC 1812 4.3.2.3), so only what names the segment is looked at.
pub(crate) fn parse_quoted(quote: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, u8, usize)> {
    let header: &[u8; HEADER_LEN] = quote.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let first_fragment = be::u16_at(header, 6) & FRAGMENT_OFFSET == 0;
    if header[0] >> 4 != 4 || header_len < HEADER_LEN || !first_fragment {
        return None;
    }
    let src = Ipv4Addr::from_octets(be::array_at(header, 12));
    let dst = Ipv4Addr::from_octets(be::array_at(header, 16));
    Some((src, dst, header[9], header_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as Linux sends it: DF, TTL 64, TCP, 10.0.0.1 -> 10.0.0.2, no payload.
    const PLAIN: [u8; 20] = [
        0x45, 0, 0, 20, 0, 0, 0x40, 0, 64, 6, 0x26, 0xe2, 10, 0, 0, 1, 10, 0, 0, 2,
    ];

    /// `PLAIN` with one change, its checksum made right again.
    fn with(change: impl FnOnce(&mut [u8; 20])) -> [u8; 20] {
        let mut header = PLAIN;
        change(&mut header);
        be::put(&mut header, CHECKSUM_AT, [0; 2]);
        let checksum = checksum::sum(&header).finish();
        be::put(&mut header, CHECKSUM_AT, checksum.to_be_bytes());
        header
    }

    fn parse_all(bytes: &[u8]) -> Result<Datagram<Ipv4Addr>, DropReason> {
        parse(&Frame::new(bytes, bytes.len()), 0)
    }

    #[test]
    fn a_plain_header_is_read() {
        let datagram = parse_all(&PLAIN).unwrap();
        assert_eq!(
            (datagram.src, datagram.dst),
            (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
        );
        assert_eq!(
            (datagram.protocol, datagram.hop_limit, datagram.ecn),
            (6, 64, Ecn::NotEct)
        );
        assert_eq!((datagram.payload, datagram.end), (20, 20));
    }

    #[test]
    fn a_plain_header_is_written_byte_for_byte() {
        let fields = Fields {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol: 6,
            ecn: Ecn::NotEct,
            ttl: 64,
            total_len: 20,
        };
        let mut header = [0xee; HEADER_LEN];
        fields.emit(&mut header);
        assert_eq!(header, PLAIN);
    }

    #[test]
    fn another_length_is_what_would_have_been_written() {
        for total_len in [20, 21, 40, 1500, 0x4000, u16::MAX] {
            let mut header = PLAIN;
            set_total_len(&mut header, total_len);
            let [high, low] = total_len.to_be_bytes();
            assert_eq!(header, with(|h| (h[2], h[3]) = (high, low)), "{total_len}");
        }
    }

    #[test]
    fn each_broken_field_has_its_reason() {
        let cases: [(&str, [u8; 20], DropReason); 9] = [
            (
                "version 6",
                with(|h| h[0] = 0x65),
                DropReason::Ipv4BadVersion,
            ),
            (
                "header of 16 bytes",
                with(|h| h[0] = 0x44),
                DropReason::Ipv4BadHeaderLength,
            ),
            (
                "total length below header",
                with(|h| h[3] = 19),
                DropReason::Ipv4BadTotalLength,
            ),
            (
                "total length beyond frame",
                with(|h| h[3] = 21),
                DropReason::Ipv4BadTotalLength,
            ),
            ("TTL 0", with(|h| h[8] = 0), DropReason::Ipv4ZeroTtl),
            (
                "more fragments",
                with(|h| h[6] = 0x20),
                DropReason::Ipv4Fragment,
            ),
            (
                "low fragment offset",
                with(|h| h[7] = 1),
                DropReason::Ipv4Fragment,
            ),
            (
                "high fragment offset",
                with(|h| h[6] = 0x10),
                DropReason::Ipv4Fragment,
            ),
            (
                "total length 0, as BIG TCP has it",
                with(|h| h[3] = 0),
                DropReason::Ipv4BadTotalLength,
            ),
        ];
        for (what, header, reason) in cases {
            assert_eq!(parse_all(&header), Err(reason), "{what}");
        }
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_noticed() {
        for bit in 0..PLAIN.len() * 8 {
            let mut header = PLAIN;
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_all(&header).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn options_are_refused() {
        let mut bytes = [0; 24];
        bytes[..20].copy_from_slice(&with(|h| {
            h[0] = 0x46;
            h[3] = 24;
        }));
        assert_eq!(parse_all(&bytes), Err(DropReason::Ipv4Options));
    }

    #[test]
    fn padding_after_the_datagram_is_not_part_of_it() {
        let mut bytes = [0; 46];
        bytes[..20].copy_from_slice(&PLAIN);
        assert_eq!(parse_all(&bytes).unwrap().end, 20);
    }

    #[test]
    fn the_reserved_flag_and_the_dscp_are_ignored() {
        let header = with(|h| {
            h[1] = 0xfe;
            h[6] = 0xc0;
        });
        assert_eq!(parse_all(&header).unwrap().ecn, Ecn::Ect0);
    }
}
