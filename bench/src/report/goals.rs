//! Goals of a scenario file and whether its rows meet them, in words and for the JSON document.
//!
//! Speed is judged here and nowhere else, and by nobody's exit status: a goal that is missed is printed. A ratio is that of the
//! values, `of` over `over`, whichever way the measure is better: of neighbouring runs within a row, of medians between rows.

use serde::{Deserialize, Serialize};

use super::{Report, Row};
use crate::measure::{Summary, ratios};

/// One goal, in every row that it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// Name of the measure.
    pub measure: String,
    /// Of `limit`; empty for ratios.
    pub unit: String,
    /// Name of the contender.
    pub of: String,
    /// What it is divided by: another contender, or `of` itself in another row; `None`: nothing.
    pub over: Option<String>,
    /// Which side of `limit` is good enough.
    pub bound: Bound,
    /// The bound.
    pub limit: f64,
    /// Which rows, in words; empty for all.
    pub when: String,
    /// A row each.
    pub results: Vec<Reached>,
}

/// A side of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast,
    /// This or less.
    AtMost,
    /// Less than this.
    Below,
}

/// What became of a goal in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// Name of the row.
    pub row: String,
    /// Name of the row of `over`, if that is another one.
    pub over_row: Option<String>,
    /// What is bounded; none if one of both did not run.
    pub reached: Option<Summary>,
    /// Whether the median is good enough; none if nothing is known.
    pub met: Option<bool>,
}

impl Bound {
    /// Whether a value is good enough. What is printed decides: 0.996 is 1.00 here.
    pub fn is_met(self, value: f64, limit: f64) -> bool {
        let printed = |value: f64| (value * 100.0).round();
        match self {
            Bound::AtLeast => printed(value) >= printed(limit),
            Bound::AtMost => printed(value) <= printed(limit),
            Bound::Below => printed(value) < printed(limit),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Bound::AtLeast => "at least",
            Bound::AtMost => "at most",
            Bound::Below => "below",
        }
    }
}

impl Goal {
    /// Looks into the rows for what became of it in the row `row`; `over_row` as in [`Reached`].
    pub fn judge(&self, rows: &[Row], row: &str, over_row: Option<&str>) -> Reached {
        let reached = self.reached(rows, row, over_row);
        Reached {
            row: row.to_owned(),
            over_row: over_row.map(str::to_owned),
            met: reached.map(|summary| self.bound.is_met(summary.median, self.limit)),
            reached,
        }
    }

    fn reached(&self, rows: &[Row], row: &str, over_row: Option<&str>) -> Option<Summary> {
        let series = |row: &str, contender: &str| {
            let row = rows.iter().find(|one| one.name == row)?;
            row.find(contender)?.series(&self.measure)
        };
        let of = series(row, &self.of)?;
        let values = match (&self.over, over_row) {
            (None, _) => of.runs.clone(),
            (Some(over), None) => ratios(&of.runs, &series(row, over)?.runs),
            // Runs of two rows are no neighbours.
            (Some(over), Some(other)) => {
                vec![of.summary.median / series(other, over)?.summary.median]
            }
        };
        // Nothing over nothing is no ratio.
        let are_finite = values.iter().all(|value| value.is_finite());
        Summary::of(&values).filter(|_| are_finite)
    }

    /// What is bounded, in words.
    pub fn subject(&self) -> String {
        match &self.over {
            None => self.of.clone(),
            Some(over) if *over == self.of => format!("{over}, beside others / alone"),
            Some(over) => format!("{} / {over}", self.of),
        }
    }

