//! When the SYN gate of the XDP program is armed.
//!
//! At once when a worker says that it is flooded; not before ten seconds of calm is it disarmed. Calm means that no
//! worker is flooded and that the gate dropped nothing: a gate that works keeps the workers quiet, and disarming it
//! for that reason would let the flood in again every few seconds. Pure: time and facts are arguments.

use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_xdp_prog::SynGate;

/// Calm before the gate is disarmed.
const CALM: Duration = Duration::from_secs(10);

/// What is to be done with the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Arm(SynGate),
    Disarm,
}

/// After a change that could not be made the next try waits this long, so that a map that refuses is no line of the log
/// per second.
const RETRY: Duration = Duration::from_secs(10);

/// The state of the gate, as far as the supervisor decides it.
#[derive(Debug)]
pub(super) struct SynGuard {
    /// `None` if the configuration wants no gate.
    rates: Option<SynGate>,
    armed: Option<Armed>,
    armings: u64,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Armed {
    calm_since: Instant,
    /// SYNs that the gate had dropped at the last look that could read it.
    dropped: Option<u64>,
}

impl SynGuard {
    pub(super) fn new(rates: Option<SynGate>) -> Self {
        SynGuard {
            rates,
            armed: None,
            armings: 0,
            retry_at: None,
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Times the gate was armed.
    pub(super) fn armings(&self) -> u64 {
        self.armings
    }

    /// Decides by what the workers say and by the SYNs that the gate has dropped so far; `None` if nobody could tell,
    /// which is neither calm nor its end.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        flooded: bool,
        dropped: Option<u64>,
    ) -> Option<Change> {
        let rates = self.rates?;
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let Some(armed) = &mut self.armed else {
            if !flooded {
                // Another flood may fail for another reason.
                self.retry_at = None;
                return None;
            }
            self.armings += 1;
            self.armed = Some(Armed {
                calm_since: now,
                dropped,
            });
            return Some(Change::Arm(rates));
        };
        let is_dropping = dropped.is_some() && dropped != armed.dropped;
        armed.dropped = dropped.or(armed.dropped);
        if flooded || is_dropping {
            armed.calm_since = now;
            return None;
        }
        if now.saturating_since(armed.calm_since) < CALM || dropped.is_none() {
            return None;
        }
        self.armed = None;
        Some(Change::Disarm)
    }

    /// The change was made.
    pub(super) fn done(&mut self) {
        self.retry_at = None;
    }

    /// The change could not be made: the gate is as it was, and is tried again after a while. True if that is news.
    pub(super) fn failed(&mut self, change: Change, now: Instant, dropped: Option<u64>) -> bool {
        self.armed = match change {
            Change::Arm(_) => {
                self.armings -= 1;
                None
            }
            // Calm it was, and is still if nothing is dropped until the next try.
            Change::Disarm => Some(Armed {
                calm_since: now,
                dropped,
            }),
        };
        self.retry_at.replace(now + RETRY).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: SynGate = SynGate {
        per_queue: 1000,
        per_source: 10,
        repeats: 100,
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_flood_arms_at_once_and_once() {
        let mut guard = SynGuard::new(Some(RATES));
        assert_eq!(guard.judge(at(0), false, Some(0)), None);
        assert_eq!(guard.judge(at(1), true, Some(0)), Some(Change::Arm(RATES)));
        assert_eq!(guard.judge(at(2), true, Some(5)), None);
        assert!(guard.is_armed());
    }

    #[test]
    fn ten_seconds_of_calm_disarm() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, Some(0)).is_some());
        assert_eq!(guard.judge(at(9), false, Some(0)), None);
        assert_eq!(guard.judge(at(10), false, Some(0)), Some(Change::Disarm));
        assert!(!guard.is_armed());
        assert_eq!(guard.armings(), 1);
    }

    #[test]
    fn what_an_earlier_flood_lost_does_not_put_off_the_end_of_this_one() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, Some(4711)).is_some());
        assert_eq!(guard.judge(at(1), false, Some(4711)), None);
        let end = guard.judge(at(10), false, Some(4711));
        assert_eq!(end, Some(Change::Disarm));
    }

    #[test]
    fn a_gate_that_still_drops_stays_armed() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, Some(0)).is_some());
        for second in 1..100 {
            assert_eq!(guard.judge(at(second), false, Some(second)), None);
        }
        assert_eq!(guard.judge(at(108), false, Some(99)), None);
        assert_eq!(guard.judge(at(109), false, Some(99)), Some(Change::Disarm));
    }

    #[test]
    fn a_look_that_read_nothing_neither_puts_the_end_off_nor_is_it() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, Some(7)).is_some());
        assert_eq!(guard.judge(at(5), false, None), None);
        assert_eq!(guard.judge(at(10), false, None), None, "it may drop");
        assert_eq!(guard.judge(at(11), false, Some(7)), Some(Change::Disarm));
    }

    #[test]
    fn what_was_dropped_while_nobody_could_read_it_is_seen_afterwards() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, Some(7)).is_some());
        assert_eq!(guard.judge(at(9), false, None), None);
        assert_eq!(guard.judge(at(10), false, Some(8)), None);
        assert_eq!(guard.judge(at(20), false, Some(8)), Some(Change::Disarm));
    }

    #[test]
    fn a_change_that_failed_is_tried_again_after_ten_seconds() {
        let mut guard = SynGuard::new(Some(RATES));
        for second in [0, 10, 20] {
            let change = guard.judge(at(second), true, Some(0)).expect("arm");
            guard.failed(change, at(second), Some(0));
            assert_eq!(guard.judge(at(second + 9), true, Some(0)), None);
        }
        assert!(!guard.is_armed() && guard.armings() == 0);
        assert!(guard.judge(at(30), true, Some(0)).is_some());
        guard.done();
        let change = guard.judge(at(50), false, Some(0)).expect("disarm");
        guard.failed(change, at(50), Some(0));
        assert!(guard.is_armed());
        assert_eq!(guard.judge(at(60), false, Some(0)), Some(Change::Disarm));
    }

    #[test]
    fn a_failure_is_news_once() {
        let mut guard = SynGuard::new(Some(RATES));
        let arm = Change::Arm(RATES);
        assert!(guard.judge(at(0), true, Some(0)).is_some());
        assert!(guard.failed(arm, at(0), Some(0)));
        assert!(guard.judge(at(10), true, Some(0)).is_some());
        assert!(!guard.failed(arm, at(10), Some(0)));
        assert!(guard.judge(at(20), true, Some(0)).is_some());
        guard.done();
        assert!(guard.failed(Change::Disarm, at(40), Some(0)), "another one");
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, Some(0)).is_some());
        assert!(guard.failed(arm, at(0), Some(0)));
        assert_eq!(guard.judge(at(10), false, Some(0)), None);
        assert!(guard.judge(at(11), true, Some(0)).is_some());
        assert!(guard.failed(arm, at(11), Some(0)), "of another flood");
    }

    #[test]
    fn without_rates_nothing_is_armed() {
        let mut guard = SynGuard::new(None);
        assert_eq!(guard.judge(at(0), true, Some(0)), None);
        assert!(!guard.is_armed());
    }
}
