//! The border between the control side and one worker, the same for both transports.
//!
//! Control -> worker: the drain deadline, an atomic word that no full queue can refuse, and empty report
//! boxes. Worker -> control: the same boxes filled, and a turn counter for the watchdog. The boxes are
//! allocated by the control side and travel in a circle, so the worker neither allocates nor frees. A worker under
//! a flood of SYNs says so by one word. Two
//! eventfds end the sleep of either side; a worker in its loop pays one relaxed store a turn.
//!
//! No wake-up is lost because either side tells first and rings then, and the other clears first and looks then:
//! `tests/control_model.rs` has loom try every order of it, `tests/control.rs` the eventfds themselves.
//!
//! `R` is the report of the transport: the border does not look into it.

use core::time::Duration;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use rustix::io::Errno;
use sluice_tcp::clock::Instant;

use crate::sync::{AtomicBool, AtomicU64, Bell, BellFd, Ordering};

/// Boxes under way at once: one at the worker, one on its way back.
const REPORTS: usize = 2;

/// Drain word of a worker that has not been asked to drain.
const NOT_DRAINING: u64 = u64::MAX;

/// What the control side asks of a worker.
#[derive(Debug)]
pub enum Command<R> {
    /// Accept nothing new, finish what runs, reset what is left at `deadline` (on
    /// [`monotonic`](crate::clock::monotonic)).
    Drain {
        /// When what is left is reset.
        deadline: Instant,
    },
    /// Fill this report and give it back with [`WorkerControl::publish`].
    Snapshot(Box<R>),
}

struct Shared<R> {
    drain_at: AtomicU64,
    requests: ArrayQueue<Box<R>>,
    reports: ArrayQueue<Box<R>>,
    turns: AtomicU64,
    flooded: AtomicBool,
    finished: AtomicBool,
    worker_wake: Bell,
    control_wake: Bell,
}

/// The end of the control thread.
pub struct ControlSide<R> {
    shared: Arc<Shared<R>>,
}

/// The end of the worker. Dropping it, also while a panic unwinds, tells the control side that the worker ended.
pub struct WorkerControl<R> {
    shared: Arc<Shared<R>>,
    turns: u64,
    draining: u64,
    flooded: bool,
}

/// A new border.
///
/// # Errors
/// eventfd(2) failed: out of descriptors.
pub fn channel<R>() -> Result<(ControlSide<R>, WorkerControl<R>), Errno> {
    let shared = Arc::new(Shared {
        drain_at: AtomicU64::new(NOT_DRAINING),
        requests: ArrayQueue::new(REPORTS),
        reports: ArrayQueue::new(REPORTS),
        turns: AtomicU64::new(0),
        flooded: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        worker_wake: Bell::new()?,
        control_wake: Bell::new()?,
    });
    let worker = WorkerControl {
        shared: Arc::clone(&shared),
        turns: 0,
        draining: NOT_DRAINING,
        flooded: false,
    };
    Ok((ControlSide { shared }, worker))
}

impl<R> ControlSide<R> {
    /// Asks the worker to drain until `deadline` on [`monotonic`](crate::clock::monotonic). Asking again moves
    /// the deadline.
    pub fn drain(&self, deadline: Instant) {
        let word = deadline.as_nanos().min(NOT_DRAINING - 1);
        // A: pairs with A in `WorkerControl::take`.
        self.shared.drain_at.store(word, Ordering::Release);
        self.shared.worker_wake.ring();
    }

    /// Asks for a report in `report`, whose allocation is reused.
    ///
    /// # Errors
    /// Gives the box back while two others are already asked for.
    pub fn snapshot(&self, report: Box<R>) -> Result<(), Box<R>> {
        self.shared.requests.push(report)?;
        self.shared.worker_wake.ring();
        Ok(())
    }

    /// The oldest filled report.
    #[must_use]
    pub fn take_report(&self) -> Option<Box<R>> {
        self.shared.reports.pop()
    }

