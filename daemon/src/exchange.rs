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
//! | `heads` | ring of head bytes |

mod heads;
mod input;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use input::INPUT_BYTES;
pub use response::RESPONSES_MAX;

use crate::services::Services;
use input::Input;
use request::{Taken, take_error, take_request};
use response::{Fill, ResponseQueue};
use sluice_disk::OpenTicket;
use sluice_http::Status;
use sluice_tcp::clock::Instant;

/// Buffers and queues of a connection that has something under way; pooled in [`Services`].
#[derive(Debug)]
pub(crate) struct Workspace {
    input: Input,
    queue: ResponseQueue,
}

impl Workspace {
    pub(crate) fn new(input_bytes: usize, blocks: usize) -> Workspace {
        Workspace {
            input: Input::new(input_bytes),
            queue: ResponseQueue::new(blocks),
        }
    }
}

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
    /// Waits for the disk or for a free block: call again when [`Services::poll`] says so.
    pub waiting: bool,
    /// Bytes of a response that has begun follow `ready_until`, once they are ready and wanted.
    pub more: bool,
}

/// What a connection is waiting for, as far as time limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a request head.
    Head,
    /// Us, or acknowledgements; progress there is the transport's business.
    Responding,
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
    workspace: Option<Box<Workspace>>,
    ticket: Option<OpenTicket>,
    /// Where the request stream goes on; with a workspace, its input knows better.
    request_offset: u64,
    /// Where the response stream goes on; with a workspace, its queue knows better.
    response_offset: u64,
    phase: Phase,
    since: Instant,
    peer_finished: bool,
    /// No further request is read; what still comes is dropped.
    last_taken: bool,
    aborted: bool,
}

impl Exchange {
    /// A connection accepted at `now`, both streams at offset 0.
    #[must_use]
    pub const fn new(now: Instant) -> Exchange {
        Exchange {
            workspace: None,
            ticket: None,
            request_offset: 0,
            response_offset: 0,
            phase: Phase::Idle,
            since: now,
            peer_finished: false,
            last_taken: false,
            aborted: false,
        }
    }

    /// Request bytes that can be placed from the delivered end of the stream on: 0 while no workspace is free, in
    /// which case [`Services::poll`] says when to look again. `usize::MAX` once they are dropped anyway.
    #[must_use]
    pub fn room(&self, services: &Services) -> usize {
        if self.last_taken {
            return usize::MAX;
        }
        match &self.workspace {
            Some(workspace) => workspace.input.capacity() - workspace.input.pending().len(),
            None if services.has_workspace() => services.input_bytes(),
            None => 0,
        }
    }

    /// Stores request bytes at stream offset `offset`, in any order. False, with nothing stored, if they reach beyond
    /// [`Services::input_bytes`] from [`Self::consumed`] or no workspace is free; the peer has to send them again.
    #[must_use]
    pub fn place(&mut self, offset: u64, bytes: &[u8], services: &mut Services) -> bool {
        if self.last_taken || bytes.is_empty() {
            return true;
        }
        if self.workspace.is_none() {
            let Some(mut workspace) = services.take_workspace() else {
                services.counters.no_workspace += 1;
                return false;
            };
            workspace.input.restart(self.request_offset);
            workspace.queue.restart(self.response_offset);
            self.workspace = Some(workspace);
        }
        self.workspace
            .as_mut()
            .is_some_and(|workspace| workspace.input.place(offset, bytes))
    }

    /// Everything below stream offset `until` has been placed; never beyond what [`Self::place`] took. Its time of
    /// arrival is that of the next [`Self::advance`].
    pub fn delivered(&mut self, until: u64) {
        if self.last_taken {
            self.request_offset = self.request_offset.max(until);
        } else if let Some(workspace) = &mut self.workspace {
            workspace.input.deliver(until);
        }
    }

