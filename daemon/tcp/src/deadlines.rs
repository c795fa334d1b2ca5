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
}

impl Timer {
    pub(crate) const ALL: [Timer; 8] = [
        Timer::Retransmit,
        Timer::Reorder,
        Timer::TailProbe,
        Timer::DelayedAck,
        Timer::KeepAlive,
        Timer::FinWait2,
        Timer::Driver,
        Timer::Pacing,
    ];
}

const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// One optional deadline per [`Timer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    at: [Instant; Timer::ALL.len()],
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Deadlines {
            at: [NEVER; Timer::ALL.len()],
        }
    }

    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize] = at;
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.at[timer as usize] = NEVER;
    }

    /// When it is due; the end of the clock if it is not set.
    pub(crate) fn at(&self, timer: Timer) -> Instant {
        self.at[timer as usize]
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at[timer as usize] != NEVER
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
        let earliest = self.at.into_iter().min().unwrap_or(NEVER);
        (earliest != NEVER).then_some(earliest)
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
