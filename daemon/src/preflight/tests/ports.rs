//! Ports that are taken, privileged, or without an address to serve them on.

use rustix::io::Errno;

use super::*;

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
