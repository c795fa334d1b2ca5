//! The link emulator between the ends of a lab, as a process of its own for the time of one run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::lab::{Lab, spawning};

/// What the link is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Road {
    /// Impairment from the server to the client, as `sluice-bench link` reads it.
    pub to_client: String,
    /// Impairment from the client to the server.
    pub to_server: String,
    /// Seed of its decisions.
    pub seed: u64,
}

/// What the link says of one direction when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Frames that came in.
    pub packets: u64,
    /// Frames lost on purpose, except at the queue.
    pub lost: u64,
    /// Frames dropped at the queue.
    pub overflow: u64,
    /// One frame in a hundred was released at least this late, microseconds.
    pub late_us_p99: u64,
    /// Frames that the link lost against its model.
    pub failed: u64,
}

/// A running link. Dropping it kills it.
pub struct Path {
    process: Child,
    json: PathBuf,
    /// Keeps reading what it says, so that it never waits for us.
    said: Option<JoinHandle<String>>,
}

impl Path {
    /// Starts it in the middle of the lab and waits until it forwards.
    pub fn start(lab: &Lab, road: &Road, cpu: u32) -> Result<Path, Error> {
        let own = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
        let json = lab.scratch().join("link.json");
        let middle = lab.middle();
        // It must get its CPU the moment a release is due, whatever else runs there: even the lowest real-time
        // priority is enough for that, and the best niceness is not (3 ms late in one of a hundred beside a compiler).
        let mut process = lab
            .middle_command("chrt")
            .args(["--fifo", "1", "taskset", "-c", &cpu.to_string()])
            .arg(own)
            .args([
                "link",
                "--left",
                &middle.to_server,
                "--right",
                &middle.to_client,
            ])
            .args(["--to-right", &road.to_client, "--to-left", &road.to_server])
            .args(["--seed", &road.seed.to_string(), "--json"])
            .arg(&json)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(spawning("sluice-bench link"))?;
        let stderr = process.stderr.take();
        let mut path = Path {
            process,
            json,
            said: None,
        };
        let mut stderr = BufReader::new(stderr.ok_or(Error::Lab)?);
        let mut first = String::new();
        stderr
            .read_line(&mut first)
            .map_err(Error::io("sluice-bench link"))?;
        if first.trim() != "ready" {
            return Err(failed(first));
        }
        path.said = Some(thread::spawn(move || {
            std::io::read_to_string(stderr).unwrap_or_default()
        }));
        Ok(path)
    }

    /// Ends it and reads what it did to the traffic from server to client.
    pub fn finish(mut self) -> Result<Traffic, Error> {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        kill(pid, Signal::SIGTERM).map_err(|error| Error::io("sluice-bench link")(error.into()))?;
        let status = self
            .process
            .wait()
            .map_err(Error::io("sluice-bench link"))?;
        if !status.success() {
            let said = self.said.take().and_then(|said| said.join().ok());
            return Err(failed(format!("{status}: {}", said.unwrap_or_default())));
        }
        let name = || self.json.display().to_string();
        let file = File::open(&self.json).map_err(Error::io(name()))?;
        let document: Value =
            serde_json::from_reader(file).map_err(|error| Error::io(name())(error.into()))?;
        let _ = fs::remove_file(&self.json);
        traffic(&document["link"]["to_right"]).ok_or_else(|| failed("no summary".to_owned()))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn failed(said: String) -> Error {
    Error::Failed {
        program: "sluice-bench link".to_owned(),
        said,
    }
}

fn traffic(direction: &Value) -> Option<Traffic> {
    let count = |value: &Value| value.as_u64();
    let dropped = &direction["dropped"];
    let lost = ["loss", "burst", "black_hole", "too_long"];
    let failed = ["not_sent", "receive_overflow", "super_packets"];
    Some(Traffic {
        packets: count(&direction["packets"])?,
        lost: lost
            .iter()
            .map(|cause| count(&dropped[cause]))
            .sum::<Option<u64>>()?,
        overflow: count(&dropped["overflow"])?,
        late_us_p99: count(&direction["late_us"]["p99"])?,
        failed: failed
            .iter()
            .map(|fault| count(&direction[fault]))
            .sum::<Option<u64>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn losses_on_purpose_are_told_from_the_queue_and_from_failures() {
        let direction = json!({
            "packets": 100,
            "dropped": { "loss": 1, "burst": 2, "overflow": 3, "black_hole": 4, "too_long": 5 },
            "late_us": { "p50": 1, "p99": 50, "max": 70 },
            "not_sent": 6, "receive_overflow": 7, "super_packets": 8,
        });
        assert_eq!(
            traffic(&direction),
            Some(Traffic {
                packets: 100,
                lost: 12,
                overflow: 3,
                late_us_p99: 50,
                failed: 21,
            })
        );
        assert_eq!(traffic(&json!({ "packets": 100 })), None);
    }
}
