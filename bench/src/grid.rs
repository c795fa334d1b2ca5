//! Goodput through a bottleneck over loss and round-trip time: our TCP and the kernel's, the same losses for both.
//!
//! Three namespaces: server, link, client. Every run has a fresh server and a fresh link, whose seed depends on the
//! round only, so the n-th packet of a direction has the same fate for both stacks. A run downloads for a fixed time
//! and counts what came, because a cell with much loss would take minutes for the file that another needs for slow
//! start alone. Every byte that came is compared.
//!
//! Every pair of congestion controls that is asked for takes its turn in every round: ours from the configuration of
//! the daemon, the kernel's from its routes.

mod cell;

use clap::Args;

use crate::error::Error;
use crate::lab::Lab;
use crate::path::Road;
use crate::report::{self, Conditions, Output};
use crate::seat::Seat;
use crate::server::{Backend, Congestion};
use crate::site::Site;
use crate::transfer::Bed;
pub use cell::contender as link_contender;
use cell::{Cell, Pair};

const MTU: u16 = 1500;
/// The least buffer of the bottleneck: a burst of 10 segments and more must fit at any round-trip time.
const BUFFER_LEAST: u64 = 64 << 10;

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Random loss from server to client, percent
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.1, 1.0, 3.0])]
    loss: Vec<f64>,

    /// Round-trip time without queues, milliseconds
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 80])]
    rtt: Vec<u32>,

    /// Rate of the bottleneck, Mbit/s of frames
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,

    /// Congestion control of our TCP; several take turns
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["cubic", "bbr"])]
    congestion: Vec<Congestion>,

    /// Congestion control of the kernel's TCP, one for each of ours [default: the same]
    #[arg(long, value_enum, value_delimiter = ',')]
    kernel_congestion: Vec<Congestion>,

    /// Pairs of runs per cell; each has its own seed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Length of a run, seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Seed of the first round
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    seat: Seat,

    #[command(flatten)]
    output: Output,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    let pairs = pairs(&options.congestion, &options.kernel_congestion)?;
    let binary = options.seat.daemon()?;
    let conditions = Conditions::with_network(MTU, "none", &options.seat)?;
    let lab = Lab::with_middle(MTU)?;
    let site = Site::create(&lab, file_bytes(options))?;
    let bed = Bed {
        lab: &lab,
        binary: &binary,
        site: &site,
        server_cpu: options.seat.server_cpu,
        client_cpu: options.seat.client_cpu,
        seconds: options.seconds,
    };
    let mut cells = Vec::new();
    for &rtt_ms in &options.rtt {
        for &loss_percent in &options.loss {
            let mut row: Vec<Cell> = pairs
                .iter()
                .map(|pair| Cell::new(rtt_ms, loss_percent, *pair))
                .collect();
            for round in 0..options.rounds {
                let seed = options.seed + u64::from(round);
                let road = road(options.rate, rtt_ms, loss_percent, seed);
                for cell in &mut row {
                    let Pair { ours, kernel } = cell.pair;
                    lab.set_kernel_congestion(kernel.name())?;
                    let xdp = bed.measured(Backend::Xdp, ours, &road)?;
                    let other = bed.measured(Backend::Kernel, ours, &road)?;
                    eprintln!(
                        "{rtt_ms:3} ms, {loss_percent} % loss, seed {seed}: xdp {} {:7.2}, kernel {} {:7.2} Mbit/s",
                        ours.name(),
                        xdp.mbit_per_s,
                        kernel.name(),
                        other.mbit_per_s
                    );
                    cell.push(xdp, other);
                }
            }
            cells.extend(row);
        }
    }
    let mut report = report::Report::new(
        "grid",
        format!("one flow through {} Mbit/s", options.rate),
        conditions,
    );
    report.notes.push(format!(
        "runs of {} s; buffer of one bandwidth-delay product, at least 64 KiB; server and link with real-time priority",
        options.seconds
    ));
    report.warnings = cells.iter().flat_map(Cell::warnings).collect();
    report.rows = cells.into_iter().map(Cell::row).collect();
    report::publish(vec![report.finish()], &options.output)
}

/// Ours and the kernel's of each pair.
fn pairs(ours: &[Congestion], kernel: &[Congestion]) -> Result<Vec<Pair>, Error> {
    let kernel = if kernel.is_empty() { ours } else { kernel };
    if kernel.len() != ours.len() {
        return Err(Error::Pairs {
            ours: ours.len(),
            kernel: kernel.len(),
        });
    }
    let pairs = ours.iter().zip(kernel);
    Ok(pairs
        .map(|(&ours, &kernel)| Pair { ours, kernel })
        .collect())
}

/// More than a run can carry.
fn file_bytes(options: &Options) -> u64 {
    let bytes_per_second = u64::from(options.rate) * 1_000_000 / 8;
    bytes_per_second * u64::from(options.seconds + 1)
}

/// Half of the round-trip time each way; rate and loss where the data is. The buffer is one bandwidth-delay product,
/// the rule of thumb that lets one flow fill the link.
fn road(rate: u32, rtt_ms: u32, loss_percent: f64, seed: u64) -> Road {
    let delay_us = u64::from(rtt_ms) * 500;
    let bandwidth_delay = u64::from(rate) * 1000 / 8 * u64::from(rtt_ms);
    let buffer = bandwidth_delay.max(BUFFER_LEAST);
    Road {
        to_client: format!(
            "delay={delay_us}us,rate={rate}mbit,buffer={buffer},loss={loss_percent}%"
        ),
        to_server: format!("delay={delay_us}us"),
        seed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::model::Impairment;

    #[test]
    fn the_link_understands_the_road_of_every_cell() {
        for (rtt_ms, loss) in [(1, 0.0), (20, 0.1), (80, 3.0)] {
            let road = road(100, rtt_ms, loss, 1);
            let to_client: Impairment = road.to_client.parse().unwrap();
            let to_server: Impairment = road.to_server.parse().unwrap();
            assert_eq!(
                (to_client.delay + to_server.delay).as_millis(),
                u128::from(rtt_ms)
            );
            assert!((to_client.loss * 100.0 - loss).abs() < 1e-9);
            assert_eq!(to_server.loss, 0.0);
        }
    }

    #[test]
    fn the_kernel_has_the_same_congestion_control_unless_told_otherwise() {
        let [cubic, reno, bbr] = [Congestion::Cubic, Congestion::Reno, Congestion::Bbr];
        let pair = |ours, kernel| Pair { ours, kernel };
        assert_eq!(
            pairs(&[cubic, bbr], &[]).unwrap(),
            [pair(cubic, cubic), pair(bbr, bbr)]
        );
        assert_eq!(pairs(&[reno], &[cubic]).unwrap(), [pair(reno, cubic)]);
        assert!(pairs(&[reno], &[cubic, bbr]).is_err());
    }

    #[test]
    fn the_buffer_is_the_bandwidth_delay_product_but_not_too_small() {
        assert!(road(100, 80, 0.0, 1).to_client.contains("buffer=1000000,"));
        assert!(road(100, 1, 0.0, 1).to_client.contains("buffer=65536,"));
    }
}
