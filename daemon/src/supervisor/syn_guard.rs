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

/// The state of the gate, as far as the supervisor decides it.
#[derive(Debug)]
pub(super) struct SynGuard {
    /// `None` if the configuration wants no gate.
    rates: Option<SynGate>,
    armed: Option<Armed>,
    armings: u64,
}

#[derive(Debug)]
struct Armed {
    calm_since: Instant,
    dropped: u64,
}

impl SynGuard {
    pub(super) fn new(rates: Option<SynGate>) -> Self {
        SynGuard {
            rates,
            armed: None,
            armings: 0,
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Times the gate was armed.
    pub(super) fn armings(&self) -> u64 {
        self.armings
    }

    /// Decides by what the workers say and by the SYNs that the gate has dropped so far.
    pub(super) fn judge(&mut self, now: Instant, flooded: bool, dropped: u64) -> Option<Change> {
        let rates = self.rates?;
        let Some(armed) = &mut self.armed else {
            if !flooded {
                return None;
            }
            self.armings += 1;
            self.armed = Some(Armed {
                calm_since: now,
                dropped,
            });
            return Some(Change::Arm(rates));
        };
        if flooded || dropped != armed.dropped {
            armed.calm_since = now;
            armed.dropped = dropped;
            return None;
        }
        if now.saturating_since(armed.calm_since) < CALM {
            return None;
        }
        self.armed = None;
        Some(Change::Disarm)
    }

    /// The change could not be made: the gate is as it was, and the next look tries again.
    pub(super) fn failed(&mut self, change: Change, now: Instant, dropped: u64) {
        self.armed = match change {
            Change::Arm(_) => {
                self.armings -= 1;
                None
            }
            Change::Disarm => Some(Armed {
                calm_since: now,
                dropped,
            }),
        };
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
        assert_eq!(guard.judge(at(0), false, 0), None);
        assert_eq!(guard.judge(at(1), true, 0), Some(Change::Arm(RATES)));
        assert_eq!(guard.judge(at(2), true, 5), None);
        assert!(guard.is_armed());
    }

    #[test]
    fn ten_seconds_of_calm_disarm() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, 0).is_some());
        assert_eq!(guard.judge(at(9), false, 0), None);
        assert_eq!(guard.judge(at(10), false, 0), Some(Change::Disarm));
        assert!(!guard.is_armed());
        assert_eq!(guard.armings(), 1);
    }

    #[test]
    fn a_gate_that_still_drops_stays_armed() {
        let mut guard = SynGuard::new(Some(RATES));
        assert!(guard.judge(at(0), true, 0).is_some());
        for second in 1..100 {
            assert_eq!(guard.judge(at(second), false, second), None);
        }
        assert_eq!(guard.judge(at(108), false, 99), None);
        assert_eq!(guard.judge(at(109), false, 99), Some(Change::Disarm));
    }

    #[test]
    fn a_change_that_failed_is_tried_again() {
        let mut guard = SynGuard::new(Some(RATES));
        for _ in 0..2 {
            let change = guard.judge(at(0), true, 0).expect("arm");
            guard.failed(change, at(0), 0);
        }
        assert!(!guard.is_armed() && guard.armings() == 0);
        assert!(guard.judge(at(0), true, 0).is_some());
        let change = guard.judge(at(20), false, 0).expect("disarm");
        guard.failed(change, at(20), 0);
        assert_eq!(guard.judge(at(30), false, 0), Some(Change::Disarm));
    }

    #[test]
    fn without_rates_nothing_is_armed() {
        let mut guard = SynGuard::new(None);
        assert_eq!(guard.judge(at(0), true, 0), None);
        assert!(!guard.is_armed());
    }
}
