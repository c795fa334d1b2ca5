//! One combination of loss, round-trip time and congestion controls, and what became of it.

use serde::Serialize;

use crate::report::{Contender, Measure, Row};
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

/// One combination.
#[derive(Clone, Debug, PartialEq)]
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

    fn name(&self) -> String {
        let Cell {
            rtt_ms,
            loss_percent,
            pair,
            ..
        } = self;
        format!("{rtt_ms} ms, {loss_percent} % loss, {}", pair.ours.name())
    }

    /// As a row of the report.
    pub fn row(self) -> Row {
        let Pair { ours, kernel } = self.pair;
        let names = [
            format!("xdp {}", ours.name()),
            format!("kernel {}", kernel.name()),
        ];
        let seeds: Vec<u64> = self.xdp.iter().map(|run| run.seed).collect();
        let mut row = Row::new(self.name())
            .with("rtt_ms", self.rtt_ms)
            .with("loss_percent", self.loss_percent)
            .with("seeds", seeds);
        row.push(contender(&names[0], &self.xdp));
        row.push(contender(&names[1], &self.kernel));
        row.compare(&names[0], &names[1], Some(self.pair.goal()));
        row
    }

    /// Where the link was not what it was told to be.
    pub fn warnings(&self) -> Vec<String> {
        let name = self.name();
        let traffic = || self.xdp.iter().chain(&self.kernel).map(|run| run.traffic);
        let failed: u64 = traffic().map(|traffic| traffic.failed).sum();
        let late = traffic()
            .map(|traffic| traffic.late_us_p99)
            .max()
            .unwrap_or(0);
        let mut warnings = Vec::new();
        if failed > 0 {
            warnings.push(format!(
                "{name}: the link lost {failed} frames against its model"
            ));
        }
        if late > LATE_DOUBTFUL_US {
            warnings.push(format!(
                "{name}: one frame in a hundred was up to {late} us late: the link does not get enough CPU"
            ));
        }
        warnings
    }
}

/// Goodput, and what the link did to it.
pub fn contender(name: &str, runs: &[Run]) -> Contender {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let of = |value: fn(&Run) -> u64| runs.iter().map(|run| value(run) as f64).collect();
    let detail = |name| Measure::plain(name, "").detail();
    Contender::new(name)
        .with(
            Measure::more("goodput", "Mbit/s"),
            runs.iter().map(|run| run.mbit_per_s).collect(),
        )
        .with(detail("link packets"), of(|run| run.traffic.packets))
        .with(detail("link lost"), of(|run| run.traffic.lost))
        .with(detail("link overflow"), of(|run| run.traffic.overflow))
        .with(
            detail("link late p99 us"),
            of(|run| run.traffic.late_us_p99),
        )
        .with(detail("link failed"), of(|run| run.traffic.failed))
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

    fn cell(ours: [f64; 2], control: Congestion) -> Cell {
        Cell {
            xdp: runs(ours),
            kernel: runs([50.0, 50.0]),
            ..Cell::new(
                20,
                0.1,
                Pair {
                    ours: control,
                    kernel: control,
                },
            )
        }
    }

    #[test]
    fn a_cell_is_a_row_with_its_goal() {
        let row = cell([60.0, 50.0], Congestion::Cubic).row();
        assert_eq!(row.name, "20 ms, 0.1 % loss, cubic");
        assert_eq!(row.parameters["seeds"], serde_json::json!([1, 2]));
        assert_eq!(row.comparisons[0].summary.max, 1.2);
        assert_eq!(row.comparisons[0].is_met(), Some(true));
    }

    #[test]
    fn the_goal_of_bbr_is_lower() {
        let met = |control| cell([48.0, 48.0], control).row().comparisons[0].is_met();
        assert_eq!(met(Congestion::Cubic), Some(false));
        assert_eq!(met(Congestion::Bbr), Some(true));
    }

    #[test]
    fn a_link_that_failed_is_doubted() {
        let mut doubtful = cell([50.0, 50.0], Congestion::Cubic);
        doubtful.kernel[1].traffic.failed = 5;
        doubtful.xdp[0].traffic.late_us_p99 = 5000;
        assert_eq!(
            doubtful.warnings(),
            [
                "20 ms, 0.1 % loss, cubic: the link lost 5 frames against its model",
                "20 ms, 0.1 % loss, cubic: one frame in a hundred was up to 5000 us late: the link does not get enough CPU"
            ]
        );
    }
}
