//! The table of the engine scenario, and the same as JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use super::{Checksums, Run};
use crate::environment::Machine;
use crate::measure::{Summary, ratios};

/// Above this the runs of one server disagree too much.
const SPREAD_DOUBTFUL: f64 = 0.2;
/// Another user of the machine.
const LOAD_DOUBTFUL: f64 = 0.5;

/// One number of connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// How many, all busy.
    pub connections: u16,
    /// Runs of our stack.
    pub sluice: Vec<Run>,
    /// Runs of smoltcp, each after ours of the same index.
    pub smoltcp: Vec<Run>,
}

/// A finished comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Payload of a segment.
    pub mss: u32,
    /// Segments in flight per connection.
    pub window_segments: u16,
    /// Frames received per turn.
    pub batch: usize,
    /// Who sums.
    pub checksums: Checksums,
    /// Where it ran.
    pub machine: Machine,
    /// One per number of connections.
    pub rows: Vec<Row>,
}

impl Row {
    /// Without runs.
    pub fn new(connections: u16) -> Row {
        Row {
            connections,
            sluice: Vec::new(),
            smoltcp: Vec::new(),
        }
    }

    /// Adds a pair of runs.
    pub fn push(&mut self, sluice: Run, smoltcp: Run) {
        self.sluice.push(sluice);
        self.smoltcp.push(smoltcp);
    }

    fn ns(runs: &[Run]) -> Vec<f64> {
        runs.iter().map(|run| run.ns_per_segment).collect()
    }

    fn gbit(runs: &[Run]) -> Option<Summary> {
        let rates: Vec<f64> = runs.iter().map(|run| run.gbit_per_s).collect();
        Summary::of(&rates)
    }

    /// How many times the server time of ours smoltcp takes, per pair.
    fn advantage(&self) -> Option<Summary> {
        Summary::of(&ratios(&Row::ns(&self.smoltcp), &Row::ns(&self.sluice)))
    }
}

