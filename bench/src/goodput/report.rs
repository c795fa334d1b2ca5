//! A run as Markdown for people and as JSON for machines.
//!
//! Says what was measured before it says how much, who won, and what makes the numbers doubtful.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use super::Run;
use super::contestant::Contestant;
use crate::environment::{Environment, Offloads};
use crate::measure::{Summary, ratios};
use crate::offloads::OffloadSet;

/// Runs that differ by more than this, relative to their median, say more about the machine than about the server.
const SPREAD_DOUBTFUL: f64 = 0.2;
/// A load average before the run beyond this means that something else was running.
const LOAD_DOUBTFUL: f64 = 0.5;

/// One server of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contender {
    /// Which.
    pub server: Contestant,
    /// How it serves, in its own words: bound modes, checksum, queues.
    pub serves: String,
    /// Offloads of both links while it ran.
    pub offloads: Offloads,
    /// Its runs, in order.
    pub runs: Vec<Run>,
}

/// A finished comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Payload of a flow.
    pub bytes: u64,
    /// Flows at the same time.
    pub flows: u32,
    /// What was switched before.
    pub offload_set: OffloadSet,
    /// Machine and network.
    pub environment: Environment,
    /// The servers; their runs alternated.
    pub contenders: Vec<Contender>,
}

impl Contender {
    fn goodput(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.gbit_per_s).collect()
    }

    fn cpu(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.cpu_s_per_gib).collect()
    }
}

impl Report {
    /// The table, with environment above and doubts below.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    /// Everything, with the summaries of the table.
    pub fn json(&self) -> String {
        let summaries: Vec<_> = self
            .contenders
            .iter()
            .map(|contender| {
                json!({
                    "server": contender.server,
                    "gbit_per_s": Summary::of(&contender.goodput()),
                    "cpu_s_per_gib": Summary::of(&contender.cpu()),
                })
            })
            .collect();
        let ratios: Vec<_> = self
            .ratios()
            .iter()
            .map(|(other, ratios)| json!({"over": other, "pairs": ratios, "ratio": Summary::of(ratios)}))
            .collect();
        let document = json!({
            "run": self,
            "summaries": summaries,
            "ratios": ratios,
            "warnings": self.warnings(),
        });
        format!("{document:#}\n")
    }

