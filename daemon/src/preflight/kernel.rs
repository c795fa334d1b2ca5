//! The kernel: is AF_XDP there, and how much of it.

use super::{Check, Facts, Problem, Scope};

/// XDP programs attached by a link that detaches when the process ends.
const XDP_LINK: (u32, u32) = (5, 9);
/// Packets of several buffers over AF_XDP (`XDP_USE_SG`), without which long ones are dropped.
const MULTI_BUFFER: (u32, u32) = (6, 6);
/// Checksum requests in the TX metadata.
const TX_METADATA: (u32, u32) = (6, 8);

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
    if version < XDP_LINK {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("kernel {release} is too old"),
                "XDP programs cannot be attached by bpf_link, so a crash would leave ours behind",
                "use kernel 6.6 or later, or backend = \"kernel\"",
            ),
        );
    }
    if version < MULTI_BUFFER {
        return Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("kernel {release} has no multi-buffer AF_XDP"),
                "packets beyond 3,840 bytes are dropped",
                "keep the MTU at 1500 and generic attach off, or use kernel 6.6 or later",
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
        format!("kernel {release}: AF_XDP, multi-buffer, bpf_link{metadata}"),
    )
}
