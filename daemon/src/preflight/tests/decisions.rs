//! Which backend serves, and what stops it.

use rustix::io::Errno;

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