    /// The bound, in words.
    pub fn bound(&self) -> String {
        let unit = match self.unit.as_str() {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        // `Debug` writes 1.0 and not 1.
        format!("{} {:?}{unit}", self.bound.words(), self.limit)
    }

    /// Rows that meet it, that miss it, and that do not say.
    fn count(&self) -> [usize; 3] {
        [Some(true), Some(false), None]
            .map(|met| self.results.iter().filter(|one| one.met == met).count())
    }

    /// From the least to the most that was reached in a row.
    fn range(&self) -> String {
        let medians = self.results.iter().filter_map(|one| one.reached);
        let medians: Vec<f64> = medians.map(|summary| summary.median).collect();
        match Summary::of(&medians) {
            None => "—".to_owned(),
            Some(all) if all.min == all.max => format!("{:.2}", all.min),
            Some(all) => format!("{:.2}–{:.2}", all.min, all.max),
        }
    }
}

impl Reached {
    /// In words.
    pub fn verdict(&self) -> String {
        match (self.met, self.reached) {
            (Some(true), Some(reached)) => format!("met ({:.2})", reached.median),
            (Some(false), Some(reached)) => format!("**missed** ({:.2})", reached.median),
            _ => "not known: it did not run".to_owned(),
        }
    }
}

/// How the goals of all reports fared, in a sentence; none without goals.
pub fn headline(reports: &[Report]) -> Option<String> {
    let goals: Vec<&Goal> = reports.iter().flat_map(|report| &report.goals).collect();
    let [met, missed, unknown] = [0, 1, 2].map(|at| {
        let counts = goals.iter().map(|goal| goal.count()[at]);
        counts.sum::<usize>()
    });
    let said = format!("Goals, row by row: {met} met, {missed} missed, {unknown} not known");
    (!goals.is_empty()).then_some(said)
}

/// Headings of [`summary`].
pub const SUMMARY: [&str; 7] = [
    "scenario",
    "goal",
    "where",
    "met",
    "missed",
    "not known",
    "reached",
];

/// A line for each goal of all reports.
pub fn summary(reports: &[Report]) -> Vec<Vec<String>> {
    let goals = reports.iter().flat_map(|report| {
        let name = report.scenario.as_str();
        report.goals.iter().map(move |goal| (name, goal))
    });
    let line = |(scenario, goal): (&str, &Goal)| {
        let [met, missed, unknown] = goal.count();
        let missed = match missed {
            0 => missed.to_string(),
            _ => format!("**{missed}**"),
        };
        vec![
            scenario.to_owned(),
            format!("{}, {}: {}", goal.measure, goal.subject(), goal.bound()),
            goal.when.clone(),
            met.to_string(),
            missed,
            unknown.to_string(),
            goal.range(),
        ]
    };
    goals.map(line).collect()
}

/// Headings of [`lines`].
pub const LINES: [&str; 4] = ["what", "by", "of", "goal"];

/// A line for each row of each goal of a report.
pub fn lines(report: &Report) -> Vec<Vec<String>> {
    let results = report
        .goals
        .iter()
        .flat_map(|goal| goal.results.iter().map(move |one| (goal, one)));
    let line = |(goal, one): (&Goal, &Reached)| {
        vec![
            one.row.clone(),
            goal.measure.clone(),
            goal.subject(),
            format!("goal {}: {}", goal.bound(), one.verdict()),
        ]
    };
    results.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn goal(over: Option<&str>, bound: Bound, limit: f64) -> Goal {
        Goal {
            measure: "goodput".to_owned(),
            unit: String::new(),
            of: "xdp".to_owned(),
            over: over.map(str::to_owned),
            bound,
            limit,
            when: String::new(),
            results: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_is_that_of_neighbouring_runs() {
        let rows = sample::report([3.0, 5.0], [4.0, 4.0]).rows;
        let said = goal(Some("nginx"), Bound::AtLeast, 1.0).judge(&rows, "1 flow", None);
        let reached = said.reached.unwrap();
        assert_eq!(
            (reached.median, reached.min, reached.max),
            (1.0, 0.75, 1.25)
        );
        assert_eq!(said.met, Some(true));
    }

    #[test]
    fn without_another_the_value_itself_is_bounded() {
        let rows = sample::report([3.0, 5.0], [4.0, 4.0]).rows;
        let met = |bound, limit| goal(None, bound, limit).judge(&rows, "1 flow", None).met;
        assert_eq!(met(Bound::AtMost, 4.0), Some(true));
        assert_eq!(met(Bound::Below, 4.0), Some(false));
    }

    #[test]
    fn of_another_row_the_medians_are_compared() {
        let mut rows = sample::report([3.0, 5.0], [4.0, 4.0]).rows;
        rows.extend(sample::report([2.0, 2.0], [1.0, 1.0]).rows);
        rows[1].name = "alone".to_owned();
        let twice = goal(Some("xdp"), Bound::AtMost, 2.0).judge(&rows, "1 flow", Some("alone"));
        assert_eq!(twice.reached.unwrap().median, 2.0);
        assert_eq!(twice.met, Some(true));
    }

    #[test]
    fn what_did_not_run_is_neither_met_nor_missed() {
        let rows = sample::report([3.0, 5.0], [0.0, 4.0]).rows;
        for (over, row) in [
            ("kernel", "1 flow"),
            ("nginx", "9 flows"),
            ("nginx", "1 flow"),
        ] {
            let said = goal(Some(over), Bound::AtLeast, 1.0).judge(&rows, row, None);
            assert_eq!((said.reached, said.met), (None, None), "{over}, {row}");
            assert_eq!(said.verdict(), "not known: it did not run");
        }
    }

    #[test]
    fn what_is_printed_decides() {
        assert!(Bound::AtLeast.is_met(0.996, 1.0) && !Bound::AtLeast.is_met(0.994, 1.0));
        assert!(Bound::AtMost.is_met(1.204, 1.2) && !Bound::AtMost.is_met(1.206, 1.2));
        assert!(Bound::Below.is_met(0.994, 1.0) && !Bound::Below.is_met(0.996, 1.0));
    }

    #[test]
    fn a_goal_is_said_in_words() {
        let said = |goal: Goal| format!("{}: {}", goal.subject(), goal.bound());
        assert_eq!(
            said(goal(Some("nginx"), Bound::AtLeast, 1.0)),
            "xdp / nginx: at least 1.0"
        );
        let alone = said(goal(Some("xdp"), Bound::AtMost, 2.0));
        assert_eq!(alone, "xdp, beside others / alone: at most 2.0");
        let mut value = goal(None, Bound::Below, 1.0);
        value.unit = "%".to_owned();
        assert_eq!(said(value), "xdp: below 1.0 %");
    }
}
