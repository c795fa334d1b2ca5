//! Loading: under which capabilities, under which names, and what the maps refuse.

mod support;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use libbpf_rs::{MapCore, MapHandle, MapType};
use sluice_xdp_prog::{AttachMode, AttachedMode, LoadError, MapError, Steer, SteerConfig, SynGate};
use support::capabilities::{BPF, NET_ADMIN, keep_only};
use support::namespace::{command, has_program, in_namespace, private_mounts, skip, veth};
use support::run::{Rig, xdp_socket};
use support::tables::{good_segments, v4};
use support::{QUEUES, config, config_with_owned};

const MAPS: [&str; 7] = [
    "sluice_config",
    "sluice_dropped_syns",
    "sluice_local",
    "sluice_queues",
    "sluice_sources",
    "sluice_stats",
    "sluice_xsks",
];

const GATE: SynGate = SynGate {
    per_queue: 1000,
    per_source: 100,
    repeats: 100,
};

fn load(config: &SteerConfig) -> Steer {
    Steer::load(config).unwrap_or_else(|error| panic!("{error}"))
}

/// A bpffs of this thread alone, on a directory with this name.
fn bpffs(name: &str) -> PathBuf {
    private_mounts();
    let mount = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&mount).unwrap();
    command(&["mount", "-t", "bpf", "bpf", mount.to_str().unwrap()]);
    mount
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn net_admin_and_bpf_are_enough_to_load_and_attach() {
    in_namespace(|| {
        let (ours, _) = veth();
        keep_only(&[NET_ADMIN, BPF]);
        for config in [
            config(),
            config_with_owned(),
            SteerConfig {
                vlan: true,
                ..config_with_owned()
            },
        ] {
            let mut steer = load(&config);
            let attached = steer.attach(ours, AttachMode::Native).unwrap();
            assert_eq!(attached.mode, AttachedMode::Native);
        }
    });
}

#[test]
fn each_capability_alone_is_named_as_missing() {
    for held in [&[NET_ADMIN][..], &[BPF], &[]] {
        in_namespace(|| {
            keep_only(held);
            let error = Steer::load(&config()).unwrap_err();
            assert!(
                matches!(error, LoadError::MissingCapability),
                "{held:?}: {error}"
            );
        });
    }
}

#[test]
fn a_running_program_is_steered_without_any_capability() {
    in_namespace(|| {
        let (ours, _) = veth();
        let mut steer = load(&config());
        let socket = xdp_socket();
        assert!(steer.attach(ours, AttachMode::Native).is_ok());
        keep_only(&[]);
        steer.insert_socket(0, socket.as_fd()).unwrap();
        steer.set_enabled(true).unwrap();
        steer.set_syn_gate(Some(GATE)).unwrap();
        steer.counters().unwrap();
        steer.remove_socket(0).unwrap();
        assert!(has_program("ours"));
        steer.detach();
        assert!(!has_program("ours"));
    });
}

#[test]
fn counters_start_at_zero() {
    in_namespace(|| {
        let counters = load(&config()).counters().unwrap();
        assert!(
            counters.iter().all(|(_, frames)| *frames == 0),
            "{counters:?}"
        );
    });
}

#[test]
fn counters_add_up_to_the_frames_seen() {
    in_namespace(|| {
        let rig = Rig::serving(&config());
        let frames = good_segments();
        rig.check(&frames);
        let total: u64 = rig
            .steer
            .counters()
            .unwrap()
            .iter()
            .map(|(_, frames)| frames)
            .sum();
        assert_eq!(usize::try_from(total).unwrap(), frames.len());
    });
}

#[test]
fn a_queue_beyond_the_configured_ones_is_refused() {
    in_namespace(|| {
        let steer = load(&config());
        let socket = xdp_socket();
        for result in [
            steer.insert_socket(QUEUES, socket.as_fd()),
            steer.remove_socket(QUEUES),
        ] {
            assert!(matches!(
                result,
                Err(MapError::NoSuchQueue {
                    queue: QUEUES,
                    queues: QUEUES
                })
            ));
        }
    });
}

