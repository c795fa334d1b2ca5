//! Two network namespaces joined by a veth pair, and a scratch directory; all gone when the value or the process is.
//!
//! `netlab.sh` builds it, the same as for tests and demo. It runs as a child in a process group of its own, so that
//! Ctrl-C does not reach it, and removes everything when its stdin ends, however this process ended.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::Error;

const SCRIPT: &str = include_str!("../netlab.sh");

/// Address of the server in the lab, from `netlab.sh`.
pub const SERVER: &str = "192.0.2.1";
/// What `netlab.sh` sets on the routes of both ends.
pub const CONGESTION: &str = "cubic";

/// The lab.
pub struct Lab {
    name: String,
    scratch: PathBuf,
    holder: Child,
}

/// An end of the veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where `sluiced` runs.
    Server,
    /// Where curl runs.
    Client,
}

impl Lab {
    /// Builds a lab with one queue.
    pub fn new(mtu: u16) -> Result<Lab, Error> {
        let name = format!("slb{}", std::process::id());
        let mut holder = Command::new("bash")
            .args(["-c", SCRIPT, "netlab", "hold", &name])
            .args(["--mtu", &mtu.to_string()])
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
        let suffix = match end {
            End::Server => "srv",
            End::Client => "cli",
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{suffix}", self.name), program]);
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
