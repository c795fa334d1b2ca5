//! Which connections have something to send or to say, and whose turn it is.
//!
//! Sending is deficit round robin with the two lists of FQ-CoDel (RFC 8290 section 4.1). A connection that has nothing in
//! flight when it gets something to send comes to the list of *new* ones, which has the right of way: an answer of some
//! segments does not wait for a turn of every bulk flow. Who uses up a turn there goes on in the list of *old* ones, and so
//! does who sent anything at all while others are waiting there: it has to go round once before it is new again, or many
//! with a little each would starve the others (section 4.2).
//!
//! A slot is in each queue at most once: [`Queued`] of the slot says in which. It may be in one although its
//! connection is gone or has nothing any more; who takes it out finds that out.

use std::collections::VecDeque;

/// Segments one connection may send before the next has its turn: what a driver can join to one super-segment of
/// 64 KiB, 45 of 1,448 bytes. It keeps a flow's state in cache for a burst (the quantum of deficit round robin).
const TURN_SEGMENTS: u32 = 45;

/// In which queues a slot is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queued {
    transmit: bool,
    events: bool,
}

impl Queued {
    /// It waits for its turn to send.
    pub(crate) fn for_transmit(self) -> bool {
        self.transmit
    }
}

/// Slots in the order of their turns, and what is left of the first one's.
#[derive(Debug)]
struct Line {
    slots: VecDeque<u32>,
    turn_left: u32,
}

impl Line {
    fn new(capacity: usize) -> Self {
        Line {
            slots: VecDeque::with_capacity(capacity),
            turn_left: TURN_SEGMENTS,
        }
    }

    /// The turn of the first is over, and it leaves.
    fn pop(&mut self) -> Option<u32> {
        self.turn_left = TURN_SEGMENTS;
        self.slots.pop_front()
    }
}

/// The queues of one worker.
#[derive(Debug)]
pub(crate) struct Queues {
    new: Line,
    old: Line,
    events: VecDeque<u32>,
}

