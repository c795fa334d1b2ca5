//! Cutting runs where a range begins or ends, merging them again, and what happens when there is no room for
//! another one: coarser times first, then less SACK information, never a wrong sum.

use core::ops::Range;
use core::time::Duration;

use super::{Board, Fate, Flight, RESERVE, RUNS_MAX, Run};
use crate::flight_pool::FlightPool;

/// Changes, as a share of the runs there is memory for, after which merging is tried again.
const COARSEN_SHARE: usize = 16;

impl Flight {
    /// The runs that `range` touches, cut at its ends where there is room for it.
    pub(super) fn cut_around(
        &mut self,
        range: &Range<u64>,
        pool: &mut FlightPool,
    ) -> (usize, usize) {
        self.cut(range.start, 0, pool);
        self.cut(range.end, 0, pool);
        let first = self.runs.index_at(range.start);
        let last = self.runs.index_at(range.end);
        let next = if last < self.runs.len() && self.start_of(last) < range.end {
            last + 1
        } else {
            last
        };
        (first, next.max(first))
    }

    /// The runs that lie in `range`, cut at its ends where there is room for it. What is SACKed already is never
    /// cut: most blocks repeat earlier ones.
    pub(super) fn cut_within(
        &mut self,
        range: &Range<u64>,
        pool: &mut FlightPool,
    ) -> (usize, usize) {
        for offset in [range.start, range.end] {
            let holder = self.runs.index_at(offset);
            if self
                .runs
                .get(holder)
                .is_some_and(|run| run.fate != Fate::Sacked)
            {
                self.cut(offset, RESERVE, pool);
            }
        }
        let first = self.runs.index_at(range.start);
        let first = first + usize::from(self.start_of(first) < range.start);
        (first, self.runs.index_at(range.end))
    }

    /// Makes `offset` the end of one run and the begin of the next, if there is room for one more and `spare`
    /// others.
    fn cut(&mut self, offset: u64, spare: usize, pool: &mut FlightPool) {
        if self.is_boundary(offset) || !self.make_room(1 + spare, pool) {
            return;
        }
        // Looked up only now: making room may have merged runs.
        let index = self.runs.index_at(offset);
        if index < self.runs.len() {
            self.runs.split(index, offset);
            self.changes = self.changes.saturating_add(1);
        }
    }

    fn is_boundary(&self, offset: u64) -> bool {
        let index = self.runs.index_at(offset);
        index == self.runs.len() || self.start_of(index) >= offset
    }

    /// Room for `extra` more runs: in the ring, in a larger one from the pool, or by merging.
    pub(super) fn make_room(&mut self, extra: usize, pool: &mut FlightPool) -> bool {
        let wanted = self.runs.len() + extra;
        if wanted <= self.runs.capacity() {
            return true;
        }
        if self.runs.capacity() < RUNS_MAX {
            let Board { nodes, order, .. } = &mut self.runs;
            if pool.grow(nodes, order) && wanted <= self.runs.capacity() {
                return true;
            }
        }
        self.coarsen();
        self.runs.len() + extra <= self.runs.capacity()
    }

    /// Halves what can be merged at the price of coarser send times. That looks at every run, so it is tried again only
    /// after as many changes as make it worth that.
    fn coarsen(&mut self) {
        if self.changes >= self.runs.capacity() / COARSEN_SHARE {
            self.changes = 0;
            self.runs.halve();
        }
    }

    /// New data for which there is no run of its own becomes part of the last one. A SACK of that is forgotten:
    /// the peer's next block says it again. And what is held back counts as having left with it.
    pub(super) fn absorb(&mut self, run: Run) {
        let Some(last) = self.runs.len().checked_sub(1) else {
            self.runs.push_back(run);
            return;
        };
        let end = self.end();
        match self.runs.get(last).map(|last| last.fate) {
            Some(Fate::Lost) => self.lost_bytes += run.end - end,
            Some(Fate::Sacked) => {
                self.sacked_bytes -= end - self.start_of(last);
                self.runs.update(last, |last| last.fate = Fate::InFlight);
            }
            Some(Fate::InFlight) | None => {}
        }
        if self.runs.back().is_some_and(Run::never_left) {
            self.runs.update(last, |last| last.leave_again(run.sent_at));
        }
        self.runs.extend_last(&run);
    }

    /// Merges neighbours in `first..next` and with those around.
    pub(super) fn merge(&mut self, first: usize, next: usize, grain: Duration) {
        let from = first.saturating_sub(1);
        let to = (next + 1).min(self.runs.len());
        self.runs.fold(from, to, |run, next| run.joins(next, grain));
    }
}
