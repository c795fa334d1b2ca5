//! How long an [`Exchange`] waits for its peer, and for what.
//!
//! A phase begins with what the connection waits for. Its limit is a time for something that is whole (a head, silence
//! between requests) or a least rate over some time for something that flows (a response, the body of an upload). While the
//! peer waits for us its clock stands still.

use super::request::take_error;
use super::{Exchange, new_queue};
use crate::services::{RATE_TIME, Services};
use core::time::Duration;
use sluice_http::Status;
use sluice_tcp::clock::Instant;

/// After the last response what the peer sends is read away until nothing has come for this long. A reset at once could
/// destroy the end of the response, or an error that it explains, before its client has read it (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(5);

/// But not for longer than this, however much of a body still comes (nginx has the same two limits).
pub const LINGER_MOST: Duration = Duration::from_secs(30);

/// What a connection is waiting for, as far as time limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a request head.
    Head,
    /// The body of an upload.
    Receiving,
    /// Us, or acknowledgements.
    Responding,
}

impl Exchange {
    /// When [`Self::on_deadline`] is due; `None` while the peer waits for us, or there is nothing to wait for. Only the
    /// wait of an upload for its first block has an end too.
    ///
    /// Moves only in [`Self::advance`] and [`Self::acknowledged`]. A peer cannot put the header deadline off by
    /// sending single bytes.
    #[must_use]
    pub fn deadline(&self, services: &Services) -> Option<Instant> {
        let deadlines = [
            self.phase_deadline(services),
            self.holding_deadline(services),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn phase_deadline(&self, services: &Services) -> Option<Instant> {
        match self.phase {
            _ if self.aborted => None,
            Phase::Responding | Phase::Receiving if self.waiting_since.is_some() => None,
            Phase::Responding => services.min_rate.map(|_| self.since + RATE_TIME),
            _ if self.last_taken => {
                let deadline = (self.heard_at + LINGER).min(self.since + LINGER_MOST);
                self.is_lingering().then_some(deadline)
            }
            Phase::Receiving => Some(self.since + services.body_time()),
            Phase::Idle => Some(self.since + services.idle_timeout),
            Phase::Head => Some(self.since + services.header_timeout),
        }
    }

    /// Ends the connection if its deadline has passed: with 408 in a request head or an upload, with 503 before the body
    /// of one, in silence between requests, by a reset if its peer takes a response too slowly. [`Self::advance`] afterwards says what to send.
    pub fn on_deadline(&mut self, now: Instant, services: &mut Services) {
        self.judge_holding(now, services);
        if self
            .phase_deadline(services)
            .is_none_or(|deadline| now < deadline)
        {
            return;
        }
        match self.phase {
            Phase::Responding => self.judge_rate(now, services),
            Phase::Receiving => self.judge_body(now, services),
            Phase::Head => self.end_head(services),
            Phase::Idle if self.last_taken => self.lingered = true,
            Phase::Idle => {
                services.counters.idle_timeouts += 1;
                self.since = now;
                self.heard_at = now;
                self.take_no_more();
            }
        }
    }

    /// The response stream is over, and the peer had its time to read the end of it and to close: what it sends now may
    /// be answered by a reset (RFC 1122 section 4.2.2.13).
    #[must_use]
    pub fn has_lingered(&self) -> bool {
        self.lingered
    }

    /// Nothing more is answered, and the peer has time to read.
    fn is_lingering(&self) -> bool {
        self.last_taken && self.phase == Phase::Idle && !self.lingered
    }

    /// A peer that still sends has not read the end yet.
    pub(super) fn linger_on(&mut self, now: Instant) {
        if self.is_lingering() && self.request_offset > self.had {
            self.had = self.request_offset;
            self.heard_at = now;
        }
    }

    /// A new phase begins at `now`, if what it waits for is another now.
    pub(super) fn follow_phase(&mut self, now: Instant) {
        let is_receiving = self
            .upload
            .as_ref()
            .is_some_and(|upload| upload.awaits_peer());
        let phase = if self.queue.is_some() || self.ticket.is_some() {
            Phase::Responding
        } else if is_receiving {
            Phase::Receiving
        } else if self.upload.is_some() {
            Phase::Responding
        } else if self.input.is_some() {
            Phase::Head
        } else {
            Phase::Idle
        };
        if phase != self.phase {
            self.phase = phase;
            self.since = now;
            self.heard_at = now;
            self.had = match phase {
                Phase::Receiving => self.body_received(),
                Phase::Idle => self.request_offset,
                Phase::Head | Phase::Responding => self.released(),
            };
            self.waiting_since = None;
        }
    }

    /// While the peer waits for us, its clock stands still.
    pub(super) fn stop_clock(&mut self, waiting: bool, now: Instant) {
        match self.waiting_since {
            None if waiting && matches!(self.phase, Phase::Responding | Phase::Receiving) => {
                self.waiting_since = Some(now);
            }
            Some(at) if !waiting => {
                self.waiting_since = None;
                self.since = self.since + now.saturating_since(at);
            }
            _ => {}
        }
    }

    /// A request head did not come in time, or waited so long for memory: 408, for which there may be none either.
    fn end_head(&mut self, services: &mut Services) {
        services.counters.head_timeouts += 1;
        if self.queue.is_none() {
            self.queue = new_queue(self.response_offset, services);
        }
        match &mut self.queue {
            Some(queue) => {
                take_error(Status::RequestTimeout, queue, services);
            }
            None => {
                services.counters.no_workspace += 1;
                self.aborted = true;
            }
        }
        self.take_no_more();
    }

    /// What the peer took since the last look, against the minimum.
    fn judge_rate(&mut self, now: Instant, services: &mut Services) {
        let least = services
            .min_rate
            .unwrap_or(0)
            .saturating_mul(RATE_TIME.as_secs());
        let has = self.released();
        if has - self.had < least {
            services.counters.too_slow += 1;
            self.aborted = true;
            return;
        }
        self.since = now;
        self.had = has;
    }

    /// What the peer sent of a body since the last look, against the minimum; without one, whether it sent anything.
    fn judge_body(&mut self, now: Instant, services: &mut Services) {
        let sent = self.body_received();
        if sent - self.had < services.body_least() {
            self.end_slow_upload(services);
            return;
        }
        self.since = now;
        self.had = sent;
    }
}
