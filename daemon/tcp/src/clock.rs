//! The time of the protocol: nanoseconds on a monotonic clock that the driver chooses.
//!
//! Nothing in this crate reads a clock. A driver (worker, simulator, fuzzer) stamps an [`Instant`] once,
//! at the ring, and passes it down as an argument, so an hour of protocol time can run in a second.
//! Arithmetic saturates at both ends: an instant computed from a peer's numbers can be useless, but it
//! cannot panic and cannot wrap into the past.

use core::ops::Add;
use core::time::Duration;

/// A point in time: nanoseconds since an epoch that only the driver knows.
///
/// Instants of different drivers must not be mixed. The range is 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The epoch of the driver's clock.
    pub const ZERO: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// `self + duration`, or `None` beyond the end of the clock.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Instant> {
        let nanos = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Instant)
    }

    /// `self + duration`, stopping at the end of the clock.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Instant {
        self.checked_add(duration).unwrap_or(Instant(u64::MAX))
    }

    /// `self - duration`, stopping at [`Instant::ZERO`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(nanos))
    }

    /// Time passed since `earlier`; zero if `earlier` is in fact later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturating: see [`Instant::saturating_add`].
    fn add(self, duration: Duration) -> Instant {
        self.saturating_add(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_stops_at_the_end_of_the_clock() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(
            late + Duration::from_nanos(1),
            Instant::from_nanos(u64::MAX)
        );
        assert_eq!(
            late + Duration::from_nanos(2),
            Instant::from_nanos(u64::MAX)
        );
        assert_eq!(late + Duration::MAX, Instant::from_nanos(u64::MAX));
        assert_eq!(late.checked_add(Duration::from_nanos(2)), None);
        assert_eq!(late.checked_add(Duration::MAX), None);
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let early = Instant::from_nanos(5);
        let late = Instant::from_nanos(12);
        assert_eq!(late.saturating_since(early), Duration::from_nanos(7));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn coarser_units_round_down() {
        let instant = Instant::from_nanos(2_999_999);
        assert_eq!(instant.as_millis(), 2);
        assert_eq!(instant.as_micros(), 2_999);
    }
}
