//! Whether a JSON document keeps to the schema and agrees with itself.
//!
//! The schema is the types of [`super`]: a field that is missing or unknown is an error. Beyond that, every number is
//! finite, and what was computed from runs is computed again. Nothing here judges speed: a goal that is missed is sound.

use super::{Comparison, Document, Goal, Report, Row, SCHEMA, VERSION};
use crate::measure::Summary;

/// How far a number may be from the same number after it was written and read.
const PRECISION: f64 = 1e-9;

/// The document, or the first thing that is wrong with it. `needs` must have run in every row.
pub fn document(text: &str, needs: &[String]) -> Result<Document, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if document.schema != SCHEMA || document.version != VERSION {
        return Err(format!(
            "{} {} instead of {SCHEMA} {VERSION}",
            document.schema, document.version
        ));
    }
    if document.reports.is_empty() {
        return Err("no report".to_owned());
    }
    for each in &document.reports {
        report(each, needs).map_err(|what| format!("{}: {what}", each.scenario))?;
    }
    Ok(document)
}

fn report(report: &Report, needs: &[String]) -> Result<(), String> {
    if report.rows.is_empty() && report.not_run.is_empty() {
        return Err("nothing ran, and nothing says why".to_owned());
    }
    if let Some(missing) = report
        .not_run
        .iter()
        .find(|one| needs.contains(&one.contender))
    {
        let row = &missing.row;
        return Err(format!(
            "{} did not run in {row}: {}",
            missing.contender, missing.why
        ));
    }
    for each in &report.rows {
        if let Some(missing) = needs.iter().find(|name| each.find(name).is_none()) {
            return Err(format!("{missing} has no part in {}", each.name));
        }
        row(each).map_err(|what| format!("{}: {what}", each.name))?;
    }
    report.goals.iter().try_for_each(|each| {
        let name = || format!("goal of {}, {}", each.measure, each.subject());
        goal(&report.rows, each).map_err(|what| format!("{}: {what}", name()))
    })
}

fn goal(rows: &[Row], goal: &Goal) -> Result<(), String> {
    if !goal.limit.is_finite() || goal.results.is_empty() {
        return Err("it bounds nothing".to_owned());
    }
    for said in &goal.results {
        let again = goal.judge(rows, &said.row, said.over_row.as_deref());
        let is_same = match (again.reached, said.reached) {
            (None, None) => true,
            (Some(again), Some(said)) => is_same(&again, &said),
            _ => false,
        };
        if !is_same || again.met != said.met {
            let row = &said.row;
            return Err(format!("{row}: does not follow from the runs"));
        }
    }
    Ok(())
}

fn row(row: &Row) -> Result<(), String> {
    if row.contenders.is_empty() {
        return Err("nobody took part".to_owned());
    }
    for contender in &row.contenders {
        let name = &contender.name;
        for series in &contender.series {
            let measure = &series.measure.name;
            agree(&series.runs, &series.summary)
                .map_err(|what| format!("{name}: {measure}: {what}"))?;
        }
        if let Some(latency) = &contender.latency {
            let points = [
                latency.p50_us,
                latency.p90_us,
                latency.p99_us,
                latency.p99_9_us,
                latency.p99_99_us,
                latency.max_us,
            ];
            if !points.is_sorted() || latency.count == 0 {
                return Err(format!("{name}: percentiles do not rise"));
            }
        }
    }
    row.comparisons
        .iter()
        .try_for_each(|each| comparison(row, each))
}

fn comparison(row: &Row, comparison: &Comparison) -> Result<(), String> {
    let Comparison {
        measure,
        ours,
        theirs,
        ..
    } = comparison;
    let name = format!("{measure} of {ours} over {theirs}");
    let both = row.find(ours).zip(row.find(theirs));
    let again =
        both.and_then(|(ours, theirs)| Comparison::of(measure, ours, theirs, comparison.goal));
    let again = again.ok_or_else(|| format!("{name}: not of this row"))?;
    agree(&comparison.pairs, &comparison.summary).map_err(|what| format!("{name}: {what}"))?;
    if again.won == comparison.won && is_close(again.summary.median, comparison.summary.median) {
        return Ok(());
    }
    Err(format!("{name}: does not follow from the runs"))
}

/// Values are finite, and their summary is theirs.
fn agree(values: &[f64], summary: &Summary) -> Result<(), String> {
    if !values.iter().all(|value| value.is_finite()) {
        return Err("a value is not finite".to_owned());
    }
    let again = Summary::of(values).ok_or("no runs")?;
    match is_same(&again, summary) {
        true => Ok(()),
        false => Err("the summary is not that of the runs".to_owned()),
    }
}

fn is_same(one: &Summary, other: &Summary) -> bool {
    is_close(one.median, other.median)
        && is_close(one.min, other.min)
        && is_close(one.max, other.max)
}

