//! The runs of a record in the order of the sequence and, those in flight, in that in which they left.
//!
//! The second one is what makes a verdict cheap. RACK asks which runs left long enough ago, and for how long the newest
//! of the others has to be waited for; in the order of time the first are a prefix, and the other is found where it was
//! found last (Linux: `tsorted_sent_queue`). So each run is looked at once for each time that it left, however many
//! there are and however often is asked. With two exceptions: an undo, and a peer that reneged, sort all of them anew,
//! O(n log n) each time (there is one for each recovery at most); and what is lost out of the order of the sequence looks
//! for its place among the lost, from both ends at once.
//!
//! What is lost has an order too, that of the sequence: the first is sent again next.
//!
//! A run has a place in memory that it keeps; the order of the sequence is an array of places, in which a binary search
//! finds an offset, and two bytes a run are all that an insertion moves. The other orders are chains through the places,
//! and a run is in one of them at most: SACKed ones and what is held back are in none.

use std::collections::VecDeque;

use super::RUNS_MAX;
use super::run::{Fate, Run};
use crate::clock::Instant;

/// The place of a run in memory.
type Place = u16;
/// No run.
const NONE: Place = Place::MAX;
const _: () = assert!(RUNS_MAX < NONE as usize);

/// A run and its neighbours in its chain; of a place that is free, `after` is the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    run: Run,
    before: Place,
    after: Place,
}

/// The ends of a chain, which ascends by [`Run::rank`].
#[derive(Clone, Copy, Debug)]
struct Chain {
    first: Place,
    last: Place,
}

impl Chain {
    const EMPTY: Chain = Chain {
        first: NONE,
        last: NONE,
    };
}

/// Which chain a run is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InFlight,
    Lost,
}

const KINDS: usize = 2;

/// See the module documentation. Indices are positions in the sequence.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) nodes: VecDeque<Node>,
    pub(super) order: VecDeque<Place>,
    free: Place,
    chains: [Chain; KINDS],
    /// Where [`Self::newest_before`] was last.
    edge: Place,
    sacked: usize,
    /// Runs that were looked at.
    #[cfg(test)]
    pub(super) looks: core::cell::Cell<usize>,
}