#[test]
fn only_an_af_xdp_socket_is_accepted() {
    in_namespace(|| {
        let steer = load(&config());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = File::open("/dev/null").unwrap();
        for fd in [udp.as_fd(), file.as_fd()] {
            let error = steer.insert_socket(0, fd).unwrap_err();
            assert!(
                matches!(error, MapError::NotXdpSocket { queue: 0 }),
                "{error}"
            );
        }
    });
}

#[test]
fn a_refusal_of_the_kernel_carries_what_libbpf_said() {
    in_namespace(|| {
        match Steer::load(&SteerConfig {
            queues: u32::MAX,
            ..config()
        }) {
            Err(error @ LoadError::Rejected { .. }) => {
                assert!(error.to_string().contains("sluice_queues"), "{error}")
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn maps_are_pinned_under_their_names_and_gone_with_the_program() {
    in_namespace(|| {
        let pins = bpffs("pins").join("sluice");
        let steer = load(&SteerConfig {
            pin: Some(pins.clone()),
            ..config()
        });
        assert_eq!(names(&pins), MAPS);
        let stats = MapHandle::from_pinned_path(pins.join("sluice_stats")).unwrap();
        assert_eq!(
            (stats.name().to_str(), stats.map_type()),
            (Some("sluice_stats"), MapType::PercpuArray)
        );
        let xsks = MapHandle::from_pinned_path(pins.join("sluice_xsks")).unwrap();
        assert_eq!(
            (xsks.map_type(), xsks.max_entries()),
            (MapType::Xskmap, QUEUES)
        );
        drop(steer);
        assert!(names(&pins).is_empty());
    });
}

#[test]
fn pins_of_a_process_that_died_are_replaced() {
    in_namespace(|| {
        let pins = bpffs("stale-pins").join("sluice");
        let config = SteerConfig {
            pin: Some(pins.clone()),
            ..config()
        };
        std::mem::forget(load(&config));
        assert_eq!(names(&pins), MAPS);
        let steer = load(&config);
        steer.set_enabled(true).unwrap();
        let pinned = MapHandle::from_pinned_path(pins.join("sluice_config")).unwrap();
        let enabled = pinned.lookup(&[0; 4], libbpf_rs::MapFlags::ANY).unwrap();
        assert_eq!(
            enabled.map(|bytes| bytes[..4].to_vec()),
            Some(1u32.to_ne_bytes().to_vec())
        );
    });
}

#[test]
fn a_pin_directory_off_bpffs_is_refused_with_the_remedy() {
    in_namespace(|| {
        let pin = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-bpffs");
        let error = Steer::load(&SteerConfig {
            pin: Some(pin),
            ..config()
        })
        .unwrap_err();
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
    });
}

#[test]
fn bpftool_shows_names_and_fields() {
    if Command::new("bpftool").arg("version").output().is_err() {
        return skip("bpftool is not installed");
    }
    in_namespace(|| {
        let pins = bpffs("bpftool").join("sluice");
        let rig = Rig::serving(&SteerConfig {
            pin: Some(pins.clone()),
            ..config()
        });
        rig.reason(&v4(|_| ()));
        let dump = |map: &str| {
            command(&[
                "bpftool",
                "-j",
                "map",
                "dump",
                "pinned",
                pins.join(map).to_str().unwrap(),
            ])
        };
        assert!(dump("sluice_config").contains(r#""enabled":1"#));
        assert!(dump("sluice_local").contains(r#""family":4"#));
        assert!(dump("sluice_stats").contains(r#""key":16"#));
        let id = libbpf_rs::Program::id_from_fd(rig.steer.as_fd())
            .unwrap()
            .to_string();
        let program = command(&["bpftool", "-j", "prog", "show", "id", &id]);
        assert!(
            program.contains(r#""name":"sluice_steer""#) && program.contains("btf_id"),
            "{program}"
        );
    });
}
