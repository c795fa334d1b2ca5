//! One HTTP connection, whatever carries it: request bytes in and response bytes out, by stream offset.
//!
//! An [`Exchange`] owns no socket and copies no file byte. The transport places request bytes, says how far they are in
//! order, and asks how much of the response stream is ready; it then reads bytes at any offset that the peer
//! has not acknowledged, as often as it likes. Pipelined requests are answered in order, a bounded number
//! at a time; the rest waits in the input buffer, which closes the peer's window.
//!
//! | file | role |
//! |---|---|
//! | `input` | request bytes by offset, arrival times |
//! | `request` | one request: parse, open, plan |
//! | `response` | queued responses: head bytes, file extent, pinned blocks |
//! | `patience` | how long to wait for the peer |
//! | `read_ahead` | how far ahead of the window blocks are read |
//! | `heads` | ring of head bytes |
//! | `upload` | one upload: begun, stored, published, answered |
//! | `upload/holding` | blocks held for slow clients, and the wait of the others |
//! | `incoming` | the body of an upload: stream offsets to file offsets, chunks, blocks |

mod heads;
mod incoming;
mod input;
mod patience;
mod read_ahead;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod upload;

pub use input::INPUT_BYTES;
pub use patience::{LINGER, LINGER_MOST};
pub use response::{Holding, RESPONSES_MAX};

use crate::services::Services;
use crate::services::upload_slots::Source;
use core::net::IpAddr;
use core::time::Duration;
pub(crate) use input::Input;
use patience::Phase;
use request::{Asking, Taken, take_request};
use response::Fill;
pub(crate) use response::ResponseQueue;
use sluice_disk::{BlockRef, OpenTicket};
use sluice_tcp::Awaited;
use sluice_tcp::clock::Instant;
use upload::Step;
pub(crate) use upload::Upload;

/// The state of the response stream after [`Exchange::advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Progress {
    /// Response bytes below this stream offset can be read with [`Exchange::bytes`]. Falls back only where an earlier
    /// horizon reached further than this one.
    pub ready_until: u64,
    /// Nothing comes after `ready_until`: send a FIN there.
    pub finish: bool,
    /// The rest of a response cannot be had: reset the connection. A FIN would make a cut body look whole.
    pub abort: bool,
    /// Waits for the disk, for a free block or for memory: call again when [`Services::poll`] says so.
    pub waiting: bool,
    /// An upload could use one more block, though its peer has room to go on: call again as when waiting. Without that
    /// nobody would come by with the rest of the window smaller than what the peer sends at once.
    pub asks_again: bool,
    /// Bytes of a response that has begun follow `ready_until`, once they are ready and wanted.
    pub more: bool,
    /// What stands between `ready_until` and the bytes that follow, if not the horizon.
    pub awaited: Option<Awaited>,
}

/// One HTTP connection. Small while idle; buffers come from [`Services`] with the first request byte.
///
/// Calls, in any turn of the worker's loop and in this order:
///
/// 1. input: [`place`](Exchange::place), then [`delivered`](Exchange::delivered),
///    [`peer_finished`](Exchange::peer_finished), [`acknowledged`](Exchange::acknowledged);
/// 2. [`advance`](Exchange::advance), after any input, after [`Services::poll`] if it was waiting, when the horizon
///    moved, and once when draining begins;
/// 3. output: [`bytes`](Exchange::bytes), [`sent`](Exchange::sent), [`consumed`](Exchange::consumed);
/// 4. [`deadline`](Exchange::deadline), and [`on_deadline`](Exchange::on_deadline) when it has passed;
/// 5. at the end, however it came, [`teardown`](Exchange::teardown): an exchange holds linear handles.
#[derive(Debug)]
pub struct Exchange {
    input: Option<Box<Input>>,
    queue: Option<Box<ResponseQueue>>,
    ticket: Option<OpenTicket>,
    upload: Option<Box<Upload>>,
    /// Where the connection comes from.
    source: Source,
    /// Where the request stream goes on; an input knows better.
    request_offset: u64,
    /// Where the response stream goes on; a queue knows better.
    response_offset: u64,
    phase: Phase,
    /// Begin of the phase, or in a response or an upload of the time over which the rate is taken.
    since: Instant,
    /// What the peer had, or had sent, then.
    had: u64,
    /// When the peer last sent something that nobody reads; not before [`Self::since`].
    heard_at: Instant,
    /// Since when the peer has been waiting for us, while it does.
    waiting_since: Option<Instant>,
    /// How far the request stream had come when the worker began to drain.
    drained_at: Option<u64>,
    peer_finished: bool,
    /// No further request is read; what still comes is dropped.
    last_taken: bool,
    /// And nobody waits for the peer to end it any more.
    lingered: bool,
    aborted: bool,
}

