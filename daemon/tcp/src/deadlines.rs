//! The deadlines of one connection: a closed set, and the earliest of them for the timer wheel.
//!
//! Deadlines move on almost every segment, the wheel entry does not: a connection keeps one entry, at or
//! before its earliest deadline, and when it fires too early it is put back. So an ACK that pushes the
//! retransmission timer forward costs one store.

use crate::clock::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Timer {
    /// Retransmission, or the window probe when the peer's window is closed (RFC 9293 section 3.8.6.1).
    Retransmit,
    /// What may only be late is looked at again (RFC 8985 section 6.2).
    Reorder,
    /// Tail loss probe (RFC 8985 section 7.2).
    TailProbe,
    /// Delayed acknowledgement.
    DelayedAck,
    /// Keep-alive probe.
    KeepAlive,
    /// End of FIN-WAIT-2.
    FinWait2,
    /// The driver's own deadline.
    Driver,
    /// The pacer lets the next segment go.
    Pacing,
    /// If nothing has happened since, the connection can be packed.
    Rest,
}

impl Timer {
    pub(crate) const ALL: [Timer; 9] = [
        Timer::Retransmit,
        Timer::Reorder,
        Timer::TailProbe,
        Timer::DelayedAck,
        Timer::KeepAlive,
        Timer::FinWait2,
        Timer::Driver,
        Timer::Pacing,
        Timer::Rest,
    ];
}

/// One optional deadline per [`Timer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    at: [Instant; Timer::ALL.len()],
}

impl Deadlines {
    /// A deadline that is not set: the end of the clock.
    pub(crate) const NEVER: Instant = Instant::from_nanos(u64::MAX);

    pub(crate) fn new() -> Self {
        Deadlines {
            at: [Self::NEVER; Timer::ALL.len()],
        }
    }

    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize] = at;
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.at[timer as usize] = Self::NEVER;
    }

    /// When it is due; the end of the clock if it is not set.
    pub(crate) fn at(&self, timer: Timer) -> Instant {
        self.at[timer as usize]
    }

    /// Nothing is due but what the driver and the keep-alive wait for.
    pub(crate) fn is_quiet(&self) -> bool {
        let waiting = |timer: &Timer| !matches!(timer, Timer::Driver | Timer::KeepAlive);
        !Timer::ALL
            .iter()
            .filter(|timer| waiting(timer))
            .any(|timer| self.is_set(*timer))
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at[timer as usize] != Self::NEVER
    }

    /// Clears `timer` and says true if it was due at `now`.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.at[timer as usize] <= now;
        if due {
            self.clear(timer);
        }
        due
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        let earliest = self.at.into_iter().min().unwrap_or(Self::NEVER);
        (earliest != Self::NEVER).then_some(earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_is_the_smallest_that_is_set() {
        let mut deadlines = Deadlines::new();
        assert_eq!(deadlines.earliest(), None);
        deadlines.set(Timer::KeepAlive, Instant::from_nanos(9));
        deadlines.set(Timer::DelayedAck, Instant::from_nanos(5));
        assert_eq!(deadlines.earliest(), Some(Instant::from_nanos(5)));
    }

    #[test]
    fn a_due_timer_fires_once() {
        let mut deadlines = Deadlines::new();
        deadlines.set(Timer::Driver, Instant::from_nanos(5));
        assert!(!deadlines.take_due(Timer::Driver, Instant::from_nanos(4)));
        assert!(deadlines.take_due(Timer::Driver, Instant::from_nanos(5)));
        assert!(!deadlines.take_due(Timer::Driver, Instant::from_nanos(6)));
    }
}
