//! The interface: does it exist, is it up, do MTU, driver and queues fit what is asked.

use std::io;

use super::attach::attach_choice;
use super::kernel::{MULTI_BUFFER, XDP_FEATURES};
use super::link::{InterfaceFacts, XdpFeatures};
use super::{Check, Facts, Problem, Scope, lane};
use crate::config::{Attach, Bind, ChecksumRx, Config, Queues};
use crate::limits::{CHUNK_PACKET_BYTES, LINK_HEADER_BYTES, MTU_MAX};
use crate::placement::plan;

/// Linear part of a frame that a driver hands to a program without fragments: a page less headroom (256) and
/// `skb_shared_info` (320), less link header and FCS.
pub(super) const NATIVE_LINEAR_MTU: u32 = 3506;

/// Packet bytes of a zero-copy buffer when packets may have several: a chunk less headroom (256) and
/// `skb_shared_info` (320), down to a multiple of 128.
const ZERO_COPY_SEGMENT_BYTES: u32 = 3456;

/// The receive queues that are served.
#[must_use]
pub fn served_queues(config: &Config, link: &InterfaceFacts) -> Vec<u32> {
    match &config.xdp.queues {
        Queues::List(queues) => queues.clone(),
        // Without sysfs: at least the first exists.
        Queues::All => (0..link.device.as_ref().map_or(1, |device| device.rx_queues)).collect(),
    }
}

/// No interface is configured.
pub(super) fn unnamed() -> Check {
    Check::fail(
        Scope::Xdp,
        Problem::new(
            "no interface is named",
            "",
            "interface = \"eth1\" in [xdp] or --interface NAME (`ip -br link` lists them), \
             or backend = \"kernel\"",
        ),
    )
}

/// The configured interface cannot be looked at.
pub(super) fn missing(config: &Config, error: &io::Error) -> Check {
    let name = config.xdp.interface.as_deref().unwrap_or_default();
    if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) {
        return Check::fail(
            Scope::Named,
            Problem::new(
                format!("no such interface: {name}"),
                "this network namespace has none of that name",
                "correct xdp.interface or --interface; `ip -br link` lists the names",
            ),
        );
    }
    Check::fail(
        Scope::Xdp,
        Problem::new(
            format!("interface {name} cannot be queried"),
            error.to_string(),
            "allow netlink sockets (RestrictAddressFamilies= must include AF_NETLINK)",
        ),
    )
}

pub(super) fn checks(config: &Config, facts: &Facts, link: &InterfaceFacts) -> Vec<Check> {
    let mut checks = vec![state(link), mtu(config, facts, link)];
    checks.push(program(link));
    checks.push(driver(config, facts, link));
    checks.extend(queues(config, link));
    checks.extend(placement(config, facts, link));
    checks.push(lane::check(config, facts, link));
    checks.push(checksums(config, link));
    checks
}

fn state(link: &InterfaceFacts) -> Check {
    let name = &link.name;
    if link.loopback {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("{name} is a loopback interface"),
                "AF_XDP is not reliable there",
                "name the interface that clients reach, or use backend = \"kernel\"",
            ),
        );
    }
    if link.mac.is_none() {
        return Check::fail(Scope::Xdp, no_mac(name));
    }
    if !link.up {
        return Check::fail(
            Scope::Named,
            Problem::new(
                format!("{name} is down"),
                "no packet arrives on it",
                format!("ip link set dev {name} up"),
            ),
        );
    }
    if !link.carrier {
        return Check::warn(
            Scope::Named,
            Problem::new(
                format!("{name} has no carrier"),
                "nothing arrives until the other end is up",
                "check the cable, the switch port, or the peer of a veth",
            ),
        );
    }
    Check::pass(
        Scope::Named,
        format!("{name}: up, {}, MTU {}", link.driver(), link.mtu),
    )
}

/// An interface without a MAC address: neither frames nor answers for owned addresses could be built.
pub fn no_mac(name: &str) -> Problem {
    Problem::new(
        format!("{name} has no MAC address"),
        "frames are built with Ethernet headers, and owned addresses are announced with it",
        "name an Ethernet interface (tap instead of tun), or use backend = \"kernel\"",
    )
}

