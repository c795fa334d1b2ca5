//! The two directions of the scenario, who takes turns on each link in them, and their tables.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::cells::Cell;
use crate::server::{Backend, Congestion};
use crate::transfer::{Receiver, Run};

/// Which parts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Our stack sends, Linux receives
    Down,
    /// Linux sends, our stack receives
    Up,
    /// One after the other
    Both,
}

impl Direction {
    /// The parts, in the order they run.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Direction::Down => &PARTS[..1],
            Direction::Up => &PARTS[1..],
            Direction::Both => &PARTS,
        }
    }
}

/// A sender, a receiver, and the congestion control of the sender.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// How the table calls it.
    pub name: &'static str,
    /// Who sends.
    pub backend: Backend,
    /// How it controls congestion.
    pub congestion: Congestion,
    /// Who receives.
    pub receiver: Receiver,
}

/// One direction.
#[derive(Debug)]
pub struct Part {
    /// How the JSON calls it.
    pub direction: &'static str,
    /// How the report calls it.
    pub title: &'static str,
    /// What takes turns on each link. Of the first four, the odd ones are ours and the even ones what they are
    /// compared with.
    pub contenders: &'static [Contender],
    /// Names of the two ratios.
    ratios: [&'static str; 2],
}

/// A link, and the runs of every contender.
pub type Row = (&'static Cell, Vec<Vec<Run>>);

static PARTS: [Part; 2] = [
    Part {
        direction: "down",
        title: "to Linux, by our stack and by the kernel's",
        contenders: &[
            to_linux("xdp cubic", Backend::Xdp, Congestion::Cubic),
            to_linux("kernel cubic", Backend::Kernel, Congestion::Cubic),
            to_linux("xdp bbr", Backend::Xdp, Congestion::Bbr),
            to_linux("kernel bbr", Backend::Kernel, Congestion::Bbr),
            to_linux("xdp reno", Backend::Xdp, Congestion::Reno),
            to_linux("xdp dctcp", Backend::Xdp, Congestion::Dctcp),
        ],
        ratios: ["cubic xdp / kernel", "bbr xdp / kernel"],
    },
    Part {
        direction: "up",
        title: "from Linux, to our stack and to the kernel's",
        contenders: &[
            from_linux("cubic to sluice", Congestion::Cubic, Receiver::Sluice),
            from_linux("cubic to linux", Congestion::Cubic, Receiver::Linux),
            from_linux("bbr to sluice", Congestion::Bbr, Receiver::Sluice),
            from_linux("bbr to linux", Congestion::Bbr, Receiver::Linux),
        ],
        ratios: ["cubic to sluice / linux", "bbr to sluice / linux"],
    },
];

const fn to_linux(name: &'static str, backend: Backend, congestion: Congestion) -> Contender {
    Contender {
        name,
        backend,
        congestion,
        receiver: Receiver::Linux,
    }
}

const fn from_linux(name: &'static str, congestion: Congestion, receiver: Receiver) -> Contender {
    Contender {
        name,
        backend: Backend::Kernel,
        congestion,
        receiver,
    }
}

impl Part {
    /// Medians in Mbit/s, and ours beside the kernel's with the same controller.
    pub fn markdown(&self, rows: &[Row]) -> String {
        let names = self.contenders.iter().map(|contender| contender.name);
        let names: Vec<&str> = names.chain(self.ratios).collect();
        let mut out = format!("| link | {} |\n", names.join(" | "));
        out.push_str("|---|");
        out.push_str(&"---:|".repeat(names.len()));
        out.push('\n');
        for (cell, runs) in rows {
            let medians: Vec<f64> = runs.iter().map(|runs| median(runs)).collect();
            let ratios = medians.chunks_exact(2).take(self.ratios.len());
            let ratios = ratios.map(|pair| pair[0] / pair[1]);
            let _ = write!(out, "| {} |", cell.name);
            for number in medians.iter().copied().chain(ratios) {
                // Writing to a String cannot fail.
                let _ = write!(out, " {number:.2} |");
            }
            out.push('\n');
        }
        out
    }

    /// Everything that was measured.
    pub fn json(&self, rows: &[Row]) -> Value {
        let names: Vec<&str> = self.contenders.iter().map(|one| one.name).collect();
        let rows: Vec<Value> = rows
            .iter()
            .map(|(cell, runs)| {
                json!({ "link": cell.name, "to_client": cell.to_client, "to_server": cell.to_server, "runs": runs })
            })
            .collect();
        json!({ "direction": self.direction, "contenders": names, "rows": rows })
    }
}

fn median(runs: &[Run]) -> f64 {
    let rates: Vec<f64> = runs.iter().map(|run| run.mbit_per_s).collect();
    crate::measure::Summary::of(&rates).map_or(f64::NAN, |summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Traffic;
    use crate::peers::cells::CELLS;

    #[test]
    fn a_link_is_a_line_with_medians_and_two_ratios() {
        let run = |mbit_per_s| Run {
            mbit_per_s,
            whole: true,
            seed: 1,
            traffic: Traffic::default(),
        };
        let rates = [10.0, 8.0, 30.0, 40.0, 5.0, 6.0];
        let lines = [
            "| clean | 10.00 | 8.00 | 30.00 | 40.00 | 5.00 | 6.00 | 1.25 | 0.75 |",
            "| clean | 10.00 | 8.00 | 30.00 | 40.00 | 1.25 | 0.75 |",
        ];
        for (part, line) in Direction::Both.parts().iter().zip(lines) {
            let runs = rates.iter().take(part.contenders.len());
            let runs = runs.map(|rate| vec![run(*rate)]).collect();
            let markdown = part.markdown(&[(&CELLS[0], runs)]);
            assert!(markdown.lines().any(|found| found == line), "{markdown}");
        }
    }

    #[test]
    fn ours_and_the_kernels_of_a_ratio_differ_in_one_thing() {
        for part in Direction::Both.parts() {
            for pair in part.contenders.chunks_exact(2).take(2) {
                assert_eq!(pair[0].congestion, pair[1].congestion);
                let differ = [
                    pair[0].backend != pair[1].backend,
                    pair[0].receiver != pair[1].receiver,
                ];
                assert_eq!(differ.iter().filter(|differs| **differs).count(), 1);
            }
        }
    }
}
