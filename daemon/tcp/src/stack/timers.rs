//! Timers of connections and handshakes: when the stack has something to do, and what it does then.
//!
//! A connection has one entry in the wheel, no later than the earliest of its deadlines. It never moves to a later time:
//! that a deadline was put off is noticed when the entry expires, which costs less than to move it with every segment.

use super::Stack;
use crate::clock::Instant;
use crate::deadlines::Timer;

/// Timers served per call of [`Stack::on_timers`]; the rest is due at once again.
const TIMERS_PER_TURN: u32 = 1024;

impl Stack {
    /// Serves due timers: bounded work, the rest is due at once again.
    pub fn on_timers(&mut self, now: Instant) {
        self.now = now;
        self.time_wait.expire(now);
        let mut env = self.common.env(now);
        self.listener.on_timers(TIMERS_PER_TURN, &mut env);
        for _ in 0..TIMERS_PER_TURN {
            let Some(slot) = self.wheel.pop_expired(now) else {
                return;
            };
            let Some((connection, mut env)) = self.common.with(&mut self.slots, slot, now) else {
                continue;
            };
            connection.scheduled_at = None;
            let may_rest = connection.deadlines.take_due(Timer::Rest, now);
            connection.on_timers(&mut env);
            if may_rest {
                connection.begin_anew_at_rest(&mut env);
            }
            if !(may_rest && self.lay_to_rest(slot, now)) {
                self.settle(slot);
            }
        }
    }

    /// Earliest moment at which [`on_timers`](Self::on_timers) has something to do; may be early.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let handshakes = self.listener.next_deadline();
        match (self.wheel.next_deadline(), handshakes) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Moves the wheel entry forward only if the earliest deadline is before it.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Some((connection, _)) = self.slots.awake(slot) else {
            return;
        };
        if let Some(at) = connection.deadlines.earliest()
            && connection.events.closed.is_none()
            && connection.scheduled_at.is_none_or(|known| at < known)
        {
            connection.scheduled_at = Some(at);
            self.wheel.schedule(slot, at);
        }
    }

    /// Packs a connection if nothing is under way on it, and says whether it rests now.
    pub(super) fn lay_to_rest(&mut self, slot: u32, now: Instant) -> bool {
        let rests = self.slots.rest(slot, now);
        if rests {
            self.schedule_resting(slot);
        }
        rests
    }

    /// As [`Self::schedule`], for a connection at rest.
    pub(super) fn schedule_resting(&mut self, slot: u32) {
        if let Some(resting) = self.slots.resting(slot) {
            match resting.wakes_at() {
                Some(at) => self.wheel.schedule(slot, at),
                None => {
                    self.wheel.cancel(slot);
                }
            }
        }
    }
}
