//! A few timed segments per window, and which bytes of a flight were delivered: the bounded source of
//! [`SentRecord`]s for the delivery rate and of round-trip times for HyStart++.
//!
//! About ten markers a window are enough for both (RFC 9406 wants eight round-trip times per round), and cost
//! the same for a window of ten segments as for one of a hundred thousand. Karn's rule: a marker whose bytes
//! are sent again is forgotten. Invariant: markers ascend, and every byte is counted as delivered once,
//! whether SACK or the acknowledgement number reports it first.

use core::ops::Range;

use crate::clock::Instant;
use crate::delivery_rate::{DeliveryRate, SentRecord};
use crate::ranges::RangeSet;

/// A marker each cwnd / 10.
const PER_WINDOW: u64 = 10;
/// Slow start doubles the distance of markers from round to round, so up to 10 * 2 ln 2 = 14 are in flight.
const MARKERS_MAX: usize = 16;
/// Ranges above the acknowledgement number whose bytes are known to be counted; others are counted when they
/// are acknowledged.
const RANGES_MAX: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Marker {
    end: u64,
    record: SentRecord,
}

/// Markers of one connection, in stream offsets.
pub(crate) struct Markers {
    live: [Marker; MARKERS_MAX],
    len: usize,
    /// End of the newest marker.
    last: u64,
    counted: RangeSet<RANGES_MAX>,
    /// Delivered by the ACK under way.
    delivered: u64,
}

impl Markers {
    pub(crate) fn new() -> Self {
        Markers {
            live: [Marker::default(); MARKERS_MAX],
            len: 0,
            last: 0,
            counted: RangeSet::new(),
            delivered: 0,
        }
    }

    /// New data up to `end` left with a congestion window of `cwnd` bytes.
    pub(crate) fn on_sent(&mut self, end: u64, cwnd: u32, record: &SentRecord) {
        let distance = u64::from(cwnd) / PER_WINDOW;
        if self.len < MARKERS_MAX && (self.len == 0 || end >= self.last + distance) {
            self.live[self.len] = Marker {
                end,
                record: *record,
            };
            self.len += 1;
            self.last = end;
        }
    }

    /// `range` was sent again: what it said about time is ambiguous.
    pub(crate) fn on_sent_again(&mut self, range: &Range<u64>) {
        self.take(
            |marker| range.start < marker.end && marker.end <= range.end,
            |_| {},
        );
    }

    /// What is known of a segment at `offset`: the record of the first one at or behind it.
    pub(crate) fn near(&self, offset: u64) -> Option<SentRecord> {
        let live = &self.live[..self.len];
        live.iter()
            .find(|marker| marker.end > offset)
            .map(|marker| marker.record)
    }

    /// SACK reported `range`, which lies above the acknowledgement number.
    pub(crate) fn on_sack(&mut self, now: Instant, range: &Range<u64>, rate: &mut DeliveryRate) {
        let Ok(news) = self.counted.insert(range.clone()) else {
            return;
        };
        self.count(now, news.bytes(), rate);
        self.take(
            |marker| range.start < marker.end && marker.end <= range.end,
            |record| rate.on_record(record),
        );
    }

    /// The acknowledgement number moved from `una_before` to `una`.
    pub(crate) fn on_acknowledged(
        &mut self,
        now: Instant,
        una_before: u64,
        una: u64,
        rate: &mut DeliveryRate,
    ) {
        let known = self.counted.covered_bytes();
        self.counted.remove_below(una);
        let known = known - self.counted.covered_bytes();
        self.count(now, (una - una_before).saturating_sub(known), rate);
        self.take(|marker| marker.end <= una, |record| rate.on_record(record));
    }

    /// Bytes delivered since the last call.
    pub(crate) fn take_delivered(&mut self) -> u64 {
        core::mem::take(&mut self.delivered)
    }

    /// The peer took back what it had reported (RFC 2018 section 8).
    pub(crate) fn forget(&mut self) {
        self.counted.clear();
    }

    fn count(&mut self, now: Instant, bytes: u64, rate: &mut DeliveryRate) {
        self.delivered += bytes;
        rate.on_delivered(now, bytes);
    }

