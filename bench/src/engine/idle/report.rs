//! The tables of the idle scenario, and the same as JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use super::{Latency, Memory, Round};
use crate::environment::Machine;
use crate::measure::{Summary, ratios};

/// The goals: bytes of an idle connection, seconds for all of them, and how many times the p99 of an empty stack.
const BYTES_MAX: f64 = 512.0;
const SETUP_MAX_S: f64 = 20.0;
const RATIO_MAX: f64 = 2.0;
/// Another user of the machine.
const LOAD_DOUBTFUL: f64 = 0.5;

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Idle connections.
    pub connections: u32,
    /// Bytes of a response.
    pub response_bytes: u64,
    /// Requests of a round to each stack.
    pub requests: u32,
    /// Where it ran.
    pub machine: Machine,
    /// What they cost.
    pub memory: Memory,
    /// Requests beside them.
    pub rounds: Vec<Round>,
}

impl Report {
    fn values(&self, value: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(value).collect()
    }

    /// Latency beside the idle connections over that of an empty stack, per round.
    fn ratio(&self, value: impl Fn(&Latency) -> f64) -> Option<Summary> {
        let beside = self.values(|round| value(&round.beside));
        let empty = self.values(|round| value(&round.empty));
        Summary::of(&ratios(&beside, &empty))
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
        let bytes = self.memory.allocated_bytes.max(self.memory.resident_bytes);
        if bytes > BYTES_MAX {
            warnings.push(format!(
                "{bytes:.0} bytes per connection: the goal is {BYTES_MAX:.0}"
            ));
        }
        if self.memory.setup_s > SETUP_MAX_S {
            warnings.push(format!(
                "set up in {:.1} s: the goal is {SETUP_MAX_S:.0} s",
                self.memory.setup_s
            ));
        }
        let p99 = self.ratio(|latency| latency.p99);
        if let Some(ratio) = p99.filter(|ratio| ratio.median > RATIO_MAX) {
            warnings.push(format!(
                "p99 is {:.2} times that of an empty stack: the goal is {RATIO_MAX:.0}",
                ratio.median
            ));
        }
        warnings
    }

    /// Everything, with the summaries of the table.
    pub fn json(&self) -> String {
        let document = json!({
            "run": self,
            "summaries": {
                "ratio_p50": self.ratio(|latency| latency.p50),
                "ratio_p99": self.ratio(|latency| latency.p99),
            },
            "warnings": self.warnings(),
        });
        format!("{document:#}\n")
    }

    /// The tables, with the conditions above and the doubts below.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "## {}: {} idle connections in memory\n",
            self.scenario, self.connections
        )?;
        writeln!(
            out,
            "- machine: {}, kernel {}",
            self.machine.cpu, self.machine.kernel
        )?;
        writeln!(
            out,
            "- each has carried a request and {} bytes of response, and rests",
            self.response_bytes
        )?;
        writeln!(
            out,
            "- a request is timed in the stack alone, from its segment to the last of the response; {} per round and stack\n",
            self.requests
        )?;
        writeln!(
            out,
            "| bytes per connection, allocator | resident | set-up s |\n|---:|---:|---:|"
        )?;
        writeln!(
            out,
            "| {:.0} | {:.0} | {:.2} |\n",
            self.memory.allocated_bytes, self.memory.resident_bytes, self.memory.setup_s
        )?;
        writeln!(
            out,
            "| request | p50 ns median | min | max | p99 ns median | min | max |\n|---|---:|---:|---:|---:|---:|---:|"
        )?;
        let of = |look: fn(&Round) -> Latency| self.rounds.iter().map(look).collect::<Vec<_>>();
        let rows = [
            ("on a new connection, empty stack", of(|round| round.empty)),
            (
                "on a new connection beside the idle ones",
                of(|round| round.beside),
            ),
            ("on a connection that was idle", of(|round| round.woken)),
        ];
        for (name, latencies) in rows {
            let [p50, p99] = [|of: &Latency| of.p50, |of: &Latency| of.p99]
                .map(|value| Summary::of(&latencies.iter().map(value).collect::<Vec<_>>()));
            let (Some(p50), Some(p99)) = (p50, p99) else {
                continue;
            };
            writeln!(
                out,
                "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
                p50.median, p50.min, p50.max, p99.median, p99.min, p99.max
            )?;
        }
        if let (Some(p50), Some(p99)) = (
            self.ratio(|latency| latency.p50),
            self.ratio(|latency| latency.p99),
        ) {
            writeln!(
                out,
                "\nbeside / empty: p50 {:.2} ({:.2}-{:.2}), p99 {:.2} ({:.2}-{:.2})",
                p50.median, p50.min, p50.max, p99.median, p99.min, p99.max
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

    fn report() -> Report {
        let latency = |p50, p99| Latency { p50, p99 };
        let round = Round {
            beside: latency(1200.0, 3000.0),
            empty: latency(1000.0, 2000.0),
            woken: latency(1500.0, 4000.0),
        };
        Report {
            scenario: "engine-idle",
            connections: 1_000_000,
            response_bytes: 4096,
            requests: 20_000,
            machine: Machine {
                kernel: "6.18.0".to_owned(),
                cpu: "Fast 9000, 2 CPUs".to_owned(),
                load: 0.1,
            },
            memory: Memory {
                allocated_bytes: 430.4,
                resident_bytes: 440.0,
                setup_s: 2.5,
            },
            rounds: vec![round; 3],
        }
    }

    #[test]
    fn the_tables_look_like_this() {
        let markdown = report().markdown();
        for line in [
            "| 430 | 440 | 2.50 |",
            "| on a new connection beside the idle ones | 1200 | 1200 | 1200 | 3000 | 3000 | 3000 |",
            "beside / empty: p50 1.20 (1.20-1.20), p99 1.50 (1.50-1.50)",
        ] {
            assert!(
                markdown.lines().any(|found| found == line),
                "{line}\n{markdown}"
            );
        }
    }

    #[test]
    fn the_json_has_every_round_and_the_ratios() {
        let value: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(value["run"]["rounds"][2]["woken"]["p99"], 4000.0);
        assert_eq!(value["summaries"]["ratio_p99"]["median"], 1.5);
    }

    #[test]
    fn goals_that_were_missed_are_named() {
        let mut missed = report();
        missed.memory.resident_bytes = 600.0;
        missed.memory.setup_s = 21.0;
        missed.rounds[0].beside.p99 = 9000.0;
        missed.rounds[1].beside.p99 = 9000.0;
        let warnings = missed.warnings().join("\n");
        for goal in ["600 bytes", "21.0 s", "4.50 times"] {
            assert!(warnings.contains(goal), "{goal}: {warnings}");
        }
    }
}
