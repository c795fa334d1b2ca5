//! What the link did, as JSON: the model's counters and how well the forwarder kept up with the model.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::model::Counters;

/// Lateness beyond this is worth a warning, in microseconds: the precision that the link is meant to have.
const LATE_US: u64 = 200;

/// Both directions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How long it ran.
    pub seconds: f64,
    /// CPU time that it used for it, user and system.
    pub cpu_seconds: f64,
    /// Frames that came in at the left interface.
    pub to_right: Direction,
    /// Frames that came in at the right interface.
    pub to_left: Direction,
}

/// One direction. `packets + duplicated = packets_out + dropped + held_at_end + not_sent`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Direction {
    /// What the model decided.
    #[serde(flatten)]
    pub decided: Counters,
    /// Frames that went out, duplicates included.
    pub packets_out: u64,
    /// Their bytes, without FCS.
    pub bytes_out: u64,
    /// Bits per second of what went out, over the whole run.
    pub bits_per_s_out: f64,
    /// Frames that were still on their way when it ended.
    pub held_at_end: u64,
    /// Frames that the device did not take: the link lost them against its model.
    pub not_sent: u64,
    /// Frames that the kernel dropped before the link saw them.
    pub receive_overflow: u64,
    /// Frames longer than the MTU, dropped: offloads are on somewhere.
    pub super_packets: u64,
    /// How much later than decided frames went out.
    pub late_us: Lateness,
}

/// Lateness of releases in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lateness {
    /// Half were better.
    pub p50: u64,
    /// One in a hundred was worse.
    pub p99: u64,
    /// The worst.
    pub max: u64,
}

impl Direction {
    /// With nothing sent yet.
    pub fn new(decided: Counters, lateness_us: &Histogram<u64>) -> Direction {
        Direction {
            decided,
            packets_out: 0,
            bytes_out: 0,
            bits_per_s_out: 0.0,
            held_at_end: 0,
            not_sent: 0,
            receive_overflow: 0,
            super_packets: 0,
            late_us: Lateness {
                p50: lateness_us.value_at_quantile(0.5),
                p99: lateness_us.value_at_quantile(0.99),
                max: lateness_us.max(),
            },
        }
    }

    /// Fills in the rate.
    #[expect(clippy::cast_precision_loss, reason = "byte counts far below 2^52")]
    pub fn rate_out(&mut self, elapsed: Duration) {
        self.bits_per_s_out = self.bytes_out as f64 * 8.0 / elapsed.as_secs_f64();
    }

    fn doubts(&self) -> impl Iterator<Item = String> {
        let doubt = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        [
            doubt(self.super_packets, "frames were longer than the MTU -> ethtool -K IF tso off gso off gro off on all interfaces"),
            doubt(self.receive_overflow, "frames were dropped before the link saw them: it does not get enough CPU"),
            doubt(self.not_sent, "frames were not taken by the device"),
            (self.late_us.p99 > LATE_US).then(|| {
                format!("one frame in a hundred was at least {} us late", self.late_us.p99)
            }),
        ]
        .into_iter()
        .flatten()
    }
}

impl Summary {
    /// The document.
    pub fn json(&self) -> String {
        let document = serde_json::json!({ "link": self, "warnings": self.warnings() });
        format!("{document:#}\n")
    }

    /// Where the link was not what it was told to be.
    pub fn warnings(&self) -> Vec<String> {
        let named = |name: &'static str| move |doubt| format!("{name}: {doubt}");
        let to_right = self.to_right.doubts().map(named("to the right"));
        to_right
            .chain(self.to_left.doubts().map(named("to the left")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction() -> Direction {
        let mut lateness = Histogram::new(3).unwrap();
        for us in 1..=100u64 {
            lateness.record(us).unwrap();
        }
        let decided = Counters {
            packets: 10,
            bytes: 1000,
            ..Counters::default()
        };
        Direction::new(decided, &lateness)
    }

    fn summary() -> Summary {
        let mut to_right = direction();
        to_right.bytes_out = 1_000_000;
        to_right.rate_out(Duration::from_secs(2));
        Summary {
            seconds: 2.0,
            cpu_seconds: 0.4,
            to_right,
            to_left: direction(),
        }
    }

    #[test]
    fn the_json_has_decisions_and_deeds_side_by_side() {
        let value: serde_json::Value = serde_json::from_str(&summary().json()).unwrap();
        assert_eq!(value["link"]["to_right"]["packets"], 10);
        assert_eq!(value["link"]["to_right"]["dropped"]["overflow"], 0);
        assert_eq!(value["link"]["to_right"]["bits_per_s_out"], 4_000_000.0);
        assert_eq!(value["link"]["to_left"]["late_us"]["p50"], 50);
        assert_eq!(value["warnings"], serde_json::json!([]));
    }

    #[test]
    fn a_link_that_was_not_what_it_was_told_says_so() {
        let mut doubtful = summary();
        doubtful.to_left.super_packets = 3;
        doubtful.to_right.late_us.p99 = 900;
        let warnings = doubtful.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("to the right: one frame in a hundred"));
        assert!(warnings[1].starts_with("to the left: 3 frames were longer"));
    }
}
