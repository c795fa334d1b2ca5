//! By which lane bulk data leaves a queue, and why: one decision for start-up and `sluice doctor`.
//!
//! Where the kernel copies each packet anyway, few large packets cost least: super-segments. Where the NIC reads the memory
//! itself (zero copy), the file blocks can be that memory, if its driver takes a packet in pieces: headers in a frame, then
//! slices of the block. Else every segment is copied into a frame. On what a queue can, [`TxPath`] says.

use super::attach::attach_choice;
use super::kernel::MULTI_BUFFER;
use super::link::InterfaceFacts;
use super::{Check, Facts, Problem, Scope};
use crate::config::{Bind, Config, TxLane};
use crate::limits::CHAIN_FRAMES;
use crate::worker::can_gather;

/// A way of bulk data to the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Each segment copied into frames of the ring.
    Copy,
    /// Headers in a frame of the ring, payload from the file blocks.
    Gather,
    /// Super-segments through a packet socket.
    Tso,
}

/// A lane and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneChoice {
    /// The lane.
    pub lane: Lane,
    /// One clause, for log and report.
    pub why: String,
}

/// What a queue can do with packets to send, as it is bound or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxPath<'a> {
    /// Driver of the interface.
    pub driver: &'a str,
    /// The NIC reads the memory itself.
    pub zero_copy: bool,
    /// Pieces of a packet at most; with zero copy, `xdp-zc-max-segs` of the driver.
    pub packet_frames: usize,
}

/// The lane of a queue. It is that of the configuration if that names one.
///
/// # Errors
/// The one that is named cannot be had.
pub fn lane_choice(configured: TxLane, path: &TxPath<'_>) -> Result<LaneChoice, Problem> {
    let named = |lane| LaneChoice {
        lane,
        why: "as configured".to_owned(),
    };
    match configured {
        TxLane::Auto => Ok(automatic(path)),
        TxLane::Copy => Ok(named(Lane::Copy)),
        TxLane::Tso => Ok(named(Lane::Tso)),
        TxLane::Gather if can_gather(path.packet_frames) => Ok(named(Lane::Gather)),
        TxLane::Gather => Err(no_gather(path)),
    }
}

fn automatic(path: &TxPath<'_>) -> LaneChoice {
    let driver = path.driver;
    match (path.zero_copy, path.packet_frames) {
        (false, _) => LaneChoice {
            lane: Lane::Tso,
            why: format!(
                "the kernel copies what leaves by {driver}, and 64 KiB at once cost it least; \"gather\" would save no \
                 copy and cost a page for each piece"
            ),
        },
        (true, pieces) if can_gather(pieces) => LaneChoice {
            lane: Lane::Gather,
            why: format!(
                "{driver} reads the memory itself and takes {pieces} pieces of a packet, so payload leaves from the file \
                 blocks"
            ),
        },
        (true, _) => LaneChoice {
            lane: Lane::Copy,
            why: format!(
                "{driver} takes a packet in one piece with zero copy (xdp-zc-max-segs is 1), so \"gather\" cannot be had"
            ),
        },
    }
}

fn no_gather(path: &TxPath<'_>) -> Problem {
    let what = "tx_lane = \"gather\" cannot be had";
    match path.zero_copy {
        true => Problem::new(
            what,
            format!(
                "{} takes a packet in one piece with zero copy (xdp-zc-max-segs is 1), and the lane sends headers and \
                 payload as pieces of one",
                path.driver
            ),
            "tx_lane = \"auto\" or \"copy\", or bind = \"copy\"",
        ),
        false => Problem::new(
            what,
            "this kernel has no multi-buffer AF_XDP, and the lane sends headers and payload as pieces of one packet",
            format!("use kernel {MULTI_BUFFER} or later, or tx_lane = \"auto\""),
        ),
    }
}

/// What queues will be able to do, from what the driver says. Binding has the last word.
fn expected<'a>(
    config: &Config,
    kernel_chains: bool,
    link: &'a InterfaceFacts,
    is_native: bool,
) -> TxPath<'a> {
    let zero_copy = link
        .features
        .filter(|features| features.zero_copy)
        .filter(|_| match config.xdp.bind {
            Bind::Auto => is_native && link.fits_zero_copy(),
            Bind::Copy => false,
            Bind::ZeroCopy => true,
        });
    let pieces = match zero_copy {
        Some(features) => features.zero_copy_segments,
        None if kernel_chains => CHAIN_FRAMES,
        None => 1,
    };
    TxPath {
        driver: link.driver(),
        zero_copy: zero_copy.is_some(),
        packet_frames: usize::try_from(pieces).unwrap_or(1),
    }
}

