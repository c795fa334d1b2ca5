//! The body of one upload on its way from the stream to the disk.
//!
//! Its bytes are stored where they lie in the stream, in whatever order they come, in blocks that were taken before the
//! window promised room for them: so what the peer may send always has a place, and a disk that is slow closes the
//! window by itself. Of a body with a length, block `n` of the stream is block `n` of the file, and every byte is copied
//! once. Chunks are decoded in their block, whose data then is shorter than what came and written behind what was
//! written before.
//!
//! What a transport can have written from its own memory skips the blocks: those that are held move on behind it.
//!
//! Invariant: `start <= base <= decoded <= delivered <= in_order <= placed <= room_end`, and blocks lie in the stream from `base` on
//! without a gap.

use crate::services::Services;
use core::ops::Range;
use sluice_disk::{BLOCK_BYTES, UploadBlock};
use sluice_http::{Body, ChunkDecoder, Status};
use std::collections::VecDeque;

const BLOCK_BYTES_U64: u64 = 65_536;
const _: () = assert!(BLOCK_BYTES == 65_536);

/// So many bytes of a chunked body are only invited as far as it certainly goes on. What follows a short one then fits
/// the request buffer; behind a long one the connection ends.
const CAREFUL_BYTES: u64 = 256 * 1024;

/// What a decoder has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked(ChunkDecoder),
}

/// Body bytes between stream and disk.
#[derive(Debug)]
pub(super) struct Incoming {
    framing: Framing,
    /// All further positions but `written` are stream offsets. The first byte of the body.
    start: u64,
    /// Behind the last byte, once that is known.
    end: Option<u64>,
    /// The first byte of the first block.
    base: u64,
    /// What was read as length and data of chunks; without chunks the same as `delivered`.
    decoded: u64,
    delivered: u64,
    /// Up to where bytes came without a hole, as far as that is known: it may not have been delivered yet.
    in_order: u64,
    placed: u64,
    /// Up to where the peer may send.
    promised: u64,
    /// `None` as long as nothing came for it: its memory is still in `spare`.
    blocks: VecDeque<Option<UploadBlock>>,
    /// Memory that was promised, not assigned: what came back from the disk last, and is in the processor's cache, is used
    /// first.
    spare: Vec<UploadBlock>,
    /// Bytes of the first block, from its begin, that are data of the file.
    data: usize,
    /// Where in the file that data belongs.
    written: u64,
}

impl Incoming {
    /// With memory for the list of `blocks` blocks.
    pub(super) fn new(blocks: usize) -> Incoming {
        Incoming {
            framing: Framing::Length,
            start: 0,
            end: None,
            base: 0,
            decoded: 0,
            delivered: 0,
            in_order: 0,
            placed: 0,
            promised: 0,
            blocks: VecDeque::with_capacity(blocks),
            spare: Vec::with_capacity(blocks),
            data: 0,
            written: 0,
        }
    }

    /// A body whose first byte is at stream offset `start`.
    pub(super) fn restart(&mut self, start: u64, body: Body) {
        debug_assert!(self.blocks.is_empty() && self.spare.is_empty());
        (self.framing, self.end) = match body {
            Body::Unannounced => (Framing::Length, Some(start)),
            Body::Length(length) => (Framing::Length, Some(start.saturating_add(length))),
            Body::Chunked => (Framing::Chunked(ChunkDecoder::new()), None),
        };
        self.start = start;
        self.base = start;
        self.decoded = start;
        self.delivered = start;
        self.in_order = start;
        self.placed = start;
        self.promised = start;
        self.data = 0;
        self.written = 0;
    }

    /// Behind the last byte of the body, if that is known.
    pub(super) fn end(&self) -> Option<u64> {
        self.end
    }

    /// Every byte of the body is here.
    pub(super) fn is_whole(&self) -> bool {
        self.end.is_some_and(|end| end <= self.delivered)
    }

    /// Up to where the stream is in order; not beyond the end of a body with a length.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes of the file so far.
    pub(super) fn size(&self) -> u64 {
        self.written + as_u64(self.data)
    }

    /// Blocks held.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is any byte of the body without a place in a block.
    pub(super) fn needs_blocks(&self) -> bool {
        self.end.is_none_or(|end| self.room_end() < end)
    }

    /// Bytes in order that could come now.
    pub(super) fn room(&self) -> u64 {
        self.room_end()
            .min(self.end.unwrap_or(u64::MAX))
            .saturating_sub(self.delivered)
    }

    fn room_end(&self) -> u64 {
        self.base + as_u64(self.blocks.len()) * BLOCK_BYTES_U64
    }

