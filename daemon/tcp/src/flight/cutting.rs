//! Cutting runs where a range begins or ends, merging them again, and what happens when there is no room for
//! another one: coarser times first, then less SACK information, never a wrong sum.

use core::ops::Range;
use core::time::Duration;

use super::{Fate, Flight, RESERVE, RUNS_MAX, Run};
use crate::flight_pool::FlightPool;

impl Flight {
    /// The runs that `range` touches, cut at its ends where there is room for it.
    pub(super) fn cut_around(
        &mut self,
        range: &Range<u64>,
        pool: &mut FlightPool,
    ) -> (usize, usize) {
        self.cut(range.start, 0, pool);
        self.cut(range.end, 0, pool);
        let first = self.index_at(range.start);
        let last = self.index_at(range.end);
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
            let holder = self.index_at(offset);
            if self
                .runs
                .get(holder)
                .is_some_and(|run| run.fate != Fate::Sacked)
            {
                self.cut(offset, RESERVE, pool);
            }
        }
        let first = self.index_at(range.start);
        let first = first + usize::from(self.start_of(first) < range.start);
        (first, self.index_at(range.end))
    }

    /// Makes `offset` the end of one run and the begin of the next, if there is room for one more and `spare`
    /// others.
    fn cut(&mut self, offset: u64, spare: usize, pool: &mut FlightPool) {
        if self.is_boundary(offset) || !self.make_room(1 + spare, pool) {
            return;
        }
        // Looked up only now: making room may have merged runs.
        let index = self.index_at(offset);
        if let Some(&run) = self.runs.get(index) {
            self.runs.insert(index, Run { end: offset, ..run });
        }
    }

    fn is_boundary(&self, offset: u64) -> bool {
        let index = self.index_at(offset);
        index == self.runs.len() || self.start_of(index) >= offset
    }

    /// Room for `extra` more runs: in the ring, in a larger one from the pool, or by merging.
    pub(super) fn make_room(&mut self, extra: usize, pool: &mut FlightPool) -> bool {
        let wanted = self.runs.len() + extra;
        if wanted <= self.capacity() {
            return true;
        }
        if self.capacity() < RUNS_MAX && pool.grow(&mut self.runs) && wanted <= self.capacity() {
            return true;
        }
        self.coarsen();
        self.runs.len() + extra <= self.capacity()
    }

    fn capacity(&self) -> usize {
        self.runs.capacity().min(RUNS_MAX)
    }

    /// Halves what can be merged at the price of coarser send times.
    fn coarsen(&mut self) {
        let mut kept = 0;
        let mut index = 0;
        while let Some(&run) = self.runs.get(index) {
            index += 1;
            self.runs[kept] = run;
            if let Some(&next) = self.runs.get(index)
                && run.fate == next.fate
            {
                self.runs[kept].join(&next);
                index += 1;
            }
            kept += 1;
        }
        self.runs.truncate(kept);
    }

    /// New data for which there is no run of its own becomes part of the last one. A SACK of that is forgotten:
    /// the peer's next block says it again.
    pub(super) fn absorb(&mut self, run: Run) {
        let Some(last) = self.runs.len().checked_sub(1) else {
            self.runs.push_back(run);
            return;
        };
        let len = self.end() - self.start_of(last);
        let last = &mut self.runs[last];
        match last.fate {
            Fate::InFlight => {}
            Fate::Lost => self.lost_bytes += run.end - last.end,
            Fate::Sacked => {
                self.sacked_bytes -= len;
                last.fate = Fate::InFlight;
            }
        }
        last.join(&run);
    }

    /// Merges neighbours in `first..next` and with those around.
    pub(super) fn merge(&mut self, first: usize, next: usize, grain: Duration) {
        let from = first.saturating_sub(1);
        let to = (next + 1).min(self.runs.len());
        let mut kept = from;
        for index in from + 1..to {
            let run = self.runs[index];
            if self.runs[kept].joins(&run, grain) {
                self.runs[kept].join(&run);
            } else {
                kept += 1;
                self.runs[kept] = run;
            }
        }
        if kept + 1 < to {
            self.runs.drain(kept + 1..to);
        }
    }
}
