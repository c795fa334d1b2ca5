//! Reports as Markdown: the goals of all, then of each what was measured, how much, who won, and what makes it doubtful.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::{Comparison, Conditions, Contender, Measure, Report, Row, goals};
use crate::measure::Summary;
use crate::offloads::Offloads;

/// All reports, with a table of their goals at the top.
pub fn document(reports: &[Report]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(reports, &mut out);
    reports.iter().for_each(|report| out += &of(report));
    out
}

/// One report.
pub fn of(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(report, &mut out);
    out
}

/// A number as people read it: three digits that count, and no digits that do not.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// Every sentence about the conditions.
pub fn conditions(report: &Report) -> Vec<String> {
    let conditions = &report.conditions;
    let mut lines = vec![
        format!(
            "machine: {}, kernel {}, load average {:.2} before",
            conditions.cpu, conditions.kernel, conditions.load
        ),
        format!("mitigations: {}", listed(&conditions.mitigations)),
        heat(conditions),
    ];
    if let Some(network) = &conditions.network {
        let mtus: Vec<String> = network.mtu.iter().map(u16::to_string).collect();
        lines.push(format!(
            "network: {}, MTU {}, offloads {}, congestion control {}, client receives by {}",
            network.driver,
            mtus.join(" and "),
            network.offloads.join(" and "),
            network.congestion,
            network.napi
        ));
        lines.push(format!(
            "pinning: server on CPU {}, everything else on CPU {}",
            network.server_cpu, network.client_cpu
        ));
    }
    lines.extend(report.notes.iter().cloned());
    lines.extend(servings(report));
    lines
}

fn heat(conditions: &Conditions) -> String {
    let before = match conditions.temperature {
        Some(degrees) => format!("{degrees:.0} °C before"),
        None => "no sensor".to_owned(),
    };
    let throttling = match conditions.counts_throttling {
        true => "counted",
        false => "not known: these CPUs do not count it",
    };
    format!("temperature: {before}; throttling: {throttling}")
}

/// How each server served, once for every way it did.
fn servings(report: &Report) -> Vec<String> {
    let mut seen = Vec::new();
    let contenders = report.rows.iter().flat_map(|row| &row.contenders);
    for contender in contenders {
        let Some(serving) = &contender.serving else {
            continue;
        };
        let Offloads { server, client } = &serving.offloads;
        let line = format!(
            "{}: {}; offloads at the server: {}; at the client: {}",
            contender.name,
            serving.how,
            listed(server),
            listed(client)
        );
        if !seen.contains(&line) {
            seen.push(line);
        }
    }
    seen
}

fn listed(map: &BTreeMap<String, String>) -> String {
    if map.is_empty() {
        return "none named".to_owned();
    }
    let words: Vec<String> = map
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    words.join(", ")
}

/// The measures of a report that stand in tables, in the order they first appear.
pub fn columns(rows: &[Row]) -> Vec<&Measure> {
    let mut columns: Vec<&Measure> = Vec::new();
    for series in rows
        .iter()
        .flat_map(|row| &row.contenders)
        .flat_map(|one| &one.series)
    {
        if !series.measure.detail && !columns.contains(&&series.measure) {
            columns.push(&series.measure);
        }
    }
    columns
}

/// Median, and the range if there is one.
pub fn cell(contender: &Contender, measure: &Measure) -> String {
    match contender.series(&measure.name) {
        None => "—".to_owned(),
        Some(series) => summary(&series.summary),
    }
}

fn summary(summary: &Summary) -> String {
    let [median, min, max] = [summary.median, summary.min, summary.max].map(number);
    if min == max {
        median
    } else {
        format!("{median} ({min}–{max})")
    }
}

/// Name and unit.
pub fn heading(measure: &Measure) -> String {
    match measure.unit.is_empty() {
        true => measure.name.to_string(),
        false => format!("{} {}", measure.name, measure.unit),
    }
}

/// What is said of a comparison.
pub fn verdict(comparison: &Comparison) -> String {
    let won = match &comparison.won {
        Some(name) => format!("{name} in every pair"),
        None => "nobody".to_owned(),
    };
    let goal = match (comparison.goal, comparison.is_met()) {
        (Some(goal), Some(true)) => format!("; goal {goal:.2}: met"),
        (Some(goal), _) => format!("; goal {goal:.2}: **missed**"),
        _ => String::new(),
    };
    won + &goal
}

fn write_all(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "## {}: {}\n", report.scenario, report.about)?;
    for line in conditions(report) {
        writeln!(out, "- {line}")?;
    }
    write_rows(&report.rows, out)?;
    write_comparisons(&report.rows, out)?;
    write_lines(&goals::LINES, goals::lines(report), out)?;
    for finding in &report.findings {
        writeln!(out, "\n{finding}")?;
    }
    for missing in &report.not_run {
        writeln!(
            out,
            "\nnot run: {}, {}: {}",
            missing.row, missing.contender, missing.why
        )?;
    }
    for warning in &report.warnings {
        writeln!(out, "\nwarning: {warning}")?;
    }
    writeln!(out)
}