fn mtu(config: &Config, facts: &Facts, link: &InterfaceFacts) -> Check {
    let too_large = |limit: u32, why: &str, more: &str| {
        Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("{} has MTU {}, too large", link.name, link.mtu),
                format!("{why}: at most {limit}"),
                format!("ip link set dev {} mtu {limit}{more}", link.name),
            ),
        )
    };
    if link.mtu > MTU_MAX {
        return too_large(MTU_MAX, "a packet has at most 18 frames", "");
    }
    let single = CHUNK_PACKET_BYTES - LINK_HEADER_BYTES;
    if facts
        .kernel_version()
        .is_some_and(|version| version < MULTI_BUFFER)
        && link.mtu > single
    {
        return too_large(single, "this kernel has no multi-buffer AF_XDP", "");
    }
    let Some(features) = link.features else {
        return Check::pass(Scope::Xdp, format!("MTU {} fits", link.mtu));
    };
    if config.xdp.attach == Attach::Native && !features.multi_buffer && link.mtu > NATIVE_LINEAR_MTU
    {
        let why = format!(
            "the driver ({}) takes no fragments in native mode",
            link.driver()
        );
        return too_large(NATIVE_LINEAR_MTU, &why, ", or attach = \"generic\"");
    }
    let zero_copy = zero_copy_mtu(&features);
    if config.xdp.bind == Bind::ZeroCopy && features.zero_copy && link.mtu > zero_copy {
        let why = format!(
            "the driver ({}) takes {} zero-copy buffers per packet",
            link.driver(),
            features.zero_copy_segments
        );
        return too_large(zero_copy, &why, ", or bind = \"copy\"");
    }
    Check::pass(Scope::Xdp, format!("MTU {} fits", link.mtu))
}

impl InterfaceFacts {
    /// Whether a packet of its MTU fits the zero-copy buffers that its driver takes for one; true if it does not tell.
    #[must_use]
    pub fn fits_zero_copy(&self) -> bool {
        self.features
            .is_none_or(|features| self.mtu <= zero_copy_mtu(&features))
    }
}

fn zero_copy_mtu(features: &XdpFeatures) -> u32 {
    ZERO_COPY_SEGMENT_BYTES
        .saturating_mul(features.zero_copy_segments.max(1))
        .saturating_sub(LINK_HEADER_BYTES)
}

/// The programs in our place. Ours is no mistake of anybody: a sluiced serves here.
fn program(link: &InterfaceFacts) -> Check {
    let name = &link.name;
    let Some(first) = link.programs.first() else {
        return Check::pass(Scope::Xdp, format!("no XDP program on {name}"));
    };
    if link.serving_sluiced().is_some() {
        return Check::running(Problem::new(
            format!("a sluiced already serves on {name}"),
            format!("XDP program {first} is attached to it"),
            "stop that one first, if another shall take its place",
        ));
    }
    let programs: Vec<_> = link.programs.iter().map(ToString::to_string).collect();
    Check::fail(
        Scope::Xdp,
        Problem::new(
            format!("{name} has an XDP program already"),
            programs.join(", "),
            first.removal(name),
        ),
    )
}

fn driver(config: &Config, facts: &Facts, link: &InterfaceFacts) -> Check {
    let Some(features) = link.features else {
        return Check::info(
            Scope::Xdp,
            format!(
                "{} ({}): XDP abilities unknown (kernels from {XDP_FEATURES} on tell), native is tried before generic",
                link.name,
                link.driver()
            ),
        );
    };
    let name = format!("{} ({})", link.name, link.driver());
    let yes_no = |able| if able { "yes" } else { "no" };
    let summary = format!(
        "{name}: native XDP {}, zero copy {}",
        yes_no(features.native),
        yes_no(features.zero_copy)
    );
    if config.xdp.attach == Attach::Native && !features.native {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("{name} has no native XDP"),
                "the driver cannot redirect",
                "attach = \"auto\" or \"generic\"",
            ),
        );
    }
    if config.xdp.bind == Bind::ZeroCopy && !features.zero_copy {
        return Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("{name} has no zero copy"),
                "the driver has no buffer pool for AF_XDP",
                "bind = \"auto\" or \"copy\"",
            ),
        );
    }
    if config.xdp.attach == Attach::Auto && !features.native {
        return Check::warn(
            Scope::Xdp,
            Problem::new(
                summary,
                "generic XDP is used, which is slower for small packets",
                "attach = \"generic\" if that is what you want",
            ),
        );
    }
    let choice = attach_choice(config, link, facts.kernel_version());
    let text = format!("{summary}; attach {}: {}", choice.name(), choice.why);
    Check::pass(Scope::Xdp, text)
}

