//! The two clocks of a worker, read once per turn of its loop.
//!
//! [`monotonic`] is the only place of the daemon that reads the protocol clock; everything below gets the
//! [`Instant`] as an argument. [`WallClock`] serves HTTP alone (`Date`, age of a file): protocol time never
//! depends on it, so an operator who sets the clock breaks no connection. Its text form is written once a
//! second, not once a response.

use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};
use sluice_tcp::clock::Instant;

/// Days of the Unix epoch in a 400-year cycle of the Gregorian calendar.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 (where eras begin) to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
const SECONDS_PER_DAY: i64 = 86_400;
/// Seconds at 9999-12-31T23:59:59Z: IMF-fixdate has four digits for the year.
const LAST_SECOND: i64 = 253_402_300_799;

const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Now on CLOCK_MONOTONIC (clock_gettime(2)): the same clock in every thread of the machine, so instants may
/// cross between the control side and its workers.
#[must_use]
pub fn monotonic() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Instant::ZERO.saturating_add(Duration::new(seconds, nanos))
}

/// Seconds since 1970-01-01T00:00:00Z on CLOCK_REALTIME; negative before.
#[must_use]
pub fn unix_seconds() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// The wall clock of a worker: Unix time and its IMF-fixdate (RFC 9110 5.6.7), formatted when it changes.
#[derive(Debug)]
pub struct WallClock {
    seconds: i64,
    text: String,
}

impl WallClock {
    /// Length of `Sun, 06 Nov 1994 08:49:37 GMT`.
    const TEXT_BYTES: usize = 29;

    /// A clock that shows `seconds` since the Unix epoch.
    #[must_use]
    pub fn new(seconds: i64) -> WallClock {
        let mut clock = WallClock {
            seconds,
            text: String::with_capacity(Self::TEXT_BYTES),
        };
        clock.write();
        clock
    }

    /// Moves the clock, also backwards.
    pub fn set(&mut self, seconds: i64) {
        if seconds != self.seconds {
            self.seconds = seconds;
            self.write();
        }
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// The time as the value of a `Date` field.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.text
    }

    fn write(&mut self) {
        self.text.clear();
        // ASCII alone.
        self.text.extend(imf_fixdate(self.seconds).map(char::from));
    }
}

/// IMF-fixdate of `seconds`, clamped to the years 1970 to 9999.
fn imf_fixdate(seconds: i64) -> [u8; WallClock::TEXT_BYTES] {
    let seconds = seconds.clamp(0, LAST_SECOND);
    let days = seconds / SECONDS_PER_DAY;
    let second_of_day = seconds % SECONDS_PER_DAY;
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(WEEKDAYS[index(days % 7)]);
    put_digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[index(month - 1)]);
    put_digits(&mut text[12..16], year);
    put_digits(&mut text[17..19], second_of_day / 3600);
    put_digits(&mut text[20..22], second_of_day / 60 % 60);
    put_digits(&mut text[23..25], second_of_day % 60);
    text
}

/// Year, month (1..=12) and day (1..=31) of a day since 1970-01-01, `days >= 0`.
///
/// Years are counted from March, so that the leap day is the last of its year and a month's first day is a
/// linear function of the month: (153 m + 2) / 5.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

fn index(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// Writes `value` right-aligned; the places before it are zero already or get zero.
fn put_digits(places: &mut [u8], mut value: i64) {
    for place in places.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_rfc_and_of_calendar_corners_are_right() {
        // Each line checked with `date -u -d @N`.
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(WallClock::new(seconds).date(), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut previous = civil(0);
        for days in 1..DAYS_PER_ERA {
            let (year, month, day) = civil(days);
            let next_day = (previous.0, previous.1, previous.2 + 1);
            let next_month = (previous.0, previous.1 + 1, 1);
            let next_year = (previous.0 + 1, 1, 1);
            assert!(
                [next_day, next_month, next_year].contains(&(year, month, day)),
                "{previous:?} is followed by {:?}",
                (year, month, day)
            );
            previous = (year, month, day);
        }
        assert_eq!(previous, (2369, 12, 31));
    }

    #[test]
    fn a_clock_before_the_epoch_or_beyond_year_9999_still_gives_a_date() {
        assert_eq!(WallClock::new(-1).date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(
            WallClock::new(i64::MAX).date(),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }

    #[test]
    fn the_wall_clock_follows_a_step_backwards() {
        let mut clock = WallClock::new(100);
        clock.set(40);
        assert_eq!(clock.seconds(), 40);
        assert_eq!(clock.date(), "Thu, 01 Jan 1970 00:00:40 GMT");
    }

    #[test]
    fn the_monotonic_clock_does_not_run_backwards() {
        let earlier = monotonic();
        assert!(monotonic() >= earlier);
    }
}
