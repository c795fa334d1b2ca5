//! One direction of the link as a pure function of seed, time and size: what becomes of each packet, and when.
//!
//! Order on the way: black hole, bottleneck (queue, rate, tail drop, CE), then the wire behind it (loss, bursts,
//! duplication, corruption), then delay with jitter and reordering. A packet lost on the wire has used the
//! bottleneck, as on a real path. Nothing here reads a clock or touches bytes; what is to be done to the bytes is
//! part of the answer.

use std::time::Duration;

use serde::Serialize;

use super::bottleneck::{Bottleneck, Hop, Passage};
use super::chance::{Dice, Question};

/// What one direction does to packets. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Time from the bottleneck to the other side.
    pub delay: Duration,
    /// Each delay differs from `delay` by up to this, evenly. Jitter alone never changes the order.
    pub jitter: Duration,
    /// Probability of losing each packet on its own.
    pub loss: f64,
    /// Losses that come together.
    pub burst: Option<Burst>,
    /// Packets that others overtake.
    pub reorder: Option<Reorder>,
    /// Probability of arriving twice.
    pub duplicate: f64,
    /// Probability of one inverted bit behind the Ethernet header.
    pub corrupt: f64,
    /// The slowest hop.
    pub hop: Hop,
    /// Everything disappears in this span.
    pub black_hole: Option<Span>,
    /// IP packets of more bytes than this disappear without a word (a black hole for path MTU discovery).
    pub black_hole_above: Option<u64>,
}

/// Gilbert-Elliott: a channel with a good and a bad state. The good state has [`Impairment::loss`].
///
/// The channel turns with packets, not with time, so that a burst hits the same packets whenever they come. A sender
/// that backs off meets the rest of the burst one retransmission at a time: with `leave` 0.3, six in a row are lost in
/// one burst of eight. Bursts that should pass while nothing is sent are [`Impairment::black_hole`]s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Probability per packet of turning bad.
    pub enter: f64,
    /// Probability per packet of turning good again: the mean length of a burst is its inverse.
    pub leave: f64,
    /// Probability of loss in the bad state.
    pub loss: f64,
}

/// Holding packets back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// Probability per packet.
    pub share: f64,
    /// How much later than the others it arrives.
    pub by: Duration,
}

/// A span of time since the start of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Duration,
    /// Its length.
    pub lasts: Duration,
}

impl Span {
    fn contains(&self, now: Duration) -> bool {
        now >= self.from && now - self.from < self.lasts
    }
}

/// What is known of a packet that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Bytes of the frame, without FCS.
    pub bytes: u64,
    /// Whether it may be marked CE (RFC 3168 section 5: ECT(0), ECT(1), or CE already).
    pub ecn_capable: bool,
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// On its own.
    Loss,
    /// In a burst.
    Burst,
    /// No room in the queue of the bottleneck.
    Overflow,
    /// In the span of the black hole.
    BlackHole,
    /// Too long for the black hole.
    TooLong,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Dropped(Cause),
    /// It arrives.
    Delivered(Delivery),
}

/// How a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When, since the start of the link.
    pub release: Duration,
    /// Set CE.
    pub mark: bool,
    /// Invert a bit: the number modulo the bits behind the Ethernet header names it.
    pub corrupt: Option<u64>,
    /// Send it twice.
    pub duplicate: bool,
}

/// What one direction did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Frames that came in.
    pub packets: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// Frames that did not arrive, by cause.
    pub dropped: Dropped,
    /// Frames held back so that others overtake them.
    pub reordered: u64,
    /// Frames sent twice.
    pub duplicated: u64,
    /// Frames with an inverted bit.
    pub corrupted: u64,
    /// Frames marked CE.
    pub marked: u64,
    /// Most bytes that ever waited at the bottleneck.
    pub queue_peak_bytes: u64,
}

/// Frames that did not arrive, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// [`Cause::Loss`].
    pub loss: u64,
    /// [`Cause::Burst`].
    pub burst: u64,
    /// [`Cause::Overflow`].
    pub overflow: u64,
    /// [`Cause::BlackHole`].
    pub black_hole: u64,
    /// [`Cause::TooLong`].
    pub too_long: u64,
}

impl Dropped {
    fn count(&mut self, cause: Cause) {
        *match cause {
            Cause::Loss => &mut self.loss,
            Cause::Burst => &mut self.burst,
            Cause::Overflow => &mut self.overflow,
            Cause::BlackHole => &mut self.black_hole,
            Cause::TooLong => &mut self.too_long,
        } += 1;
    }
}

