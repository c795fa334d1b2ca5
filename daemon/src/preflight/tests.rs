//! Verdicts over facts that were made up, with the exact texts operators see; one test looks at a real veth.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use sluice_disk::UploadError;
use sluice_xdp_prog::ForeignProgram;

use super::*;
use crate::config::Overrides;

const GIB: u64 = 1 << 30;

/// A configuration with these lines under `[xdp]`.
pub(super) fn config(xdp: &str) -> Config {
    let overrides = Overrides {
        root: Some("/srv/files".into()),
        ..Overrides::default()
    };
    let text = format!("[xdp]\ninterface = \"eth1\"\n{xdp}\n");
    Config::parse("f.toml", &text, &overrides).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A physical interface that can do everything.
pub(super) fn good_link() -> InterfaceFacts {
    InterfaceFacts {
        name: "eth1".to_owned(),
        index: 3,
        up: true,
        carrier: true,
        loopback: false,
        mtu: 1500,
        mac: Some(sluice_wire::MacAddr([2, 0, 0, 0, 0, 1])),
        kind: None,
        programs: Vec::new(),
        device: Some(DeviceFacts {
            driver: Some("ice".to_owned()),
            rx_queues: 2,
            tx_queues: 2,
        }),
        features: Some(XdpFeatures {
            native: true,
            zero_copy: true,
            multi_buffer: true,
            zero_copy_segments: 8,
            tx_checksum: false,
        }),
        addresses: vec![address("192.0.2.10")],
        addresses_elsewhere: vec![address("127.0.0.1")],
    }
}

/// A machine on which everything works.
fn good(config: &Config) -> Facts {
    let free = |addresses: &[IpAddr]| {
        let endpoints = config.endpoints(addresses).into_iter();
        endpoints.map(|endpoint| (endpoint, Ok(()))).collect()
    };
    Facts {
        kernel_release: "6.18.44".to_owned(),
        af_xdp: true,
        privileges: Privileges {
            uid: 998,
            net_admin: true,
            net_raw: true,
            bpf: true,
            ipc_lock: true,
            initial_user_namespace: true,
            memlock: Some(8 << 20),
            descriptors: Some(1 << 20),
            file_size: None,
        },
        interface: Some(Ok(good_link())),
        xdp_ports: free(&[address("192.0.2.10")]),
        kernel_ports: free(&config.kernel_addresses()),
        listening: BTreeSet::new(),
        roots: vec![Ok(())],
        uploads: Vec::new(),
        cpus: vec![0, 1, 2, 3],
    }
}

/// Judges the good machine after a change to it, or to its interface.
fn judged(xdp: &str, change: impl FnOnce(&mut Facts)) -> Preflight {
    let config = config(xdp);
    let mut facts = good(&config);
    change(&mut facts);
    judge(&config, &facts)
}

fn judged_link(xdp: &str, change: impl FnOnce(&mut InterfaceFacts)) -> Preflight {
    judged(xdp, |facts| {
        if let Some(Ok(link)) = &mut facts.interface {
            change(link);
        }
    })
}

/// The failures, as start-up prints them.
fn failures(preflight: &Preflight) -> Vec<String> {
    let failures = preflight.checks.iter().filter_map(Check::failure);
    failures.map(Problem::to_string).collect()
}

fn warnings(preflight: &Preflight) -> Vec<String> {
    let warnings = preflight.warnings(ActiveBackend::Xdp);
    warnings.map(Problem::to_string).collect()
}

fn serves(preflight: &Preflight) -> Option<ActiveBackend> {
    match preflight.decide() {
        Decision::Serve { backend, .. } => Some(backend),
        Decision::Refuse(_) => None,
    }
}

mod decisions {
    use super::*;

    #[test]
    fn a_good_machine_serves_over_af_xdp() {
        for backend in ["auto", "xdp"] {
            let preflight = judged(&format!("backend = \"{backend}\""), |_| ());
            let served = Decision::Serve {
                backend: ActiveBackend::Xdp,
                fallback: None,
            };
            assert_eq!(preflight.decide(), served);
            assert_eq!(warnings(&preflight), [""; 0]);
        }
    }

    #[test]
    fn auto_falls_back_with_one_line_that_says_why() {
        let preflight = judged("", |facts| facts.privileges.net_raw = false);
        let Decision::Serve { backend, fallback } = preflight.decide() else {
            panic!("{preflight:?}");
        };
        assert_eq!(backend, ActiveBackend::Kernel);
        assert_eq!(
            fallback.unwrap(),
            "serving over kernel sockets, AF_XDP cannot run: missing CAP_NET_RAW: uid 998 may not use AF_XDP \
             -> run as root, or AmbientCapabilities=CAP_NET_RAW in the unit, or `setcap cap_net_raw+ep` on \
             the binary"
        );
    }

    #[test]
    fn xdp_never_falls_back() {
        let preflight = judged("backend = \"xdp\"", |facts| facts.privileges.bpf = false);
        assert!(matches!(preflight.decide(), Decision::Refuse(problems) if problems.len() == 1));
    }

    #[test]
    fn kernel_asks_nothing_of_af_xdp() {
        let preflight = judged("backend = \"kernel\"", |facts| {
            facts.af_xdp = false;
            facts.interface = Some(Err(Errno::NODEV.into()));
        });
        let served = Decision::Serve {
            backend: ActiveBackend::Kernel,
            fallback: None,
        };
        assert_eq!(preflight.decide(), served);
    }

    #[test]
    fn a_wrong_name_stops_auto_too() {
        let preflight = judged("", |facts| facts.interface = Some(Err(Errno::NODEV.into())));
        assert_eq!(serves(&preflight), None);
    }

    #[test]
    fn without_an_interface_auto_means_kernel_sockets() {
        let preflight = judged("", |facts| facts.interface = None);
        assert_eq!(serves(&preflight), Some(ActiveBackend::Kernel));
    }

    #[test]
    fn a_taken_wildcard_port_matters_to_the_fallback_only() {
        let take = |facts: &mut Facts| facts.kernel_ports[0].1 = Err(Errno::ADDRINUSE);
        let preflight = judged("", take);
        assert_eq!(serves(&preflight), Some(ActiveBackend::Xdp));
        assert_eq!(failures(&preflight), [""; 0]);
        let preflight = judged("", |facts| {
            take(facts);
            facts.af_xdp = false;
        });
        let Decision::Refuse(problems) = preflight.decide() else {
            panic!("{preflight:?}");
        };
        // Either can be repaired, so both are told.
        assert_eq!(problems.len(), 2);
    }
}

mod problems {
    use super::*;

    #[test]
    fn no_such_interface() {
        let preflight = judged("", |facts| facts.interface = Some(Err(Errno::NODEV.into())));
        assert_eq!(
            failures(&preflight),
            [
                "no such interface: eth1: this network namespace has none of that name \
              -> correct xdp.interface or --interface; `ip -br link` lists the names"
            ]
        );
    }

    #[test]
    fn netlink_forbidden() {
        let denied = io::Error::from(Errno::AFNOSUPPORT);
        let preflight = judged("", |facts| facts.interface = Some(Err(denied)));
        assert!(
            failures(&preflight)[0].contains("RestrictAddressFamilies= must include AF_NETLINK")
        );
    }

    #[test]
    fn link_down() {
        let preflight = judged_link("", |link| link.up = false);
        assert_eq!(
            failures(&preflight),
            ["eth1 is down: no packet arrives on it -> ip link set dev eth1 up"]
        );
    }

    #[test]
    fn no_carrier_is_a_warning() {
        let preflight = judged_link("", |link| link.carrier = false);
        assert_eq!(serves(&preflight), Some(ActiveBackend::Xdp));
        assert_eq!(
            warnings(&preflight),
            [
                "eth1 has no carrier: nothing arrives until the other end is up \
              -> check the cable, the switch port, or the peer of a veth"
            ]
        );
    }

    #[test]
    fn every_missing_capability_is_named() {
        let preflight = judged("", |facts| {
            facts.privileges.net_admin = false;
            facts.privileges.bpf = false;
        });
        assert_eq!(
            failures(&preflight),
            [
                "missing CAP_NET_ADMIN, CAP_BPF: uid 998 may not use AF_XDP -> run as root, or \
              AmbientCapabilities=CAP_NET_ADMIN CAP_BPF in the unit, or `setcap cap_net_admin,cap_bpf+ep` \
              on the binary"
            ]
        );
    }

    #[test]
    fn root_of_a_user_namespace_is_not_enough() {
        let preflight = judged("", |facts| facts.privileges.initial_user_namespace = false);
        assert_eq!(
            failures(&preflight)[0],
            "capabilities are those of a user namespace: BPF programs and locked memory need them in the \
             initial one -> run outside of the user namespace (no userns remapping, no PrivateUsers=)"
        );
    }

    #[test]
    fn memlock_too_small_for_the_umem() {
        let preflight = judged("", |facts| facts.privileges.ipc_lock = false);
        assert_eq!(
            failures(&preflight),
            ["memlock 8MiB < 128MiB UMEM and no CAP_IPC_LOCK \
              -> LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK or umem = \"4MiB\""]
        );
    }

    #[test]
    fn memlock_that_suffices_passes_without_the_capability() {
        for limit in [Some(GIB), None] {
            let preflight = judged("", |facts| {
                facts.privileges.ipc_lock = false;
                facts.privileges.memlock = limit;
            });
            assert_eq!(failures(&preflight), [""; 0]);
        }
    }

    #[test]
    fn the_fix_for_memlock_offers_no_umem_that_is_too_small() {
        let preflight = judged("", |facts| {
            facts.privileges.ipc_lock = false;
            facts.privileges.memlock = Some(7 << 20);
        });
        assert!(failures(&preflight)[0].ends_with("AmbientCapabilities=CAP_IPC_LOCK"));
    }

    #[test]
    fn no_af_xdp_in_the_kernel() {
        let preflight = judged("", |facts| facts.af_xdp = false);
        assert_eq!(
            failures(&preflight),
            [
                "kernel 6.18.44 has no AF_XDP: socket(AF_XDP) says EAFNOSUPPORT \
              -> use a kernel built with CONFIG_XDP_SOCKETS=y, or backend = \"kernel\""
            ]
        );
    }

    #[test]
    fn old_kernels_fail_or_warn() {
        let judged_on =
            |release: &str| judged("", |facts| facts.kernel_release = release.to_owned());
        assert_eq!(
            serves(&judged_on("5.4.0-150-generic")),
            Some(ActiveBackend::Kernel)
        );
        assert_eq!(serves(&judged_on("5.15.0")), Some(ActiveBackend::Kernel));
        assert_eq!(
            serves(&judged_on("6.1.0-28-amd64")),
            Some(ActiveBackend::Xdp)
        );
        assert!(warnings(&judged_on("6.1.0-28-amd64"))[0].contains("no multi-buffer AF_XDP"));
        assert_eq!(warnings(&judged_on("6.6.0")), [""; 0]);
        assert_eq!(failures(&judged_on("strange")), [""; 0]);
    }

    #[test]
    fn checksums_are_not_asked_of_kernels_that_forget_the_request() {
        let hears = |release: Option<(u32, u32)>, driver| {
            hears_tx_metadata(release.map(|(major, minor)| Release(major, minor)), driver)
        };
        assert!(!hears(Some((6, 12)), "virtio_net"));
        assert!(!hears(None, "virtio_net"));
        assert!(hears(Some((6, 18)), "virtio_net"));
        assert!(hears(Some((6, 12)), "igb"));
        assert!(hears(Some((6, 12)), "veth"));
    }

    #[test]
    fn mtu_too_large_for_a_chain() {
        let preflight = judged_link("", |link| link.mtu = 70_000);
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has MTU 70000, too large: a packet has at most 18 frames: at most 69098 \
              -> ip link set dev eth1 mtu 69098"
            ]
        );
    }

    #[test]
    fn mtu_too_large_for_an_old_kernel() {
        let preflight = judged("", |facts| {
            facts.kernel_release = "6.1.0".to_owned();
            if let Some(Ok(link)) = &mut facts.interface {
                link.mtu = 9000;
            }
        });
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has MTU 9000, too large: this kernel has no multi-buffer AF_XDP: at most 3818 \
              -> ip link set dev eth1 mtu 3818"
            ]
        );
    }

    #[test]
    fn mtu_too_large_for_native_mode_without_fragments() {
        let without = |link: &mut InterfaceFacts| {
            link.mtu = 9000;
            link.features.as_mut().unwrap().multi_buffer = false;
        };
        let preflight = judged_link("attach = \"native\"", without);
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has MTU 9000, too large: the driver (ice) takes no fragments in native mode: at most 3506 \
              -> ip link set dev eth1 mtu 3506, or attach = \"generic\""
            ]
        );
        assert_eq!(failures(&judged_link("", without)), [""; 0]);
    }

    #[test]
    fn mtu_too_large_for_zero_copy() {
        let one_segment = |link: &mut InterfaceFacts| {
            link.mtu = 9000;
            link.features.as_mut().unwrap().zero_copy_segments = 1;
        };
        let preflight = judged_link("bind = \"zerocopy\"", one_segment);
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has MTU 9000, too large: the driver (ice) takes 1 zero-copy buffers per packet: at most 3434 \
              -> ip link set dev eth1 mtu 3434, or bind = \"copy\""
            ]
        );
        assert_eq!(failures(&judged_link("", one_segment)), [""; 0]);
    }

    fn program(id: u32, name: Option<&str>, mode: &'static str) -> ForeignProgram {
        let name = name.map(str::to_owned);
        ForeignProgram { id, name, mode }
    }

    #[test]
    fn foreign_xdp_programs_are_named_with_a_fix_for_every_way_to_attach() {
        let preflight = judged_link("", |link| {
            link.programs = vec![
                program(42, Some("filter"), "xdpdrv"),
                program(43, None, "xdpoffload"),
            ];
        });
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has an XDP program already: \"filter\" (id 42, xdpdrv), id 43 (xdpoffload; `bpftool prog \
                 show id 43` names it) -> stop its owner; if it was left behind: `ip link set dev eth1 xdpdrv off`, \
                 or, if that says \"Device or resource busy\", `bpftool link detach id N` with N from `bpftool link`"
            ]
        );
    }

    /// A machine on which a sluiced serves port 8080 of eth1.
    fn occupied(facts: &mut Facts) {
        facts.xdp_ports[0].1 = Err(Errno::ADDRINUSE);
        if let Some(Ok(link)) = &mut facts.interface {
            link.programs = vec![program(42, Some("sluice_steer"), "xdpdrv")];
        }
    }

    #[test]
    fn a_sluiced_that_serves_already_is_one_problem_and_no_fault() {
        for backend in ["", "backend = \"xdp\""] {
            let preflight = judged(backend, occupied);
            assert_eq!(
                failures(&preflight),
                [
                    "a sluiced already serves on eth1: XDP program \"sluice_steer\" (id 42, xdpdrv) is attached to it \
                     -> stop that one first, if another shall take its place"
                ]
            );
            assert_eq!(serves(&preflight), None);
            assert!(preflight.is_running());
            assert!(
                preflight
                    .render()
                    .ends_with("0 FAIL, 0 WARN: a sluiced serves here\n")
            );
        }
    }

    #[test]
    fn a_listener_on_our_port_is_a_fault_beside_a_sluiced_too() {
        let preflight = judged("", |facts| {
            occupied(facts);
            facts.listening.insert(8080);
        });
        assert_eq!(failures(&preflight).len(), 2);
        assert!(!preflight.is_running());
    }

    #[test]
    fn an_interface_without_a_mac_address_is_refused() {
        let preflight = judged_link("backend = \"xdp\"", |link| link.mac = None);
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has no MAC address: frames are built with Ethernet headers, and owned addresses are announced \
                 with it -> name an Ethernet interface (tap instead of tun), or use backend = \"kernel\""
            ]
        );
    }

    #[test]
    fn abilities_that_are_demanded_must_be_there() {
        let none = |link: &mut InterfaceFacts| {
            let features = link.features.as_mut().unwrap();
            features.native = false;
            features.zero_copy = false;
        };
        assert_eq!(
            failures(&judged_link("attach = \"native\"", none)),
            [
                "eth1 (ice) has no native XDP: the driver cannot redirect -> attach = \"auto\" or \"generic\""
            ]
        );
        assert_eq!(
            failures(&judged_link("bind = \"zerocopy\"", none)),
            [
                "eth1 (ice) has no zero copy: the driver has no buffer pool for AF_XDP \
              -> bind = \"auto\" or \"copy\""
            ]
        );
        let auto = judged_link("", none);
        assert_eq!(failures(&auto), [""; 0]);
        assert!(warnings(&auto)[0].contains("generic XDP is used"));
    }

    #[test]
    fn a_queue_that_does_not_exist() {
        let preflight = judged("queues = [0, 2]", |_| ());
        assert_eq!(
            failures(&preflight),
            ["eth1 has no receive queue 2: it has 2, numbered from 0 \
              -> queues = \"all\", or `ethtool -L eth1 combined 3`"]
        );
        assert_eq!(serves(&preflight), None);
    }

    #[test]
    fn a_queue_that_cannot_send() {
        let preflight = judged_link("", |link| link.device.as_mut().unwrap().tx_queues = 1);
        assert_eq!(
            failures(&preflight),
            [
                "eth1 has no transmit queue 1: it has 1 for 2 receive queues, and a socket sends on the queue \
              it receives on -> `ethtool -L eth1 tx 2`"
            ]
        );
    }

    #[test]
    fn queues_left_out_are_warned_about() {
        assert_eq!(
            warnings(&judged("queues = [0]", |_| ())),
            [
                "1 of 2 receive queues of eth1 are served: connections that land on another one fail \
              -> queues = \"all\", or `ethtool -L eth1 combined 1` (veth: rx 1)"
            ]
        );
    }

    #[test]
    fn more_workers_than_cpus_are_warned_about() {
        assert_eq!(
            warnings(&judged("", |facts| facts.cpus = vec![0])),
            [
                "2 workers for 1 CPUs: workers that share a CPU wait for each other -> `ethtool -L eth1 combined 1`"
            ]
        );
    }

    #[test]
    fn a_core_that_may_not_be_used() {
        assert_eq!(
            failures(&judged("cores = [1, 9]", |_| ())),
            [
                "CPU 9 of xdp.cores is not available to the process: the process may use CPUs [0, 1, 2, 3] \
              -> correct xdp.cores (one CPU per queue), or leave it out"
            ]
        );
    }

    #[test]
    fn checksums_follow_the_interface() {
        let virtual_link = |link: &mut InterfaceFacts| link.kind = Some("veth".to_owned());
        assert!(
            warnings(&judged("checksum_rx = \"accept-partial\"", |_| ()))[0]
                .starts_with("eth1 accepts partial checksums")
        );
        assert!(
            warnings(&judged_link("checksum_rx = \"verify\"", virtual_link))[0]
                .starts_with("eth1 is virtual and partial checksums are refused")
        );
        assert_eq!(warnings(&judged_link("", virtual_link)), [""; 0]);
    }

    #[test]
    fn partial_checksums_are_accepted_only_where_no_wire_can_be_behind_the_interface() {
        for (kind, accepted) in [
            (Some("veth"), true),
            (Some("tun"), true),
            (Some("bridge"), false),
            (Some("bond"), false),
            (Some("vlan"), false),
            (Some("macvlan"), false),
            (None, false),
        ] {
            let mut link = good_link();
            link.kind = kind.map(str::to_owned);
            assert_eq!(link.has_software_peer(), accepted, "{kind:?}");
        }
    }

    #[test]
    fn an_address_the_host_does_not_have() {
        assert_eq!(
            failures(&judged("addresses = [\"192.0.2.11\"]", |_| ())),
            [
                "192.0.2.11 is not an address of this host: the kernel would not answer ARP or NDP for it \
              -> `ip addr add 192.0.2.11/32 dev eth1`, or put it in owned_addresses"
            ]
        );
    }

    #[test]
    fn an_address_on_another_interface_is_an_anycast_address() {
        let preflight = judged_link("addresses = [\"203.0.113.1\"]", |link| {
            link.addresses_elsewhere.push(address("203.0.113.1"));
        });
        assert_eq!(failures(&preflight), [""; 0]);
    }

    #[test]
    fn an_owned_address_must_not_be_the_kernels() {
        assert_eq!(
            warnings(&judged("owned_addresses = [\"192.0.2.10\"]", |_| ())),
            [
                "192.0.2.10 of owned_addresses is an address of the kernel too: both would answer ARP, NDP and \
              ping -> move it to addresses, or remove it from the kernel (`ip addr del`)"
            ]
        );
    }

    #[test]
    fn no_address_at_all() {
        assert_eq!(
            failures(&judged_link("", |link| link.addresses.clear())),
            [
                "eth1 has no global-scope address: there is nothing to serve on it \
              -> `ip addr add ADDRESS/PREFIX dev eth1`, or owned_addresses in [xdp]"
            ]
        );
    }

    #[test]
    fn more_addresses_than_the_program_has_room_for() {
        let preflight = judged_link("", |link| {
            link.addresses = (1..=65)
                .map(|host| IpAddr::from([192, 0, 2, host]))
                .collect();
        });
        assert_eq!(
            failures(&preflight),
            [
                "65 addresses of eth1 with 1 ports are 65 endpoints: the XDP program has room for 64 \
              -> list fewer in addresses in [xdp]"
            ]
        );
    }

    #[test]
    fn a_port_in_use() {
        let preflight = judged("", |facts| facts.xdp_ports[0].1 = Err(Errno::ADDRINUSE));
        assert_eq!(
            failures(&preflight),
            [
                "port in use: 192.0.2.10:8080: a kernel socket has it -> stop its owner: `ss -ltnp 'sport = :8080'` \
              names who listens; if nobody does, another sluiced holds the port for its interface; or serve another \
              port"
            ]
        );
        assert_eq!(serves(&preflight), None);
    }

    #[test]
    fn a_privileged_port_is_reported_once() {
        let preflight = judged("", |facts| {
            facts.af_xdp = false;
            for ports in [&mut facts.xdp_ports, &mut facts.kernel_ports] {
                for (_, outcome) in ports {
                    *outcome = Err(Errno::ACCESS);
                }
            }
        });
        let privileged = failures(&preflight)
            .into_iter()
            .filter(|text| text.starts_with("port 8080 is privileged: no CAP_NET_BIND_SERVICE"));
        assert_eq!(privileged.count(), 1);
    }

    #[test]
    fn a_host_without_ipv6_serves_ipv4() {
        let preflight = judged("backend = \"kernel\"", |facts| {
            facts.kernel_ports[1].1 = Err(Errno::AFNOSUPPORT);
        });
        assert_eq!(serves(&preflight), Some(ActiveBackend::Kernel));
    }

    #[test]
    fn owned_addresses_alone_leave_nothing_to_fall_back_to() {
        let text = "addresses = []\nowned_addresses = [\"192.0.2.99\"]";
        let preflight = judged(text, |facts| {
            facts.xdp_ports.clear();
            facts.af_xdp = false;
        });
        assert!(
            failures(&preflight)[1].starts_with("no address for kernel sockets"),
            "{preflight:?}"
        );
        assert_eq!(serves(&preflight), None);
    }

    #[test]
    fn a_root_that_cannot_be_read() {
        let denied = |errno| {
            judged("", move |facts| {
                facts.roots = vec![Err(("/srv".into(), errno))];
            })
        };
        assert_eq!(
            failures(&denied(Errno::ACCESS)),
            [
                "root /srv/files is unreadable: uid 998 may not read or enter /srv -> `chmod o+rx /srv`, \
              or `setfacl -m u:998:rx /srv`; check ProtectHome= of the unit"
            ]
        );
        assert_eq!(
            failures(&denied(Errno::NOENT)),
            [
                "root /srv/files is unreadable: /srv does not exist -> create it, or correct site.root or --root"
            ]
        );
    }

    fn judged_with_uploads(change: impl FnOnce(&mut Facts)) -> Preflight {
        let mut config = config("");
        config.upload.enabled = true;
        config.upload.max_size = 1 << 40;
        let mut facts = good(&config);
        change(&mut facts);
        judge(&config, &facts)
    }

    #[test]
    fn files_that_may_not_get_as_large_as_uploads() {
        let limited = |limit| judged_with_uploads(move |facts| facts.privileges.file_size = limit);
        assert_eq!(
            warnings(&limited(Some(1 << 30))),
            [
                "upload.max_size is 1TiB, but RLIMIT_FSIZE is 1GiB: longer uploads are answered 413 when they get there \
              -> LimitFSIZE=infinity in the unit, or max_size = \"1GiB\""
            ]
        );
        for enough in [None, Some(1 << 40)] {
            assert_eq!(warnings(&limited(enough)), Vec::<String>::new());
        }
        let off = judged("", |facts| facts.privileges.file_size = Some(1));
        assert_eq!(warnings(&off), Vec::<String>::new(), "nobody uploads");
    }

    #[test]
    fn a_root_that_takes_no_uploads() {
        let refused = |error| judged_with_uploads(move |facts| facts.uploads = vec![Err(error)]);
        for (error, expected) in [
            (
                UploadError::ReadOnly,
                "files cannot be stored in /srv/files: it is mounted read-only for this process \
                 -> ReadWritePaths= for it in the unit (ProtectSystem=strict), or mount it read-write",
            ),
            (
                UploadError::Denied,
                "files cannot be stored in /srv/files: uid 998 may not write there, or a symbolic link is in the way \
                 -> chown or chmod it, or `setfacl -m u:998:rwx` on it",
            ),
            (
                UploadError::Io(Errno::NOENT),
                "files cannot be stored in /srv/files: a file without a name cannot get one without /proc \
                 -> mount /proc for the service",
            ),
        ] {
            let preflight = refused(error);
            assert_eq!(warnings(&preflight), [expected]);
            // Directories below it may take some.
            assert_eq!(serves(&preflight), Some(ActiveBackend::Xdp));
        }
        let taken = judged_with_uploads(|facts| facts.uploads = vec![Ok(())]);
        assert_eq!(warnings(&taken), Vec::<String>::new());
        assert!(
            taken
                .render()
                .contains("PASS files can be stored in /srv/files\n")
        );
    }

    #[test]
    fn few_descriptors_are_a_warning_of_the_kernel_backend() {
        let preflight = judged("backend = \"kernel\"", |facts| {
            facts.privileges.descriptors = Some(1024);
            facts.cpus = vec![0];
        });
        let warnings: Vec<_> = preflight.warnings(ActiveBackend::Kernel).collect();
        assert_eq!(
            warnings[0].to_string(),
            "1024 descriptors allowed, 69776 wanted: the kernel backend serves 660 connections instead of \
             65536 -> LimitNOFILE=69776 or fewer limits.connections"
        );
    }
}

