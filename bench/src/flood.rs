//! A download and new connections under a flood of SYNs, against the same flood of frames that are dropped at once.
//!
//! The flood comes from a packet socket at the client's end, so on two CPUs the generator shares one with the client: what
//! a run loses to that, its matched control loses too, and only their ratio means something. In every round each kind of
//! flood has its turn with a server of its own: two seconds to arm the gate, some downloads, then honest connections of
//! kernel TCP, one after another in each of some threads.

mod case;
mod generator;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sched::{CloneFlags, setns};
use sluice_wire::{LinkHeader, MacAddr, VlanTags};

use crate::error::Error;
use crate::lab::{End, Lab, SERVER, STRANGER_LINK};
use crate::link::port;
use crate::measure::Summary;
use crate::offloads::{OWN_CPUS, place_napi, receive_on_own_cpus};
use crate::report::{self, Conditions, Output, Report};
use crate::run::fetch;
use crate::seat::Seat;
use crate::server::{Backend, PORT, Server};
use crate::site::{LARGE, SMALL, Site};
use case::Case;
use generator::{Aim, Flood, Kind};

/// The supervisor looks once a second whether a worker is flooded.
const ARMING: Duration = Duration::from_secs(2);
/// Three times the second after which a client repeats its SYN, and then some.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Rounds; in each, every kind of flood has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Frames per second of a flood
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    rate: u32,

    /// Size of the file, MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
    size: u64,

    /// Downloads in each run, whose median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    downloads: u32,

    /// Honest connections in each run
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Threads that make them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,

    /// MTU of the veth pair
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,

    /// Each end receives on its own CPU, as two hosts do: the flood costs the server's, not the client's
    #[arg(long)]
    own_cpus: bool,

    #[command(flatten)]
    seat: Seat,

    #[command(flatten)]
    output: Output,
}

/// The downloads and connections under one flood.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Payload bits per second at the client, in units of 10^9: the median of its downloads.
    pub gbit_per_s: f64,
    /// Frames of the flood per second that the link took.
    pub frames_per_s: f64,
    /// Time of every connection that succeeded, milliseconds.
    pub connect_ms: Vec<f64>,
    /// Connections that did not.
    pub failed: u32,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    let binary = options.seat.daemon()?;
    let mut conditions =
        Conditions::with_network(options.mtu, "as the driver has them", &options.seat)?;
    if let Some(network) = conditions.network.as_mut().filter(|_| options.own_cpus) {
        network.napi = OWN_CPUS.to_owned();
    }
    let lab = Lab::new(options.mtu)?;
    if options.own_cpus {
        receive_on_own_cpus(&lab, &options.seat)?;
    }
    let site = Site::create(&lab, options.size << 20)?;
    let aim = aim(&lab)?;
    let mut cases = [
        None,
        Some(Kind::Control),
        Some(Kind::Everywhere),
        Some(Kind::Network),
    ]
    .map(|kind| (kind, Case::new(kind)));
    for round in 1..=options.rounds {
        for (kind, case) in &mut cases {
            let run = measured(&lab, &binary, &site, *kind, aim, options)?;
            eprintln!(
                "round {round} of {}: {:10} {:6.2} Gbit/s at {:.0} frames/s, {} of {} connected",
                options.rounds,
                case.name,
                run.gbit_per_s,
                run.frames_per_s,
                run.connect_ms.len(),
                options.connections,
            );
            case.runs.push(run);
        }
    }
    let cases: Vec<Case> = cases.into_iter().map(|(_, case)| case).collect();
    let about = format!(
        "downloads of {} MiB and new connections under {} SYNs/s",
        options.size, options.rate
    );
    let mut report = Report::new("flood", about, conditions);
    report.notes.push(
        "control: the same frames with an IP header length of 0, which the program drops before it looks for a port"
            .to_owned(),
    );
    report.warnings = case::warnings(&cases, options.rate);
    report.findings = case::findings(&cases);
    report.rows.push(case::row(&cases));
    report::publish(vec![report.finish()], &options.output)
}

