//! A document as one HTML page that needs nothing else: the tables, and a plot for what a table cannot show.
//!
//! The page is well-formed XML too, so that a test can read it.

use std::fmt::{self, Write};

use serde_json::Value;

use super::markdown::{cell, columns, conditions, heading, verdict};
use super::plot::{Line, Plot, Scale, bars, escaped};
use super::{Document, Report, Row, goals};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;margin:1rem 0;font-size:.9em}td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;\
    text-align:right;font-variant-numeric:tabular-nums}td:first-child,th:first-child,td:nth-child(2),th:nth-child(2)\
    {text-align:left}svg{width:100%;max-width:36rem;font:11px system-ui,sans-serif}.plots{display:flex;flex-wrap:wrap;\
    gap:1rem}.warning{color:#a40000}";

/// The page.
pub fn of(document: &Document) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(document, &mut out);
    out
}

fn write_page(document: &Document, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"/><title>sluice-bench</title>\
         <style>{STYLE}</style></head>\n<body>"
    )?;
    write_goals(&document.reports, out)?;
    for report in &document.reports {
        write_report(report, out)?;
    }
    writeln!(out, "</body>\n</html>")
}

/// Of all reports, at the top.
fn write_goals(reports: &[Report], out: &mut String) -> fmt::Result {
    let Some(headline) = goals::headline(reports) else {
        return Ok(());
    };
    writeln!(out, "<h2>{}</h2>", escaped(&headline))?;
    write_lines(out, &goals::SUMMARY, goals::summary(reports))
}

/// A table whose cells may be emphasised as in Markdown.
fn write_lines(out: &mut String, headings: &[&str], lines: Vec<Vec<String>>) -> fmt::Result {
    let headings = headings.iter().map(|heading| (*heading).to_owned());
    let plain = |line: Vec<String>| {
        let cells = line.iter().map(|cell| cell.replace("**", ""));
        cells.collect::<Vec<_>>()
    };
    write_table(out, headings, lines.into_iter().map(plain))
}

fn write_report(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "<h2>{}: {}</h2>\n<ul>",
        escaped(&report.scenario),
        escaped(&report.about)
    )?;
    for line in conditions(report) {
        writeln!(out, "<li>{}</li>", escaped(&line))?;
    }
    writeln!(out, "</ul>")?;
    write_tables(report, out)?;
    for finding in &report.findings {
        writeln!(out, "<p>{}</p>", escaped(finding))?;
    }
    for missing in &report.not_run {
        let line = format!(
            "not run: {}, {}: {}",
            missing.row, missing.contender, missing.why
        );
        writeln!(out, "<p>{}</p>", escaped(&line))?;
    }
    for warning in &report.warnings {
        writeln!(
            out,
            "<p class=\"warning\">warning: {}</p>",
            escaped(warning)
        )?;
    }
    writeln!(out, "<div class=\"plots\">")?;
    for plot in plots(report) {
        out.push_str(&plot);
    }
    writeln!(out, "</div>")
}

fn write_tables(report: &Report, out: &mut String) -> fmt::Result {
    let columns = columns(&report.rows);
    let headings = columns.iter().copied().map(heading);
    let first = ["what".to_owned(), "who".to_owned()];
    let lines = report.rows.iter().flat_map(|row| {
        row.contenders.iter().map(|contender| {
            let cells = columns.iter().map(|measure| cell(contender, measure));
            [row.name.clone(), contender.name.clone()]
                .into_iter()
                .chain(cells)
                .collect()
        })
    });
    write_table(out, first.into_iter().chain(headings), lines)?;
    let heading = ["what", "by", "advantage", "from", "to", "won"].map(str::to_owned);
    let lines = report.rows.iter().flat_map(|row| {
        row.comparisons.iter().map(|comparison| {
            let summary = &comparison.summary;
            vec![
                row.name.clone(),
                comparison.measure.clone(),
                format!(
                    "{} / {}: {:.2}",
                    comparison.ours, comparison.theirs, summary.median
                ),
                format!("{:.2}", summary.min),
                format!("{:.2}", summary.max),
                verdict(comparison).replace("**", ""),
            ]
        })
    });
    write_table(out, heading.into_iter(), lines)?;
    write_lines(out, &goals::LINES, goals::lines(report))
}

fn write_table(
    out: &mut String,
    heading: impl Iterator<Item = String>,
    lines: impl Iterator<Item = Vec<String>>,
) -> fmt::Result {
    let row = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cell)))
            .collect();
        format!("<tr>{cells}</tr>")
    };
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    let mut heading = heading;
    writeln!(out, "<table>\n{}", row("th", &mut heading))?;
    for line in lines {
        writeln!(out, "{}", row("td", &mut line.into_iter()))?;
    }
    writeln!(out, "</table>")
}

/// Of a report: latency, throughput over time and CPU for each row that has them, and goodput over loss.
fn plots(report: &Report) -> Vec<String> {
    let rows = report.rows.iter().flat_map(|row| {
        let cost = ["CPU per GB", "CPU per 100k requests"].map(|name| cost(row, name));
        [latency(row), throughput(row)].into_iter().chain(cost)
    });
    rows.chain([over_loss(report)])
        .filter(|svg| !svg.is_empty())
        .collect()
}