    /// The first server over each of the others, per pair of neighbouring runs.
    fn ratios(&self) -> Vec<(Contestant, Vec<f64>)> {
        let Some((first, others)) = self.contenders.split_first() else {
            return Vec::new();
        };
        let first = first.goodput();
        others
            .iter()
            .map(|other| (other.server, ratios(&first, &other.goodput())))
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.environment.load > LOAD_DOUBTFUL {
            warnings.push(format!(
                "load average was {:.2} before the run: something else used the CPUs; repeat on a quiet machine",
                self.environment.load
            ));
        }
        if self.environment.server_cpu == self.environment.client_cpu {
            warnings.push("server and client share a CPU: their sum is measured".to_owned());
        }
        for contender in &self.contenders {
            let spread = Summary::of(&contender.goodput()).map_or(0.0, |summary| summary.spread());
            if spread > SPREAD_DOUBTFUL {
                warnings.push(format!(
                    "runs of {} differ by {:.0} % of their median: use more rounds",
                    contender.server.name(),
                    spread * 100.0
                ));
            }
        }
        warnings
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let environment = &self.environment;
        writeln!(
            out,
            "## {}: {}, {} MiB each, MTU {}\n",
            self.scenario,
            flows(self.flows),
            self.bytes >> 20,
            environment.mtu
        )?;
        writeln!(
            out,
            "- machine: {}, kernel {}",
            environment.cpu, environment.kernel
        )?;
        writeln!(
            out,
            "- pinning: server worker on CPU {}, curl on CPU {}; threaded NAPI at the client: {}",
            environment.server_cpu,
            environment.client_cpu,
            if environment.threaded_napi {
                "on"
            } else {
                "off"
            }
        )?;
        writeln!(
            out,
            "- congestion control: {} everywhere",
            environment.congestion
        )?;
        for contender in &self.contenders {
            let name = contender.server.name();
            writeln!(out, "- {name}: {}", contender.serves)?;
            writeln!(
                out,
                "  - offloads at the server: {}",
                listed(&contender.offloads.server)
            )?;
            writeln!(
                out,
                "  - offloads at the client: {}",
                listed(&contender.offloads.client)
            )?;
        }
        writeln!(
            out,
            "\n| server | Gbit/s median | min | max | server CPU s/GiB median | min | max |"
        )?;
        writeln!(out, "|---|---:|---:|---:|---:|---:|---:|")?;
        for contender in &self.contenders {
            let (Some(rate), Some(cpu)) = (
                Summary::of(&contender.goodput()),
                Summary::of(&contender.cpu()),
            ) else {
                continue;
            };
            writeln!(
                out,
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                contender.server.name(),
                rate.median,
                rate.min,
                rate.max,
                cpu.median,
                cpu.min,
                cpu.max
            )?;
        }
        let first = self
            .contenders
            .first()
            .map_or("", |first| first.server.name());
        for (other, ratios) in self.ratios() {
            if let Some(ratio) = Summary::of(&ratios) {
                writeln!(
                    out,
                    "\n{first} / {} over {} pairs: {:.2} (from {:.2} to {:.2}): {}",
                    other.name(),
                    ratios.len(),
                    ratio.median,
                    ratio.min,
                    ratio.max,
                    verdict(&ratio, first, other.name())
                )?;
            }
        }
        for warning in self.warnings() {
            writeln!(out, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// Who won, if every pair agrees.
fn verdict(ratio: &Summary, first: &str, other: &str) -> String {
    if ratio.min > 1.0 {
        format!("{first} was faster in every pair")
    } else if ratio.max < 1.0 {
        format!("{other} was faster in every pair")
    } else {
        "no winner".to_owned()
    }
}

fn flows(count: u32) -> String {
    if count == 1 {
        "one flow".to_owned()
    } else {
        format!("{count} flows")
    }
}

fn listed(offloads: &BTreeMap<String, String>) -> String {
    let words: Vec<String> = offloads
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(server: Contestant, rates: &[f64]) -> Contender {
        let offloads = |value: &str| BTreeMap::from([("tso".to_owned(), value.to_owned())]);
        Contender {
            server,
            serves: format!("backend={}", server.name()),
            offloads: Offloads {
                server: offloads("off"),
                client: offloads("off [fixed]"),
            },
            runs: rates
                .iter()
                .map(|rate| Run {
                    gbit_per_s: *rate,
                    cpu_s_per_gib: 8.0 / rate,
                })
                .collect(),
        }
    }

    fn report(ours: &[f64], theirs: &[f64]) -> Report {
        Report {
            scenario: "goodput",
            bytes: 1 << 30,
            flows: 1,
            offload_set: OffloadSet::Wire,
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
            contenders: vec![
                contender(Contestant::Xdp, ours),
                contender(Contestant::Kernel, theirs),
            ],
        }
    }

    #[test]
    fn the_markdown_looks_like_this() {
        assert_eq!(
            report(&[5.0, 5.2, 5.1], &[4.0, 4.0, 4.25]).markdown(),
            "\
## goodput: one flow, 1024 MiB each, MTU 1500

- machine: Fast 9000, 2 CPUs, kernel 6.18.0
- pinning: server worker on CPU 0, curl on CPU 1; threaded NAPI at the client: off
- congestion control: cubic everywhere
- xdp: backend=xdp
  - offloads at the server: tso off
  - offloads at the client: tso off [fixed]
- kernel: backend=kernel
  - offloads at the server: tso off
  - offloads at the client: tso off [fixed]

| server | Gbit/s median | min | max | server CPU s/GiB median | min | max |
|---|---:|---:|---:|---:|---:|---:|
| xdp | 5.10 | 5.00 | 5.20 | 1.57 | 1.54 | 1.60 |
| kernel | 4.00 | 4.00 | 4.25 | 2.00 | 1.88 | 2.00 |

xdp / kernel over 3 pairs: 1.25 (from 1.20 to 1.30): xdp was faster in every pair
"
        );
    }

    #[test]
    fn a_lost_comparison_says_so() {
        assert!(
            report(&[3.0], &[4.0])
                .markdown()
                .contains("kernel was faster in every pair")
        );
        assert!(
            report(&[3.0, 5.0], &[4.0, 4.0])
                .markdown()
                .contains("no winner")
        );
    }

    #[test]
    fn doubts_are_printed() {
        let mut doubtful = report(&[1.0, 2.0], &[1.0, 1.0]);
        doubtful.environment.load = 1.5;
        doubtful.environment.client_cpu = 0;
        let warnings = doubtful.warnings();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            doubtful
                .markdown()
                .contains("warning: load average was 1.50")
        );
    }

    #[test]
    fn the_json_has_runs_summaries_and_ratios() {
        let text = report(&[5.0, 5.2], &[4.0, 4.0]).json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["run"]["offload_set"], "wire");
        assert_eq!(value["run"]["contenders"][0]["runs"][1]["gbit_per_s"], 5.2);
        assert_eq!(value["summaries"][1]["gbit_per_s"]["median"], 4.0);
        assert_eq!(value["ratios"][0]["ratio"]["min"], 1.25);
        assert_eq!(value["warnings"], json!([]));
    }
}
