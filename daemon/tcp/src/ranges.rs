//! A bounded set of stream ranges: which bytes of a stream are held, acknowledged or lost.
//!
//! A [`RangeSet`] keeps sorted, disjoint, half-open ranges of u64 stream offsets in an inline array of `N` entries, so it
//! never allocates and its memory is known. Invariant: ranges are non-empty, ascending and do not touch each other
//! (touching ranges are merged on insertion), so `N` bounds the number of holes. A peer that makes more holes than `N`
//! gets [`Full`]; what to forget then is the caller's policy, and so is the most-recent-first order of SACK blocks
//! (RFC 2018 4). Offsets, not sequence numbers: no wrap here. Where the memory comes from a pool instead, see `ring`.

use core::fmt;
use core::ops::Range;

mod ring;

pub(crate) use ring::{RangeRing, Span};

/// Fills entries that are not in use.
const EMPTY: Span = Span { start: 0, end: 0 };

/// The set already has `N` ranges and the new one touches none of them. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for another disjoint range")
    }
}

impl core::error::Error for Full {}

/// Sorted disjoint ranges of stream offsets, at most `N` of them. See the module documentation.
#[derive(Clone)]
pub struct RangeSet<const N: usize> {
    spans: [Span; N],
    len: usize,
    covered_bytes: u64,
}

impl<const N: usize> RangeSet<N> {
    /// The empty set.
    #[must_use]
    pub const fn new() -> RangeSet<N> {
        RangeSet {
            spans: [EMPTY; N],
            len: 0,
            covered_bytes: 0,
        }
    }

    /// Adds `range` and returns the parts of it that were not in the set before, in ascending order.
    ///
    /// An empty (or inverted) range adds nothing. The cost is a binary search plus a move of the ranges
    /// behind the insertion point: at most `N` entries whatever the peer sends.
    ///
    /// # Errors
    /// [`Full`] if the range would need entry `N + 1`; the set is unchanged.
    pub fn insert(&mut self, range: Range<u64>) -> Result<Pieces<N>, Full> {
        if range.is_empty() {
            return Ok(Pieces::new());
        }
        // spans[from..to] are those that overlap or touch the new range and merge with it.
        let from = self.live().partition_point(|span| span.end < range.start);
        let to = from + self.live()[from..].partition_point(|span| span.start <= range.end);
        if from == to {
            self.insert_at(
                from,
                Span {
                    start: range.start,
                    end: range.end,
                },
            )?;
            return Ok(Pieces::whole(range));
        }
        let mut pieces = Pieces::new();
        let mut new_bytes = 0;
        for piece in self.missing(range.clone()) {
            new_bytes += piece.end - piece.start;
            pieces.push(piece);
        }
        self.spans[from] = Span {
            start: range.start.min(self.spans[from].start),
            end: range.end.max(self.spans[to - 1].end),
        };
        self.spans.copy_within(to..self.len, from + 1);
        self.len -= to - from - 1;
        self.covered_bytes += new_bytes;
        Ok(pieces)
    }

    /// Forgets everything below `offset`; a range that straddles it keeps its upper part.
    pub fn remove_below(&mut self, offset: u64) {
        let gone = self.live().partition_point(|span| span.end <= offset);
        for span in &self.spans[..gone] {
            self.covered_bytes -= span.end - span.start;
        }
        self.spans.copy_within(gone..self.len, 0);
        self.len -= gone;
        if let Some(first) = self.spans[..self.len].first_mut()
            && first.start < offset
        {
            self.covered_bytes -= offset - first.start;
            first.start = offset;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
        self.covered_bytes = 0;
    }

    /// The lowest range.
    #[must_use]
    pub fn first(&self) -> Option<Range<u64>> {
        self.live().first().map(|span| span.range())
    }

    /// The highest range.
    #[must_use]
    pub fn last(&self) -> Option<Range<u64>> {
        self.live().last().map(|span| span.range())
    }

    /// All ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator + '_ {
        self.live().iter().map(|span| span.range())
    }

    /// Number of disjoint ranges, 0..=`N`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No byte is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Total bytes in the set, without a walk over the ranges.
    #[must_use]
    pub fn covered_bytes(&self) -> u64 {
        self.covered_bytes
    }

