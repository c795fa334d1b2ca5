//! RFC 7323 timestamps of one connection: TSval with a private offset, TS.Recent, PAWS.
//!
//! The clock ticks in milliseconds. Each tuple adds its own offset from a keyed hash, so that timestamps of
//! two connections say nothing about each other or about uptime (RFC 7323 section 5.4).

use core::time::Duration;

use sluice_wire::Timestamps;

use crate::clock::Instant;

/// TS.Recent older than this is not compared any more (RFC 7323 section 5.5).
const RECENT_VALID: Duration = Duration::from_secs(24 * 24 * 3600);

/// Timestamp state of a connection that negotiated the option.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimestampState {
    offset: u32,
    ts_recent: u32,
    ts_recent_at: Instant,
}

impl TimestampState {
    /// From the timestamp of the peer's SYN.
    pub(crate) fn new(offset: u32, syn_value: u32, now: Instant) -> Self {
        TimestampState {
            offset,
            ts_recent: syn_value,
            ts_recent_at: now,
        }
    }

    /// TSval for a segment sent now.
    pub(crate) fn value(&self, now: Instant) -> u32 {
        // The low 32 bits are the clock: it wraps by definition (RFC 7323 section 5.4).
        #[allow(clippy::cast_possible_truncation)]
        let millis = now.as_millis() as u32;
        millis.wrapping_add(self.offset)
    }

    /// The option for a segment sent now.
    pub(crate) fn option(&self, now: Instant) -> Timestamps {
        Timestamps {
            value: self.value(now),
            echo: self.ts_recent,
        }
    }

    /// PAWS (RFC 7323 section 5.3, R1): whether `value` is older than TS.Recent.
    pub(crate) fn is_old(&self, value: u32, now: Instant) -> bool {
        let older = value.wrapping_sub(self.ts_recent) > i32::MAX as u32;
        older && now.saturating_since(self.ts_recent_at) <= RECENT_VALID
    }

    /// Whether `value` is newer than TS.Recent.
    pub(crate) fn is_newer(&self, value: u32) -> bool {
        (1..=i32::MAX as u32).contains(&value.wrapping_sub(self.ts_recent))
    }

    /// Moves TS.Recent for a segment at or before the last acknowledged byte (RFC 7323 section 4.3). The
    /// caller has checked SEG.SEQ <= Last.ACK.sent and that the segment is acceptable.
    pub(crate) fn update(&mut self, value: u32, now: Instant) {
        if !self.is_old(value, now) {
            self.ts_recent = value;
            self.ts_recent_at = now;
        }
    }

    pub(crate) fn ts_recent(&self) -> u32 {
        self.ts_recent
    }

    /// Round trip by RTTM (RFC 7323 section 4), or `None` for an echo we never sent.
    pub(crate) fn round_trip(&self, echo: u32, now: Instant) -> Option<Duration> {
        let elapsed = self.value(now).wrapping_sub(echo);
        // An echo from the future or from hours ago is a peer's mistake or an attack on our RTO.
        (elapsed < 600_000).then(|| Duration::from_millis(u64::from(elapsed)))
    }

    /// When the segment left that `echo` names, in milliseconds of our clock; `None` as above.
    pub(crate) fn echoed_ms(&self, echo: u32, now: Instant) -> Option<u64> {
        let elapsed = self.round_trip(echo, now)?.as_millis();
        now.as_millis().checked_sub(u64::try_from(elapsed).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn paws_compares_modulo_2_32() {
        let state = TimestampState::new(0, u32::MAX - 1, at(0));
        assert!(!state.is_old(3, at(1)));
        assert!(state.is_old(u32::MAX - 2, at(1)));
    }

    #[test]
    fn a_timestamp_of_24_days_ago_is_not_compared() {
        let state = TimestampState::new(0, 1000, at(0));
        assert!(state.is_old(999, at(1)));
        assert!(!state.is_old(999, at(0) + RECENT_VALID + Duration::from_millis(1)));
    }

    #[test]
    fn round_trip_ignores_an_echo_from_the_future() {
        let state = TimestampState::new(500, 0, at(0));
        assert_eq!(
            state.round_trip(500 + 90, at(100)),
            Some(Duration::from_millis(10))
        );
        assert_eq!(state.round_trip(500 + 101, at(100)), None);
    }
}
