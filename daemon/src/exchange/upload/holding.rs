//! What uploads owe each other: blocks that are held for a slow client, and the wait of the others for theirs.
//!
//! A block that a window has promised cannot be taken back from its upload. So while another upload was refused a block,
//! who holds more than everybody begins with and does not fill one in [`HOLD`] is ended. Who waits for its first block
//! waits for a time that its client knows of: the one for a request head, then 503.

use super::{FIRST_BLOCKS, Stage, Upload};
use crate::exchange::Exchange;
use crate::services::Services;
use core::time::Duration;
use sluice_http::Status;
use sluice_tcp::clock::Instant;

/// How long an upload may hold blocks, while others wait for one, without receiving [`HOLD_BYTES`]: as for downloads.
pub(super) const HOLD: Duration = Duration::from_secs(8);
/// One block: who sends less in [`HOLD`] keeps its blocks from others all the time.
const HOLD_BYTES: u64 = 65_536;

/// Since when an upload holds much, and what had come of it then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    since: Instant,
    delivered: u64,
}

impl Upload {
    /// Looks at the blocks that it holds after some were taken or filled.
    pub(super) fn note_held(&mut self, now: Instant, services: &Services) {
        if !self.holds_much(services) {
            self.held = None;
        } else if self.held.is_none() {
            self.restart_hold(now);
        }
    }

    /// Whether it holds more than a new upload would get, and its peer is to fill it.
    fn holds_much(&self, services: &Services) -> bool {
        let least = services.upload_allowance().min(FIRST_BLOCKS);
        self.awaits_peer() && self.incoming.blocks() > least
    }

    fn restart_hold(&mut self, now: Instant) {
        self.held = Some(Held {
            since: now,
            delivered: self.incoming.delivered(),
        });
    }

    fn holding_deadline(&self, services: &Services) -> Option<Instant> {
        match self.stage {
            Stage::Inviting => self
                .unserved_since
                .map(|since| since + services.header_timeout),
            Stage::Storing => self.held.map(|held| held.since + HOLD),
            Stage::Beginning | Stage::Publishing | Stage::Failed(_) => None,
        }
    }

    /// What ends it at its deadline, if anything does.
    fn verdict(&mut self, now: Instant, services: &Services) -> Option<Status> {
        if self.stage == Stage::Inviting {
            return Some(Status::ServiceUnavailable);
        }
        let held = self.held?;
        let received = self.incoming.delivered() - held.delivered;
        let is_slow = received < HOLD_BYTES && self.holds_much(services);
        if is_slow && services.refuses_other_uploads(self.is_refused) {
            return Some(Status::RequestTimeout);
        }
        self.restart_hold(now);
        None
    }
}

impl Exchange {
    /// When [`Self::judge_holding`] is due, if ever.
    pub(in crate::exchange) fn holding_deadline(&self, services: &Services) -> Option<Instant> {
        let upload = self.upload.as_ref().filter(|_| !self.aborted)?;
        upload.holding_deadline(services)
    }

    /// Ends the upload if it got no block in time, or keeps blocks from others.
    pub(in crate::exchange) fn judge_holding(&mut self, now: Instant, services: &mut Services) {
        if self
            .holding_deadline(services)
            .is_none_or(|deadline| now < deadline)
        {
            return;
        }
        let upload = self.upload.as_mut();
        match upload.and_then(|upload| upload.verdict(now, services)) {
            Some(Status::RequestTimeout) => self.end_slow_upload(services),
            Some(status) => {
                services.counters.no_workspace += 1;
                self.fail_upload(status);
            }
            None => {}
        }
    }
}
