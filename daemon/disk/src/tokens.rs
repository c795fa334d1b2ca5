//! A counting semaphore on a futex: helper threads sleep here until there is work.
//!
//! Adding n tokens wakes at most n sleepers, and costs no system call while nobody sleeps. (An eventfd in semaphore
//! mode would do as well, but wakes every sleeper for each token, and the losers go back to sleep for nothing.)

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex::{self, Timespec};

/// Tokens to take, one per piece of work.
#[derive(Default)]
pub(crate) struct Tokens {
    count: AtomicU32,
    sleepers: AtomicU32,
}

impl Tokens {
    /// Adds `n` tokens. What was written before is visible to whoever takes them.
    pub(crate) fn add(&self, n: u32) {
        // A: pairs with B. Both are sequentially consistent read-modify-writes: either the sleeper's count is seen
        // here, or the sleeper sees the tokens when the kernel compares the futex word.
        self.count.fetch_add(n, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // The only errors are of alignment and address, which a reference rules out.
            let _ = futex::wake(&self.count, futex::Flags::PRIVATE, n);
        }
    }

    /// Takes a token, asleep while there is none.
    pub(crate) fn take(&self) {
        while !self.try_take() {
            self.sleep(None);
        }
    }

    /// Takes a token if there is one before `limit` has passed. May give up early.
    pub(crate) fn take_within(&self, limit: &Timespec) -> bool {
        self.try_take() || {
            self.sleep(Some(limit));
            self.try_take()
        }
    }

    fn sleep(&self, limit: Option<&Timespec>) {
        // B: pairs with A.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Returns at once if the word is not 0. Whatever the reason for waking, the caller asks the count.
        let _ = futex::wait(&self.count, futex::Flags::PRIVATE, 0, limit);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn try_take(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        // Acquire: what was written before `add` (at A) is visible now.
        self.count
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn every_token_is_taken_once_by_sleepers_and_latecomers_alike() {
        const TAKERS: u32 = 4;
        const EACH: u32 = 10_000;
        let tokens = Arc::new(Tokens::default());
        let taker = || {
            let tokens = Arc::clone(&tokens);
            thread::spawn(move || (0..EACH).for_each(|_| tokens.take()))
        };
        let takers: Vec<_> = (0..TAKERS).map(|_| taker()).collect();
        for n in 0..TAKERS * EACH / 4 {
            tokens.add(if n % 2 == 0 { 1 } else { 7 });
        }
        for taker in takers {
            taker.join().expect("taker ends: no wake-up was lost");
        }
        assert_eq!(tokens.count.load(Ordering::SeqCst), 0);
    }
}
