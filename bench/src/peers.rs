//! Linux as the peer: a whole file through each of 20 links that are bad in their own way, by every congestion control.
//!
//! There is a table for each direction. Down, our stack sends with each of its controllers, beside the kernel's TCP with
//! CUBIC and BBR, and Linux receives. Up, the kernel's TCP sends, and our stack receives, beside the kernel's. A row is
//! a link, and all of a row have the same seed. Each transfer has a fresh server and a fresh link, runs from SYN to FIN,
//! and its SHA-256 is compared. What counts is that all of them end, and how fast beside the kernel's.

mod cells;
mod part;

use clap::Args;

use crate::error::Error;
use crate::lab::Lab;
use crate::path::Road;
use crate::report::{self, Conditions, Output, Report};
use crate::seat::Seat;
use crate::server::Backend;
use crate::site::Site;
use crate::transfer::{Bed, Run};
use cells::{CELLS, Cell};
use part::{Contender, Direction, Part, Row};

const MTU: u16 = 1500;

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Only the links whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Who sends: we, Linux, or both
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    direction: Direction,

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

    #[command(flatten)]
    output: Output,
}

/// Runs the scenario and prints its report. Fails if a transfer was wrong or did not end.
pub fn run(options: &Options) -> Result<(), Error> {
    let binary = options.seat.daemon()?;
    let conditions = Conditions::with_network(MTU, "none", &options.seat)?;
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
    let mut reports = Vec::new();
    for part in options.direction.parts() {
        let about = format!("{} KiB {}", options.kib, part.title);
        let mut report = Report::new(part.name, about, conditions.clone());
        report.notes.push(format!(
            "seeds {} to {}; every transfer from SYN to FIN, its SHA-256 compared",
            options.seed,
            options.seed + u64::from(options.rounds) - 1
        ));
        let rows = options.rows(&bed, part)?;
        report.rows = rows.iter().map(|row| part.row(row)).collect();
        reports.push(report.finish());
    }
    report::publish(reports, &options.output)
}

impl Options {
    fn rows(&self, bed: &Bed<'_>, part: &Part) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for cell in CELLS.iter().filter(|cell| self.wants(cell)) {
            let mut runs = vec![Vec::new(); part.contenders.len()];
            for seed in (self.seed..).take(self.rounds as usize) {
                for (contender, runs) in part.contenders.iter().zip(&mut runs) {
                    runs.push(transfer(bed, cell, seed, contender)?);
                }
            }
            rows.push((cell, runs));
        }
        Ok(rows)
    }

    fn wants(&self, cell: &Cell) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| cell.name.contains(part))
    }
}

fn transfer(bed: &Bed<'_>, cell: &Cell, seed: u64, contender: &Contender) -> Result<Run, Error> {
    let Contender {
        backend,
        congestion,
        receiver,
        ..
    } = *contender;
    if backend == Backend::Kernel {
        bed.lab.set_kernel_congestion(congestion.name())?;
    }
    let road = Road {
        to_client: cell.to_client.to_owned(),
        to_server: cell.to_server.to_owned(),
        seed,
    };
    let run = bed.received(receiver, backend, congestion, &road)?;
    let name = format!("{}, {}", cell.name, contender.name);
    eprintln!("{name}: {:.2} Mbit/s", run.mbit_per_s);
    if run.whole {
        Ok(run)
    } else {
        Err(Error::Unfinished(name))
    }
}
