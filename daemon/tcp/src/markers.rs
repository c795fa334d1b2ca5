//! Timed segments, some dozens per window: the bounded source of [`SentRecord`]s for the delivery rate.
//!
//! The record of loss recovery joins neighbours that left at nearly the same time and cannot carry more per
//! segment; a marker each cwnd / 64 can, and costs the same for a window of a hundred segments as for one of a
//! hundred thousand. A segment that was sent again measures nothing (Karn's rule: its answer is ambiguous).
//! Invariant: markers ascend, and each is reported once. Only connections whose congestion control wants a
//! rate have any, and only while something is in flight: the memory is the worker's [`MarkerPool`].

use core::ops::Range;
use std::collections::VecDeque;

use crate::delivery_rate::{DeliveryRate, SentRecord};

/// A marker each cwnd / 64: a rate sample for almost every ACK of a path of a few megabytes. BBR looks for the
/// largest of a round, and with ten samples the largest is several per cent below what sixty show.
const PER_WINDOW: u64 = 64;
/// While the window doubles in a round, markers lie closer together: up to 64 * 2 ln 2 = 89 are in flight.
const MARKERS_MAX: usize = 96;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker {
    end: u64,
    record: SentRecord,
    /// Delivered already, or ambiguous.
    spent: bool,
}

/// Rings of markers that are not in use: one is 7 KiB, and there are never more than connections were busy at
/// once.
#[derive(Debug)]
pub(crate) struct MarkerPool {
    free: Vec<VecDeque<Marker>>,
    made: usize,
}

impl MarkerPool {
    /// Nothing is in it yet.
    pub(crate) fn new() -> Self {
        MarkerPool {
            free: Vec::new(),
            made: 0,
        }
    }

    fn take(&mut self) -> VecDeque<Marker> {
        self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            // Giving it back will not allocate.
            self.free.reserve(self.made);
            VecDeque::with_capacity(MARKERS_MAX)
        })
    }
}

/// Markers of one connection, in stream offsets.
#[derive(Debug)]
pub(crate) struct Markers {
    ring: VecDeque<Marker>,
    /// End of the newest marker.
    last: u64,
}

impl Markers {
    pub(crate) fn new() -> Self {
        Markers {
            ring: VecDeque::new(),
            last: 0,
        }
    }

    /// Nothing that is timed is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// New data up to `end` left with a congestion window of `cwnd` bytes.
    pub(crate) fn on_sent(
        &mut self,
        end: u64,
        cwnd: u32,
        record: &SentRecord,
        pool: &mut MarkerPool,
    ) {
        if self.ring.capacity() == 0 {
            self.ring = pool.take();
        }
        let distance = u64::from(cwnd) / PER_WINDOW;
        let due = self.ring.is_empty() || end >= self.last + distance;
        if due && self.ring.len() < MARKERS_MAX {
            self.ring.push_back(Marker {
                end,
                record: *record,
                spent: false,
            });
            self.last = end;
        }
    }

    /// `range` was sent again: what it said about time is ambiguous.
    pub(crate) fn on_sent_again(&mut self, range: &Range<u64>) {
        for marker in self.within(range) {
            marker.spent = true;
        }
    }

    /// What is known of a segment at `offset`: the record of the first one at or behind it.
    pub(crate) fn near(&self, offset: u64) -> Option<SentRecord> {
        let index = self.ring.partition_point(|marker| marker.end <= offset);
        self.ring.get(index).map(|marker| marker.record)
    }

    /// SACK reported `range`.
    pub(crate) fn on_sack(&mut self, range: &Range<u64>, rate: &mut DeliveryRate) {
        for marker in self.within(range) {
            if !core::mem::replace(&mut marker.spent, true) {
                rate.on_record(&marker.record);
            }
        }
    }

    /// The acknowledgement number moved to `una`.
    pub(crate) fn on_acknowledged(
        &mut self,
        una: u64,
        rate: &mut DeliveryRate,
        pool: &mut MarkerPool,
    ) {
        while let Some(marker) = self.ring.front().filter(|marker| marker.end <= una) {
            if !marker.spent {
                rate.on_record(&marker.record);
            }
            self.ring.pop_front();
        }
        if self.ring.is_empty() {
            self.release(pool);
        }
    }

