//! The queued responses of one connection, addressed by stream offset.
//!
//! A response is a head in the ring, then an extent of a file. Of the extents only the blocks that the
//! transport may need now are pinned: from what the peer has not acknowledged to the horizon. Their bytes
//! are the only copy there is; a retransmission reads the same block again.
//!
//! Invariant: `released <= ready <= end`, and every byte of `[released, ready)` is a head byte in the ring or lies in a
//! pinned block. Pins are in stream order without overlap.

use crate::exchange::heads::{HEAD_RING_BYTES, HeadRing};
use crate::exchange::read_ahead::{AT_ONCE, Lead, end_of_lead};
use crate::services::Services;
use crate::services::block_shares::Place;
use core::ops::Range;
use core::time::Duration;
use sluice_disk::{Along, BLOCK_BYTES, BlockRef, Fetch, FileHandle, Prefetch, ReadError};
use sluice_http::RESPONSE_HEAD_BYTES;
use sluice_tcp::Awaited;
use sluice_tcp::clock::Instant;
use std::collections::VecDeque;

/// Responses one connection may have queued. A client that pipelines deeper is answered as fast; its further requests
/// wait in the input buffer and then in its own send buffer.
pub const RESPONSES_MAX: usize = 16;

/// Pins for which there is memory from the start: 4 MiB in flight, more than most paths hold.
const PINS_MADE: usize = 64;

const _: () = assert!(BLOCK_BYTES == 65_536);
const BLOCK_BYTES_U64: u64 = 65_536;

/// A planned response, before its place in the stream is known.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The extent of `file` that follows the head; empty without a file.
    pub(crate) body: Range<u64>,
    pub(crate) file: Option<FileHandle>,
    /// When the last byte of the request head had arrived; `None` if no request was answered (408).
    pub(crate) requested_at: Option<Instant>,
}

#[derive(Debug)]
struct Response {
    /// Stream offset of the first byte of the head.
    start: u64,
    /// Stream offset of the first byte of the body.
    body_start: u64,
    /// Position of the head in the ring.
    head: u64,
    body: Range<u64>,
    file: Option<FileHandle>,
    requested_at: Option<Instant>,
    begun: bool,
    /// First block of the file that has not been asked for ahead of its time.
    read_ahead: u64,
}

impl Response {
    fn end(&self) -> u64 {
        self.body_start + (self.body.end - self.body.start)
    }

    /// Where in the file the byte at stream offset `offset` of the body is.
    fn file_offset(&self, offset: u64) -> u64 {
        self.body.start + (offset - self.body_start)
    }
}

/// The part of a pinned block that belongs to the stream at `at`.
#[derive(Debug)]
struct Pin {
    at: u64,
    len: u64,
    /// Bytes of the block before that part.
    skip: usize,
    block: BlockRef,
}

impl Pin {
    fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// How far [`ResponseQueue::fill`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// To the horizon, or as far as this connection may go before its peer acknowledges.
    Done,
    /// A block is being read, or none is free.
    Waiting(Awaited),
    /// The next bytes of the stream cannot be had.
    Failed(ReadError),
}

/// Whether a connection gives its blocks back in good time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// It holds none, or not for long, or its peer takes them.
    InTurn,
    /// Its peer took only so many bytes in all the time.
    TooLong {
        /// Bytes acknowledged in that time.
        took: u64,
    },
}

/// Since when blocks are held without a break, or since the last look at them, and what the peer had then.
#[derive(Debug, Clone, Copy)]
struct Held {
    since: Instant,
    released: u64,
}

/// One step of [`ResponseQueue::fill`].
enum Step {
    More,
    Stop(Fill),
}

/// Responses in stream order.
#[derive(Debug)]
pub(crate) struct ResponseQueue {
    responses: VecDeque<Response>,
    heads: HeadRing,
    pins: VecDeque<Pin>,
    released: u64,
    ready: u64,
    end: u64,
    place: Option<Place>,
    contending: bool,
    held: Option<Held>,
    lead: Lead,
    /// Where the stream had to wait for the disk last.
    waited_at: Option<u64>,
}

impl ResponseQueue {
    /// Bytes of memory of a queue that can pin `blocks` blocks. Beyond [`PINS_MADE`] of them the list grows with what is in
    /// flight, by a thousandth of it, until [`Self::shrink`].
    pub(crate) fn bytes_for(blocks: usize) -> usize {
        size_of::<ResponseQueue>()
            + HEAD_RING_BYTES
            + RESPONSES_MAX * size_of::<Response>()
            + blocks.min(PINS_MADE) * size_of::<Pin>()
    }

