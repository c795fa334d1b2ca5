//! Delivery rate: how fast the path brings data to the peer, measured over each flight
//! (draft-cheng-iccrg-delivery-rate-estimation; the same algorithm as in draft-ietf-ccwg-bbr, Delivery Rate
//! Samples).
//!
//! A [`SentRecord`] is taken when a segment leaves and given back when it was delivered, cumulatively or by
//! SACK. The rate is what was delivered between the two divided by the longer of the time it took to send
//! and the time it took to be acknowledged: the first alone would believe in compressed ACKs, the second
//! alone in stretched ones. Invariant: nothing here depends on how many records there are, so the owner may
//! keep one per segment or a few per window. A sample of a flight in which the application ran dry is marked.

use core::time::Duration;

use crate::clock::Instant;

/// What is remembered of a segment until it is delivered (per-packet state P of the drafts).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SentRecord {
    /// P.send_time.
    pub sent_at: Instant,
    /// P.delivered: bytes delivered before it left.
    pub delivered: u64,
    /// P.delivered_time.
    pub delivered_at: Instant,
    /// P.first_send_time.
    pub first_sent_at: Instant,
    /// P.lost: bytes declared lost before it left.
    pub lost: u64,
    /// P.tx_in_flight: bytes in flight with this segment.
    pub in_flight: u64,
    /// P.is_app_limited.
    pub app_limited: bool,
}

/// One measurement (rate sample RS of the drafts).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateSample {
    /// Bytes per second; 0 if the interval is too short to mean anything.
    pub rate: u64,
    /// Bytes delivered in the interval.
    pub delivered: u64,
    /// Bytes delivered before the newest delivered segment left: tells packet-timed round trips apart.
    pub prior_delivered: u64,
    /// Bytes declared lost since then.
    pub lost: u64,
    /// Bytes in flight when that segment left.
    pub in_flight: u64,
    /// From its departure to this acknowledgement.
    pub rtt: Duration,
    /// The application had nothing to send in this flight: the path may be faster.
    pub app_limited: bool,
}

/// Delivery state of one connection (C of the drafts).
#[derive(Clone, Copy, Debug)]
pub struct DeliveryRate {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    lost: u64,
    /// C.app_limited: until this many bytes are delivered, flights have a bubble. 0: none has.
    app_limited_until: u64,
    /// The newest segment delivered by the ACK under way.
    newest: Option<SentRecord>,
}

impl DeliveryRate {
    /// Nothing sent yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        DeliveryRate {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            lost: 0,
            app_limited_until: 0,
            newest: None,
        }
    }

    /// With nothing in flight, after `delivered` bytes; `app_limited` as in [`Self::is_app_limited`]. The next segment
    /// begins an interval, and of what was lost only differences matter.
    pub(crate) fn resumed(delivered: u64, app_limited: bool) -> Self {
        let mut rate = DeliveryRate::new(Instant::ZERO);
        rate.delivered = delivered;
        if app_limited {
            rate.on_app_limited(0);
        }
        rate
    }

    /// C.delivered in bytes.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// C.lost in bytes.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether flights have a bubble now.
    #[must_use]
    pub fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// A segment of `len` bytes leaves while `in_flight` others are out.
    pub fn on_sent(&mut self, now: Instant, in_flight: u64, len: u64) -> SentRecord {
        if in_flight == 0 {
            // The interval begins here: silence before is not the path's.
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        SentRecord {
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight: in_flight + len,
            app_limited: self.is_app_limited(),
        }
    }

    /// `bytes` were newly delivered. Call it before [`Self::on_record`] for what the same ACK delivered.
    pub fn on_delivered(&mut self, now: Instant, bytes: u64) {
        if bytes > 0 {
            self.delivered += bytes;
            self.delivered_at = now;
        }
    }

    /// The segment of `record` was delivered and had not been sent twice (a repeated one is ambiguous).
    pub fn on_record(&mut self, record: &SentRecord) {
        if self
            .newest
            .is_none_or(|newest| record.sent_at >= newest.sent_at)
        {
            self.newest = Some(*record);
        }
    }

    /// `bytes` were declared lost.
    pub fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// There was room to send, and nothing to send: what is in flight now is followed by a bubble.
    pub fn on_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// The sample of the ACK that was just processed, if it delivered a segment with a record. `min_rtt` as
    /// known before this ACK: a shorter interval comes from a segment that was in fact sent earlier.
    pub fn take_sample(&mut self, now: Instant, min_rtt: Option<Duration>) -> Option<RateSample> {
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let newest = self.newest.take()?;
        let send_elapsed = newest.sent_at.saturating_since(newest.first_sent_at);
        let ack_elapsed = self.delivered_at.saturating_since(newest.delivered_at);
        self.first_sent_at = self.first_sent_at.max(newest.sent_at);
        let interval = send_elapsed.max(ack_elapsed);
        let delivered = self.delivered - newest.delivered;
        let reliable = !interval.is_zero() && min_rtt.is_none_or(|min_rtt| interval >= min_rtt);
        Some(RateSample {
            rate: if reliable {
                bytes_per_second(delivered, interval)
            } else {
                0
            },
            delivered,
            prior_delivered: newest.delivered,
            lost: self.lost - newest.lost,
            in_flight: newest.in_flight,
            rtt: now.saturating_since(newest.sent_at),
            app_limited: newest.app_limited,
        })
    }
}

