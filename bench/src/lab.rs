//! Two network namespaces joined by a veth pair, or three in a row, and a scratch directory; all gone when the value or
//! the process is.
//!
//! `netlab.sh` builds it, the same as for tests and demo. It runs as a child in a process group of its own, so that
//! Ctrl-C does not reach it, and removes everything when its stdin ends, however this process ended.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::statvfs::statvfs;

use crate::error::Error;

/// A tmpfs that every Linux distribution mounts.
const MEMORY: &str = "/dev/shm";

const SCRIPT: &str = include_str!("../netlab.sh");

/// Address of the server in the lab, from `netlab.sh`.
pub const SERVER: &str = "192.0.2.1";
/// Address of the client in the lab, from `netlab.sh`.
pub const CLIENT: &str = "192.0.2.2";
/// An address of that network that no kernel has, and a link address that no interface has: for a TCP of our own.
pub const STRANGER: &str = "192.0.2.3";
/// See [`STRANGER`].
pub const STRANGER_LINK: &str = "02:00:00:00:00:03";
/// The first of the further addresses of the client.
const MORE_CLIENTS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// The network of all.
const NETWORK: &str = "192.0.2.0/24";
/// What `netlab.sh` sets on the routes of both ends.
pub const CONGESTION: &str = "cubic";

/// The lab.
pub struct Lab {
    name: String,
    scratch: PathBuf,
    holder: Child,
}

/// A namespace of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where `sluiced` runs.
    Server,
    /// Where curl runs.
    Client,
}

/// The links of the namespace between the ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Middle {
    /// The one towards the server.
    pub to_server: String,
    /// The one towards the client.
    pub to_client: String,
}

impl Lab {
    /// Builds a lab with one queue.
    pub fn new(mtu: u16) -> Result<Lab, Error> {
        Lab::shaped(mtu, &[], None)
    }

    /// The same with the scratch directory in memory.
    pub fn in_memory(mtu: u16) -> Result<Lab, Error> {
        Lab::shaped(mtu, &[], Some(MEMORY))
    }

    /// Whether the scratch directory of a lab [in memory](Lab::in_memory) has room for so much.
    ///
    /// # Errors
    /// It has not; how large the file system has to be.
    pub fn check_memory(bytes: u64) -> Result<(), Error> {
        let failed = |error: nix::errno::Errno| Error::io(MEMORY)(error.into());
        let room = statvfs(MEMORY).map_err(failed)?;
        let unit = room.fragment_size();
        let [all, free] = [room.blocks(), room.blocks_available()].map(|blocks| blocks * unit);
        check_room(bytes, all, free)
    }

    /// Builds a lab with a namespace between the ends and all offloads off: nothing gets through before something
    /// forwards there.
    pub fn with_middle(mtu: u16) -> Result<Lab, Error> {
        Lab::shaped(mtu, &["--middle"], None)
    }

    /// `within`: where the scratch directory is, instead of where mktemp(1) puts it.
    fn shaped(mtu: u16, flags: &[&str], within: Option<&str>) -> Result<Lab, Error> {
        // Unique among the labs of this process and among processes.
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("slb{}n{number}", std::process::id());
        let mut holder = Command::new("bash")
            .args(["-c", SCRIPT, "netlab", "hold", &name])
            .args(["--mtu", &mtu.to_string()])
            .args(flags)
            .envs(within.map(|within| ("TMPDIR", within)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(spawning("bash"))?;
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut said)
                .map_err(Error::io("netlab.sh"))?;
        }
        let scratch = said.trim().strip_prefix("ready ").map(PathBuf::from);
        let lab = Lab {
            name,
            scratch: scratch.clone().unwrap_or_default(),
            holder,
        };
        scratch.map(|_| lab).ok_or(Error::Lab)
    }

    /// An empty directory that goes with the lab.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Name of the link at one end.
    pub fn link(&self, end: End) -> String {
        let suffix = match end {
            End::Server => 's',
            End::Client => 'c',
        };
        format!("{}{suffix}", self.name)
    }

