//! Received packets on their way through one turn of the worker loop.
//!
//! A batch is allocated once and used every turn: [`Queue::receive`](crate::Queue::receive) appends whole packets,
//! [`Queue::recycle`](crate::Queue::recycle) takes everything back. It holds whole packets only, so the frames of one
//! packet always lie side by side.

use crate::frame::RxFrame;
use crate::uapi::MAX_PACKET_FRAMES;

/// Whole received packets, in order of arrival.
#[derive(Debug)]
pub struct RxBatch {
    frames: Vec<RxFrame>,
    capacity: usize,
}

impl RxBatch {
    /// Room for `frames` frames, and at least for one packet of [`MAX_PACKET_FRAMES`].
    #[must_use]
    pub fn with_capacity(frames: usize) -> Self {
        let capacity = frames.max(MAX_PACKET_FRAMES);
        Self {
            frames: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Frames the batch can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Frames in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether the batch holds no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The packets, in order of arrival.
    #[inline]
    #[must_use]
    pub fn packets(&self) -> Packets<'_> {
        Packets { rest: &self.frames }
    }

    /// Takes all frames out, in order, to be kept beyond this turn. Each comes back by
    /// [`Queue::release`](crate::Queue::release); [`RxFrame::is_last`] tells where packets end.
    pub fn drain(&mut self) -> impl Iterator<Item = RxFrame> + '_ {
        self.frames.drain(..)
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.frames.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, frame: RxFrame) {
        debug_assert!(self.room() > 0, "receive stays within the room");
        self.frames.push(frame);
    }

    /// Takes back the frame added last, if more than `keep` are there.
    #[inline]
    pub(crate) fn pop_above(&mut self, keep: usize) -> Option<RxFrame> {
        if self.frames.len() > keep {
            self.frames.pop()
        } else {
            None
        }
    }
}

/// One received packet.
#[derive(Clone, Copy, Debug)]
pub struct RxPacket<'a> {
    frames: &'a [RxFrame],
}

impl<'a> RxPacket<'a> {
    /// The packet in `frames`, which were taken out of a batch ([`RxBatch::drain`]) up to the first that
    /// [is the last](RxFrame::is_last).
    #[inline]
    #[must_use]
    pub fn of(frames: &'a [RxFrame]) -> Self {
        RxPacket { frames }
    }

    /// Its pieces in order, 1 to [`MAX_PACKET_FRAMES`].
    #[inline]
    pub fn frames(&self) -> &'a [RxFrame] {
        self.frames
    }

    /// Bytes of the packet over all pieces.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.iter().map(RxFrame::len).sum()
    }

    /// Whether the packet has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the first piece, which holds the headers.
    #[inline]
    #[must_use]
    pub fn head(&self) -> &'a [u8] {
        self.frames.first().map_or(&[], RxFrame::bytes)
    }

    /// The bytes of every piece in order.
    #[inline]
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.frames.iter().map(RxFrame::bytes)
    }
}

/// Iterator over the packets of a batch.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [RxFrame],
}

impl<'a> Iterator for Packets<'a> {
    type Item = RxPacket<'a>;

    #[inline]
    fn next(&mut self) -> Option<RxPacket<'a>> {
        let end = self.rest.iter().position(RxFrame::is_last)? + 1;
        let (frames, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(RxPacket { frames })
    }
}
