//! A link with the faults of a real path, between two interfaces of a network namespace of its own.
//!
//! The kernel here need not have netem, and netem's decisions cannot be repeated: this link takes every decision
//! from a seed, so two servers are measured against the same losses. It is a forwarder of frames in user space;
//! server and client keep their own kernels, addresses and ARP.
//!
//! | file | role |
//! |---|---|
//! | `model` | the fate and the release time of each packet, from seed, time and size |
//! | `bottleneck` | rate, queue, tail drop, CE threshold |
//! | `chance` | random numbers that depend on the number of the packet only |
//! | `spec` | impairments as the operator writes them |
//! | `frame` | what is done to bytes |
//! | `port`, `forwarder` | packet sockets, and the loop that keeps the time |
//! | `summary` | what happened, as JSON |

pub mod bottleneck;
pub mod chance;
mod forwarder;
mod frame;
pub mod model;
pub mod port;
mod spec;
mod summary;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::Error;
use chance::Dice;
use forwarder::Settings;
use model::{Impairment, Model};
use port::Port;

/// An Ethernet header and a VLAN tag more than the MTU.
const LINK_OVERHEAD: usize = 18;

/// Flags of the link.
#[derive(Args, Debug)]
pub struct Options {
    /// One interface
    #[arg(long, value_name = "INTERFACE")]
    left: String,

    /// The other one
    #[arg(long, value_name = "INTERFACE")]
    right: String,

    /// Seed of every random decision
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Impairment of both directions, such as delay=20ms,loss=1%,rate=100mbit,buffer=256k
    #[arg(long, value_name = "SPEC", default_value = "")]
    both: Impairment,

    /// Impairment from left to right, instead of that of both
    #[arg(long, value_name = "SPEC")]
    to_right: Option<Impairment>,

    /// Impairment from right to left, instead of that of both
    #[arg(long, value_name = "SPEC")]
    to_left: Option<Impairment>,

    /// End after this many seconds [default: at SIGTERM or SIGINT]
    #[arg(long)]
    seconds: Option<f64>,

    /// Longest IP packet; longer ones are super-packets of an offload, dropped and reported
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(68..=9216))]
    mtu: u16,

    /// Spin instead of sleeping when the next release is this close, microseconds
    #[arg(long, default_value_t = 60)]
    spin_us: u64,

    /// Write the summary to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the link. Says `ready` on stderr when it forwards, and prints the summary when it ends.
pub fn run(options: &Options) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(Error::io("signals"))?;
    }
    let open = |name: &str| Port::open(name).map_err(Error::io(format!("interface {name}")));
    let ports = [open(&options.left)?, open(&options.right)?];
    let settings = Settings {
        lasts: options.seconds.map(seconds).transpose()?,
        spin: Duration::from_micros(options.spin_us),
        frame_max: usize::from(options.mtu) + LINK_OVERHEAD,
    };
    // The kernel may be late by this much on purpose, 50 us unless told otherwise (prctl(2)).
    nix::sys::prctl::set_timerslack(1).map_err(|error| Error::io("timer slack")(error.into()))?;
    eprintln!("ready");
    let summary = forwarder::run(ports, models(options), &settings, &stop)
        .map_err(Error::io("forwarding"))?;
    for warning in summary.warnings() {
        eprintln!("warning: {warning}");
    }
    match &options.json {
        Some(path) => {
            std::fs::write(path, summary.json()).map_err(Error::io(path.display().to_string()))
        }
        None => std::io::stdout()
            .write_all(summary.json().as_bytes())
            .map_err(Error::io("stdout")),
    }
}

fn models(options: &Options) -> [Model; 2] {
    let of = |own: &Option<Impairment>, direction| {
        let impairment = own.clone().unwrap_or_else(|| options.both.clone());
        Model::new(impairment, Dice::new(options.seed, direction))
    };
    [of(&options.to_right, 0), of(&options.to_left, 1)]
}

fn seconds(seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| Error::io("--seconds")(std::io::Error::other(error)))
}
