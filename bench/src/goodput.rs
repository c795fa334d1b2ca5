//! One flow, one large file: bytes per second at the client, AF_XDP and kernel backend in turn.
//!
//! Every run starts a fresh server, because an attached XDP program changes the path of the kernel's packets too,
//! fetches a small file (handshake, page cache, code), and then the large one. Lengths are compared every time, the
//! SHA-256 once per backend before the clock matters.

mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::environment::{Environment, Offloads};
use crate::error::Error;
use crate::lab::{End, Lab, output};
use crate::offloads::{OffloadSet, threaded_napi};
use crate::server::{Backend, Server};
use crate::site::{LARGE, SMALL, Site, first_word, url};
use report::{Contender, Report};

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Pairs of runs, AF_XDP then kernel
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Size of the file, MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
    size: u64,

    /// MTU of the veth pair
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,

    /// Offloads of the veth pair
    #[arg(long, value_enum, default_value_t = OffloadSet::Wire)]
    offloads: OffloadSet,

    /// Let the client receive in a kernel thread on its own CPU (threaded NAPI), for both backends
    #[arg(long)]
    threaded_napi: bool,

    /// CPU of the server's worker
    #[arg(long, default_value_t = 0)]
    server_cpu: u32,

    /// CPU of the client
    #[arg(long, default_value_t = 1)]
    client_cpu: u32,

    /// The daemon [default: sluiced beside this program]
    #[arg(long, value_name = "FILE")]
    sluiced: Option<PathBuf>,

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
    let binary = daemon(options.sluiced.as_deref())?;
    if output("id", Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Error::NotRoot);
    }
    let environment = Environment::gather(
        options.mtu,
        options.server_cpu,
        options.client_cpu,
        options.threaded_napi,
    )?;
    let lab = Lab::new(options.mtu)?;
    options.offloads.apply(&lab)?;
    if options.threaded_napi {
        threaded_napi(&lab, options.client_cpu)?;
    }
    let site = Site::create(&lab, options.size << 20)?;
    let mut contenders = Vec::new();
    for backend in [Backend::Xdp, Backend::Kernel] {
        contenders.push(verified(&lab, &binary, &site, backend, options)?);
    }
    for round in 1..=options.rounds {
        for contender in &mut contenders {
            let run = measured(&lab, &binary, &site, contender.backend, options)?;
            eprintln!(
                "round {round} of {}: {:6} {:6.2} Gbit/s",
                options.rounds,
                contender.backend.name(),
                run.gbit_per_s
            );
            contender.runs.push(run);
        }
    }
    let report = Report {
        scenario: "goodput",
        bytes: site.bytes,
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

/// The daemon that was named, or the one beside this program.
pub fn daemon(named: Option<&Path>) -> Result<PathBuf, Error> {
    let beside = || {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name("sluiced")
    };
    let path = named.map_or_else(beside, Path::to_path_buf);
    // The lab runs it by name in another namespace: relative names are looked up in PATH there.
    fs::canonicalize(&path).map_err(|_| Error::NoDaemon(path))
}

/// Starts a backend, notes how it serves, and checks every byte once.
fn verified(
    lab: &Lab,
    binary: &Path,
    site: &Site,
    backend: Backend,
    options: &Options,
) -> Result<Contender, Error> {
    let server = Server::start(lab, binary, &site.root, backend, options.server_cpu)?;
    let contender = Contender {
        backend,
        serves: server.ready.clone(),
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
            backend: backend.name(),
            what: format!("SHA-256 {sum} instead of {}", site.sha256),
        });
    }
    server.stop()?;
    Ok(contender)
}

fn measured(
    lab: &Lab,
    binary: &Path,
    site: &Site,
    backend: Backend,
    options: &Options,
) -> Result<Run, Error> {
    let server = Server::start(lab, binary, &site.root, backend, options.server_cpu)?;
    fetch(lab, SMALL, options.client_cpu)?;
    let before = server.cpu_time()?;
    let (bytes, seconds) = fetch(lab, LARGE, options.client_cpu)?;
    let cpu = server.cpu_time()?.saturating_sub(before);
    if bytes != site.bytes {
        return Err(Error::WrongBytes {
            backend: backend.name(),
            what: format!("{bytes} bytes arrived instead of {}", site.bytes),
        });
    }
    server.stop()?;
    Ok(rates(bytes, seconds, cpu))
}

/// Downloads a file: bytes and seconds, as curl counts them.
pub fn fetch(lab: &Lab, name: &str, cpu: u32) -> Result<(u64, f64), Error> {
    let cpu = cpu.to_string();
    let url = url(name);
    let args = [
        "-c",
        cpu.as_str(),
        "curl",
        "--silent",
        "--show-error",
        "--fail",
    ];
    let mut args = args.to_vec();
    args.extend([
        "--output",
        "/dev/null",
        "--write-out",
        "%{size_download} %{time_total}",
        &url,
    ]);
    let said = lab.run(End::Client, "taskset", &args)?;
    let (bytes, seconds) = said.split_once(' ').unwrap_or_default();
    match (bytes.parse(), seconds.parse()) {
        (Ok(bytes), Ok(seconds)) => Ok((bytes, seconds)),
        _ => Err(Error::Failed {
            program: "curl".to_owned(),
            said,
        }),
    }
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
    fn rates_are_payload_bits_and_cpu_seconds_per_gib() {
        let run = rates(1 << 30, 2.0, Duration::from_millis(500));
        assert!((run.gbit_per_s - 4.294_967_296).abs() < 1e-9);
        assert!((run.cpu_s_per_gib - 0.5).abs() < 1e-9);
    }
}
