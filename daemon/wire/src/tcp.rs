//! The TCP header (RFC 9293 3.1): fields and flags, and nothing about what they mean for a connection.
//!
//! Reading checks bounds only; the checksum covers the payload and is verified by the packet. The three
//! reserved bits are ignored on receipt and zero when sent.

use core::fmt;
use core::ops::BitOr;

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::tcp_options::{self, TcpOptions};
use crate::words::Words;
use crate::{DropReason, be};

/// Bytes of the header without options.
pub(crate) const FIXED_LEN: usize = 20;
/// Bytes of the longest header.
pub(crate) const MAX_LEN: usize = FIXED_LEN + tcp_options::MAX_LEN;
/// Offset of SEQ in the header.
pub(crate) const SEQ_AT: usize = 4;
/// Offset of the flags but AE.
pub(crate) const FLAGS_AT: usize = 13;
/// Offset of the checksum field in the header.
pub(crate) const CHECKSUM_AT: usize = 16;

/// AE in octet 12, and all of octet 13.
const FLAGS_MASK: u16 = 0x01ff;
/// AE, CWR and ECE.
const ACE_MASK: u16 = 0x01c0;
const ACE_SHIFT: u32 = 6;

/// The control bits of a segment (RFC 9293 3.1, RFC 3168 6.1, RFC 9768 3.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(u16);

impl TcpFlags {
    /// No flag.
    pub const EMPTY: TcpFlags = TcpFlags(0);
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push function.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer field is significant.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo.
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced.
    pub const CWR: TcpFlags = TcpFlags(0x80);
    /// Accurate ECN (RFC 9768), the former nonce sum of RFC 3540.
    pub const AE: TcpFlags = TcpFlags(0x100);
    /// AE, CWR and ECE: what negotiates ECN on a SYN, and the ACE field after an accurate negotiation
    /// (RFC 9768 3.2.2).
    pub const ACE: TcpFlags = TcpFlags(ACE_MASK);

    const NAMES: [(TcpFlags, &'static str); 9] = [
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::SYN, "SYN"),
        (TcpFlags::RST, "RST"),
        (TcpFlags::PSH, "PSH"),
        (TcpFlags::ACK, "ACK"),
        (TcpFlags::URG, "URG"),
        (TcpFlags::ECE, "ECE"),
        (TcpFlags::CWR, "CWR"),
        (TcpFlags::AE, "AE"),
    ];

    /// From the low nine bits of octets 12 and 13 of the header; the others are not flags.
    #[must_use]
    pub const fn from_bits(bits: u16) -> TcpFlags {
        TcpFlags(bits & FLAGS_MASK)
    }

    /// The low nine bits of octets 12 and 13 of the header.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// AE, CWR and ECE as a number from 0 to 7, ECE the lowest bit (RFC 9768 3.2.2, figure 3).
    #[must_use]
    pub const fn ace(self) -> u8 {
        let [_, ace] = ((self.0 & ACE_MASK) >> ACE_SHIFT).to_be_bytes();
        ace
    }

