//! When requests are due.

use std::time::{Duration, Instant};

/// A fixed schedule: the n-th request is due `n / rate` after the start, whatever happened to the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    start: Instant,
    end: Instant,
    rate: f64,
    issued: u64,
}

impl Schedule {
    /// Of `rate` requests per second, until `end`.
    pub fn new(start: Instant, end: Instant, rate: f64) -> Schedule {
        Schedule {
            start,
            end,
            rate,
            issued: 0,
        }
    }

    /// When the next request is due; none after the end.
    pub fn next(&self) -> Option<Instant> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "requests of minutes are below 2^52"
        )]
        let at = self.start + Duration::from_secs_f64(self.issued as f64 / self.rate);
        (at < self.end).then_some(at)
    }

    /// The next request, if it is due.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next().filter(|at| *at <= now)?;
        self.issued += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_however_late_they_are_taken() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, start + Duration::from_secs(1), 4.0);
        assert_eq!(schedule.take(start), Some(start));
        assert_eq!(schedule.take(start + Duration::from_millis(249)), None);
        let late = start + Duration::from_secs(10);
        let due: Vec<_> = std::iter::from_fn(|| schedule.take(late)).collect();
        let expected = [250, 500, 750].map(|ms| start + Duration::from_millis(ms));
        assert_eq!(due, expected);
        assert_eq!(schedule.next(), None);
    }
}
