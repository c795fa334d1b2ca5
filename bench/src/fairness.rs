//! Two flows share a bottleneck: what each of them gets, and Jain's index over both.
//!
//! 100 Mbit/s, 20 ms and a buffer of one bandwidth-delay product. The flows begin together; what they get is counted
//! from the 5th second on, over 30 s. Ours beside kernel CUBIC with each controller, two of ours, and two of the
//! kernel's as the yardstick: what CUBIC does to CUBIC is what may be asked of others.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use nix::sched::{CloneFlags, setns};

use crate::error::Error;
use crate::lab::{End, Lab, SERVER};
use crate::path::{Path, Road};
use crate::report::{self, Conditions, Contender, Measure, Output, Report, Row};
use crate::seat::Seat;
use crate::server::{Backend, Congestion, Launch, PORT, Server};
use crate::site::{LARGE, Site};

const MTU: u16 = 1500;
/// Port of the kernel's daemon beside ours.
const KERNEL_PORT: u16 = PORT + 1;
/// Before anything is counted.
const SETTLING: Duration = Duration::from_secs(5);

/// A server and how it controls congestion.
type Flowing = (Backend, Congestion);

/// Who shares the bottleneck.
const PAIRS: [[Flowing; 2]; 7] = {
    use Backend::{Kernel, Xdp};
    use Congestion::{Bbr, Cubic, Dctcp, Reno};
    [
        [(Xdp, Cubic), (Kernel, Cubic)],
        [(Xdp, Cubic), (Xdp, Cubic)],
        [(Kernel, Cubic), (Kernel, Cubic)],
        [(Xdp, Reno), (Kernel, Cubic)],
        [(Xdp, Dctcp), (Kernel, Cubic)],
        [(Xdp, Bbr), (Kernel, Cubic)],
        [(Kernel, Bbr), (Kernel, Cubic)],
    ]
};

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Rounds of each pair; each has its own seed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// How long the shares are counted, seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Only pairs with this in their name, such as "xdp bbr" or "xdp bbr beside kernel cubic"
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,

    #[command(flatten)]
    seat: Seat,

    #[command(flatten)]
    output: Output,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    let pairs = named(&options.only)?;
    let binary = options.seat.daemon()?;
    let lab = Lab::with_middle(MTU)?;
    // More than the link carries in that time.
    let bytes = u64::from(options.seconds + 6) * 12_500_000;
    let site = Site::create(&lab, bytes)?;
    let mut report = Report::new(
        "fairness",
        "two flows share 100 Mbit/s and 20 ms",
        Conditions::with_network(MTU, "none", &options.seat)?,
    );
    report.notes.push(format!(
        "buffer of one bandwidth-delay product; shares of {} s from the fifth on; Jain's index is 1 for equal shares",
        options.seconds
    ));
    for pair in pairs {
        let mut rounds = Vec::new();
        for seed in 1..=u64::from(options.rounds) {
            let shares = shares(&lab, &binary, &site, pair, seed, options)?;
            eprintln!(
                "{}, seed {seed}: {:.2} and {:.2} Mbit/s",
                name(pair),
                shares[0],
                shares[1]
            );
            rounds.push(shares);
        }
        report.rows.push(row(pair, &rounds));
    }
    report::publish(vec![report.finish()], &options.output)
}

/// The pairs with `part` in their name.
fn named(part: &str) -> Result<Vec<&'static [Flowing; 2]>, Error> {
    let pairs: Vec<_> = PAIRS
        .iter()
        .filter(|pair| name(pair).contains(part))
        .collect();
    if pairs.is_empty() {
        return Err(Error::NoPair {
            part: part.to_owned(),
            known: PAIRS.iter().map(name).collect::<Vec<_>>().join(", "),
        });
    }
    Ok(pairs)
}

fn name(pair: &[Flowing; 2]) -> String {
    names(pair).join(" beside ")
}

fn names(pair: &[Flowing; 2]) -> [String; 2] {
    pair.map(|(backend, congestion)| format!("{} {}", backend.name(), congestion.name()))
}

fn row(pair: &[Flowing; 2], rounds: &[[f64; 2]]) -> Row {
    let [first, second] = names(pair);
    let share = |at: usize| rounds.iter().map(|shares| shares[at]).collect();
    let goodput = Measure::more("goodput", "Mbit/s");
    let mut row = Row::new(name(pair));
    row.push(Contender::new("both").with(
        Measure::more("Jain's index", ""),
        rounds.iter().copied().map(jain).collect(),
    ));
    row.push(Contender::new(format!("first: {first}")).with(goodput.clone(), share(0)));
    row.push(Contender::new(format!("second: {second}")).with(goodput, share(1)));
    row
}