    /// An empty queue that can pin `blocks` blocks.
    pub(crate) fn new(blocks: usize) -> ResponseQueue {
        ResponseQueue {
            responses: VecDeque::with_capacity(RESPONSES_MAX),
            heads: HeadRing::new(),
            pins: VecDeque::with_capacity(blocks.min(PINS_MADE)),
            released: 0,
            ready: 0,
            end: 0,
            place: None,
            contending: false,
            held: None,
            lead: Lead::new(),
            waited_at: None,
        }
    }

    /// Frees what a long flight needed beyond what every queue has. Nothing is queued.
    pub(crate) fn shrink(&mut self) {
        debug_assert!(self.responses.is_empty() && self.pins.is_empty());
        self.pins.shrink_to(PINS_MADE);
    }

    /// Goes on at stream offset `offset`, with nothing queued.
    pub(crate) fn restart(&mut self, offset: u64) {
        debug_assert!(self.responses.is_empty() && self.pins.is_empty());
        self.released = offset;
        self.ready = offset;
        self.end = offset;
        self.lead = Lead::new();
        self.waited_at = None;
    }

    /// Whether one more response with a head of usual size fits.
    pub(crate) fn has_room(&self) -> bool {
        self.responses.len() < RESPONSES_MAX && self.heads.free() >= RESPONSE_HEAD_BYTES
    }

    /// The longest head that fits now.
    pub(crate) fn head_room(&self) -> usize {
        self.heads.free()
    }

    /// True if no response is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }

    /// Stream offset up to which bytes can be had.
    pub(crate) fn ready(&self) -> u64 {
        self.ready
    }

    /// Stream offset below which the peer has everything.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// Stream offset of the end of the last response.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Queues a response. The caller has looked at [`Self::has_room`] and [`Self::head_room`].
    pub(crate) fn push(&mut self, head: &[u8], planned: Planned) {
        let start = self.end;
        let response = Response {
            start,
            body_start: start + u64::try_from(head.len()).unwrap_or(0),
            head: self.heads.push(head),
            read_ahead: planned.body.start / BLOCK_BYTES_U64,
            body: planned.body,
            file: planned.file,
            requested_at: planned.requested_at,
            begun: false,
        };
        self.end = response.end();
        self.responses.push_back(response);
    }

    /// Contiguous bytes at stream offset `offset`, at most `max`; empty outside of `[released, ready)`.
    pub(crate) fn bytes<'a>(&'a self, offset: u64, max: usize, services: &'a Services) -> &'a [u8] {
        if offset < self.released || offset >= self.ready {
            return &[];
        }
        let index = self
            .responses
            .partition_point(|response| response.end() <= offset);
        let Some(response) = self.responses.get(index) else {
            return &[];
        };
        if offset < response.body_start {
            let left = limit(response.body_start - offset, max);
            return self
                .heads
                .get(response.head + (offset - response.start), left);
        }
        let Some(pin) = self
            .pins
            .get(self.pins.partition_point(|pin| pin.end() <= offset))
        else {
            return &[];
        };
        let Some(into) = offset.checked_sub(pin.at) else {
            return &[];
        };
        let from = pin.skip + limit(into, BLOCK_BYTES);
        let to = from + limit(pin.len - into, max);
        services
            .disk
            .bytes(&pin.block)
            .get(from..to)
            .unwrap_or_default()
    }

    /// The block that holds the byte at stream offset `offset`; none for bytes of a head, or outside of
    /// `[released, ready)`.
    pub(crate) fn block_at(&self, offset: u64) -> Option<&BlockRef> {
        if offset < self.released || offset >= self.ready {
            return None;
        }
        let pin = self
            .pins
            .get(self.pins.partition_point(|pin| pin.end() <= offset))?;
        (pin.at <= offset).then_some(&pin.block)
    }

    /// Pins what lies below `horizon`, as far as blocks are to be had, and unpins what lies beyond.
    pub(crate) fn fill(&mut self, horizon: u64, now: Instant, services: &mut Services) -> Fill {
        self.unpin_beyond(horizon, services);
        let fill = loop {
            if self.ready >= horizon.min(self.end) {
                break Fill::Done;
            }
            match self.extend(horizon, services) {
                Step::More => {}
                Step::Stop(fill) => break fill,
            }
        };
        let is_waiting = matches!(fill, Fill::Waiting(_));
        if !is_waiting {
            self.leave_line(services);
        }
        let contends = is_waiting || !self.pins.is_empty();
        services.shares.contend(&mut self.contending, contends);
        if fill != Fill::Done || horizon > self.released {
            self.read_ahead(horizon, services);
        }
        self.note_held(now);
        fill
    }

