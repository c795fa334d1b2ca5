//! The program on a real interface: modes, who is in the way, what ends the attachment.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::XdpFlags;
use sluice_xdp_prog::{AttachError, AttachMode, Attached, AttachedMode, Reason, Steer};
use support::frames::MORE_FRAGMENTS;
use support::namespace::{command, has_program, in_namespace, interface, veth};
use support::tables::v4;
use support::{capabilities, config, foreign, wire};

const NATIVE: Attached = Attached {
    mode: AttachedMode::Native,
    warning: None,
};
const GENERIC: Attached = Attached {
    mode: AttachedMode::Generic,
    warning: None,
};

fn load() -> Steer {
    Steer::load(&config()).unwrap_or_else(|error| panic!("{error}"))
}

/// How often a fragment for an endpoint, sent by the peer, was dropped as such within a second.
fn dropped_fragments(steer: &Steer, peer: u32) -> u64 {
    wire::send(peer, &v4(|p| p.fragment = MORE_FRAGMENTS));
    let limit = Instant::now() + Duration::from_secs(1);
    loop {
        let counters = steer.counters().unwrap();
        let (_, frames) = counters
            .into_iter()
            .find(|(reason, _)| *reason == Reason::Fragment)
            .unwrap();
        if frames > 0 || Instant::now() > limit {
            return frames;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn veth_runs_the_program_in_native_mode() {
    in_namespace(|| {
        let (ours, peer) = veth();
        let mut steer = load();
        assert_eq!(steer.attach(ours, AttachMode::Native).unwrap(), NATIVE);
        assert_eq!(dropped_fragments(&steer, peer), 1);
    });
}

#[test]
fn veth_runs_the_program_in_generic_mode() {
    in_namespace(|| {
        let (ours, peer) = veth();
        let mut steer = load();
        assert_eq!(steer.attach(ours, AttachMode::Generic).unwrap(), GENERIC);
        assert_eq!(dropped_fragments(&steer, peer), 1);
    });
}

#[test]
fn auto_is_native_where_the_driver_can() {
    in_namespace(|| {
        let (ours, _) = veth();
        assert_eq!(load().attach(ours, AttachMode::Auto).unwrap(), NATIVE);
    });
}

#[test]
fn auto_is_generic_with_a_warning_where_the_driver_cannot() {
    in_namespace(|| {
        let attached = load().attach(interface("lo"), AttachMode::Auto).unwrap();
        assert_eq!(attached.mode, AttachedMode::Generic);
        assert!(attached.warning.unwrap().contains("no native XDP"));
    });
}

#[test]
fn native_is_refused_where_the_driver_cannot() {
    in_namespace(|| {
        let error = load()
            .attach(interface("lo"), AttachMode::Native)
            .unwrap_err();
        assert!(
            matches!(
                error,
                AttachError::NotSupported {
                    mode: AttachedMode::Native,
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn too_few_receive_queues_are_named_and_auto_goes_around_them() {
    in_namespace(|| {
        let peer = [
            "type",
            "veth",
            "peer",
            "name",
            "theirs",
            "numrxqueues",
            "1",
            "numtxqueues",
            "2",
        ];
        command(
            &[
                &[
                    "ip",
                    "link",
                    "add",
                    "ours",
                    "numrxqueues",
                    "1",
                    "numtxqueues",
                    "1",
                ],
                &peer[..],
            ]
            .concat(),
        );
        command(&["ip", "link", "set", "dev", "ours", "up"]);
        let mut steer = load();
        let error = steer
            .attach(interface("ours"), AttachMode::Native)
            .unwrap_err();
        assert!(matches!(error, AttachError::TooFewQueues { .. }), "{error}");
        let attached = steer.attach(interface("ours"), AttachMode::Auto).unwrap();
        assert_eq!(attached.mode, AttachedMode::Generic);
        assert!(attached.warning.unwrap().contains("ethtool -L"));
    });
}

#[test]
fn jumbo_frames_are_no_obstacle_to_native_mode() {
    in_namespace(|| {
        let (ours, _) = veth();
        for end in ["ours", "theirs"] {
            command(&["ip", "link", "set", "dev", end, "mtu", "9000"]);
        }
        assert_eq!(load().attach(ours, AttachMode::Native).unwrap(), NATIVE);
    });
}

#[test]
fn a_foreign_native_program_is_named_in_every_mode() {
    in_namespace(|| {
        let (ours, _) = veth();
        let id = foreign::attach(&foreign::load("other_filter"), ours, XdpFlags::DRV_MODE);
        for mode in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
            let error = load().attach(ours, mode).unwrap_err();
            assert!(
                matches!(error, AttachError::Busy { .. }),
                "{mode:?}: {error}"
            );
            let expected =
                format!("ours already runs an XDP program: \"other_filter\" (id {id}, xdpdrv)");
            assert!(error.to_string().contains(&expected), "{mode:?}: {error}");
        }
    });
}

#[test]
fn a_foreign_generic_program_is_named_in_every_mode() {
    in_namespace(|| {
        let (ours, _) = veth();
        let id = foreign::attach(&foreign::load("other_filter"), ours, XdpFlags::SKB_MODE);
        for mode in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
            let error = load().attach(ours, mode).unwrap_err();
            let expected =
                format!("ours already runs an XDP program: \"other_filter\" (id {id}, xdpgeneric)");
            assert!(error.to_string().contains(&expected), "{mode:?}: {error}");
        }
    });
}

#[test]
fn a_second_sluice_is_told_of_the_first() {
    in_namespace(|| {
        let (ours, _) = veth();
        let mut first = load();
        assert_eq!(first.attach(ours, AttachMode::Auto).unwrap(), NATIVE);
        let error = load().attach(ours, AttachMode::Auto).unwrap_err();
        assert!(
            error.to_string().contains("\"sluice_steer\" (id "),
            "{error}"
        );
        assert!(first.is_attached());
    });
}

#[test]
fn a_foreign_program_whose_name_we_may_not_ask_is_told_by_id() {
    in_namespace(|| {
        let (ours, _) = veth();
        let id = foreign::attach(&foreign::load("other_filter"), ours, XdpFlags::DRV_MODE);
        capabilities::keep_only(&[capabilities::NET_ADMIN, capabilities::BPF]);
        let error = load().attach(ours, AttachMode::Auto).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("bpftool prog show id {id}")),
            "{error}"
        );
    });
}

#[test]
fn dropping_the_program_detaches_it() {
    in_namespace(|| {
        let (ours, _) = veth();
        let mut steer = load();
        assert_eq!(steer.attach(ours, AttachMode::Native).unwrap(), NATIVE);
        assert!(has_program("ours"));
        drop(steer);
        assert!(!has_program("ours"));
    });
}

#[test]
fn a_detached_program_can_be_attached_again() {
    in_namespace(|| {
        let (ours, _) = veth();
        let mut steer = load();
        for (mode, expected) in [(AttachMode::Native, NATIVE), (AttachMode::Generic, GENERIC)] {
            assert_eq!(steer.attach(ours, mode).unwrap(), expected);
            assert!(steer.is_attached() && has_program("ours"));
            steer.detach();
            assert!(!steer.is_attached() && !has_program("ours"));
        }
    });
}

#[test]
fn a_program_serves_one_interface() {
    in_namespace(|| {
        let (ours, peer) = veth();
        let mut steer = load();
        assert_eq!(steer.attach(ours, AttachMode::Native).unwrap(), NATIVE);
        assert!(matches!(
            steer.attach(peer, AttachMode::Native),
            Err(AttachError::AlreadyAttached)
        ));
    });
}

#[test]
fn a_removed_interface_is_noticed() {
    in_namespace(|| {
        let (ours, _) = veth();
        let mut steer = load();
        assert_eq!(steer.attach(ours, AttachMode::Native).unwrap(), NATIVE);
        command(&["ip", "link", "del", "dev", "ours"]);
        assert!(!steer.is_attached());
    });
}

#[test]
fn an_unknown_interface_is_refused() {
    in_namespace(|| {
        for ifindex in [0, 999_999, u32::MAX] {
            let error = load().attach(ifindex, AttachMode::Auto).unwrap_err();
            assert!(
                matches!(error, AttachError::NoSuchInterface { .. }),
                "{error}"
            );
        }
    });
}