impl Exchange {
    /// A connection accepted at `now`, both streams at offset 0.
    #[must_use]
    pub const fn new(now: Instant) -> Exchange {
        Exchange {
            input: None,
            queue: None,
            ticket: None,
            upload: None,
            source: Source::UNKNOWN,
            request_offset: 0,
            response_offset: 0,
            phase: Phase::Idle,
            since: now,
            had: 0,
            heard_at: now,
            waiting_since: None,
            drained_at: None,
            peer_finished: false,
            last_taken: false,
            lingered: false,
            aborted: false,
        }
    }

    /// The same of a connection from `peer`, whose network is to hold no more than its share of the uploads.
    #[must_use]
    pub fn with_peer(self, peer: Option<IpAddr>) -> Exchange {
        let source = peer.map_or(Source::UNKNOWN, Source::of);
        Exchange { source, ..self }
    }

    /// Request bytes that can be placed from the delivered end of the stream on: 0 while no input is free, in
    /// which case [`Services::poll`] says when to look again. `usize::MAX` once they are dropped anyway.
    #[must_use]
    pub fn room(&self, services: &Services) -> usize {
        if self.last_taken {
            return usize::MAX;
        }
        if let Some(upload) = self.storing() {
            return usize::try_from(upload.incoming().room()).unwrap_or(usize::MAX);
        }
        match &self.input {
            Some(input) => input.capacity() - input.pending().len(),
            None if services.has_input() => services.input_bytes(),
            None => 0,
        }
    }

    /// Stores request bytes at stream offset `offset`, in any order. False, with nothing stored, if they reach beyond
    /// [`Services::input_bytes`] from [`Self::consumed`] or no memory is free for them; the peer has to send them again.
    #[must_use]
    pub fn place(&mut self, offset: u64, bytes: &[u8], services: &mut Services) -> bool {
        if self.last_taken || bytes.is_empty() {
            return true;
        }
        let (offset, bytes) = match self.place_in_upload(offset, bytes) {
            Some(rest) if rest.1.is_empty() => return true,
            Some(rest) => rest,
            None => {
                services.counters.no_workspace += 1;
                return false;
            }
        };
        if self.input.is_none() {
            self.input = services.take_input();
            if let Some(input) = &mut self.input {
                input.restart(self.request_offset);
            }
        }
        let placed = self
            .input
            .as_mut()
            .is_some_and(|input| input.place(offset, bytes, &mut services.buffers));
        services.counters.no_workspace += u64::from(!placed);
        placed
    }

    /// Everything below stream offset `until` has been placed; never beyond what [`Self::place`] took. Its time of
    /// arrival is that of the next [`Self::advance`].
    pub fn delivered(&mut self, until: u64) {
        if let Some(upload) = self.storing_mut() {
            upload.incoming_mut().deliver(until);
        }
        if self.last_taken {
            self.request_offset = self.request_offset.max(until);
        } else if let Some(input) = &mut self.input {
            input.deliver(until);
        }
    }

