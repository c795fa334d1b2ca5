//! The kernel: is AF_XDP there, and how much of it.
//!
//! The only table of kernel releases; every message that names one takes it from here.
//!
//! | from | what | without it |
//! |---|---|---|
//! | 6.0 | fragments for XDP programs (5.18), map updates without capabilities (5.19) | AF_XDP is refused |
//! | 6.3 | drivers tell their XDP features ([`XDP_FEATURES`]) | they are tried instead |
//! | 6.6 | packets of several frames over AF_XDP, `XDP_USE_SG` ([`MULTI_BUFFER`]) | one frame: MTU up to 3,818 |
//! | 6.8 | checksum requests in the TX metadata ([`TX_METADATA`]) | checksums in software |
//! | 6.18 | the same in copy mode of drivers that take frames as pages ([`PAGED_TX_METADATA`]) | the same there |
//!
//! The flag that asks for TX metadata (`XDP_UMEM_TX_METADATA_LEN`) came as a fix to 6.11 and the stable kernels of
//! its day, the TX budget (`XDP_MAX_TX_SKB_BUDGET`) later still: what a queue has got is in the line of the log that
//! says "ready", not judged by release.

use core::fmt;

use super::{Check, Facts, Problem, Scope};

/// A kernel release: major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The oldest kernel that AF_XDP is used on.
pub const OLDEST: Release = Release(6, 0);
/// The `netdev` netlink family.
pub const XDP_FEATURES: Release = Release(6, 3);
/// Packets of several frames over AF_XDP.
pub const MULTI_BUFFER: Release = Release(6, 6);
/// Checksum requests in the TX metadata.
pub const TX_METADATA: Release = Release(6, 8);
/// Checksum requests of frames that reach the driver as pages of the UMEM (`IFF_TX_SKB_NO_LINEAR`).
pub const PAGED_TX_METADATA: Release = Release(6, 18);
/// The drivers that take them so, in copy mode.
const PAGED_DRIVERS: [&str; 1] = ["virtio_net"];

/// Whether a checksum request in the TX metadata of copy mode is heard. Older kernels take the request, forget it, and
/// send the bare sum of the pseudo-header, which no peer accepts. Zero-copy drivers tell for themselves.
pub fn hears_tx_metadata(version: Option<Release>, driver: &str) -> bool {
    !PAGED_DRIVERS.contains(&driver) || version.is_some_and(|version| version >= PAGED_TX_METADATA)
}

pub(super) fn check(facts: &Facts) -> Check {
    let release = &facts.kernel_release;
    if !facts.af_xdp {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("kernel {release} has no AF_XDP"),
                "socket(AF_XDP) says EAFNOSUPPORT",
                "use a kernel built with CONFIG_XDP_SOCKETS=y, or backend = \"kernel\"",
            ),
        );
    }
    // An unreadable release is no reason to refuse: attach and bind will tell.
    let version = facts.kernel_version().unwrap_or(TX_METADATA);
    if version < OLDEST {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("kernel {release} is too old"),
                "its XDP programs take no packets of several fragments",
                format!("use kernel {OLDEST} or later, or backend = \"kernel\""),
            ),
        );
    }
    if version < MULTI_BUFFER {
        return Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("kernel {release} has no multi-buffer AF_XDP"),
                "packets beyond 3,840 bytes are dropped",
                format!(
                    "keep the MTU at 1500 and generic attach off, or use kernel {MULTI_BUFFER} or later"
                ),
            ),
        );
    }
    let metadata = if version < TX_METADATA {
        ""
    } else {
        ", TX checksum requests"
    };
    Check::pass(
        Scope::Xdp,
        format!("kernel {release}: AF_XDP, multi-buffer{metadata}"),
    )
}
