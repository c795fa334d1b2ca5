//! RACK: a segment is lost when one that was sent later has been delivered and enough time has passed
//! (RFC 8985 section 6).
//!
//! "Enough" is the round trip of the newest delivery plus a reordering window. The window is nothing while no
//! reordering was ever seen and a recovery runs or three segments are SACKed; else a quarter of the smallest
//! round trip, times a factor that grows with every round in which a DSACK proves a retransmission to have been
//! needless, and that shrinks back after 16 recoveries without one. Retransmissions are judged like originals:
//! a lost retransmission costs a round trip, not a time-out.
//!
//! Times are those of the ring: `now` is when the acknowledgement arrived there, not when it was processed.

use core::ops::Range;
use core::time::Duration;

use crate::clock::Instant;
use crate::flight::{Delivery, Flight, Judgement};

/// DupThresh (RFC 5681 section 3.2).
pub(crate) const DUP_THRESH: u32 = 3;
/// No path answers sooner. Without it what was just sent again, below a newer delivery of the same moment, would be
/// lost at once, again and again while the clock stands.
const PATIENCE_MIN: Duration = Duration::from_micros(1);
/// Recoveries without a DSACK after which the reordering window is a single one again (RFC 8985 section 6.2,
/// step 4).
const REO_WND_PERSIST: u8 = 16;
/// The factor is bounded by SRTT anyway; this bounds the counter.
const REO_WND_MULT_MAX: u8 = 64;
/// No round with a DSACK is open.
const NO_ROUND: u64 = u64::MAX;

/// What is known about the path when an acknowledgement arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub now: Instant,
    pub srtt: Option<Duration>,
    pub min_rtt: Option<Duration>,
    pub smss: u32,
}

/// What was learnt about reordering on the path: it outlives the flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    /// RACK.reo_wnd_mult.
    mult: u8,
    /// RACK.reo_wnd_persist.
    persist: u8,
    /// RACK.reordering_seen.
    reordering_seen: bool,
}

impl Tolerance {
    pub(crate) fn has_seen_reordering(&self) -> bool {
        self.reordering_seen
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Tolerance {
            mult: 1,
            persist: 0,
            reordering_seen: false,
        }
    }
}

/// Per-connection variables of RFC 8985 section 5.3.
#[derive(Debug)]
pub(crate) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: the most recently sent segment among those delivered.
    xmit_ts: Instant,
    end_seq: u64,
    /// RACK.rtt.
    rtt: Duration,
    /// RACK.fack: the highest sequence delivered.
    fack: u64,
    /// RACK.dsack_round.
    dsack_round: u64,
    tolerance: Tolerance,
}

impl Rack {
    /// With nothing delivered of what is in flight.
    pub(crate) fn new(tolerance: Tolerance) -> Self {
        Rack {
            xmit_ts: Instant::ZERO,
            end_seq: 0,
            rtt: Duration::ZERO,
            fack: 0,
            dsack_round: NO_ROUND,
            tolerance,
        }
    }

    pub(crate) fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// Steps 2 and 3 for one range that the peer now has. `echoed_ms`: when the segment left that the timestamp
    /// echo names, on our clock in milliseconds. Only for what is acknowledged cumulatively: above a hole the
    /// peer echoes what came before the hole (RFC 7323 section 4.3), whatever it SACKs.
    pub(crate) fn on_delivered(
        &mut self,
        delivery: &Delivery,
        now: Instant,
        min_rtt: Option<Duration>,
        echoed_ms: Option<u64>,
    ) {
        let Range { end, .. } = delivery.range;
        if end > self.fack {
            self.fack = end;
        } else if end < self.fack && !delivery.retransmitted {
            self.tolerance.reordering_seen = true;
        }
        let rtt = now.saturating_since(delivery.sent_at);
        if delivery.retransmitted {
            // It may be the original that arrived; then the retransmission says nothing about the path.
            let of_original = echoed_ms.is_some_and(|echo| echo < delivery.sent_at.as_millis());
            if of_original || min_rtt.is_none_or(|min| rtt < min) {
                return;
            }
        }
        let mut sent_at = delivery.sent_at;
        if delivery.is_coarse(now) {
            // Taken for later than it left it would prove, by a round trip that no path has, the loss of everything
            // that was sent again since: certain is only that it did not leave before the first of its record.
            sent_at = delivery.earliest();
        }
        if sent_at == delivery.sent_at || self.rtt.is_zero() {
            self.rtt = now.saturating_since(sent_at);
        }
        if (sent_at, end) > (self.xmit_ts, self.end_seq) {
            (self.xmit_ts, self.end_seq) = (sent_at, end);
        }
    }

