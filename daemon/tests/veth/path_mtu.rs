//! A router between daemon and client whose link to the client carries less than theirs: one that says so, and one
//! whose messages a firewall drops (a black hole). Both ends believe in 1,500 bytes.

use std::net::IpAddr;

use crate::client::Client;
use crate::daemon::Daemon;
use crate::lab::{Lab, Shape};
use crate::report::Report;
use crate::site::{MIB, Site};

/// Drops every ICMP error that the router itself sends.
const BLACK_HOLE: &str = "table inet hole {
    chain out {
        type filter hook output priority 0; policy accept;
        icmp type destination-unreachable counter drop
        icmpv6 type { destination-unreachable, packet-too-big } counter drop
    }
}";

/// Downloads of some sizes over a path of `mtu` bytes, with queues of the server's link and the address of the server
/// as given, each over a connection of its own.
fn downloads(
    mtu: u32,
    queues: u32,
    silent: bool,
    server: impl Fn(&Lab) -> IpAddr,
) -> Option<Report> {
    let lab = Lab::shaped(Shape {
        queues,
        narrow: Some(mtu),
        ..Shape::default()
    })?;
    let router = lab.router.as_ref().expect("a narrow lab has one");
    if silent {
        router.run("nft", &[BLACK_HOLE]);
    }
    let site = Site::new();
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, server(&lab));
    for size in [1, 1400, 100_000, 8 * MIB + 11] {
        let name = format!("{size}.bin");
        site.file(&name, size);
        client.download(&site, &name);
    }
    Some(daemon.finish())
}

/// The router says what passes: one message per connection, and no time-out.
fn assert_told(report: &Report) {
    println!("{}", report.text());
    assert!(report.get("tcp_icmp_mtu_lowered") >= 2);
    assert!(report.get("tcp_retransmitted_path_mtu") >= 2);
    assert_eq!(report.get("tcp_black_holes"), 0);
}

/// Nobody says anything, and it is found out all the same.
fn assert_found_out(report: &Report) {
    println!("{}", report.text());
    assert_eq!(report.sum("tcp_icmp_"), 0);
    assert!(report.get("tcp_black_holes") >= 2);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_router_that_says_what_passes_is_believed_over_ipv4() {
    if let Some(report) = downloads(1380, 1, false, |lab| lab.server.ipv4) {
        assert_told(&report);
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_router_that_says_what_passes_is_believed_over_ipv6() {
    if let Some(report) = downloads(1380, 1, false, |lab| lab.server.ipv6) {
        assert_told(&report);
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn its_messages_reach_the_worker_of_the_flow_whichever_queue_they_lie_on() {
    if let Some(report) = downloads(1380, 2, false, |lab| lab.server.ipv4) {
        assert_told(&report);
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn downloads_get_through_a_black_hole_over_ipv4() {
    if let Some(report) = downloads(1300, 1, true, |lab| lab.server.ipv4) {
        assert_found_out(&report);
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn downloads_get_through_a_black_hole_over_ipv6() {
    if let Some(report) = downloads(1300, 1, true, |lab| lab.server.ipv6) {
        assert_found_out(&report);
    }
}
