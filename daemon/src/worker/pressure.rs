//! Block pressure: connections wait for a block while others hold theirs and hardly move.
//!
//! A peer that is slow but reads costs nothing: while its window is closed it holds no block. What is left are peers that
//! let us send and then acknowledge next to nothing. The minimum rate ends them in its own time; while somebody stands
//! in line that is too long, so the table is swept once a second, a part of it per turn, and the holders that took
//! least are reset: no more of them than connections wait, and none that takes a block in [`HOLD`].

use core::time::Duration;

use sluice_tcp::ConnId;
use sluice_tcp::clock::Instant;

use super::Worker;
use crate::exchange::Holding;

/// Time between two sweeps while somebody waits.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a connection may hold blocks, while others wait, without taking [`HOLD_BYTES`].
const HOLD: Duration = Duration::from_secs(8);
/// One block: who takes less in [`HOLD`] keeps its block from others all the time.
const HOLD_BYTES: u64 = 65_536;
/// Connections looked at in one turn.
const LOOKS_PER_TURN: usize = 1024;
/// Connections ended by one sweep.
const WORST: usize = 64;

/// The sweep that is under way, or the time of the next.
pub(super) struct Pressure {
    next_sweep: Instant,
    /// Next slot of the sweep under way.
    at: Option<usize>,
    /// Those found so far with what they took, the least first.
    worst: Vec<(u64, ConnId)>,
}

impl Pressure {
    pub(super) fn new(now: Instant) -> Pressure {
        Pressure {
            next_sweep: now,
            at: None,
            worst: Vec::with_capacity(WORST + 1),
        }
    }

    fn note(&mut self, took: u64, conn: ConnId) {
        let place = self.worst.partition_point(|(known, _)| *known <= took);
        if place < WORST {
            self.worst.insert(place, (took, conn));
            self.worst.truncate(WORST);
        }
    }
}

impl Worker {
    /// Goes on with the sweep if connections wait for blocks. True while one is under way.
    pub(super) fn relieve(&mut self, now: Instant) -> bool {
        if self.pressure.at.is_none() {
            if self.services.waiting_for_blocks() == 0 || now < self.pressure.next_sweep {
                return false;
            }
            self.pressure.next_sweep = now + SWEEP_EVERY;
            self.pressure.worst.clear();
        }
        let from = self.pressure.at.unwrap_or(0);
        let to = (from + LOOKS_PER_TURN).min(self.exchanges.len());
        for slot in from..to {
            let Some(exchange) = &mut self.exchanges[slot] else {
                continue;
            };
            if let Holding::TooLong { took } = exchange.holding(HOLD, HOLD_BYTES, now)
                && let Some(conn) = self.stack.at_slot(slot)
            {
                self.pressure.note(took, conn);
            }
        }
        self.pressure.at = (to < self.exchanges.len()).then_some(to);
        if self.pressure.at.is_none() {
            self.end_worst();
        }
        self.pressure.at.is_some()
    }

    fn end_worst(&mut self) {
        let waiting = self.services.waiting_for_blocks();
        for index in 0..waiting.min(self.pressure.worst.len()) {
            let (_, conn) = self.pressure.worst[index];
            // Its slot may be another's by now.
            if self.stack.state(conn).is_none() {
                continue;
            }
            self.services.counters.ended_for_blocks += 1;
            self.give_up(conn);
        }
    }
}
