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
use crate::flight::{Node, RUNS_MAX};
use crate::held::HeldPool;
use crate::markers::MarkerPool;
use crate::outstanding::{Learnt, Outstanding};
use crate::pool::Pool;
use crate::rings::Rings;

/// Runs of a ring, by size class: a short response, a window without loss, a window full of holes.
const CLASSES: [usize; 3] = [8, 64, RUNS_MAX];
/// Rings of each size that are there from the start: a little more than half a mebibyte.
const STOCK: [usize; CLASSES.len()] = [64, 64, 24];
/// Runs in larger rings for each connection the worker may have. A run is 34 bytes.
const BUDGET_PER_CONNECTION: usize = 16;
/// And at least this many, so that a worker with few connections can have all of them busy.
const BUDGET_MIN: usize = 64 * RUNS_MAX;

/// What is not in use.
#[derive(Debug)]
pub(crate) struct FlightPool {
    runs: Rings<Node, { CLASSES.len() }>,
    /// Their order, in rings of the same sizes.
    orders: Rings<u16, { CLASSES.len() }>,
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
            orders: Rings::new(CLASSES, 1, budget),
            held: HeldPool::new(connections),
            outstanding: Pool::new(),
            markers: MarkerPool::new(),
            budgets: Budgets::none(),
            rings: RingPool::new(connections),
        };
        let stock = STOCK.map(|stock| stock.min(connections));
        pool.runs.stock(stock);
        pool.orders.stock(stock);
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

    /// Replaces both rings of a record by some of the next size with the same content; false if there are none.
    pub(crate) fn grow(&mut self, runs: &mut VecDeque<Node>, order: &mut VecDeque<u16>) -> bool {
        self.runs.grow(runs) && self.orders.grow(order)
    }

    /// Rings that are not needed any more.
    pub(crate) fn give_back(&mut self, runs: VecDeque<Node>, order: VecDeque<u16>) {
        self.runs.give_back(runs);
        self.orders.give_back(order);
    }

    /// As if other connections had all the larger rings.
    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) {
        self.runs.exhaust();
        self.orders.exhaust();
    }

    /// Then one record may grow to so many runs, the size of a ring.
    #[cfg(test)]
    pub(crate) fn leave_ring(&mut self, runs: usize) {
        self.runs.leave_ring(runs);
        self.orders.leave_ring(runs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_gets_the_smallest_ring_when_the_budget_is_spent() {
        let mut pool = FlightPool::new(1);
        pool.exhaust();
        let (mut runs, mut order) = (VecDeque::new(), VecDeque::new());
        assert!(pool.grow(&mut runs, &mut order));
        assert!(!pool.grow(&mut runs, &mut order));
        assert_eq!(
            (runs.capacity(), order.capacity()),
            (CLASSES[0], CLASSES[0])
        );
    }
}
