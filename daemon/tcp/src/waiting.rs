//! Data waits for the peer's window: when it is probed, and for how long that may go on (RFC 9293 section 3.8.6.1).
//!
//! A peer that answers every probe and takes nothing holds the memory of whoever serves it (RFC 6429), so it has
//! [`NO_PROGRESS`] for each position of SND.UNA, however often its window opens meanwhile. Time in which nothing waits
//! is not held against it. Of a peer that answers no probe any more it is not known that it lives: it has no longer than
//! the user timeout, in which it is asked several times, since a probe or an answer can be lost.

use core::time::Duration;

use crate::clock::Instant;
use crate::config::NO_PROGRESS;
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::events::CloseReason;

/// Probes that leave within the user timeout before a peer that answers none of them is reset.
const UNANSWERED_PROBES: u32 = 4;

/// What is remembered of waits that ended without progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited {
    /// SND.UNA at the last wait.
    snd_una: u64,
    /// For how many nanoseconds it was waited for the window there.
    lasted_ns: u64,
}

impl Waited {
    /// Time in which data waited at `snd_una`, but for a wait that goes on.
    fn at(&self, snd_una: u64) -> Duration {
        let lasted_ns = if self.snd_una == snd_una {
            self.lasted_ns
        } else {
            0
        };
        Duration::from_nanos(lasted_ns)
    }

    /// A wait at `snd_una` is over.
    fn add(&mut self, snd_una: u64, lasted: Duration) {
        let lasted = self.at(snd_una).saturating_add(lasted);
        *self = Waited {
            snd_una,
            lasted_ns: u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX),
        };
    }

    /// Whether there is something to remember at `snd_una`.
    pub(crate) fn counts_at(&self, snd_una: u64) -> bool {
        !self.at(snd_una).is_zero()
    }
}

/// For how long a peer with a closed window has let probes go unanswered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Silence {
    /// It was heard after the last probe, or never probed.
    #[default]
    None,
    /// The first probe that it did not answer left then, or would have if no probe had waited for the driver.
    Since(Instant),
    /// It had lasted so many nanoseconds when the next probe fell due, which has not left: the driver fetches what it
    /// carries.
    Paused(u64),
}

impl Silence {
    /// A probe is due. Until it leaves nothing is held against the peer.
    fn pause(&mut self, now: Instant) {
        if let Silence::Since(start) = *self {
            *self = Silence::Paused(now.as_nanos().saturating_sub(start.as_nanos()));
        }
    }

    /// A probe left.
    fn run(&mut self, now: Instant) {
        *self = match *self {
            Silence::None => Silence::Since(now),
            Silence::Since(start) => Silence::Since(start),
            Silence::Paused(lasted_ns) => {
                Silence::Since(now.saturating_sub(Duration::from_nanos(lasted_ns)))
            }
        };
    }
}

impl Connection {
    /// Data begins to wait for the window: a probe is due, and what was silent before is not held against the peer
    /// (RFC 6429).
    pub(crate) fn begin_to_wait(&mut self, now: Instant) {
        self.progress_at = now;
        let next = now + self.rtt.rto();
        self.deadlines
            .set(Timer::Retransmit, next.min(self.wait_ends_at()));
    }

    /// Nothing is in flight and nothing waits: the timer of retransmissions and probes is off (RFC 6298 section 5.2).
    /// What was waited without progress is kept.
    pub(crate) fn end_wait(&mut self, now: Instant) {
        if self.deadlines.is_set(Timer::Retransmit) {
            let lasted = now.saturating_since(self.progress_at);
            self.waited.add(self.send.snd_una, lasted);
            // What was backed off were the probes.
            self.rtt.reset_back_off();
        }
        self.deadlines.clear(Timer::Retransmit);
    }

    /// The first data is about to leave while nothing is in flight. If it waited for the window, that was not its
    /// round trip: the time of its retransmissions and the user timeout begin now.
    pub(crate) fn begin_flight(&mut self, now: Instant) {
        self.end_wait(now);
        self.progress_at = now;
    }

    /// The peer took its window back. Over what is in flight the first time counts since SND.UNA moved: until then it was
    /// the path that had stopped, if anything had, and opening it for a moment does not begin another wait.
    pub(crate) fn on_window_taken(&mut self, now: Instant) {
        if self.send.in_flight() > 0 && self.window_taken_at < self.progress_at {
            self.window_taken_at = now;
        }
    }

