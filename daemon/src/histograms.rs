//! Latency histograms of one worker: time to first byte, whole requests by size, round-trip time. Those of requests
//! begin with the last byte of the request head.
//!
//! A worker owns its set and is the only one to write it; readers get copies made by [`copy_from`] into memory
//! that exists already and merge those. All counters are allocated by [`WorkerHistograms::new`]: recording
//! never allocates and never fails, a value beyond the range counts as the largest one. Values are whole
//! microseconds with three significant digits.
//!
//! [`copy_from`]: WorkerHistograms::copy_from

use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant decimal digits of every value.
const DIGITS: u8 = 3;

/// Largest time to first byte and round-trip time told apart, in microseconds: one minute is the longest RTO
/// (RFC 6298, 2.5), beyond it nobody waits.
const LATENCY_MAX_US: u64 = 60 * 1_000_000;

/// Largest request duration told apart, in microseconds: a day, for terabytes over slow links.
const REQUEST_MAX_US: u64 = 24 * 3600 * 1_000_000;

/// Size of a response body, the second dimension of request times: a duration means nothing without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeClass {
    /// At most 4 KiB.
    UpTo4KiB,
    /// At most 64 KiB.
    UpTo64KiB,
    /// At most 1 MiB.
    UpTo1MiB,
    /// At most 64 MiB.
    UpTo64MiB,
    /// More than 64 MiB.
    Larger,
}

impl SizeClass {
    /// Every class, smallest first.
    pub const ALL: [Self; 5] = [
        Self::UpTo4KiB,
        Self::UpTo64KiB,
        Self::UpTo1MiB,
        Self::UpTo64MiB,
        Self::Larger,
    ];

    /// The class of a body of this many bytes.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        match bytes {
            0..=0x1000 => Self::UpTo4KiB,
            0x1001..=0x1_0000 => Self::UpTo64KiB,
            0x1_0001..=0x10_0000 => Self::UpTo1MiB,
            0x10_0001..=0x400_0000 => Self::UpTo64MiB,
            _ => Self::Larger,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::UpTo4KiB => 0,
            Self::UpTo64KiB => 1,
            Self::UpTo1MiB => 2,
            Self::UpTo64MiB => 3,
            Self::Larger => 4,
        }
    }

    /// The name of the class' series.
    #[must_use]
    pub const fn series_name(self) -> &'static str {
        match self {
            Self::UpTo4KiB => "request <= 4 KiB",
            Self::UpTo64KiB => "request <= 64 KiB",
            Self::UpTo1MiB => "request <= 1 MiB",
            Self::UpTo64MiB => "request <= 64 MiB",
            Self::Larger => "request larger",
        }
    }
}

/// The histograms of one worker, or the sum of several.
#[derive(Debug, Clone)]
pub struct WorkerHistograms {
    ttfb: Histogram<u64>,
    requests: [Histogram<u64>; SizeClass::ALL.len()],
    rtt: Histogram<u64>,
}

impl Default for WorkerHistograms {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerHistograms {
    /// Empty histograms with all memory they will ever use (about 1.4 MB).
    #[must_use]
    pub fn new() -> Self {
        Self {
            ttfb: histogram(LATENCY_MAX_US),
            requests: std::array::from_fn(|_| histogram(REQUEST_MAX_US)),
            rtt: histogram(LATENCY_MAX_US),
        }
    }

    /// Time from the last byte of a request head to the hand-over of the first response byte: how long a client
    /// takes to send its head is not our latency.
    pub fn record_ttfb(&mut self, elapsed: Duration) {
        record(&mut self.ttfb, elapsed);
    }

    /// Time from the last byte of a request head to the acknowledgement of the last response byte, by the size of
    /// the body.
    pub fn record_request(&mut self, body_bytes: u64, elapsed: Duration) {
        record(
            &mut self.requests[SizeClass::of(body_bytes).index()],
            elapsed,
        );
    }

    /// One round-trip time sample (RFC 6298).
    pub fn record_rtt(&mut self, sample: Duration) {
        record(&mut self.rtt, sample);
    }

    /// Adds the counts of another set. Does not allocate.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.each_mut().into_iter().zip(other.each()) {
            mine.add(theirs).expect("all sets have the same bounds");
        }
    }

    /// Becomes a copy of another set, in the memory it has. Does not allocate.
    pub fn copy_from(&mut self, other: &Self) {
        for (mine, theirs) in self.each_mut().into_iter().zip(other.each()) {
            mine.set_to(theirs).expect("all sets have the same bounds");
        }
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        for histogram in self.each_mut() {
            histogram.reset();
        }
    }

    /// Every series with its name, in the order tables show them; values in microseconds.
    pub fn series(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let names = std::iter::once("time to first byte")
            .chain(SizeClass::ALL.map(SizeClass::series_name))
            .chain(std::iter::once("round-trip time"));
        names.zip(self.each())
    }

    fn each(&self) -> [&Histogram<u64>; 7] {
        let [a, b, c, d, e] = &self.requests;
        [&self.ttfb, a, b, c, d, e, &self.rtt]
    }

    fn each_mut(&mut self) -> [&mut Histogram<u64>; 7] {
        let [a, b, c, d, e] = &mut self.requests;
        [&mut self.ttfb, a, b, c, d, e, &mut self.rtt]
    }
}

