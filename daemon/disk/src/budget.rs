//! How much the caller's thread reads in one turn of its loop.
//!
//! A block from the page cache costs 10 us, one that is not there some 20 us, because the kernel begins to read it. A burst
//! of requests, or one connection with a long window, could ask for a thousand in one turn, and everybody else's packets
//! would lie that long. So a turn has a budget; what is put off is asked for again in the next, after the packets. What is
//! read ahead of its time leaves half of it to those who wait.

/// Blocks that are tried in one turn: 2 MiB, at most half a millisecond or so, and enough for 100 Gbit/s in turns of 160 us.
const TRIES: u32 = 32;

/// What is left of the present turn.
pub(crate) struct TurnBudget {
    left: u32,
    /// Somebody was put off.
    exceeded: bool,
}

impl TurnBudget {
    pub(crate) fn new() -> TurnBudget {
        TurnBudget {
            left: TRIES,
            exceeded: false,
        }
    }

    /// Begins a turn. Says whether somebody was put off in the one before.
    pub(crate) fn next_turn(&mut self) -> bool {
        self.left = TRIES;
        std::mem::take(&mut self.exceeded)
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Nothing is left for what nobody waits for.
    pub(crate) fn is_spent_ahead(&self) -> bool {
        self.left <= TRIES / 2
    }

    /// One block is tried.
    pub(crate) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Somebody is put off. True for the first in a turn.
    pub(crate) fn put_off(&mut self) -> bool {
        !std::mem::replace(&mut self.exceeded, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_leaves_half_of_a_turn_to_those_who_wait() {
        let mut budget = TurnBudget::new();
        let ahead = (0..).take_while(|_| {
            let may = !budget.is_spent_ahead();
            if may {
                budget.spend();
            }
            may
        });
        assert_eq!(ahead.count(), TRIES as usize / 2);
        for _ in 0..TRIES / 2 {
            assert!(!budget.is_spent());
            budget.spend();
        }
        assert!(budget.is_spent());
    }
}
