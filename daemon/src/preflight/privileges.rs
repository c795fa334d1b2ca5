//! What the process may do: capabilities, locked memory, descriptors.
//!
//! The kernel checks capabilities of the *initial* user namespace for BPF and for locked memory, so root in a
//! container with its own user namespace has a full set and still cannot run AF_XDP.

use std::fs;

use caps::{CapSet, Capability};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use super::interface::served_queues;
use super::link::InterfaceFacts;
use super::{Check, Facts, Problem, Scope};
use crate::config::Config;
use crate::config::units::format_size;
use crate::limits::{ActiveBackend, Limits, Sizing};
use crate::placement::kernel_queues;

/// What the process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privileges {
    /// Effective user.
    pub uid: u32,
    /// `CAP_NET_ADMIN`: attach, socket buffers beyond the limit.
    pub net_admin: bool,
    /// `CAP_NET_RAW`: AF_XDP and packet sockets.
    pub net_raw: bool,
    /// `CAP_BPF`, or `CAP_SYS_ADMIN` that stands in for it: maps and programs.
    pub bpf: bool,
    /// `CAP_IPC_LOCK`: memory locked beyond the limit.
    pub ipc_lock: bool,
    /// Whether the above count outside of a container's own user namespace.
    pub initial_user_namespace: bool,
    /// Hard `RLIMIT_MEMLOCK` in bytes; `None` is unlimited.
    pub memlock: Option<u64>,
    /// Hard `RLIMIT_NOFILE`; `None` is unlimited.
    pub descriptors: Option<u64>,
    /// Soft `RLIMIT_FSIZE` in bytes, which stays as it is; `None` is unlimited.
    pub file_size: Option<u64>,
}

impl Privileges {
    pub(super) fn gather() -> Self {
        // A set that cannot be read is one that cannot be relied on.
        let held = caps::read(None, CapSet::Effective).unwrap_or_default();
        let has = |capability| held.contains(&capability);
        Self {
            uid: geteuid().as_raw(),
            net_admin: has(Capability::CAP_NET_ADMIN),
            net_raw: has(Capability::CAP_NET_RAW),
            bpf: has(Capability::CAP_BPF) || has(Capability::CAP_SYS_ADMIN),
            ipc_lock: has(Capability::CAP_IPC_LOCK),
            initial_user_namespace: initial_user_namespace(),
            memlock: getrlimit(Resource::Memlock).maximum,
            descriptors: getrlimit(Resource::Nofile).maximum,
            file_size: getrlimit(Resource::Fsize).current,
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        [
            (self.net_admin, "CAP_NET_ADMIN"),
            (self.net_raw, "CAP_NET_RAW"),
            (self.bpf, "CAP_BPF"),
        ]
        .into_iter()
        .filter(|(held, _)| !held)
        .map(|(_, name)| name)
        .collect()
    }
}

/// Raises the soft limits of descriptors and locked memory to the hard ones, which needs no privilege; what
/// preflight compares with is the hard limit. Limits of the process: called once, by `main`.
pub fn raise_soft_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = getrlimit(resource);
        // A refusal leaves the soft limit; what does not fit then is reported by the call that meets it.
        let _ = setrlimit(
            resource,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
}

/// The initial user namespace maps every id to itself (`user_namespaces(7)`).
fn initial_user_namespace() -> bool {
    // Unreadable (/proc not mounted): assume the usual case, the system calls will tell.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| {
        map.split_whitespace().eq(["0", "0", "4294967295"])
    })
}