impl Report {
    /// The table, with the conditions above and the doubts below.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    /// Everything, with the summaries of the table.
    pub fn json(&self) -> String {
        let summaries: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "connections": row.connections,
                    "sluice_ns_per_segment": Summary::of(&Row::ns(&row.sluice)),
                    "smoltcp_ns_per_segment": Summary::of(&Row::ns(&row.smoltcp)),
                    "sluice_gbit_per_s": Row::gbit(&row.sluice),
                    "smoltcp_gbit_per_s": Row::gbit(&row.smoltcp),
                    "advantage": row.advantage(),
                })
            })
            .collect();
        let document = json!({
            "run": self,
            "summaries": summaries,
            "flatness": self.flatness(),
            "warnings": self.warnings(),
        });
        format!("{document:#}\n")
    }

    /// Our dearest row over our cheapest, by medians.
    fn flatness(&self) -> Option<f64> {
        let medians: Vec<f64> = self
            .rows
            .iter()
            .filter_map(|row| Some(Summary::of(&Row::ns(&row.sluice))?.median))
            .collect();
        let all = Summary::of(&medians)?;
        Some(all.max / all.min)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if cfg!(debug_assertions) {
            warnings.push("built without optimisation: use the release profile".to_owned());
        }
        if self.machine.load > LOAD_DOUBTFUL {
            warnings.push(format!(
                "load average was {:.2} before the run: something else used the CPUs; repeat on a quiet machine",
                self.machine.load
            ));
        }
        for row in &self.rows {
            for (name, runs) in [("sluice", &row.sluice), ("smoltcp", &row.smoltcp)] {
                let spread = Summary::of(&Row::ns(runs)).map_or(0.0, |summary| summary.spread());
                if spread > SPREAD_DOUBTFUL {
                    warnings.push(format!(
                        "runs of {name} with {} connections differ by {:.0} % of their median: use more rounds",
                        row.connections,
                        spread * 100.0
                    ));
                }
            }
        }
        warnings
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## {}: two stacks in memory, MSS {}\n",
            self.scenario, self.mss
        )?;
        writeln!(
            out,
            "- machine: {}, kernel {}",
            self.machine.cpu, self.machine.kernel
        )?;
        writeln!(
            out,
            "- every connection busy, {} segments in flight each, an acknowledgement for every second segment, no loss",
            self.window_segments
        )?;
        writeln!(
            out,
            "- a turn of the server takes {} frames and sends all that may leave",
            self.batch
        )?;
        let checksums = match self.checksums {
            Checksums::Software => "computed and verified by both stacks",
            Checksums::Offload => "left to a device by both stacks",
        };
        writeln!(out, "- checksums: {checksums}; server time only\n")?;
        writeln!(
            out,
            "| connections | sluice ns/segment median | min | max | Gbit/s | smoltcp ns/segment median | min | max | Gbit/s | smoltcp / sluice | min | max |"
        )?;
        writeln!(
            out,
            "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for row in &self.rows {
            let (Some(ours), Some(theirs), Some(ratio)) = (
                Summary::of(&Row::ns(&row.sluice)),
                Summary::of(&Row::ns(&row.smoltcp)),
                row.advantage(),
            ) else {
                continue;
            };
            let gbit = |runs| Row::gbit(runs).map_or(0.0, |summary| summary.median);
            writeln!(
                out,
                "| {} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
                row.connections,
                ours.median,
                ours.min,
                ours.max,
                gbit(&row.sluice),
                theirs.median,
                theirs.min,
                theirs.max,
                gbit(&row.smoltcp),
                ratio.median,
                ratio.min,
                ratio.max
            )?;
        }
        if let Some(flatness) = self.flatness() {
            writeln!(
                out,
                "\nsluice: the dearest row costs {flatness:.2} times the cheapest"
            )?;
        }
        for warning in self.warnings() {
            writeln!(out, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(ns: [f64; 2]) -> Vec<Run> {
        ns.map(|ns| Run {
            ns_per_segment: ns,
            gbit_per_s: 11584.0 / ns,
            segments: 1000,
        })
        .to_vec()
    }

    fn report() -> Report {
        Report {
            scenario: "engine",
            mss: 1448,
            window_segments: 32,
            batch: 64,
            checksums: Checksums::Software,
            machine: Machine {
                kernel: "6.18.0".to_owned(),
                cpu: "Fast 9000, 2 CPUs".to_owned(),
                load: 0.1,
            },
            rows: vec![
                Row {
                    connections: 1,
                    sluice: runs([200.0, 200.0]),
                    smoltcp: runs([400.0, 410.0]),
                },
                Row {
                    connections: 64,
                    sluice: runs([250.0, 250.0]),
                    smoltcp: runs([1000.0, 1000.0]),
                },
            ],
        }
    }

    #[test]
    fn the_table_looks_like_this() {
        let markdown = report().markdown();
        for line in [
            "| 1 | 200 | 200 | 200 | 57.92 | 405 | 400 | 410 | 28.61 | 2.02 | 2.00 | 2.05 |",
            "| 64 | 250 | 250 | 250 | 46.34 | 1000 | 1000 | 1000 | 11.58 | 4.00 | 4.00 | 4.00 |",
            "sluice: the dearest row costs 1.25 times the cheapest",
        ] {
            assert!(
                markdown.lines().any(|found| found == line),
                "{line}\n{markdown}"
            );
        }
    }

    #[test]
    fn the_json_has_every_run_and_the_ratio_of_pairs() {
        let value: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(
            value["run"]["rows"][0]["smoltcp"][1]["ns_per_segment"],
            410.0
        );
        assert_eq!(value["summaries"][1]["advantage"]["median"], 4.0);
        assert_eq!(value["flatness"], 1.25);
    }

    #[test]
    fn runs_that_disagree_are_doubted() {
        let mut doubtful = report();
        doubtful.rows[1].smoltcp = runs([1000.0, 1500.0]);
        doubtful.machine.load = 2.0;
        let warnings = doubtful.warnings();
        assert!(
            warnings
                .iter()
                .any(|warning| warning.contains("smoltcp with 64"))
        );
        assert!(
            warnings
                .iter()
                .any(|warning| warning.contains("load average was 2.00"))
        );
    }
}
