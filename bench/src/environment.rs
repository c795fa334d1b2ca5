//! What a number means nothing without: machine, kernel, network set-up, pinning.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use crate::error::Error;
use crate::lab::{CONGESTION, End, Lab};

/// The offloads that decide how many bytes an operation moves, by the names `ethtool -k` gives them.
const OFFLOADS: [&str; 5] = [
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-checksumming",
    "rx-checksumming",
];

/// What a scenario in memory depends on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// Model of the first CPU, and how many there are.
    pub cpu: String,
    /// Load average of the last minute before the run: what else the machine was doing.
    pub load: f64,
}

/// Machine and network of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Environment {
    /// `uname -r`.
    pub kernel: String,
    /// Model of the first CPU, and how many there are.
    pub cpu: String,
    /// Load average of the last minute before the run: what else the machine was doing.
    pub load: f64,
    /// MTU of the veth pair.
    pub mtu: u16,
    /// Congestion control, of the kernel by its routes and of Sluice by its default.
    pub congestion: &'static str,
    /// CPU of the server's only worker.
    pub server_cpu: u32,
    /// CPU of the client.
    pub client_cpu: u32,
    /// Whether the client's receive work runs in a kernel thread of its own.
    pub threaded_napi: bool,
}

/// Offloads of both ends while a server runs; attaching an XDP program changes some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offloads {
    /// Of the server's link.
    pub server: BTreeMap<String, String>,
    /// Of the client's link.
    pub client: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at the machine.
    pub fn gather() -> Result<Self, Error> {
        let load = read("/proc/loadavg")?;
        Ok(Machine {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: cpu(&read("/proc/cpuinfo")?),
            load: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        })
    }
}

impl Environment {
    /// Looks at the machine; the rest is what the run was told.
    pub fn gather(
        mtu: u16,
        server_cpu: u32,
        client_cpu: u32,
        threaded_napi: bool,
    ) -> Result<Self, Error> {
        let Machine { kernel, cpu, load } = Machine::gather()?;
        Ok(Environment {
            kernel,
            cpu,
            load,
            mtu,
            congestion: CONGESTION,
            server_cpu,
            client_cpu,
            threaded_napi,
        })
    }
}

impl Offloads {
    /// Asks ethtool at both ends.
    pub fn gather(lab: &Lab) -> Result<Self, Error> {
        let at = |end| {
            Ok(offloads(&lab.run(
                end,
                "ethtool",
                &["-k", &lab.link(end)],
            )?))
        };
        Ok(Offloads {
            server: at(End::Server)?,
            client: at(End::Client)?,
        })
    }
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io(path))
}

fn cpu(info: &str) -> String {
    let value = |line: &str| {
        line.split_once(": ")
            .map(|(_, value)| value.trim().to_owned())
    };
    let mut models = info.lines().filter(|line| line.starts_with("model name"));
    let model = models
        .next()
        .and_then(value)
        .unwrap_or_else(|| "unknown".to_owned());
    let count = info
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!("{model}, {count} CPUs")
}

fn offloads(listing: &str) -> BTreeMap<String, String> {
    listing
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| OFFLOADS.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_with_its_count() {
        let info =
            "processor\t: 0\nmodel name\t: Fast 9000\n\nprocessor\t: 1\nmodel name\t: Fast 9000\n";
        assert_eq!(cpu(info), "Fast 9000, 2 CPUs");
        assert_eq!(cpu(""), "unknown, 0 CPUs");
    }

    #[test]
    fn only_the_offloads_that_matter_are_kept_with_what_fixes_them() {
        let listing = "Features for x:\nrx-checksumming: on\ntx-checksumming: off [fixed]\n\
                       \ttx-checksum-ipv4: off\ntcp-segmentation-offload: on\nloopback: off\n";
        let found = offloads(listing);
        assert_eq!(found.len(), 3);
        assert_eq!(found["tx-checksumming"], "off [fixed]");
    }
}
