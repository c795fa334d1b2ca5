//! Data waits for the peer's window: when it is probed, and for how long that may go on (RFC 9293 section 3.8.6.1).
//!
//! A peer that answers every probe and takes nothing holds the memory of whoever serves it (RFC 6429), so it has
//! [`NO_PROGRESS`] for each position of SND.UNA, however often its window opens meanwhile. Time in which nothing waits
//! is not held against it. Of a peer that answers no probe any more it is not known that it lives: it has no longer
//! than the user timeout.

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
    /// For how many nanoseconds it was waited for the window there.
    lasted_ns: u64,
}

impl Waited {
    /// How long it was waited at `snd_una` already.
    fn begin(&mut self, snd_una: u64) -> Duration {
        if self.snd_una != snd_una {
            *self = Waited {
                snd_una,
                lasted_ns: 0,
            };
        }
        Duration::from_nanos(self.lasted_ns)
    }

    /// Whether there is something to remember at `snd_una`.
    pub(crate) fn counts_at(&self, snd_una: u64) -> bool {
        self.snd_una == snd_una && self.lasted_ns > 0
    }
}

impl Connection {
    /// Data begins to wait for the window: a probe is due, and what was silent before is not held against the peer
    /// (RFC 6429); what it waited for the same byte before is.
    pub(crate) fn begin_to_wait(&mut self, now: Instant) {
        let waited = self.waited.begin(self.send.snd_una);
        self.progress_at = now.saturating_sub(waited);
        let next = now + self.rtt.rto();
        self.deadlines
            .set(Timer::Retransmit, next.min(self.wait_ends_at()));
    }

    /// Nothing is in flight and nothing waits: the timer of retransmissions and probes is off (RFC 6298 section 5.2).
    pub(crate) fn end_wait(&mut self, now: Instant) {
        if self.deadlines.is_set(Timer::Retransmit) && self.waited.snd_una == self.send.snd_una {
            let lasted = now.saturating_since(self.progress_at);
            self.waited.lasted_ns = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
        }
        self.deadlines.clear(Timer::Retransmit);
    }

    /// The peer's window is closed (RFC 9293 section 3.8.6.1): probe, ever more rarely, and give up on a peer
    /// that answers but never reads (RFC 6429), or no longer answers.
    pub(crate) fn on_persist_timer(&mut self, env: &mut Env<'_>) {
        if let Some(reason) = self.gives_up_waiting(env.now) {
            self.end(reason, true);
            return;
        }
        self.probe_wanted = true;
        // The driver has to fetch what the probe carries.
        self.events.acknowledged = true;
        self.rtt.back_off();
        let next = env.now + self.rtt.rto();
        self.deadlines
            .set(Timer::Retransmit, next.min(self.wait_ends_at()));
    }

    /// A probe left. From the first that is not answered on the user timeout counts: how long the driver took to fetch
    /// what it carries is not held against the peer.
    pub(crate) fn on_probe_left(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
        let next = self.deadlines.at(Timer::Retransmit);
        self.deadlines
            .set(Timer::Retransmit, next.min(self.wait_ends_at()));
    }

    /// Something of the peer was heard: the next probe has its own time again.
    pub(crate) fn on_probe_answered(&mut self) {
        let is_shortened = self.unanswered_since.take().is_some()
            && self.user_timeout_ms > 0
            && self.send.window() == 0
            && self.deadlines.is_set(Timer::Retransmit);
        if is_shortened {
            let next = self.send.last_sent_at + self.rtt.rto();
            self.deadlines
                .set(Timer::Retransmit, next.min(self.wait_ends_at()));
        }
    }

    /// Why a peer whose window is closed has had its time, if it has.
    ///
    /// R2 as a number of repetitions (RFC 9293 section 3.8.3) is no limit of its own here: it takes longer than
    /// [`NO_PROGRESS`].
    pub(crate) fn gives_up_waiting(&self, now: Instant) -> Option<CloseReason> {
        if now >= self.progress_at + NO_PROGRESS {
            return Some(CloseReason::NoProgress);
        }
        self.silence_ends_at()
            .is_some_and(|end| now >= end)
            .then_some(CloseReason::UserTimeout)
    }

    /// When the user timeout ends for a peer that answers no probe: it is kept while it answers, and need not be
    /// otherwise (RFC 9293 section 3.8.6.1, MUST-37).
    fn silence_ends_at(&self) -> Option<Instant> {
        Some(self.unanswered_since? + self.user_timeout()?)
    }

    /// The user timeout (RFC 9293 section 3.9.1.8), if there is one.
    pub(crate) fn user_timeout(&self) -> Option<Duration> {
        let limit = Duration::from_millis(self.user_timeout_ms.into());
        (!limit.is_zero()).then_some(limit)
    }

    /// When the first of both limits ends.
    pub(crate) fn wait_ends_at(&self) -> Instant {
        let end = self.progress_at + NO_PROGRESS;
        self.silence_ends_at()
            .map_or(end, |silence| silence.min(end))
    }
}