    /// Waits for a filled report, at most `patience`. Returns at once when the worker has ended.
    #[must_use]
    pub fn wait_report(&self, patience: Duration) -> Option<Box<R>> {
        let end = crate::clock::monotonic() + patience;
        loop {
            // Cleared before the queue is looked at, so a report that comes after the look wakes the poll.
            self.shared.control_wake.clear();
            if let Some(report) = self.take_report() {
                return Some(report);
            }
            let left = end.saturating_since(crate::clock::monotonic());
            if self.finished() || left.is_zero() {
                return self.take_report();
            }
            self.shared.control_wake.sleep(left);
        }
    }

    /// Throws away reports that came after [`Self::wait_report`] had given up, and what made
    /// [`Self::report_fd`] readable. The end of the worker stays visible in [`Self::finished`].
    pub fn discard_late_reports(&self) {
        // In this order, as in `wait_report`.
        self.shared.control_wake.clear();
        while self.take_report().is_some() {}
    }

    /// Whether more SYNs reach the worker than can be honest. Clears [`Self::report_fd`].
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        // Cleared before the look, so that a change after it wakes again.
        self.shared.control_wake.clear();
        // The word stands for itself: nothing else is read because of it.
        self.shared.flooded.load(Ordering::Relaxed)
    }

    /// Readable after a report was published, when a flood begins or ends, and when the worker ends;
    /// [`Self::wait_report`], [`Self::discard_late_reports`] and [`Self::is_flooded`] clear it.
    #[must_use]
    pub fn report_fd(&self) -> BellFd<'_> {
        self.shared.control_wake.fd()
    }

    /// Turns of the worker's loop so far. A watchdog that sees the same number twice asks for a snapshot first:
    /// an idle worker sleeps, and only one that does not answer hangs.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.shared.turns.load(Ordering::Relaxed)
    }

    /// True once the worker has ended, in order or by a panic.
    #[must_use]
    pub fn finished(&self) -> bool {
        // B: pairs with B in `WorkerControl::drop`; whoever sees the end also sees the last report.
        self.shared.finished.load(Ordering::Acquire)
    }
}

impl<R> WorkerControl<R> {
    /// Readable when a command waits; belongs into the worker's poll set.
    #[must_use]
    pub fn wake_fd(&self) -> BellFd<'_> {
        self.shared.worker_wake.fd()
    }

    /// Ends the readable state of [`Self::wake_fd`]. Call it before [`Self::take`], so that a command which comes in
    /// between wakes again.
    pub fn clear_wake(&self) {
        self.shared.worker_wake.clear();
    }

    /// The next command.
    pub fn take(&mut self) -> Option<Command<R>> {
        // A: pairs with A in `ControlSide::drain`.
        let drain_at = self.shared.drain_at.load(Ordering::Acquire);
        if drain_at != self.draining {
            self.draining = drain_at;
            return Some(Command::Drain {
                deadline: Instant::from_nanos(drain_at),
            });
        }
        self.shared.requests.pop().map(Command::Snapshot)
    }

    /// Gives a filled report to the control side.
    pub fn publish(&self, report: Box<R>) {
        // Nobody can wait for more boxes than were handed out, so an overflow means that the control side
        // sent boxes without taking reports: the newest one is the one worth keeping.
        drop(self.shared.reports.force_push(report));
        self.shared.control_wake.ring();
    }

    /// Says whether more SYNs come than can be honest; a change wakes the control side.
    pub fn set_flooded(&mut self, flooded: bool) {
        if flooded != self.flooded {
            self.flooded = flooded;
            self.shared.flooded.store(flooded, Ordering::Relaxed);
            // write(2) orders the store before whatever the wake-up makes the other side do.
            self.shared.control_wake.ring();
        }
    }

    /// Counts one turn of the loop for the watchdog.
    pub fn turn(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        // Only this thread writes, so a plain store does.
        self.shared.turns.store(self.turns, Ordering::Relaxed);
    }
}

impl<R> Drop for WorkerControl<R> {
    fn drop(&mut self) {
        // B: pairs with B in `ControlSide::finished`.
        self.shared.finished.store(true, Ordering::Release);
        self.shared.control_wake.ring();
    }
}
