//! A large file over one or more flows, curl over kernel TCP as the client: a scenario from flags instead of a file.

use clap::Args;

use crate::contestant::Contestant;
use crate::error::Error;
use crate::offloads::OffloadSet;
use crate::report::{self, Output};
use crate::run;
use crate::scenario::{Client, Link, Load, Scenario, Size};
use crate::seat::Seat;

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Runs of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Size of the file, MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
    size: u64,

    /// Downloads of the file at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    flows: u32,

    /// Servers to compare; the first is compared with each of the others
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., default_values = ["xdp", "kernel", "nginx"])]
    servers: Vec<Contestant>,

    /// MTU of the veth pair
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,

    /// Offloads of the veth pair
    #[arg(long, value_enum, default_value_t = OffloadSet::Wire)]
    offloads: OffloadSet,

    /// Let the client receive in a kernel thread on its own CPU (threaded NAPI), for all servers
    #[arg(long)]
    threaded_napi: bool,

    #[command(flatten)]
    seat: Seat,

    #[command(flatten)]
    output: Output,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    let binary = options.seat.daemon()?;
    let report = run::measure(&options.scenario(), &binary, &options.seat)?;
    report::publish(vec![report], &options.output)
}

impl Options {
    fn scenario(&self) -> Scenario {
        Scenario {
            name: "goodput".to_owned(),
            about: "large files, downloaded by curl".to_owned(),
            servers: self.servers.clone(),
            rounds: self.rounds,
            link: Link {
                mtu: vec![self.mtu],
                offloads: vec![self.offloads],
                threaded_napi: self.threaded_napi,
                own_cpus: false,
            },
            load: Load {
                client: Client::Curl,
                ..Load::of(Size(self.size << 20), self.flows)
            },
            goals: Vec::new(),
        }
    }
}
