//! Linux as the peer: a whole file through each of 20 links that are bad in their own way, by every congestion control.
//!
//! A row is a link; the columns are our stack with each of its controllers, and the kernel's TCP with CUBIC and BBR
//! over the same link with the same seed. Each transfer has a fresh server and a fresh link, runs from SYN to FIN, and
//! every byte is compared. What counts is that all of them end, and how fast beside the kernel's.

mod cells;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::environment::Environment;
use crate::error::Error;
use crate::lab::Lab;
use crate::path::Road;
use crate::seat::Seat;
use crate::server::{Backend, Congestion};
use crate::site::Site;
use crate::transfer::{Bed, Run};
use cells::{CELLS, Cell};

const MTU: u16 = 1500;

/// What takes turns on each link.
const CONTENDERS: [(Backend, Congestion); 6] = [
    (Backend::Xdp, Congestion::Cubic),
    (Backend::Kernel, Congestion::Cubic),
    (Backend::Xdp, Congestion::Bbr),
    (Backend::Kernel, Congestion::Bbr),
    (Backend::Xdp, Congestion::Reno),
    (Backend::Xdp, Congestion::Dctcp),
];

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Only the links whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Length of the file, KiB
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    kib: u32,

    /// Rounds; each has its own seed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// The longest that a transfer may take, seconds
    #[arg(long, default_value_t = 120)]
    seconds: u32,

    /// Seed of the first round
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    seat: Seat,

    /// Write the result as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the scenario and prints its report. Fails if a transfer was wrong or did not end.
pub fn run(options: &Options) -> Result<(), Error> {
    let binary = options.seat.daemon()?;
    let environment =
        Environment::gather(MTU, options.seat.server_cpu, options.seat.client_cpu, false)?;
    let lab = Lab::with_middle(MTU)?;
    let site = Site::create(&lab, u64::from(options.kib) << 10)?;
    let bed = Bed {
        lab: &lab,
        binary: &binary,
        site: &site,
        server_cpu: options.seat.server_cpu,
        client_cpu: options.seat.client_cpu,
        seconds: options.seconds,
    };
    let mut rows = Vec::new();
    for cell in CELLS.iter().filter(|cell| options.wants(cell)) {
        let mut runs = CONTENDERS.map(|_| Vec::new());
        for seed in (options.seed..).take(options.rounds as usize) {
            for ((backend, congestion), runs) in CONTENDERS.into_iter().zip(&mut runs) {
                runs.push(transfer(&bed, cell, seed, backend, congestion)?);
            }
        }
        rows.push((cell, runs));
    }
    println!(
        "## peers: {} KiB to Linux {} through {} links, seeds {} to {}\n\n{}",
        options.kib,
        environment.kernel,
        rows.len(),
        options.seed,
        options.seed + u64::from(options.rounds) - 1,
        markdown(&rows)
    );
    if let Some(path) = &options.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(cell, runs)| json!({ "link": cell.name, "to_client": cell.to_client, "to_server": cell.to_server, "runs": runs }))
            .collect();
        let contenders = CONTENDERS
            .map(|(backend, congestion)| format!("{} {}", backend.name(), congestion.name()));
        let document =
            json!({ "environment": environment, "contenders": contenders, "rows": rows });
        fs::write(path, format!("{document:#}\n"))
            .map_err(Error::io(path.display().to_string()))?;
    }
    Ok(())
}

impl Options {
    fn wants(&self, cell: &Cell) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| cell.name.contains(part))
    }
}

fn transfer(
    bed: &Bed<'_>,
    cell: &Cell,
    seed: u64,
    backend: Backend,
    congestion: Congestion,
) -> Result<Run, Error> {
    if backend == Backend::Kernel {
        bed.lab.set_kernel_congestion(congestion.name())?;
    }
    let road = Road {
        to_client: cell.to_client.to_owned(),
        to_server: cell.to_server.to_owned(),
        seed,
    };
    let run = bed.measured(backend, congestion, &road)?;
    let name = format!("{}, {} {}", cell.name, backend.name(), congestion.name());
    eprintln!("{name}: {:.2} Mbit/s", run.mbit_per_s);
    if run.whole {
        Ok(run)
    } else {
        Err(Error::Unfinished(name))
    }
}

/// Medians in Mbit/s, and ours beside the kernel's with the same controller.
fn markdown(rows: &[(&Cell, [Vec<Run>; CONTENDERS.len()])]) -> String {
    let mut out = String::from("| link |");
    for (backend, congestion) in CONTENDERS {
        // Writing to a String cannot fail.
        let _ = write!(out, " {} {} |", backend.name(), congestion.name());
    }
    out.push_str(" cubic xdp / kernel | bbr xdp / kernel |\n|---|");
    out.push_str(&"---:|".repeat(CONTENDERS.len() + 2));
    out.push('\n');
    for (cell, runs) in rows {
        let _ = write!(out, "| {} |", cell.name);
        let medians = runs.each_ref().map(|runs| median(runs));
        for median in medians {
            let _ = write!(out, " {median:.2} |");
        }
        let [cubic, kernel_cubic, bbr, kernel_bbr, ..] = medians;
        let _ = writeln!(
            out,
            " {:.2} | {:.2} |",
            cubic / kernel_cubic,
            bbr / kernel_bbr
        );
    }
    out
}

fn median(runs: &[Run]) -> f64 {
    let rates: Vec<f64> = runs.iter().map(|run| run.mbit_per_s).collect();
    crate::measure::Summary::of(&rates).map_or(f64::NAN, |summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Traffic;

    #[test]
    fn a_link_is_a_line_with_medians_and_two_ratios() {
        let run = |mbit_per_s| Run {
            mbit_per_s,
            whole: true,
            seed: 1,
            traffic: Traffic::default(),
        };
        let runs = [10.0, 8.0, 30.0, 40.0, 5.0, 6.0].map(|rate| vec![run(rate)]);
        let markdown = markdown(&[(&CELLS[0], runs)]);
        let line = "| clean | 10.00 | 8.00 | 30.00 | 40.00 | 5.00 | 6.00 | 1.25 | 0.75 |";
        assert!(markdown.lines().any(|found| found == line), "{markdown}");
    }
}
