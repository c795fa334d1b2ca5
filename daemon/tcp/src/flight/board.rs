//! The runs of a record in two orders: that of the sequence, and, for those in flight, that in which they left.
//!
//! The second one is what makes a verdict cheap. RACK asks which runs left long enough ago, and for how long the newest
//! of the others has to be waited for; in the order of time the first are a prefix, and the other is found where it was
//! found last (Linux: `tsorted_sent_queue`). So each run is looked at once for each time that it left, however many
//! there are and however often is asked.
//!
//! A run has a place in memory that it keeps; the order of the sequence is an array of places, in which a binary search
//! finds an offset, and two bytes a run are all that an insertion moves. The order of time is a list through the places.
//! It holds every run that is in flight and has left: lost ones, SACKed ones and what is held back are not in it.

use std::collections::VecDeque;

use super::run::{Fate, Run};
use super::{NEVER, RUNS_MAX};
use crate::clock::Instant;

/// The place of a run in memory.
type Place = u16;
/// No run.
const NONE: Place = Place::MAX;
const _: () = assert!(RUNS_MAX < NONE as usize);

/// A run and its neighbours in time; of a place that is free, `later` is the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    run: Run,
    sooner: Place,
    later: Place,
}

/// See the module documentation. Indices are positions in the sequence.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) nodes: VecDeque<Node>,
    pub(super) order: VecDeque<Place>,
    free: Place,
    /// The ends of the order of time.
    oldest: Place,
    newest: Place,
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
            oldest: NONE,
            newest: NONE,
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
        if self.oldest == NONE {
            return None;
        }
        let run = self.node(self.oldest).run;
        Some((self.index_at(run.end - 1), run))
    }

    /// The run that left last of those in flight that left before `limit`: the time, and where times are equal the end.
    /// Cheap if limits ascend.
    pub(super) fn newest_before(&mut self, limit: (Instant, u64)) -> Option<Run> {
        while self.edge != NONE && self.node(self.edge).run.left() >= limit {
            self.edge = self.node(self.edge).sooner;
        }
        loop {
            let next = match self.edge {
                NONE => self.oldest,
                edge => self.node(edge).later,
            };
            if next == NONE || self.node(next).run.left() >= limit {
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
        if self.node(lower).run.is_timed() {
            // Of what left at one moment the lower part left first.
            let sooner = self.node(upper).sooner;
            self.link(sooner, lower);
            self.link(lower, upper);
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
        if place == self.newest {
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
                // It has the end and the time of the upper one, and so its place in the order of time.
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
                && self.node(place).run.fate == self.node(next).run.fate
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

    /// What has the fate `fate` is in flight.
    pub(super) fn replace(&mut self, fate: Fate) {
        for &place in &self.order {
            let run = &mut self.nodes[usize::from(place)].run;
            if run.fate == fate {
                run.fate = Fate::InFlight;
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
            sooner: NONE,
            later: NONE,
        };
        let place = self.free;
        if place == NONE {
            self.nodes.push_back(node);
            // Fewer than NONE: see RUNS_MAX.
            return Place::try_from(self.nodes.len() - 1).unwrap_or(NONE);
        }
        self.free = self.node(place).later;
        *self.node_mut(place) = node;
        place
    }

    fn give_place(&mut self, place: Place) {
        self.node_mut(place).later = self.free;
        self.free = place;
    }

    fn count(&mut self, place: Place) {
        self.sacked += usize::from(self.node(place).run.fate == Fate::Sacked);
    }

    /// What is at `place` counts, and has its place in the order of time: mostly the last one.
    fn enter(&mut self, place: Place) {
        self.count(place);
        let run = self.node(place).run;
        if !run.is_timed() {
            return;
        }
        let mut sooner = self.newest;
        while sooner != NONE && self.node(sooner).run.left() > run.left() {
            sooner = self.node(sooner).sooner;
        }
        let later = match sooner {
            NONE => self.oldest,
            sooner => self.node(sooner).later,
        };
        self.link(sooner, place);
        self.link(place, later);
    }

    /// The reverse.
    fn leave(&mut self, place: Place) {
        let Node { run, sooner, later } = *self.node(place);
        self.sacked -= usize::from(run.fate == Fate::Sacked);
        if run.is_timed() {
            self.link(sooner, later);
            if self.edge == place {
                self.edge = sooner;
            }
        }
    }

    fn link(&mut self, sooner: Place, later: Place) {
        match sooner {
            NONE => self.oldest = later,
            sooner => self.node_mut(sooner).later = later,
        }
        match later {
            NONE => self.newest = sooner,
            later => self.node_mut(later).sooner = sooner,
        }
    }

    /// Makes the order of time, and the count of what is SACKed, anew.
    fn sort(&mut self) {
        let mut places = [NONE; RUNS_MAX];
        let mut count = 0;
        self.sacked = 0;
        for index in 0..self.order.len() {
            let place = self.order[index];
            self.count(place);
            if self.node(place).run.is_timed() {
                places[count] = place;
                count += 1;
            }
        }
        places[..count].sort_unstable_by_key(|&place| self.node(place).run.left());
        (self.oldest, self.newest, self.edge) = (NONE, NONE, NONE);
        for &place in &places[..count] {
            let sooner = self.newest;
            self.link(sooner, place);
            self.link(place, NONE);
        }
    }
}

impl Run {
    /// Whether it is in the order of time.
    fn is_timed(&self) -> bool {
        self.fate == Fate::InFlight && self.sent_at != NEVER
    }

    /// Its place in that order (RFC 8985 section 6.2, RACK_sent_after).
    fn left(&self) -> (Instant, u64) {
        (self.sent_at, self.end)
    }
}
