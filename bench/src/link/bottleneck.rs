//! The slowest hop: a transmitter of a given rate behind a FIFO of a given size.
//!
//! Invariant: departures are in order and exactly as far apart as the rate says while the queue is not empty; no
//! rounding error accumulates. A packet occupies the queue until its last bit has left.

use std::collections::VecDeque;
use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What the hop does to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// Bits per second of frames without FCS, preamble and gap; `None` is no limit at all.
    pub rate: Option<u64>,
    /// Bytes that may wait, the packet in transmission included; what does not fit is dropped (tail drop).
    pub buffer: Option<u64>,
    /// Packets that find more than this waiting are marked CE (the step of DCTCP, RFC 8257 section 3.1).
    pub mark: Option<u64>,
}

/// The hop at work.
#[derive(Clone, Debug)]
pub struct Bottleneck {
    hop: Hop,
    /// Departure and bytes of everything in the queue.
    waiting: VecDeque<(Duration, u64)>,
    waiting_bytes: u64,
    peak_bytes: u64,
    /// When the transmitter is free, as nanoseconds and a fraction of one in units of 1/rate.
    free_at: u128,
    free_at_fraction: u128,
}

/// What happens to a packet at the hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// There is no room.
    Overflow,
    /// Its last bit leaves then.
    Departs {
        /// Time since the start.
        at: Duration,
        /// The queue was longer than the threshold.
        over_mark: bool,
    },
}

impl Bottleneck {
    /// An empty queue.
    pub fn new(hop: Hop) -> Bottleneck {
        Bottleneck {
            hop,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            peak_bytes: 0,
            free_at: 0,
            free_at_fraction: 0,
        }
    }

    /// A packet of `bytes` arrives at `now`, not before the one before it.
    pub fn pass(&mut self, now: Duration, bytes: u64) -> Passage {
        let Some(rate) = self.hop.rate else {
            return Passage::Departs {
                at: now,
                over_mark: false,
            };
        };
        self.forget_departed(now);
        let over_mark = self.hop.mark.is_some_and(|mark| self.waiting_bytes > mark);
        let after = self.waiting_bytes + bytes;
        if self.hop.buffer.is_some_and(|buffer| after > buffer) {
            return Passage::Overflow;
        }
        let at = self.transmit(now, bytes, rate);
        self.waiting.push_back((at, bytes));
        self.waiting_bytes = after;
        self.peak_bytes = self.peak_bytes.max(after);
        Passage::Departs { at, over_mark }
    }

    /// The most bytes that ever waited.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    fn forget_departed(&mut self, now: Duration) {
        while let Some(&(departure, bytes)) = self.waiting.front()
            && departure <= now
        {
            self.waiting.pop_front();
            self.waiting_bytes -= bytes;
        }
    }

    fn transmit(&mut self, now: Duration, bytes: u64, rate: u64) -> Duration {
        if now.as_nanos() > self.free_at {
            self.free_at = now.as_nanos();
            self.free_at_fraction = 0;
        }
        let rate = u128::from(rate.max(1));
        let work = u128::from(bytes) * 8 * NANOS_PER_SECOND + self.free_at_fraction;
        self.free_at += work / rate;
        self.free_at_fraction = work % rate;
        // 584 years of nanoseconds fit.
        Duration::from_nanos(u64::try_from(self.free_at).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departure(passage: Passage) -> Duration {
        match passage {
            Passage::Departs { at, .. } => at,
            Passage::Overflow => panic!("the packet was dropped"),
        }
    }

    #[test]
    fn a_busy_hop_sends_at_exactly_its_rate_without_drift() {
        // 1,514 bytes at 97 Mbit/s take 124,865.979… ns: a rounded step would drift by a packet in no time.
        let mut hop = Bottleneck::new(Hop {
            rate: Some(97_000_000),
            ..Hop::default()
        });
        let last = (0..1_000_000)
            .map(|_| departure(hop.pass(Duration::ZERO, 1514)))
            .last();
        let exact = 1514u128 * 8 * 1_000_000 * NANOS_PER_SECOND / 97_000_000;
        assert_eq!(last.map(|at| at.as_nanos()), Some(exact));
    }

    #[test]
    fn an_idle_hop_starts_at_the_arrival() {
        let mut hop = Bottleneck::new(Hop {
            rate: Some(8_000_000),
            ..Hop::default()
        });
        assert_eq!(
            departure(hop.pass(Duration::from_millis(5), 1000)),
            Duration::from_millis(6)
        );
        assert_eq!(
            departure(hop.pass(Duration::from_millis(50), 1000)),
            Duration::from_millis(51)
        );
    }

    #[test]
    fn the_tail_is_dropped_and_room_returns_with_each_departure() {
        let mut hop = Bottleneck::new(Hop {
            rate: Some(8_000_000),
            buffer: Some(2500),
            mark: None,
        });
        assert_eq!(departure(hop.pass(Duration::ZERO, 1000)).as_millis(), 1);
        assert_eq!(departure(hop.pass(Duration::ZERO, 1000)).as_millis(), 2);
        assert_eq!(hop.pass(Duration::ZERO, 1000), Passage::Overflow);
        assert_eq!(departure(hop.pass(Duration::ZERO, 500)).as_micros(), 2500);
        assert_eq!(
            hop.pass(Duration::from_micros(999), 1000),
            Passage::Overflow
        );
        assert_eq!(
            departure(hop.pass(Duration::from_millis(1), 1000)).as_micros(),
            3500
        );
        assert_eq!(hop.peak_bytes(), 2500);
    }

    #[test]
    fn packets_behind_a_long_queue_are_marked() {
        let mut hop = Bottleneck::new(Hop {
            rate: Some(8_000_000),
            buffer: None,
            mark: Some(1500),
        });
        let marks: Vec<bool> = (0..4)
            .map(|_| match hop.pass(Duration::ZERO, 1000) {
                Passage::Departs { over_mark, .. } => over_mark,
                Passage::Overflow => panic!("no limit was set"),
            })
            .collect();
        assert_eq!(marks, [false, false, true, true]);
    }
}
