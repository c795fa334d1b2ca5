//! The out-of-order store: which bytes beyond RCV.NXT are here.
//!
//! Nearly always a few ranges, which lie in the connection. A flow of 10 Gbit/s and 100 ms that loses segments all over
//! its window makes hundreds of holes; what is refused then has to cross the path again. So more ranges get memory from
//! the worker's [`HeldPool`], and it goes back when the last hole is filled. The pool is bounded: whoever makes holes
//! on purpose gets no more than [`HELD_MAX`] ranges, all of them together no more than the budget, and when either is
//! used up the newest range is refused, as it always was. Invariant: `few` or `many` is empty.

use core::ops::Range;

use crate::ranges::{Full, Pieces, RangeRing, RangeSet, Span};
use crate::rings::Rings;

/// Ranges that need no memory, and those that one segment may join: of one that touches more, what lies beyond is
/// refused.
pub(crate) const HELD_FEW: usize = 8;
/// Ranges of a connection at most.
pub(crate) const HELD_MAX: usize = 256;

/// Ranges by size class, of 16 bytes each.
const CLASSES: [usize; 2] = [64, HELD_MAX];
/// Rings of each size that are there from the start: 24 KiB.
const STOCK: [usize; CLASSES.len()] = [8, 4];
/// Ranges for each connection the worker may have.
const BUDGET_PER_CONNECTION: usize = 4;
/// And at least this many: 256 KiB.
const BUDGET_MIN: usize = 64 * HELD_MAX;

/// The memory for many ranges, of one worker.
#[derive(Debug)]
pub(crate) struct HeldPool {
    rings: Rings<Span, { CLASSES.len() }>,
}

impl HeldPool {
    /// For so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        let budget = connections
            .saturating_mul(BUDGET_PER_CONNECTION)
            .max(BUDGET_MIN);
        let mut rings = Rings::new(CLASSES, 0, budget);
        rings.stock(STOCK.map(|stock| stock.min(connections)));
        HeldPool { rings }
    }
}

/// Sorted disjoint ranges of stream offsets.
#[derive(Debug)]
pub(crate) struct Held {
    few: RangeSet<HELD_FEW>,
    /// Instead of `few`, while it has memory.
    many: RangeRing,
}

impl Held {
    pub(crate) fn new() -> Self {
        Held {
            few: RangeSet::new(),
            many: RangeRing::default(),
        }
    }

    /// Makes room for one more range, if there is any: before a segment is looked at.
    #[inline]
    pub(crate) fn make_room(&mut self, pool: &mut HeldPool) {
        let room = self.many.capacity().max(HELD_FEW);
        if self.few.len() + self.many.len() >= room {
            self.grow(pool);
        }
    }

    #[cold]
    fn grow(&mut self, pool: &mut HeldPool) {
        if pool.rings.grow(self.many.memory()) {
            let few = self
                .few
                .iter()
                .map(|Range { start, end }| Span { start, end });
            self.many.memory().extend(few);
            self.few.clear();
        }
    }

    /// Gives memory back that is not needed any more: after a segment was looked at.
    #[inline]
    pub(crate) fn tidy(&mut self, pool: &mut HeldPool) {
        if self.many.is_empty() && self.many.capacity() > 0 {
            self.release(pool);
        }
    }

    /// Forgets everything, and gives the memory back.
    pub(crate) fn release(&mut self, pool: &mut HeldPool) {
        self.few.clear();
        pool.rings.give_back(core::mem::take(self.many.memory()));
    }

    /// What of `range` can be inserted: all of it, unless it touches more than [`HELD_FEW`] ranges.
    pub(crate) fn tellable(&self, range: Range<u64>) -> Range<u64> {
        self.many.tellable::<HELD_FEW>(range)
    }

    /// As [`RangeSet::insert`], for what [`Self::tellable`] left.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> Result<Pieces<HELD_FEW>, Full> {
        match self.many.capacity() {
            0 => self.few.insert(range),
            _ => self.many.insert(range),
        }
    }

    pub(crate) fn remove_below(&mut self, offset: u64) {
        self.few.remove_below(offset);
        self.many.remove_below(offset);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.few.first().or_else(|| self.many.first())
    }

    pub(crate) fn last(&self) -> Option<Range<u64>> {
        self.few.last().or_else(|| self.many.last())
    }

    pub(crate) fn enclosing(&self, offset: u64) -> Option<Range<u64>> {
        let few = self.few.enclosing(offset);
        few.or_else(|| self.many.enclosing(offset))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.few.iter().chain(self.many.iter())
    }
}

#[cfg(test)]
mod tests;
