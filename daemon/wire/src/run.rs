//! The headers of a run: segments of one flow that leave together and differ in SEQ, the last one also in length and
//! flags. They are written once; each segment takes a copy, patched where it differs, and the sum of what it shares with
//! the others is known already. Byte for byte what [`TcpEmit`] writes for every one of them.
//!
//! What a device would do with a super-segment (`Documentation/networking/segmentation-offloads.rst`), for lanes
//! without one.

use crate::checksum::Sum;
use crate::emit::{EmitError, TcpEmit, Unsealed};
use crate::{TcpFlags, TcpHeader, be, ipv4, ipv6, tcp};

/// Flags that only the last segment of a run has.
const FLAGS_OF_LAST: TcpFlags = TcpFlags::PSH.union(TcpFlags::FIN);

/// The headers of all segments of a run.
#[derive(Clone, Debug)]
pub struct RunTemplate {
    headers: [u8; TcpEmit::MAX_HEADERS],
    headers_len: usize,
    tcp_offset: usize,
    ip_offset: usize,
    is_ipv4: bool,
    seq: u32,
    segment_len: usize,
    last_flags: TcpFlags,
    /// Of a full segment.
    pseudo_header: Sum,
    /// Of the TCP header without SEQ, checksum and the flags of the last segment.
    header: Sum,
}

impl RunTemplate {
    /// `run`: the run as if it were one segment, with SEQ of the first and the flags of the last, but `payload_len` of
    /// all segments except for the last, which has at most as many.
    ///
    /// # Errors
    /// As [`TcpEmit::emit`].
    pub fn new(run: &TcpEmit<'_>) -> Result<RunTemplate, EmitError> {
        let shared = TcpHeader {
            seq: 0,
            flags: run.header.flags.without(FLAGS_OF_LAST),
            ..*run.header
        };
        let mut headers = [0; TcpEmit::MAX_HEADERS];
        let unsealed = TcpEmit {
            header: &shared,
            ..*run
        }
        .emit(&mut headers)?;
        Ok(RunTemplate {
            headers,
            headers_len: unsealed.headers_len,
            tcp_offset: unsealed.tcp_offset,
            ip_offset: run.link.encoded_len(),
            is_ipv4: run.src.is_ipv4(),
            seq: run.header.seq,
            segment_len: run.payload_len,
            last_flags: run.header.flags,
            pseudo_header: unsealed.pseudo_header,
            header: unsealed.header,
        })
    }

    /// Bytes of all headers of each segment.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        self.headers_len
    }

    /// Writes the headers of the segment that begins `ahead` payload bytes behind the first one to the front of `buf`.
    ///
    /// # Errors
    /// The buffer is shorter than the headers.
    #[inline]
    pub fn emit(&self, ahead: u32, buf: &mut [u8]) -> Result<Unsealed, EmitError> {
        let place = buf
            .get_mut(..self.headers_len)
            .ok_or(EmitError::BufferTooSmall)?;
        place.copy_from_slice(&self.headers[..self.headers_len]);
        let seq = self.seq.wrapping_add(ahead);
        let at = self.tcp_offset + tcp::SEQ_AT;
        place[at..at + 4].copy_from_slice(&seq.to_be_bytes());
        let mut header = self.header;
        header.add(Sum::of_words(seq.into()));
        Ok(Unsealed {
            tcp_offset: self.tcp_offset,
            headers_len: self.headers_len,
            pseudo_header: self.pseudo_header,
            header,
        })
    }

    /// The same for the last segment, which has `payload_len` bytes.
    ///
    /// # Errors
    /// The buffer is shorter than the headers, or the segment longer than the others.
    pub fn emit_last(
        &self,
        ahead: u32,
        payload_len: usize,
        buf: &mut [u8],
    ) -> Result<Unsealed, EmitError> {
        let less = self
            .segment_len
            .checked_sub(payload_len)
            .and_then(|less| u16::try_from(less).ok())
            .ok_or(EmitError::TooLong)?;
        let mut unsealed = self.emit(ahead, buf)?;
        if less > 0 {
            self.shorten(less, buf)?;
            // Minus is plus the complement.
            unsealed.pseudo_header.add_u16(!less);
        }
        let flags = self.last_flags.bits();
        let [_, low] = flags.to_be_bytes();
        buf[self.tcp_offset + tcp::FLAGS_AT] = low;
        let shared = self.last_flags.without(FLAGS_OF_LAST).bits();
        unsealed.header.add_u16(flags - shared);
        Ok(unsealed)
    }

    /// The length in the IP header.
    fn shorten(&self, less: u16, buf: &mut [u8]) -> Result<(), EmitError> {
        let ip = buf
            .get_mut(self.ip_offset..)
            .ok_or(EmitError::BufferTooSmall)?;
        if self.is_ipv4 {
            let header = ip.first_chunk_mut().ok_or(EmitError::BufferTooSmall)?;
            let len = be::u16_at(header, ipv4::TOTAL_LEN_AT) - less;
            ipv4::set_total_len(header, len);
        } else {
            let header = ip.first_chunk_mut().ok_or(EmitError::BufferTooSmall)?;
            let len = be::u16_at(header, ipv6::PAYLOAD_LEN_AT) - less;
            ipv6::set_payload_len(header, len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