/// CheckIfApplicationLimited: of `unsent` bytes no segment of `smss` can be made, and `cwnd` has room for one.
///
/// For a whole one, as the draft counts packets. A driver that supplies what the window lets leave and no more supplies
/// the part of a segment with which the window ends: then the flow waits for its window and not for the application.
pub(crate) fn is_dry(unsent: u64, in_flight: u64, cwnd: u32, smss: u32) -> bool {
    let smss = u64::from(smss);
    unsent < smss && in_flight + smss <= u64::from(cwnd)
}

fn bytes_per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1_000;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn deliver(rate: &mut DeliveryRate, now: Instant, record: &SentRecord) -> RateSample {
        rate.on_delivered(now, SEGMENT);
        rate.on_record(record);
        rate.take_sample(now, None).expect("a record was delivered")
    }

    /// Sends one segment each millisecond; each is delivered 10 ms later.
    #[test]
    fn a_steady_flow_is_measured_at_its_rate() {
        let mut rate = DeliveryRate::new(at(0));
        let records: Vec<SentRecord> = (0..10)
            .map(|i| rate.on_sent(at(i), i * SEGMENT, SEGMENT))
            .collect();
        let samples: Vec<RateSample> = (0..10u64)
            .zip(&records)
            .map(|(i, record)| deliver(&mut rate, at(10 + i), record))
            .collect();
        let last = samples.last().expect("ten of them");
        // Ten segments in the 19 ms since the first of them left, the pipe being empty before.
        assert_eq!(last.rate, 10 * SEGMENT * 1_000 / 19);
        assert_eq!((last.delivered, last.prior_delivered), (10 * SEGMENT, 0));
        assert_eq!(last.rtt, Duration::from_millis(10));
        let next = rate.on_sent(at(20), 9 * SEGMENT, SEGMENT);
        for i in 0..9 {
            rate.on_delivered(at(21 + i), SEGMENT);
        }
        assert_eq!(deliver(&mut rate, at(30), &next).rate, 1_000_000 * 10 / 11);
    }

    /// Compressed ACKs: a flight is acknowledged at once, the send time is the longer interval.
    #[test]
    fn acks_that_come_at_once_do_not_raise_the_rate() {
        let mut rate = DeliveryRate::new(at(0));
        let first = rate.on_sent(at(0), 0, SEGMENT);
        let _ = deliver(&mut rate, at(10), &first);
        let mut record = rate.on_sent(at(10), SEGMENT, SEGMENT);
        for i in 1..=10 {
            record = rate.on_sent(at(10 + i * 2), SEGMENT * i, SEGMENT);
        }
        rate.on_delivered(at(31), 10 * SEGMENT);
        let sample = deliver(&mut rate, at(31), &record);
        assert_eq!(sample.rate, 11 * SEGMENT * 1_000 / 30);
    }

    #[test]
    fn an_interval_below_the_shortest_round_trip_gives_no_rate() {
        let mut rate = DeliveryRate::new(at(0));
        let record = rate.on_sent(at(0), 0, SEGMENT);
        rate.on_delivered(at(3), SEGMENT);
        rate.on_record(&record);
        let sample = rate.take_sample(at(3), Some(Duration::from_millis(5)));
        assert_eq!(
            sample.map(|sample| (sample.rate, sample.delivered)),
            Some((0, SEGMENT))
        );
    }

    /// The bubble has left the pipe when more was delivered than was in flight when it arose.
    #[test]
    fn samples_are_app_limited_until_the_bubble_is_gone() {
        let mut rate = DeliveryRate::new(at(0));
        let first = rate.on_sent(at(0), 0, SEGMENT);
        rate.on_app_limited(SEGMENT);
        let second = rate.on_sent(at(1), SEGMENT, SEGMENT);
        assert!(!deliver(&mut rate, at(10), &first).app_limited);
        assert!(rate.is_app_limited());
        assert!(deliver(&mut rate, at(11), &second).app_limited);
        assert!(!rate.is_app_limited());
        let third = rate.on_sent(at(12), 0, SEGMENT);
        assert!(!deliver(&mut rate, at(20), &third).app_limited);
    }

    #[test]
    fn a_window_with_room_for_a_part_of_a_segment_is_not_the_application_that_is_dry() {
        let is_dry = |unsent, in_flight| is_dry(unsent, in_flight, 10_500, 1_000);
        assert!(is_dry(0, 9_500), "room for a segment, and none");
        assert!(is_dry(999, 4_000), "nor a whole one");
        assert!(!is_dry(1_000, 4_000), "the pacer lets it wait");
        assert!(!is_dry(500, 10_000), "all that the window lets leave");
        assert!(!is_dry(0, 9_501));
    }

    #[test]
    fn silence_is_not_part_of_the_interval() {
        let mut rate = DeliveryRate::new(at(0));
        let first = rate.on_sent(at(0), 0, SEGMENT);
        let _ = deliver(&mut rate, at(10), &first);
        let late = rate.on_sent(at(60_000), 0, SEGMENT);
        assert_eq!(deliver(&mut rate, at(60_010), &late).rate, SEGMENT * 100);
    }

    #[test]
    fn losses_since_departure_are_reported() {
        let mut rate = DeliveryRate::new(at(0));
        rate.on_lost(500);
        let record = rate.on_sent(at(0), 0, SEGMENT);
        rate.on_lost(2 * SEGMENT);
        let sample = deliver(&mut rate, at(10), &record);
        assert_eq!((sample.lost, sample.in_flight), (2 * SEGMENT, SEGMENT));
    }

    #[test]
    fn an_ack_without_a_record_gives_no_sample() {
        let mut rate = DeliveryRate::new(at(0));
        rate.on_delivered(at(1), SEGMENT);
        assert_eq!(rate.take_sample(at(1), None), None);
        assert_eq!(rate.delivered(), SEGMENT);
    }
}
