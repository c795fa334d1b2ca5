//! The servers of a comparison, and one of them running.

use std::path::Path;

use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::lab::Lab;
use crate::nginx::{self, Nginx};
use crate::offloads::Offloads;
use crate::report::Serving;
use crate::scenario::Direction;
use crate::seat::Seat;
use crate::server::{Backend, Launch, Server};

/// Descriptors of a server that are no connections.
const FILES_BESIDE: u64 = 100;

/// A server that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// sluiced on AF_XDP with its defaults
    Xdp,
    /// sluiced on AF_XDP, every segment a frame of the ring
    XdpCopy,
    /// sluiced on AF_XDP, payload from the file blocks as further pieces of the frame
    XdpGather,
    /// sluiced on AF_XDP, runs of segments as super-segments
    XdpTso,
    /// sluiced on AF_XDP, attached behind the driver: receives what GRO or the peer's TSO made
    XdpGeneric,
    /// sluiced on AF_XDP, attached in the driver
    XdpNative,
    /// sluiced on AF_XDP, its worker never sleeps
    XdpBusy,
    /// sluiced on AF_XDP, its worker sleeps at once
    XdpInterrupt,
    /// sluiced on AF_XDP, the kernel receives for it in a thread on the client's CPU
    XdpNapi,
    /// sluiced on kernel sockets
    Kernel,
    /// nginx with sendfile
    Nginx,
}

/// What a server has to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Which way the objects go.
    pub direction: Direction,
    /// Connections that are open at the same time.
    pub connections: u32,
    /// The same of the row of the scenario that has most: what it is configured for, so that rows differ in nothing else.
    pub most_connections: u32,
}

/// One that runs.
pub enum Running {
    Sluiced(Server),
    Nginx(Nginx),
}

impl Contestant {
    /// As it stands in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Xdp => "xdp",
            Contestant::XdpCopy => "xdp-copy",
            Contestant::XdpGather => "xdp-gather",
            Contestant::XdpTso => "xdp-tso",
            Contestant::XdpGeneric => "xdp-generic",
            Contestant::XdpNative => "xdp-native",
            Contestant::XdpBusy => "xdp-busy",
            Contestant::XdpInterrupt => "xdp-interrupt",
            Contestant::XdpNapi => "xdp-napi",
            Contestant::Kernel => "kernel",
            Contestant::Nginx => "nginx",
        }
    }

    /// Why it cannot run on this machine, if it is known before.
    pub fn missing(self) -> Option<String> {
        let is_missing = self == Contestant::Nginx && nginx::version().is_none();
        is_missing.then(|| "nginx is not installed -> apt-get install nginx-light".to_owned())
    }

    /// Starts it with all of its threads on the server's CPU and waits until it serves `root`, or stores there what goes up.
    pub fn start(
        self,
        lab: &Lab,
        binary: &Path,
        root: &Path,
        seat: &Seat,
        demand: &Demand,
    ) -> Result<Running, Error> {
        let cpu = seat.server_cpu;
        let threaded = format!("napi = \"threaded\"\nnapi_cores = [{}]", seat.client_cpu);
        let (backend, xdp) = match self {
            Contestant::Nginx => {
                files_for(demand)?;
                return Nginx::start(lab, root, cpu, demand).map(Running::Nginx);
            }
            Contestant::Kernel => {
                files_for(demand)?;
                (Backend::Kernel, "")
            }
            Contestant::Xdp => (Backend::Xdp, ""),
            Contestant::XdpCopy => (Backend::Xdp, "tx_lane = \"copy\""),
            Contestant::XdpGather => (Backend::Xdp, "tx_lane = \"gather\""),
            Contestant::XdpTso => (Backend::Xdp, "tx_lane = \"tso\""),
            Contestant::XdpGeneric => (Backend::Xdp, "attach = \"generic\""),
            Contestant::XdpNative => (Backend::Xdp, "attach = \"native\""),
            Contestant::XdpBusy => (Backend::Xdp, "poll = \"busy\""),
            Contestant::XdpInterrupt => (Backend::Xdp, "poll = \"interrupt\""),
            Contestant::XdpNapi => (Backend::Xdp, threaded.as_str()),
        };
        let launch = Launch {
            xdp,
            uploads: demand.direction == Direction::Up,
            connections: demand.most_connections,
            pinned: true,
            ..Launch::new(backend, cpu)
        };
        Server::launch(lab, binary, root, &launch).map(Running::Sluiced)
    }
}

/// Whether a server on kernel sockets may have a descriptor for each connection: it gets the limits of this process.
fn files_for(demand: &Demand) -> Result<(), Error> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| Error::io("limit of open files")(error.into()))?;
    let needed = u64::from(demand.connections) + FILES_BESIDE;
    if needed <= most {
        return Ok(());
    }
    Err(Error::Files { needed, most })
}

impl Running {
    /// How it serves, in its own words, and the offloads while it does.
    pub fn serving(&self, lab: &Lab) -> Result<Serving, Error> {
        let how = match self {
            Running::Sluiced(server) => server.ready.clone(),
            Running::Nginx(nginx) => nginx.ready.clone(),
        };
        let offloads = Offloads::gather(lab)?;
        Ok(Serving { how, offloads })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        match self {
            Running::Sluiced(server) => server.pid(),
            Running::Nginx(nginx) => nginx.pid(),
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
