//! How many answers one connection gives to segments it does not accept (RFC 5961 section 7).
//!
//! The budget belongs to the connection alone. A limit shared between connections is a side channel: an
//! attacker counts the answers on his own connection and learns about another's (CVE-2016-5696).
//! The first answer is always given, then one per 500 ms (jittered) and ten per 5 s. Keep-alives, which wait for an
//! answer, have ten per 5 s of their own: two connections whose numbers are one apart would take each acknowledgement
//! of the other for one and answer it as fast as the path carries them.

use core::time::Duration;

use crate::clock::Instant;

const SPACING_MIN: Duration = Duration::from_millis(450);
const SPACING_JITTER_NS: u64 = 100_000_000;
const PERIOD: Duration = Duration::from_secs(5);
const PER_PERIOD: u8 = 10;

/// Budget of answers of one kind on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChallengeBudget {
    next_at: Instant,
    period_end: Instant,
    used: u8,
}

impl ChallengeBudget {
    /// Nothing of it is used: it is as it was made.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        now >= self.period_end && now >= self.next_at
    }

    /// Takes one answer from the budget if there is one. `noise` jitters the spacing so that its phase
    /// cannot be probed; any value that differs between connections will do.
    pub(crate) fn take(&mut self, now: Instant, noise: u32) -> bool {
        let taken = now >= self.next_at && self.take_unspaced(now);
        if taken {
            let jitter = Duration::from_nanos(u64::from(noise) % SPACING_JITTER_NS);
            self.next_at = now + SPACING_MIN + jitter;
        }
        taken
    }

    /// The same without the spacing, for what is an honest question as long as it is not asked too often.
    pub(crate) fn take_unspaced(&mut self, now: Instant) -> bool {
        if now >= self.period_end {
            self.period_end = now + PERIOD;
            self.used = 0;
        }
        let taken = self.used < PER_PERIOD;
        self.used += u8::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn first_challenge_is_always_sent() {
        assert!(ChallengeBudget::default().take(Instant::ZERO, 7));
    }

    #[test]
    fn second_challenge_waits_about_half_a_second() {
        let mut budget = ChallengeBudget::default();
        assert!(budget.take(at(1000), 0));
        assert!(!budget.take(at(1400), 0));
        assert!(budget.take(at(1550), 0));
    }

    #[test]
    fn ten_challenges_in_five_seconds_at_most() {
        let mut budget = ChallengeBudget::default();
        let sent = (0..5000).filter(|ms| budget.take(at(*ms), 0)).count();
        assert_eq!(sent, 10);
    }

    #[test]
    fn without_spacing_the_ten_may_come_at_once() {
        let mut budget = ChallengeBudget::default();
        let sent = (0..5000).filter(|ms| budget.take_unspaced(at(*ms)));
        assert_eq!(sent.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(budget.take_unspaced(at(5000)));
    }
}
