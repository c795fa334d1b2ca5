//! A set of stream ranges in memory that comes from a pool and goes back there.
//!
//! The same invariant as in [`RangeSet`](super::RangeSet): ranges are non-empty, ascending and do not touch. Finding
//! one is a binary search; a range that appears or vanishes moves the shorter side of the ring, which is nothing at
//! both ends, where segments arrive and holes are filled, and 128 entries in the middle of the largest.

use core::ops::Range;
use std::collections::VecDeque;

use super::{Full, Pieces};

/// Half-open and non-empty. `Range<u64>` itself is not `Copy`, which makes arrays of it clumsy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub start: u64,
    pub end: u64,
}

impl Span {
    pub(super) fn range(self) -> Range<u64> {
        self.start..self.end
    }
}

/// Sorted disjoint ranges of stream offsets, as many as the memory of the ring can hold.
#[derive(Debug, Default)]
pub(crate) struct RangeRing {
    spans: VecDeque<Span>,
}

impl RangeRing {
    /// The memory, to be replaced by more of it with the same content.
    pub(crate) fn memory(&mut self) -> &mut VecDeque<Span> {
        &mut self.spans
    }

    pub(crate) fn capacity(&self) -> usize {
        self.spans.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.spans.front().map(|span| span.range())
    }

    pub(crate) fn last(&self) -> Option<Range<u64>> {
        self.spans.back().map(|span| span.range())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.spans.iter().map(|span| span.range())
    }

    /// The whole held range around `offset`.
    pub(crate) fn enclosing(&self, offset: u64) -> Option<Range<u64>> {
        let next = self.spans.partition_point(|span| span.end <= offset);
        let span = self.spans.get(next)?;
        (span.start <= offset).then(|| span.range())
    }

    /// As much of the begin of `range` as touches at most `N` held ranges, so that its pieces can be told.
    pub(crate) fn tellable<const N: usize>(&self, range: Range<u64>) -> Range<u64> {
        let first = self.spans.partition_point(|span| span.end < range.start);
        let beyond = first + N;
        match self.spans.get(beyond) {
            // Up to the end of the range before: there is a hole between the two.
            Some(span) if span.start <= range.end => range.start..self.spans[beyond - 1].end,
            _ => range,
        }
    }

    /// As [`RangeSet::insert`](super::RangeSet::insert), for a range that is not empty and as
    /// [`Self::tellable`] left it.
    pub(crate) fn insert<const N: usize>(&mut self, range: Range<u64>) -> Result<Pieces<N>, Full> {
        let from = self.spans.partition_point(|span| span.end < range.start);
        let to = self.spans.partition_point(|span| span.start <= range.end);
        if from == to {
            if self.len() == self.capacity() {
                return Err(Full);
            }
            let Range { start, end } = range;
            self.spans.insert(from, Span { start, end });
            return Ok(Pieces::whole(range));
        }
        let mut pieces = Pieces::new();
        let mut at = range.start;
        for span in self.spans.range(from..to) {
            if at < span.start {
                pieces.push(at..span.start);
            }
            at = at.max(span.end);
        }
        if at < range.end {
            pieces.push(at..range.end);
        }
        let end = range.end.max(self.spans[to - 1].end);
        let merged = &mut self.spans[from];
        (merged.start, merged.end) = (merged.start.min(range.start), end);
        self.spans.drain(from + 1..to);
        Ok(pieces)
    }

    /// Forgets everything below `offset`; a range that straddles it keeps its upper part.
    pub(crate) fn remove_below(&mut self, offset: u64) {
        while self.spans.front().is_some_and(|span| span.end <= offset) {
            self.spans.pop_front();
        }
        if let Some(first) = self.spans.front_mut() {
            first.start = first.start.max(offset);
        }
    }
}
