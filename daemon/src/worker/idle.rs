//! When an idle worker sleeps, and what wakes it.

use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluice_tcp::clock::Instant;

use super::{Worker, WorkerReport};
use crate::control::WorkerControl;

/// Turns without work before an adaptive worker sleeps, at most: some 50 us of spinning, longer than the gap between
/// bursts of a busy flow, short enough that an idle daemon uses no CPU worth naming.
const SPIN_TURNS: u32 = 200;
/// A gap that so many turns would have bridged.
const SPIN_TIME: Duration = Duration::from_micros(50);
/// Longest sleep: the wall clock behind Date and ETag ages must not stand still for longer.
const SLEEP_NS_MAX: u64 = 500_000_000;

/// How to wait when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Spin for a moment where that pays, then sleep in poll(2).
    Adaptive,
    /// Sleep at once.
    Interrupt,
    /// Never sleep.
    Busy,
}

/// When a worker may sleep. An adaptive one learns from its sleeps: packets that come 200 us apart find it asleep however
/// long it spins before, so it sleeps at once until a gap is short again (as the kernel's `halt_poll_ns` does for guests).
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    poll: Poll,
    spin_turns: u32,
}

impl Patience {
    /// For a way to wait, before the first sleep.
    #[must_use]
    pub fn new(poll: Poll) -> Patience {
        let spin_turns = SPIN_TURNS;
        Patience { poll, spin_turns }
    }

    /// Whether the worker may sleep after so many turns without work.
    #[must_use]
    pub fn may_sleep(&self, quiet_turns: u32) -> bool {
        match self.poll {
            Poll::Adaptive => quiet_turns > self.spin_turns,
            Poll::Interrupt => quiet_turns > 0,
            Poll::Busy => false,
        }
    }

    /// After a sleep: so long after the last work it ended.
    pub fn slept(&mut self, gap: Duration) {
        self.spin_turns = match gap <= SPIN_TIME {
            true => SPIN_TURNS,
            false => self.spin_turns / 2,
        };
    }
}

impl Worker {
    /// Sleeps until a frame, a command, a parcel or a disk answer comes, or the next deadline.
    pub(super) fn sleep(&mut self, control: &WorkerControl<WorkerReport>, now: Instant) {
        let until_deadline = self.stack.next_deadline().map_or(SLEEP_NS_MAX, |at| {
            at.as_nanos().saturating_sub(now.as_nanos())
        });
        let until_drained = self.drain_at.map_or(SLEEP_NS_MAX, |at| {
            at.as_nanos().saturating_sub(now.as_nanos())
        });
        // While frames, or slices of blocks that somebody may wait for, are still in the kernel's hands their completions need
        // a look now and then: they wake nobody.
        let until_completion = if self.queue.tx_in_flight() > 0 {
            1_000_000
        } else {
            SLEEP_NS_MAX
        };
        let nanos = until_deadline
            .min(until_drained.max(1_000_000))
            .min(until_completion)
            .min(SLEEP_NS_MAX);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(nanos).unwrap_or(0),
        };
        let readable = PollFlags::IN;
        let queue = self.queue.fd();
        let disk = self.services.disk.wake_fd();
        // With a single worker the fourth entry repeats the control descriptor: same set, no allocation.
        let parcels = self
            .handoff
            .as_ref()
            .map_or_else(|| control.wake_fd(), |handoff| handoff.wake_fd());
        let mut fds = [
            PollFd::from_borrowed_fd(queue, readable),
            PollFd::from_borrowed_fd(control.wake_fd(), readable),
            PollFd::from_borrowed_fd(disk, readable),
            PollFd::from_borrowed_fd(parcels, readable),
        ];
        self.counters.sleeps += 1;
        // EINTR is a wake-up like any other: the loop looks at everything anyway, and whoever wrote meanwhile ends the next
        // sleep at once.
        if poll(&mut fds, Some(&timeout)).is_err() {
            return;
        }
        // Most wake-ups are frames: what was not written to is not read.
        let [_, commanded, _, handed_over] = fds.map(|fd| !fd.revents().is_empty());
        if commanded {
            control.clear_wake();
        }
        if let Some(handoff) = &self.handoff
            && handed_over
        {
            handoff.clear_wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_micros(200);

    #[test]
    fn spinning_that_does_not_pay_is_given_up_and_taken_up_again() {
        let mut patience = Patience::new(Poll::Adaptive);
        assert!(!patience.may_sleep(SPIN_TURNS) && patience.may_sleep(SPIN_TURNS + 1));
        for _ in 0..8 {
            patience.slept(LONG);
        }
        assert!(patience.may_sleep(1) && !patience.may_sleep(0));
        patience.slept(SPIN_TIME);
        assert!(!patience.may_sleep(SPIN_TURNS));
    }

    #[test]
    fn a_single_long_gap_costs_half_of_the_spinning() {
        let mut patience = Patience::new(Poll::Adaptive);
        patience.slept(LONG);
        assert!(!patience.may_sleep(SPIN_TURNS / 2) && patience.may_sleep(SPIN_TURNS / 2 + 1));
    }

    #[test]
    fn the_other_ways_to_wait_do_not_learn() {
        for (poll, sleeps) in [(Poll::Interrupt, true), (Poll::Busy, false)] {
            let mut patience = Patience::new(poll);
            patience.slept(SPIN_TIME);
            assert_eq!(patience.may_sleep(1), sleeps);
            patience.slept(LONG);
            assert_eq!(patience.may_sleep(SPIN_TURNS + 1), sleeps);
            assert!(!patience.may_sleep(0));
        }
    }
}