mod rendering {
    use super::*;

    #[test]
    fn a_good_machine_reads_like_this() {
        assert_eq!(
            judged("", |_| ()).render(),
            "\
PASS kernel 6.18.44: AF_XDP, multi-buffer, TX checksum requests
PASS capabilities NET_ADMIN NET_RAW BPF
PASS memlock: 128MiB UMEM, CAP_IPC_LOCK held
PASS eth1: up, ice, MTU 1500
PASS MTU 1500 fits
PASS no XDP program on eth1
PASS eth1 (ice): native XDP yes, zero copy yes; attach native: ice can, and drops in it cost least, zero copy needs it
PASS eth1: 2 receive queues
PASS TX lane gather: ice reads the memory itself and takes 8 pieces of a packet, so payload leaves from the file blocks
INFO receive checksums: verified
PASS addresses 192.0.2.10
PASS ports free: 8080
PASS root /srv/files is readable
0 FAIL, 0 WARN: AF_XDP starts
"
        );
    }

    #[test]
    fn problems_stand_with_their_fix() {
        let text = judged("queues = [0]", |facts| facts.privileges.ipc_lock = false).render();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2],
            "FAIL memlock 8MiB < 64MiB UMEM and no CAP_IPC_LOCK      \
             -> LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK or umem = \"8MiB\""
        );
        assert_eq!(
            lines.last().copied(),
            Some(
                "1 FAIL, 1 WARN: AF_XDP would not start; backend = \"auto\" falls back to kernel sockets"
            )
        );
    }
}

