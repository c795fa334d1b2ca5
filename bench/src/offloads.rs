//! The offloads of both ends of the veth pair: three sets, always named in a result, and what ethtool says is in effect.

use std::collections::BTreeMap;
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::lab::{End, Lab, output, spawning};
use crate::scenario::Direction;
use crate::seat::Seat;

/// The offloads that decide how many bytes an operation moves, by the names `ethtool -k` gives them.
const OFFLOADS: [&str; 5] = [
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-checksumming",
    "rx-checksumming",
];

/// Offloads of both ends while a server runs; attaching an XDP program changes some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offloads {
    /// Of the server's link.
    pub server: BTreeMap<String, String>,
    /// Of the client's link.
    pub client: BTreeMap<String, String>,
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

fn offloads(listing: &str) -> BTreeMap<String, String> {
    listing
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| OFFLOADS.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// What is switched before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OffloadSet {
    /// tso and gso off at the server, so that both stacks send packets of the MTU as on a wire; gro on at the client.
    /// For uploads the other way round
    Wire,
    /// Everything on: a kernel sender hands over super-packets of 64 KiB that no wire sees
    Full,
    /// tso, gso and gro off at both ends
    None,
}

impl OffloadSet {
    /// As flags, scenarios and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            OffloadSet::Wire => "wire",
            OffloadSet::Full => "full",
            OffloadSet::None => "none",
        }
    }

    /// The switches of each end, as ethtool takes them.
    fn switches(self, direction: Direction) -> [(End, [&'static str; 6]); 2] {
        let (sender, receiver) = match self {
            OffloadSet::Wire => (
                ["tso", "off", "gso", "off", "gro", "on"],
                ["tso", "on", "gso", "on", "gro", "on"],
            ),
            OffloadSet::Full => {
                let on = ["tso", "on", "gso", "on", "gro", "on"];
                (on, on)
            }
            OffloadSet::None => {
                let off = ["tso", "off", "gso", "off", "gro", "off"];
                (off, off)
            }
        };
        match direction {
            Direction::Down => [(End::Server, sender), (End::Client, receiver)],
            Direction::Up => [(End::Client, sender), (End::Server, receiver)],
        }
    }

    /// Sets it at both ends, for objects that go this way.
    pub fn apply(self, lab: &Lab, direction: Direction) -> Result<(), Error> {
        for (end, switches) in self.switches(direction) {
            let link = lab.link(end);
            let mut args = vec!["-K", link.as_str()];
            args.extend(switches);
            lab.run(end, "ethtool", &args)?;
        }
        Ok(())
    }
}

/// How packets are received after [`receive_on_own_cpus`] and [`place_napi`], for reports.
pub const OWN_CPUS: &str = "each end on its own CPU: NAPI in a real-time thread, and RPS";

/// Lets the client receive in a kernel thread pinned to `cpu` instead of in the sender's system call.
pub fn threaded_napi(lab: &Lab, cpu: u32) -> Result<(), Error> {
    receive_in_thread(lab, End::Client)?;
    pin_napi(lab, End::Client, cpu)
}

/// Lets each end receive on its own CPU, as if a NIC interrupted it there: what a veth pair by default does on the CPU of
/// whoever sends. What NAPI receives (an XDP program, GRO) gets a thread, which [`place_napi`] puts in its place; what goes
/// up to a kernel without it is moved by RPS. Receiving is then no longer part of sending, so the ring between the ends
/// (256 frames) can be full: a queueing discipline makes the sender wait instead of losing frames, as a NIC's ring would.
pub fn receive_on_own_cpus(lab: &Lab, seat: &Seat) -> Result<(), Error> {
    for (end, cpu) in [
        (End::Server, seat.server_cpu),
        (End::Client, seat.client_cpu),
    ] {
        receive_in_thread(lab, end)?;
        // A mask of CPUs in hexadecimal, 32 of them between two commas.
        let high = ",00000000".repeat((cpu / 32) as usize);
        let mask = format!("{:x}{high}", 1_u32 << (cpu % 32));
        let file = format!("/sys/class/net/{}/queues/rx-0/rps_cpus", lab.link(end));
        lab.run(end, "sh", &["-c", &format!("echo {mask} >{file}")])?;
        let link = lab.link(end);
        lab.run(
            end,
            "tc",
            &["qdisc", "replace", "dev", &link, "root", "pfifo"],
        )?;
    }
    Ok(())
}

/// GRO has to be on for that moment: a link without NAPI cannot be told, but remembers.
fn receive_in_thread(lab: &Lab, end: End) -> Result<(), Error> {
    let link = lab.link(end);
    lab.run(end, "ethtool", &["-K", &link, "gro", "on"])?;
    let order = format!("echo 1 >/sys/class/net/{link}/threaded");
    lab.run(end, "sh", &["-c", &order]).map(drop)
}

/// Pins the kernel threads that receive at an end (named `napi/LINK-ID`): else the scheduler may run them on the other
/// end's CPU.
pub fn pin_napi(lab: &Lab, end: End, cpu: u32) -> Result<(), Error> {
    for_each_napi(lab, end, "taskset", &["-pc", &cpu.to_string()])
}

/// The same, and they come before every program on that CPU, as a softirq does: a worker that spins would let a thread
/// wait for a slice of the scheduler, which is milliseconds.
pub fn place_napi(lab: &Lab, end: End, cpu: u32) -> Result<(), Error> {
    pin_napi(lab, end, cpu)?;
    for_each_napi(lab, end, "chrt", &["--fifo", "--pid", "1"])
}

/// Process ids of the kernel threads that receive at an end: none without NAPI, or if that is no thread.
pub fn napi_threads(lab: &Lab, end: End) -> Result<Vec<u32>, Error> {
    let name = format!("^napi/{}-", lab.link(end));
    // It fails if there is none, which is no mistake.
    let found = Command::new("pgrep")
        .arg(name)
        .output()
        .map_err(spawning("pgrep"))?;
    let found = String::from_utf8_lossy(&found.stdout);
    let pids = found.split_whitespace();
    Ok(pids.filter_map(|pid| pid.parse().ok()).collect())
}

/// Runs a program with the process id of each such thread as its last word.
fn for_each_napi(lab: &Lab, end: End, program: &str, args: &[&str]) -> Result<(), Error> {
    for pid in napi_threads(lab, end)? {
        output(
            program,
            Command::new(program).args(args).arg(pid.to_string()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_a_wire_whichever_end_sends() {
        for (direction, end) in [(Direction::Down, End::Server), (Direction::Up, End::Client)] {
            for (at, switches) in OffloadSet::Wire.switches(direction) {
                let tso = if at == end { "off" } else { "on" };
                assert_eq!(switches[..2], ["tso", tso], "{direction:?}, {at:?}");
            }
        }
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
