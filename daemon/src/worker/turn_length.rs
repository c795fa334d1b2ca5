//! How much one turn sends: little while somebody asks for something, more while there is only bulk data to send.
//!
//! A request that arrives waits for the end of a turn before it is seen, so turns are short while requests come. But a
//! short turn is dear: between two of them the client, which is faster than we are, has read all there was and sleeps,
//! and to wake it takes the kernel as long as to copy a third of a super-segment (docs/PERFORMANCE.md, "Bulk downloads").
//! A request that comes after a pause meets one long turn, some 150 us; those after it do not.

use core::time::Duration;

use sluice_tcp::clock::Instant;

/// After a request turns stay short for so long: even a client that asks 100 times a second never meets a long one.
const SHORT_FOR: Duration = Duration::from_millis(20);
/// Packets built in a short turn. They, and what was read for them, are most of a turn: 64 are four super-segments, or
/// 64 full frames of one kick, some 100 us either way.
const SHORT_PACKETS: u32 = 64;
/// Packets built in a long turn: eight super-segments. With 16 there is nothing more to gain.
const LONG_PACKETS: u32 = 128;
/// Super-segments that are made ready ahead of what was sent, of one connection in a short turn, and of all of them
/// together in a long one.
const SHORT_RUNS: u32 = 2;
const LONG_RUNS: u32 = 8;

/// Whether turns are short or long.
#[derive(Debug)]
pub(super) struct TurnLength {
    short_until: Instant,
}

impl TurnLength {
    pub(super) fn new(now: Instant) -> TurnLength {
        TurnLength {
            short_until: now + SHORT_FOR,
        }
    }

    /// Somebody sent bytes of a request, or of an upload.
    pub(super) fn on_request(&mut self, now: Instant) {
        self.short_until = now + SHORT_FOR;
    }

    /// Packets to be built in this turn at most.
    pub(super) fn packets(&self, now: Instant) -> u32 {
        if now < self.short_until {
            SHORT_PACKETS
        } else {
            LONG_PACKETS
        }
    }

    /// Super-segments to be ready ahead of what was sent, of each of `connections` that could use more than they get.
    /// What all have ready at the end of a long turn is no more than the next one sends: it would leave the CPU's cache
    /// before.
    pub(super) fn runs_ahead(&self, connections: usize, now: Instant) -> u32 {
        if now < self.short_until {
            return SHORT_RUNS;
        }
        let connections = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        (LONG_RUNS / connections).max(SHORT_RUNS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn turns_are_short_for_a_while_after_a_request() {
        let mut length = TurnLength::new(at(0));
        assert_eq!(length.packets(at(19)), SHORT_PACKETS);
        assert_eq!(length.packets(at(20)), LONG_PACKETS);
        length.on_request(at(100));
        assert_eq!(length.packets(at(119)), SHORT_PACKETS);
        assert_eq!(length.runs_ahead(1, at(119)), SHORT_RUNS);
        assert_eq!(length.packets(at(120)), LONG_PACKETS);
    }

    #[test]
    fn in_a_long_turn_connections_share_what_is_made_ready() {
        let length = TurnLength::new(at(0));
        let runs = |connections| length.runs_ahead(connections, at(20));
        let shares: Vec<u32> = [0, 1, 2, 4, 64, usize::MAX].map(runs).to_vec();
        assert_eq!(shares, [8, 8, 4, 2, 2, 2]);
    }
}
