//! One download through the link, as several scenarios need it: fresh server, fresh link, every byte compared. The
//! client is curl over the kernel's TCP, or our own.

use std::fs;
use std::path::Path as FilePath;
use std::process::Command;

use serde::Serialize;

use crate::error::Error;
use crate::lab::{End, Lab, SERVER, STRANGER, STRANGER_LINK, output};
use crate::path::{Path, Road, Traffic};
use crate::server::{Backend, Congestion, Launch, PORT, Server};
use crate::site::{LARGE, Site, sha256, url};

/// What curl ends with when its time is over.
const CURL_TIMED_OUT: i32 = 28;

/// Whose TCP receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The kernel's, with curl.
    Linux,
    /// Ours, with `sluice-bench fetch`.
    Sluice,
}

/// One download.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Payload bits per second at the client, in units of 10^6.
    pub mbit_per_s: f64,
    /// All of the file came in time.
    pub whole: bool,
    /// Seed of its link.
    pub seed: u64,
    /// What the link did from server to client.
    pub traffic: Traffic,
}

/// What all runs have in common.
pub struct Bed<'a> {
    /// With a middle.
    pub lab: &'a Lab,
    /// The daemon.
    pub binary: &'a FilePath,
    /// What is downloaded.
    pub site: &'a Site,
    /// CPU of the server's worker.
    pub server_cpu: u32,
    /// CPU of client and link.
    pub client_cpu: u32,
    /// The longest that a download may take.
    pub seconds: u32,
}

impl Bed<'_> {
    /// By curl, see [`Self::received`].
    pub fn measured(
        &self,
        backend: Backend,
        congestion: Congestion,
        road: &Road,
    ) -> Result<Run, Error> {
        self.received(Receiver::Linux, backend, congestion, road)
    }

    /// Downloads until the time is over or everything is there. `congestion` is that of our TCP; the kernel's is set in
    /// the lab.
    pub fn received(
        &self,
        receiver: Receiver,
        backend: Backend,
        congestion: Congestion,
        road: &Road,
    ) -> Result<Run, Error> {
        let lab = self.lab;
        let root = &self.site.root;
        let launch = Launch {
            congestion,
            real_time: true,
            ..Launch::new(backend, self.server_cpu)
        };
        let server = Server::launch(lab, self.binary, root, &launch)?;
        let path = Path::start(lab, road, self.client_cpu)?;
        let got = lab.scratch().join("got");
        let (bytes, seconds) = self.download(receiver, &got)?;
        // The server first: while the link is up it hears that the client is gone, and need not wait for it.
        server.stop()?;
        let traffic = path.finish()?;
        self.compare(&got, bytes, backend)?;
        Ok(Run {
            mbit_per_s: mbit_per_s(bytes, seconds),
            whole: bytes == self.site.bytes,
            seed: road.seed,
            traffic,
        })
    }

    /// Downloads until the time is over: bytes and seconds, as curl counts them.
    fn download(&self, receiver: Receiver, to: &FilePath) -> Result<(u64, f64), Error> {
        let _ = fs::remove_file(to);
        let (program, mut command) = match receiver {
            Receiver::Linux => ("curl", self.curl(to)),
            Receiver::Sluice => ("sluice-bench fetch", self.fetch(to)?),
        };
        let said = command.output().map_err(Error::io(program))?;
        let counts = String::from_utf8_lossy(&said.stdout).into_owned();
        let in_time = said.status.success() || said.status.code() == Some(CURL_TIMED_OUT);
        let parsed = counts
            .trim_end()
            .split_once(' ')
            .and_then(|(bytes, seconds)| Some((bytes.parse().ok()?, seconds.parse().ok()?)));
        parsed.filter(|_| in_time).ok_or_else(|| Error::Failed {
            program: program.to_owned(),
            said: format!(
                "{}: {counts}{}",
                said.status,
                String::from_utf8_lossy(&said.stderr).trim()
            ),
        })
    }

    fn curl(&self, to: &FilePath) -> Command {
        let mut command = self.lab.command(End::Client, "taskset");
        command
            .args(["-c", &self.client_cpu.to_string()])
            .args(["curl", "--silent", "--fail"])
            .args(["--max-time", &self.seconds.to_string()])
            .args(["--write-out", "%{size_download} %{time_total}", "--output"])
            .arg(to)
            .arg(url(LARGE));
        command
    }

    fn fetch(&self, to: &FilePath) -> Result<Command, Error> {
        let own = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
        let server_link = self.lab.introduce_stranger()?;
        // In real time, as the kernel's TCP is, which takes segments in softirqs.
        let mut command = self.lab.command(End::Client, "chrt");
        command
            .args(["--fifo", "1", "taskset", "-c", &self.client_cpu.to_string()])
            .arg(own)
            .args(["fetch", "--interface", &self.lab.link(End::Client)])
            .args(["--address", STRANGER, "--link-address", STRANGER_LINK])
            .args(["--server", &format!("{SERVER}:{PORT}")])
            .args(["--server-link-address", &server_link])
            .args(["--path", &format!("/{LARGE}")])
            .args(["--seconds", &self.seconds.to_string(), "--output"])
            .arg(to);
        Ok(command)
    }

    /// Every byte that came: by SHA-256, or the beginning of the file if the time was over.
    fn compare(&self, got: &FilePath, bytes: u64, backend: Backend) -> Result<(), Error> {
        let wrong = |what| Error::WrongBytes {
            backend: backend.name(),
            what,
        };
        if bytes == self.site.bytes {
            let (sum, served) = (sha256(got)?, &self.site.sha256);
            if sum != *served {
                return Err(wrong(format!("SHA-256 {sum} instead of {served}")));
            }
            return Ok(());
        }
        let mut command = Command::new("cmp");
        command.arg("--bytes").arg(bytes.to_string()).arg(got);
        output("cmp", command.arg(self.site.root.join(LARGE)))
            .map(drop)
            .map_err(|error| wrong(error.to_string()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52 bytes")]
fn mbit_per_s(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds / 1e6
}