fn measured(
    lab: &Lab,
    binary: &Path,
    site: &Site,
    kind: Option<Kind>,
    aim: Aim,
    options: &Options,
) -> Result<Run, Error> {
    let server = Server::start(
        lab,
        binary,
        &site.root,
        Backend::Xdp,
        options.seat.server_cpu,
    )?;
    // The thread that receives at the server begins when its program is attached.
    if options.own_cpus {
        place_napi(lab, End::Server, options.seat.server_cpu)?;
        place_napi(lab, End::Client, options.seat.client_cpu)?;
    }
    fetch(lab, SMALL, 1, options.seat.client_cpu)?;
    let flood = kind
        .map(|kind| {
            let link = lab.link(End::Client);
            let socket = inside(lab, || port::sender(&link))?;
            let cpu = usize::try_from(options.seat.client_cpu).ok();
            Ok(Flood::start(socket, kind, aim, options.rate, cpu))
        })
        .transpose()?;
    if flood.is_some() {
        thread::sleep(ARMING);
    }
    let gbit_per_s = downloads(lab, site, options)?;
    let (connect_ms, failed) = connections(lab, options)?;
    let frames_per_s = flood.as_ref().map_or(0.0, Flood::rate);
    if let Some(flood) = flood {
        flood.stop().map_err(Error::io("the flood"))?;
    }
    server.stop()?;
    Ok(Run {
        gbit_per_s,
        frames_per_s,
        connect_ms,
        failed,
    })
}

/// The median goodput of some downloads, one after another: half a second each, which a single one would leave to chance.
fn downloads(lab: &Lab, site: &Site, options: &Options) -> Result<f64, Error> {
    let mut rates = Vec::new();
    for _ in 0..options.downloads {
        let (bytes, seconds) = fetch(lab, LARGE, 1, options.seat.client_cpu)?;
        if bytes != site.bytes {
            return Err(Error::WrongBytes {
                backend: Backend::Xdp.name(),
                what: format!("{bytes} bytes arrived instead of {}", site.bytes),
            });
        }
        rates.push(gbit_per_s(bytes, seconds));
    }
    Ok(Summary::of(&rates).map_or(0.0, |rates| rates.median))
}

/// Honest connections: the times of those that succeeded, and how many did not.
fn connections(lab: &Lab, options: &Options) -> Result<(Vec<f64>, u32), Error> {
    let address = SERVER.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let server = SocketAddr::from((address, PORT));
    let share = |client: u32| {
        let rest = options.connections % options.clients;
        options.connections / options.clients + u32::from(client < rest)
    };
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..options.clients)
            .map(|client| {
                scope.spawn(move || {
                    inside(lab, || {
                        Ok((0..share(client))
                            .map(|_| {
                                let begun = Instant::now();
                                let stream = TcpStream::connect_timeout(&server, PATIENCE);
                                stream.ok().map(|_| begun.elapsed().as_secs_f64() * 1e3)
                            })
                            .collect::<Vec<_>>())
                    })
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|times| times.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>, Error>>()
    })?;
    let all: Vec<Option<f64>> = times.into_iter().flatten().collect();
    let connected: Vec<f64> = all.iter().flatten().copied().collect();
    let failed = u32::try_from(all.len() - connected.len()).unwrap_or(u32::MAX);
    Ok((connected, failed))
}

/// Runs `work` on a thread in the client's namespace. Sockets made there stay in it.
fn inside<R: Send>(
    lab: &Lab,
    work: impl FnOnce() -> std::io::Result<R> + Send,
) -> Result<R, Error> {
    let path = Path::new("/run/netns").join(lab.namespace(End::Client));
    let namespace = File::open(&path).map_err(Error::io(path.display().to_string()))?;
    let done = thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    done.map_err(Error::io("in the client's namespace"))
}

/// From a link address that nobody has: the answers to the flood go to senders that do not exist, and to look up routes
/// for them would be work that the client does instead of a router. By a foreign link address it drops them at once.
fn aim(lab: &Lab) -> Result<Aim, Error> {
    let path = format!("/sys/class/net/{}/address", lab.link(End::Server));
    Ok(Aim {
        link: LinkHeader {
            dst: parse_mac(&lab.run(End::Server, "cat", &[&path])?),
            src: parse_mac(STRANGER_LINK),
            vlan: VlanTags::NONE,
        },
        server: SocketAddrV4::new(SERVER.parse().unwrap_or(Ipv4Addr::UNSPECIFIED), PORT),
    })
}

/// `aa:bb:cc:dd:ee:ff`, as the kernel writes it.
fn parse_mac(text: &str) -> MacAddr {
    let mut bytes = [0; 6];
    for (byte, digits) in bytes.iter_mut().zip(text.trim().split(':')) {
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    MacAddr(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52 bytes")]
fn gbit_per_s(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            parse_mac("02:0a:ff:00:10:01\n"),
            MacAddr([2, 10, 255, 0, 16, 1])
        );
    }

    #[test]
    fn goodput_is_payload_bits() {
        assert!((gbit_per_s(1_000_000_000, 2.0) - 4.0).abs() < 1e-9);
    }
}