    /// Stream offset below which request bytes are freed: the receive window may reach from here to
    /// [`Services::input_bytes`] further.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        match (&self.input, self.storing()) {
            _ if self.last_taken => self.request_offset,
            (_, Some(upload)) => upload.incoming().delivered(),
            (Some(input), None) => input.consumed(),
            (None, None) => self.request_offset,
        }
    }

    /// Stream offset up to which the receive window may reach while the body of an upload is stored, whatever
    /// [`Self::consumed`] says: it is promised then, and never falls. `None` while there is no such body.
    pub fn promise(&mut self, services: &Services) -> Option<u64> {
        let input_bytes = u64::try_from(services.input_bytes()).unwrap_or(0);
        let upload = self.storing_mut()?;
        Some(upload.incoming_mut().promise(input_bytes))
    }

    /// Where the transport may put the next bytes in order itself, instead of [`Self::place`]: then
    /// [`Self::delivered`] says how many they were. Empty if none belong to an upload now.
    pub fn vacancy(&mut self) -> &mut [u8] {
        match self.storing_mut() {
            Some(upload) => upload.incoming_mut().vacancy(),
            None => &mut [],
        }
    }

    /// Whether the request under way is an upload.
    #[must_use]
    pub fn is_uploading(&self) -> bool {
        self.upload.is_some()
    }

    /// How many bytes of an upload its peer could send in a round trip or two; `None` if the transport cannot say. Blocks
    /// for so many are held ready in the next [`Self::advance`].
    pub fn set_wanted(&mut self, wanted: Option<u32>) {
        if let Some(upload) = &mut self.upload {
            upload.set_wanted(wanted);
        }
    }

    /// The peer sends nothing more (FIN, EOF). Whole requests are still answered, then the connection ends.
    pub fn peer_finished(&mut self) {
        self.peer_finished = true;
    }

    /// Answers what can be answered and makes the response bytes below `horizon` ready.
    ///
    /// `horizon` is the stream offset up to which the transport wants bytes: what the peer's window allows, and some
    /// more to be ready when it opens. Blocks beyond it are given back, so it must never be below what was sent;
    /// while nothing is in flight and nothing may be sent, the acknowledged offset frees all blocks.
    pub fn advance(&mut self, horizon: u64, now: Instant, services: &mut Services) -> Progress {
        if self.aborted {
            return self.progress(Fill::Done, None);
        }
        if services.draining && self.drained_at.is_none() {
            let delivered = self.input.as_ref().map(|input| input.delivered());
            self.drained_at = Some(delivered.unwrap_or(self.request_offset));
        }
        let awaited = self.take_requests(now, services);
        let fill = match &mut self.queue {
            Some(queue) => queue.fill(horizon, now, services),
            None => Fill::Done,
        };
        if let Fill::Failed(cause) = fill {
            services.counters.count_abort(cause);
            self.aborted = true;
        }
        self.settle(now, services);
        self.linger_on(now);
        let progress = self.progress(fill, awaited);
        self.stop_clock(progress.waiting, now);
        progress
    }

    /// Contiguous response bytes from stream offset `offset` on: at most `max`, fewer at the end of a head or block,
    /// none outside of what is ready and not acknowledged.
    #[must_use]
    pub fn bytes<'a>(&'a self, offset: u64, max: usize, services: &'a Services) -> &'a [u8] {
        match &self.queue {
            Some(queue) => queue.bytes(offset, max, services),
            None => &[],
        }
    }

    /// The block in which the response byte at stream offset `offset` lies; none for a head, and outside of what is ready
    /// and not acknowledged.
    #[must_use]
    pub fn block_at(&self, offset: u64) -> Option<&BlockRef> {
        self.queue.as_ref()?.block_at(offset)
    }

    /// Response bytes below stream offset `until` were handed to the network. Repeating it is harmless.
    pub fn sent(&mut self, until: u64, now: Instant, services: &mut Services) {
        if let Some(queue) = &mut self.queue {
            queue.sent(until, now, services);
        }
    }

    /// The peer has everything below stream offset `until`: its blocks are given back.
    pub fn acknowledged(&mut self, until: u64, now: Instant, services: &mut Services) {
        if let Some(queue) = &mut self.queue {
            queue.acknowledge(until, now, services);
        }
        self.settle(now, services);
    }

    /// Whether this connection holds blocks for at least `hold` although its peer took less than `bytes` in this time.
    /// To be asked now and then while others wait for blocks: it judges the last `hold` to twice `hold`.
    pub fn holding(&mut self, hold: Duration, bytes: u64, now: Instant) -> Holding {
        match &mut self.queue {
            Some(queue) => queue.holding(hold, bytes, now),
            None => Holding::InTurn,
        }
    }

    /// The transport resets the connection for a reason of its own, which it counts.
    pub fn given_up(&mut self) {
        self.aborted = true;
    }

    /// True between requests, when closing costs the peer nothing but a new connection.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.input.is_none() && self.queue.is_none()
    }

    /// Since when it is idle, if [`Self::is_idle`].
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then_some(self.since)
    }

    /// Gives everything back. The exchange answers nothing more.
    pub fn teardown(&mut self, services: &mut Services) {
        if let Some(ticket) = self.ticket.take() {
            services.disk.abandon(ticket);
        }
        self.discard_upload(services);
        if let Some(mut queue) = self.queue.take() {
            if !queue.is_empty() && !self.aborted {
                services.counters.abandoned += 1;
            }
            queue.clear(services);
            services.give_back_queue(queue);
        }
        self.take_no_more();
        if let Some(input) = self.input.take() {
            services.give_back_input(input);
        }
    }

    /// Queues responses while there are requests and room. What the next one waits for, if that is us.
    fn take_requests(&mut self, now: Instant, services: &mut Services) -> Option<Awaited> {
        if let Some(input) = &mut self.input {
            input.stamp(now);
        }
        loop {
            match self.drive_upload(now, services) {
                Step::Answered => {}
                Step::Peer => return None,
                Step::Ours(awaited) => return Some(awaited),
            }
            if self.last_taken {
                return None;
            }
            match self.take_request(now, services) {
                Taken::Response { last: false } | Taken::Upload => {}
                Taken::Response { last: true } => self.take_no_more(),
                Taken::Opening => return Some(Awaited::Disk),
                Taken::NoQueue => return Some(Awaited::Memory),
                Taken::Full => return None,
                Taken::Nothing => {
                    self.end_if_asked(services);
                    return None;
                }
            }
        }
    }

    fn take_request(&mut self, now: Instant, services: &mut Services) -> Taken {
        let Some(input) = &mut self.input else {
            return Taken::Nothing;
        };
        if self.queue.is_none() {
            if !input.worth_parsing() {
                return Taken::Nothing;
            }
            self.queue = new_queue(self.response_offset, services);
        }
        let Some(queue) = &mut self.queue else {
            return Taken::NoQueue;
        };
        take_request(
            input,
            queue,
            &mut self.ticket,
            &mut self.upload,
            &Asking {
                source: self.source,
                drained_at: self.drained_at,
                now,
            },
            services,
        )
    }

    /// With no whole request there: the last word of a peer that has finished, or of a worker that drains.
    fn end_if_asked(&mut self, services: &mut Services) {
        let within_head = self
            .input
            .as_ref()
            .is_some_and(|input| !input.pending().is_empty());
        if self.peer_finished {
            self.take_no_more();
        } else if services.draining && !within_head {
            services.counters.drained += 1;
            self.take_no_more();
        }
    }

    /// From now on request bytes are dropped unread.
    fn take_no_more(&mut self) {
        self.last_taken = true;
        if let Some(upload) = &self.upload {
            self.request_offset = self.request_offset.max(upload.incoming().delivered());
        }
        if let Some(input) = &mut self.input {
            self.request_offset = self.request_offset.max(input.delivered());
            input.restart(self.request_offset);
        }
    }

    /// Stream offset below which the peer has everything.
    fn released(&self) -> u64 {
        let queue = self.queue.as_ref();
        queue.map_or(self.response_offset, |queue| queue.released())
    }

    /// Follows the phase, and gives back what holds nothing.
    fn settle(&mut self, now: Instant, services: &mut Services) {
        if let Some(input) = self.input.take_if(|input| input.is_empty()) {
            if !self.last_taken {
                self.request_offset = input.consumed();
            }
            services.give_back_input(input);
        }
        let idle_queue = |queue: &mut Box<ResponseQueue>| queue.is_empty();
        if self.ticket.is_none()
            && let Some(queue) = self.queue.take_if(idle_queue)
        {
            self.response_offset = queue.end();
            services.give_back_queue(queue);
        }
        self.follow_phase(now);
    }

    /// `opening`: what the next request waits for.
    fn progress(&self, fill: Fill, opening: Option<Awaited>) -> Progress {
        let (ready, end) = match &self.queue {
            Some(queue) => (queue.ready(), queue.end()),
            None => (self.response_offset, self.response_offset),
        };
        // The response that is under way comes before the request behind it.
        let awaited = match fill {
            Fill::Waiting(awaited) => Some(awaited),
            // Its share of blocks is used up.
            _ if ready < end => Some(Awaited::Memory),
            _ => opening,
        };
        Progress {
            ready_until: ready,
            finish: self.last_taken && self.upload.is_none() && ready == end && !self.aborted,
            abort: self.aborted,
            waiting: !self.aborted && (opening.is_some() || matches!(fill, Fill::Waiting(_))),
            asks_again: !self.aborted && self.storing().is_some_and(Upload::is_short),
            more: !self.aborted && ready < end,
            awaited: awaited.filter(|_| !self.aborted),
        }
    }
}

/// A queue for the response stream from `offset` on, if memory is free.
fn new_queue(offset: u64, services: &mut Services) -> Option<Box<ResponseQueue>> {
    let mut queue = services.take_queue()?;
    queue.restart(offset);
    Some(queue)
}