    /// Whether blocks were held for `hold` although the peer took less than `bytes` of them in this time.
    pub(crate) fn holding(&mut self, hold: Duration, bytes: u64, now: Instant) -> Holding {
        let Some(held) = self.held else {
            return Holding::InTurn;
        };
        let elapsed = now.saturating_since(held.since);
        if elapsed < hold {
            return Holding::InTurn;
        }
        let took = self.released - held.released;
        // After a longer time without a look the average says too little about the last seconds.
        if took < bytes && elapsed <= 2 * hold {
            return Holding::TooLong { took };
        }
        self.held = None;
        self.note_held(now);
        Holding::InTurn
    }

    fn note_held(&mut self, now: Instant) {
        if self.pins.is_empty() {
            self.held = None;
        } else if self.held.is_none() {
            self.held = Some(Held {
                since: now,
                released: self.released,
            });
        }
    }

    /// The first byte of every response that starts below `offset` is on its way.
    pub(crate) fn sent(&mut self, offset: u64, now: Instant, services: &mut Services) {
        for response in &mut self.responses {
            if response.start >= offset {
                break;
            }
            if !response.begun {
                response.begun = true;
                services.record_first_byte(response.requested_at, now);
            }
        }
    }

    /// Frees everything below `offset`, which the peer has.
    pub(crate) fn acknowledge(&mut self, offset: u64, now: Instant, services: &mut Services) {
        let offset = offset.min(self.end);
        if offset <= self.released {
            return;
        }
        // A window probe may have been taken after its block went back.
        self.ready = self.ready.max(offset);
        services.counters.response_bytes += offset - self.released;
        self.released = offset;
        while self.pins.front().is_some_and(|pin| pin.end() <= offset) {
            self.unpin_front(services);
        }
        while self
            .responses
            .front()
            .is_some_and(|response| response.end() <= offset)
        {
            let Some(response) = self.responses.pop_front() else {
                break;
            };
            self.heads
                .release(response.head + (response.body_start - response.start));
            services.record_whole(
                response.end() - response.body_start,
                response.requested_at,
                now,
            );
            if let Some(file) = response.file {
                services.close(file);
            }
        }
        let contends = self.place.is_some() || !self.pins.is_empty();
        services.shares.contend(&mut self.contending, contends);
        self.note_held(now);
    }

    /// Drops all responses and gives everything back.
    pub(crate) fn clear(&mut self, services: &mut Services) {
        self.leave_line(services);
        while !self.pins.is_empty() {
            self.unpin_front(services);
        }
        while let Some(response) = self.responses.pop_front() {
            self.heads
                .release(response.head + (response.body_start - response.start));
            if let Some(file) = response.file {
                services.close(file);
            }
        }
        services.shares.contend(&mut self.contending, false);
        self.held = None;
        self.restart(self.end);
    }

    /// Makes the next head or the next block of a body ready.
    fn extend(&mut self, horizon: u64, services: &mut Services) -> Step {
        let ready = self.ready;
        let index = self
            .responses
            .partition_point(|response| response.end() <= ready);
        let Some(response) = self.responses.get(index) else {
            return Step::Stop(Fill::Done);
        };
        if ready < response.body_start {
            self.ready = response.body_start;
            return Step::More;
        }
        // A connection without a block stands still; one that has some will be asked again when they come back.
        let stands_still = self.pins.is_empty();
        let without = if stands_still {
            Fill::Waiting(Awaited::Memory)
        } else {
            Fill::Done
        };
        if !self.may_take(stands_still, services) {
            return Step::Stop(without);
        }
        let Some(response) = self.responses.get(index) else {
            return Step::Stop(Fill::Done);
        };
        let Some(file) = &response.file else {
            return Step::Stop(Fill::Failed(ReadError::Shrunk));
        };
        let file_offset = response.file_offset(ready);
        let left = response.end() - ready;
        let (next, along) = self.wanted_blocks(response, horizon, services);
        match services.disk.fetch_along(file, next, along) {
            Fetch::Ready(block) => self.pin(block, file_offset, left, services),
            Fetch::Pending => {
                self.note_wait(horizon, services);
                Step::Stop(Fill::Waiting(Awaited::Disk))
            }
            Fetch::NextTurn => Step::Stop(Fill::Waiting(Awaited::Disk)),
            Fetch::NoBlock => {
                if stands_still && self.place.is_none() {
                    self.place = services.shares.join();
                }
                Step::Stop(without)
            }
            Fetch::Failed(error) if index == 0 => Step::Stop(Fill::Failed(error)),
            // The responses before it are whole and go out first; the failure shows again when it is next.
            Fetch::Failed(_) => Step::Stop(Fill::Done),
        }
    }

