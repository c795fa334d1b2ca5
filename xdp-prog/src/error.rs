//! What can go wrong, one enum per kind of call; each text says what failed, why, and what to do.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::attach::AttachedMode;
use crate::config::{ENDPOINTS_MAX, Endpoint, OWNED_MAX};

/// What libbpf prints before the verifier's words.
const VERIFIER_LOG: &str = "BEGIN PROG LOAD LOG";

/// Why [`Steer::load`](crate::Steer::load) or [`Catcher::load`](crate::Catcher::load) failed.
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

impl LoadError {
    /// What the failure of a step means; `log` is what libbpf said meanwhile.
    pub(crate) fn of(error: libbpf_rs::Error, log: String) -> Self {
        match error.kind() {
            // EPERM. The verifier answers EACCES, of the same kind, and gives its reasons.
            libbpf_rs::ErrorKind::PermissionDenied if !log.contains(VERIFIER_LOG) => {
                Self::MissingCapability
            }
            _ => Self::Rejected { error, log },
        }
    }
}

/// An XDP program that an interface runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignProgram {
    /// The kernel's id of it, as in `bpftool prog show id N`.
    pub id: u32,
    /// Its name; `None` if it has none or we may not ask (that takes `CAP_SYS_ADMIN`).
    pub name: Option<String>,
    /// How it is attached, as ip-link(8) writes it: `xdpdrv`, `xdpgeneric` or `xdpoffload`.
    pub mode: &'static str,
}

impl ForeignProgram {
    /// How to get it off `interface`, whoever attached it in whichever way.
    pub fn removal(&self, interface: &str) -> String {
        format!(
            "stop its owner; if it was left behind: `ip link set dev {interface} {} off`, or, if that says \
             \"Device or resource busy\", `bpftool link detach id N` with N from `bpftool link`",
            self.mode
        )
    }
}

impl fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, mode } = self;
        match name {
            Some(name) => write!(f, "\"{name}\" (id {id}, {mode})"),
            None => write!(f, "id {id} ({mode}; `bpftool prog show id {id}` names it)"),
        }
    }
}

/// Why [`Steer::attach`](crate::Steer::attach) failed. The text says what is wrong, [`AttachError::fix`] what to do.
#[derive(Debug, Error)]
pub enum AttachError {
    /// This program is attached already: a [`Steer`](crate::Steer) serves one interface.
    #[error("the program is attached already")]
    AlreadyAttached,
    /// Another XDP program holds the interface (`EBUSY`, `EEXIST`).
    #[error("{interface} already runs an XDP program: {}", listed(programs))]
    Busy {
        /// Name of the interface.
        interface: String,
        /// Who is there: one per mode, and nobody if it went away meanwhile.
        programs: Vec<ForeignProgram>,
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
    #[error("{interface} has no {mode} XDP")]
    NotSupported {
        /// Name of the interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
    },
    /// The MTU is above what the driver can do with XDP (`ERANGE`; on veth the MTU of the peer counts).
    #[error("the MTU of {interface}, or of its veth peer, is too large for {mode} XDP")]
    MtuTooLarge {
        /// Name of the interface.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
    },
    /// The driver wants more queues (`ENOSPC`; on veth: at least as many RX queues as the peer has TX queues).
    #[error("{interface} has too few queues for {mode} XDP")]
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

impl AttachError {
    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::AlreadyAttached => "detach it first".to_owned(),
            Self::Busy {
                interface,
                programs,
            } => programs
                .first()
                .map_or_else(|| "try again".to_owned(), |p| p.removal(interface)),
            Self::NoSuchInterface { .. } => "`ip -br link` lists the interfaces".to_owned(),
            Self::MissingCapability => {
                "run as root, or AmbientCapabilities=CAP_NET_ADMIN CAP_BPF in the unit".to_owned()
            }
            Self::NotSupported { .. } => "generic mode works with every driver".to_owned(),
            Self::MtuTooLarge { interface, .. } => {
                format!("lower it: `ip link set dev {interface} mtu 1500`, or use generic mode")
            }
            Self::TooFewQueues { interface, .. } => {
                format!("see `ethtool -l {interface}`, add some with `ethtool -L {interface}`")
            }
            Self::Os { .. } => {
                "tracepoint bpf_xdp_link_attach_failed has the driver's words; generic mode does without it"
                    .to_owned()
            }
        }
    }
}

fn listed(programs: &[ForeignProgram]) -> String {
    if programs.is_empty() {
        return "one that is gone again".to_owned();
    }
    let programs: Vec<_> = programs.iter().map(ForeignProgram::to_string).collect();
    programs.join(", ")
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
