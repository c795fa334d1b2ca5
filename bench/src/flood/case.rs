//! The runs under one kind of flood, and all kinds side by side.

use super::Run;
use super::generator::Kind;
use crate::measure::{Summary, ratios};
use crate::report::{Contender, Measure, Row};

/// A flood below this part of its rate was not the flood that was asked for.
const RATE_DOUBTFUL: f64 = 0.95;
/// What has to be left of the goodput.
const GOODPUT_MIN: f64 = 0.9;
const NONE: &str = "none";
const CONTROL: &str = "control";

/// The runs under one kind of flood.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// Its runs, in order.
    pub runs: Vec<Run>,
}

impl Case {
    /// A case without runs.
    pub fn new(kind: Option<Kind>) -> Case {
        Case {
            name: match kind {
                None => NONE,
                Some(Kind::Control) => CONTROL,
                Some(Kind::Everywhere) => "everywhere",
                Some(Kind::Network) => "one /24",
            },
            runs: Vec::new(),
        }
    }

    fn is_flood(&self) -> bool {
        ![NONE, CONTROL].contains(&self.name)
    }

    fn of(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().map(value).collect()
    }

    fn failed(&self) -> u32 {
        self.runs.iter().map(|run| run.failed).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "a few thousand connections")]
    fn contender(&self) -> Contender {
        Contender::new(self.name)
            .with(
                Measure::more("goodput", "Gbit/s"),
                self.of(|run| run.gbit_per_s),
            )
            .with(
                Measure::plain("flood", "frames/s"),
                self.of(|run| run.frames_per_s),
            )
            .with(
                Measure::plain("connected", ""),
                self.of(|run| run.connect_ms.len() as f64),
            )
            .with(
                Measure::less("failed connections", ""),
                self.of(|run| run.failed.into()),
            )
            .with(
                Measure::less("connect p50", "ms"),
                self.of(|run| part(&run.connect_ms, 0.5)),
            )
            .with(
                Measure::less("connect p99", "ms"),
                self.of(|run| part(&run.connect_ms, 0.99)),
            )
    }
}

/// The time within which this part of the connections was there.
fn part(times: &[f64], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand times, and a part of them"
    )]
    let place = (times.len() as f64 * part).ceil() as usize;
    times.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// All of them, each flood compared with its control.
pub fn row(cases: &[Case]) -> Row {
    let mut row = Row::new("under a flood");
    for case in cases {
        row.push(case.contender());
    }
    for case in cases.iter().filter(|case| case.is_flood()) {
        row.compare(case.name, CONTROL, Some(GOODPUT_MIN));
    }
    row
}

/// Floods that were too slow.
pub fn warnings(cases: &[Case], rate: u32) -> Vec<String> {
    let wanted = RATE_DOUBTFUL * f64::from(rate);
    let slowest = |case: &Case| {
        case.of(|run| run.frames_per_s)
            .into_iter()
            .fold(f64::INFINITY, f64::min)
    };
    let floods = cases.iter().filter(|case| case.name != NONE);
    floods
        .map(|case| (case.name, slowest(case)))
        .filter(|(_, slowest)| *slowest < wanted)
        .map(|(name, slowest)| format!("the flood \"{name}\" came at {slowest:.0} frames/s only"))
        .collect()
}

/// Whether the goal is met: nine tenths of the goodput and every honest connection.
pub fn findings(cases: &[Case]) -> Vec<String> {
    let goodput = |case: &Case| case.of(|run| run.gbit_per_s);
    let control = cases
        .iter()
        .find(|case| case.name == CONTROL)
        .map(goodput)
        .unwrap_or_default();
    let floods = cases.iter().filter(|case| case.is_flood());
    floods
        .filter_map(|case| {
            let ratio = Summary::of(&ratios(&goodput(case), &control))?;
            Some(format!(
                "{}: {}",
                case.name,
                verdict(ratio.median, case.failed())
            ))
        })
        .collect()
}

fn verdict(ratio: f64, failed: u32) -> String {
    let goodput = if ratio >= GOODPUT_MIN {
        "at least 90 % of the goodput is left"
    } else {
        "less than 90 % of the goodput is left"
    };
    match failed {
        0 => format!("{goodput}, and every connection succeeded"),
        failed => format!("{goodput}, and {failed} connections failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(under_flood: [f64; 2], frames_per_s: f64, failed: u32) -> Vec<Case> {
        let case = |kind, rates: [f64; 2], frames_per_s, failed| Case {
            runs: rates
                .map(|gbit_per_s| Run {
                    gbit_per_s,
                    frames_per_s,
                    connect_ms: vec![0.5, 1.0, 2.0, 1000.5],
                    failed,
                })
                .to_vec(),
            ..Case::new(kind)
        };
        vec![
            case(None, [4.0, 4.0], 0.0, 0),
            case(Some(Kind::Control), [2.0, 2.0], 500_000.0, 0),
            case(Some(Kind::Everywhere), under_flood, frames_per_s, failed),
        ]
    }

    #[test]
    fn a_flood_is_compared_with_its_control() {
        let row = row(&cases([1.9, 1.9], 500_000.0, 0));
        assert_eq!(row.comparisons.len(), 1);
        assert_eq!(row.comparisons[0].summary.median, 0.95);
        assert_eq!(row.comparisons[0].is_met(), Some(true));
        let flood = row.find("everywhere").unwrap();
        assert_eq!(flood.series("connect p50").unwrap().summary.median, 1.0);
        assert_eq!(flood.series("connect p99").unwrap().summary.median, 1000.5);
    }

    #[test]
    fn the_goal_is_goodput_and_every_connection() {
        assert_eq!(
            findings(&cases([1.9, 1.9], 500_000.0, 0)),
            ["everywhere: at least 90 % of the goodput is left, and every connection succeeded"]
        );
        assert_eq!(
            findings(&cases([1.0, 1.0], 500_000.0, 1)),
            ["everywhere: less than 90 % of the goodput is left, and 2 connections failed"]
        );
    }

    #[test]
    fn a_flood_that_was_too_slow_is_doubted() {
        let warnings = warnings(&cases([2.0, 2.0], 300_000.0, 0), 500_000);
        assert_eq!(
            warnings,
            ["the flood \"everywhere\" came at 300000 frames/s only"]
        );
    }
}
