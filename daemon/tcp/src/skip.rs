//! Optimistic acknowledgements: a peer that acknowledges what it cannot have yet makes us believe in a shorter and wider
//! path than there is, and turns us into a flood. Now and then a segment of a fast flow is held back as if it had
//! left. An honest peer reports the hole, at which the segment leaves at once; an acknowledgement that covers it, by
//! its number or by a SACK block, is a lie, and the connection is reset. (Sherwood, Bhattacharjee and Braud, CCS 2005,
//! "Misbehaving TCP receivers can cause Internet-wide congestion collapse".)
//!
//! Nothing shorter than a round trip would tell: a liar acknowledges *early*, and how early is what we take for the
//! round trip. So the hole lasts as long as the peer takes to report it. What that costs an honest peer is bounded: one
//! segment comes one round trip late, once in 64 windows and in [`SkipConfig::interval`] bytes at most, and
//! while it is late others go on leaving.
//!
//! The record of what is in flight holds it as sent again with a time that never comes (`flight`): it is
//! neither lost nor late nor reordered, it measures no round trip, and no undo hears of it. A time-out ends the test;
//! if that proves to have been a delay, what was held back leaves as if the peer had missed it.

use core::ops::Range;

use sluice_wire::TcpHeader;

use crate::connection::{Connection, Env};
use crate::event_ring::EventKind;
use crate::events::CloseReason;
use crate::isn;
use crate::output::Segment;
use crate::send::{Cut, Sender};

/// Segments that have to be in flight, and as many that wait: somebody has to tell of the hole.
const COMPANY: u64 = 8;
/// Windows between two tests at least: the hole stalls a receiver without room for a second window for one round trip.
const WINDOWS: u64 = 64;
/// A flight shorter than this is never tested, unless tests come more often than that.
const GRACE: u64 = 1 << 20;

/// When peers are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkipConfig {
    /// Bytes per second, by the window and the round trip as we see it, from which on a flow is tested.
    pub rate: u64,
    /// Bytes between two tests at least; at most twice as many.
    pub interval: u64,
}

