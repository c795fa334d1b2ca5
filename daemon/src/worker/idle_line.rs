//! Room for new clients: while every connection slot is taken, the connection that has been idle for longest makes room.
//!
//! A server may close a kept connection at any time (RFC 9112 section 9.5), and who hoards them (NAPTHA) shall not keep
//! others out. Connections with a request or a response under way are never touched; where all are busy, new SYNs are
//! dropped and come again. Connections stand in line in the order in which they became idle: a list through the slots, so
//! that joining and leaving cost the same however many there are.

use core::time::Duration;

use sluice_tcp::ConnId;
use sluice_tcp::clock::Instant;

use super::Worker;
use crate::exchange::Exchange;

/// Idle for less than this, a connection is left alone: its client has just come, or reads what it got.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// Of [`IdleLine`]: no neighbour.
const NONE: u32 = u32::MAX;

/// A place in line.
#[derive(Clone, Copy)]
struct Place {
    before: u32,
    behind: u32,
    stands: bool,
}

/// Idle connections by slot, the one that became idle first at the front.
pub(super) struct IdleLine {
    places: Box<[Place]>,
    front: u32,
    back: u32,
    /// The connection that makes room, until its slot is free.
    evicting: Option<ConnId>,
}

impl IdleLine {
    pub(super) fn new(slots: usize) -> IdleLine {
        let nowhere = Place {
            before: NONE,
            behind: NONE,
            stands: false,
        };
        IdleLine {
            places: vec![nowhere; slots].into_boxed_slice(),
            front: NONE,
            back: NONE,
            evicting: None,
        }
    }

    /// The slot at the front.
    fn front(&self) -> Option<usize> {
        let slot = self.front as usize;
        (slot < self.places.len()).then_some(slot)
    }

    /// Puts the connection of a slot at the end of the line, unless it stands in it.
    fn join(&mut self, slot: usize) {
        let Ok(name) = u32::try_from(slot) else {
            return;
        };
        if self.places[slot].stands {
            return;
        }
        self.places[slot] = Place {
            before: self.back,
            behind: NONE,
            stands: true,
        };
        match self.places.get_mut(self.back as usize) {
            Some(last) => last.behind = name,
            None => self.front = name,
        }
        self.back = name;
    }

    /// Takes the connection of a slot out of the line, if it stands in it.
    pub(super) fn leave(&mut self, slot: usize) {
        let place = self.places[slot];
        if !core::mem::replace(&mut self.places[slot].stands, false) {
            return;
        }
        match self.places.get_mut(place.before as usize) {
            Some(before) => before.behind = place.behind,
            None => self.front = place.behind,
        }
        match self.places.get_mut(place.behind as usize) {
            Some(behind) => behind.before = place.before,
            None => self.back = place.before,
        }
    }
}

impl Worker {
    /// Notes whether a connection is idle now.
    pub(super) fn note_idle(&mut self, conn: ConnId) {
        let slot = conn.slot();
        match &self.exchanges[slot] {
            Some(exchange) if exchange.is_idle() => self.idle_line.join(slot),
            _ => self.idle_line.leave(slot),
        }
    }

    /// Resets the connection that has been idle for longest if no slot is free, and no other before that one is gone: its
    /// reset may have to wait for a place in the ring.
    pub(super) fn make_room(&mut self, now: Instant) {
        if self.stack.has_room() || self.is_evicting() {
            return;
        }
        while let Some(slot) = self.idle_line.front() {
            // None: bytes of a request have come since, out of order.
            let idle_since = self.exchanges[slot].as_ref().and_then(Exchange::idle_since);
            if idle_since.is_some_and(|since| now.saturating_since(since) < IDLE_MIN) {
                return;
            }
            self.idle_line.leave(slot);
            if idle_since.is_some()
                && let Some(conn) = self.stack.at_slot(slot)
            {
                self.services.counters.idle_evicted += 1;
                self.give_up(conn);
                self.idle_line.evicting = Some(conn);
                return;
            }
        }
    }

    fn is_evicting(&mut self) -> bool {
        let stack = &self.stack;
        let evicting = &mut self.idle_line.evicting;
        evicting.take_if(|conn| stack.state(*conn).is_none());
        evicting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(slots: &[usize]) -> IdleLine {
        let mut line = IdleLine::new(8);
        for &slot in slots {
            line.join(slot);
        }
        line
    }

    fn drained(mut line: IdleLine) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some(slot) = line.front() {
            order.push(slot);
            line.leave(slot);
        }
        order
    }

    #[test]
    fn who_came_first_stands_in_front() {
        assert_eq!(drained(line_of(&[3, 1, 7, 0])), [3, 1, 7, 0]);
    }

    #[test]
    fn who_leaves_closes_the_gap_at_the_front_in_the_middle_and_at_the_end() {
        for gone in [3, 1, 0] {
            let mut line = line_of(&[3, 1, 0]);
            line.leave(gone);
            line.leave(gone);
            let left: Vec<usize> = [3, 1, 0].into_iter().filter(|slot| *slot != gone).collect();
            assert_eq!(drained(line), left);
        }
    }

    #[test]
    fn who_stands_in_line_keeps_its_place() {
        let mut line = line_of(&[3, 1]);
        line.join(3);
        assert_eq!(drained(line), [3, 1]);
    }

    #[test]
    fn who_comes_back_stands_at_the_end() {
        let mut line = line_of(&[3, 1]);
        line.leave(3);
        line.join(3);
        assert_eq!(drained(line), [1, 3]);
    }
}