fn histogram(max_us: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, max_us, DIGITS)
        .expect("1 <= low, 2 * low <= high, digits <= 5: all of them constants")
}

fn record(histogram: &mut Histogram<u64>, elapsed: Duration) {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    // Not `record`: that one fails beyond the range, and a slow value must not vanish.
    histogram.saturating_record(micros);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(histograms: &WorkerHistograms, name: &str) -> u64 {
        let found = histograms.series().find(|(series, _)| *series == name);
        found.expect("a series of that name").1.len()
    }

    #[test]
    fn class_borders_belong_to_the_smaller_class() {
        for (bytes, class) in [
            (0, SizeClass::UpTo4KiB),
            (4 << 10, SizeClass::UpTo4KiB),
            ((4 << 10) + 1, SizeClass::UpTo64KiB),
            (64 << 10, SizeClass::UpTo64KiB),
            ((64 << 10) + 1, SizeClass::UpTo1MiB),
            (1 << 20, SizeClass::UpTo1MiB),
            ((1 << 20) + 1, SizeClass::UpTo64MiB),
            (64 << 20, SizeClass::UpTo64MiB),
            ((64 << 20) + 1, SizeClass::Larger),
            (u64::MAX, SizeClass::Larger),
        ] {
            assert_eq!(SizeClass::of(bytes), class, "{bytes}");
        }
    }

    #[test]
    fn requests_land_in_the_series_of_their_size() {
        for class in SizeClass::ALL {
            let bytes = [1, 5000, 100_000, 2 << 20, 1 << 30][class.index()];
            let mut histograms = WorkerHistograms::new();
            histograms.record_request(bytes, Duration::from_millis(1));
            assert_eq!(count(&histograms, class.series_name()), 1);
            assert_eq!(
                histograms
                    .series()
                    .map(|(_, series)| series.len())
                    .sum::<u64>(),
                1
            );
        }
    }

    #[test]
    fn values_keep_three_digits() {
        let mut histograms = WorkerHistograms::new();
        histograms.record_rtt(Duration::from_micros(123_456));
        let max = histograms.rtt.max();
        assert!((123_400..=123_599).contains(&max), "{max}");
    }

    #[test]
    fn values_beyond_the_range_count_as_the_largest() {
        let mut histograms = WorkerHistograms::new();
        histograms.record_ttfb(Duration::MAX);
        histograms.record_ttfb(Duration::ZERO);
        assert_eq!(histograms.ttfb.len(), 2);
        assert!(histograms.ttfb.max() >= LATENCY_MAX_US);
    }

    #[test]
    fn merging_adds_and_copying_replaces() {
        let mut first = WorkerHistograms::new();
        let mut second = WorkerHistograms::new();
        first.record_rtt(Duration::from_micros(10));
        second.record_rtt(Duration::from_micros(30));
        second.record_request(1, Duration::MAX);
        first.merge(&second);
        assert_eq!(count(&first, "round-trip time"), 2);
        assert_eq!(first.rtt.max(), 30);
        assert_eq!(count(&first, "request <= 4 KiB"), 1);
        first.copy_from(&second);
        assert_eq!(count(&first, "round-trip time"), 1);
        assert_eq!(first.rtt.min(), 30);
    }

    #[test]
    fn cleared_histograms_are_empty() {
        let mut histograms = WorkerHistograms::new();
        histograms.record_ttfb(Duration::from_micros(10));
        histograms.clear();
        assert_eq!(count(&histograms, "time to first byte"), 0);
    }

    #[test]
    fn nothing_grows_after_construction() {
        let mut histograms = WorkerHistograms::new();
        let capacity: Vec<_> = histograms.each().map(Histogram::distinct_values).to_vec();
        histograms.record_request(u64::MAX, Duration::MAX);
        histograms.record_rtt(Duration::MAX);
        let mut copy = WorkerHistograms::new();
        copy.copy_from(&histograms);
        copy.merge(&histograms);
        assert_eq!(
            copy.each().map(Histogram::distinct_values).to_vec(),
            capacity
        );
        assert!(
            copy.each()
                .iter()
                .all(|histogram| !histogram.is_auto_resize())
        );
    }
}