    /// The byte at `offset` is in the set.
    #[must_use]
    pub fn contains(&self, offset: u64) -> bool {
        self.enclosing(offset).is_some()
    }

    /// Every byte of `range` is in the set. True for an empty range.
    #[must_use]
    pub fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .enclosing(range.start)
                .is_some_and(|held| range.end <= held.end)
    }

    /// At least one byte of `range` is in the set.
    #[must_use]
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        let next = self.live().partition_point(|span| span.end <= range.start);
        !range.is_empty()
            && self
                .live()
                .get(next)
                .is_some_and(|span| span.start < range.end)
    }

    /// The whole held range around `offset`: the SACK block of the segment that just arrived there, or the
    /// second block of a DSACK (RFC 2883 4.2).
    #[must_use]
    pub fn enclosing(&self, offset: u64) -> Option<Range<u64>> {
        let next = self.live().partition_point(|span| span.end <= offset);
        self.live()
            .get(next)
            .filter(|span| span.start <= offset)
            .map(|span| span.range())
    }

    /// The parts of `range` that are not in the set, ascending, without copying anything.
    pub fn missing(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.live().partition_point(|span| span.end <= range.start);
        let mut held = self.live()[from..].iter();
        let mut at = range.start;
        core::iter::from_fn(move || {
            while at < range.end {
                let (gap_end, resume) = match held.next() {
                    Some(span) if span.start < range.end => (span.start, span.end),
                    _ => (range.end, range.end),
                };
                let gap = at..gap_end;
                at = resume;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    fn live(&self) -> &[Span] {
        &self.spans[..self.len]
    }

    fn insert_at(&mut self, index: usize, span: Span) -> Result<(), Full> {
        if self.len == N {
            return Err(Full);
        }
        self.spans.copy_within(index..self.len, index + 1);
        self.spans[index] = span;
        self.len += 1;
        self.covered_bytes += span.end - span.start;
        Ok(())
    }
}

impl<const N: usize> Default for RangeSet<N> {
    fn default() -> Self {
        RangeSet::new()
    }
}

/// By content: entries behind `len` are leftovers.
impl<const N: usize> PartialEq for RangeSet<N> {
    fn eq(&self, other: &Self) -> bool {
        self.live() == other.live()
    }
}

impl<const N: usize> Eq for RangeSet<N> {}

impl<const N: usize> fmt::Debug for RangeSet<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The parts of an inserted range that were new: at most `N + 1` (before, between and behind `N` ranges).
///
/// Also an iterator over them, ascending.
#[derive(Clone)]
pub struct Pieces<const N: usize> {
    // `[Span; N + 1]` cannot be written on stable Rust; the piece behind the last held range lives apart.
    spans: [Span; N],
    overflow: Span,
    next: usize,
    len: usize,
}

impl<const N: usize> Pieces<N> {
    /// Nothing was new.
    pub(crate) const fn new() -> Pieces<N> {
        Pieces {
            spans: [EMPTY; N],
            overflow: EMPTY,
            next: 0,
            len: 0,
        }
    }

    /// All of `range`, which is not empty, was new.
    pub(crate) fn whole(range: Range<u64>) -> Pieces<N> {
        let mut pieces = Pieces::new();
        pieces.push(range);
        pieces
    }

    fn push(&mut self, range: Range<u64>) {
        *self.spans.get_mut(self.len).unwrap_or(&mut self.overflow) = Span {
            start: range.start,
            end: range.end,
        };
        self.len += 1;
    }

    /// Total new bytes among the pieces not yet taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.clone().map(|piece| piece.end - piece.start).sum()
    }

    /// Nothing (left) was new.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == self.len
    }
}

/// No pieces.
impl<const N: usize> Default for Pieces<N> {
    fn default() -> Self {
        Pieces::new()
    }
}

impl<const N: usize> Iterator for Pieces<N> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.next == self.len {
            return None;
        }
        let span = self.spans.get(self.next).copied().unwrap_or(self.overflow);
        self.next += 1;
        Some(span.range())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.next;
        (left, Some(left))
    }
}

impl<const N: usize> ExactSizeIterator for Pieces<N> {}

impl<const N: usize> fmt::Debug for Pieces<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests;
