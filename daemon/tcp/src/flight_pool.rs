//! The memory behind loss recovery, shared by the connections of one worker.
//!
//! An idle connection has no record of transmissions: it takes a ring of runs from here with its first segment in
//! flight and gives it back with the last acknowledgement. Rings come in three sizes. Everyone gets the
//! smallest; larger ones come out of a budget, and who gets none records send times more coarsely and ignores
//! SACK blocks that need more. What was given back is used again, so that after the first busy period nothing is
//! allocated any more. The state of loss detection itself comes and goes the same way.

use std::collections::VecDeque;

use crate::autotune::Budgets;
use crate::event_ring::RingPool;
use crate::flight::{RUNS_MAX, Run};
use crate::held::HeldPool;
use crate::markers::MarkerPool;
use crate::outstanding::{Learnt, Outstanding};
use crate::pool::Pool;
use crate::rings::Rings;

/// Runs of a ring, by size class: a short response, a window without loss, a window full of holes.
const CLASSES: [usize; 3] = [8, 64, RUNS_MAX];
/// Rings of each size that are there from the start: half a mebibyte.
const STOCK: [usize; CLASSES.len()] = [64, 64, 24];
/// Runs in larger rings for each connection the worker may have. A run is 24 bytes.
const BUDGET_PER_CONNECTION: usize = 16;
/// And at least this many, so that a worker with few connections can have all of them busy.
const BUDGET_MIN: usize = 64 * RUNS_MAX;

/// What is not in use.
#[derive(Debug)]
pub(crate) struct FlightPool {
    runs: Rings<Run, { CLASSES.len() }>,
    /// Ranges that arrived out of order.
    pub held: HeldPool,
    /// State of loss detection.
    pub outstanding: Pool<Outstanding>,
    /// Of connections whose delivery rate is measured.
    pub markers: MarkerPool,
    /// From which windows and flights grow.
    pub budgets: Budgets,
    /// Of connections that have something to send.
    pub rings: RingPool,
}

impl FlightPool {
    /// For `connections` connections: what the first of them need is there. The lists of what is free grow with what
    /// is made, so that giving back never allocates.
    pub(crate) fn new(connections: u32) -> Self {
        let connections = connections as usize;
        let budget = connections
            .saturating_mul(BUDGET_PER_CONNECTION)
            .max(BUDGET_MIN);
        let mut pool = FlightPool {
            runs: Rings::new(CLASSES, 1, budget),
            held: HeldPool::new(connections),
            outstanding: Pool::new(),
            markers: MarkerPool::new(),
            budgets: Budgets::none(),
            rings: RingPool::new(connections),
        };
        pool.runs.stock(STOCK.map(|stock| stock.min(connections)));
        pool.outstanding.stock(STOCK[0].min(connections), || {
            Outstanding::new(true, &Learnt::default())
        });
        pool
    }

    /// The same with something to grow from.
    pub(crate) fn with_budgets(mut self, budgets: Budgets) -> Self {
        self.budgets = budgets;
        self
    }

    /// Replaces `ring` by one of the next size with the same content; false if there is none.
    pub(crate) fn grow(&mut self, ring: &mut VecDeque<Run>) -> bool {
        self.runs.grow(ring)
    }

    /// A ring that is not needed any more.
    pub(crate) fn give_back(&mut self, ring: VecDeque<Run>) {
        self.runs.give_back(ring);
    }

    /// As if other connections had all the larger rings.
    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) {
        self.runs.exhaust();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_gets_the_smallest_ring_when_the_budget_is_spent() {
        let mut pool = FlightPool::new(1);
        pool.exhaust();
        let mut ring = VecDeque::new();
        assert!(pool.grow(&mut ring));
        assert!(!pool.grow(&mut ring));
        assert_eq!(ring.capacity(), CLASSES[0]);
    }
}
