//! The table of the grid scenario, and the same as JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use crate::environment::Environment;
use crate::measure::{Summary, ratios};
use crate::server::Congestion;
use crate::transfer::Run;

/// A link that is later than this is not the one that was asked for, in microseconds.
const LATE_DOUBTFUL_US: u64 = 1000;

/// What is compared in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Congestion control of our TCP.
    pub ours: Congestion,
    /// That of the kernel's.
    pub kernel: Congestion,
}

impl Pair {
    /// The least ratio that is good enough: our BBR has to answer to losses that the kernel's does not see.
    fn goal(self) -> f64 {
        match self.kernel {
            Congestion::Bbr => 0.95,
            _ => 1.0,
        }
    }
}

/// One combination of loss, round-trip time and congestion controls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Round-trip time without queues.
    pub rtt_ms: u32,
    /// Random loss from server to client.
    pub loss_percent: f64,
    /// What is compared.
    pub pair: Pair,
    /// Runs of our TCP.
    pub xdp: Vec<Run>,
    /// Runs of the kernel's, each after ours with the same seed.
    pub kernel: Vec<Run>,
}

/// A finished grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Rate of the bottleneck.
    pub rate_mbit_per_s: u32,
    /// Length of a run.
    pub seconds: u32,
    /// Machine and network.
    pub environment: Environment,
    /// In the order they ran.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// Without runs.
    pub fn new(rtt_ms: u32, loss_percent: f64, pair: Pair) -> Cell {
        Cell {
            rtt_ms,
            loss_percent,
            pair,
            xdp: Vec::new(),
            kernel: Vec::new(),
        }
    }

    /// Adds a pair of runs.
    pub fn push(&mut self, xdp: Run, kernel: Run) {
        self.xdp.push(xdp);
        self.kernel.push(kernel);
    }

    fn rates(runs: &[Run]) -> Vec<f64> {
        runs.iter().map(|run| run.mbit_per_s).collect()
    }

    fn ratio(&self) -> Option<Summary> {
        Summary::of(&ratios(&Cell::rates(&self.xdp), &Cell::rates(&self.kernel)))
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.xdp.iter().chain(&self.kernel)
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
            .cells
            .iter()
            .map(|cell| {
                json!({
                    "rtt_ms": cell.rtt_ms,
                    "loss_percent": cell.loss_percent,
                    "xdp_mbit_per_s": Summary::of(&Cell::rates(&cell.xdp)),
                    "kernel_mbit_per_s": Summary::of(&Cell::rates(&cell.kernel)),
                    "pair": cell.pair,
                    "ratio": cell.ratio(),
                    "goal": cell.pair.goal(),
                })
            })
            .collect();
        let document = json!({
            "run": self,
            "summaries": summaries,
            "warnings": self.warnings(),
        });
        format!("{document:#}\n")
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for cell in &self.cells {
            let name = format!(
                "{} ms, {} % loss, {}",
                cell.rtt_ms,
                cell.loss_percent,
                cell.pair.ours.name()
            );
            let failed: u64 = cell.runs().map(|run| run.traffic.failed).sum();
            if failed > 0 {
                warnings.push(format!(
                    "{name}: the link lost {failed} frames against its model"
                ));
            }
            let late = cell.runs().map(|run| run.traffic.late_us_p99).max();
            if late.is_some_and(|late| late > LATE_DOUBTFUL_US) {
                warnings.push(format!(
                    "{name}: one frame in a hundred was up to {} us late: the link does not get enough CPU",
                    late.unwrap_or(0)
                ));
            }
        }
        warnings
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let environment = &self.environment;
        writeln!(
            out,
            "## {}: one flow through {} Mbit/s, MTU {}\n",
            self.scenario, self.rate_mbit_per_s, environment.mtu
        )?;
        writeln!(
            out,
            "- machine: {}, kernel {}",
            environment.cpu, environment.kernel
        )?;
        writeln!(
            out,
            "- runs of {} s; offloads off everywhere; buffer of one bandwidth-delay product, at least 64 KiB",
            self.seconds
        )?;
        writeln!(
            out,
            "- pinning: server worker on CPU {}, client and link on CPU {}; server and link with real-time priority\n",
            environment.server_cpu, environment.client_cpu
        )?;
        writeln!(
            out,
            "| RTT ms | loss % | xdp | kernel | xdp Mbit/s median | min | max | kernel Mbit/s median | min | max | xdp / kernel | min | max | goal | |"
        )?;
        writeln!(
            out,
            "|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"
        )?;
        for cell in &self.cells {
            let (Some(ours), Some(theirs), Some(ratio)) = (
                Summary::of(&Cell::rates(&cell.xdp)),
                Summary::of(&Cell::rates(&cell.kernel)),
                cell.ratio(),
            ) else {
                continue;
            };
            let Pair { ours: xdp, kernel } = cell.pair;
            write!(out, "| {} | {} |", cell.rtt_ms, cell.loss_percent)?;
            write!(out, " {} | {} |", xdp.name(), kernel.name())?;
            for summary in [ours, theirs, ratio] {
                write!(
                    out,
                    " {:.2} | {:.2} | {:.2} |",
                    summary.median, summary.min, summary.max
                )?;
            }
            // What is printed decides: 0.996 is 1.00 here.
            let goal = cell.pair.goal();
            let verdict = if (ratio.median * 100.0).round() >= goal * 100.0 {
                "ok"
            } else {
                "**behind**"
            };
            writeln!(out, " {goal:.2} | {verdict} |")?;
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
    use crate::path::Traffic;

    fn runs(rates: [f64; 2]) -> Vec<Run> {
        (1..)
            .zip(rates)
            .map(|(seed, mbit_per_s)| Run {
                mbit_per_s,
                whole: false,
                seed,
                traffic: Traffic::default(),
            })
            .collect()
    }

    fn report() -> Report {
        Report {
            scenario: "grid",
            rate_mbit_per_s: 100,
            seconds: 10,
            environment: Environment {
                kernel: "6.18.0".to_owned(),
                cpu: "Fast 9000, 2 CPUs".to_owned(),
                load: 0.1,
                mtu: 1500,
                congestion: "cubic",
                server_cpu: 0,
                client_cpu: 1,
                threaded_napi: false,
            },
            cells: vec![Cell {
                rtt_ms: 20,
                loss_percent: 0.1,
                pair: Pair {
                    ours: Congestion::Cubic,
                    kernel: Congestion::Cubic,
                },
                xdp: runs([60.0, 50.0]),
                kernel: runs([50.0, 50.0]),
            }],
        }
    }

    #[test]
    fn a_cell_is_a_line() {
        let markdown = report().markdown();
        let line = "| 20 | 0.1 | cubic | cubic | 55.00 | 50.00 | 60.00 | 50.00 | 50.00 | 50.00 | 1.10 | 1.00 | 1.20 | 1.00 | ok |";
        assert!(markdown.lines().any(|found| found == line), "{markdown}");
        assert!(!markdown.contains("warning"));
    }

    #[test]
    fn a_cell_below_its_goal_is_behind() {
        let mut slow = report();
        slow.cells[0].xdp = runs([48.0, 48.0]);
        assert!(
            slow.markdown()
                .contains("| 0.96 | 0.96 | 0.96 | 1.00 | **behind** |")
        );
        slow.cells[0].pair.kernel = Congestion::Bbr;
        assert!(
            slow.markdown()
                .contains("| 0.96 | 0.96 | 0.96 | 0.95 | ok |")
        );
    }

    #[test]
    fn the_json_has_seeds_and_ratios() {
        let value: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(value["run"]["cells"][0]["kernel"][1]["seed"], 2);
        assert_eq!(value["summaries"][0]["ratio"]["max"], 1.2);
    }

    #[test]
    fn a_link_that_failed_is_doubted() {
        let mut doubtful = report();
        doubtful.cells[0].kernel[1].traffic.failed = 5;
        doubtful.cells[0].xdp[0].traffic.late_us_p99 = 5000;
        let warnings = doubtful.warnings();
        assert_eq!(
            warnings,
            [
                "20 ms, 0.1 % loss, cubic: the link lost 5 frames against its model",
                "20 ms, 0.1 % loss, cubic: one frame in a hundred was up to 5000 us late: the link does not get enough CPU"
            ]
        );
    }
}