/// Whether room for TX metadata in the UMEM would only be in the way: a driver that ignores it with zero copy, and packets
/// that go by the gather lane, where it keeps 16 bytes of every chunk from being sent from where they lie.
#[must_use]
pub fn metadata_hinders(config: &Config, link: &InterfaceFacts, is_native: bool) -> bool {
    let path = expected(config, true, link, is_native);
    let gathers = lane_choice(config.xdp.tx_lane, &path).is_ok_and(|it| it.lane == Lane::Gather);
    let ignored = link.features.is_some_and(|features| !features.tx_checksum);
    path.zero_copy && gathers && ignored
}

pub(super) fn check(config: &Config, facts: &Facts, link: &InterfaceFacts) -> Check {
    let is_native = attach_choice(config, link, facts.kernel_version()).name() == "native";
    let kernel_chains = facts
        .kernel_version()
        .is_none_or(|version| version >= MULTI_BUFFER);
    let path = expected(config, kernel_chains, link, is_native);
    match lane_choice(config.xdp.tx_lane, &path) {
        Ok(choice) => Check::pass(
            Scope::Xdp,
            format!("TX lane {}: {}", choice.name(), choice.why),
        ),
        Err(problem) => Check::fail(Scope::Xdp, problem),
    }
}

impl LaneChoice {
    /// The word of the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.lane {
            Lane::Copy => "copy",
            Lane::Gather => "gather",
            Lane::Tso => "tso",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, good_link};
    use super::*;

    fn path(zero_copy: bool, packet_frames: usize) -> TxPath<'static> {
        TxPath {
            driver: "ice",
            zero_copy,
            packet_frames,
        }
    }

    #[test]
    fn auto_gathers_only_where_the_nic_reads_several_pieces_itself() {
        for (zero_copy, pieces, lane, why) in [
            (true, 8, Lane::Gather, "takes 8 pieces"),
            (true, 2, Lane::Gather, "takes 2 pieces"),
            (true, 1, Lane::Copy, "xdp-zc-max-segs is 1"),
            (false, 18, Lane::Tso, "would save no copy"),
            (false, 1, Lane::Tso, "the kernel copies"),
        ] {
            let choice = lane_choice(TxLane::Auto, &path(zero_copy, pieces)).expect("no demand");
            assert_eq!(choice.lane, lane, "{zero_copy} {pieces}");
            assert!(choice.why.contains(why), "{}", choice.why);
        }
    }

    #[test]
    fn a_lane_that_is_named_is_taken_or_refused_with_a_fix() {
        let named = |lane, path: TxPath<'_>| lane_choice(lane, &path);
        assert_eq!(
            named(TxLane::Gather, path(false, 18)).map(|it| it.lane),
            Ok(Lane::Gather),
            "slow, but right"
        );
        assert_eq!(
            named(TxLane::Tso, path(true, 8)).map(|it| it.lane),
            Ok(Lane::Tso)
        );
        assert_eq!(
            named(TxLane::Copy, path(true, 8)).map(|it| it.lane),
            Ok(Lane::Copy)
        );
        let one_piece = named(TxLane::Gather, path(true, 1)).expect_err("one piece");
        assert!(one_piece.fix.contains("bind = \"copy\""), "{one_piece}");
        let old_kernel = named(TxLane::Gather, path(false, 1)).expect_err("no multi-buffer");
        assert!(old_kernel.fix.contains("kernel 6.6"), "{old_kernel}");
    }

    #[test]
    fn metadata_is_left_out_where_a_gathering_driver_ignores_it() {
        let hinders = |xdp: &str, change: &dyn Fn(&mut InterfaceFacts)| {
            let mut link = good_link();
            change(&mut link);
            metadata_hinders(&config(xdp), &link, true)
        };
        let features = |change: fn(&mut super::super::XdpFeatures)| {
            move |link: &mut InterfaceFacts| {
                if let Some(features) = &mut link.features {
                    change(features);
                }
            }
        };
        assert!(hinders("", &|_| ()));
        assert!(!hinders("tx_lane = \"copy\"", &|_| ()));
        assert!(!hinders("bind = \"copy\"", &|_| ()));
        assert!(!hinders("", &features(|it| it.tx_checksum = true)));
        assert!(!hinders("", &features(|it| it.zero_copy_segments = 1)));
        assert!(!hinders("", &features(|it| it.zero_copy = false)));
        assert!(!metadata_hinders(&config(""), &good_link(), false));
    }
}