impl Default for SkipConfig {
    /// From 100 Mbit/s on, each 32 to 64 MiB.
    fn default() -> Self {
        SkipConfig {
            rate: 12_500_000,
            interval: 32 << 20,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Off,
    /// Accounted for as sent, and it has not left.
    Held,
    /// The peer reported the hole.
    Missed,
    /// It left and is not acknowledged yet.
    Shown,
    /// It is as good as lost, and has not left: [`Skip::give_up`].
    GivenUp,
}

/// The test of one flight.
#[derive(Debug)]
pub(crate) struct Skip {
    /// The segment that reaches beyond is the next one, if `is_drawn`; else the begin of the flight.
    next_at: u64,
    is_drawn: bool,
    phase: Phase,
    range: Range<u64>,
}

impl Skip {
    /// For a flight that begins at `start`.
    pub(crate) fn new(start: u64) -> Self {
        Skip {
            next_at: start,
            is_drawn: false,
            phase: Phase::Off,
            range: 0..0,
        }
    }

    /// Segments that end at this offset or below are not tested.
    fn tests_behind(&self, config: &SkipConfig) -> u64 {
        let grace = if self.is_drawn {
            0
        } else {
            GRACE.min(config.interval)
        };
        self.next_at.saturating_add(grace)
    }

    /// What has not left although it is accounted for.
    pub(crate) fn withheld(&self) -> Option<&Range<u64>> {
        matches!(self.phase, Phase::Held | Phase::Missed).then_some(&self.range)
    }

    /// The peer misses what was held back, or its acknowledgement number stands before it for no other reason.
    pub(crate) fn explains_duplicate(&self, snd_una: u64) -> bool {
        !matches!(self.phase, Phase::Off | Phase::GivenUp) && self.range.start == snd_una
    }

    /// The peer told that something came behind what it acknowledges.
    pub(crate) fn on_hole(&mut self) {
        if self.phase == Phase::Held {
            self.phase = Phase::Missed;
        }
    }

    /// What is to leave now.
    pub(crate) fn missed(&self) -> Option<&Range<u64>> {
        (self.phase == Phase::Missed).then_some(&self.range)
    }

    pub(crate) fn hold(&mut self, range: Range<u64>) {
        (self.phase, self.range) = (Phase::Held, range);
    }

    /// `range` leaves as something that was sent before.
    pub(crate) fn on_sent_again(&mut self, range: &Range<u64>) {
        if self.phase == Phase::Shown || !overlap(&self.range, range) {
            return;
        }
        // Segments may have become shorter: what is behind this one has still not left.
        let has_rest = self.phase == Phase::GivenUp && range.end < self.range.end;
        if has_rest && range.start <= self.range.start {
            self.range.start = range.end;
        } else {
            self.phase = Phase::Off;
        }
    }

    pub(crate) fn on_shown(&mut self) {
        self.phase = Phase::Shown;
    }

    pub(crate) fn on_acknowledged(&mut self, snd_una: u64) {
        // Who acknowledges a part of what has not left is not to be sent the rest: it stays something lost.
        let is_lie = self.phase == Phase::GivenUp && snd_una > self.range.start;
        if self.phase != Phase::Off && (snd_una >= self.range.end || is_lie) {
            self.phase = Phase::Off;
        }
    }

    /// The test is over without a result: what has not left is to be sent as something lost.
    pub(crate) fn give_up(&mut self) -> Option<Range<u64>> {
        let range = self.withheld().cloned();
        self.phase = match (&range, self.phase) {
            (Some(_), _) | (_, Phase::GivenUp) => Phase::GivenUp,
            _ => Phase::Off,
        };
        range
    }

    /// Nothing was lost after all. What was given up and has not left since is to leave now, for the first time.
    pub(crate) fn resume(&mut self) -> Option<Range<u64>> {
        if self.phase != Phase::GivenUp {
            return None;
        }
        self.phase = Phase::Missed;
        Some(self.range.clone())
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl Connection {
    /// Whether new data is to be held back. One comparison for almost every segment.
    pub(crate) fn is_to_withhold(&mut self, cut: &Cut, env: &Env<'_>) -> bool {
        let Some(config) = env.config.skip else {
            return false;
        };
        let Some(skip) = self.loss.skip() else {
            return false;
        };
        if cut.payload.end <= skip.tests_behind(&config) {
            return false;
        }
        let due = skip.is_drawn && skip.phase == Phase::Off;
        let withhold = due && self.is_worth_a_test(cut, &config);
        self.draw(cut.payload.end, withhold, &config, env);
        withhold
    }

    /// Bytes of new data that leave before [`Self::is_to_withhold`] has anything to decide.
    pub(crate) fn bytes_before_test(&self, env: &Env<'_>) -> u64 {
        match (env.config.skip, self.loss.skip()) {
            (Some(config), Some(skip)) => {
                skip.tests_behind(&config).saturating_sub(self.send.snd_nxt)
            }
            _ => u64::MAX,
        }
    }

    /// A fast flow in which nothing is wrong, and enough of it that the peer can tell of a hole.
    fn is_worth_a_test(&self, cut: &Cut, config: &SkipConfig) -> bool {
        let company = COMPANY * u64::from(self.send.smss());
        let whole = cut.payload.end - cut.payload.start == u64::from(self.send.smss());
        let Some(srtt) = self.rtt.srtt() else {
            return false;
        };
        let in_flight = self.send.in_flight();
        let rate = u128::from(in_flight) * 1_000_000_000 / srtt.as_nanos().max(1);
        whole
            && !cut.fin
            && in_flight >= company
            && self.send.unsent() >= company
            && self.loss.is_undisturbed()
            && rate >= u128::from(config.rate)
    }

    /// Draws the next segment. Which one is nothing that a peer can foresee.
    fn draw(&mut self, from: u64, tested: bool, config: &SkipConfig, env: &Env<'_>) {
        let pause = if tested {
            config.interval.max(WINDOWS * self.send.in_flight())
        } else {
            0
        };
        let share = u64::from(isn::skip_hash(&self.key, from, &env.config.secret));
        let chosen = (u128::from(share) * u128::from(config.interval)) >> 32;
        let chosen = u64::try_from(chosen).unwrap_or(config.interval);
        if let Some(skip) = self.loss.skip_mut() {
            skip.next_at = from.saturating_add(pause).saturating_add(chosen);
            skip.is_drawn = true;
        }
    }

    /// Accounts for new data as if it had left.
    pub(crate) fn withhold(&mut self, cut: &Cut, env: &mut Env<'_>) {
        self.account_new(cut, env);
        let range = cut.payload.clone();
        env.counters.withheld += 1;
        self.note(EventKind::Withheld, 0, range.end - range.start, env);
        self.loss.withhold(range, env.flights);
    }

    /// What was held back, if the peer has missed it.
    pub(crate) fn next_missed(&mut self, env: &mut Env<'_>) -> Option<Segment> {
        let range = self.loss.skip()?.missed()?.clone();
        let cut = self.send.recut(&range);
        if Sender::end_of(&cut) < range.end {
            // Segments have become shorter meanwhile.
            self.loss.give_up_skip(env.flights);
            return None;
        }
        self.record.on_sending(env);
        self.note(EventKind::Shown, 0, range.end - range.start, env);
        let grain = self.rtt.grain();
        self.loss.on_shown(&range, env.now, grain, env.flights);
        self.note_shown(&range);
        self.send.on_sent_again(env.now);
        self.restart_retransmission_timer(env.now);
        self.keep_tail_probe(env.now);
        let (mut header, payload) = self.data_header(&cut, env);
        let extra = self.control.ecn.on_new_data(payload.start);
        header.flags = header.flags.union(extra);
        Some((header, payload))
    }

    /// An acknowledgement of what has not left: the connection is over. True if it is.
    pub(crate) fn catch_optimist(&mut self, ack: u64, header: &TcpHeader) -> bool {
        let Some(held) = self.loss.skip().and_then(Skip::withheld) else {
            return false;
        };
        let lies = ack > held.start || self.reported(header, 0).any(|range| overlap(held, &range));
        if lies {
            self.end(CloseReason::OptimisticAck, true);
        }
        lies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_known_until_it_leaves() {
        let mut skip = Skip::new(0);
        assert_eq!(skip.withheld(), None);
        skip.hold(1000..2000);
        assert_eq!(
            (skip.withheld(), skip.missed()),
            (Some(&(1000..2000)), None)
        );
        assert!(skip.explains_duplicate(1000));
        assert!(!skip.explains_duplicate(500));
        skip.on_hole();
        assert_eq!(skip.missed(), Some(&(1000..2000)));
        skip.on_shown();
        assert_eq!((skip.withheld(), skip.missed()), (None, None));
        assert!(skip.explains_duplicate(1000), "its ACK is under way");
        skip.on_acknowledged(2000);
        assert!(!skip.explains_duplicate(1000));
    }

    #[test]
    fn a_repetition_of_it_ends_the_test() {
        let mut skip = Skip::new(0);
        skip.hold(1000..2000);
        skip.on_sent_again(&(2000..3000));
        assert!(skip.withheld().is_some());
        skip.on_sent_again(&(1500..2500));
        assert!(skip.withheld().is_none());
        assert!(!skip.explains_duplicate(1000));
    }

    #[test]
    fn a_time_out_gives_back_what_never_left() {
        let mut skip = Skip::new(0);
        assert_eq!(skip.give_up(), None);
        skip.hold(1000..2000);
        assert_eq!(skip.give_up(), Some(1000..2000));
        assert_eq!(skip.withheld(), None);
    }

    #[test]
    fn what_has_not_left_when_the_time_out_is_taken_back_is_missed() {
        let mut skip = Skip::new(0);
        assert_eq!(skip.resume(), None);
        skip.hold(1000..2000);
        assert!(skip.give_up().is_some());
        assert_eq!(skip.give_up(), None, "once");
        assert!(!skip.explains_duplicate(1000));
        assert_eq!(skip.resume(), Some(1000..2000));
        assert_eq!(skip.missed(), Some(&(1000..2000)));
        assert!(skip.give_up().is_some());
        skip.on_sent_again(&(1000..2000));
        assert_eq!(skip.resume(), None);
    }

    #[test]
    fn of_a_part_that_left_after_the_time_out_the_rest_is_missed() {
        let mut skip = Skip::new(0);
        skip.hold(1000..2000);
        assert!(skip.give_up().is_some());
        skip.on_sent_again(&(900..1400));
        assert_eq!(skip.resume(), Some(1400..2000));
    }

    #[test]
    fn what_is_acknowledged_in_part_without_having_left_is_not_resumed() {
        let mut skip = Skip::new(0);
        skip.hold(1000..2000);
        assert!(skip.give_up().is_some());
        skip.on_acknowledged(1000);
        skip.on_acknowledged(1001);
        assert_eq!(skip.resume(), None);
    }
}
