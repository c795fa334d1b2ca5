//! The first piece of a frame together with the length of the whole.
//!
//! A multi-buffer frame spans several UMEM chunks; headers are read from the first one only. Two ways to
//! run out of bytes are told apart here: the frame is too short (the peer's fault, named by the layer), or
//! the bytes exist in a later piece (`HeadersNotLinear`).

use crate::DropReason;

/// A frame as the parsers see it. Invariant: `head.len() <= len`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    head: &'a [u8],
    len: usize,
}

impl<'a> Frame<'a> {
    /// `head` is the first piece, `len` the length over all pieces; what `head` holds beyond `len` is ignored.
    pub(crate) fn new(head: &'a [u8], len: usize) -> Frame<'a> {
        Frame {
            head: &head[..head.len().min(len)],
            len,
        }
    }

    /// The length of the whole frame in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The same frame, ended at `end` (an IP length), which hides link-layer padding from the layers above.
    pub(crate) fn cut(&self, end: usize) -> Frame<'a> {
        Frame::new(self.head, self.len.min(end))
    }

    /// `count` bytes at `offset`; `short` is the reason when the frame ends before them.
    pub(crate) fn bytes(
        &self,
        offset: usize,
        count: usize,
        short: DropReason,
    ) -> Result<&'a [u8], DropReason> {
        let end = offset.checked_add(count).ok_or(short)?;
        match self.head.get(offset..end) {
            Some(bytes) => Ok(bytes),
            None if end > self.len => Err(short),
            None => Err(DropReason::HeadersNotLinear),
        }
    }

    /// Like [`Frame::bytes`], for a header of constant size.
    pub(crate) fn array<const N: usize>(
        &self,
        offset: usize,
        short: DropReason,
    ) -> Result<&'a [u8; N], DropReason> {
        let bytes = self.bytes(offset, N, short)?;
        bytes.first_chunk().ok_or(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: DropReason = DropReason::TcpTruncated;

    #[test]
    fn bytes_beyond_the_frame_are_the_layers_reason() {
        let frame = Frame::new(&[1, 2, 3], 3);
        assert_eq!(frame.bytes(1, 2, SHORT), Ok(&[2, 3][..]));
        assert_eq!(frame.bytes(1, 3, SHORT), Err(SHORT));
        assert_eq!(frame.bytes(usize::MAX, 2, SHORT), Err(SHORT));
    }

    #[test]
    fn bytes_in_a_later_piece_are_not_linear() {
        let frame = Frame::new(&[1, 2, 3], 9);
        assert_eq!(frame.bytes(1, 3, SHORT), Err(DropReason::HeadersNotLinear));
        assert_eq!(frame.bytes(1, 9, SHORT), Err(SHORT));
    }

    #[test]
    fn a_cut_hides_padding() {
        let frame = Frame::new(&[1, 2, 3, 0, 0], 5).cut(3);
        assert_eq!(frame.len(), 3);
        assert_eq!(frame.bytes(2, 2, SHORT), Err(SHORT));
    }
}