impl Board {
    pub(super) fn new() -> Board {
        Board {
            nodes: VecDeque::new(),
            order: VecDeque::new(),
            free: NONE,
            chains: [Chain::EMPTY; KINDS],
            edge: NONE,
            sacked: 0,
            #[cfg(test)]
            looks: core::cell::Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Runs for which there is memory.
    pub(super) fn capacity(&self) -> usize {
        let capacity = self.nodes.capacity().min(self.order.capacity());
        capacity.min(RUNS_MAX)
    }

    /// How many runs are SACKed.
    pub(super) fn sacked(&self) -> usize {
        self.sacked
    }

    fn node(&self, place: Place) -> &Node {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        &self.nodes[usize::from(place)]
    }

    fn node_mut(&mut self, place: Place) -> &mut Node {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        &mut self.nodes[usize::from(place)]
    }

    pub(super) fn get(&self, index: usize) -> Option<&Run> {
        self.order.get(index).map(|&place| &self.node(place).run)
    }

    pub(super) fn front(&self) -> Option<&Run> {
        self.get(0)
    }

    pub(super) fn back(&self) -> Option<&Run> {
        self.order.back().map(|&place| &self.node(place).run)
    }

    /// In the order of the sequence.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Run> + ExactSizeIterator {
        self.order.iter().map(|&place| &self.node(place).run)
    }

    /// Index of the run that holds `offset`, or of the end.
    pub(super) fn index_at(&self, offset: u64) -> usize {
        self.order
            .partition_point(|&place| self.node(place).run.end <= offset)
    }

    /// The run that left first of those in flight, and its index.
    pub(super) fn oldest(&self) -> Option<(usize, Run)> {
        self.first_of(Kind::InFlight)
    }

    /// The first run that is lost, and its index.
    pub(super) fn first_lost(&self) -> Option<(usize, Run)> {
        self.first_of(Kind::Lost)
    }

    fn first_of(&self, kind: Kind) -> Option<(usize, Run)> {
        let first = self.chain(kind).first;
        if first == NONE {
            return None;
        }
        let run = self.node(first).run;
        Some((self.index_at(run.end - 1), run))
    }

    /// The run that left last of those in flight that left before `limit`: the time, and where times are equal the end.
    /// Cheap if limits ascend.
    pub(super) fn newest_before(&mut self, limit: (Instant, u64)) -> Option<Run> {
        while self.edge != NONE && self.node(self.edge).run.rank() >= limit {
            self.edge = self.node(self.edge).before;
        }
        loop {
            let next = match self.edge {
                NONE => self.chain(Kind::InFlight).first,
                edge => self.node(edge).after,
            };
            if next == NONE || self.node(next).run.rank() >= limit {
                break;
            }
            self.edge = next;
        }
        (self.edge != NONE).then(|| self.node(self.edge).run)
    }

    /// A run behind all others. There is room for it.
    pub(super) fn push_back(&mut self, run: Run) {
        let place = self.take_place(run);
        self.order.push_back(place);
        self.enter(place);
    }

    /// Cuts the run at `index`: up to `offset`, which it holds, and from there on. There is room for it.
    pub(super) fn split(&mut self, index: usize, offset: u64) {
        let upper = self.order[index];
        let lower = self.take_place(Run {
            end: offset,
            ..self.node(upper).run
        });
        self.order.insert(index, lower);
        self.count(lower);
        if let Some(kind) = self.node(lower).run.kind() {
            // Of what left at one moment the lower part left first.
            let before = self.node(upper).before;
            self.link(kind, before, lower);
            self.link(kind, lower, upper);
        }
    }

    /// Changes the run at `index`.
    pub(super) fn update(&mut self, index: usize, change: impl FnOnce(&mut Run)) {
        let place = self.order[index];
        self.leave(place);
        change(&mut self.node_mut(place).run);
        self.enter(place);
    }

    /// The last run becomes one with what left behind it, later than anything else.
    pub(super) fn extend_last(&mut self, run: &Run) {
        let Some(&place) = self.order.back() else {
            return;
        };
        if place == self.chain(Kind::InFlight).last {
            self.node_mut(place).run.join(run);
        } else {
            self.leave(place);
            self.node_mut(place).run.join(run);
            self.enter(place);
        }
    }

    pub(super) fn pop_front(&mut self) {
        if let Some(place) = self.order.pop_front() {
            self.leave(place);
            self.give_place(place);
        }
    }

    pub(super) fn pop_back(&mut self) {
        if let Some(place) = self.order.pop_back() {
            self.leave(place);
            self.give_place(place);
        }
    }

    /// Merges neighbours in `from..to` that `joins` says can become one: the lower one never left later.
    pub(super) fn fold(&mut self, from: usize, to: usize, joins: impl Fn(&Run, &Run) -> bool) {
        let mut kept = from;
        for index in from + 1..to {
            let (lower, upper) = (self.order[kept], self.order[index]);
            let mut run = self.node(lower).run;
            if joins(&run, &self.node(upper).run) {
                run.join(&self.node(upper).run);
                // It has the end and the time of the upper one, and so its rank.
                self.leave(lower);
                self.give_place(lower);
                self.node_mut(upper).run = run;
            } else {
                kept += 1;
            }
            self.order[kept] = upper;
        }
        if kept + 1 < to {
            self.order.drain(kept + 1..to);
        }
    }

    /// Merges each second run with the one before it if both have one fate, whenever they left.
    pub(super) fn halve(&mut self) {
        let (mut kept, mut index) = (0, 0);
        while let Some(&place) = self.order.get(index) {
            index += 1;
            self.order[kept] = place;
            kept += 1;
            if let Some(&next) = self.order.get(index)
                && self.node(place).run.is_like(&self.node(next).run)
            {
                let other = self.node(next).run;
                self.node_mut(place).run.join(&other);
                self.give_place(next);
                index += 1;
            }
        }
        self.order.truncate(kept);
        self.sort();
    }

    /// What is in flight in the order of time, and what is lost in that of the sequence.
    #[cfg(test)]
    pub(super) fn chained(&self) -> [Vec<Run>; KINDS] {
        [Kind::InFlight, Kind::Lost].map(|kind| self.runs_of(kind))
    }

    #[cfg(test)]
    fn runs_of(&self, kind: Kind) -> Vec<Run> {
        let mut runs = Vec::new();
        let Chain { first, last } = self.chains[kind as usize];
        let (mut before, mut place) = (NONE, first);
        while place != NONE {
            let node = self.node(place);
            assert_eq!(node.before, before, "both ways");
            runs.push(node.run);
            (before, place) = (place, node.after);
        }
        assert_eq!(last, before);
        runs
    }

    /// What has the fate `fate` is in flight, or if it never left lost: for in flight it would be in no chain.
    pub(super) fn replace(&mut self, fate: Fate) {
        for index in 0..self.order.len() {
            let place = self.order[index];
            let run = &mut self.node_mut(place).run;
            if run.fate == fate {
                run.fate = if run.never_left() {
                    Fate::Lost
                } else {
                    Fate::InFlight
                };
            }
        }
        self.sort();
    }

    /// Nothing is in it, and its memory is the caller's.
    pub(super) fn take(&mut self) -> (VecDeque<Node>, VecDeque<Place>) {
        let Board { nodes, order, .. } = core::mem::replace(self, Board::new());
        (nodes, order)
    }

    fn take_place(&mut self, run: Run) -> Place {
        let node = Node {
            run,
            before: NONE,
            after: NONE,
        };
        let place = self.free;
        if place == NONE {
            self.nodes.push_back(node);
            // Fewer than NONE: see RUNS_MAX.
            return Place::try_from(self.nodes.len() - 1).unwrap_or(NONE);
        }
        self.free = self.node(place).after;
        *self.node_mut(place) = node;
        place
    }

    fn give_place(&mut self, place: Place) {
        self.node_mut(place).after = self.free;
        self.free = place;
    }

    fn count(&mut self, place: Place) {
        self.sacked += usize::from(self.node(place).run.fate == Fate::Sacked);
    }

    /// What is at `place` counts, and is put into its chain: what left behind all others at the end. It is looked for from
    /// both ends, because what is lost again was sent again first, and so is near the begin.
    fn enter(&mut self, place: Place) {
        self.count(place);
        let run = self.node(place).run;
        let Some(kind) = run.kind() else {
            return;
        };
        let Chain { first, last } = *self.chain(kind);
        let (mut low, mut high) = (first, last);
        let (before, after) = loop {
            if high == NONE {
                break (NONE, NONE);
            }
            if self.node(high).run.rank() <= run.rank() {
                break (high, self.node(high).after);
            }
            if self.node(low).run.rank() > run.rank() {
                break (self.node(low).before, low);
            }
            (low, high) = (self.node(low).after, self.node(high).before);
        };
        self.link(kind, before, place);
        self.link(kind, place, after);
    }

    /// The reverse.
    fn leave(&mut self, place: Place) {
        let Node { run, before, after } = *self.node(place);
        self.sacked -= usize::from(run.fate == Fate::Sacked);
        if let Some(kind) = run.kind() {
            self.link(kind, before, after);
            if self.edge == place {
                self.edge = before;
            }
        }
    }

    fn chain(&self, kind: Kind) -> &Chain {
        &self.chains[kind as usize]
    }

    fn link(&mut self, kind: Kind, before: Place, after: Place) {
        match before {
            NONE => self.chains[kind as usize].first = after,
            before => self.node_mut(before).after = after,
        }
        match after {
            NONE => self.chains[kind as usize].last = before,
            after => self.node_mut(after).before = before,
        }
    }

    fn append(&mut self, kind: Kind, place: Place) {
        let last = self.chain(kind).last;
        self.link(kind, last, place);
        self.link(kind, place, NONE);
    }

    /// Makes the chains, and the count of what is SACKed, anew.
    fn sort(&mut self) {
        let mut places = [NONE; RUNS_MAX];
        let mut count = 0;
        (self.chains, self.edge, self.sacked) = ([Chain::EMPTY; KINDS], NONE, 0);
        for index in 0..self.order.len() {
            let place = self.order[index];
            self.count(place);
            match self.node(place).run.kind() {
                Some(Kind::InFlight) => {
                    places[count] = place;
                    count += 1;
                }
                Some(Kind::Lost) => self.append(Kind::Lost, place),
                None => {}
            }
        }
        places[..count].sort_unstable_by_key(|&place| self.node(place).run.rank());
        for &place in &places[..count] {
            self.append(Kind::InFlight, place);
        }
    }
}

impl Run {
    fn kind(&self) -> Option<Kind> {
        match self.fate {
            Fate::InFlight => (!self.never_left()).then_some(Kind::InFlight),
            Fate::Lost => Some(Kind::Lost),
            Fate::Sacked => None,
        }
    }

    /// Its rank in its chain: of what is in flight, RACK_sent_after (RFC 8985 section 6.2).
    fn rank(&self) -> (Instant, u64) {
        match self.fate {
            Fate::InFlight => (self.sent_at, self.end),
            Fate::Lost | Fate::Sacked => (Instant::ZERO, self.end),
        }
    }
}