pub(super) fn capabilities(facts: &Facts) -> Check {
    let privileges = &facts.privileges;
    let missing = privileges.missing();
    if !missing.is_empty() {
        let names = missing.join(", ");
        let ambient: Vec<_> = missing.iter().map(|name| name.to_lowercase()).collect();
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("missing {names}"),
                format!("uid {} may not use AF_XDP", privileges.uid),
                format!(
                    "run as root, or AmbientCapabilities={} in the unit, or `setcap {}+ep` on the binary",
                    missing.join(" "),
                    ambient.join(",")
                ),
            ),
        );
    }
    if !privileges.initial_user_namespace {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                "capabilities are those of a user namespace",
                "BPF programs and locked memory need them in the initial one",
                "run outside of the user namespace (no userns remapping, no PrivateUsers=)",
            ),
        );
    }
    Check::pass(Scope::Xdp, "capabilities NET_ADMIN NET_RAW BPF")
}

pub(super) fn memlock(config: &Config, facts: &Facts, link: &InterfaceFacts) -> Check {
    let queues = served_queues(config, link).len();
    let sizing = Sizing {
        backend: ActiveBackend::Xdp,
        workers: u32::try_from(queues).unwrap_or(u32::MAX),
        descriptors: facts.privileges.descriptors,
    };
    let need = Limits::derive(config, &sizing).memlock_bytes;
    let need_text = format_size(need);
    if facts.privileges.ipc_lock && facts.privileges.initial_user_namespace {
        return Check::pass(
            Scope::Xdp,
            format!("memlock: {need_text} UMEM, CAP_IPC_LOCK held"),
        );
    }
    match facts.privileges.memlock {
        Some(limit) if limit < need => Check::fail(
            Scope::Xdp,
            Problem::new(
                format!(
                    "memlock {} < {need_text} UMEM and no CAP_IPC_LOCK",
                    format_size(limit)
                ),
                "",
                memlock_fix(limit, queues),
            ),
        ),
        Some(limit) => Check::pass(
            Scope::Xdp,
            format!("memlock: {need_text} UMEM, limit {}", format_size(limit)),
        ),
        None => Check::pass(Scope::Xdp, format!("memlock: {need_text} UMEM, no limit")),
    }
}

/// More memory, or less of it where the smallest UMEM would fit.
fn memlock_fix(limit: u64, queues: usize) -> String {
    const SMALLEST: u64 = 4 << 20;
    let usual = "LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK";
    let share = limit / u64::try_from(queues.max(1)).unwrap_or(u64::MAX);
    // Whole MiB, so that the value can be typed.
    let fitting = share >> 20 << 20;
    if fitting < SMALLEST {
        return usual.to_owned();
    }
    format!("{usual} or umem = \"{}\"", format_size(fitting))
}

/// Below so many connections a server is felt to be full; above, the configured number is only a bound.
const FEW_CONNECTIONS: u64 = 1024;

/// Whether the descriptors suffice for the connections that the kernel backend may have.
pub(super) fn descriptors(config: &Config, facts: &Facts) -> Check {
    let queues = kernel_queues(&facts.cpus, config.xdp.cores.as_deref());
    let workers = u32::try_from(queues.len()).unwrap_or(u32::MAX);
    let sizing = |descriptors| Sizing {
        backend: ActiveBackend::Kernel,
        workers,
        descriptors,
    };
    let wanted = Limits::derive(config, &sizing(None));
    let limit = facts.privileges.descriptors;
    let have = Limits::derive(config, &sizing(limit));
    let served = u64::from(have.worker.connections) * u64::from(have.workers);
    match limit {
        Some(limit) if wanted.descriptors > limit && served < FEW_CONNECTIONS => Check::warn(
            Scope::Kernel,
            Problem::new(
                format!("{limit} descriptors allowed, {} wanted", wanted.descriptors),
                format!(
                    "the kernel backend serves {served} connections instead of {}",
                    config.limits.connections
                ),
                format!(
                    "LimitNOFILE={} or fewer limits.connections",
                    wanted.descriptors
                ),
            ),
        ),
        Some(limit) if wanted.descriptors > limit => Check::info(
            Scope::Kernel,
            format!("descriptors: {limit} allowed, so at most {served} connections"),
        ),
        _ => Check::pass(
            Scope::Kernel,
            format!("descriptors: {} at most", wanted.descriptors),
        ),
    }
}
