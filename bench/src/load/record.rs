//! What the loader counts: requests, bytes and latencies of the time that is measured, not of what comes before.

use std::io::{self, Cursor};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use crate::report::{Interval, latency_histogram};

/// Between two values of a timeline.
const SLICE: Duration = Duration::from_millis(100);
/// Of a histogram.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the loader says at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// What was measured.
    pub seconds: f64,
    /// Answered in that time, in the open loop: due in that time and answered.
    pub requests: u64,
    /// Answers that came in that time, whenever they were due: what the CPU time of that time was spent on.
    pub answers: u64,
    /// Of bodies, in that time.
    pub bytes: u64,
    /// Requests that were answered wrongly or not at all.
    pub failed: u64,
    /// Requests of the open loop that were not answered within a grace after the end.
    pub unfinished: u64,
    /// Connections that rested to the end.
    pub at_rest: u64,
    /// The first failure.
    pub first_failure: Option<String>,
    /// Seconds of that time in which the client looked for frames in vain instead of sleeping: its CPU was busy with nothing.
    #[serde(default)]
    pub waited_s: f64,
    /// What the client itself lost of frames, from its start on: what it measures is then its own limit too.
    #[serde(default)]
    pub lost: Lost,
    /// Between two of `slices`.
    pub slice_s: f64,
    /// Bytes and requests of each part of that time.
    pub slices: Vec<[u64; 2]>,
}

/// Frames that the client over AF_XDP lost. That over the kernel's TCP does not know of any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Frames that were no segment for it, or a broken one.
    pub refused: u64,
    /// Segments that found no free frame or no room in the ring, or that the kernel lost on their way out.
    pub unsent: u64,
    /// Frames that the kernel dropped for want of a buffer or of room in the ring.
    pub dropped: u64,
}

impl Lost {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.refused + self.unsent + self.dropped
    }
}

/// What is counted so far.
pub struct Record {
    begin: Instant,
    end: Instant,
    /// Whether a request belongs to the time it was due in, and not to that it was answered in.
    by_due: bool,
    requests: u64,
    answers: u64,
    bytes: u64,
    failed: u64,
    first_failure: Option<String>,
    waited: Duration,
    slices: Vec<[u64; 2]>,
    histograms: Vec<Histogram<u64>>,
}

impl Record {
    /// Counts from `begin` to `end`.
    pub fn new(begin: Instant, end: Instant, by_due: bool) -> Record {
        let parts = |length: Duration| {
            let count = (end - begin).as_nanos().div_ceil(length.as_nanos());
            usize::try_from(count).unwrap_or(1).max(1)
        };
        Record {
            begin,
            end,
            by_due,
            requests: 0,
            answers: 0,
            bytes: 0,
            failed: 0,
            first_failure: None,
            waited: Duration::ZERO,
            slices: vec![[0; 2]; parts(SLICE)],
            histograms: vec![latency_histogram(); parts(INTERVAL)],
        }
    }

    /// Part of a body that came.
    pub fn body(&mut self, now: Instant, bytes: usize) {
        if let Some(slice) =
            part(self.begin, self.end, now, SLICE).and_then(|at| self.slices.get_mut(at))
        {
            self.bytes += bytes as u64;
            slice[0] += bytes as u64;
        }
    }

    /// A request that was due and now is answered.
    pub fn answered(&mut self, due: Instant, now: Instant) {
        self.answers += u64::from((self.begin..self.end).contains(&now));
        let when = if self.by_due { due } else { now };
        let Some(slice) =
            part(self.begin, self.end, when, SLICE).and_then(|at| self.slices.get_mut(at))
        else {
            return;
        };
        slice[1] += 1;
        self.requests += 1;
        let interval = part(self.begin, self.end, when, INTERVAL).unwrap_or(0);
        if let Some(histogram) = self.histograms.get_mut(interval) {
            let nanos = now.saturating_duration_since(due).as_nanos();
            histogram.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX).max(1));
        }
    }

    /// A request that went wrong, at any time.
    pub fn failed(&mut self, why: &io::Error) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| why.to_string());
    }

    /// How many went wrong so far, and the first of them.
    pub fn failures(&self) -> (u64, &str) {
        (
            self.failed,
            self.first_failure.as_deref().unwrap_or_default(),
        )
    }

    /// Counts anew, from `begin` to `end`; failures stay.
    pub fn restart(&mut self, begin: Instant, end: Instant) {
        *self = Record {
            failed: self.failed,
            first_failure: self.first_failure.take(),
            ..Record::new(begin, end, self.by_due)
        };
    }

    /// The client looked for frames in vain, for so long, until now.
    pub fn waited(&mut self, now: Instant, time: Duration) {
        if (self.begin..self.end).contains(&now) {
            self.waited += time;
        }
    }

    /// All of it, with what the agenda knows.
    pub fn outcome(&self, unfinished: u64, at_rest: u64) -> Outcome {
        Outcome {
            seconds: (self.end - self.begin).as_secs_f64(),
            requests: self.requests,
            answers: self.answers,
            bytes: self.bytes,
            failed: self.failed,
            unfinished,
            at_rest,
            first_failure: self.first_failure.clone(),
            waited_s: self.waited.as_secs_f64(),
            lost: Lost::default(),
            slice_s: SLICE.as_secs_f64(),
            slices: self.slices.clone(),
        }
    }

    /// The histograms, one behind the other.
    pub fn histograms(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut serializer = V2Serializer::new();
        for histogram in &self.histograms {
            serializer
                .serialize(histogram, &mut out)
                .map_err(io::Error::other)?;
        }
        Ok(out)
    }
}

