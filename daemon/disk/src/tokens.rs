//! A counting semaphore on a futex: helper threads sleep here until there is work.
//!
//! Adding n tokens wakes at most n sleepers, and costs no system call while nobody sleeps. (An eventfd in semaphore
//! mode would do as well, but wakes every sleeper for each token, and the losers go back to sleep for nothing.)

use rustix::thread::futex::Timespec;

use crate::sync::{AtomicU32, Ordering, Word, load_seq_cst};

/// Tokens to take, one per piece of work.
#[derive(Default)]
pub(crate) struct Tokens {
    count: Word,
    sleepers: AtomicU32,
}

impl Tokens {
    /// Adds `n` tokens. What was written before is visible to whoever takes them.
    pub(crate) fn add(&self, n: u32) {
        // A: pairs with B. Both are sequentially consistent read-modify-writes: either the sleeper's count is seen
        // here, or the sleeper sees the tokens when the kernel compares the futex word.
        self.count.0.fetch_add(n, Ordering::SeqCst);
        if load_seq_cst(&self.sleepers) > 0 {
            self.count.wake(n);
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
        self.count.wait_while_zero(limit);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn try_take(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        // Acquire: what was written before `add` (at A) is visible now.
        self.count
            .0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
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
        assert_eq!(tokens.count.0.load(Ordering::SeqCst), 0);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A model that cannot go on has lost a wake-up: loom reports the deadlock. With two takers every interleaving is
    /// too many; two switches where nobody has to wait are what such a loss takes.
    fn takers_finish(adds: &'static [u32]) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = (adds.iter().sum::<u32>() > 1).then_some(2);
        model.check(move || {
            let tokens = Arc::new(Tokens::default());
            let takers: Vec<_> = (0..adds.iter().sum())
                .map(|_| {
                    let tokens = Arc::clone(&tokens);
                    thread::spawn(move || tokens.take())
                })
                .collect();
            adds.iter().for_each(|n| tokens.add(*n));
            for taker in takers {
                taker.join().expect("the taker ends");
            }
            assert_eq!(tokens.count.0.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn loom_no_wake_up_is_lost_between_the_look_and_the_sleep() {
        takers_finish(&[1]);
    }

    #[test]
    fn loom_two_tokens_wake_two_sleepers() {
        takers_finish(&[2]);
    }

    #[test]
    fn loom_one_token_each_wakes_one_sleeper_each() {
        takers_finish(&[1, 1]);
    }

    #[test]
    fn loom_what_was_written_before_a_token_is_seen_by_who_takes_it() {
        loom::model(|| {
            let shared = Arc::new((Tokens::default(), loom::cell::UnsafeCell::new(0)));
            let taker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.0.take();
                    // loom panics if this read is not ordered after the write.
                    shared.1.with(|_| ());
                })
            };
            shared.1.with_mut(|_| ());
            shared.0.add(1);
            taker.join().expect("the taker ends");
        });
    }
}
