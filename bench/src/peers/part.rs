//! The two directions of the scenario, who takes turns on each link in them, and their tables.

use clap::ValueEnum;

use super::cells::Cell;
use crate::grid::link_contender;
use crate::report;
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
    /// How the report calls it.
    pub name: &'static str,
    /// What it says about it.
    pub title: &'static str,
    /// What takes turns on each link. Of the first four, the odd ones are ours and the even ones what they are
    /// compared with.
    pub contenders: &'static [Contender],
}

/// A link, and the runs of every contender.
pub type Row = (&'static Cell, Vec<Vec<Run>>);

static PARTS: [Part; 2] = [
    Part {
        name: "peers-down",
        title: "to Linux, by our stack and by the kernel's",
        contenders: &[
            to_linux("xdp cubic", Backend::Xdp, Congestion::Cubic),
            to_linux("kernel cubic", Backend::Kernel, Congestion::Cubic),
            to_linux("xdp bbr", Backend::Xdp, Congestion::Bbr),
            to_linux("kernel bbr", Backend::Kernel, Congestion::Bbr),
            to_linux("xdp reno", Backend::Xdp, Congestion::Reno),
            to_linux("xdp dctcp", Backend::Xdp, Congestion::Dctcp),
        ],
    },
    Part {
        name: "peers-up",
        title: "from Linux, to our stack and to the kernel's",
        contenders: &[
            from_linux("cubic to sluice", Congestion::Cubic, Receiver::Sluice),
            from_linux("cubic to linux", Congestion::Cubic, Receiver::Linux),
            from_linux("bbr to sluice", Congestion::Bbr, Receiver::Sluice),
            from_linux("bbr to linux", Congestion::Bbr, Receiver::Linux),
        ],
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
    /// Ours beside the kernel's with the same controller.
    pub fn row(&self, (cell, runs): &Row) -> report::Row {
        let mut row = report::Row::new(cell.name)
            .with("to_client", cell.to_client)
            .with("to_server", cell.to_server);
        for (contender, runs) in self.contenders.iter().zip(runs) {
            row.push(link_contender(contender.name, runs));
        }
        for pair in self.contenders.chunks_exact(2).take(2) {
            row.compare(pair[0].name, pair[1].name, None);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Traffic;
    use crate::peers::cells::CELLS;

    #[test]
    fn a_link_is_a_row_with_two_comparisons() {
        let run = |mbit_per_s| Run {
            mbit_per_s,
            whole: true,
            seed: 1,
            traffic: Traffic::default(),
        };
        let rates = [10.0, 8.0, 30.0, 40.0, 5.0, 6.0];
        for part in Direction::Both.parts() {
            let runs = rates.iter().take(part.contenders.len());
            let runs = runs.map(|rate| vec![run(*rate)]).collect();
            let row = part.row(&(&CELLS[0], runs));
            assert_eq!(row.contenders.len(), part.contenders.len());
            let medians: Vec<f64> = row
                .comparisons
                .iter()
                .map(|one| one.summary.median)
                .collect();
            assert_eq!(medians, [1.25, 0.75]);
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