/// What each of a pair gets, in Mbit/s.
fn shares(
    lab: &Lab,
    binary: &std::path::Path,
    site: &Site,
    pair: &[Flowing; 2],
    seed: u64,
    options: &Options,
) -> Result<[f64; 2], Error> {
    let mut servers = Vec::new();
    for (index, (backend, congestion)) in pair.iter().enumerate() {
        let launch = Launch {
            congestion: *congestion,
            real_time: true,
            port: port(*backend),
            ..Launch::new(*backend, options.seat.server_cpu)
        };
        if index == 0 || pair[0].0 != *backend {
            servers.push(Server::launch(lab, binary, &site.root, &launch)?);
        }
    }
    let road = Road {
        to_client: "delay=10ms,rate=100mbit,buffer=250000".to_owned(),
        to_server: "delay=10ms".to_owned(),
        seed,
    };
    let path = Path::start(lab, &road, options.seat.client_cpu)?;
    let mut flows = Vec::new();
    for (backend, congestion) in pair {
        if *backend == Backend::Kernel {
            // Taken by the connection when its SYN comes.
            lab.set_kernel_congestion(congestion.name())?;
        }
        flows.push(Flow::start(lab, port(*backend))?);
    }
    thread::sleep(SETTLING);
    let count = |flows: &[Flow]| [flows[0].bytes(), flows[1].bytes()];
    let before = count(&flows);
    thread::sleep(Duration::from_secs(options.seconds.into()));
    let after = count(&flows);
    // The clients first: a server that is told to end would let them have the rest.
    for flow in flows {
        flow.stop()?;
    }
    for server in servers {
        server.stop()?;
    }
    path.finish()?;
    Ok([0, 1].map(|flow| mbit_per_s(after[flow] - before[flow], options.seconds)))
}

fn port(backend: Backend) -> u16 {
    match backend {
        Backend::Xdp => PORT,
        Backend::Kernel => KERNEL_PORT,
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52 bytes")]
fn mbit_per_s(bytes: u64, seconds: u32) -> f64 {
    bytes as f64 * 8.0 / f64::from(seconds) / 1e6
}

/// (sum x)^2 / (n sum x^2): 1 if all get the same, 1/n if one gets all (Jain, Chiu, Hawe 1984).
fn jain(shares: [f64; 2]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (2.0 * squares)
}

/// A download that counts.
struct Flow {
    bytes: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    reader: JoinHandle<std::io::Result<()>>,
}

impl Flow {
    /// Connects from the client's namespace.
    fn start(lab: &Lab, port: u16) -> Result<Flow, Error> {
        let name = format!("/run/netns/{}", lab.namespace(End::Client));
        let namespace = std::fs::File::open(&name).map_err(Error::io(name))?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let reader = thread::spawn(move || {
            // Of this thread alone.
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let mut stream = TcpStream::connect((SERVER, port))?;
            stream
                .write_all(format!("GET /{LARGE} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n").as_bytes())?;
            let mut buffer = vec![0; 1 << 16];
            // A flag and a sum: nothing is ordered by them.
            while !told.load(Ordering::Relaxed) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(read) => counted.fetch_add(read as u64, Ordering::Relaxed),
                };
            }
            Ok(())
        });
        Ok(Flow {
            bytes,
            over,
            reader,
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<(), Error> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.reader.join();
        ended
            .unwrap_or_else(|_| Err(std::io::Error::other("the reader panicked")))
            .map_err(Error::io("download"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equal_shares_and_a_half_for_one_that_has_all() {
        assert_eq!(jain([47.0, 47.0]), 1.0);
        assert_eq!(jain([94.0, 0.0]), 0.5);
        assert!((jain([63.0, 31.5]) - 0.9).abs() < 1e-9);
    }

    #[test]
    fn pairs_are_chosen_by_a_part_of_their_name() {
        assert_eq!(named("").unwrap().len(), PAIRS.len());
        assert_eq!(named("bbr").unwrap(), [&PAIRS[5], &PAIRS[6]]);
        assert_eq!(named("xdp bbr").unwrap(), [&PAIRS[5]]);
        let said = named("vegas").unwrap_err().to_string();
        assert!(said.contains("vegas") && said.contains("xdp bbr beside kernel cubic"));
    }

    #[test]
    fn a_pair_is_a_row_with_both_shares_and_the_index() {
        let row = row(&PAIRS[0], &[[63.0, 31.5], [47.0, 47.0]]);
        assert_eq!(row.name, "xdp cubic beside kernel cubic");
        let index = row.find("both").unwrap().series("Jain's index").unwrap();
        assert_eq!(index.summary.max, 1.0);
        let second = row.find("second: kernel cubic").unwrap();
        assert_eq!(second.series[0].runs, [31.5, 47.0]);
    }
}