impl Queues {
    /// For slots below `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Queues {
            new: Line::new(capacity),
            old: Line::new(capacity),
            events: VecDeque::with_capacity(capacity),
        }
    }

    /// `slot` may have something to send; `is_new` if it has nothing in flight.
    pub(crate) fn want_transmit(&mut self, slot: u32, is_new: bool, queued: &mut Queued) {
        if core::mem::replace(&mut queued.transmit, true) {
            return;
        }
        let line = if is_new { &mut self.new } else { &mut self.old };
        line.slots.push_back(slot);
    }

    /// Whose turn it is to send.
    pub(crate) fn transmitter(&self) -> Option<u32> {
        self.serving().slots.front().copied()
    }

    /// Whether anyone may have something to send.
    pub(crate) fn wants_transmit(&self) -> bool {
        self.transmitter().is_some()
    }

    /// Segments that the one whose turn it is may still send in it, at least 1.
    pub(crate) fn turn_left(&self) -> u32 {
        self.serving().turn_left
    }

    /// The one whose turn it is has sent so many segments, at most [`Self::turn_left`].
    pub(crate) fn take_turn(&mut self, segments: u32) {
        let line = self.serving_mut();
        line.turn_left = line.turn_left.saturating_sub(segments);
        if line.turn_left == 0
            && let Some(slot) = line.pop()
        {
            self.old.slots.push_back(slot);
        }
    }

    /// The one whose turn it is has nothing more to send; `queued` is of its slot.
    pub(crate) fn end_turn(&mut self, queued: &mut Queued) {
        let has_sent = self.new.turn_left < TURN_SEGMENTS;
        let goes_round = self.is_serving_new() && has_sent && !self.old.slots.is_empty();
        match self.serving_mut().pop() {
            Some(slot) if goes_round => self.old.slots.push_back(slot),
            _ => queued.transmit = false,
        }
    }

    fn is_serving_new(&self) -> bool {
        !self.new.slots.is_empty()
    }

    fn serving(&self) -> &Line {
        if self.is_serving_new() {
            &self.new
        } else {
            &self.old
        }
    }

    fn serving_mut(&mut self) -> &mut Line {
        if self.is_serving_new() {
            &mut self.new
        } else {
            &mut self.old
        }
    }

    /// The connection in `slot` has events.
    pub(crate) fn announce(&mut self, slot: u32, queued: &mut Queued) {
        if !core::mem::replace(&mut queued.events, true) {
            self.events.push_back(slot);
        }
    }

    /// The next slot whose connection has events; [`Self::heard`] follows.
    pub(crate) fn next_event(&mut self) -> Option<u32> {
        self.events.pop_front()
    }

    /// The events of a slot that [`Self::next_event`] gave were taken.
    pub(crate) fn heard(queued: &mut Queued) {
        queued.events = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots from 0 on, of which those that are `new` have nothing in flight.
    fn queues<const N: usize>(new: [bool; N]) -> (Queues, [Queued; N]) {
        let mut queues = Queues::new(N);
        let mut queued = [Queued::default(); N];
        for ((slot, queued), is_new) in (0..).zip(&mut queued).zip(new) {
            queues.want_transmit(slot, is_new, queued);
        }
        (queues, queued)
    }

    #[test]
    fn a_slot_is_queued_once_until_its_turn_ends() {
        let mut queues = Queues::new(2);
        let mut queued = Queued::default();
        queues.want_transmit(1, true, &mut queued);
        queues.want_transmit(1, false, &mut queued);
        assert!(queued.for_transmit());
        queues.end_turn(&mut queued);
        assert!(!queues.wants_transmit() && !queued.for_transmit());
    }

    #[test]
    fn the_turn_goes_round_after_a_super_segment() {
        for is_new in [false, true] {
            let (mut queues, _) = queues([is_new; 2]);
            for slot in [0, 1] {
                for _ in 0..TURN_SEGMENTS {
                    assert_eq!(queues.transmitter(), Some(slot));
                    queues.take_turn(1);
                }
            }
            assert_eq!(queues.transmitter(), Some(0));
            queues.take_turn(2);
            assert_eq!(queues.turn_left(), TURN_SEGMENTS - 2);
            queues.take_turn(TURN_SEGMENTS - 2);
            assert_eq!(queues.transmitter(), Some(1));
        }
    }

    #[test]
    fn who_has_nothing_in_flight_comes_first_and_takes_nothing_of_the_turn_it_interrupts() {
        let (mut queues, mut queued) = queues([false, false]);
        queues.take_turn(5);
        let mut late = Queued::default();
        queues.want_transmit(7, true, &mut late);
        let turn = |queues: &Queues| (queues.transmitter(), queues.turn_left());
        assert_eq!(turn(&queues), (Some(7), TURN_SEGMENTS));
        queues.take_turn(3);
        queues.end_turn(&mut late);
        assert_eq!(turn(&queues), (Some(0), TURN_SEGMENTS - 5));
        queues.end_turn(&mut queued[0]);
        assert_eq!(turn(&queues), (Some(1), TURN_SEGMENTS));
    }

    /// RFC 8290 section 4.2.
    #[test]
    fn who_was_new_and_sent_goes_round_once_before_it_is_new_again() {
        let (mut queues, mut queued) = queues([true, false]);
        queues.take_turn(3);
        queues.end_turn(&mut queued[0]);
        assert!(queued[0].for_transmit());
        queues.want_transmit(0, true, &mut queued[0]);
        assert_eq!(queues.transmitter(), Some(1));
        queues.take_turn(TURN_SEGMENTS);
        assert_eq!(queues.transmitter(), Some(0));
        queues.end_turn(&mut queued[0]);
        assert!(!queued[0].for_transmit());
        queues.want_transmit(0, true, &mut queued[0]);
        assert_eq!(queues.transmitter(), Some(0));
    }

    #[test]
    fn who_sends_nothing_or_keeps_nobody_waiting_need_not_go_round() {
        let (mut with_others, mut queued) = queues([true, false]);
        with_others.end_turn(&mut queued[0]);
        assert!(!queued[0].for_transmit());
        let (mut alone, mut queued) = queues([true, true]);
        alone.take_turn(3);
        alone.end_turn(&mut queued[0]);
        assert!(!queued[0].for_transmit());
    }

    /// However many there are with a little each, all the time, a flow in the middle of its data has its share.
    #[test]
    fn new_ones_without_end_do_not_starve_an_old_one() {
        let (mut queues, mut queued) = queues([true, true, true, false]);
        let mut turns = [0; 4];
        for _ in 0..40 {
            let slot = queues.transmitter().expect("somebody always waits");
            let at = usize::try_from(slot).expect("four of them");
            turns[at] += 1;
            if slot == 3 {
                queues.take_turn(TURN_SEGMENTS);
                continue;
            }
            queues.take_turn(3);
            queues.end_turn(&mut queued[at]);
            queues.want_transmit(slot, true, &mut queued[at]);
        }
        assert!(turns[3] >= 5, "{turns:?}");
    }

    #[test]
    fn events_are_announced_once_until_they_are_heard() {
        let mut queues = Queues::new(1);
        let mut queued = Queued::default();
        queues.announce(0, &mut queued);
        queues.announce(0, &mut queued);
        assert_eq!(queues.next_event(), Some(0));
        assert_eq!(queues.next_event(), None);
        Queues::heard(&mut queued);
        queues.announce(0, &mut queued);
        assert_eq!(queues.next_event(), Some(0));
    }
}