    /// Nothing is in flight: the memory goes back.
    pub(crate) fn release(&mut self, pool: &mut MarkerPool) {
        let mut ring = core::mem::take(&mut self.ring);
        if ring.capacity() > 0 {
            ring.clear();
            pool.free.push(ring);
        }
    }

    /// The markers of segments that end in `range`.
    fn within(&mut self, range: &Range<u64>) -> impl Iterator<Item = &mut Marker> {
        let first = self
            .ring
            .partition_point(|marker| marker.end <= range.start);
        let next = self.ring.partition_point(|marker| marker.end <= range.end);
        self.ring.range_mut(first..next.max(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;

    const SMSS: u64 = 1_000;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    struct Bed {
        markers: Markers,
        rate: DeliveryRate,
        pool: MarkerPool,
    }

    impl Bed {
        /// So many segments out, one each millisecond, with a window of that size.
        fn new(segments: u32) -> Bed {
            let mut bed = Bed {
                markers: Markers::new(),
                rate: DeliveryRate::new(at(0)),
                pool: MarkerPool::new(),
            };
            for i in 0..u64::from(segments) {
                let record = bed.rate.on_sent(at(i), i * SMSS, SMSS);
                let cwnd = segments * 1_000;
                bed.markers
                    .on_sent((i + 1) * SMSS, cwnd, &record, &mut bed.pool);
            }
            bed
        }

        /// The round trip that the ACK of `una` measures at `now`.
        fn acknowledge(&mut self, una: u64, now: u64) -> Option<u128> {
            self.markers
                .on_acknowledged(una * SMSS, &mut self.rate, &mut self.pool);
            let sample = self.rate.take_sample(at(now), None)?;
            Some(sample.rtt.as_millis())
        }
    }

    #[test]
    fn a_window_has_some_sixty_markers_whatever_its_size() {
        for segments in [100u32, 1_000, 50_000] {
            let count = Bed::new(segments).markers.ring.len();
            assert!((50..=65).contains(&count), "{segments}: {count}");
        }
        assert_eq!(Bed::new(10).markers.ring.len(), 10, "each of a small one");
    }

    #[test]
    fn the_newest_segment_that_is_acknowledged_is_measured() {
        assert_eq!(Bed::new(10).acknowledge(3, 20), Some(18));
    }

    #[test]
    fn a_segment_is_measured_once_by_sack_or_acknowledgement() {
        let mut bed = Bed::new(10);
        bed.markers.on_sack(&(SMSS..3 * SMSS), &mut bed.rate);
        assert_eq!(bed.acknowledge(0, 20), Some(18));
        bed.markers.on_sack(&(SMSS..3 * SMSS), &mut bed.rate);
        assert_eq!(bed.acknowledge(0, 21), None);
        assert_eq!(bed.acknowledge(1, 22), Some(22));
        assert_eq!(bed.acknowledge(3, 23), None);
    }

    /// RFC 6298 section 3.
    #[test]
    fn a_repeated_segment_measures_nothing() {
        let mut bed = Bed::new(10);
        bed.markers.on_sent_again(&(0..SMSS));
        assert_eq!(bed.acknowledge(1, 20), None);
        assert_eq!(bed.acknowledge(2, 21), Some(20));
    }

    #[test]
    fn what_is_lost_is_described_by_the_nearest_marker() {
        let markers = Bed::new(10).markers;
        assert_eq!(markers.near(500).map(|record| record.in_flight), Some(SMSS));
        assert_eq!(
            markers.near(1_000).map(|record| record.in_flight),
            Some(2 * SMSS)
        );
        assert_eq!(markers.near(10_000), None);
    }

    #[test]
    fn a_block_that_ends_before_it_begins_names_nothing() {
        let mut bed = Bed::new(10);
        let (start, end) = (8_000, 2_000);
        bed.markers.on_sack(&(start..end), &mut bed.rate);
        assert_eq!(bed.acknowledge(0, 20), None);
    }

    #[test]
    fn the_memory_goes_back_when_nothing_is_in_flight() {
        let mut bed = Bed::new(10);
        bed.acknowledge(9, 20);
        assert!(bed.pool.free.is_empty());
        bed.acknowledge(10, 21);
        assert_eq!(bed.pool.free.len(), 1);
        assert_eq!(bed.markers.ring.capacity(), 0);
    }
}