/// Reads what [`Record::histograms`] wrote about a run of `seconds`.
pub fn read_histograms(bytes: &[u8], run: u32, seconds: f64) -> io::Result<Vec<Interval>> {
    let mut reader = Cursor::new(bytes);
    let mut deserializer = Deserializer::new();
    let mut intervals = Vec::new();
    let (mut start, whole) = (Duration::ZERO, Duration::from_secs_f64(seconds));
    while reader.position() < bytes.len() as u64 {
        let read: Histogram<u64> = deserializer
            .deserialize(&mut reader)
            .map_err(io::Error::other)?;
        let mut histogram = latency_histogram();
        histogram.add(&read).map_err(io::Error::other)?;
        intervals.push(Interval {
            run,
            start,
            length: INTERVAL.min(whole.saturating_sub(start)),
            histogram,
        });
        start += INTERVAL;
    }
    Ok(intervals)
}

/// Which part of the time this is, if it is in it.
fn part(begin: Instant, end: Instant, now: Instant, length: Duration) -> Option<usize> {
    let since = now.checked_duration_since(begin).filter(|_| now < end)?;
    usize::try_from(since.as_nanos() / length.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn record(by_due: bool) -> (Instant, Record) {
        let begin = Instant::now();
        (
            begin,
            Record::new(begin + 1000 * MS, begin + 2500 * MS, by_due),
        )
    }

    #[test]
    fn only_what_happens_in_the_time_is_counted() {
        let (zero, mut record) = record(false);
        for (due, now) in [(0, 999), (999, 1000), (1000, 2499), (2400, 2500)] {
            record.answered(zero + due * MS, zero + now * MS);
            record.body(zero + now * MS, 10);
        }
        let outcome = record.outcome(0, 0);
        assert_eq!((outcome.requests, outcome.bytes), (2, 20));
        assert_eq!(outcome.answers, outcome.requests);
        assert_eq!(outcome.slices.len(), 15);
        assert_eq!((outcome.slices[0], outcome.slices[14]), ([10, 1], [10, 1]));
        assert_eq!(outcome.seconds, 1.5);
    }

    #[test]
    fn what_the_client_waits_counts_in_that_time_alone() {
        let (zero, mut record) = record(false);
        for now in [999, 1000, 2499, 2500] {
            record.waited(zero + now * MS, 100 * MS);
        }
        assert_eq!(record.outcome(0, 0).waited_s, 0.2);
    }

    #[test]
    fn an_open_loop_counts_what_was_due_however_late_it_was_answered() {
        let (zero, mut record) = record(true);
        record.answered(zero + 900 * MS, zero + 1100 * MS);
        record.answered(zero + 2400 * MS, zero + 4000 * MS);
        assert_eq!(record.outcome(0, 0).requests, 1);
        let intervals = read_histograms(&record.histograms().unwrap(), 1, 1.5).unwrap();
        assert_eq!(intervals.len(), 2);
        assert_eq!(intervals[1].length, 500 * MS);
        let slowest = intervals[1].histogram.max();
        assert!(
            slowest.abs_diff(1_600_000_000) < 2_000_000,
            "from when it was due: {slowest}"
        );
    }

    #[test]
    fn the_answers_of_a_time_are_those_that_came_in_it_whenever_they_were_due() {
        let (zero, mut record) = record(true);
        for (due, now) in [(900, 1100), (2400, 2499), (2400, 2500), (2400, 4000)] {
            record.answered(zero + due * MS, zero + now * MS);
        }
        let outcome = record.outcome(0, 0);
        assert_eq!((outcome.requests, outcome.answers), (3, 2));
    }

    #[test]
    fn the_first_failure_is_kept() {
        let (zero, mut record) = record(false);
        for why in ["one", "two"] {
            record.failed(&io::Error::other(why));
        }
        record.restart(zero, zero + MS);
        let outcome = record.outcome(0, 0);
        let failures = (outcome.failed, outcome.first_failure.as_deref());
        assert_eq!(failures, (2, Some("one")));
    }
}
