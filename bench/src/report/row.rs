//! A row: the same thing done by several contenders in turn, all of their runs, and who was better.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::latency::{Interval, Latency};
use crate::measure::{Summary, ratios};
use crate::offloads::Offloads;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its unit; empty for counts.
    pub unit: Cow<'static, str>,
    /// Which way is better.
    pub better: Better,
    /// Of interest to machines and to whoever doubts: not in the tables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detail: bool,
}

/// Which way a measure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Throughput.
    More,
    /// Cost, latency.
    Less,
    /// A condition.
    Neither,
}

/// All runs of one measure, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Of what.
    pub measure: Measure,
    /// A value for each run.
    pub runs: Vec<f64>,
    /// Of the runs.
    pub summary: Summary,
}

/// How a server serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// In its own words: attach and bind mode, lane, checksums, queues; or version.
    pub how: String,
    /// Of both links while it ran: attaching an XDP program changes some.
    pub offloads: Offloads,
}

/// A quantity over the time of the last run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// Between two values.
    pub interval_s: f64,
    /// Unit of the values.
    pub unit: String,
    /// The mean of each interval.
    pub values: Vec<f64>,
}

/// One that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contender {
    /// Which.
    pub name: String,
    /// Of servers.
    pub serving: Option<Serving>,
    /// A measure each.
    pub series: Vec<Series>,
    /// Of all runs together.
    pub latency: Option<Latency>,
    /// Of the last run.
    pub timeline: Option<Timeline>,
    /// What `latency` was computed from, for the interval log.
    #[serde(skip)]
    pub intervals: Vec<Interval>,
}

/// One beside another, run by run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Name of the measure.
    pub measure: String,
    /// The first.
    pub ours: String,
    /// The other.
    pub theirs: String,
    /// Above 1 the first is better: the ratio of each pair of runs that followed each other.
    pub pairs: Vec<f64>,
    /// Of the pairs.
    pub summary: Summary,
    /// The least median that is good enough, if there is one.
    pub goal: Option<f64>,
    /// Name of who was better in every pair.
    pub won: Option<String>,
}

/// The same thing, done by several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What tells it from the others.
    pub name: String,
    /// Name of the measure that decides who was better.
    pub decided_by: String,
    /// What the name says, for machines.
    pub parameters: BTreeMap<String, Value>,
    /// Whose runs took turns.
    pub contenders: Vec<Contender>,
    /// Who was better.
    pub comparisons: Vec<Comparison>,
}

impl Measure {
    /// More of it is better.
    pub const fn more(name: &'static str, unit: &'static str) -> Measure {
        Measure::new(name, unit, Better::More)
    }

    /// Less of it is better.
    pub const fn less(name: &'static str, unit: &'static str) -> Measure {
        Measure::new(name, unit, Better::Less)
    }

    /// A condition.
    pub const fn plain(name: &'static str, unit: &'static str) -> Measure {
        Measure::new(name, unit, Better::Neither)
    }

    const fn new(name: &'static str, unit: &'static str, better: Better) -> Measure {
        Measure {
            name: Cow::Borrowed(name),
            unit: Cow::Borrowed(unit),
            better,
            detail: false,
        }
    }

    /// Not in the tables.
    pub const fn detail(mut self) -> Measure {
        self.detail = true;
        self
    }
}

impl Contender {
    /// Without runs.
    pub fn new(name: impl Into<String>) -> Contender {
        Contender {
            name: name.into(),
            serving: None,
            series: Vec::new(),
            latency: None,
            timeline: None,
            intervals: Vec::new(),
        }
    }

    /// Adds a measure with a value for each run; none if there was no run.
    #[must_use]
    pub fn with(mut self, measure: Measure, runs: Vec<f64>) -> Contender {
        if let Some(summary) = Summary::of(&runs) {
            self.series.push(Series {
                measure,
                runs,
                summary,
            });
        }
        self
    }

    /// Adds a value to each of these measures: one more run.
    pub fn push_run(&mut self, values: impl IntoIterator<Item = (Measure, f64)>) {
        for (measure, value) in values {
            let known = self.series.iter().position(|one| one.measure == measure);
            let mut runs = known.map_or_else(Vec::new, |at| self.series.remove(at).runs);
            runs.push(value);
            let Some(summary) = Summary::of(&runs) else {
                continue;
            };
            let series = Series {
                measure,
                runs,
                summary,
            };
            self.series
                .insert(known.unwrap_or(self.series.len()), series);
        }
    }

    /// A measure by its name.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|one| one.measure.name == name)
    }
}

