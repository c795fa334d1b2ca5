//! Timers: one deadline per id, everything O(1), nothing allocated after construction.
//!
//! A hierarchical wheel (Varghese and Lauck 1987): nine levels of 64 slots over ticks of 2 us span the whole
//! range of [`Instant`], so no deadline is too far away to be stored, and release times of the pacer, some
//! tens of microseconds apart, keep their order and their distance. A timer lies at the level of the
//! highest base-64 digit in which its tick differs from `elapsed`, in the slot named by that digit. Hence the
//! invariant that makes everything else short: **every timer of a lower level is due before any timer of a
//! higher level**, and within a level slots come due in ascending order. When time enters a slot of a higher
//! level, its timers move down (cascade), at most eight times in their life and in bounded portions.
//! Timers never fire early, and at most one tick late if the caller calls [`TimerWheel::pop_expired`] then.

use core::fmt;

use crate::clock::Instant;

/// log2 of the nanoseconds in a tick: 2,048 ns.
const TICK_SHIFT: u32 = 11;
/// log2 of the slots of a level.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const DIGIT_MASK: u64 = 0x3f;
/// 64 bits of nanoseconds are 53 bits of ticks, and rounding up may take one more: nine base-64 digits.
const LEVELS: usize = 9;
/// Timers moved down by one call of [`TimerWheel::pop_expired`], each with up to three cache misses: some
/// 60 us if all are cold. A slot of the fifth level holds 34 s of deadlines, and with a million idle
/// connections in it one uninterrupted cascade would stop the loop for 100 ms.
/// Tests use a small portion, so that every one of them meets unfinished cascades.
const CASCADE_MAX: u32 = if cfg!(test) { 3 } else { 512 };
/// End of a list, and the largest id is below it.
const NONE: u32 = u32::MAX;
/// `Node::list` of an idle timer.
const IDLE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    /// When to fire, rounded up to a whole tick.
    tick: u64,
    next: u32,
    /// Not meaningful for the first of a list.
    previous: u32,
    /// `level * SLOTS + slot`, or `IDLE`.
    list: u32,
}

/// Timers for the ids `0..capacity`. See the module documentation.
pub struct TimerWheel {
    nodes: Box<[Node]>,
    heads: [u32; LEVELS * SLOTS],
    /// One bit per slot: its list is not empty.
    occupied: [u64; LEVELS],
    /// Everything due up to and including this tick has been handed out, or waits in the level-0 slot of
    /// this tick or in `cascading`.
    elapsed: u64,
    /// A slot that time has entered and that is not yet empty.
    cascading: Option<u32>,
    scheduled: u32,
}

impl TimerWheel {
    /// A wheel for the ids `0..capacity` whose time begins at `start`. Memory: 24 bytes per id plus 2.3 KiB.
    #[must_use]
    pub fn new(capacity: u32, start: Instant) -> TimerWheel {
        let idle = Node {
            tick: 0,
            next: NONE,
            previous: NONE,
            list: IDLE,
        };
        TimerWheel {
            nodes: vec![idle; capacity as usize].into_boxed_slice(),
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            elapsed: start.as_nanos() >> TICK_SHIFT,
            cascading: None,
            scheduled: 0,
        }
    }

    /// Arms the timer `id` for `at`, replacing an earlier deadline. A deadline that has passed fires at the
    /// next [`pop_expired`](Self::pop_expired).
    ///
    /// # Panics
    /// If `id` is not below the capacity: ids are handed out by the owner of the wheel, never by a peer.
    pub fn schedule(&mut self, id: u32, at: Instant) {
        let tick = at.as_nanos().div_ceil(1 << TICK_SHIFT);
        let node = &self.nodes[id as usize];
        if node.list != IDLE {
            if node.tick == tick {
                return;
            }
            self.unlink(id);
        }
        self.link(id, tick);
    }

    /// Disarms the timer `id`; true if it was armed.
    ///
    /// # Panics
    /// If `id` is not below the capacity.
    pub fn cancel(&mut self, id: u32) -> bool {
        let armed = self.is_scheduled(id);
        if armed {
            self.unlink(id);
        }
        armed
    }

    /// The timer `id` is armed and has not fired.
    ///
    /// # Panics
    /// If `id` is not below the capacity.
    #[must_use]
    pub fn is_scheduled(&self, id: u32) -> bool {
        self.nodes[id as usize].list != IDLE
    }

    /// When the timer `id` is going to fire (its deadline, rounded up to a tick), if it is armed.
    ///
    /// # Panics
    /// If `id` is not below the capacity.
    #[must_use]
    pub fn deadline(&self, id: u32) -> Option<Instant> {
        let node = &self.nodes[id as usize];
        (node.list != IDLE).then(|| instant_of(node.tick))
    }