    fn take(&mut self, gone: impl Fn(&Marker) -> bool, mut visit: impl FnMut(&SentRecord)) {
        let mut kept = 0;
        for index in 0..self.len {
            let marker = self.live[index];
            if gone(&marker) {
                visit(&marker.record);
            } else {
                self.live[kept] = marker;
                kept += 1;
            }
        }
        self.len = kept;
    }
}

impl core::fmt::Debug for Markers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Markers")
            .field("len", &self.len)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMSS: u64 = 1_000;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Ten segments out, one each millisecond, with a window of ten.
    fn flight() -> (Markers, DeliveryRate) {
        let mut markers = Markers::new();
        let mut rate = DeliveryRate::new(at(0));
        for i in 0..10 {
            let record = rate.on_sent(at(i), i * SMSS, SMSS);
            markers.on_sent((i + 1) * SMSS, 10_000, &record);
        }
        (markers, rate)
    }

    fn sampled_rtt(rate: &mut DeliveryRate, now: Instant) -> Option<u128> {
        let sample = rate.take_sample(now, None)?;
        Some(sample.rtt.as_millis())
    }

    #[test]
    fn a_window_has_ten_markers_whatever_its_size() {
        for segments in [10u32, 100, 5_000] {
            let mut markers = Markers::new();
            let mut rate = DeliveryRate::new(at(0));
            for i in 0..u64::from(segments) {
                let record = rate.on_sent(at(0), i, SMSS);
                markers.on_sent((i + 1) * SMSS, segments * 1_000, &record);
            }
            assert!((10..=11).contains(&markers.len), "{}", markers.len);
        }
    }

    #[test]
    fn a_marker_is_sampled_when_its_segment_is_acknowledged() {
        let (mut markers, mut rate) = flight();
        markers.on_acknowledged(at(20), 0, 3 * SMSS, &mut rate);
        assert_eq!(markers.take_delivered(), 3 * SMSS);
        assert_eq!(
            sampled_rtt(&mut rate, at(20)),
            Some(18),
            "the newest of three"
        );
    }

    #[test]
    fn bytes_are_delivered_once_by_sack_or_acknowledgement() {
        let (mut markers, mut rate) = flight();
        markers.on_sack(at(20), &(SMSS..3 * SMSS), &mut rate);
        markers.on_sack(at(20), &(SMSS..4 * SMSS), &mut rate);
        assert_eq!(markers.take_delivered(), 3 * SMSS);
        assert_eq!(sampled_rtt(&mut rate, at(20)), Some(17));
        markers.on_acknowledged(at(30), 0, 5 * SMSS, &mut rate);
        assert_eq!(markers.take_delivered(), 2 * SMSS);
        assert_eq!(rate.delivered(), 5 * SMSS);
    }

    /// RFC 6298 section 3.
    #[test]
    fn a_repeated_segment_is_not_timed() {
        let (mut markers, mut rate) = flight();
        markers.on_sent_again(&(0..SMSS));
        markers.on_acknowledged(at(20), 0, SMSS, &mut rate);
        assert_eq!(markers.take_delivered(), SMSS);
        assert_eq!(sampled_rtt(&mut rate, at(20)), None);
    }

    #[test]
    fn what_is_lost_is_described_by_the_nearest_marker() {
        let (markers, _) = flight();
        assert_eq!(markers.near(500).map(|record| record.in_flight), Some(SMSS));
        assert_eq!(
            markers.near(1_000).map(|record| record.in_flight),
            Some(2 * SMSS)
        );
        assert_eq!(markers.near(10_000), None);
    }

    #[test]
    fn too_many_holes_are_counted_when_they_are_acknowledged() {
        let (mut markers, mut rate) = flight();
        for i in 0..40u64 {
            markers.on_sack(at(20), &(i * 100 + 50..i * 100 + 100), &mut rate);
        }
        let by_sack = markers.take_delivered();
        assert_eq!(by_sack, 16 * 50);
        markers.on_acknowledged(at(30), 0, 4_000, &mut rate);
        assert_eq!(by_sack + markers.take_delivered(), 4_000);
    }
}