impl Comparison {
    /// Of a measure that both have, and which has a better side.
    pub fn of(
        measure: &str,
        ours: &Contender,
        theirs: &Contender,
        goal: Option<f64>,
    ) -> Option<Comparison> {
        let (first, other) = (ours.series(measure)?, theirs.series(measure)?);
        let pairs = match first.measure.better {
            Better::More => ratios(&first.runs, &other.runs),
            Better::Less => ratios(&other.runs, &first.runs),
            Better::Neither => return None,
        };
        // Nothing over nothing is no advantage of anybody.
        if pairs.iter().any(|pair| !pair.is_finite()) {
            return None;
        }
        let summary = Summary::of(&pairs)?;
        let winner = match () {
            () if summary.min > 1.0 => Some(&ours.name),
            () if summary.max < 1.0 => Some(&theirs.name),
            () => None,
        };
        Some(Comparison {
            measure: measure.to_owned(),
            ours: ours.name.clone(),
            theirs: theirs.name.clone(),
            won: winner.cloned(),
            pairs,
            summary,
            goal,
        })
    }

    /// Whether the goal is met, if there is one. What is printed decides: 0.996 is 1.00 here.
    pub fn is_met(&self) -> Option<bool> {
        let printed = (self.summary.median * 100.0).round();
        self.goal.map(|goal| printed >= (goal * 100.0).round())
    }
}

impl Row {
    /// Without contenders.
    pub fn new(name: impl Into<String>) -> Row {
        Row {
            name: name.into(),
            decided_by: String::new(),
            parameters: BTreeMap::new(),
            contenders: Vec::new(),
            comparisons: Vec::new(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.parameters.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a contender; one without a single value has no place in a row. The first measure of the first contender
    /// decides, unless something else is said later.
    pub fn push(&mut self, contender: Contender) {
        let Some(first) = contender.series.first() else {
            return;
        };
        if self.decided_by.is_empty() {
            self.decided_by = first.measure.name.to_string();
        }
        self.contenders.push(contender);
    }

    /// Compares two by the measure that decides. Nothing happens if one has no runs.
    pub fn compare(&mut self, ours: &str, theirs: &str, goal: Option<f64>) {
        self.compare_by(&self.decided_by.clone(), ours, theirs, goal);
    }

    /// Compares two by a measure of that name.
    pub fn compare_by(&mut self, measure: &str, ours: &str, theirs: &str, goal: Option<f64>) {
        let comparison = self
            .find(ours)
            .zip(self.find(theirs))
            .and_then(|(ours, theirs)| Comparison::of(measure, ours, theirs, goal));
        self.comparisons.extend(comparison);
    }

    /// A contender by its name.
    pub fn find(&self, name: &str) -> Option<&Contender> {
        self.contenders.iter().find(|one| one.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measure: &Measure, ours: &[f64], theirs: &[f64]) -> Row {
        let mut row = Row::new("row");
        row.push(Contender::new("ours").with(measure.clone(), ours.to_vec()));
        row.push(Contender::new("theirs").with(measure.clone(), theirs.to_vec()));
        row.compare("ours", "theirs", Some(1.0));
        row
    }

    #[test]
    fn an_advantage_is_above_one_whichever_way_is_better() {
        let more = row(&Measure::more("rate", ""), &[4.0, 6.0], &[2.0, 2.0]);
        assert_eq!(more.comparisons[0].pairs, [2.0, 3.0]);
        assert_eq!(more.comparisons[0].won.as_deref(), Some("ours"));
        let less = row(&Measure::less("cost", ""), &[4.0, 6.0], &[2.0, 3.0]);
        assert_eq!(less.comparisons[0].pairs, [0.5, 0.5]);
        assert_eq!(less.comparisons[0].won.as_deref(), Some("theirs"));
        let neither = row(&Measure::plain("frames", ""), &[4.0], &[2.0]);
        assert!(neither.comparisons.is_empty());
    }

    #[test]
    fn nobody_wins_where_the_pairs_disagree() {
        let open = row(&Measure::more("rate", ""), &[3.0, 1.0], &[2.0, 2.0]);
        assert_eq!(open.comparisons[0].won, None);
    }

    #[test]
    fn a_goal_is_met_by_what_is_printed() {
        let nearly = row(&Measure::more("rate", ""), &[0.996], &[1.0]);
        assert_eq!(nearly.comparisons[0].is_met(), Some(true));
        let missed = row(&Measure::more("rate", ""), &[0.994], &[1.0]);
        assert_eq!(missed.comparisons[0].is_met(), Some(false));
    }

    #[test]
    fn nothing_over_nothing_is_not_compared() {
        assert!(
            row(&Measure::more("rate", ""), &[1.0], &[0.0])
                .comparisons
                .is_empty()
        );
    }

    #[test]
    fn runs_are_added_to_their_measure() {
        let (rate, cost) = (Measure::more("rate", ""), Measure::less("cost", ""));
        let mut one = Contender::new("one");
        one.push_run([(rate.clone(), 1.0), (cost.clone(), 5.0)]);
        one.push_run([(rate, 3.0), (cost, 7.0)]);
        assert_eq!(one.series[0].runs, [1.0, 3.0]);
        assert_eq!(one.series("cost").unwrap().summary.median, 6.0);
    }

    #[test]
    fn a_contender_without_runs_has_no_place() {
        let empty = row(&Measure::more("rate", ""), &[], &[1.0]);
        assert_eq!(empty.contenders.len(), 1);
        assert!(empty.comparisons.is_empty());
    }
}
