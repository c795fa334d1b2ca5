//! Why a UMEM or a queue could not be made: one variant per situation that an operator mends differently.
//!
//! The `Display` texts say what is wrong and why, [`OpenError::fix`] what to do; the caller knows the names of interface
//! and settings.

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
            Self::Map { bytes, source } => write!(f, "UMEM: cannot map {bytes} bytes: {source}"),
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

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Config(_) => "correct the value",
            Self::MissingCapability => {
                "run as root, or AmbientCapabilities=CAP_NET_RAW in the unit"
            }
            Self::KernelTooOld(_) => {
                "use a newer kernel, built with CONFIG_XDP_SOCKETS=y, or backend = \"kernel\""
            }
            Self::Memlock { .. } => {
                "LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK in the unit, or a smaller umem"
            }
            Self::NoSuchInterface { .. } => "`ip -br link` lists the interfaces",
            Self::InterfaceDown { .. } => "`ip link set dev <interface> up`",
            Self::NoSuchQueue { .. } => "serve fewer queues, or add channels with `ethtool -L`",
            Self::QueueBusy { .. } => {
                "stop the other program (`ss --xdp -p` names it if the kernel has CONFIG_XDP_SOCKETS_DIAG), \
                 or serve other queues"
            }
            Self::ZeroCopyUnsupported { .. } => {
                "bind = \"auto\" or \"copy\", or a lower MTU (`ip link set dev <interface> mtu 1500`)"
            }
            Self::BindRefused { .. } => {
                "check that the queue exists (`ethtool -l`) and that the MTU fits"
            }
            Self::Os { .. } => "see af_xdp.rst of the kernel's documentation for this call",
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => f.write_str(what),
            Self::MissingCapability => f.write_str("no CAP_NET_RAW for an AF_XDP socket"),
            Self::KernelTooOld(what) => write!(f, "this kernel has no {what}"),
            Self::Memlock { needed } => write!(
                f,
                "{needed} bytes of packet memory are above the memlock limit, which counts every process of this user"
            ),
            Self::NoSuchInterface { .. } => {
                f.write_str("this network namespace has no such interface")
            }
            Self::InterfaceDown { .. } => f.write_str("the interface is down"),
            Self::NoSuchQueue { rx, tx, .. } => {
                f.write_str("the interface has no such queue")?;
                if let (Some(rx), Some(tx)) = (rx, tx) {
                    write!(f, " (but {rx} to receive and {tx} to transmit)")?;
                }
                Ok(())
            }
            Self::QueueBusy { .. } => f.write_str("another AF_XDP socket has it"),
            Self::ZeroCopyUnsupported { source, .. } => {
                write!(f, "it cannot be bound in zero-copy mode: {source}")
            }
            Self::BindRefused { source, .. } => write!(f, "it cannot be bound: {source}"),
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
