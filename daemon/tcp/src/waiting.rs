//! Data waits for the peer's window: when it is probed, and for how long that may go on (RFC 9293 section 3.8.6.1).
//!
//! A peer that answers every probe and takes nothing holds the memory of whoever serves it (RFC 6429), so it has
//! [`NO_PROGRESS`] for each position of SND.UNA, however often its window opens meanwhile. Time in which nothing waits
//! is not held against it.

use core::time::Duration;

use crate::clock::Instant;
use crate::config::NO_PROGRESS;
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::events::CloseReason;

/// What is remembered of waits that ended without progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited {
    /// SND.UNA at the last wait.
    snd_una: u64,
    /// How long it was waited for the window there.
    lasted: Duration,
}

impl Waited {
    /// How long it was waited at `snd_una` already.
    fn begin(&mut self, snd_una: u64) -> Duration {
        if self.snd_una != snd_una {
            *self = Waited {
                snd_una,
                lasted: Duration::ZERO,
            };
        }
        self.lasted
    }

    /// Whether there is something to remember at `snd_una`.
    pub(crate) fn counts_at(&self, snd_una: u64) -> bool {
        self.snd_una == snd_una && !self.lasted.is_zero()
    }
}

impl Connection {
    /// Data begins to wait for the window: a probe is due, and what was silent before is not held against the peer
    /// (RFC 6429); what it waited for the same byte before is.
    pub(crate) fn begin_to_wait(&mut self, now: Instant) {
        let waited = self.waited.begin(self.send.snd_una);
        self.progress_at = now.saturating_sub(waited);
        let next = (now + self.rtt.rto()).min(self.progress_at + NO_PROGRESS);
        self.deadlines.set(Timer::Retransmit, next);
    }

    /// Nothing is in flight and nothing waits: the timer of retransmissions and probes is off (RFC 6298 section 5.2).
    pub(crate) fn end_wait(&mut self, now: Instant) {
        if self.deadlines.is_set(Timer::Retransmit) && self.waited.snd_una == self.send.snd_una {
            self.waited.lasted = now.saturating_since(self.progress_at);
        }
        self.deadlines.clear(Timer::Retransmit);
    }

    /// The peer's window is closed (RFC 9293 section 3.8.6.1): probe, ever more rarely, and give up on a peer
    /// that answers but never reads (RFC 6429).
    pub(crate) fn on_persist_timer(&mut self, env: &mut Env<'_>) {
        let give_up_at = self.progress_at + NO_PROGRESS;
        if env.now >= give_up_at {
            self.end(CloseReason::NoProgress, true);
            return;
        }
        self.probe_wanted = true;
        // The driver has to fetch what the probe carries.
        self.events.acknowledged = true;
        self.rtt.back_off();
        let next = (env.now + self.rtt.rto()).min(give_up_at);
        self.deadlines.set(Timer::Retransmit, next);
    }
}
