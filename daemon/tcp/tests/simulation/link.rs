//! One direction of a network path: a bottleneck with a queue, a delay, and every evil as an option.

use core::time::Duration;

use sluice_tcp::clock::Instant;

use crate::chance::Chance;

/// What a path does to packets. Probabilities are in millionths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    pub delay: Duration,
    /// Up to this much more, in order.
    pub jitter: Duration,
    /// Each packet for itself.
    pub loss: u32,
    /// Chance to enter a bad phase of up to this length, in which half of all packets are lost (Gilbert 1960, with
    /// phases in time: what nobody sends through would else never end).
    pub burst: (u32, Duration),
    /// Packets that come later than those behind them, by up to the time given.
    pub reorder: (u32, Duration),
    pub duplicate: u32,
    /// A damaged packet fails its checksum, so it is lost where it would have arrived.
    pub corrupt: u32,
    /// ECN-capable packets that are marked (RFC 3168).
    pub mark: u32,
    /// Bytes per second; unlimited if zero.
    pub rate: u64,
    /// Bytes that may wait for the bottleneck.
    pub buffer: u64,
    /// A link further on that carries less.
    pub narrow: Option<Narrow>,
}

/// A link with a small MTU.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// Longest IP packet in bytes.
    pub mtu: u64,
    /// It is part of the path from this moment of the simulation on.
    pub after: Duration,
    /// Chance that its router says what it drops; a black hole if zero.
    pub told: u32,
}

/// Loss of a bad phase.
const BURST_LOSS: u32 = 500_000;

/// A direction of a path.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    chance: Chance,
    bad_until: Instant,
    free_at: Instant,
    last_arrival: Instant,
}

impl Link {
    pub fn new(conditions: Conditions, chance: Chance) -> Link {
        Link {
            conditions,
            chance,
            bad_until: Instant::ZERO,
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
        }
    }

    /// Whether a packet of `bytes` is too big for the path, `since` its begin.
    pub fn is_too_big(&self, since: Duration, bytes: u64) -> bool {
        let narrow = self.conditions.narrow;
        narrow.is_some_and(|narrow| since >= narrow.after && bytes > narrow.mtu)
    }

    /// Whether an ECN-capable packet is marked.
    pub fn marks(&mut self) -> bool {
        self.chance.hit(self.conditions.mark)
    }

    /// When a packet of `bytes` that enters now arrives: never, once or twice.
    pub fn carry(&mut self, now: Instant, bytes: u64) -> [Option<Instant>; 2] {
        let conditions = self.conditions;
        let (enter, longest) = conditions.burst;
        if self.chance.hit(enter) {
            self.bad_until = self.bad_until.max(now + self.chance.duration(longest));
        }
        let is_bad = now < self.bad_until;
        let Some(sent_at) = self.queue(now, bytes) else {
            return [None, None];
        };
        if self.chance.hit(conditions.loss)
            || self.chance.hit(conditions.corrupt)
            || (is_bad && self.chance.hit(BURST_LOSS))
        {
            return [None, None];
        }
        let copies = if self.chance.hit(conditions.duplicate) {
            2
        } else {
            1
        };
        let mut arrivals = [None, None];
        for arrival in arrivals.iter_mut().take(copies) {
            *arrival = Some(self.arrival(sent_at));
        }
        arrivals
    }

    /// When the last bit left the bottleneck; `None` if the queue was full.
    fn queue(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        let rate = self.conditions.rate;
        if rate == 0 {
            return Some(now);
        }
        let waiting = self.free_at.saturating_since(now);
        let backlog = u128::from(rate) * waiting.as_nanos() / 1_000_000_000;
        if backlog > u128::from(self.conditions.buffer) {
            return None;
        }
        let takes = Duration::from_nanos(bytes * 1_000_000_000 / rate);
        self.free_at = self.free_at.max(now) + takes;
        Some(self.free_at)
    }

    fn arrival(&mut self, sent_at: Instant) -> Instant {
        let (reorder, by) = self.conditions.reorder;
        let arrival =
            sent_at + self.conditions.delay + self.chance.duration(self.conditions.jitter);
        if self.chance.hit(reorder) {
            return arrival + self.chance.duration(by);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        self.last_arrival
    }
}
