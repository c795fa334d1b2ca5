//! The floods side by side, as Markdown for people and as JSON for machines.

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use super::Run;
use super::generator::Kind;
use crate::environment::Environment;
use crate::measure::{Summary, ratios};

/// A load average before the run beyond this means that something else was running.
const LOAD_DOUBTFUL: f64 = 0.5;
/// A flood below this part of its rate was not the flood that was asked for.
const RATE_DOUBTFUL: f64 = 0.95;
/// What has to be left of the goodput.
const GOODPUT_MIN: f64 = 0.9;

/// The runs under one kind of flood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// Its runs, in order.
    pub runs: Vec<Run>,
}

/// A finished scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Payload of a download.
    pub bytes: u64,
    /// Frames per second that were asked for.
    pub rate: u32,
    /// Machine and network.
    pub environment: Environment,
    /// Without a flood, the control, and the floods; their runs alternated.
    pub cases: Vec<Case>,
}

impl Case {
    /// A case without runs.
    pub fn new(kind: Option<Kind>) -> Case {
        Case {
            name: match kind {
                None => "none",
                Some(Kind::Control) => CONTROL,
                Some(Kind::Everywhere) => "everywhere",
                Some(Kind::Network) => "one /24",
            },
            runs: Vec::new(),
        }
    }

    fn goodput(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.gbit_per_s).collect()
    }

    fn frames(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.frames_per_s).collect()
    }

    fn failed(&self) -> u32 {
        self.runs.iter().map(|run| run.failed).sum()
    }

    /// The time within which this part of the connections of all runs was there.
    fn connect_ms(&self, part: f64) -> f64 {
        let mut times: Vec<f64> = self
            .runs
            .iter()
            .flat_map(|run| run.connect_ms.clone())
            .collect();
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
}

const CONTROL: &str = "control";

impl Report {
    fn control(&self) -> Vec<f64> {
        let control = self.cases.iter().find(|case| case.name == CONTROL);
        control.map(Case::goodput).unwrap_or_default()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let load = self.environment.load;
        if load > LOAD_DOUBTFUL {
            warnings.push(format!("load average was {load:.2} before the run"));
        }
        for case in &self.cases {
            let slowest = case.frames().into_iter().fold(f64::INFINITY, f64::min);
            let wanted = RATE_DOUBTFUL * f64::from(self.rate);
            if case.name != "none" && slowest < wanted {
                warnings.push(format!(
                    "the flood \"{}\" came at {slowest:.0} frames/s only",
                    case.name
                ));
            }
        }
        warnings
    }