/// Bytes of an Ethernet header without tags: what a frame has more than its IP packet.
pub const ETHERNET_BYTES: u64 = 14;

/// One direction at work.
#[derive(Clone, Debug)]
pub struct Model {
    impairment: Impairment,
    dice: Dice,
    bottleneck: Bottleneck,
    /// Whether the channel is in the bad state.
    bursting: bool,
    /// Nothing that keeps its place is released before this.
    in_order_from: Duration,
    counters: Counters,
}

impl Model {
    /// A direction that has seen nothing yet.
    pub fn new(impairment: Impairment, dice: Dice) -> Model {
        Model {
            bottleneck: Bottleneck::new(impairment.hop),
            dice,
            bursting: false,
            in_order_from: Duration::ZERO,
            counters: Counters::default(),
            impairment,
        }
    }

    /// The fate of the next packet, which arrives at `now`, not before the one before it.
    pub fn admit(&mut self, now: Duration, arrival: Arrival) -> Fate {
        let number = self.counters.packets;
        self.counters.packets += 1;
        self.counters.bytes += arrival.bytes;
        let fate = self.decide(now, number, arrival);
        match fate {
            Fate::Dropped(cause) => self.counters.dropped.count(cause),
            Fate::Delivered(delivery) => {
                self.counters.marked += u64::from(delivery.mark);
                self.counters.corrupted += u64::from(delivery.corrupt.is_some());
                self.counters.duplicated += u64::from(delivery.duplicate);
            }
        }
        fate
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        Counters {
            queue_peak_bytes: self.bottleneck.peak_bytes(),
            ..self.counters
        }
    }

    fn decide(&mut self, now: Duration, number: u64, arrival: Arrival) -> Fate {
        // The channel turns with every packet, so that its state depends on the number alone.
        let lost = self.lost_on_the_wire(number);
        if self
            .impairment
            .black_hole
            .is_some_and(|span| span.contains(now))
        {
            return Fate::Dropped(Cause::BlackHole);
        }
        let too_long = |limit| arrival.bytes > ETHERNET_BYTES + limit;
        if self.impairment.black_hole_above.is_some_and(too_long) {
            return Fate::Dropped(Cause::TooLong);
        }
        let (departure, over_mark) = match self.bottleneck.pass(now, arrival.bytes) {
            Passage::Overflow => return Fate::Dropped(Cause::Overflow),
            Passage::Departs { at, over_mark } => (at, over_mark),
        };
        if let Some(cause) = lost {
            return Fate::Dropped(cause);
        }
        let dice = self.dice;
        let corrupt = dice.happens(self.impairment.corrupt, number, Question::Corrupt);
        Fate::Delivered(Delivery {
            release: self.release(departure, number),
            mark: over_mark && arrival.ecn_capable,
            corrupt: corrupt.then(|| dice.bits(number, Question::CorruptBit)),
            duplicate: dice.happens(self.impairment.duplicate, number, Question::Duplicate),
        })
    }

    fn lost_on_the_wire(&mut self, number: u64) -> Option<Cause> {
        let dice = self.dice;
        if let Some(burst) = self.impairment.burst {
            let turn = if self.bursting {
                burst.leave
            } else {
                burst.enter
            };
            self.bursting ^= dice.happens(turn, number, Question::BurstTurn);
            if self.bursting && dice.happens(burst.loss, number, Question::BurstLoss) {
                return Some(Cause::Burst);
            }
        }
        let lost = dice.happens(self.impairment.loss, number, Question::Loss);
        (lost && !self.bursting).then_some(Cause::Loss)
    }

    fn release(&mut self, departure: Duration, number: u64) -> Duration {
        let Impairment { delay, jitter, .. } = self.impairment;
        let swing = jitter
            .saturating_mul(2)
            .mul_f64(self.dice.unit(number, Question::Jitter));
        let arrives = (departure + delay + swing).saturating_sub(jitter);
        let arrives = arrives.max(departure).max(self.in_order_from);
        self.in_order_from = arrives;
        match self.impairment.reorder {
            Some(reorder) if self.dice.happens(reorder.share, number, Question::Reorder) => {
                self.counters.reordered += 1;
                arrives + reorder.by
            }
            _ => arrives,
        }
    }
}

#[cfg(test)]
mod tests;