mod machine {
    use super::*;
    use std::process::Command;

    /// A veth pair that is gone at the end of the test, however it ends.
    struct Veth(String);

    impl Veth {
        fn new() -> Option<Self> {
            let name = format!("slp{}", std::process::id());
            let peer = format!("{name}p");
            let arguments = format!(
                "link add {name} mtu 3000 numrxqueues 2 numtxqueues 1 type veth peer name {peer}"
            );
            let status = Command::new("ip")
                .args(arguments.split(' '))
                .output()
                .ok()?
                .status;
            status.success().then_some(Self(name))
        }
    }

    impl Drop for Veth {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["link", "del", &self.0]).status();
        }
    }

    #[test]
    fn a_veth_is_seen_as_it_is() {
        let Some(veth) = Veth::new() else {
            skip::skip("preflight", "creating a veth needs root and ip(8)");
            return;
        };
        let mut config = config("");
        config.xdp.interface = Some(veth.0.clone());
        let (facts, preflight) = run(&config);
        let link = facts.interface.unwrap().unwrap();
        assert!(link.has_software_peer() && link.mac.is_some());
        assert_eq!(link.driver(), "veth");
        assert_eq!((link.up, link.mtu), (false, 3000));
        assert_eq!(link.programs, []);
        assert!(
            link.features
                .is_some_and(|features| features.native && !features.zero_copy)
        );
        assert_eq!(
            link.device
                .map(|device| (device.rx_queues, device.tx_queues)),
            Some((2, 1))
        );
        assert!(
            failures(&preflight)
                .iter()
                .any(|text| text.contains("is down"))
        );
    }

    #[test]
    fn this_machine_can_be_judged_without_an_interface() {
        let mut config = config("");
        config.xdp.interface = None;
        config.sites[0].root = std::env::temp_dir();
        config.listen_addresses = vec![address("127.0.0.1")];
        // A port nobody else uses in a test: what the kernel gives.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.listen[0].port = free.local_addr().unwrap().port();
        drop(free);
        let (_, preflight) = run(&config);
        assert_eq!(
            serves(&preflight),
            Some(ActiveBackend::Kernel),
            "{}",
            preflight.render()
        );
    }
}