    /// For machines: everything, and the ratios.
    pub fn json(&self) -> String {
        let ratios: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                json!({
                    "name": case.name,
                    "goodput": Summary::of(&case.goodput()),
                    "of_control": Summary::of(&ratios(&case.goodput(), &self.control())),
                    "connect_ms_p99": case.connect_ms(0.99),
                    "failed": case.failed(),
                })
            })
            .collect();
        let value = json!({ "run": self, "summaries": ratios, "warnings": self.warnings() });
        format!("{value:#}\n")
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let environment = &self.environment;
        writeln!(
            out,
            "## flood: {} SYNs/s, downloads of {} MiB, MTU {}\n",
            self.rate,
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
            "- pinning: server worker on CPU {}, curl and the generator on CPU {}",
            environment.server_cpu, environment.client_cpu
        )?;
        writeln!(
            out,
            "- control: the same frames with an IP header length of 0, which the program drops before it looks for a port"
        )?;
        writeln!(
            out,
            "\n| flood | frames/s | Gbit/s median | min | max | of control | connected | p50 ms | p99 ms |"
        )?;
        writeln!(out, "|---|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        let control = self.control();
        for case in &self.cases {
            let (Some(rate), Some(frames)) =
                (Summary::of(&case.goodput()), Summary::of(&case.frames()))
            else {
                continue;
            };
            let ratio = Summary::of(&ratios(&case.goodput(), &control));
            let connected: usize = case.runs.iter().map(|run| run.connect_ms.len()).sum();
            writeln!(
                out,
                "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {} of {} | {:.1} | {:.1} |",
                case.name,
                frames.median,
                rate.median,
                rate.min,
                rate.max,
                ratio.map_or(0.0, |ratio| ratio.median),
                connected,
                connected as u64 + u64::from(case.failed()),
                case.connect_ms(0.5),
                case.connect_ms(0.99)
            )?;
        }
        for case in self
            .cases
            .iter()
            .filter(|case| !["none", CONTROL].contains(&case.name))
        {
            if let Some(ratio) = Summary::of(&ratios(&case.goodput(), &control)) {
                writeln!(
                    out,
                    "\n{}: {}",
                    case.name,
                    verdict(ratio.median, case.failed())
                )?;
            }
        }
        for warning in self.warnings() {
            writeln!(out, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// Whether the goal is met: nine tenths of the goodput and every honest connection.
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

    fn case(kind: Option<Kind>, rates: &[f64], frames_per_s: f64, failed: u32) -> Case {
        let runs = rates.iter().map(|rate| Run {
            gbit_per_s: *rate,
            frames_per_s,
            connect_ms: vec![0.5, 1.0, 2.0, 1000.5],
            failed,
        });
        Case {
            runs: runs.collect(),
            ..Case::new(kind)
        }
    }

    fn report(under_flood: &[f64], frames_per_s: f64, failed: u32) -> Report {
        Report {
            scenario: "flood",
            bytes: 256 << 20,
            rate: 500_000,
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
            cases: vec![
                case(None, &[4.0, 4.0], 0.0, 0),
                case(Some(Kind::Control), &[2.0, 2.0], 500_000.0, 0),
                case(Some(Kind::Everywhere), under_flood, frames_per_s, failed),
            ],
        }
    }

    #[test]
    fn the_markdown_looks_like_this() {
        assert_eq!(
            report(&[1.9, 1.9], 500_000.0, 0).markdown(),
            "\
## flood: 500000 SYNs/s, downloads of 256 MiB, MTU 1500

- machine: Fast 9000, 2 CPUs, kernel 6.18.0
- pinning: server worker on CPU 0, curl and the generator on CPU 1
- control: the same frames with an IP header length of 0, which the program drops before it looks for a port

| flood | frames/s | Gbit/s median | min | max | of control | connected | p50 ms | p99 ms |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
| none | 0 | 4.00 | 4.00 | 4.00 | 2.00 | 8 of 8 | 1.0 | 1000.5 |
| control | 500000 | 2.00 | 2.00 | 2.00 | 1.00 | 8 of 8 | 1.0 | 1000.5 |
| everywhere | 500000 | 1.90 | 1.90 | 1.90 | 0.95 | 8 of 8 | 1.0 | 1000.5 |

everywhere: at least 90 % of the goodput is left, and every connection succeeded
"
        );
    }

    #[test]
    fn a_goal_that_was_missed_is_said_so() {
        let text = report(&[1.0, 1.0], 500_000.0, 1).markdown();
        assert!(text.contains("less than 90 % of the goodput is left, and 2 connections failed"));
    }

    #[test]
    fn a_flood_that_was_too_slow_is_doubted() {
        let slow = report(&[2.0, 2.0], 300_000.0, 0);
        assert_eq!(slow.warnings().len(), 1, "{:?}", slow.warnings());
        assert!(slow.markdown().contains("came at 300000 frames/s only"));
    }

    #[test]
    fn the_json_has_runs_summaries_and_ratios() {
        let text = report(&[1.9, 1.7], 500_000.0, 0).json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["run"]["cases"][2]["runs"][1]["gbit_per_s"], 1.7);
        assert_eq!(value["summaries"][2]["of_control"]["max"], 0.95);
        assert_eq!(value["summaries"][2]["failed"], 0);
    }
}
