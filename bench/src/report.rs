//! What every scenario ends with: the conditions, rows of contenders with all of their runs, who won, and the doubts.
//!
//! The types are the JSON document that docs/BENCH.md describes: what is computed from the runs (medians, advantages,
//! verdicts) is computed when a value is made, and `check` computes it again. An advantage is a ratio of neighbouring
//! runs that is above 1 where the first is better, whether more or less of the measure is better.
//!
//! | file | role |
//! |---|---|
//! | `conditions` | what a number means nothing without |
//! | `row` | contenders, their runs, and comparisons of them |
//! | `goals` | what a scenario file asks of its rows, and whether they do it |
//! | `doubts` | what makes the numbers doubtful |
//! | `latency` | percentiles of a histogram, and its interval log |
//! | `markdown`, `html`, `plot` | the same for people |
//! | `check` | whether a document keeps to the schema and agrees with itself |

pub mod check;
mod conditions;
mod doubts;
mod goals;
mod html;
mod latency;
mod markdown;
mod plot;
mod row;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

pub use conditions::Conditions;
pub use doubts::known;
pub use goals::{Bound, Goal};
pub use latency::{Interval, Latency, histogram as latency_histogram, interval_log};
pub use row::{Better, Comparison, Contender, Measure, Row, Serving, Timeline};

use crate::error::Error;

/// What the document calls itself.
pub const SCHEMA: &str = "sluice-bench";
/// Goes up when a field changes its meaning, comes or goes away.
pub const VERSION: u32 = 2;

/// Where a report goes, besides stdout.
#[derive(Args, Clone, Debug, Default)]
pub struct Output {
    /// Write the report as JSON too (docs/BENCH.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the report as Markdown to a file too
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// Write the report as one HTML page with plots too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write latencies as an interval log of HdrHistogram too
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
}

/// The JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// One for each scenario that ran.
    pub reports: Vec<Report>,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Its name.
    pub scenario: String,
    /// What it does, one line.
    pub about: String,
    /// Machine and network.
    pub conditions: Conditions,
    /// How it was measured, a sentence each.
    pub notes: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What its file asks of the rows.
    pub goals: Vec<Goal>,
    /// What the rows say together.
    pub findings: Vec<String>,
    /// What could not run, and why.
    pub not_run: Vec<NotRun>,
    /// What makes the numbers doubtful.
    pub warnings: Vec<String>,
}

/// A contender of a row that has no numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotRun {
    /// Which row, or all of them.
    pub row: String,
    /// Which contender.
    pub contender: String,
    /// Why.
    pub why: String,
}

impl Report {
    /// Without rows.
    pub fn new(scenario: &str, about: impl Into<String>, conditions: Conditions) -> Report {
        Report {
            scenario: scenario.to_owned(),
            about: about.into(),
            conditions,
            notes: Vec::new(),
            rows: Vec::new(),
            goals: Vec::new(),
            findings: Vec::new(),
            not_run: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Adds what every report doubts of itself. Scenarios add their own doubts before.
    pub fn finish(mut self) -> Report {
        let doubts = doubts::of(&self);
        self.warnings.extend(doubts);
        self
    }
}

/// Prints finished reports as Markdown and writes what else was asked for.
pub fn publish(reports: Vec<Report>, output: &Output) -> Result<(), Error> {
    let text = markdown::document(&reports);
    print!("{text}");
    if let Some(path) = &output.markdown {
        write(path, text)?;
    }
    let document = Document {
        schema: SCHEMA.to_owned(),
        version: VERSION,
        reports,
    };
    if let Some(path) = &output.json {
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Error::io("JSON")(error.into()))?;
        write(path, text + "\n")?;
    }
    if let Some(path) = &output.html {
        write(path, html::of(&document))?;
    }
    if let Some(path) = &output.hlog {
        write(path, interval_log(&document.reports)?)?;
    }
    Ok(())
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::io(path.display().to_string()))
}

#[cfg(test)]
pub mod sample {
    //! Reports to test with.

    use super::*;

    /// Goodput in rows of two servers, two runs each.
    pub fn report(ours: [f64; 2], theirs: [f64; 2]) -> Report {
        let measure = Measure::more("goodput", "Gbit/s");
        let mut row = Row::new("1 flow").with("flows", 1);
        for (name, runs) in [("xdp", ours), ("nginx", theirs)] {
            row.push(Contender::new(name).with(measure.clone(), runs.to_vec()));
        }
        row.compare("xdp", "nginx", None);
        let mut report = Report::new("bulk", "Large files", Conditions::sample());
        report.rows.push(row);
        report
    }

    /// The same, with a goal for goodput over that of the other.
    pub fn with_goal(ours: [f64; 2], theirs: [f64; 2]) -> Report {
        let mut report = report(ours, theirs);
        let mut goal = Goal {
            measure: "goodput".to_owned(),
            unit: String::new(),
            of: "xdp".to_owned(),
            over: Some("nginx".to_owned()),
            bound: Bound::AtLeast,
            limit: 1.0,
            when: "offloads full".to_owned(),
            results: Vec::new(),
        };
        goal.results.push(goal.judge(&report.rows, "1 flow", None));
        report.goals.push(goal);
        report
    }
}
