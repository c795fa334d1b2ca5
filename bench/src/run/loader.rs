//! `sluice-bench load` as a process in the client's namespace, pinned to the client's CPU.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};

use super::trial::Bed;
use crate::error::Error;
use crate::lab::{End, SERVER, spawning};
use crate::load::{BEGIN, END, Outcome, READY, read_histograms};
use crate::report::Interval;
use crate::server::PORT;

const PROGRAM: &str = "sluice-bench load";

/// A running loader. Dropping it kills it.
pub struct Loader<'a> {
    bed: &'a Bed<'a>,
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    histograms: PathBuf,
}

/// What is done when the loader begins or ends to measure; it gets the loader's process id.
pub type Attend<'a> = &'a mut dyn FnMut(u32) -> Result<(), Error>;

/// Starts it, `first`: before everything else on its CPU. `flags` stand above those of the bed.
pub fn start<'a>(
    bed: &'a Bed<'a>,
    object: &str,
    connections: u32,
    flags: &[String],
    first: bool,
) -> Result<Loader<'a>, Error> {
    let own = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
    let histograms = bed.lab.scratch().join(format!("histograms-{object}"));
    let cpu = bed.seat.client_cpu.to_string();
    let mut command = if first {
        let mut command = bed.lab.command(End::Client, "chrt");
        command.args(["--fifo", "1", "taskset"]);
        command
    } else {
        bed.lab.command(End::Client, "taskset")
    };
    command.args(["-c", &cpu]).arg(own).arg("load");
    command.args(["--server", &format!("{SERVER}:{PORT}")]);
    command
        .args(["--path", &format!("/{object}"), "--content"])
        .arg(bed.objects.root.join(object));
    command.args(["--connections", &connections.to_string()]);
    command.args(["--warm-up", &bed.load.warm_up_seconds.to_string()]);
    if !flags.iter().any(|flag| flag == "--seconds") {
        command.args(["--seconds", &bed.seconds().to_string()]);
    }
    command
        .args(["--attended", "--histograms"])
        .arg(&histograms)
        .args(flags);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawning(PROGRAM))?;
    let (stdout, stderr) = child
        .stdout
        .take()
        .zip(child.stderr.take())
        .ok_or(Error::Lab)?;
    Ok(Loader {
        bed,
        child,
        stdout: BufReader::new(stdout),
        stderr,
        histograms,
    })
}

impl Loader<'_> {
    /// Follows it to its end. The threads that receive are put in their places while it warms up, not when it begins: that
    /// takes longer than nothing, and what is measured would begin without.
    pub fn attend(&mut self, begin: Attend<'_>, end: Attend<'_>) -> Result<Outcome, Error> {
        let pid = self.child.id();
        let mut outcome = None;
        for line in self.stdout.by_ref().lines() {
            match line.map_err(Error::io(PROGRAM))?.as_str() {
                READY => self.bed.place()?,
                BEGIN => begin(pid)?,
                END => end(pid)?,
                text => {
                    outcome = serde_json::from_str(text).ok();
                    // Now it may go.
                    drop(self.child.stdin.take());
                }
            }
        }
        let status = self.child.wait().map_err(Error::io(PROGRAM))?;
        let mut said = String::new();
        // It says why it failed, or nothing.
        let _ = self.stderr.read_to_string(&mut said);
        if said.contains(crate::load::DIFFERS) {
            return Err(Error::WrongBytes {
                backend: "the server",
                what: said.trim().to_owned(),
            });
        }
        outcome
            .filter(|_| status.success())
            .ok_or_else(|| Error::Failed {
                program: PROGRAM.to_owned(),
                said: format!("{status}: {}", said.trim()),
            })
    }

    /// The latencies, after its end.
    pub fn intervals(&self, round: u32, seconds: f64) -> Result<Vec<Interval>, Error> {
        let name = || self.histograms.display().to_string();
        let bytes = fs::read(&self.histograms).map_err(Error::io(name()))?;
        read_histograms(&bytes, round, seconds).map_err(Error::io(name()))
    }
}

impl Drop for Loader<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
