//! What can go wrong, one enum per kind of call; each text says what failed, why, and what to do.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::attach::AttachedMode;
use crate::config::{ENDPOINTS_MAX, Endpoint, OWNED_MAX};

/// Why [`Steer::load`](crate::Steer::load) failed.
#[derive(Debug, Error)]
pub enum LoadError {
    /// There is nothing to steer.
    #[error("no address and port to serve")]
    NoEndpoint,
    /// More pairs than the program has room for.
    #[error("{given} address and port pairs, at most {ENDPOINTS_MAX} are possible")]
    TooManyEndpoints {
        /// Pairs in the configuration.
        given: usize,
    },
    /// More owned addresses than the program has room for.
    #[error("{given} owned addresses, at most {OWNED_MAX} are possible")]
    TooManyOwned {
        /// Addresses in the configuration.
        given: usize,
    },
    /// Port 0 cannot be connected to.
    #[error("{endpoint}: port 0 cannot be served")]
    PortZero {
        /// The pair as configured.
        endpoint: Endpoint,
    },
    /// No unicast segment can carry this destination.
    #[error("address {address} cannot be served: {why}")]
    Address {
        /// The address as configured.
        address: IpAddr,
        /// What it is instead.
        why: &'static str,
    },
    /// An interface has at least one receive queue.
    #[error("0 receive queues")]
    NoQueue,
    /// The kernel wants privileges for BPF.
    #[error(
        "loading the XDP program takes CAP_BPF and CAP_NET_ADMIN: run as root, or set \
         AmbientCapabilities=CAP_NET_ADMIN CAP_BPF CAP_NET_RAW CAP_IPC_LOCK in the unit"
    )]
    MissingCapability,
    /// The kernel refused a map or the program.
    #[error("the kernel refused the XDP program: {error}\n{log}")]
    Rejected {
        /// The step that failed and its errno.
        error: libbpf_rs::Error,
        /// What libbpf and the verifier said about it.
        log: String,
    },
    /// A map could not be pinned.
    #[error("cannot pin {}: {error} (the directory must be on a bpffs: mount -t bpf bpf /sys/fs/bpf)", path.display())]
    Pin {
        /// Directory or pin.
        path: PathBuf,
        /// What the kernel said.
        error: libbpf_rs::Error,
    },
}

/// The XDP program that is in our place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignProgram {
    /// The kernel's id of it, as in `bpftool prog show id N`; `None` if it went away meanwhile.
    pub id: Option<u32>,
    /// Its name; `None` if it has none or we may not ask (that takes `CAP_SYS_ADMIN`).
    pub name: Option<String>,
}

impl fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.id) {
            (Some(name), Some(id)) => write!(f, "\"{name}\" (id {id})"),
            (None, Some(id)) => write!(f, "id {id} (see: bpftool prog show id {id})"),
            _ => f.write_str("one that is gone again"),
        }
    }
}

/// Why [`Steer::attach`](crate::Steer::attach) failed.
#[derive(Debug, Error)]
pub enum AttachError {
    /// This program is attached already: a [`Steer`](crate::Steer) serves one interface.
    #[error("the program is attached already")]
    AlreadyAttached,
    /// Another XDP program holds the interface (`EBUSY`, `EEXIST`).
    #[error(
        "{interface} already runs an XDP program: {program}; stop its owner \
         (if it was left behind: ip link set dev {interface} xdp off)"
    )]
    Busy {
        /// Name of the interface.
        interface: String,
        /// Who is there.
        program: ForeignProgram,
    },
    /// No such interface in this network namespace.
    #[error("no interface with index {ifindex} in this network namespace")]
    NoSuchInterface {
        /// As given.
        ifindex: u32,
    },
    /// The kernel wants privileges for XDP.
    #[error("attaching the XDP program takes CAP_NET_ADMIN and CAP_BPF")]
    MissingCapability,
    /// The driver cannot do what the mode asks (`EOPNOTSUPP`).
    #[error("{interface} has no {mode} XDP (generic works with every driver)")]
    NotSupported {
        /// Name of the interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
    },
    /// The MTU is above what the driver can do with XDP (`ERANGE`; on veth the MTU of the peer counts).
    #[error("the MTU of {interface}, or of its veth peer, is too large for {mode} XDP: lower it")]
    MtuTooLarge {
        /// Name of the interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
    },
    /// The driver wants more queues (`ENOSPC`; on veth: at least as many RX queues as the peer has TX queues).
    #[error(
        "{interface} has too few queues for {mode} XDP: see ethtool -l {interface}, add some with ethtool -L"
    )]
    TooFewQueues {
        /// Name of the interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
    },
    /// Anything else.
    #[error("cannot attach to {interface} in {mode} mode: {error}")]
    Os {
        /// Name of the interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
        /// The errno; the driver's own text, if any, is at tracepoint `bpf_xdp_link_attach_failed`.
        error: io::Error,
    },
}

/// Why reading or changing a map of the running program failed.
#[derive(Debug, Error)]
pub enum MapError {
    /// The queue is beyond those the program was loaded for.
    #[error("queue {queue} of {queues}: queues count from 0")]
    NoSuchQueue {
        /// As given.
        queue: u32,
        /// Queues in [`SteerConfig`](crate::SteerConfig).
        queues: u32,
    },
    /// The descriptor is not an AF_XDP socket.
    #[error("the descriptor for queue {queue} is not an AF_XDP socket")]
    NotXdpSocket {
        /// The queue it was for.
        queue: u32,
    },
    /// The kernel refused the operation.
    #[error("map {map}: {error}")]
    Os {
        /// Name of the map.
        map: &'static str,
        /// What it said.
        error: libbpf_rs::Error,
    },
}
