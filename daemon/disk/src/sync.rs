//! Where [`crate::tokens`] takes atomics and the futex from.
//!
//! Under `--cfg loom` the same code runs on loom's types, which explore every interleaving: the futex becomes a lock
//! and a condition variable, which is how the kernel defines it (futex(2): compare and sleep are one step).

#[cfg(not(loom))]
pub(crate) use self::native::Word;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(loom)]
pub(crate) use self::modelled::Word;

/// A sequentially consistent load. loom takes one for an acquire load (its documentation lists this as missing), and a
/// read-modify-write for what it is.
pub(crate) fn load_seq_cst(atomic: &AtomicU32) -> u32 {
    if cfg!(loom) {
        atomic.fetch_add(0, Ordering::SeqCst)
    } else {
        atomic.load(Ordering::SeqCst)
    }
}

#[cfg(not(loom))]
mod native {
    use rustix::thread::futex::{self, Timespec};

    use super::AtomicU32;

    /// A futex word.
    #[derive(Default)]
    pub(crate) struct Word(pub(crate) AtomicU32);

    impl Word {
        /// Sleeps while the word is 0, for `limit` at most. May return early.
        pub(crate) fn wait_while_zero(&self, limit: Option<&Timespec>) {
            // Returns at once if the word is not 0. Whatever the reason for waking, the caller asks the word.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, 0, limit);
        }

        /// Wakes `n` sleepers at most.
        pub(crate) fn wake(&self, n: u32) {
            // The only errors are of alignment and address, which a reference rules out.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, n);
        }
    }
}

#[cfg(loom)]
mod modelled {
    use loom::sync::{Condvar, Mutex};
    use rustix::thread::futex::Timespec;

    use super::{AtomicU32, load_seq_cst};

    /// A futex word with the queue that the kernel keeps for it.
    pub(crate) struct Word(pub(crate) AtomicU32, Mutex<()>, Condvar);

    impl Default for Word {
        fn default() -> Word {
            Word(AtomicU32::new(0), Mutex::new(()), Condvar::new())
        }
    }

    impl Word {
        pub(crate) fn wait_while_zero(&self, limit: Option<&Timespec>) {
            let queue = self.1.lock().expect("nobody panics with it");
            // A limit may pass at once: there is no time in a model.
            if load_seq_cst(&self.0) == 0 && limit.is_none() {
                drop(self.2.wait(queue).expect("nobody panics with it"));
            }
        }

        pub(crate) fn wake(&self, n: u32) {
            let _queue = self.1.lock().expect("nobody panics with it");
            (0..n).for_each(|_| self.2.notify_one());
        }
    }
}