fn queues(config: &Config, link: &InterfaceFacts) -> Vec<Check> {
    let name = &link.name;
    let Some(device) = &link.device else {
        return vec![Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("queues of {name} are unknown"),
                "/sys is not mounted, or is that of another network namespace",
                "mount sysfs in the namespace, as `ip netns exec` does",
            ),
        )];
    };
    let served = served_queues(config, link);
    let highest = served.iter().copied().max().unwrap_or(0);
    if highest >= device.rx_queues {
        return vec![Check::fail(
            Scope::Named,
            Problem::new(
                format!("{name} has no receive queue {highest}"),
                format!("it has {}, numbered from 0", device.rx_queues),
                format!(
                    "queues = \"all\", or `ethtool -L {name} combined {}`",
                    highest + 1
                ),
            ),
        )];
    }
    if highest >= device.tx_queues {
        return vec![Check::fail(
            Scope::Xdp,
            Problem::new(
                format!("{name} has no transmit queue {highest}"),
                format!(
                    "it has {} for {} receive queues, and a socket sends on the queue it receives on",
                    device.tx_queues, device.rx_queues
                ),
                format!("`ethtool -L {name} tx {}`", highest + 1),
            ),
        )];
    }
    let count = u32::try_from(served.len()).unwrap_or(u32::MAX);
    if count < device.rx_queues {
        return vec![Check::warn(
            Scope::Xdp,
            Problem::new(
                format!(
                    "{count} of {} receive queues of {name} are served",
                    device.rx_queues
                ),
                "connections that land on another one fail",
                format!(
                    "queues = \"all\", or `ethtool -L {name} combined {count}` (veth: rx {count})"
                ),
            ),
        )];
    }
    vec![Check::pass(
        Scope::Xdp,
        format!("{name}: {count} receive {}", plural(count, "queue")),
    )]
}

fn placement(config: &Config, facts: &Facts, link: &InterfaceFacts) -> Option<Check> {
    let queues = served_queues(config, link);
    match plan(&facts.cpus, &queues, config.xdp.cores.as_deref()) {
        Err(error) => Some(Check::fail(
            Scope::Named,
            Problem::new(
                error.to_string(),
                format!("the process may use CPUs {:?}", facts.cpus),
                "correct xdp.cores (one CPU per queue), or leave it out",
            ),
        )),
        Ok(plan) if plan.crowded => Some(Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("{} workers for {} CPUs", queues.len(), facts.cpus.len()),
                "workers that share a CPU wait for each other",
                format!("`ethtool -L {} combined {}`", link.name, facts.cpus.len()),
            ),
        )),
        Ok(_) => None,
    }
}

fn checksums(config: &Config, link: &InterfaceFacts) -> Check {
    let software_peer = link.has_software_peer();
    if config.xdp.checksum_rx == ChecksumRx::AcceptPartial && !software_peer {
        return Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("{} accepts partial checksums", link.name),
                "a frame that a wire behind it corrupted into that form would be taken as good",
                "checksum_rx = \"auto\"; the other form only exists between virtual machines and veths",
            ),
        );
    }
    if config.xdp.checksum_rx == ChecksumRx::Verify && software_peer {
        return Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("{} is virtual and partial checksums are refused", link.name),
                "peers with checksum offload are not understood",
                "checksum_rx = \"auto\", or `ethtool -K <peer> tx off`",
            ),
        );
    }
    let policy = match config.xdp.checksum_rx.accepts_partial(software_peer) {
        true => "verified, partial ones of virtual peers accepted",
        false => "verified",
    };
    Check::info(Scope::Xdp, format!("receive checksums: {policy}"))
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}