    /// Stream offset below which request bytes are freed: the receive window may reach from here to
    /// [`Services::input_bytes`] further.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        match &self.workspace {
            Some(workspace) if !self.last_taken => workspace.input.consumed(),
            _ => self.request_offset,
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
            return self.progress(Fill::Done, false);
        }
        let opening = self.take_requests(now, services);
        let fill = match &mut self.workspace {
            Some(workspace) => workspace.queue.fill(horizon, services),
            None => Fill::Done,
        };
        if let Fill::Failed(cause) = fill {
            services.counters.count_abort(cause);
            self.aborted = true;
        }
        self.settle(now, services);
        self.progress(fill, opening)
    }

    /// Contiguous response bytes from stream offset `offset` on: at most `max`, fewer at the end of a head or block,
    /// none outside of what is ready and not acknowledged.
    #[must_use]
    pub fn bytes<'a>(&'a self, offset: u64, max: usize, services: &'a Services) -> &'a [u8] {
        match &self.workspace {
            Some(workspace) => workspace.queue.bytes(offset, max, services),
            None => &[],
        }
    }

    /// Response bytes below stream offset `until` were handed to the network. Repeating it is harmless.
    pub fn sent(&mut self, until: u64, now: Instant, services: &mut Services) {
        if let Some(workspace) = &mut self.workspace {
            workspace.queue.sent(until, now, services);
        }
    }

    /// The peer has everything below stream offset `until`: its blocks are given back.
    pub fn acknowledged(&mut self, until: u64, now: Instant, services: &mut Services) {
        if let Some(workspace) = &mut self.workspace {
            workspace.queue.acknowledge(until, now, services);
        }
        self.settle(now, services);
    }

    /// When [`Self::on_deadline`] is due; `None` while there is something to send, or nothing to wait for.
    ///
    /// Moves only in [`Self::advance`] and [`Self::acknowledged`]. A peer cannot put the header deadline off by
    /// sending single bytes.
    #[must_use]
    pub fn deadline(&self, services: &Services) -> Option<Instant> {
        if self.last_taken || self.aborted {
            return None;
        }
        match self.phase {
            Phase::Idle => Some(self.since + services.idle_timeout),
            Phase::Head => Some(self.since + services.header_timeout),
            Phase::Responding => None,
        }
    }

    /// Ends the connection if its deadline has passed: with 408 in a request head, in silence between requests.
    /// [`Self::advance`] afterwards says what to send.
    pub fn on_deadline(&mut self, now: Instant, services: &mut Services) {
        if self
            .deadline(services)
            .is_none_or(|deadline| now < deadline)
        {
            return;
        }
        if let Phase::Head = self.phase
            && let Some(workspace) = &mut self.workspace
        {
            services.counters.head_timeouts += 1;
            take_error(Status::RequestTimeout, workspace, services);
        } else {
            services.counters.idle_timeouts += 1;
        }
        self.take_no_more();
    }

    /// True between requests, when closing costs the peer nothing but a new connection.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.workspace.is_none()
    }

    /// Gives everything back. The exchange answers nothing more.
    pub fn teardown(&mut self, services: &mut Services) {
        if let Some(ticket) = self.ticket.take() {
            services.disk.abandon(ticket);
        }
        if let Some(mut workspace) = self.workspace.take() {
            if !workspace.queue.is_empty() && !self.aborted {
                services.counters.abandoned += 1;
            }
            workspace.queue.clear(services);
            services.give_back_workspace(workspace);
        }
        self.take_no_more();
    }

    /// Queues responses while there are requests and room. True if a file is being opened.
    fn take_requests(&mut self, now: Instant, services: &mut Services) -> bool {
        if let Some(workspace) = &mut self.workspace {
            workspace.input.stamp(now);
        }
        while !self.last_taken {
            let taken = match &mut self.workspace {
                Some(workspace) => take_request(workspace, &mut self.ticket, now, services),
                None => Taken::Nothing,
            };
            match taken {
                Taken::Response { last: false } => {}
                Taken::Response { last: true } => self.take_no_more(),
                Taken::Opening => return true,
                Taken::Full => return false,
                Taken::Nothing => {
                    self.end_if_asked(services);
                    return false;
                }
            }
        }
        false
    }

    /// With no whole request there: the last word of a peer that has finished, or of a worker that drains.
    fn end_if_asked(&mut self, services: &mut Services) {
        let within_head = self
            .workspace
            .as_ref()
            .is_some_and(|workspace| !workspace.input.pending().is_empty());
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
        if let Some(workspace) = &mut self.workspace {
            self.request_offset = self.request_offset.max(workspace.input.delivered());
            workspace.input.restart(self.request_offset);
        }
    }

    /// Follows the phase, and gives the workspace back when nothing is in it.
    fn settle(&mut self, now: Instant, services: &mut Services) {
        let mut phase = Phase::Idle;
        let mut empty = false;
        if let Some(workspace) = &self.workspace {
            let responding = !workspace.queue.is_empty() || self.ticket.is_some();
            phase = if responding {
                Phase::Responding
            } else {
                Phase::Head
            };
            empty = !responding && workspace.input.is_empty();
        }
        if empty && let Some(workspace) = self.workspace.take() {
            phase = Phase::Idle;
            if !self.last_taken {
                self.request_offset = workspace.input.consumed();
            }
            self.response_offset = workspace.queue.end();
            services.give_back_workspace(workspace);
        }
        if phase != self.phase {
            self.phase = phase;
            self.since = now;
        }
    }

    fn progress(&self, fill: Fill, opening: bool) -> Progress {
        let (ready, end) = match &self.workspace {
            Some(workspace) => (workspace.queue.ready(), workspace.queue.end()),
            None => (self.response_offset, self.response_offset),
        };
        Progress {
            ready_until: ready,
            finish: self.last_taken && ready == end && !self.aborted,
            abort: self.aborted,
            waiting: !self.aborted && (opening || fill == Fill::Waiting),
            more: !self.aborted && ready < end,
        }
    }
}
