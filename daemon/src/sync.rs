//! What the border of [`control`](crate::control) is made of: atomics, and a bell that ends a sleep.
//!
//! `tests/control_model.rs` compiles that border once more with loom's types in this place, where the bell is a lock and
//! a condition variable, and explores its interleavings. (Under `--cfg loom`, which is for all crates of a build,
//! sluice-afxdp has no queues and the worker could not be built.)

use core::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An eventfd: readable from a ring until it is cleared, however often it rang.
pub(crate) struct Bell(OwnedFd);

/// What a poll set takes of a bell.
pub(crate) type BellFd<'a> = BorrowedFd<'a>;

impl Bell {
    /// A silent one.
    ///
    /// # Errors
    /// eventfd(2) failed: out of descriptors.
    pub(crate) fn new() -> Result<Bell, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Bell)
    }

    /// Ends the sleep of whoever waits. What was written before is seen by whoever [`Self::clear`]s it.
    pub(crate) fn ring(&self) {
        // EAGAIN means that 2^64 - 2 rings are pending already (eventfd(2)): readable is all we want.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Ends the readable state. What the bell rang for is looked at after this, so that a ring in between counts.
    pub(crate) fn clear(&self) {
        // EAGAIN means that nothing was pending.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    /// Waits for a ring, at most `limit`.
    pub(crate) fn sleep(&self, limit: Duration) {
        let timeout = Timespec::try_from(limit).ok();
        // An interrupted sleep is a short one: the caller looks and comes back.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref());
    }

    pub(crate) fn fd(&self) -> BellFd<'_> {
        self.0.as_fd()
    }
}
