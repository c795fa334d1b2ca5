//! Which connections have something to send or to say, and whose turn it is.
//!
//! A slot is in each queue at most once: [`Queued`] of the slot says in which. It may be in one although its
//! connection is gone or has nothing any more; who takes it out finds that out.

use std::collections::VecDeque;

/// Segments one connection may send before the next has its turn: what a driver can join to one super-segment of
/// 64 KiB, 45 of 1,448 bytes. It keeps a flow's state in cache for a burst (deficit round robin).
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

/// The queues of one worker.
#[derive(Debug)]
pub(crate) struct Queues {
    transmit: VecDeque<u32>,
    turn_left: u32,
    events: VecDeque<u32>,
}

impl Queues {
    /// For slots below `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Queues {
            transmit: VecDeque::with_capacity(capacity),
            turn_left: TURN_SEGMENTS,
            events: VecDeque::with_capacity(capacity),
        }
    }

    /// `slot` may have something to send.
    pub(crate) fn want_transmit(&mut self, slot: u32, queued: &mut Queued) {
        if !core::mem::replace(&mut queued.transmit, true) {
            self.transmit.push_back(slot);
        }
    }

    /// Whose turn it is to send.
    pub(crate) fn transmitter(&self) -> Option<u32> {
        self.transmit.front().copied()
    }

    /// Whether anyone may have something to send.
    pub(crate) fn wants_transmit(&self) -> bool {
        !self.transmit.is_empty()
    }

    /// Segments that the one whose turn it is may still send in it, at least 1.
    pub(crate) fn turn_left(&self) -> u32 {
        self.turn_left
    }

    /// The one whose turn it is has sent so many segments, at most [`Self::turn_left`].
    pub(crate) fn take_turn(&mut self, segments: u32) {
        self.turn_left = self.turn_left.saturating_sub(segments);
        if self.turn_left == 0 {
            self.turn_left = TURN_SEGMENTS;
            self.transmit.rotate_left(1);
        }
    }

    /// The one whose turn it is has nothing more to send; `queued` is of its slot.
    pub(crate) fn end_turn(&mut self, queued: &mut Queued) {
        self.transmit.pop_front();
        self.turn_left = TURN_SEGMENTS;
        queued.transmit = false;
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

    #[test]
    fn a_slot_is_queued_once_until_its_turn_ends() {
        let mut queues = Queues::new(2);
        let mut queued = Queued::default();
        queues.want_transmit(1, &mut queued);
        queues.want_transmit(1, &mut queued);
        assert!(queued.for_transmit());
        queues.end_turn(&mut queued);
        assert!(!queues.wants_transmit() && !queued.for_transmit());
    }

    #[test]
    fn the_turn_goes_round_after_a_super_segment() {
        let mut queues = Queues::new(2);
        let mut queued = [Queued::default(); 2];
        for (slot, queued) in (0..).zip(&mut queued) {
            queues.want_transmit(slot, queued);
        }
        for _ in 0..TURN_SEGMENTS {
            assert_eq!(queues.transmitter(), Some(0));
            queues.take_turn(1);
        }
        assert_eq!(queues.transmitter(), Some(1));
        queues.take_turn(2);
        assert_eq!(queues.turn_left(), TURN_SEGMENTS - 2);
        queues.take_turn(TURN_SEGMENTS - 2);
        assert_eq!(queues.transmitter(), Some(0));
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
