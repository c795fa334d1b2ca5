//! Interfaces that are not there, not up, taken, or of a driver that cannot do what was asked.

use std::io;

use rustix::io::Errno;
use sluice_xdp_prog::ForeignProgram;

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
    assert!(failures(&preflight)[0].contains("RestrictAddressFamilies= must include AF_NETLINK"));
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
