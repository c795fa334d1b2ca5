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
use crate::markers::MarkerPool;
use crate::outstanding::{Learnt, Outstanding};
use crate::pool::Pool;

/// Runs of a ring, by size class: a short response, a window without loss, a window full of holes.
const CLASSES: [usize; 3] = [8, 64, RUNS_MAX];
/// Rings of each size that are there from the start: half a mebibyte.
const STOCK: [usize; CLASSES.len()] = [64, 64, 48];
/// Runs in larger rings for each connection the worker may have. A run is 24 bytes.
const BUDGET_PER_CONNECTION: usize = 16;
/// And at least this many, so that a worker with few connections can have all of them busy.
const BUDGET_MIN: usize = 64 * RUNS_MAX;

/// What is not in use.
#[derive(Debug)]
pub(crate) struct FlightPool {
    free: [Vec<VecDeque<Run>>; CLASSES.len()],
    /// Runs that may still be allocated in larger rings.
    budget: usize,
    /// Rings ever made.
    made: [usize; CLASSES.len()],
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
            free: [const { Vec::new() }; CLASSES.len()],
            budget,
            made: [0; CLASSES.len()],
            outstanding: Pool::new(),
            markers: MarkerPool::new(),
            budgets: Budgets::none(),
            rings: RingPool::new(connections),
        };
        pool.stock(connections);
        pool
    }

    /// The same with something to grow from.
    pub(crate) fn with_budgets(mut self, budgets: Budgets) -> Self {
        self.budgets = budgets;
        self
    }

    fn stock(&mut self, connections: usize) {
        for (class, stock) in STOCK.into_iter().enumerate() {
            for _ in 0..stock.min(connections) {
                if let Some(ring) = self.make(class) {
                    self.free[class].push(ring);
                }
            }
        }
        self.outstanding.stock(STOCK[0].min(connections), || {
            Outstanding::new(true, &Learnt::default())
        });
    }

    /// Replaces `ring` by one of the next size with the same content; false if there is none.
    pub(crate) fn grow(&mut self, ring: &mut VecDeque<Run>) -> bool {
        let Some(class) = CLASSES.iter().position(|size| *size > ring.capacity()) else {
            return false;
        };
        let Some(mut larger) = self.take(class) else {
            return false;
        };
        larger.extend(ring.drain(..));
        self.give_back(core::mem::replace(ring, larger));
        true
    }

    /// As if other connections had all the larger rings.
    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) {
        self.budget = 0;
        self.free[1..].iter_mut().for_each(Vec::clear);
    }

    fn take(&mut self, class: usize) -> Option<VecDeque<Run>> {
        if let Some(ring) = self.free[class].pop() {
            return Some(ring);
        }
        self.make(class)
    }

    /// A new ring, and room in the list for the time when it is free.
    fn make(&mut self, class: usize) -> Option<VecDeque<Run>> {
        if class > 0 {
            self.budget = self.budget.checked_sub(CLASSES[class])?;
        }
        self.made[class] += 1;
        let free = &mut self.free[class];
        free.reserve(self.made[class] - free.len());
        Some(VecDeque::with_capacity(CLASSES[class]))
    }

    /// A ring that is not needed any more. One that never had memory is nothing.
    pub(crate) fn give_back(&mut self, mut ring: VecDeque<Run>) {
        ring.clear();
        if let Some(class) = CLASSES.iter().rposition(|size| *size <= ring.capacity()) {
            self.free[class].push(ring);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_grows_through_all_sizes_and_its_memory_is_used_again() {
        let mut pool = FlightPool::new(1);
        let mut ring = VecDeque::new();
        let mut sizes = Vec::new();
        while pool.grow(&mut ring) {
            sizes.push(ring.capacity());
        }
        assert_eq!(sizes, CLASSES);
        let budget = pool.budget;
        pool.give_back(ring);
        let mut next = VecDeque::new();
        while pool.grow(&mut next) {}
        assert_eq!(next.capacity(), RUNS_MAX);
        assert_eq!(pool.budget, budget);
    }

    #[test]
    fn everyone_gets_the_smallest_ring_when_the_budget_is_spent() {
        let mut pool = FlightPool::new(1);
        pool.exhaust();
        let mut ring = VecDeque::new();
        assert!(pool.grow(&mut ring));
        assert!(!pool.grow(&mut ring));
        assert_eq!(ring.capacity(), CLASSES[0]);
    }

    #[test]
    fn a_ring_without_memory_is_not_kept() {
        let mut pool = FlightPool::new(0);
        pool.give_back(VecDeque::new());
        assert!(pool.free.iter().all(Vec::is_empty));
    }
}
