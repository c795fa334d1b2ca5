//! Connections that only rest: before anything is measured each asks once, a few of them at a time, and then stays open.
//!
//! They have the seats behind those that ask. One that fails is opened again; one that the server closes later is lost.

use std::ops::Range;

/// Connections that ask for the first time at the same time: more would be a flood, which servers answer with less care.
const OPENING: usize = 256;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settling {
    seats: Range<usize>,
    /// The next that was never opened.
    next: usize,
    /// That failed and are opened again.
    again: Vec<usize>,
    opening: usize,
    settled: usize,
    lost: usize,
}

impl Settling {
    /// Of so many connections, whose seats begin behind `first`.
    pub fn new(first: usize, count: usize) -> Settling {
        Settling {
            seats: first..first + count,
            next: first,
            again: Vec::new(),
            opening: 0,
            settled: 0,
            lost: 0,
        }
    }

    /// All of them came to rest.
    pub fn is_over(&self) -> bool {
        self.settled == self.seats.len()
    }

    /// Whether it is one of these.
    pub fn owns(&self, seat: usize) -> bool {
        self.seats.contains(&seat)
    }

    /// How many seats there are, those that ask included.
    pub fn seats(&self) -> usize {
        self.seats.end
    }

    /// How many rest now.
    pub fn at_rest(&self) -> usize {
        self.settled - self.lost
    }

    /// How many may be opened now.
    pub fn due(&self) -> usize {
        let left = self.again.len() + (self.seats.end - self.next);
        left.min(OPENING.saturating_sub(self.opening))
    }

    /// One of them.
    pub fn open(&mut self) -> Option<usize> {
        if self.due() == 0 {
            return None;
        }
        let seat = self.again.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.opening += 1;
        Some(seat)
    }

    /// One was answered.
    pub fn settle(&mut self) {
        self.opening -= 1;
        self.settled += 1;
    }

    /// One was not.
    pub fn fail(&mut self, seat: usize) {
        self.opening -= 1;
        self.again.push(seat);
    }

    /// The server closed one that rested.
    pub fn lose(&mut self) {
        self.lost += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_come_to_rest_though_only_some_open_at_a_time() {
        let mut settling = Settling::new(3, 1000);
        let mut seen = vec![false; 1003];
        while !settling.is_over() {
            let batch: Vec<usize> = std::iter::from_fn(|| settling.open()).collect();
            assert!(!batch.is_empty() && batch.len() <= OPENING);
            for seat in batch {
                assert!(settling.owns(seat) && !std::mem::replace(&mut seen[seat], true));
                settling.settle();
            }
        }
        assert_eq!((settling.at_rest(), settling.open()), (1000, None));
        assert!(!settling.owns(2) && !settling.owns(1003));
    }

    #[test]
    fn one_that_fails_is_opened_again_and_one_that_is_closed_is_not() {
        let mut settling = Settling::new(0, 2);
        let first = settling.open().unwrap();
        let second = settling.open().unwrap();
        settling.fail(first);
        settling.settle();
        assert_eq!((settling.due(), settling.open()), (1, Some(first)));
        settling.settle();
        settling.lose();
        assert!(settling.is_over() && settling.due() == 0, "{settling:?}");
        assert_eq!((settling.at_rest(), second), (1, 1));
    }
}
