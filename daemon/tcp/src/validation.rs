//! Whether the congestion window is in use (RFC 7661, which replaces RFC 2861): a window that was not needed
//! is no evidence that a larger one would be safe.
//!
//! The window limits the flow if it refused a segment within the last round trip, or if what was in flight
//! came within two segments of it. In slow start half of the window is enough (pipeACK >= cwnd / 2, section
//! 4.3): a paced sender has only that much out when the acknowledgements that double it arrive. After five
//! minutes with less than half in use the window is out of date.

use core::time::Duration;

use crate::clock::Instant;

/// NVP: how long a window may be kept without being used (RFC 7661 section 4.4.3).
const NON_VALIDATED_PERIOD: Duration = Duration::from_secs(300);

/// Use of the congestion window of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Validation {
    /// SND.NXT when the window refused a segment last.
    refused_at: Option<u64>,
    /// A round ends when this offset is acknowledged.
    round_end: u64,
    /// Most bytes in flight, in this round and in the one before.
    highest: u32,
    highest_before: u32,
    validated_at: Instant,
}

impl Validation {
    pub(crate) fn new(now: Instant) -> Self {
        Validation {
            refused_at: None,
            round_end: 0,
            highest: 0,
            highest_before: 0,
            validated_at: now,
        }
    }

    /// Nothing was ever sent, and the period began at `at`.
    pub(crate) fn is_new(&self, at: Instant) -> bool {
        *self == Validation::new(at)
    }

    /// The window had no room for a segment that was there.
    pub(crate) fn on_refused(&mut self, snd_nxt: u64) {
        self.refused_at = Some(snd_nxt);
    }

    /// A segment left, and so much is in flight with it.
    pub(crate) fn on_sent(&mut self, in_flight: u32) {
        self.highest = self.highest.max(in_flight);
    }

    /// Whether `cwnd` limited the flow when what is acknowledged now was sent. `una_before` and `in_flight`
    /// are from before the ACK.
    pub(crate) fn is_limited(&self, una_before: u64, in_flight: u32, window: &WindowUse) -> bool {
        in_flight.saturating_add(2 * window.smss) >= window.cwnd
            || self.refused_at.is_some_and(|at| una_before < at)
            || (window.slow_start && self.is_half_used(window.cwnd))
    }

    /// Whether `cwnd` is what limits the flow now.
    pub(crate) fn is_in_use(&self, snd_una: u64, window: &WindowUse) -> bool {
        self.is_limited(snd_una, self.highest.max(self.highest_before), window)
    }

    /// After an ACK. True if the window has not been used for too long; that period begins anew then.
    pub(crate) fn on_ack(&mut self, now: Instant, snd_una: u64, snd_nxt: u64, cwnd: u32) -> bool {
        if self.is_half_used(cwnd) {
            self.validated_at = now;
        }
        if snd_una >= self.round_end {
            self.round_end = snd_nxt;
            self.highest_before = core::mem::take(&mut self.highest);
        }
        let expired = now.saturating_since(self.validated_at) > NON_VALIDATED_PERIOD;
        if expired {
            self.validated_at = now;
        }
        expired
    }

    /// The window was reset after an idle period.
    pub(crate) fn on_restart(&mut self, now: Instant) {
        *self = Validation::new(now);
    }

    fn is_half_used(&self, cwnd: u32) -> bool {
        self.highest.max(self.highest_before) >= cwnd / 2
    }
}

/// The window, as far as its use goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowUse {
    pub cwnd: u32,
    pub smss: u32,
    pub slow_start: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: WindowUse = WindowUse {
        cwnd: 100_000,
        smss: 1_000,
        slow_start: false,
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_full_window_limits() {
        let validation = Validation::new(at(0));
        assert!(validation.is_limited(0, 98_000, &WINDOW));
        assert!(!validation.is_limited(0, 97_999, &WINDOW));
    }

    #[test]
    fn a_refused_segment_counts_for_the_round_trip_that_follows() {
        let mut validation = Validation::new(at(0));
        validation.on_refused(50_000);
        assert!(validation.is_limited(49_999, 10_000, &WINDOW));
        assert!(!validation.is_limited(50_000, 10_000, &WINDOW));
    }

    /// RFC 7661 section 4.3.
    #[test]
    fn in_slow_start_half_of_the_window_is_enough() {
        let slow_start = WindowUse {
            slow_start: true,
            ..WINDOW
        };
        let mut validation = Validation::new(at(0));
        validation.on_sent(49_999);
        assert!(!validation.is_limited(0, 10_000, &slow_start));
        validation.on_sent(50_000);
        assert!(validation.is_limited(0, 10_000, &slow_start));
        assert!(!validation.is_limited(0, 10_000, &WINDOW));
        // Two rounds later it is forgotten.
        validation.on_ack(at(1), 1_000, 2_000, 100_000);
        assert!(validation.is_limited(1_000, 0, &slow_start));
        validation.on_ack(at(2), 2_000, 3_000, 100_000);
        assert!(!validation.is_limited(2_000, 0, &slow_start));
    }

    /// RFC 7661 section 4.4.3.
    #[test]
    fn a_window_unused_for_five_minutes_is_out_of_date() {
        let mut validation = Validation::new(at(0));
        validation.on_sent(60_000);
        assert!(!validation.on_ack(at(200), 1_000, 2_000, 100_000));
        validation.on_sent(10_000);
        assert!(!validation.on_ack(at(300), 2_000, 3_000, 100_000));
        assert!(!validation.on_ack(at(599), 3_000, 4_000, 100_000));
        assert!(validation.on_ack(at(601), 4_000, 5_000, 100_000));
        assert!(!validation.on_ack(at(602), 5_000, 6_000, 100_000), "once");
    }
}