fn is_close(one: f64, other: f64) -> bool {
    (one - other).abs() <= PRECISION * one.abs().max(other.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::offloads::Offloads;
    use crate::report::{Latency, NotRun, Serving, Timeline, latency_histogram, sample};

    fn value() -> Value {
        let document = Document {
            schema: SCHEMA.to_owned(),
            version: VERSION,
            reports: vec![sample::with_goal([5.0, 5.3], [4.0, 4.1])],
        };
        serde_json::to_value(document).unwrap()
    }

    /// What is said of the document with one value at `pointer` replaced.
    fn with(pointer: &str, new: Value) -> String {
        let mut value = value();
        *value.pointer_mut(pointer).unwrap() = new;
        document(&value.to_string(), &[]).unwrap_err()
    }

    #[test]
    fn a_document_is_the_same_after_it_was_read() {
        let value = value();
        let read = document(&value.to_string(), &[]).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), value);
    }

    #[test]
    fn another_version_is_refused() {
        assert!(with("/version", json!(99)).contains("99 instead of"));
    }

    #[test]
    fn fields_that_are_unknown_or_missing_are_refused() {
        let mut unknown = value();
        unknown["reports"][0]["speed"] = json!(1);
        assert!(
            document(&unknown.to_string(), &[])
                .unwrap_err()
                .contains("unknown field `speed`")
        );
        let mut missing = value();
        missing["reports"][0]
            .as_object_mut()
            .unwrap()
            .remove("warnings");
        assert!(
            document(&missing.to_string(), &[])
                .unwrap_err()
                .contains("missing field `warnings`")
        );
    }

    #[test]
    fn a_number_that_is_none_is_refused() {
        // What serde_json writes for NaN.
        let said = with(
            "/reports/0/rows/0/contenders/0/series/0/runs/0",
            Value::Null,
        );
        assert!(said.contains("expected f64"), "{said}");
    }

    #[test]
    fn numbers_that_do_not_follow_from_the_runs_are_refused() {
        let series = "/reports/0/rows/0/contenders/0/series/0/summary/median";
        assert!(with(series, json!(9.0)).contains("not that of the runs"));
        let pairs = "/reports/0/rows/0/comparisons/0/won";
        assert!(with(pairs, json!("nginx")).contains("does not follow"));
        let ours = "/reports/0/rows/0/comparisons/0/ours";
        assert!(with(ours, json!("apache")).contains("not of this row"));
    }

    #[test]
    fn a_goal_must_follow_from_the_runs_and_may_be_missed() {
        let of = |field: &str| format!("/reports/0/goals/0/results/0/{field}");
        assert!(with(&of("met"), json!(false)).contains("does not follow"));
        assert!(with(&of("met"), Value::Null).contains("does not follow"));
        assert!(with(&of("reached/median"), json!(9.0)).contains("does not follow"));
        assert!(with(&of("row"), json!("2 flows")).contains("does not follow"));
        assert!(with("/reports/0/goals/0/results", json!([])).contains("bounds nothing"));
        let bound = with("/reports/0/goals/0/bound", json!("about"));
        assert!(bound.contains("unknown variant `about`"), "{bound}");
        let document_of = |report| Document {
            schema: SCHEMA.to_owned(),
            version: VERSION,
            reports: vec![report],
        };
        let missed = document_of(sample::with_goal([1.0, 1.0], [4.0, 4.1]));
        let text = serde_json::to_string(&missed).unwrap();
        assert_eq!(document(&text, &[]).as_ref(), Ok(&missed));
    }

    #[test]
    fn a_report_without_rows_must_say_why() {
        assert!(with("/reports/0/rows", json!([])).contains("nothing says why"));
    }

    #[test]
    fn who_is_needed_must_have_run_everywhere() {
        let needs = |name: &str| document(&value().to_string(), &[name.to_owned()]);
        assert!(needs("xdp").is_ok());
        assert!(
            needs("kernel")
                .unwrap_err()
                .contains("kernel has no part in 1 flow")
        );
        let mut value = value();
        value["reports"][0]["not_run"] =
            json!([{ "row": "2 flows", "contender": "xdp", "why": "no driver" }]);
        let said = document(&value.to_string(), &["xdp".to_owned()]).unwrap_err();
        assert!(
            said.contains("xdp did not run in 2 flows: no driver"),
            "{said}"
        );
    }

    #[test]
    fn every_field_of_the_document_is_documented() {
        let docs = include_str!("../../../docs/BENCH.md");
        let mut report = sample::with_goal([5.0, 5.3], [4.0, 4.1]);
        let contender = &mut report.rows[0].contenders[0];
        contender.serving = Some(Serving {
            how: String::new(),
            offloads: Offloads::default(),
        });
        contender.timeline = Some(Timeline {
            interval_s: 0.1,
            unit: String::new(),
            values: Vec::new(),
        });
        let mut times = latency_histogram();
        times.record(1).unwrap();
        contender.latency = Latency::of_histogram(&times);
        contender.series[0].measure.detail = true;
        report.not_run.push(NotRun {
            row: String::new(),
            contender: String::new(),
            why: String::new(),
        });
        let mut value = serde_json::to_value(report).unwrap();
        // Names of the run, not of the schema.
        value["rows"][0]["parameters"] = Value::Null;
        value["conditions"]["mitigations"] = Value::Null;
        let mut names = Vec::new();
        keys(&value, &mut names);
        let words: Vec<&str> = docs
            .split(|char: char| !(char.is_alphanumeric() || char == '_'))
            .collect();
        for name in names {
            assert!(words.contains(&name.as_str()), "{name}");
        }
    }

    fn keys(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    names.push(name.clone());
                    keys(value, names);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| keys(value, names)),
            _ => {}
        }
    }
}
