//! The servers of a comparison, and one of them running.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;
use crate::lab::Lab;
use crate::nginx::{self, Nginx};
use crate::server::{Backend, Server};

/// A server that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contestant {
    /// sluiced on AF_XDP
    Xdp,
    /// sluiced on kernel sockets
    Kernel,
    /// nginx with sendfile
    Nginx,
}

/// One that runs.
pub enum Running {
    Sluiced(Server),
    Nginx(Nginx),
}

impl Contestant {
    /// As it stands in the report.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Xdp => "xdp",
            Contestant::Kernel => "kernel",
            Contestant::Nginx => "nginx",
        }
    }

    /// All that can take part on this machine.
    pub fn all() -> Vec<Contestant> {
        let mut all = vec![Contestant::Xdp, Contestant::Kernel];
        if nginx::version().is_some() {
            all.push(Contestant::Nginx);
        } else {
            eprintln!("nginx is left out: it is not installed (apt-get install nginx-light)");
        }
        all
    }

    /// Starts it on `cpu` and waits until it serves `root`.
    pub fn start(self, lab: &Lab, binary: &Path, root: &Path, cpu: u32) -> Result<Running, Error> {
        let sluiced =
            |backend| Server::start(lab, binary, root, backend, cpu).map(Running::Sluiced);
        match self {
            Contestant::Xdp => sluiced(Backend::Xdp),
            Contestant::Kernel => sluiced(Backend::Kernel),
            Contestant::Nginx => Nginx::start(lab, root, cpu).map(Running::Nginx),
        }
    }
}

impl Running {
    /// How it serves, in its own words.
    pub fn serves(&self) -> &str {
        match self {
            Running::Sluiced(server) => &server.ready,
            Running::Nginx(nginx) => &nginx.ready,
        }
    }

    /// User and system time of all its threads.
    pub fn cpu_time(&self) -> Result<Duration, Error> {
        match self {
            Running::Sluiced(server) => server.cpu_time(),
            Running::Nginx(nginx) => nginx.cpu_time(),
        }
    }

    /// Ends it; an error if it did not end as it should.
    pub fn stop(self) -> Result<(), Error> {
        match self {
            Running::Sluiced(server) => server.stop(),
            // Nothing of it is to be measured any more, and it keeps nothing.
            Running::Nginx(_) => Ok(()),
        }
    }
}