    /// Step 4, on a DSACK: something was sent again for nothing. Once per round trip.
    pub(crate) fn on_dsack(&mut self, snd_una: u64, snd_nxt: u64) {
        if self.dsack_round != NO_ROUND && snd_una >= self.dsack_round {
            self.dsack_round = NO_ROUND;
        }
        if self.dsack_round == NO_ROUND {
            self.dsack_round = snd_nxt;
            self.tolerance.mult = (self.tolerance.mult + 1).min(REO_WND_MULT_MAX);
            self.tolerance.persist = REO_WND_PERSIST;
        }
    }

    /// A fast recovery proved to be spurious: what was called lost was late. As good as a DSACK, and often earlier.
    pub(crate) fn on_spurious(&mut self, snd_una: u64, snd_nxt: u64) {
        self.tolerance.reordering_seen = true;
        self.on_dsack(snd_una, snd_nxt);
    }

    /// A time-out proved to be spurious: what was sent again then arrived as the original. Taken for its repetition, which
    /// without timestamps nothing but its round trip forbids (step 2), it would prove the loss of every original that is
    /// still to be acknowledged. What is delivered next says anew what left last.
    pub(crate) fn on_spurious_time_out(&mut self) {
        (self.xmit_ts, self.end_seq) = (Instant::ZERO, 0);
        self.rtt = Duration::ZERO;
    }

    /// Step 4, at the end of a recovery.
    pub(crate) fn on_recovery_exit(&mut self) {
        self.tolerance.persist = self.tolerance.persist.saturating_sub(1);
        if self.tolerance.persist == 0 {
            self.tolerance.mult = 1;
        }
    }

    /// RACK.reo_wnd.
    fn reo_wnd(&self, flight: &Flight, path: &Path, recovering: bool) -> Duration {
        if !self.tolerance.reordering_seen
            && (recovering || flight.has_sacked_segments(DUP_THRESH, path.smss))
        {
            return Duration::ZERO;
        }
        let (Some(min_rtt), Some(srtt)) = (path.min_rtt, path.srtt) else {
            return Duration::ZERO;
        };
        (min_rtt * u32::from(self.tolerance.mult) / 4).min(srtt)
    }

    /// Step 5: marks what is lost, and says in how long the rest has to be looked at again.
    pub(crate) fn detect_loss(
        &self,
        flight: &mut Flight,
        path: &Path,
        recovering: bool,
    ) -> (bool, Option<Duration>) {
        let patience = self.patience(flight, path, recovering);
        let newest = (self.xmit_ts, self.end_seq);
        let found = flight.lose_while(|pending| {
            let left_before = (pending.sent_at, pending.end) < newest;
            if left_before && pending.sent_at + patience <= path.now {
                Judgement::Lose
            } else {
                Judgement::Keep
            }
        });
        (found, self.wait_for(flight, patience, path.now))
    }

    /// The same wait with nothing marked: a recovery was taken back, and what is missing has its time anew.
    pub(crate) fn reorder_timeout(&self, flight: &mut Flight, path: &Path) -> Option<Duration> {
        let patience = self.patience(flight, path, false);
        self.wait_for(flight, patience, path.now)
    }

    fn patience(&self, flight: &Flight, path: &Path, recovering: bool) -> Duration {
        (self.rtt + self.reo_wnd(flight, path, recovering)).max(PATIENCE_MIN)
    }

    fn wait_for(&self, flight: &mut Flight, patience: Duration, now: Instant) -> Option<Duration> {
        flight
            .newest_before((self.xmit_ts, self.end_seq))
            .map(|pending| (pending.sent_at + patience).saturating_since(now))
    }

