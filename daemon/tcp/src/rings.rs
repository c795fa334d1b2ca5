//! Rings of several sizes, shared by the connections of one worker.
//!
//! Whoever needs more than its ring holds gets the next size with the same content; larger sizes come out of a
//! budget, and who gets none has to do with what it has. What was given back is used again, so that after the first
//! busy period nothing is allocated any more. Invariant: giving back never allocates, because the list of what is
//! free grows when a ring is made.

use std::collections::VecDeque;

/// Rings of `N` sizes that are not in use.
#[derive(Debug)]
pub(crate) struct Rings<T, const N: usize> {
    /// Ascending.
    sizes: [usize; N],
    free: [Vec<VecDeque<T>>; N],
    /// Rings ever made.
    made: [usize; N],
    /// The sizes from this one on are made out of the budget.
    budgeted_from: usize,
    /// Entries that may still be allocated in them.
    budget: usize,
}

impl<T, const N: usize> Rings<T, N> {
    /// Nothing is in it yet.
    pub(crate) fn new(sizes: [usize; N], budgeted_from: usize, budget: usize) -> Self {
        Rings {
            sizes,
            free: [const { Vec::new() }; N],
            made: [0; N],
            budgeted_from,
            budget,
        }
    }

    /// Makes so many rings of each size, as far as the budget goes.
    pub(crate) fn stock(&mut self, counts: [usize; N]) {
        for (class, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                if let Some(ring) = self.make(class) {
                    self.free[class].push(ring);
                }
            }
        }
    }

    /// Replaces `ring` by one of the next size with the same content; false if there is none.
    pub(crate) fn grow(&mut self, ring: &mut VecDeque<T>) -> bool {
        let Some(class) = self.sizes.iter().position(|size| *size > ring.capacity()) else {
            return false;
        };
        let Some(mut larger) = self.free[class].pop().or_else(|| self.make(class)) else {
            return false;
        };
        larger.extend(ring.drain(..));
        self.give_back(core::mem::replace(ring, larger));
        true
    }

    /// A ring that is not needed any more. One that never had memory is nothing.
    pub(crate) fn give_back(&mut self, mut ring: VecDeque<T>) {
        ring.clear();
        if let Some(class) = self.sizes.iter().rposition(|size| *size <= ring.capacity()) {
            self.free[class].push(ring);
        }
    }

    /// A new ring, and room in the list for the time when it is free.
    fn make(&mut self, class: usize) -> Option<VecDeque<T>> {
        if class >= self.budgeted_from {
            self.budget = self.budget.checked_sub(self.sizes[class])?;
        }
        self.made[class] += 1;
        let free = &mut self.free[class];
        free.reserve(self.made[class] - free.len());
        Some(VecDeque::with_capacity(self.sizes[class]))
    }

    /// As if other connections had all the rings of the budget.
    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) {
        self.budget = 0;
        self.free[self.budgeted_from..]
            .iter_mut()
            .for_each(Vec::clear);
    }

    /// Then there is room for one ring of each size up to `size`.
    #[cfg(test)]
    pub(crate) fn leave_ring(&mut self, size: usize) {
        let budgeted = self.sizes[self.budgeted_from..].iter();
        self.budget = budgeted.filter(|other| **other <= size).sum();
    }

    /// Rings that connections hold.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::len).sum();
        self.made.iter().sum::<usize>() - free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 3] = [8, 64, 256];

    fn rings(budget: usize) -> Rings<u64, 3> {
        Rings::new(SIZES, 1, budget)
    }

    #[test]
    fn a_ring_grows_through_all_sizes_and_its_memory_is_used_again() {
        let mut rings = rings(1 << 10);
        let mut ring = VecDeque::new();
        let mut sizes = Vec::new();
        while rings.grow(&mut ring) {
            sizes.push(ring.capacity());
        }
        assert_eq!(sizes, SIZES);
        let budget = rings.budget;
        rings.give_back(ring);
        let mut next = VecDeque::new();
        while rings.grow(&mut next) {}
        assert_eq!(next.capacity(), 256);
        assert_eq!((rings.budget, rings.in_use()), (budget, 1));
    }

    #[test]
    fn what_a_ring_held_moves_with_it() {
        let mut rings = rings(1 << 10);
        let mut ring = VecDeque::new();
        assert!(rings.grow(&mut ring));
        ring.extend([3, 1, 2]);
        assert!(rings.grow(&mut ring));
        assert_eq!((ring.capacity(), ring), (64, VecDeque::from([3, 1, 2])));
    }

    #[test]
    fn the_sizes_beyond_the_budget_are_for_everyone() {
        let mut rings = rings(0);
        let mut ring = VecDeque::new();
        assert!(rings.grow(&mut ring));
        assert!(!rings.grow(&mut ring));
        assert_eq!(ring.capacity(), SIZES[0]);
    }

    #[test]
    fn a_ring_without_memory_is_not_kept() {
        let mut rings = rings(0);
        rings.give_back(VecDeque::new());
        assert!(rings.free.iter().all(Vec::is_empty));
    }
}
