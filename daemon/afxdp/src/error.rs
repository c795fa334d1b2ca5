//! Why a UMEM or a queue could not be made: one variant per situation that an operator mends differently.
//!
//! The `Display` texts are documentation: each names the thing, the reason and what to do.

use std::fmt;
use std::io;

/// Why [`Umem::new`](crate::Umem::new) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum UmemError {
    /// A size in [`UmemConfig`](crate::UmemConfig) is outside its range; the text says which.
    Config(&'static str),
    /// The memory could not be mapped.
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// What `mmap` answered.
        source: io::Error,
    },
}

impl fmt::Display for UmemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "UMEM: {what}"),
            Self::Map { bytes, source } => write!(
                f,
                "UMEM: cannot map {bytes} bytes: {source}; give the service more memory or configure fewer frames and blocks"
            ),
        }
    }
}

impl std::error::Error for UmemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Map { source, .. } => Some(source),
        }
    }
}

/// Why [`Queue::open`](crate::Queue::open) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A value in [`QueueConfig`](crate::QueueConfig) is outside its range; the text says which.
    Config(&'static str),
    /// `socket(AF_XDP)` was refused: `CAP_NET_RAW` is missing in the user namespace that owns the network namespace.
    MissingCapability,
    /// The kernel has no AF_XDP, or lacks something this crate needs of it; the text says what.
    KernelTooOld(&'static str),
    /// The UMEM's pages could not be pinned under the memlock limit, which is charged per user over all processes.
    Memlock {
        /// Bytes of the UMEM.
        needed: u64,
    },
    /// No interface has this index in the network namespace of the calling thread.
    NoSuchInterface {
        /// The index from the configuration.
        ifindex: u32,
    },
    /// The interface is down and its driver cannot bind then. (Most can; packets then flow once it is up.)
    InterfaceDown {
        /// The interface.
        ifindex: u32,
    },
    /// The interface has no such queue in both directions.
    NoSuchQueue {
        /// The queue from the configuration.
        queue: u32,
        /// Receive queues the interface has, if it tells.
        rx: Option<u32>,
        /// Transmit queues the interface has, if it tells.
        tx: Option<u32>,
    },
    /// Another socket owns the queue, and still did after half a second of trying.
    QueueBusy {
        /// The interface.
        ifindex: u32,
        /// The queue.
        queue: u32,
    },
    /// Zero copy was demanded and the driver cannot do it on this interface as it is set up.
    ZeroCopyUnsupported {
        /// The interface.
        ifindex: u32,
        /// What `bind` answered.
        source: io::Error,
    },
    /// `bind` was refused as invalid: queue, MTU against frame size, or a flag this kernel does not know.
    BindRefused {
        /// The interface.
        ifindex: u32,
        /// The queue.
        queue: u32,
        /// What `bind` answered.
        source: io::Error,
    },
    /// Any other system call that failed.
    Os {
        /// The call.
        call: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn os(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { call, source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "AF_XDP queue: {what}"),
            Self::MissingCapability => write!(
                f,
                "AF_XDP socket refused: run as root or give the service CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)"
            ),
            Self::KernelTooOld(what) => write!(
                f,
                "this kernel cannot do it: {what}; Linux 6.6 or newer built with CONFIG_XDP_SOCKETS is needed"
            ),
            Self::Memlock { needed } => write!(
                f,
                "cannot pin {needed} bytes of packet memory: raise the memlock limit (systemd: LimitMEMLOCK=infinity) \
                 or grant CAP_IPC_LOCK; the limit counts every process of this user"
            ),
            Self::NoSuchInterface { ifindex } => write!(
                f,
                "no network interface with index {ifindex} in this network namespace: look at `ip link`"
            ),
            Self::InterfaceDown { ifindex } => write!(
                f,
                "network interface {ifindex} is down: `ip link set <interface> up`"
            ),
            Self::NoSuchQueue { queue, rx, tx } => {
                write!(f, "queue {queue} does not exist on the interface")?;
                if let (Some(rx), Some(tx)) = (rx, tx) {
                    write!(f, " (it has {rx} receive and {tx} transmit queues)")?;
                }
                write!(
                    f,
                    ": use fewer workers or change the channels with `ethtool -L`"
                )
            }
            Self::QueueBusy { ifindex, queue } => write!(
                f,
                "queue {queue} of interface {ifindex} is in use by another AF_XDP socket: stop the other program"
            ),
            Self::ZeroCopyUnsupported { ifindex, source } => write!(
                f,
                "interface {ifindex} cannot bind in zero-copy mode ({source}): use bind mode \"auto\" or \"copy\", \
                 or lower the MTU"
            ),
            Self::BindRefused {
                ifindex,
                queue,
                source,
            } => write!(
                f,
                "binding to queue {queue} of interface {ifindex} was refused ({source}): check that the queue exists \
                 (`ethtool -l`) and that the MTU fits"
            ),
            Self::Os { call, source } => write!(f, "{call}: {source}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ZeroCopyUnsupported { source, .. }
            | Self::BindRefused { source, .. }
            | Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}
