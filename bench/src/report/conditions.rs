//! What a number means nothing without: machine, kernel, network set-up, pinning.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::lab::CONGESTION;
use crate::seat::Seat;
use crate::usage::throttled;

const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";
/// Sensors, besides devices that cool, which have no `temp`.
const ZONES: &str = "/sys/class/thermal";

/// Machine of a run, and its network if it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// `uname -r`.
    pub kernel: String,
    /// Model of the first CPU, and how many there are.
    pub cpu: String,
    /// What the kernel does about weaknesses of that CPU, without those it does not have.
    pub mitigations: BTreeMap<String, String>,
    /// Load average of the last minute before the run: what else the machine was doing.
    pub load: f64,
    /// Degrees Celsius before the run, of the hottest zone; none if the machine has no sensor.
    pub temperature: Option<f64>,
    /// Whether the CPUs count how often heat slows them down.
    pub counts_throttling: bool,
    /// Of scenarios that send packets.
    pub network: Option<Network>,
}

/// What carries the packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Driver of both ends.
    pub driver: String,
    /// MTUs of the links; if there are several, the rows name theirs.
    pub mtu: Vec<u16>,
    /// What was switched before: `wire`, `full`, `none`; if there are several, the rows name theirs.
    pub offloads: Vec<String>,
    /// Congestion control of both stacks where a row says nothing else.
    pub congestion: String,
    /// Who receives for the client: its own kernel thread, or the softirq that interrupts whoever sends.
    pub napi: String,
    /// CPU of the server's worker.
    pub server_cpu: u32,
    /// CPU of everything else.
    pub client_cpu: u32,
}

impl Conditions {
    /// Looks at the machine.
    pub fn gather() -> Result<Self, Error> {
        let load = read("/proc/loadavg")?;
        Ok(Conditions {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: cpu(&read("/proc/cpuinfo")?),
            mitigations: mitigations(),
            load: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            temperature: temperature(),
            counts_throttling: throttled(0).is_some(),
            network: None,
        })
    }

    /// Looks at the machine; the rest is what the run was told.
    pub fn with_network(mtu: u16, offloads: &str, seat: &Seat) -> Result<Self, Error> {
        Ok(Conditions {
            network: Some(Network {
                driver: "veth".to_owned(),
                mtu: vec![mtu],
                offloads: vec![offloads.to_owned()],
                congestion: CONGESTION.to_owned(),
                napi: "softirq".to_owned(),
                server_cpu: seat.server_cpu,
                client_cpu: seat.client_cpu,
            }),
            ..Conditions::gather()?
        })
    }

    /// For tests.
    #[cfg(test)]
    pub fn sample() -> Conditions {
        Conditions {
            kernel: "6.18.0".to_owned(),
            cpu: "Fast 9000, 2 CPUs".to_owned(),
            mitigations: BTreeMap::from([("spectre_v2".to_owned(), "Retpolines".to_owned())]),
            load: 0.1,
            temperature: Some(48.5),
            counts_throttling: true,
            network: Some(Network {
                driver: "veth".to_owned(),
                mtu: vec![1500],
                offloads: vec!["wire".to_owned()],
                congestion: "cubic".to_owned(),
                napi: "softirq".to_owned(),
                server_cpu: 0,
                client_cpu: 1,
            }),
        }
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

/// Of the hottest zone.
fn temperature() -> Option<f64> {
    let zones = fs::read_dir(ZONES).ok()?.filter_map(|zone| {
        let path = zone.ok()?.path();
        let text = fs::read_to_string(path.join("temp")).ok()?;
        text.trim().parse::<f64>().ok()
    });
    zones
        .map(|millidegrees| millidegrees / 1e3)
        .max_by(f64::total_cmp)
}

/// An old kernel has no such directory, and then nothing to say.
fn mitigations() -> BTreeMap<String, String> {
    let entries = fs::read_dir(VULNERABILITIES).into_iter().flatten();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let state = fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().into_string().ok()?;
            mitigation(&state).map(|state| (name, state))
        })
        .collect()
}

fn mitigation(state: &str) -> Option<String> {
    let state = state.trim();
    let state = state.strip_prefix("Mitigation: ").unwrap_or(state);
    (state != "Not affected").then(|| state.to_owned())
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
    fn a_weakness_the_cpu_does_not_have_is_no_condition() {
        assert_eq!(mitigation("Not affected\n"), None);
        assert_eq!(mitigation("Mitigation: PTI\n").as_deref(), Some("PTI"));
        assert_eq!(mitigation("Vulnerable\n").as_deref(), Some("Vulnerable"));
    }
}
