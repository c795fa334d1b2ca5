//! One download through the link, as several scenarios need it: fresh server, fresh link, every byte compared.

use std::fs;
use std::path::Path as FilePath;
use std::process::Command;

use serde::Serialize;

use crate::error::Error;
use crate::lab::{End, Lab, output};
use crate::path::{Path, Road, Traffic};
use crate::server::{Backend, Congestion, Launch, PORT, Server};
use crate::site::{LARGE, Site, url};

/// What curl ends with when its time is over.
const CURL_TIMED_OUT: i32 = 28;

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
    /// `congestion` is that of our TCP; the kernel's is set in the lab.
    /// Downloads until the time is over or everything is there.
    pub fn measured(
        &self,
        backend: Backend,
        congestion: Congestion,
        road: &Road,
    ) -> Result<Run, Error> {
        let lab = self.lab;
        let root = &self.site.root;
        let launch = Launch {
            backend,
            cpu: self.server_cpu,
            congestion,
            real_time: true,
            port: PORT,
        };
        let server = Server::launch(lab, self.binary, root, &launch)?;
        let path = Path::start(lab, road, self.client_cpu)?;
        let got = lab.scratch().join("got");
        let (bytes, seconds) = self.download(&got)?;
        // The server first: while the link is up it hears that the client is gone, and need not wait for it.
        server.stop()?;
        let traffic = path.finish()?;
        compare(&got, &root.join(LARGE), bytes, backend)?;
        Ok(Run {
            mbit_per_s: mbit_per_s(bytes, seconds),
            whole: bytes == self.site.bytes,
            seed: road.seed,
            traffic,
        })
    }

    /// Downloads until the time is over: bytes and seconds, as curl counts them.
    fn download(&self, to: &FilePath) -> Result<(u64, f64), Error> {
        let _ = fs::remove_file(to);
        let mut command = self.lab.command(End::Client, "taskset");
        command
            .args(["-c", &self.client_cpu.to_string()])
            .args(["curl", "--silent", "--fail"])
            .args(["--max-time", &self.seconds.to_string()])
            .args(["--write-out", "%{size_download} %{time_total}", "--output"])
            .arg(to)
            .arg(url(LARGE));
        let said = command.output().map_err(Error::io("curl"))?;
        let counts = String::from_utf8_lossy(&said.stdout).into_owned();
        let in_time = said.status.success() || said.status.code() == Some(CURL_TIMED_OUT);
        let parsed = counts
            .split_once(' ')
            .and_then(|(bytes, seconds)| Some((bytes.parse().ok()?, seconds.parse().ok()?)));
        parsed.filter(|_| in_time).ok_or_else(|| Error::Failed {
            program: "curl".to_owned(),
            said: format!("{}: {counts}", said.status),
        })
    }
}

/// Every byte that came.
fn compare(got: &FilePath, served: &FilePath, bytes: u64, backend: Backend) -> Result<(), Error> {
    let mut command = Command::new("cmp");
    command.arg("--bytes").arg(bytes.to_string());
    match output("cmp", command.arg(got).arg(served)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::WrongBytes {
            backend: backend.name(),
            what: error.to_string(),
        }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52 bytes")]
fn mbit_per_s(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds / 1e6
}