    /// Adds memory at the end.
    pub(super) fn add(&mut self, block: UploadBlock) {
        self.blocks.push_back(None);
        self.spare.push(block);
    }

    /// The block at this place, which has memory from now on.
    fn block(&mut self, index: usize) -> Option<&mut UploadBlock> {
        let place = self.blocks.get_mut(index)?;
        if place.is_none() {
            *place = self.spare.pop();
        }
        debug_assert!(place.is_some(), "as many are spare as have no memory");
        place.as_mut()
    }

    /// Of `len` bytes at stream offset `offset`, how many belong to the body; what belongs to nothing yet does.
    pub(super) fn share(&self, offset: u64, len: usize) -> usize {
        let end = self.end.unwrap_or(u64::MAX);
        usize::try_from(end.saturating_sub(offset)).map_or(len, |share| share.min(len))
    }

    /// Stores bytes of the body, less what was delivered before. False if they reach beyond the blocks.
    pub(super) fn place(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let end = offset.saturating_add(as_u64(bytes.len()));
        if end > self.room_end() {
            return false;
        }
        if end <= self.delivered {
            return true;
        }
        let known = usize::try_from(self.delivered.saturating_sub(offset)).unwrap_or(0);
        let mut bytes = &bytes[known..];
        let mut at = offset.max(self.delivered);
        while !bytes.is_empty() {
            let (index, into) = self.place_of(at);
            let Some(block) = self.block(index) else {
                return false;
            };
            let target = &mut block.bytes_mut()[into..];
            let len = target.len().min(bytes.len());
            target[..len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            at += as_u64(len);
        }
        if offset <= self.in_order {
            self.in_order = self.in_order.max(end);
        }
        self.placed = self.placed.max(end);
        true
    }

    /// Of bytes of the stream that came whole: how many of the first have their place in a block, if the others can be
    /// written from elsewhere. They can while nothing lies in blocks beyond them: then the blocks move on behind them, and
    /// none was used. Not chunks, which are decoded in their block.
    pub(super) fn lends(&self, range: &Range<u64>) -> Option<usize> {
        let is_next = range.start == self.in_order && self.placed == self.in_order;
        let is_body = self.end.is_some_and(|end| range.end <= end);
        if self.framing != Framing::Length || !is_next || !is_body {
            return None;
        }
        let into = (self.in_order - self.base) % BLOCK_BYTES_U64;
        let to_fill = (BLOCK_BYTES_U64 - into) % BLOCK_BYTES_U64;
        let lent = (range.end - range.start).checked_sub(to_fill)?;
        (lent > 0).then_some(usize::try_from(to_fill).unwrap_or(0))
    }

    /// Goes on at `until`: what lies before it and in no block is written from elsewhere, at the offset in the file that
    /// is returned. Full blocks are handed to the disk. After [`Self::lends`] and [`Self::place`] of what it said.
    pub(super) fn skip(&mut self, until: u64, services: &mut Services) -> u64 {
        self.deliver(self.in_order);
        // A length has no end that could be wrong.
        let _ = self.pass_on(u64::MAX, services);
        debug_assert!(
            self.base == self.in_order && self.data == 0,
            "at the begin of a block"
        );
        let offset = self.written;
        self.written += until - self.base;
        self.base = until;
        self.decoded = until;
        self.delivered = until;
        self.in_order = until;
        self.placed = until;
        offset
    }

    /// Where the next bytes in order belong, for a transport that reads them there itself and nothing out of order;
    /// [`Self::deliver`] follows. Empty without room.
    pub(super) fn vacancy(&mut self) -> &mut [u8] {
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        let (index, into) = self.place_of(self.delivered);
        match self.block(index) {
            Some(block) => {
                let to = into.saturating_add(room).min(BLOCK_BYTES);
                &mut block.bytes_mut()[into..to]
            }
            None => &mut [],
        }
    }

    /// Which block, and where in it.
    fn place_of(&self, offset: u64) -> (usize, usize) {
        let from_base = offset.saturating_sub(self.base);
        (
            usize::try_from(from_base / BLOCK_BYTES_U64).unwrap_or(usize::MAX),
            usize::try_from(from_base % BLOCK_BYTES_U64).unwrap_or(0),
        )
    }

    /// Everything below stream offset `until` is in order.
    pub(super) fn deliver(&mut self, until: u64) {
        let until = until.min(self.end.unwrap_or(u64::MAX));
        debug_assert!(until <= self.room_end(), "delivered bytes have a place");
        self.delivered = self.delivered.max(until.min(self.room_end()));
        self.in_order = self.in_order.max(self.delivered);
        self.placed = self.placed.max(self.delivered);
    }

    /// Up to where the peer may send now, if a request buffer of `input_bytes` is there for what follows the body.
    /// Never falls.
    pub(super) fn promise(&mut self, input_bytes: u64) -> u64 {
        let room_end = self.room_end();
        let edge = match (self.end, &self.framing) {
            (Some(end), _) if end <= room_end => end + input_bytes,
            (None, Framing::Chunked(chunks))
                if self.delivered - self.start < CAREFUL_BYTES && !chunks.is_done() =>
            {
                room_end.min((self.decoded + chunks.certain()).saturating_add(input_bytes))
            }
            _ => room_end,
        };
        self.promised = self.promised.max(edge);
        self.promised
    }

    /// Decodes what is in order and hands full blocks, and the last one, to the disk.
    ///
    /// # Errors
    /// 400 for chunks that are none, 413 beyond `max_size` bytes: the upload cannot go on.
    pub(super) fn pass_on(&mut self, max_size: u64, services: &mut Services) -> Result<(), Status> {
        loop {
            let fresh = self.fresh();
            match &mut self.framing {
                Framing::Length => {
                    self.data = fresh.end;
                    self.decoded += as_u64(fresh.len());
                }
                Framing::Chunked(chunks) => {
                    if let Some(Some(block)) = self.blocks.front_mut() {
                        let decoded = chunks.decode(block.bytes_mut(), self.data, fresh)?;
                        self.data = decoded.data;
                        self.decoded += as_u64(decoded.taken);
                        if chunks.is_done() {
                            self.end = Some(self.decoded);
                        }
                        // As soon as a size is known: nobody shall send in vain what a chunk has announced.
                        let size = self.written + as_u64(self.data);
                        if size.saturating_add(chunks.certain()) > max_size {
                            return Err(Status::ContentTooLarge);
                        }
                    }
                }
            }
            let is_full = self.decoded == self.base + BLOCK_BYTES_U64;
            if !is_full {
                return Ok(());
            }
            self.submit_front(services);
        }
    }

    /// Bytes of the first block that are in order and not decoded.
    fn fresh(&self) -> Range<usize> {
        let (_, from) = self.place_of(self.decoded);
        let until = (self.delivered - self.base).min(BLOCK_BYTES_U64);
        from..usize::try_from(until).unwrap_or(BLOCK_BYTES).max(from)
    }

    fn submit_front(&mut self, services: &mut Services) {
        let Some(place) = self.blocks.pop_front() else {
            return;
        };
        match place {
            Some(block) if self.data > 0 => {
                services.disk.submit(block, self.written, self.data);
            }
            unused => {
                debug_assert!(self.data == 0, "data has a block");
                if let Some(block) = unused.or_else(|| self.spare.pop()) {
                    services.return_upload_block(block);
                }
            }
        }
        self.written += as_u64(self.data);
        self.base += BLOCK_BYTES_U64;
        self.data = 0;
        self.decoded = self.decoded.max(self.base);
    }

    /// The body is whole and decoded: hands its last bytes to the disk.
    pub(super) fn pass_on_last(&mut self, services: &mut Services) {
        if self.data > 0 {
            let (base, decoded) = (self.base, self.decoded);
            self.submit_front(services);
            // The bytes behind the body are not needed any more, or were copied before.
            (self.base, self.decoded) = (base, decoded);
        }
        self.clear(services);
    }

    /// Bytes that came, or may come, behind the end of a chunked body.
    pub(super) fn beyond(&self) -> u64 {
        let last = self.placed.max(self.promised);
        last.saturating_sub(self.end.unwrap_or(last))
    }

    /// The stored bytes behind the end of the body, piece by piece: in order up to [`Self::delivered`], with holes after
    /// that.
    pub(super) fn each_beyond(&mut self, mut take: impl FnMut(u64, &[u8])) {
        let Some(mut at) = self.end else {
            return;
        };
        while at < self.placed {
            let (index, into) = self.place_of(at);
            let left = usize::try_from(self.placed - at).unwrap_or(usize::MAX);
            let Some(block) = self.block(index) else {
                return;
            };
            let to = into.saturating_add(left).min(BLOCK_BYTES);
            let bytes = &block.bytes_mut()[into..to];
            take(at, bytes);
            at += as_u64(bytes.len());
        }
    }

    /// Gives all blocks back.
    pub(super) fn clear(&mut self, services: &mut Services) {
        let assigned = self.blocks.drain(..).flatten();
        for block in assigned.chain(self.spare.drain(..)) {
            services.return_upload_block(block);
        }
    }
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