    /// A command that will run at one end.
    pub fn command(&self, end: End, program: &str) -> Command {
        self.command_in(&self.namespace(end), program)
    }

    /// Name of the namespace of one end.
    pub fn namespace(&self, end: End) -> String {
        let suffix = match end {
            End::Server => "srv",
            End::Client => "cli",
        };
        format!("{}-{suffix}", self.name)
    }

    /// Links of the middle.
    pub fn middle(&self) -> Middle {
        Middle {
            to_server: format!("{}x", self.name),
            to_client: format!("{}y", self.name),
        }
    }

    /// More addresses at the client's end: each has ports of its own.
    pub fn add_client_addresses(&self, count: u32) -> Result<(), Error> {
        let link = self.link(End::Client);
        for host in 0..count {
            let address = Ipv4Addr::from_bits(MORE_CLIENTS.to_bits() + host);
            let with_network = format!("{address}/24");
            let args = ["addr", "add", &with_network, "dev", &link, "noprefixroute"];
            self.run(End::Client, "ip", &args)?;
        }
        Ok(())
    }

    /// Lets the kernel at both ends control congestion by another algorithm, from the next connection on.
    pub fn set_kernel_congestion(&self, name: &str) -> Result<(), Error> {
        for (end, own) in [(End::Server, SERVER), (End::Client, CLIENT)] {
            let link = self.link(end);
            let mut args = vec!["route", "replace", NETWORK, "dev", &link, "src", own];
            args.extend(["congctl", name]);
            self.run(end, "ip", &args)?;
        }
        Ok(())
    }

    /// Tells the server the way to [`STRANGER`], and gives the link address of the server: nobody answers ARP.
    pub fn introduce_stranger(&self) -> Result<String, Error> {
        let link = self.link(End::Server);
        let mut args = vec!["neigh", "replace", STRANGER, "lladdr", STRANGER_LINK];
        args.extend(["nud", "permanent", "dev", &link]);
        self.run(End::Server, "ip", &args)?;
        let file = format!("/sys/class/net/{link}/address");
        Ok(self.run(End::Server, "cat", &[&file])?.trim().to_owned())
    }

    /// A command that will run in the middle.
    pub fn middle_command(&self, program: &str) -> Command {
        self.command_in(&format!("{}-mid", self.name), program)
    }

    fn command_in(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// Runs a command at one end and gives what it printed.
    pub fn run(&self, end: End, program: &str, args: &[&str]) -> Result<String, Error> {
        let mut command = self.command(end, program);
        command.args(args);
        output(program, &mut command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// In a file system of so many bytes, of which so many are free.
fn check_room(needs: u64, all: u64, free: u64) -> Result<(), Error> {
    if needs <= free {
        return Ok(());
    }
    Err(Error::Room {
        folder: MEMORY,
        needs_mib: needs.div_ceil(1 << 20),
        free_mib: free >> 20,
        size_mib: (all - free.min(all) + needs).div_ceil(1 << 20),
    })
}

/// Runs a prepared command and gives what it printed.
pub fn output(program: &str, command: &mut Command) -> Result<String, Error> {
    let output = command.output().map_err(spawning(program))?;
    if !output.status.success() {
        return Err(Error::Failed {
            program: program.to_owned(),
            said: format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Names the program of a failed start.
pub fn spawning(program: &str) -> impl FnOnce(std::io::Error) -> Error {
    let program = program.to_owned();
    move |source| Error::Spawn { program, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_is_too_small_is_told_how_large_it_has_to_be() {
        const MIB: u64 = 1 << 20;
        assert!(check_room(64 * MIB, 100 * MIB, 64 * MIB).is_ok());
        let said = check_room(1088 * MIB, 64 * MIB, 60 * MIB).unwrap_err();
        assert_eq!(
            said.to_string(),
            "needs 1088 MiB in /dev/shm, which has 60 -> mount -o remount,size=1092M /dev/shm"
        );
    }
}