    /// The same flags with the low three bits of `ace` in AE, CWR and ECE.
    #[must_use]
    pub const fn with_ace(self, ace: u8) -> TcpFlags {
        let field = u16::from_be_bytes([0, ace & 7]) << ACE_SHIFT;
        TcpFlags(self.0 & !ACE_MASK | field)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags set in either.
    #[must_use]
    pub const fn union(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }

    /// The flags of this one that the other has not.
    #[must_use]
    pub const fn without(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;

    fn bitor(self, other: TcpFlags) -> TcpFlags {
        self.union(other)
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = TcpFlags::NAMES
            .iter()
            .filter(|(flag, _)| self.contains(*flag));
        let Some((_, first)) = names.next() else {
            return f.write_str("EMPTY");
        };
        f.write_str(first)?;
        names.try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK, significant with [`TcpFlags::ACK`].
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window field as sent, before scaling.
    pub window: u16,
    /// The urgent pointer, significant with [`TcpFlags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpHeader {
    /// Bytes on the wire with options, 20..=60.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        FIXED_LEN + self.options.encoded_len()
    }

    /// Writes the header with a zero checksum to `out`, which has [`TcpHeader::encoded_len`] bytes. Returns its sum.
    pub(crate) fn emit(&self, out: &mut [u8]) -> Sum {
        // Words in the high nibble: len / 4 * 16, at most 240.
        let [data_offset, ..] = (out.len() * 4).to_le_bytes();
        let [ae, flags] = self.flags.bits().to_be_bytes();
        let [window_high, window_low] = self.window.to_be_bytes();
        let mut words = Words::new(out);
        words.put(u32::from(self.src_port) << 16 | u32::from(self.dst_port));
        words.put(self.seq);
        words.put(self.ack);
        words.put_bytes([data_offset | ae, flags, window_high, window_low]);
        // The checksum, and the urgent pointer.
        words.put(u32::from(self.urgent));
        self.options.emit(&mut words);
        words.sum()
    }
}

/// A header as read: with what the packet needs to find and verify the rest.
pub(crate) struct Parsed {
    pub(crate) header: TcpHeader,
    pub(crate) header_len: usize,
    pub(crate) checksum: u16,
}

/// Reads the header at `offset` of a frame that ends where the IP payload ends.
// Always inline: returned through two layers it would be copied twice, each time right after it was written in parts,
// for which a processor waits.
#[inline(always)]
pub(crate) fn parse(frame: &Frame<'_>, offset: usize) -> Result<Parsed, DropReason> {
    let fixed: &[u8; FIXED_LEN] = frame.array(offset, DropReason::TcpTruncated)?;
    let header_len = usize::from(fixed[12] >> 4) * 4;
    if header_len < FIXED_LEN {
        return Err(DropReason::TcpBadDataOffset);
    }
    let whole = frame.bytes(offset, header_len, DropReason::TcpBadDataOffset)?;
    let header = TcpHeader {
        src_port: be::u16_at(fixed, 0),
        dst_port: be::u16_at(fixed, 2),
        seq: be::u32_at(fixed, 4),
        ack: be::u32_at(fixed, 8),
        flags: TcpFlags::from_bits(be::u16_at(fixed, 12)),
        window: be::u16_at(fixed, 14),
        urgent: be::u16_at(fixed, 18),
        options: TcpOptions::parse(&whole[FIXED_LEN..])?,
    };
    Ok(Parsed {
        header,
        header_len,
        checksum: be::u16_at(fixed, CHECKSUM_AT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;
    use std::format;

    /// 443 -> 50000, SEQ 1, ACK 2, ACK|PSH, window 512, checksum 0x1234, urgent 7, one window scale.
    const BYTES: [u8; 24] = [
        0x01, 0xbb, 0xc3, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x18, 2, 0, 0x12, 0x34, 0, 7, 1, 3,
        3, 9,
    ];

    fn header() -> TcpHeader {
        TcpHeader {
            src_port: 443,
            dst_port: 50_000,
            seq: 1,
            ack: 2,
            flags: TcpFlags::ACK | TcpFlags::PSH,
            window: 512,
            urgent: 7,
            options: TcpOptions {
                window_scale: Some(9),
                ..TcpOptions::default()
            },
        }
    }

    fn parse_all(bytes: &[u8]) -> Result<Parsed, DropReason> {
        parse(&Frame::new(bytes, bytes.len()), 0)
    }

    #[test]
    fn fields_are_read_in_network_order() {
        let parsed = parse_all(&BYTES).unwrap();
        assert_eq!(parsed.header, header());
        assert_eq!((parsed.header_len, parsed.checksum), (24, 0x1234));
    }

    #[test]
    fn fields_are_written_in_network_order_with_a_zero_checksum() {
        let mut out = [0xee; MAX_LEN];
        let mut expected = BYTES;
        expected[16..18].fill(0);
        let sum = header().emit(&mut out[..24]);
        assert_eq!(out[..24], expected);
        assert_eq!(sum.fold(), checksum::sum(&expected).fold());
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut bytes = BYTES;
        bytes[12] |= 0x0e;
        assert_eq!(parse_all(&bytes).unwrap().header, header());
    }

    /// RFC 9768 3.2.2, figure 3.
    #[test]
    fn accurate_ecn_is_the_lowest_bit_beside_the_data_offset() {
        let mut bytes = BYTES;
        bytes[12] |= 0x01;
        let read = parse_all(&bytes).unwrap().header;
        assert_eq!(read.flags, header().flags | TcpFlags::AE);
        let mut out = [0; BYTES.len()];
        read.emit(&mut out);
        assert_eq!(out[12..14], [0x61, 0x18]);
    }

    #[test]
    fn the_ace_field_is_a_number_of_three_flags() {
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        for ace in 0..=u8::MAX {
            let with = (flags | TcpFlags::CWR).with_ace(ace);
            assert_eq!(with.ace(), ace & 7);
            assert_eq!(with.with_ace(0), flags);
        }
        assert_eq!(flags.with_ace(0b101), flags | TcpFlags::AE | TcpFlags::ECE);
        assert_eq!(TcpFlags::EMPTY.with_ace(7), TcpFlags::ACE);
    }

    #[test]
    fn a_data_offset_below_the_fixed_header_is_refused() {
        for words in 0..5 {
            let mut bytes = BYTES;
            bytes[12] = words << 4;
            assert_eq!(
                parse_all(&bytes).err(),
                Some(DropReason::TcpBadDataOffset),
                "{words}"
            );
        }
    }

    #[test]
    fn a_data_offset_beyond_the_segment_is_refused() {
        for words in 7..16 {
            let mut bytes = BYTES;
            bytes[12] = words << 4;
            assert_eq!(
                parse_all(&bytes).err(),
                Some(DropReason::TcpBadDataOffset),
                "{words}"
            );
        }
    }

    #[test]
    fn less_than_the_fixed_header_is_truncated() {
        for len in 0..FIXED_LEN {
            assert_eq!(
                parse_all(&BYTES[..len]).err(),
                Some(DropReason::TcpTruncated),
                "{len}"
            );
        }
    }

    #[test]
    fn flags_print_by_name() {
        assert_eq!(format!("{:?}", TcpFlags::SYN | TcpFlags::ACK), "SYN|ACK");
        assert_eq!(format!("{:?}", TcpFlags::EMPTY), "EMPTY");
    }

    #[test]
    fn contains_asks_for_all_and_intersects_for_any() {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        assert!(flags.contains(TcpFlags::SYN) && flags.contains(flags));
        assert!(!flags.contains(TcpFlags::SYN | TcpFlags::FIN));
        assert!(flags.intersects(TcpFlags::SYN | TcpFlags::FIN));
        assert!(!flags.intersects(TcpFlags::FIN | TcpFlags::RST));
        assert!(flags.contains(TcpFlags::EMPTY) && !flags.intersects(TcpFlags::EMPTY));
        assert_eq!(flags.without(TcpFlags::ACK | TcpFlags::FIN), TcpFlags::SYN);
    }
}