fn write_summary(reports: &[Report], out: &mut String) -> fmt::Result {
    let Some(headline) = goals::headline(reports) else {
        return Ok(());
    };
    writeln!(out, "## {headline}")?;
    write_lines(&goals::SUMMARY, goals::summary(reports), out)?;
    writeln!(out)
}

/// A table, if it has lines.
fn write_lines(headings: &[&str], lines: Vec<Vec<String>>, out: &mut String) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| {} |", headings.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(headings.len()))?;
    for line in lines {
        writeln!(out, "| {} |", line.join(" | "))?;
    }
    Ok(())
}

fn write_rows(rows: &[Row], out: &mut String) -> fmt::Result {
    let columns = columns(rows);
    if columns.is_empty() {
        return Ok(());
    }
    let headings: Vec<String> = columns.iter().copied().map(heading).collect();
    writeln!(out, "\n| what | who | {} |", headings.join(" | "))?;
    writeln!(out, "|---|---|{}", "---:|".repeat(columns.len()))?;
    for row in rows {
        for contender in &row.contenders {
            let cells: Vec<String> = columns
                .iter()
                .map(|measure| cell(contender, measure))
                .collect();
            writeln!(
                out,
                "| {} | {} | {} |",
                row.name,
                contender.name,
                cells.join(" | ")
            )?;
        }
    }
    Ok(())
}

fn write_comparisons(rows: &[Row], out: &mut String) -> fmt::Result {
    if rows.iter().all(|row| row.comparisons.is_empty()) {
        return Ok(());
    }
    writeln!(
        out,
        "\n| what | by | advantage | over pairs | won |\n|---|---|---|---:|---|"
    )?;
    for row in rows {
        for comparison in &row.comparisons {
            writeln!(
                out,
                "| {} | {} | {} / {}: **{:.2}** ({:.2}–{:.2}) | {} | {} |",
                row.name,
                comparison.measure,
                comparison.ours,
                comparison.theirs,
                comparison.summary.median,
                comparison.summary.min,
                comparison.summary.max,
                comparison.pairs.len(),
                verdict(comparison)
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{NotRun, sample};

    #[test]
    fn the_markdown_looks_like_this() {
        let mut report = sample::report([5.0, 5.25], [4.0, 4.0]);
        report.findings.push("One says it all.".to_owned());
        report.not_run.push(NotRun {
            row: "every row".to_owned(),
            contender: "kernel".to_owned(),
            why: "no kernel".to_owned(),
        });
        report.warnings.push("it rained".to_owned());
        assert_eq!(
            of(&report),
            "\
## bulk: Large files

- machine: Fast 9000, 2 CPUs, kernel 6.18.0, load average 0.10 before
- mitigations: spectre_v2 Retpolines
- temperature: 48 °C before; throttling: counted
- network: veth, MTU 1500, offloads wire, congestion control cubic, client receives by softirq
- pinning: server on CPU 0, everything else on CPU 1

| what | who | goodput Gbit/s |
|---|---|---:|
| 1 flow | xdp | 5.12 (5.00–5.25) |
| 1 flow | nginx | 4.00 |

| what | by | advantage | over pairs | won |
|---|---|---|---:|---|
| 1 flow | goodput | xdp / nginx: **1.28** (1.25–1.31) | 2 | xdp in every pair |

One says it all.

not run: every row, kernel: no kernel

warning: it rained

"
        );
    }

    #[test]
    fn a_lost_row_says_who_won() {
        let lost = of(&sample::report([3.0, 3.0], [4.0, 4.0]));
        assert!(lost.contains("| nginx in every pair |"), "{lost}");
        let open = of(&sample::report([3.0, 5.0], [4.0, 4.0]));
        assert!(open.contains("| nobody |"), "{open}");
    }

    #[test]
    fn a_missed_goal_is_said_so() {
        let mut report = sample::report([3.0, 3.0], [4.0, 4.0]);
        report.rows[0].comparisons[0].goal = Some(1.0);
        assert!(of(&report).contains("goal 1.00: **missed**"));
    }

    #[test]
    fn the_goals_of_all_reports_stand_at_the_top_and_each_in_its_report() {
        let reports = [
            sample::with_goal([3.0, 3.0], [4.0, 4.0]),
            sample::report([3.0, 3.0], [4.0, 4.0]),
        ];
        let text = document(&reports);
        let top = "\
## Goals, row by row: 0 met, 1 missed, 0 not known

| scenario | goal | where | met | missed | not known | reached |
|---|---|---|---|---|---|---|
| bulk | goodput, xdp / nginx: at least 1.0 | offloads full | 0 | **1** | 0 | 0.75 |

## bulk: Large files
";
        assert!(text.starts_with(top), "{text}");
        let line = "| 1 flow | goodput | xdp / nginx | goal at least 1.0: **missed** (0.75) |";
        assert_eq!(text.matches(line).count(), 1, "{text}");
    }

    #[test]
    fn reports_without_goals_do_not_speak_of_them() {
        let text = document(&[sample::report([3.0, 3.0], [4.0, 4.0])]);
        assert!(!text.to_lowercase().contains("goal"), "{text}");
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        let numbers = [0.0, 0.01234, 1.5, 123.456, 12_345.6].map(number);
        assert_eq!(numbers, ["0", "0.012", "1.50", "123.5", "12346"]);
    }
}