    /// Number of armed timers.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.scheduled
    }

    /// No timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// When to call [`pop_expired`](Self::pop_expired) next; `None` if no timer is armed.
    ///
    /// Never later than the earliest timer. It is exact for timers within the current 131 us; for others it
    /// may be the moment at which they have to cascade, up to eight idle calls in the life of a timer.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.cascading.is_some() {
            return Some(instant_of(self.elapsed));
        }
        self.next_slot().map(|(_, tick)| instant_of(tick))
    }

    /// Disarms and returns one timer that is due at `now`; call it until `None`.
    ///
    /// Order: by tick, unspecified within one; what was armed in the past comes first. `None` can also mean that a portion of cascading is done and
    /// more is left; [`next_deadline`](Self::next_deadline) is not in the future then, so a loop that sleeps
    /// until that deadline does not sleep. A caller who arms timers in the past from inside his loop over
    /// this method has to bound that loop himself. `now` may repeat; an earlier one finds nothing due.
    pub fn pop_expired(&mut self, now: Instant) -> Option<u32> {
        let now_tick = now.as_nanos() >> TICK_SHIFT;
        let mut moves_left = CASCADE_MAX;
        loop {
            if let Some(list) = self.cascading {
                if !self.cascade(list, &mut moves_left) {
                    return None;
                }
                self.cascading = None;
            }
            match self.next_slot() {
                Some((list, tick)) if tick <= now_tick => {
                    self.elapsed = tick;
                    if level_of(list) == 0 {
                        let id = self.heads[list as usize];
                        self.unlink(id);
                        return Some(id);
                    }
                    self.cascading = Some(list);
                }
                _ => {
                    self.elapsed = self.elapsed.max(now_tick);
                    return None;
                }
            }
        }
    }

    /// The first slot that comes due, and the tick at which it begins. The current slot of level 0 counts:
    /// what was armed in the past waits there. (By the invariant no other slot at or before the current one
    /// of its level is occupied, except while cascading.)
    fn next_slot(&self) -> Option<(u32, u64)> {
        let (level, slots) = (0u32..).zip(self.occupied).find(|&(_, slots)| slots != 0)?;
        let slot = slots.trailing_zeros();
        let shift = level * DIGIT_BITS;
        let above = self.elapsed >> shift & !DIGIT_MASK;
        Some((list_of(level, slot), (above | u64::from(slot)) << shift))
    }

    /// Moves timers of `list` to where they belong now; true once it is empty.
    fn cascade(&mut self, list: u32, moves_left: &mut u32) -> bool {
        loop {
            let id = self.heads[list as usize];
            if id == NONE {
                return true;
            }
            if *moves_left == 0 {
                return false;
            }
            *moves_left -= 1;
            let tick = self.nodes[id as usize].tick;
            self.unlink(id);
            self.link(id, tick);
        }
    }

    fn link(&mut self, id: u32, tick: u64) {
        let due = tick.max(self.elapsed);
        // The mask, because equal ticks belong to level 0 like those that differ in the lowest digit only.
        let level = (due ^ self.elapsed | DIGIT_MASK).ilog2() / DIGIT_BITS;
        let slot = (due >> (level * DIGIT_BITS) & DIGIT_MASK) as u32;
        let list = list_of(level, slot);
        let head = self.heads[list as usize];
        self.nodes[id as usize] = Node {
            tick,
            next: head,
            previous: NONE,
            list,
        };
        if head != NONE {
            self.nodes[head as usize].previous = id;
        }
        self.heads[list as usize] = id;
        self.occupied[level as usize] |= 1 << slot;
        self.scheduled += 1;
    }

    fn unlink(&mut self, id: u32) {
        let Node {
            next,
            previous,
            list,
            ..
        } = self.nodes[id as usize];
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if self.heads[list as usize] == id {
            self.heads[list as usize] = next;
            if next == NONE {
                self.occupied[level_of(list) as usize] &= !(1 << (u64::from(list) & DIGIT_MASK));
            }
        } else {
            self.nodes[previous as usize].next = next;
        }
        self.nodes[id as usize].list = IDLE;
        self.scheduled -= 1;
    }
}

impl fmt::Debug for TimerWheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerWheel")
            .field("capacity", &self.nodes.len())
            .field("scheduled", &self.scheduled)
            .field("next_deadline", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

fn list_of(level: u32, slot: u32) -> u32 {
    level << DIGIT_BITS | slot
}

fn level_of(list: u32) -> u32 {
    list >> DIGIT_BITS
}

/// Begin of the tick; for a deadline in the last tick of the clock, the end of the clock.
fn instant_of(tick: u64) -> Instant {
    Instant::from_nanos(tick.saturating_mul(1 << TICK_SHIFT))
}

#[cfg(test)]
mod tests;
