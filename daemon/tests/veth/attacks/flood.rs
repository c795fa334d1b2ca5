//! A: SYNs as fast as a packet socket sends them. `sluice-bench flood` measures what is left of the goodput; here every
//! download and every new connection has to succeed, however busy the machine is.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::Bed;
use crate::client::{PATIENCE, connect_here};
use crate::generator::{Aim, Flood, Kind};
use crate::port;

/// Of the flood that the goal names, what a busy machine manages too.
const RATE: u32 = 300_000;
/// Threads, and the connections of each, one after another.
const CLIENTS: usize = 8;
const CONNECTIONS: usize = 6;

/// Downloads and new connections beside a flood of this kind. What the XDP program has to have dropped for it.
fn everybody_is_served_beside(kind: Kind, dropped: &str) {
    let Some(bed) = Bed::with(&[("limits.drain_timeout", "\"0s\"")]) else {
        return;
    };
    let SocketAddr::V4(server) = bed.wire.server_v4 else {
        unreachable!("an IPv4 address")
    };
    let aim = Aim {
        link: bed.wire.link,
        server,
    };
    let link = &bed.lab.client.link;
    let socket = bed.lab.client.inside(|| port::sender(link));
    let socket = socket.expect("root may open a packet socket");
    let flood = Flood::start(socket, kind, aim, RATE, None);
    // The supervisor looks once a second whether to arm the gate.
    thread::sleep(Duration::from_millis(2500));

    let begun = Instant::now();
    bed.client().download(&bed.site, "file.bin");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "8 MiB took {took:?}");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                bed.lab.client.inside(|| {
                    for number in 0..CONNECTIONS {
                        connect_here(bed.wire.server_v4, PATIENCE)
                            .unwrap_or_else(|error| panic!("connection {number}: {error}"));
                    }
                });
            });
        }
    });
    println!("{:.0} frames per second", flood.rate());
    flood.stop().expect("the link took the flood");
    assert!(bed.grown(dropped) > 10_000);
    bed.healthy_after_drain();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_full_flood_of_syns_from_everywhere_keeps_nobody_out() {
    everybody_is_served_beside(Kind::Everywhere, "xdp_syn_rate");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_full_flood_of_syns_from_one_network_keeps_nobody_out() {
    everybody_is_served_beside(Kind::Network, "xdp_syn_source_rate");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_full_flood_of_frames_that_are_dropped_at_once_keeps_nobody_out() {
    everybody_is_served_beside(Kind::Control, "xdp_ip_header");
}
