//! The offloads of both ends of the veth pair: three sets, always named in a result.

use std::process::Command;

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;
use crate::lab::{End, Lab, output};

/// What is switched before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OffloadSet {
    /// tso and gso off at the server, so that both stacks send packets of the MTU as on a wire; gro on at the client
    Wire,
    /// Everything on: a kernel sender hands over super-packets of 64 KiB that no wire sees
    Full,
    /// tso, gso and gro off at both ends
    None,
}

impl OffloadSet {
    /// The switches of each end, as ethtool takes them.
    fn switches(self) -> [(End, [&'static str; 6]); 2] {
        let (server, client) = match self {
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
        [(End::Server, server), (End::Client, client)]
    }

    /// Sets it at both ends.
    pub fn apply(self, lab: &Lab) -> Result<(), Error> {
        for (end, switches) in self.switches() {
            let link = lab.link(end);
            let mut args = vec!["-K", link.as_str()];
            args.extend(switches);
            lab.run(end, "ethtool", &args)?;
        }
        Ok(())
    }
}

/// Lets the client receive in a kernel thread pinned to `cpu` instead of in the sender's system call.
pub fn threaded_napi(lab: &Lab, cpu: u32) -> Result<(), Error> {
    let file = format!("/sys/class/net/{}/threaded", lab.link(End::Client));
    lab.run(End::Client, "sh", &["-c", &format!("echo 1 >{file}")])?;
    pin_napi(&lab.link(End::Client), cpu)
}

/// Pins the kernel threads that receive on `link` (named `napi/LINK-ID`): else the scheduler may run them on the
/// worker's CPU.
fn pin_napi(link: &str, cpu: u32) -> Result<(), Error> {
    let found = output("pgrep", Command::new("pgrep").arg(format!("^napi/{link}-")))?;
    for pid in found.split_whitespace() {
        let mut command = Command::new("taskset");
        output("taskset", command.args(["-pc", &cpu.to_string(), pid]))?;
    }
    Ok(())
}
