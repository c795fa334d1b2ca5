//! Writing the headers of a segment, in two steps that cannot be taken apart.
//!
//! [`TcpEmit::emit`] writes Ethernet, IP and TCP headers and yields an [`Unsealed`] with a zero checksum
//! field. Sealing consumes it: either the device completes the checksum ([`Unsealed::seal_partial`], AF_XDP
//! TX metadata or a virtio-net header), or it is complete here from the sum of the payload
//! ([`Unsealed::seal_full`]), which [`crate::checksum::copy_and_sum`] yields while copying.

use core::fmt;
use core::net::IpAddr;

use crate::checksum::{self, Sum};
use crate::ethernet::LinkHeader;
use crate::ip::{self, Envelope, PROTOCOL_TCP};
use crate::vlan::{TAG_LEN, VlanTags};
use crate::{Ecn, TcpHeader, ethernet, ipv6, tcp};

/// Why headers could not be written: each one is a mistake of the caller, never of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmitError {
    /// The buffer is shorter than the headers (for ARP and ICMP: than the whole packet).
    BufferTooSmall,
    /// The payload does not fit into the 16-bit length of the IP header.
    TooLong,
    /// Source and destination are of different IP versions.
    MixedFamilies,
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EmitError::BufferTooSmall => "the buffer is too small for the packet",
            EmitError::TooLong => "the payload is too long for one IP packet",
            EmitError::MixedFamilies => "source and destination are of different IP versions",
        })
    }
}

impl core::error::Error for EmitError {}

/// A segment whose headers are to be written.
///
/// `payload_len` may exceed what fits into the buffer: with multi-buffer frames and super-segments the
/// payload follows elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct TcpEmit<'a> {
    /// Link header, often the [`LinkHeader::reply`] of what is answered.
    pub link: &'a LinkHeader,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same IP version.
    pub dst: IpAddr,
    /// ECN codepoint.
    pub ecn: Ecn,
    /// TCP header.
    pub header: &'a TcpHeader,
    /// Bytes of payload after the headers.
    pub payload_len: usize,
}

impl TcpEmit<'_> {
    /// The longest headers ever written: two tags, IPv6, 40 bytes of options.
    pub const MAX_HEADERS: usize =
        ethernet::HEADER_LEN + VlanTags::MAX * TAG_LEN + ipv6::HEADER_LEN + tcp::MAX_LEN;

    /// Writes the headers to the front of `buf`: Ethernet with tags, IP (DF, identification 0, TTL 64),
    /// TCP with options and a zero checksum.
    ///
    /// # Errors
    /// [`EmitError`]; `buf` may then be partly written.
    pub fn emit(&self, buf: &mut [u8]) -> Result<Unsealed, EmitError> {
        let header_len = self.header.encoded_len();
        let segment_len = self
            .payload_len
            .checked_add(header_len)
            .ok_or(EmitError::TooLong)?;
        let envelope = Envelope {
            link: self.link,
            src: self.src,
            dst: self.dst,
            protocol: PROTOCOL_TCP,
            ecn: self.ecn,
            hop_limit: ip::DEFAULT_HOP_LIMIT,
        };
        let tcp_offset = envelope.emit(segment_len, buf)?;
        let headers_len = tcp_offset + header_len;
        let place = buf
            .get_mut(tcp_offset..headers_len)
            .ok_or(EmitError::BufferTooSmall)?;
        let header = self.header.emit(place);
        // The envelope has refused what does not fit into 16 bits.
        let segment_len = u32::try_from(segment_len).map_err(|_| EmitError::TooLong)?;
        let pseudo_header = checksum::pseudo_header(self.src, self.dst, PROTOCOL_TCP, segment_len);
        Ok(Unsealed {
            tcp_offset,
            headers_len,
            pseudo_header,
            header,
        })
    }
}

/// Headers without a checksum: not to be sent before one of the two `seal` methods has written it.
///
/// Both take the buffer that [`TcpEmit::emit`] wrote to, and panic if it is shorter than the headers.
#[must_use = "a segment without a checksum is dropped by its receiver"]
#[derive(Debug)]
pub struct Unsealed {
    pub(crate) tcp_offset: usize,
    pub(crate) headers_len: usize,
    pub(crate) pseudo_header: Sum,
    /// Of the TCP header, its checksum field zero.
    pub(crate) header: Sum,
}

/// What a device needs to complete a checksum: the fields `csum_start` and `csum_offset` of
/// `struct xsk_tx_metadata` (Documentation/networking/xsk-tx-metadata.rst) and `struct virtio_net_hdr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CsumOffload {
    /// Where summing starts, in bytes from the start of the frame.
    pub start: u16,
    /// Where the result goes, in bytes from `start`: 16 for TCP.
    pub offset: u16,
}

impl Unsealed {
    /// Bytes of all headers: the payload starts here.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        self.headers_len
    }

    /// Offset of the TCP header in the frame.
    #[must_use]
    pub fn tcp_offset(&self) -> usize {
        self.tcp_offset
    }

    /// Leaves the checksum to the device: writes the pseudo-header sum, not complemented, into the field.
    pub fn seal_partial(self, buf: &mut [u8]) -> CsumOffload {
        let partial = self.pseudo_header.fold();
        self.write(buf, partial);
        // 62 bytes at most, so nothing is cut off.
        let [low, high, ..] = self.tcp_offset.to_le_bytes();
        CsumOffload {
            start: u16::from_le_bytes([low, high]),
            offset: CHECKSUM_OFFSET,
        }
    }

    /// Writes the complete checksum. `payload_sum` is the sum of exactly `payload_len` bytes, from offset 0.
    pub fn seal_full(self, buf: &mut [u8], payload_sum: Sum) {
        // Headers are a multiple of 4 bytes, so the payload is at an even offset.
        let mut total = self.pseudo_header;
        total.add(self.header);
        total.add(payload_sum);
        self.write(buf, total.finish());
    }

    fn write(&self, buf: &mut [u8], checksum: u16) {
        let at = self.tcp_offset + tcp::CHECKSUM_AT;
        buf[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// [`tcp::CHECKSUM_AT`] as the kernel wants it.
const CHECKSUM_OFFSET: u16 = 16;
const _: () = assert!(CHECKSUM_OFFSET as usize == tcp::CHECKSUM_AT);

#[cfg(test)]
mod tests;