    /// The block of the file that the stream needs next of a response, and what it wants behind it within this connection's
    /// share: up to the horizon, and by the lead beyond it.
    fn wanted_blocks(
        &self,
        response: &Response,
        horizon: u64,
        services: &Services,
    ) -> (u64, Along) {
        let ready = self.ready.max(response.body_start);
        let next = response.file_offset(ready) / BLOCK_BYTES_U64;
        let share = match services.shares.has_line() {
            // Whoever stands in line goes first.
            true => 0,
            false => services.shares.share().saturating_sub(self.pins.len()),
        };
        let share = next.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
        let end = response.body.end.div_ceil(BLOCK_BYTES_U64);
        let horizon = response.file_offset(horizon.clamp(response.body_start, response.end()));
        let wanted = horizon.div_ceil(BLOCK_BYTES_U64);
        let lead = u64::try_from(self.lead.blocks(services.read_ahead_blocks)).unwrap_or(0);
        let run = match &response.file {
            Some(file) => services.disk.blocks_of_read(file),
            None => 1,
        };
        let along = Along {
            wanted_until: wanted.min(share).min(end),
            ahead_until: end_of_lead(wanted, lead, run, share, end),
        };
        (next, along)
    }

    fn pin(
        &mut self,
        block: BlockRef,
        file_offset: u64,
        left: u64,
        services: &mut Services,
    ) -> Step {
        let skip = limit(file_offset % BLOCK_BYTES_U64, BLOCK_BYTES);
        let valid = services.disk.bytes(&block).len();
        let len = u64::try_from(valid.saturating_sub(skip))
            .unwrap_or(0)
            .min(left);
        if len == 0 {
            services.release(block);
            return Step::Stop(Fill::Failed(ReadError::Shrunk));
        }
        self.pins.push_back(Pin {
            at: self.ready,
            len,
            skip,
            block,
        });
        self.ready += len;
        self.leave_line(services);
        Step::More
    }

    fn may_take(&mut self, stands_still: bool, services: &mut Services) -> bool {
        if !stands_still {
            let allowance = services.shares.allowance(services.unpinned_blocks());
            return !services.shares.has_line() && self.pins.len() < allowance;
        }
        if self.place.is_none() && services.shares.has_line() {
            self.place = services.shares.join();
            if self.place.is_none() {
                return false;
            }
        }
        match &self.place {
            Some(place) => services.shares.may_ask(place, services.unpinned_blocks()),
            None => true,
        }
    }

    fn leave_line(&mut self, services: &mut Services) {
        if let Some(place) = self.place.take() {
            services.leave_line(place);
        }
    }

    /// Gives back blocks that the transport does not want any more: a peer that closes its window must not keep
    /// memory for data that it cannot take.
    fn unpin_beyond(&mut self, horizon: u64, services: &mut Services) {
        let wants_nothing = horizon <= self.released;
        while self
            .pins
            .back()
            .is_some_and(|pin| wants_nothing || pin.at >= horizon)
        {
            if let Some(pin) = self.pins.pop_back() {
                self.ready = pin.at.max(self.released);
                services.release(pin.block);
            }
        }
    }

    fn unpin_front(&mut self, services: &mut Services) {
        if let Some(pin) = self.pins.pop_front() {
            services.release(pin.block);
        }
    }

    /// The stream waits for the disk; it is asked more than once whether it still does.
    fn note_wait(&mut self, horizon: u64, services: &Services) {
        if self.waited_at.replace(self.ready) != Some(self.ready) {
            let window = horizon
                .saturating_sub(self.released)
                .div_ceil(BLOCK_BYTES_U64);
            let window = usize::try_from(window).unwrap_or(usize::MAX);
            self.lead.waited(window, services.read_ahead_blocks);
        }
    }

    /// Starts reading the blocks after the last pinned one, to the horizon and by the lead beyond it, within this
    /// connection's share.
    fn read_ahead(&mut self, horizon: u64, services: &mut Services) {
        let ready = self.ready;
        let index = self
            .responses
            .partition_point(|response| response.end() <= ready);
        let Some(response) = self.responses.get(index) else {
            return;
        };
        let (next, along) = self.wanted_blocks(response, horizon, services);
        let response = &mut self.responses[index];
        let Some(file) = &response.file else {
            return;
        };
        for _ in 0..AT_ONCE {
            let block = next.max(response.read_ahead);
            if block >= along.ahead_until {
                return;
            }
            response.read_ahead = match services.disk.prefetch_along(file, block, along) {
                Prefetch::Here => {
                    self.lead.was_there();
                    block + 1
                }
                Prefetch::Coming { until } => until,
                Prefetch::Refused => return,
            };
        }
    }
}

#[cfg(test)]
impl ResponseQueue {
    /// Pins for which there is memory.
    pub(crate) fn pins_made(&self) -> usize {
        self.pins.capacity()
    }
}

/// `value` as a length, at most `max`.
fn limit(value: u64, max: usize) -> usize {
    usize::try_from(value).map_or(max, |value| value.min(max))
}
