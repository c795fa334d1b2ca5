//! Latency of requests: percentiles for the tables, a curve for the plot, and the interval log that the tools of
//! HdrHistogram read.
//!
//! Histograms count nanoseconds with three digits; documents say microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::{Deserialize, Serialize};

use super::Report;
use crate::error::Error;

/// Longest latency that is told from longer ones.
const MOST: Duration = Duration::from_secs(600);
/// Points of the curve for each halving of the distance to 1.
const TICKS_PER_HALF: u32 = 3;

/// What all runs of a contender say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Requests.
    pub count: u64,
    /// Half were faster.
    pub p50_us: f64,
    /// One in ten was slower.
    pub p90_us: f64,
    /// One in a hundred was slower.
    pub p99_us: f64,
    /// One in a thousand.
    pub p99_9_us: f64,
    /// One in ten thousand.
    pub p99_99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// Quantile below 1 and latency in microseconds, rising.
    pub curve: Vec<[f64; 2]>,
}

/// The requests that ended in a part of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Which run, from 1.
    pub run: u32,
    /// From the beginning of what was measured of that run.
    pub start: Duration,
    /// How long.
    pub length: Duration,
    /// Their latency in nanoseconds.
    pub histogram: Histogram<u64>,
}

/// An empty histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    let most = u64::try_from(MOST.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, most, 3).expect("three digits up to ten minutes are in bounds")
}

impl Latency {
    /// Of all intervals; `None` without a request.
    pub fn of(intervals: &[Interval]) -> Option<Latency> {
        let mut all = histogram();
        for interval in intervals {
            // The bounds are the same.
            all.add(&interval.histogram).ok()?;
        }
        Latency::of_histogram(&all)
    }

    /// Of one histogram of nanoseconds.
    pub fn of_histogram(all: &Histogram<u64>) -> Option<Latency> {
        let at = |quantile| micros(all.value_at_quantile(quantile));
        let curve = all
            .iter_quantiles(TICKS_PER_HALF)
            .map(|step| {
                [
                    step.quantile_iterated_to(),
                    micros(step.value_iterated_to()),
                ]
            })
            .filter(|point| point[0] < 1.0)
            .collect();
        (!all.is_empty()).then(|| Latency {
            count: all.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: micros(all.max()),
            curve,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "ten minutes are below 2^52 ns")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// All intervals of all contenders, tagged `scenario/row/contender`. Runs of a contender follow each other, as if the
/// next began when the one before ended.
pub fn interval_log(reports: &[Report]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let failed = |what: String| Error::io("interval log")(std::io::Error::other(what));
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("latency of requests in nanoseconds, by sluice-bench")
        .begin_log_with(&mut out, &mut serializer)
        .map_err(Error::io("interval log"))?;
    for report in reports {
        for row in &report.rows {
            for contender in &row.contenders {
                let tag = tag(&report.scenario, &row.name, &contender.name);
                let mut base = Duration::ZERO;
                for interval in &contender.intervals {
                    log.write_histogram(&interval.histogram, base, interval.length, Tag::new(&tag))
                        .map_err(|error| failed(error.to_string()))?;
                    base += interval.length;
                }
            }
        }
    }
    Ok(out)
}

/// Without what separates the fields of a log.
fn tag(scenario: &str, row: &str, contender: &str) -> String {
    format!("{scenario}/{row}/{contender}")
        .chars()
        .filter(|char| *char != ',')
        .map(|char| if char.is_whitespace() { '_' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::report::sample;

    fn interval(values_us: impl IntoIterator<Item = u64>) -> Interval {
        let mut histogram = histogram();
        for value in values_us {
            histogram.record(value * 1000).unwrap();
        }
        Interval {
            run: 1,
            start: Duration::ZERO,
            length: Duration::from_secs(1),
            histogram,
        }
    }

    #[test]
    fn percentiles_are_of_all_intervals_together() {
        let latency = Latency::of(&[interval(1..=500), interval(501..=1000)]).unwrap();
        assert_eq!(latency.count, 1000);
        assert!((latency.p50_us - 500.0).abs() < 1.0, "{latency:?}");
        assert!((latency.p99_9_us - 999.0).abs() < 2.0, "{latency:?}");
        assert!((latency.max_us - 1000.0).abs() < 1.0, "{latency:?}");
        let rising = latency.curve.is_sorted_by(|one, next| one[1] <= next[1]);
        assert!(rising && latency.curve.len() > 10, "{latency:?}");
    }

    #[test]
    fn without_requests_there_is_no_latency() {
        assert_eq!(Latency::of(&[interval([])]), None);
    }

    #[test]
    fn the_log_is_one_that_the_tools_read() {
        let mut report = sample::report([1.0, 2.0], [1.0, 2.0]);
        report.rows[0].name = "16 KiB, 64 connections".to_owned();
        report.rows[0].contenders[0].intervals = vec![interval(1..=10), interval(5..=6)];
        let log = interval_log(&[report]).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&log)
            .map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => interval,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(entries.len(), 2);
        let tag = entries[0].tag().unwrap();
        assert_eq!(tag.as_str(), "bulk/16_KiB_64_connections/xdp");
        assert_eq!(entries[1].start_timestamp(), Duration::from_secs(1));
    }
}
