//! [`RangeSet`] beside a bitmap: the same bytes, and every answer about them.

use core::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use sluice_tcp::ranges::RangeSet;

/// Positions that the bitmap knows.
const POSITIONS: u8 = 96;
/// Few, so that the set is full soon.
const RANGES: usize = 6;
const STEPS_MAX: usize = 400;

#[derive(Arbitrary, Debug)]
enum Op {
    Insert(u8, u8),
    RemoveBelow(u8),
    Clear,
    Ask(u8, u8),
}

struct Twins {
    set: RangeSet<RANGES>,
    bitmap: [bool; POSITIONS as usize],
    /// Added to every position: the arithmetic must hold at both ends of u64.
    base: u64,
}

/// Runs operations on a range set and on its twin.
pub fn ranges(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let at_the_end = bool::arbitrary(&mut input).unwrap_or(false);
    let mut twins = Twins {
        set: RangeSet::new(),
        bitmap: [false; POSITIONS as usize],
        base: if at_the_end {
            u64::MAX - u64::from(POSITIONS)
        } else {
            0
        },
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            return;
        }
        let Ok(op) = Op::arbitrary(&mut input) else {
            return;
        };
        twins.step(&op);
        twins.check();
    }
}

impl Twins {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::Insert(start, len) => self.insert(start % POSITIONS, len),
            Op::RemoveBelow(at) => {
                let at = at % (POSITIONS + 1);
                self.set.remove_below(self.base + u64::from(at));
                self.bitmap[..usize::from(at)].fill(false);
            }
            Op::Clear => {
                self.set.clear();
                self.bitmap.fill(false);
            }
            Op::Ask(start, len) => self.ask(start % POSITIONS, len),
        }
    }

    fn insert(&mut self, start: u8, len: u8) {
        let positions = usize::from(start)..usize::from(end(start, len));
        let runs_before = runs(&self.bitmap);
        let missing = self.missing(positions.clone());
        let mut after = self.bitmap;
        after[positions.clone()].fill(true);
        match self.set.insert(self.offsets(&positions)) {
            Ok(pieces) => {
                assert_eq!(
                    pieces.bytes(),
                    missing.iter().map(|p| p.end - p.start).sum()
                );
                assert_eq!(pieces.is_empty(), missing.is_empty());
                assert_eq!(pieces.collect::<Vec<_>>(), missing);
                self.bitmap = after;
            }
            Err(_) => {
                // Only a new range is refused, and only when all entries are taken.
                assert_eq!(runs_before.len(), RANGES);
                assert!(runs(&after).len() > RANGES);
            }
        }
    }

    fn ask(&self, start: u8, len: u8) {
        let positions = usize::from(start)..usize::from(end(start, len));
        let offsets = self.offsets(&positions);
        let bits = &self.bitmap[positions.clone()];
        assert_eq!(self.set.covers(&offsets), bits.iter().all(|bit| *bit));
        assert_eq!(self.set.overlaps(&offsets), bits.iter().any(|bit| *bit));
        assert_eq!(
            self.set.missing(offsets.clone()).collect::<Vec<_>>(),
            self.missing(positions)
        );
        let held = self.bitmap[usize::from(start)];
        assert_eq!(self.set.contains(offsets.start), held);
        let around = runs(&self.bitmap)
            .into_iter()
            .find(|run| run.contains(&usize::from(start)))
            .map(|run| self.offsets(&run));
        assert_eq!(self.set.enclosing(offsets.start), around);
    }

    fn check(&self) {
        let held: Vec<_> = runs(&self.bitmap)
            .iter()
            .map(|run| self.offsets(run))
            .collect();
        assert_eq!(self.set.iter().collect::<Vec<_>>(), held);
        assert_eq!(self.set.len(), held.len());
        assert_eq!(self.set.is_empty(), held.is_empty());
        assert_eq!(self.set.first().as_ref(), held.first());
        assert_eq!(self.set.last().as_ref(), held.last());
        let bytes = self.bitmap.iter().filter(|bit| **bit).count();
        assert_eq!(self.set.covered_bytes(), bytes as u64);
    }

    fn missing(&self, positions: Range<usize>) -> Vec<Range<u64>> {
        let mut absent = [false; POSITIONS as usize];
        for at in positions {
            absent[at] = !self.bitmap[at];
        }
        runs(&absent).iter().map(|run| self.offsets(run)).collect()
    }

    fn offsets(&self, positions: &Range<usize>) -> Range<u64> {
        self.base + positions.start as u64..self.base + positions.end as u64
    }
}

fn end(start: u8, len: u8) -> u8 {
    start.saturating_add(len % 32).min(POSITIONS)
}

/// Maximal runs of set bits.
fn runs(bitmap: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in bitmap.iter().enumerate().filter(|(_, bit)| **bit) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}
