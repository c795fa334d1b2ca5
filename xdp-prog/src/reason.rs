//! Why a frame got its verdict: the Rust copy of `enum sluice_reason` in `shared.h`.
//!
//! The number is the slot in `sluice_stats` and is never reused; its range is the verdict. A test reads `shared.h` and
//! fails if number, verdict or name differ from what stands here.

use std::fmt;

/// What the program does with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verdict {
    /// The kernel stack gets it (`XDP_PASS`).
    Pass,
    /// An AF_XDP socket gets it (`XDP_REDIRECT`).
    Redirect,
    /// Nobody gets it (`XDP_DROP`).
    Drop,
}

impl Verdict {
    /// The value of the `verdict` label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Redirect => "redirect",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why a frame got its verdict. Numbers 0-15 pass, 16-31 redirect, 32-63 drop.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of the `reason` label in metrics: stable, lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// EtherType is not IP (or a third VLAN tag stands before it).
    NotIp = 0, "not_ip";
    /// IP that carries neither TCP nor anything a Sluice-owned address wants.
    NotTcp = 1, "not_tcp";
    /// TCP for an address or port that is not served here.
    NotLocal = 2, "not_local";
    /// Not the first fragment: without its first one, which is dropped if ours, the kernel never answers it.
    LaterFragment = 3, "later_fragment";
    /// Ends before the destination address.
    Unreadable = 4, "unreadable";
    /// For a socket, the queue has none, and the service is not up yet.
    NotEnabled = 5, "not_enabled";
    /// A TCP segment for a served address and port.
    Tcp = 16, "tcp";
    /// ARP, NDP or ICMP for an address that Sluice answers for itself.
    Owned = 17, "owned";
    /// An ICMP error about a segment from a served address and port.
    Icmp = 18, "icmp";
    /// A SYN that the gate dropped before and that its sender repeats: it passes at a rate of its own.
    SynAgain = 19, "syn_again";
    /// For a socket, the queue has none, and the service is up: the kernel would answer RST.
    NoSocket = 32, "no_socket";
    /// For a served address, and the headers end early.
    Truncated = 33, "truncated";
    /// For a served address: IP version or header length impossible.
    IpHeader = 34, "ip_header";
    /// IP total length beyond the frame or too short for a TCP header; IPv6 jumbograms.
    IpLength = 35, "ip_length";
    /// IPv4 options.
    IpOptions = 36, "ip_options";
    /// First fragment, or an IPv6 atomic fragment.
    Fragment = 37, "fragment";
    /// More than 8 IPv6 extension headers, or more than 256 bytes of them.
    ExtensionHeaders = 38, "extension_headers";
    /// IPv6 routing header of type 0, or of any type with segments left.
    RoutingHeader = 39, "routing_header";
    /// VLAN tag where none is configured (the kernel accepts priority tags).
    VlanTag = 40, "vlan_tag";
    /// TCP data offset below 20 bytes or beyond the packet.
    TcpHeader = 41, "tcp_header";
    /// A SYN beyond the rate of its receive queue, while the gate is armed.
    SynRate = 42, "syn_rate";
    /// A SYN beyond the rate of its source network, while the gate is armed.
    SynSourceRate = 43, "syn_source_rate";
}

impl Reason {
    /// The number of the reason, which is its slot in `sluice_stats`.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The verdict of every frame counted under this reason.
    pub const fn verdict(self) -> Verdict {
        match self.number() {
            0..=15 => Verdict::Pass,
            16..=31 => Verdict::Redirect,
            _ => Verdict::Drop,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::header_constant;

    /// The lines `SLUICE_<VERDICT>_<NAME> = <number>,` of `enum sluice_reason`, each with the comment above it.
    fn enum_in_header() -> Vec<(u8, String, String, String)> {
        let header = include_str!("shared.h");
        let body = header
            .split_once("enum sluice_reason {")
            .unwrap()
            .1
            .split_once("};")
            .unwrap()
            .0;
        let mut comment = String::new();
        let mut found = Vec::new();
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(text) = line.strip_prefix("/*") {
                comment = text.trim_end_matches("*/").trim().to_owned();
                continue;
            }
            let (name, number) = line.strip_suffix(',').unwrap().split_once(" = ").unwrap();
            let (verdict, name) = name
                .strip_prefix("SLUICE_")
                .unwrap()
                .split_once('_')
                .unwrap();
            found.push((
                number.parse().unwrap(),
                verdict.to_lowercase(),
                name.to_lowercase(),
                comment.clone(),
            ));
        }
        found
    }

    #[test]
    fn shared_header_and_rust_agree_on_number_verdict_and_name() {
        let in_rust: Vec<_> = Reason::ALL
            .iter()
            .map(|reason| {
                (
                    reason.number(),
                    reason.verdict().name().to_owned(),
                    reason.name().to_owned(),
                )
            })
            .collect();
        let in_header: Vec<_> = enum_in_header()
            .into_iter()
            .map(|(number, verdict, name, _)| (number, verdict, name))
            .collect();
        assert_eq!(in_header, in_rust);
    }

    #[test]
    fn shared_header_and_rust_explain_each_reason_alike() {
        let source = include_str!("reason.rs");
        for (_, _, name, comment) in enum_in_header() {
            assert!(
                source.contains(&format!("/// {comment}\n")),
                "{name}: {comment:?} stands only in shared.h"
            );
        }
    }

    #[test]
    fn shared_header_splits_the_verdicts_where_rust_does() {
        assert_eq!(header_constant("SLUICE_REDIRECT_FIRST"), 16);
        assert_eq!(header_constant("SLUICE_DROP_FIRST"), 32);
        assert_eq!(header_constant("SLUICE_REASON_SLOTS"), 64);
    }

    #[test]
    fn numbers_rise_and_fit_the_counter_map() {
        assert!(Reason::ALL.is_sorted_by(|a, b| a.number() < b.number()));
        assert!(Reason::ALL.iter().all(|reason| reason.number() < 64));
    }
}
