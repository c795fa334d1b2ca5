//! A large file over one or more flows: bytes per second at the client, the servers in turn.
//!
//! Every run starts a fresh server, because an attached XDP program changes the path of the kernel's packets too,
//! fetches a small file (handshake, page cache, code), and then the large one. Lengths are compared every time, the
//! SHA-256 once per server before the clock matters.

mod contestant;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::environment::{Environment, Offloads};
use crate::error::Error;
use crate::lab::{End, Lab};
use crate::offloads::{OffloadSet, threaded_napi};
use crate::seat::Seat;
use crate::site::{LARGE, SMALL, Site, first_word, url};
use contestant::Contestant;
use report::{Contender, Report};

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

    /// Servers to compare; the first is compared with each of the others [default: all that are installed]
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1..)]
    servers: Vec<Contestant>,

    /// MTU of the veth pair
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,

    /// Offloads of the veth pair
    #[arg(long, value_enum, default_value_t = OffloadSet::Wire)]
    offloads: OffloadSet,

    /// Let the client receive in a kernel thread on its own CPU (threaded NAPI), for both backends
    #[arg(long)]
    threaded_napi: bool,

    #[command(flatten)]
    seat: Seat,

    /// Write the result as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One download.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Payload bits per second at the client, in units of 10^9.
    pub gbit_per_s: f64,
    /// CPU time of the server process per GiB of payload, in seconds.
    pub cpu_s_per_gib: f64,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    let binary = options.seat.daemon()?;
    let environment = Environment::gather(
        options.mtu,
        options.seat.server_cpu,
        options.seat.client_cpu,
        options.threaded_napi,
    )?;
    let lab = Lab::new(options.mtu)?;
    options.offloads.apply(&lab)?;
    if options.threaded_napi {
        threaded_napi(&lab, options.seat.client_cpu)?;
    }
    let site = Site::create(&lab, options.size << 20)?;
    let mut contenders = Vec::new();
    let servers = if options.servers.is_empty() {
        Contestant::all()
    } else {
        options.servers.clone()
    };
    for server in servers {
        contenders.push(verified(&lab, &binary, &site, server, options)?);
    }
    for round in 1..=options.rounds {
        for contender in &mut contenders {
            let run = measured(&lab, &binary, &site, contender.server, options)?;
            eprintln!(
                "round {round} of {}: {:6} {:6.2} Gbit/s",
                options.rounds,
                contender.server.name(),
                run.gbit_per_s
            );
            contender.runs.push(run);
        }
    }
    let report = Report {
        scenario: "goodput",
        bytes: site.bytes,
        flows: options.flows,
        offload_set: options.offloads,
        environment,
        contenders,
    };
    print!("{}", report.markdown());
    if let Some(path) = &options.json {
        fs::write(path, report.json()).map_err(Error::io(path.display().to_string()))?;
    }
    Ok(())
}

/// Starts a server, notes how it serves, and checks every byte once.
fn verified(
    lab: &Lab,
    binary: &Path,
    site: &Site,
    server: Contestant,
    options: &Options,
) -> Result<Contender, Error> {
    let running = server.start(lab, binary, &site.root, options.seat.server_cpu)?;
    let contender = Contender {
        server,
        serves: running.serves().to_owned(),
        offloads: Offloads::gather(lab)?,
        runs: Vec::new(),
    };
    let pipe = format!(
        "set -o pipefail; curl --silent --show-error --fail {} | sha256sum",
        url(LARGE)
    );
    let sum = first_word(&lab.run(End::Client, "bash", &["-c", &pipe])?);
    if sum != site.sha256 {
        return Err(Error::WrongBytes {
            backend: server.name(),
            what: format!("SHA-256 {sum} instead of {}", site.sha256),
        });
    }
    running.stop()?;
    Ok(contender)
}

fn measured(
    lab: &Lab,
    binary: &Path,
    site: &Site,
    server: Contestant,
    options: &Options,
) -> Result<Run, Error> {
    let running = server.start(lab, binary, &site.root, options.seat.server_cpu)?;
    fetch(lab, SMALL, options.flows, options.seat.client_cpu)?;
    let before = running.cpu_time()?;
    let (bytes, seconds) = fetch(lab, LARGE, options.flows, options.seat.client_cpu)?;
    let cpu = running.cpu_time()?.saturating_sub(before);
    let expected = site.bytes * u64::from(options.flows);
    if bytes != expected {
        return Err(Error::WrongBytes {
            backend: server.name(),
            what: format!("{bytes} bytes arrived instead of {expected}"),
        });
    }
    running.stop()?;
    Ok(rates(bytes, seconds, cpu))
}

/// Downloads a file `flows` times at once: bytes of all, and seconds until the last was complete, as curl counts them.
pub fn fetch(lab: &Lab, name: &str, flows: u32, cpu: u32) -> Result<(u64, f64), Error> {
    let (cpu, most, url) = (cpu.to_string(), flows.to_string(), url(name));
    let mut args = vec!["-c", &cpu, "curl", "--silent", "--show-error", "--fail"];
    args.extend([
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        &most,
    ]);
    args.extend(["--write-out", "%{size_download} %{time_total}\n"]);
    for _ in 0..flows {
        args.extend(["--output", "/dev/null", &url]);
    }
    let said = lab.run(End::Client, "taskset", &args)?;
    totals(&said).ok_or_else(|| Error::Failed {
        program: "curl".to_owned(),
        said,
    })
}

/// The sum of the sizes and the longest time.
fn totals(said: &str) -> Option<(u64, f64)> {
    let mut sum = (0, 0.0_f64);
    for line in said.lines() {
        let (bytes, seconds) = line.split_once(' ')?;
        sum.0 += bytes.parse::<u64>().ok()?;
        sum.1 = sum.1.max(seconds.parse().ok()?);
    }
    Some(sum)
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52 bytes")]
fn rates(bytes: u64, seconds: f64, cpu: Duration) -> Run {
    let bytes = bytes as f64;
    Run {
        gbit_per_s: bytes * 8.0 / seconds / 1e9,
        cpu_s_per_gib: cpu.as_secs_f64() / (bytes / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sum_of_the_sizes_and_the_longest_time() {
        assert_eq!(totals("10 0.5\n20 0.25\n"), Some((30, 0.5)));
        assert_eq!(totals("curl: (7)\n"), None);
    }

    #[test]
    fn rates_are_payload_bits_and_cpu_seconds_per_gib() {
        let run = rates(1 << 30, 2.0, Duration::from_millis(500));
        assert!((run.gbit_per_s - 4.294_967_296).abs() < 1e-9);
        assert!((run.cpu_s_per_gib - 0.5).abs() < 1e-9);
    }
}