    /// The retransmission timer fired (RFC 8985 section 6.3): lost is what RACK would call lost now, whatever was
    /// delivered since.
    pub(crate) fn mark_on_time_out(&self, flight: &mut Flight, path: &Path) {
        let rtt = if self.rtt.is_zero() {
            // Nothing of this flight was delivered.
            path.srtt.unwrap_or_default()
        } else {
            self.rtt
        };
        let patience = rtt + self.reo_wnd(flight, path, true);
        flight.lose_while(|pending| {
            if pending.sent_at + patience <= path.now {
                Judgement::Lose
            } else {
                Judgement::Keep
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight_pool::FlightPool;

    const SMSS: u32 = 1000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn path(now: u64) -> Path {
        Path {
            now: at(now),
            srtt: Some(ms(100)),
            min_rtt: Some(ms(100)),
            smss: SMSS,
        }
    }

    /// A sender whose segment `n` left at `n` milliseconds.
    struct Bed {
        rack: Rack,
        flight: Flight,
        pool: FlightPool,
    }

    impl Bed {
        fn with_segments(count: u64) -> Bed {
            let mut bed = Bed {
                rack: Rack::new(Tolerance::default()),
                flight: Flight::new(0),
                pool: FlightPool::new(1),
            };
            for n in 0..count {
                bed.flight
                    .on_sent((n + 1) * 1000, at(n), Duration::ZERO, &mut bed.pool);
            }
            bed
        }

        fn sack(&mut self, segment: u64, now: u64) {
            let rack = &mut self.rack;
            let range = segment * 1000..(segment + 1) * 1000;
            self.flight.sack(range, &mut self.pool, |delivery| {
                rack.on_delivered(&delivery, at(now), Some(ms(100)), None);
            });
        }

        fn resend(&mut self, segment: u64, now: u64) {
            let range = segment * 1000..(segment + 1) * 1000;
            self.flight
                .on_sent_again(&range, at(now), Duration::ZERO, &mut self.pool);
        }

        fn detect(&mut self, now: u64, recovering: bool) -> (bool, Option<Duration>) {
            self.rack
                .detect_loss(&mut self.flight, &path(now), recovering)
        }

        fn lost(&mut self) -> Option<Range<u64>> {
            self.flight.next_lost().map(|(range, _)| range)
        }
    }

    #[test]
    fn a_later_delivery_and_a_quarter_of_a_round_trip_prove_a_loss() {
        // RFC 8985 section 6.2, steps 4 and 5.
        let mut bed = Bed::with_segments(5);
        bed.sack(1, 101);
        assert_eq!(bed.detect(101, false), (false, Some(ms(24))));
        assert_eq!(bed.detect(124, false), (false, Some(ms(1))));
        assert_eq!(bed.detect(125, false), (true, None));
        assert_eq!(bed.lost(), Some(0..1000));
    }

    #[test]
    fn without_reordering_the_third_sacked_segment_proves_it_at_once() {
        // RFC 8985 section 6.2, step 4: RACK.segs_sacked >= DupThresh.
        let mut bed = Bed::with_segments(5);
        for segment in 1..3 {
            bed.sack(segment, 100 + segment);
            assert!(!bed.detect(100 + segment, false).0);
        }
        bed.sack(3, 103);
        assert!(bed.detect(103, false).0);
        assert_eq!(bed.lost(), Some(0..1000));
    }

    #[test]
    fn what_was_sent_again_in_this_moment_is_not_lost_in_it() {
        // Found by the simulation, seed 16451: a path without delay, and a repetition below a newer delivery.
        let mut bed = Bed::with_segments(4);
        for segment in 1..4 {
            bed.resend(segment, 200);
            bed.sack(segment, 200);
        }
        bed.resend(0, 200);
        bed.rack.rtt = Duration::ZERO;
        bed.rack.xmit_ts = at(200);
        bed.rack.end_seq = 4000;
        let (found, timeout) = bed.detect(200, true);
        assert!(!found);
        assert_eq!(timeout, Some(PATIENCE_MIN));
        assert!(bed.detect(201, true).0);
    }

    #[test]
    fn what_was_sent_after_the_newest_delivery_is_not_lost() {
        let mut bed = Bed::with_segments(5);
        bed.sack(1, 101);
        let _ = bed.detect(10_000, true);
        assert_eq!(bed.flight.lost_bytes(), 1000);
    }

    #[test]
    fn in_one_batch_the_sequence_decides_what_was_sent_first() {
        // RFC 8985 section 6.2: RACK_sent_after.
        let mut bed = Bed::with_segments(0);
        bed.flight
            .on_sent(9000, at(0), Duration::ZERO, &mut bed.pool);
        bed.sack(4, 100);
        let _ = bed.detect(200, true);
        assert_eq!(bed.lost(), Some(0..4000));
        assert_eq!(bed.flight.lost_bytes(), 4000);
    }

    #[test]
    fn a_lost_retransmission_is_found_by_a_later_one() {
        let mut bed = Bed::with_segments(4);
        bed.sack(3, 103);
        assert!(bed.detect(103, true).0);
        bed.resend(0, 103);
        bed.resend(1, 104);
        bed.resend(2, 105);
        assert_eq!(bed.lost(), None);
        bed.sack(1, 204);
        assert_eq!(bed.detect(204, true), (true, None));
        assert_eq!(bed.flight.next_lost(), Some((0..1000, true)));
    }

    #[test]
    fn the_delivery_of_an_original_says_nothing_about_its_retransmission() {
        // RFC 8985 section 6.2, step 2.
        let mut bed = Bed::with_segments(4);
        bed.sack(1, 101);
        let before = (bed.rack.xmit_ts, bed.rack.rtt);
        bed.resend(2, 102);
        bed.sack(2, 110);
        assert_eq!((bed.rack.xmit_ts, bed.rack.rtt), before, "faster than ever");
        bed.resend(3, 103);
        let delivery = Delivery {
            range: 3000..4000,
            sent_at: at(103),
            spread: Duration::ZERO,
            retransmitted: true,
            held_lost: false,
        };
        bed.rack
            .on_delivered(&delivery, at(300), Some(ms(100)), Some(3));
        assert_eq!((bed.rack.xmit_ts, bed.rack.rtt), before, "older echo");
        bed.rack
            .on_delivered(&delivery, at(300), Some(ms(100)), Some(103));
        assert_eq!(bed.rack.xmit_ts, at(103));
    }

    #[test]
    fn a_delivery_whose_time_is_not_known_is_as_old_as_it_can_be() {
        // An overshoot of slow start makes more holes than the record has room for.
        let mut bed = Bed::with_segments(4);
        bed.sack(1, 101);
        bed.resend(0, 102);
        bed.flight.sack(2000..4000, &mut bed.pool, |_| {});
        let merged = Delivery {
            range: 2000..4000,
            sent_at: at(110),
            spread: ms(107),
            retransmitted: false,
            held_lost: false,
        };
        bed.rack.on_delivered(&merged, at(130), Some(ms(100)), None);
        assert_eq!((bed.rack.xmit_ts, bed.rack.end_seq), (at(3), 4000));
        assert_eq!(bed.rack.rtt, ms(100), "20 ms is the time of nothing");
        assert!(
            !bed.detect(130, true).0,
            "what was sent again is on its way"
        );
    }

    #[test]
    fn reordering_is_an_original_below_the_highest_delivery() {
        // RFC 8985 section 6.2, step 3.
        let mut bed = Bed::with_segments(8);
        bed.sack(4, 104);
        assert!(!bed.rack.tolerance.reordering_seen);
        bed.sack(1, 104);
        assert!(bed.rack.tolerance.reordering_seen);
        for segment in 5..8 {
            bed.sack(segment, 107);
        }
        assert!(!bed.detect(107, false).0, "now there is a window");
    }

    #[test]
    fn each_round_with_a_dsack_widens_the_window_up_to_srtt() {
        // RFC 8985 section 6.2, step 4.
        let mut bed = Bed::with_segments(2);
        let window = |bed: &Bed| bed.rack.reo_wnd(&bed.flight, &path(0), false);
        assert_eq!(window(&bed), ms(25));
        bed.rack.on_dsack(1000, 5000);
        bed.rack.on_dsack(4000, 9000);
        assert_eq!(window(&bed), ms(50), "once per round");
        bed.rack.on_dsack(5000, 9000);
        assert_eq!(window(&bed), ms(75));
        for round in 9..20 {
            bed.rack.on_dsack(round * 1000, round * 1000 + 500);
        }
        assert_eq!(window(&bed), ms(100));
        for _ in 0..15 {
            bed.rack.on_recovery_exit();
        }
        assert_eq!(window(&bed), ms(100));
        bed.rack.on_recovery_exit();
        assert_eq!(window(&bed), ms(25));
    }

    #[test]
    fn at_a_time_out_what_left_a_moment_ago_is_not_lost() {
        // RFC 8985 section 6.3.
        let mut bed = Bed::with_segments(3);
        bed.sack(0, 100);
        bed.flight
            .on_sent(4000, at(390), Duration::ZERO, &mut bed.pool);
        bed.rack.mark_on_time_out(&mut bed.flight, &path(400));
        assert_eq!(bed.flight.lost_bytes(), 2000);
    }
}