    /// A window that was closed is open. If it still lets nothing useful through, what it takes leaves with the next probe
    /// (RFC 9293 section 3.8.6.2.1), and that does not wait for as long as probes of a closed one had come to.
    pub(crate) fn on_window_opened(&mut self, now: Instant) {
        if self.send.is_stalled_by_window() && self.deadlines.is_set(Timer::Retransmit) {
            let next = self.deadlines.at(Timer::Retransmit);
            self.deadlines
                .set(Timer::Retransmit, next.min(now + self.rtt.rto()));
        }
    }

    /// The peer's window is closed (RFC 9293 section 3.8.6.1): probe, ever more rarely, and give up on a peer
    /// that answers but never reads (RFC 6429), or no longer answers.
    pub(crate) fn on_persist_timer(&mut self, env: &mut Env<'_>) {
        if let Some(reason) = self.gives_up_waiting(env.now) {
            self.end(reason, true);
            return;
        }
        if !self.probe_wanted {
            self.rtt.back_off();
        }
        self.probe_wanted = true;
        self.silence.pause(env.now);
        // The driver has to fetch what the probe carries.
        self.events.acknowledged = true;
        let next = env.now + self.rtt.rto();
        self.deadlines
            .set(Timer::Retransmit, next.min(self.wait_ends_at()));
    }

    /// A probe left, or what is one because the peer took its window back. From the first that is not answered on the
    /// user timeout counts: how long the driver took to fetch what it carries is not held against the peer.
    pub(crate) fn on_probe_left(&mut self, now: Instant) {
        self.silence.run(now);
        let next = now + self.retransmission_interval();
        let next = next.min(self.deadlines.at(Timer::Retransmit));
        self.deadlines
            .set(Timer::Retransmit, next.min(self.wait_ends_at()));
    }

    /// Something of the peer was heard: the next probe has its own time again.
    pub(crate) fn on_probe_answered(&mut self) {
        let silence = core::mem::take(&mut self.silence);
        let is_shortened = matches!(silence, Silence::Since(_))
            && self.user_timeout_ms > 0
            && self.send.window() == 0
            && self.deadlines.is_set(Timer::Retransmit);
        if is_shortened {
            let next = self.send.last_sent_at + self.rtt.rto();
            self.deadlines
                .set(Timer::Retransmit, next.min(self.wait_ends_at()));
        }
    }

    /// How long the answer to what leaves now is waited for: the RTO.
    ///
    /// While a peer with a closed window is silent the user timeout runs, and the RTO of a slow reader may be longer
    /// than that: the loss of one probe or of its answer would be the end. Then the next ones leave within the limit,
    /// four in all, unless the round trip is too long for it.
    pub(crate) fn retransmission_interval(&self) -> Duration {
        let rto = self.rtt.rto();
        match (self.silence, self.user_timeout()) {
            (Silence::Since(_), Some(limit)) if self.send.window() == 0 => {
                rto.min(self.rtt.base_rto().max(limit / UNANSWERED_PROBES))
            }
            _ => rto,
        }
    }

    /// Why a peer whose window is closed has had its time, if it has.
    ///
    /// R2 as a number of repetitions (RFC 9293 section 3.8.3) is no limit of its own here: it takes longer than
    /// [`NO_PROGRESS`].
    pub(crate) fn gives_up_waiting(&self, now: Instant) -> Option<CloseReason> {
        if now >= self.progress_ends_at() {
            return Some(CloseReason::NoProgress);
        }
        self.silence_ends_at()
            .is_some_and(|end| now >= end)
            .then_some(CloseReason::UserTimeout)
    }

    /// When [`NO_PROGRESS`] ends, less what was waited at the same SND.UNA before.
    pub(crate) fn progress_ends_at(&self) -> Instant {
        let waited = self.waited.at(self.send.snd_una);
        self.progress_at.max(self.window_taken_at) + NO_PROGRESS.saturating_sub(waited)
    }

    /// When the user timeout ends for a peer that answers no probe: it is kept while it answers, and need not be
    /// otherwise (RFC 9293 section 3.8.6.1, MUST-37).
    fn silence_ends_at(&self) -> Option<Instant> {
        match self.silence {
            Silence::Since(start) => Some(start + self.user_timeout()?),
            Silence::None | Silence::Paused(_) => None,
        }
    }

    /// The user timeout (RFC 9293 section 3.9.1.8), if there is one.
    pub(crate) fn user_timeout(&self) -> Option<Duration> {
        let limit = Duration::from_millis(self.user_timeout_ms.into());
        (!limit.is_zero()).then_some(limit)
    }

    /// When the first of both limits ends.
    pub(crate) fn wait_ends_at(&self) -> Instant {
        let end = self.progress_ends_at();
        self.silence_ends_at()
            .map_or(end, |silence| silence.min(end))
    }
}