fn latency(row: &Row) -> String {
    let lines = row.contenders.iter().filter_map(|contender| {
        let latency = contender.latency.as_ref()?;
        Some(Line {
            name: contender.name.clone(),
            points: latency.curve.clone(),
        })
    });
    Plot {
        title: format!("{}: latency by percentile", row.name),
        axes: ["percentile".to_owned(), "µs".to_owned()],
        scales: [Scale::Nines, Scale::Log],
        lines: lines.collect(),
    }
    .svg()
}

fn throughput(row: &Row) -> String {
    let mut unit = String::new();
    let mut lines = Vec::new();
    for contender in &row.contenders {
        let Some(timeline) = &contender.timeline else {
            continue;
        };
        unit.clone_from(&timeline.unit);
        let times = (1..).map(|count| timeline.interval_s * f64::from(count));
        lines.push(Line {
            name: contender.name.clone(),
            points: times
                .zip(&timeline.values)
                .map(|(at, value)| [at, *value])
                .collect(),
        });
    }
    Plot {
        title: format!("{}: throughput of the last run", row.name),
        axes: ["s".to_owned(), unit],
        scales: [Scale::Linear; 2],
        lines,
    }
    .svg()
}

fn cost(row: &Row, name: &str) -> String {
    let medians = row.contenders.iter().filter_map(|contender| {
        let series = contender.series(name)?;
        Some((contender.name.clone(), series.summary.median))
    });
    let medians: Vec<_> = medians.collect();
    bars(
        &format!("{}: server {name}", row.name),
        "CPU-seconds",
        &medians,
    )
}

/// One plot for the rows that differ in `loss_percent`: a line for each contender and whatever else differs.
fn over_loss(report: &Report) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for row in &report.rows {
        let Some(loss) = row.parameters.get("loss_percent").and_then(Value::as_f64) else {
            continue;
        };
        let rtt = row
            .parameters
            .get("rtt_ms")
            .map_or(String::new(), |rtt| format!(" {rtt} ms"));
        for contender in &row.contenders {
            let Some(series) = contender.series(&row.decided_by) else {
                continue;
            };
            let (name, point) = (
                format!("{}{rtt}", contender.name),
                [loss, series.summary.median],
            );
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line {
                    name,
                    points: vec![point],
                }),
            }
        }
    }
    Plot {
        title: format!("{}: goodput over loss", report.scenario),
        axes: ["% loss".to_owned(), "Mbit/s".to_owned()],
        scales: [Scale::Linear; 2],
        lines,
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::latency::{Latency, histogram};
    use crate::report::{SCHEMA, Timeline, VERSION, sample};

    fn page(report: Report) -> String {
        of(&Document {
            schema: SCHEMA.to_owned(),
            version: VERSION,
            reports: vec![report],
        })
    }

    fn svgs(page: &str) -> Vec<String> {
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        };
        let document = roxmltree::Document::parse_with_options(page, options).unwrap();
        let titles = document
            .descendants()
            .filter(|node| node.has_tag_name("svg"));
        titles
            .map(|svg| {
                svg.children()
                    .find_map(|node| node.text())
                    .unwrap_or("")
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn a_page_is_well_formed_whatever_stands_in_it() {
        let mut report = sample::report([1.0, 2.0], [1.0, 2.0]);
        report.about = "<b> & \"quotes\" 'too' ]]>".to_owned();
        report.warnings.push("1 < 2".to_owned());
        let page = page(report);
        assert!(svgs(&page).is_empty());
        assert!(page.contains("warning: 1 &lt; 2"));
    }

    #[test]
    fn goals_stand_at_the_top_and_in_their_report() {
        let page = page(sample::with_goal([5.0, 5.0], [4.0, 4.0]));
        let said: Vec<_> = [
            "1 met, 0 missed",
            "<h2>bulk",
            "goal at least 1.0: met (1.25)",
        ]
        .iter()
        .map(|said| page.find(said))
        .collect();
        assert!(said.is_sorted() && said[0].is_some(), "{said:?}");
        assert!(svgs(&page).is_empty(), "well-formed");
    }

    #[test]
    fn what_has_latency_timeline_and_cost_has_a_plot_of_each() {
        let mut report = sample::report([1.0, 2.0], [1.0, 2.0]);
        let mut times = histogram();
        times.record(50_000).unwrap();
        times.record(900_000).unwrap();
        for contender in &mut report.rows[0].contenders {
            contender.latency = Latency::of_histogram(&times);
            contender.timeline = Some(Timeline {
                interval_s: 0.1,
                unit: "Gbit/s".to_owned(),
                values: vec![1.0, 2.0, 3.0],
            });
            contender.push_run([(crate::report::Measure::less("CPU per GB", "s"), 0.4)]);
        }
        assert_eq!(svgs(&page(report)).len(), 3);
    }

    #[test]
    fn rows_that_differ_in_loss_are_one_plot() {
        let mut report = sample::report([1.0, 2.0], [1.0, 2.0]);
        let mut lossy = report.rows[0]
            .clone()
            .with("loss_percent", 1.0)
            .with("rtt_ms", 20);
        report.rows.push(lossy.clone());
        lossy
            .parameters
            .insert("loss_percent".to_owned(), 3.0.into());
        report.rows.push(lossy);
        let page = page(report);
        assert_eq!(svgs(&page).len(), 1);
        assert!(page.contains("xdp 20 ms"));
    }
}
